use super::*;

fn row(lifecycle: Lifecycle, percent: u8) -> MemberRow {
    MemberRow { membership: Membership { lifecycle, percent, ..Membership::default() }, ..MemberRow::default() }
}

fn ask(to: Lifecycle, seconds: u64) -> LifecycleChange {
    LifecycleChange { cluster: "eu".into(), to, seconds, by: "ann".to_owned(), reason: "why".to_owned() }
}

fn changed(row: &MemberRow, to: Lifecycle, seconds: u64) -> MemberRow {
    match change(row, &ask(to, seconds), 1_000) {
        LifecycleAnswer::Changed(row) => row,
        other => panic!("{other:?}"),
    }
}

fn at(row: &MemberRow, ms: u64) -> (Lifecycle, u8) {
    let next = step(&"eu".into(), row, true, &Terms::default(), ms);
    (next.membership.lifecycle, next.membership.percent)
}

#[test]
fn a_drain_goes_down_in_steps_and_ends_when_every_edge_knows_it() {
    let draining = changed(&row(Lifecycle::Active, 100), Lifecycle::Draining, 100);
    assert_eq!(at(&draining, 1_000), (Lifecycle::Draining, 100));
    assert_eq!(at(&draining, 1_000 + 49_000), (Lifecycle::Draining, 55), "whole steps only");
    assert_eq!(at(&draining, 1_000 + 100_000), (Lifecycle::Draining, 0));
    let terms = Terms { drained: ["eu".into()].into(), ..Terms::default() };
    let half = step(&"eu".into(), &draining, true, &terms, 50_000);
    assert_eq!(half.membership.lifecycle, Lifecycle::Draining, "not before it is at 0");
    let done = step(&"eu".into(), &draining, true, &terms, 101_000);
    assert_eq!((done.membership.lifecycle, done.ramp), (Lifecycle::Drained, None));
}

#[test]
fn an_activation_goes_up_from_nothing_and_a_drain_can_be_turned_round() {
    let joining = row(Lifecycle::Joining, 100);
    let active = changed(&joining, Lifecycle::Active, 10);
    assert_eq!(
        (at(&active, 1_000), at(&active, 6_000), at(&active, 11_000)),
        ((Lifecycle::Active, 0), (Lifecycle::Active, 50), (Lifecycle::Active, 100))
    );
    assert_eq!(changed(&joining, Lifecycle::Active, 0).membership.percent, 100);

    let draining = changed(&row(Lifecycle::Active, 100), Lifecycle::Draining, 100);
    let half = step(&"eu".into(), &draining, true, &Terms::default(), 51_000);
    let back = changed(&half, Lifecycle::Active, 10);
    assert_eq!(at(&back, 1_000), (Lifecycle::Active, 50), "from where it was");
}

#[test]
fn a_life_has_an_order() {
    use Lifecycle::{Active, Drained, Draining, Joining, Offline, Removed};
    let refused = [(Active, Offline), (Active, Removed), (Active, Joining), (Draining, Offline), (Joining, Draining)];
    for (from, to) in refused {
        assert_eq!(change(&row(from, 100), &ask(to, 0), 1), LifecycleAnswer::NotFrom(from), "{from} → {to}");
    }
    for (from, to) in
        [(Draining, Drained), (Drained, Offline), (Offline, Removed), (Removed, Joining), (Drained, Active)]
    {
        assert_eq!(changed(&row(from, 0), to, 0).membership.lifecycle, to, "{from} → {to}");
    }
}

#[test]
fn staleness_follows_the_stream_and_the_policy() {
    let lost = MemberRow { lost_ms: Some(10_000), ..row(Lifecycle::Active, 100) };
    let liveness = |is_live, hold_for: Option<u64>, ms| {
        let terms =
            Terms { hold_for_ms: hold_for.map(|hold| ("eu".into(), hold)).into_iter().collect(), ..Terms::default() };
        step(&"eu".into(), &lost, is_live, &terms, ms).membership.liveness
    };
    assert_eq!(liveness(false, None, 15_999), Liveness::Fresh);
    assert_eq!(liveness(false, None, 16_000), Liveness::Stale);
    assert_eq!(liveness(false, None, u64::MAX), Liveness::Stale, "hold never ends");
    assert_eq!(liveness(false, Some(60_000), 69_999), Liveness::Stale);
    assert_eq!(liveness(false, Some(60_000), 70_000), Liveness::Expired);
    assert_eq!(liveness(true, Some(60_000), 70_000), Liveness::Fresh);
}

#[test]
fn pod_addresses_are_in_doubt_once_nobody_has_reported_them_for_long() {
    let lost = MemberRow { lost_ms: Some(10_000), ..row(Lifecycle::Active, 100) };
    let terms = Terms { doubt_after_ms: 300_000, ..Terms::default() };
    let is_doubtful = |is_live, ms| step(&"eu".into(), &lost, is_live, &terms, ms).membership.is_doubtful;
    assert!(!is_doubtful(false, 309_999));
    assert!(is_doubtful(false, 310_000));
    assert!(!is_doubtful(true, 310_000));
    let fresh = MemberRow { lost_ms: None, ..lost.clone() };
    assert!(!step(&"eu".into(), &fresh, false, &terms, u64::MAX).membership.is_doubtful);
}
