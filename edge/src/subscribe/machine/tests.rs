//! The conversation, one input at a time, at times that the test chooses.

use roadstead_proto::digest::BucketHashes;
use roadstead_routing::endpoints::Locality;

use super::*;
use crate::subscribe::holdings::{backend, host, position_of, world};
use crate::subscribe::{RETRY_MAX, RETRY_MIN};
use crate::table::{LiveTable, TableWriter};

fn machine(controllers: usize) -> Machine {
    let holdings = Holdings::new("public".into(), TableWriter::new(LiveTable::new(), Locality::default()));
    let introduction = Introduction { edge: "e1".into(), pool: "public".into(), ..Introduction::default() };
    Machine::new(introduction, holdings, controllers, 7)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn told(message: Told) -> Input {
    Input::Received(wire::ConfigMessage { message: Some(message) })
}

fn update(nonce: u64) -> wire::Update {
    let upserts = vec![backend("web", 1), host("a.example.com", "web")];
    wire::Update {
        nonce,
        world: world(1, 1),
        positions: position_of(1, nonce),
        upserts,
        synced: true,
        ..wire::Update::default()
    }
}

/// A machine that is connected since `now`.
fn connected(now: Duration) -> Machine {
    let mut machine = machine(1);
    assert_eq!(machine.handle(Input::Tick, now).len(), 1);
    assert_eq!(machine.handle(Input::Connected, now), []);
    machine
}

fn results(outputs: &[Output]) -> Vec<&wire::UpdateResult> {
    let results = outputs.iter().filter_map(|output| match output {
        Output::Send(wire::EdgeMessage { message: Some(Say::Result(result)) }) => Some(result),
        _ => None,
    });
    results.collect()
}

fn hello(outputs: &[Output]) -> (usize, &wire::EdgeHello) {
    let [Output::Dial { controller, hello }] = outputs else { panic!("expected a dial: {outputs:?}") };
    let Some(Say::Hello(hello)) = &hello.message else { panic!("expected a Hello: {hello:?}") };
    (*controller, hello)
}

#[test]
fn the_first_dial_is_at_once_and_says_who_dials_and_what_it_holds() {
    let mut machine = machine(1);
    assert_eq!(machine.wake_at(), Some(Duration::ZERO));
    let outputs = machine.handle(Input::Tick, ms(0));
    let (controller, hello) = hello(&outputs);
    assert_eq!((controller, &*hello.edge, &*hello.pool), (0, "e1", "public"));
    assert_eq!((&hello.world, &*hello.held), (&None, &*BucketHashes::default().to_bytes()));
    assert_eq!(machine.wake_at(), None, "the connection is waited for");
    assert_eq!(machine.handle(Input::Tick, ms(60_000)), []);
}

#[test]
fn controllers_are_tried_in_turn_with_growing_waits() {
    let mut machine = machine(3);
    let mut now = ms(0);
    let mut range = RETRY_MIN;
    for attempt in 0..12 {
        let outputs = machine.handle(Input::Tick, now);
        assert_eq!(hello(&outputs).0, attempt % 3);
        assert_eq!(machine.handle(Input::Lost("refused".to_owned()), now), []);
        let wake_at = machine.wake_at().unwrap();
        assert!(wake_at - now <= range, "attempt {attempt}: {:?}", wake_at - now);
        if wake_at > now {
            assert_eq!(machine.handle(Input::Tick, wake_at - Duration::from_nanos(1)), [], "too early");
        }
        now = wake_at;
        range = (range * 2).min(RETRY_MAX);
    }
    assert_eq!(machine.counts().dials, 12);
    assert_eq!(machine.problem(), Some("refused"));
}

#[test]
fn heartbeats_go_out_every_two_seconds_and_silence_ends_the_connection() {
    let mut machine = connected(ms(0));
    for beat in 1..=2 {
        assert_eq!(machine.wake_at(), Some(ms(beat * 2_000)));
        assert_eq!(machine.handle(Input::Tick, ms(beat * 2_000 - 1)), []);
        let expected = say(Say::Heartbeat(wire::Heartbeat { seq: beat }));
        assert_eq!(machine.handle(Input::Tick, ms(beat * 2_000)), [expected]);
    }
    assert_eq!(machine.handle(told(Told::Heartbeat(wire::Heartbeat { seq: 1 })), ms(5_000)), []);
    assert_eq!(machine.handle(Input::Tick, ms(6_000)).len(), 1, "heard a second ago");
    assert_eq!(machine.handle(Input::Tick, ms(10_999)).len(), 1);
    assert_eq!(machine.handle(Input::Tick, ms(11_000)), [Output::HangUp]);
    assert!(!machine.is_connected() && machine.problem().unwrap().contains("6 s"));
    assert_eq!(machine.handle(told(Told::Update(update(1))), ms(11_001)), [], "what still arrives is not listened to");
    assert!(machine.wake_at().unwrap() <= ms(11_100));
}

#[test]
fn an_update_is_journalled_and_answered_and_ends_a_problem() {
    let mut machine = connected(ms(0));
    let outputs = machine.handle(told(Told::Update(update(5))), ms(1));
    assert_eq!(outputs[0], Output::Journal(update(5)));
    assert_eq!(results(&outputs), [&wire::UpdateResult { nonce: 5, refusals: vec![] }]);
    assert!(machine.is_synced() && machine.holdings().is_complete());
    assert_eq!(machine.problem(), None);
    machine.handle(Input::Lost("x".to_owned()), ms(2));
    let outputs = machine.handle(Input::Tick, ms(5_002));
    let (_, hello) = hello(&outputs);
    let mut positions = position_of(1, 5);
    positions.iter_mut().flat_map(|it| &mut it.clusters).for_each(|entry| entry.incarnation = 1);
    assert_eq!((&hello.world, &hello.positions), (&world(1, 1), &positions));
    assert_eq!(hello.held, machine.holdings().hashes().to_bytes());
}

#[test]
fn refusals_are_answered_and_what_is_wholly_refused_is_not_journalled() {
    let mut machine = connected(ms(0));
    machine.handle(told(Told::Update(update(5))), ms(1));
    let outputs = machine.handle(told(Told::Update(update(4))), ms(2));
    let answered = results(&outputs);
    assert_eq!((outputs.len(), answered[0].nonce, answered[0].refusals.len()), (1, 4, 2));
    assert_eq!((machine.counts().updates_applied, machine.counts().updates_rejected), (1, 1));
    assert!(machine.is_connected());
}

#[test]
fn another_world_is_left_and_tried_ever_more_rarely() {
    let mut machine = connected(ms(0));
    machine.handle(told(Told::Update(update(1))), ms(1));
    let mut now = ms(2);
    let mut waits = Vec::new();
    for _ in 0..10 {
        let foreign = wire::Update { world: world(2, 1), ..update(9) };
        assert_eq!(machine.handle(told(Told::Update(foreign)), now), [Output::HangUp]);
        assert!(machine.problem().unwrap().contains("world"));
        let wake_at = machine.wake_at().unwrap();
        waits.push(wake_at - now);
        now = wake_at;
        machine.handle(Input::Tick, now);
        machine.handle(Input::Connected, now);
    }
    assert!(waits.iter().any(|wait| *wait > ms(1_000)), "{waits:?}");
    assert_eq!(machine.holdings().hosts(), 1, "what is held stays");
}

#[test]
fn held_contents_are_given_when_asked_for() {
    let mut machine = connected(ms(0));
    machine.handle(told(Told::Update(update(1))), ms(1));
    let request = wire::HeldRequest { buckets: (0..1_024).collect() };
    let outputs = machine.handle(told(Told::HeldRequest(request)), ms(2));
    let [Output::Send(wire::EdgeMessage { message: Some(Say::HeldContents(contents)) })] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let keys: Vec<&str> = contents.buckets.iter().flat_map(|bucket| &bucket.held).map(|held| &*held.key).collect();
    assert!(contents.last && keys.len() == 2 && keys.contains(&"host/a.example.com"));
}

fn failing(service: &str, failing: u32) -> wire::FailingBackend {
    let backend = wire::BackendId { service: service.to_owned(), ..wire::BackendId::default() };
    wire::FailingBackend { backend: Some(backend), failing, endpoints: 3 }
}

#[test]
fn backends_that_fail_are_told_when_that_changes() {
    let mut machine = connected(ms(0));
    assert_eq!(machine.handle(Input::Health(vec![]), ms(1)), [], "at first nobody expects any to fail");
    for list in [vec![failing("a", 1)], vec![failing("a", 2), failing("b", 1)], vec![failing("b", 1)], vec![]] {
        let said = say(Say::Health(wire::BackendHealth { failing: list.clone() }));
        assert_eq!(machine.handle(Input::Health(list.clone()), ms(2)), [said]);
        assert_eq!(machine.handle(Input::Health(list), ms(3)), [], "once");
    }
}

#[test]
fn a_new_stream_is_told_about_backends_anew() {
    let mut machine = connected(ms(0));
    machine.handle(Input::Health(vec![failing("a", 1)]), ms(1));
    machine.handle(Input::Lost("x".to_owned()), ms(2));
    assert_eq!(machine.handle(Input::Health(vec![failing("a", 1)]), ms(3)), [], "nobody listens");
    machine.handle(Input::Tick, ms(5_002));
    assert_eq!(machine.handle(Input::Health(vec![failing("a", 1)]), ms(5_003)), [], "the Hello comes first");
    machine.handle(Input::Connected, ms(5_004));
    assert_eq!(machine.handle(Input::Health(vec![failing("a", 1)]), ms(5_005)).len(), 1);
    machine.handle(Input::Lost("x".to_owned()), ms(5_006));
    machine.handle(Input::Tick, ms(10_006));
    machine.handle(Input::Connected, ms(10_007));
    assert_eq!(machine.handle(Input::Health(vec![]), ms(10_008)), [], "none is what a new stream begins with");
}

#[test]
fn health_is_no_heartbeat() {
    let mut machine = connected(ms(0));
    machine.handle(Input::Health(vec![failing("a", 1)]), ms(1_500));
    assert_eq!(machine.wake_at(), Some(ms(2_000)));
    assert_eq!(machine.handle(Input::Tick, ms(2_000)).len(), 1);
}

#[test]
fn a_frozen_edge_follows_nobody_and_says_so() {
    let mut before = connected(ms(0));
    before.handle(told(Told::Update(update(1))), ms(1));
    let mut machine = Machine::frozen(before.holdings);
    assert_eq!(machine.wake_at(), None);
    for input in [Input::Tick, Input::Connected, told(Told::Update(update(2))), Input::Lost("x".to_owned())] {
        assert_eq!(machine.handle(input, ms(60_000)), []);
    }
    assert_eq!(machine.handle(Input::Health(vec![failing("a", 1)]), ms(60_000)), []);
    assert!(machine.problem().unwrap().starts_with("frozen"));
    assert!(machine.holdings().is_complete() && !machine.is_connected());
    assert_eq!(machine.counts().dials, 0);
}

/// An Update that completes a set of `n` hosts, and one that withdraws them.
fn many(n: usize) -> (wire::Update, wire::Update) {
    let names = (0..n).map(|number| format!("h{number}"));
    let upserts = names.clone().map(|name| host(&name, "web")).collect();
    let whole = wire::Update { upserts, ..update(1) };
    let removals = names.map(|name| format!("host/{name}")).collect();
    (whole, wire::Update { upserts: Vec::new(), removals, ..update(2) })
}

/// Loses the stream and has another at `now`.
fn reconnect(machine: &mut Machine, now: Duration) {
    machine.handle(Input::Lost("x".to_owned()), now - ms(6_000));
    machine.handle(Input::Tick, now - ms(500));
    machine.handle(Input::Connected, now);
}

#[test]
fn what_the_guard_holds_is_answered_counted_and_not_journalled() {
    let mut machine = connected(ms(0));
    let (whole, withdrawal) = many(10);
    machine.handle(told(Told::Update(whole)), ms(1));
    let outputs = machine.handle(told(Told::Update(withdrawal)), ms(2));
    let refusals = &results(&outputs)[0].refusals;
    assert!(refusals.len() == 10 && refusals.iter().all(|refusal| refusal.guarded));
    let Output::Journal(journalled) = &outputs[0] else { panic!("{outputs:?}") };
    assert!(journalled.removals.is_empty() && journalled.guard.is_none());
    let counts = machine.counts();
    assert_eq!((counts.resources_guarded, counts.resources_refused, counts.updates_rejected), (10, 0, 0));
    assert_eq!(machine.holdings().hosts(), 10);
}

#[test]
fn what_one_controller_allows_another_must_say_again() {
    let (whole, withdrawal) = many(10);
    for (reconnects, held) in [(false, 0), (true, 10)] {
        let mut machine = connected(ms(0));
        let guard = Some(wire::GuardContext { expected: vec!["pool".to_owned()], ..wire::GuardContext::default() });
        machine.handle(told(Told::Update(wire::Update { guard, ..whole.clone() })), ms(1));
        if reconnects {
            reconnect(&mut machine, ms(10_000));
        }
        let outputs = machine.handle(told(Told::Update(withdrawal.clone())), ms(10_001));
        assert_eq!(results(&outputs)[0].refusals.len(), held);
    }
}

#[test]
fn heartbeats_keep_the_edge_in_step_and_an_absence_ends_that() {
    let (whole, withdrawal) = many(10);
    let half_an_hour = ms(30 * 60_000);
    for (heard_until, held) in [(half_an_hour, 10), (ms(1), 0)] {
        let mut machine = connected(ms(0));
        machine.handle(told(Told::Update(whole.clone())), ms(1));
        machine.handle(told(Told::Heartbeat(wire::Heartbeat { seq: 1 })), heard_until);
        reconnect(&mut machine, half_an_hour + ms(10_000));
        let outputs = machine.handle(told(Told::Update(withdrawal.clone())), half_an_hour + ms(10_001));
        assert_eq!(results(&outputs)[0].refusals.len(), held, "heard until {heard_until:?}");
    }
}

#[test]
fn a_controller_of_another_world_does_not_keep_the_edge_in_step() {
    let (whole, withdrawal) = many(10);
    let mut machine = connected(ms(0));
    machine.handle(told(Told::Update(whole)), ms(1));
    for minute in 1..=11 {
        let now = ms(minute * 60_000);
        reconnect(&mut machine, now);
        machine.handle(told(Told::Heartbeat(wire::Heartbeat { seq: 1 })), now);
        let foreign = wire::Update { world: world(2, 1), ..update(9) };
        assert_eq!(machine.handle(told(Told::Update(foreign)), now), [Output::HangUp]);
    }
    let now = ms(12 * 60_000);
    machine.handle(Input::Tick, now);
    machine.handle(Input::Connected, now);
    let outputs = machine.handle(told(Told::Update(withdrawal)), now);
    assert_eq!(results(&outputs)[0].refusals, []);
}

#[test]
fn a_message_of_a_newer_protocol_is_no_reason_to_leave() {
    let mut machine = connected(ms(0));
    assert_eq!(machine.handle(Input::Received(wire::ConfigMessage { message: None }), ms(1)), []);
    assert!(machine.is_connected());
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut machine = machine(2);
        let mut log = Vec::new();
        for step in 0..200u64 {
            let now = ms(step * 137);
            let input = match step % 7 {
                0..=2 => Input::Tick,
                3 => Input::Connected,
                4 => told(Told::Update(update(step))),
                5 => told(Told::Heartbeat(wire::Heartbeat { seq: step })),
                _ => Input::Lost("x".to_owned()),
            };
            log.push((machine.handle(input, now), machine.wake_at()));
        }
        log
    };
    assert_eq!(run(), run());
}
