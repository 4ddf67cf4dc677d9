//! What is reported, and above all what is not taken away.

use super::*;
use crate::fixture::{
    class, failed, ingress, key, list, list_all, our_class, seen, service, slice, unreadable, with_meta,
};
use roadstead_routing::limit::OBJECT_BYTES_MAX;

fn shop() -> Vec<Object> {
    vec![
        our_class(),
        class("nginx", "k8s.io/ingress-nginx"),
        ingress("web", Some("roadstead"), &["front"]),
        ingress("foreign", Some("nginx"), &["back"]),
        service("front"),
        service("back"),
        slice("front-1", "front", 1),
        slice("back-1", "back", 2),
    ]
}

fn listed(objects: &[Object]) -> Reducer {
    let mut reducer = Reducer::default();
    list_all(&mut reducer, objects);
    reducer
}

fn reported(reducer: &Reducer) -> Vec<String> {
    reducer.reported().keys().map(ToString::to_string).collect()
}

const OURS: [&str; 4] =
    ["IngressClass roadstead", "Ingress shop/web", "Service shop/front", "EndpointSlice shop/front-1"];

fn deleted(kind: Kind, name: &str) -> Change {
    Change::Removal(key(kind, name), Cause::Deleted)
}

fn inferred(kind: Kind, name: &str) -> Change {
    Change::Removal(key(kind, name), Cause::Inferred)
}

#[test]
fn only_what_our_ingresses_need_is_reported() {
    assert_eq!(reported(&listed(&shop())), OURS);
}

#[test]
fn classes_named_by_the_policy_are_ours_too() {
    let mut reducer = listed(&shop());
    let outcome = reducer.set_classes(&["nginx".to_owned()]);
    assert_eq!(outcome.changes.len(), 4, "class, Ingress, Service and slice: {:?}", outcome.changes);
    assert_eq!(reported(&reducer).len(), 8);

    let outcome = reducer.set_classes(&[]);
    let expected = [
        deleted(Kind::IngressClass, "nginx"),
        deleted(Kind::Ingress, "foreign"),
        deleted(Kind::Service, "back"),
        deleted(Kind::EndpointSlice, "back-1"),
    ];
    assert_eq!(outcome.changes, expected);
    assert_eq!(reported(&reducer), OURS);
}

#[test]
fn the_order_in_which_kinds_are_listed_does_not_matter() {
    for first in Kind::ALL {
        for second in Kind::ALL {
            let mut reducer = Reducer::default();
            for kind in [first, second].into_iter().chain(Kind::ALL.into_iter().rev()) {
                list(&mut reducer, kind, &shop());
            }
            assert_eq!(reported(&reducer), OURS, "{first} and {second} first");
        }
    }
}

#[test]
fn a_service_shared_by_two_ingresses_stays_until_neither_refers_to_it() {
    let mut objects = shop();
    objects.push(ingress("second", Some("roadstead"), &["front"]));
    let mut reducer = listed(&objects);
    let outcome = reducer.apply(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "web")));
    assert_eq!(outcome.changes, [deleted(Kind::Ingress, "web")]);
    let outcome = reducer.apply(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "second")));
    let expected =
        [deleted(Kind::Ingress, "second"), deleted(Kind::Service, "front"), deleted(Kind::EndpointSlice, "front-1")];
    assert_eq!(outcome.changes, expected);
}

#[test]
fn an_ingress_that_changes_its_class_takes_its_services_along() {
    let mut reducer = listed(&shop());
    let outcome = reducer.apply(Kind::Ingress, seen(&ingress("web", Some("nginx"), &["front"])));
    assert_eq!(outcome.changes[0], deleted(Kind::Ingress, "web"));
    assert_eq!(reported(&reducer), ["IngressClass roadstead"]);
    assert!(outcome.ingresses.contains(&ObjectName::new("shop", "web")));
}

#[test]
fn a_slice_that_changes_its_service_follows_it() {
    let mut reducer = listed(&shop());
    let outcome = reducer.apply(Kind::EndpointSlice, seen(&slice("front-1", "back", 1)));
    assert_eq!(outcome.changes, [deleted(Kind::EndpointSlice, "front-1")]);
    let outcome = reducer.apply(Kind::EndpointSlice, seen(&slice("back-1", "front", 2)));
    assert_eq!(outcome.changes, [Change::Upsert(key(Kind::EndpointSlice, "back-1"))]);
}

