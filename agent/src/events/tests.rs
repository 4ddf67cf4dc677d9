//! Which Events are created, and how many.

use std::time::Duration;

use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::Kind;

use super::queue::{BURST, EventQueue, REPEAT_AFTER, WAITING_MAX};
use crate::fixture::key;

fn finding(message: &str) -> Finding {
    Finding {
        cluster: "eu".into(),
        object: Some(key(Kind::Ingress, "web")),
        code: Code::InvalidHost,
        severity: Severity::Warning,
        message: message.to_owned(),
        remedy: "Correct it.".to_owned(),
    }
}

const START: Duration = Duration::from_secs(1);

#[test]
fn an_event_says_what_is_wrong_and_what_to_do() {
    let mut queue = EventQueue::default();
    queue.offer(START, &finding("host 1.2.3.4 is no DNS name."), "u-1");
    let notices = queue.take(START);
    assert_eq!(notices.len(), 1);
    assert_eq!((notices[0].reason, notices[0].uid.as_str()), ("InvalidHost", "u-1"));
    assert_eq!(notices[0].note, "host 1.2.3.4 is no DNS name. Correct it.");
    assert!(notices[0].name.starts_with("web.") && notices[0].name.len() == 20, "{}", notices[0].name);
}

#[test]
fn the_same_is_not_said_again_within_an_hour() {
    let mut queue = EventQueue::default();
    queue.offer(START, &finding("a"), "u-1");
    let first = queue.take(START);
    for _ in 0..5 {
        queue.offer(START + REPEAT_AFTER - Duration::from_secs(1), &finding("a"), "u-1");
    }
    assert_eq!(queue.take(START + REPEAT_AFTER - Duration::from_secs(1)), []);
    queue.offer(START + REPEAT_AFTER, &finding("a"), "u-1");
    assert_eq!(queue.take(START + REPEAT_AFTER), first, "a name of its own content: a second agent collides with it");
}

#[test]
fn another_message_code_or_object_is_another_event() {
    let mut queue = EventQueue::default();
    queue.offer(START, &finding("a"), "u-1");
    queue.offer(START, &finding("b"), "u-1");
    queue.offer(START, &finding("a"), "u-2");
    queue.offer(START, &Finding { code: Code::InvalidPath, ..finding("a") }, "u-1");
    let notices = queue.take(START);
    let mut names: Vec<&str> = notices.iter().map(|notice| notice.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4);
}

#[test]
fn a_burst_is_spread_over_time_and_what_waits_is_bounded() {
    let mut queue = EventQueue::default();
    for number in 0..WAITING_MAX + 5 {
        queue.offer(START, &finding(&number.to_string()), "u-1");
    }
    assert_eq!(queue.dropped(), 5);
    assert_eq!(queue.take(START).len(), BURST as usize);
    assert_eq!(queue.take(START).len(), 0);
    assert_eq!(queue.take(START + Duration::from_secs(10)).len(), 10);
    assert_eq!(queue.take(START + Duration::from_secs(100_000)).len(), BURST as usize);

    queue.offer(START, &finding(&WAITING_MAX.to_string()), "u-1");
    assert_eq!(queue.dropped(), 5, "what was dropped may come again");
}

#[test]
fn long_notes_and_names_are_cut_between_characters() {
    let mut queue = EventQueue::default();
    let object = key(Kind::Ingress, &"n".repeat(253));
    queue.offer(START, &Finding { object: Some(object), ..finding(&"ü".repeat(1_000)) }, "u-1");
    let notice = &queue.take(START)[0];
    assert_eq!(notice.note.len(), 1_024);
    assert!(notice.name.len() <= 253);
}

#[test]
fn a_finding_about_the_cluster_has_no_object_to_say_it_of() {
    let mut queue = EventQueue::default();
    queue.offer(START, &Finding { object: None, ..finding("a") }, "");
    assert_eq!(queue.take(START), []);
}