#[test]
fn a_write_that_changes_only_the_status_is_no_change() {
    let mut reducer = listed(&shop());
    let written = with_meta(&ingress("web", Some("roadstead"), &["front"]), |meta| {
        meta.resource_version = "2".into();
        meta.generation = 2;
        meta.last_manager = "roadstead-agent".into();
    });
    assert_eq!(reducer.apply(Kind::Ingress, seen(&written)).changes, []);

    let recreated = with_meta(&written, |meta| meta.uid = "another".into());
    let outcome = reducer.apply(Kind::Ingress, seen(&recreated));
    assert_eq!(outcome.changes, [Change::Upsert(key(Kind::Ingress, "web"))], "a new uid is another object");
}

#[test]
fn what_a_complete_list_lacks_is_inferred_to_be_gone_with_all_it_needed() {
    let mut reducer = listed(&shop());
    let without: Vec<Object> = shop().into_iter().filter(|object| object.key() != key(Kind::Ingress, "web")).collect();
    let changes = list(&mut reducer, Kind::Ingress, &without);
    let expected =
        [inferred(Kind::Ingress, "web"), inferred(Kind::Service, "front"), inferred(Kind::EndpointSlice, "front-1")];
    assert_eq!(changes, expected);
}

#[test]
fn a_list_that_fails_half_way_removes_nothing() {
    let mut reducer = listed(&shop());
    for kind in Kind::ALL {
        assert_eq!(reducer.apply(kind, Observation::ListStarted).changes, []);
        assert_eq!(reducer.apply(kind, failed()).changes, []);
        assert_eq!(reducer.apply(kind, Observation::Listed).changes, [], "a list that failed cannot complete");
    }
    assert_eq!(reported(&reducer), OURS);
}

#[test]
fn a_failed_list_is_a_finding_until_one_succeeds() {
    let mut reducer = listed(&shop());
    let cluster: ClusterId = "eu".into();
    let before = reducer.findings_revision();
    reducer.apply(Kind::Service, Observation::ListStarted);
    reducer.apply(Kind::Service, failed());
    let findings = reducer.findings(&cluster);
    assert_eq!((findings.len(), findings[0].code, &findings[0].object), (1, Code::IncompleteSync, &None));
    assert!(findings[0].message.contains("Service") && findings[0].remedy == "grant it", "{findings:?}");
    assert_ne!(reducer.findings_revision(), before);
    list(&mut reducer, Kind::Service, &shop());
    assert_eq!(reducer.findings(&cluster), []);
}

#[test]
fn nothing_is_complete_before_the_kinds_that_decide_about_it() {
    let mut reducer = Reducer::default();
    for kind in [Kind::EndpointSlice, Kind::Service, Kind::Ingress] {
        list(&mut reducer, kind, &shop());
        assert!(Kind::ALL.iter().all(|kind| !reducer.complete(*kind)), "after {kind}");
    }
    list(&mut reducer, Kind::IngressClass, &shop());
    assert!(Kind::ALL.iter().all(|kind| reducer.complete(*kind)));
}

#[test]
fn a_kind_that_may_not_be_listed_blocks_only_itself_and_what_it_decides_about() {
    let mut reducer = Reducer::default();
    reducer.apply(Kind::Service, Observation::ListStarted);
    reducer.apply(Kind::Service, failed());
    assert!(!reducer.settled());
    for kind in [Kind::IngressClass, Kind::Ingress, Kind::EndpointSlice] {
        list(&mut reducer, kind, &shop());
    }
    assert!(reducer.settled());
    assert!(reducer.complete(Kind::EndpointSlice) && !reducer.complete(Kind::Service));
}

#[test]
fn while_ingresses_are_not_all_known_their_services_are_kept() {
    let mut reducer = Reducer::default();
    list(&mut reducer, Kind::IngressClass, &shop());
    list(&mut reducer, Kind::Service, &shop());
    reducer.apply(Kind::Ingress, Observation::ListStarted);
    reducer.apply(Kind::Ingress, seen(&ingress("web", Some("roadstead"), &["front"])));
    // Another Ingress, not listed yet, may refer to the Service that this one no longer does.
    let outcome = reducer.apply(Kind::Ingress, seen(&ingress("web", Some("roadstead"), &[])));
    assert_eq!(outcome.changes, [Change::Upsert(key(Kind::Ingress, "web"))]);
    let outcome = reducer.apply(Kind::Ingress, Observation::Listed);
    assert_eq!(outcome.changes, [inferred(Kind::Service, "front")]);
}

#[test]
fn an_object_that_became_unreadable_stays_as_it_was() {
    let mut reducer = listed(&shop());
    let cluster: ClusterId = "eu".into();
    reducer.apply(Kind::Ingress, Observation::ListStarted);
    reducer.apply(Kind::Ingress, unreadable(Some(key(Kind::Ingress, "web"))));
    reducer.apply(Kind::Ingress, seen(&ingress("foreign", Some("nginx"), &["back"])));
    assert_eq!(reducer.apply(Kind::Ingress, Observation::Listed).changes, []);
    assert_eq!(reported(&reducer), OURS);
    assert_eq!(reducer.findings(&cluster)[0].code, Code::MalformedObject);

    let outcome = reducer.apply(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "web")));
    assert!(outcome.changes.contains(&deleted(Kind::Ingress, "web")));
    assert_eq!(reducer.findings(&cluster), []);
}

#[test]
fn an_object_never_read_is_retained_and_its_deletion_told() {
    let mut reducer = Reducer::default();
    list(&mut reducer, Kind::IngressClass, &shop());
    reducer.apply(Kind::Ingress, Observation::ListStarted);
    reducer.apply(Kind::Ingress, unreadable(Some(key(Kind::Ingress, "web"))));
    reducer.apply(Kind::Ingress, Observation::Listed);
    assert!(reducer.complete(Kind::Ingress) && reducer.reported().retains(&key(Kind::Ingress, "web")));
    assert_eq!(reducer.uid(&key(Kind::Ingress, "web")), Some("uid-unreadable"), "an Event can be attached");
    let outcome = reducer.apply(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "web")));
    assert_eq!(outcome.changes, [deleted(Kind::Ingress, "web")]);
    assert!(!reducer.reported().retains(&key(Kind::Ingress, "web")));
}

#[test]
fn a_list_with_a_nameless_object_prunes_nothing() {
    let mut reducer = listed(&shop());
    reducer.apply(Kind::Ingress, Observation::ListStarted);
    reducer.apply(Kind::Ingress, unreadable(None));
    assert_eq!(reducer.apply(Kind::Ingress, Observation::Listed).changes, []);
    assert_eq!(reported(&reducer), OURS);
    assert_eq!(reducer.findings(&"eu".into()).len(), 1);
}

#[test]
fn an_unreadable_class_keeps_its_ingresses() {
    let mut reducer = Reducer::default();
    reducer.apply(Kind::IngressClass, Observation::ListStarted);
    reducer.apply(Kind::IngressClass, unreadable(Some(key(Kind::IngressClass, "roadstead"))));
    reducer.apply(Kind::IngressClass, Observation::Listed);
    for kind in [Kind::Ingress, Kind::Service, Kind::EndpointSlice] {
        list(&mut reducer, kind, &shop());
        assert!(!reducer.complete(kind), "{kind} must not be pruned: its class may be ours");
    }
    reducer.apply(Kind::IngressClass, seen(&our_class()));
    assert_eq!(reported(&reducer), OURS);
    assert!(reducer.complete(Kind::EndpointSlice));
}

#[test]
fn an_object_beyond_the_limit_is_a_finding_and_stays_as_it_was() {
    let mut reducer = listed(&shop());
    let huge = "x".repeat(OBJECT_BYTES_MAX);
    let outcome = reducer.apply(Kind::Ingress, seen(&ingress("web", Some("roadstead"), &["front", &huge])));
    assert_eq!(outcome.changes, []);
    assert!(reducer.reported().retains(&key(Kind::Ingress, "web")));
    assert_eq!(reducer.findings(&"eu".into())[0].code, Code::ObjectTooLarge);

    let outcome = reducer.apply(Kind::Ingress, seen(&ingress("web", Some("roadstead"), &["front", "back"])));
    assert!(outcome.changes.contains(&Change::Upsert(key(Kind::Ingress, "web"))));
    assert_eq!(reducer.findings(&"eu".into()), []);
}

#[test]
fn problems_within_reported_objects_are_findings_and_those_of_others_are_not() {
    let mut reducer = listed(&shop());
    let flawed = |name: &str| {
        let Observation::Seen(mut sighting) = seen(&service(name)) else { panic!("a service is readable") };
        let Observation::Unreadable(flaw) = unreadable(Some(key(Kind::Service, name))) else {
            panic!("never readable")
        };
        sighting.converted.problems.push(flaw.problem);
        Observation::Seen(sighting)
    };
    reducer.apply(Kind::Service, flawed("back"));
    assert_eq!(reducer.findings(&"eu".into()), []);
    reducer.apply(Kind::Service, flawed("front"));
    assert_eq!(reducer.findings(&"eu".into()).len(), 1);
    reducer.apply(Kind::Service, seen(&service("front")));
    assert_eq!(reducer.findings(&"eu".into()), []);
}
