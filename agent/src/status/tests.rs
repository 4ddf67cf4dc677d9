//! Which statuses are written, and above all which are left alone.

use std::time::Duration;

use roadstead_proto::wire;
use roadstead_routing::id::{Kind, ObjectName};
use roadstead_routing::object::Object;

use super::planner::IN_FLIGHT_MAX;
use super::{Address, StatusPlanner, StatusSeen, StatusWrite};
use crate::fixture::{NAMESPACE, class, ingress, list_all, our_class, seen_with};
use crate::reduce::{Observation, Reducer};

const IP: &str = "203.0.113.10";

struct Bench {
    reducer: Reducer,
    planner: StatusPlanner,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        let mut reducer = Reducer::default();
        list_all(&mut reducer, &[our_class(), class("nginx", "k8s.io/ingress-nginx")]);
        Self { reducer, planner: StatusPlanner::default(), now: Duration::ZERO }
    }

    fn see(&mut self, object: &Object, status: StatusSeen) {
        let outcome = self.reducer.apply(Kind::Ingress, seen_with(object, status));
        self.planner.look_at(outcome.ingresses);
    }

    fn wish(&mut self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        let status = wire::DesiredStatus { namespace: NAMESPACE.to_owned(), name: name.to_owned(), addresses };
        self.planner.wish(wire::DesiredStatuses { statuses: vec![status] });
    }

    /// Plans, and lets every write end at once.
    fn plan(&mut self) -> Vec<StatusWrite> {
        let writes = self.planner.plan(self.now, &self.reducer);
        writes.iter().for_each(|write| self.planner.written(&write.ingress));
        writes
    }
}

fn ours() -> Object {
    ingress("web", Some("roadstead"), &[])
}

fn showing(addresses: &[&str], ours: bool) -> StatusSeen {
    StatusSeen {
        addresses: addresses.iter().map(|address| Address::parse(address)).collect(),
        ours,
        other_manager: None,
    }
}

fn write(addresses: &[&str]) -> StatusWrite {
    let addresses = addresses.iter().filter_map(|address| Address::parse(address)).collect();
    StatusWrite { ingress: ObjectName::new(NAMESPACE, "web"), addresses }
}

#[test]
fn a_wish_is_written_if_the_status_differs_and_only_then() {
    let mut bench = Bench::new();
    bench.see(&ours(), StatusSeen::default());
    assert_eq!(bench.plan(), [], "nothing is wished yet");
    bench.wish("web", &[IP, "LB.Example.com"]);
    assert_eq!(bench.plan(), [write(&[IP, "lb.example.com"])]);
    bench.see(&ours(), showing(&[IP, "lb.example.com"], true));
    bench.wish("web", &[IP, "lb.example.com"]);
    assert_eq!(bench.plan(), []);
    bench.wish("web", &[IP]);
    assert_eq!(bench.plan(), [write(&[IP])]);
}

#[test]
fn a_wish_outlives_the_absence_of_its_ingress() {
    let mut bench = Bench::new();
    bench.wish("web", &[IP]);
    assert_eq!(bench.plan(), []);
    bench.see(&ours(), StatusSeen::default());
    assert_eq!(bench.plan(), [write(&[IP])]);

    let gone = bench.reducer.apply(Kind::Ingress, Observation::Deleted(crate::fixture::key(Kind::Ingress, "web")));
    bench.planner.look_at(gone.ingresses);
    assert_eq!(bench.plan(), []);
    bench.see(&ours(), StatusSeen::default());
    assert_eq!(bench.plan(), [write(&[IP])], "created again, the controller may see no difference");
}

#[test]
fn an_ingress_of_another_class_is_never_touched() {
    let mut bench = Bench::new();
    bench.see(&ingress("web", Some("nginx"), &[]), showing(&["198.51.100.1"], false));
    bench.wish("web", &[IP]);
    assert_eq!(bench.plan(), []);
}

#[test]
fn losing_the_class_withdraws_our_own_entry_and_nobody_elses() {
    let mut bench = Bench::new();
    bench.wish("web", &[IP]);
    bench.see(&ours(), showing(&[IP], true));
    assert_eq!(bench.plan(), []);
    bench.see(&ingress("web", Some("nginx"), &[]), showing(&[IP], true));
    assert_eq!(bench.plan(), [write(&[])]);

    let mut bench = Bench::new();
    bench.see(&ingress("web", Some("nginx"), &[]), showing(&[IP], false));
    assert_eq!(bench.plan(), [], "managedFields does not say that we wrote it");
}

#[test]
fn an_empty_wish_withdraws_and_no_wish_leaves_alone() {
    let mut bench = Bench::new();
    bench.see(&ours(), showing(&[IP], true));
    assert_eq!(bench.plan(), [], "a controller that has not spoken wishes nothing");
    bench.wish("web", &[]);
    assert_eq!(bench.plan(), [write(&[])]);
    bench.see(&ours(), showing(&[], false));
    assert_eq!(bench.plan(), []);
}

#[test]
fn a_rival_writer_is_answered_ever_more_slowly() {
    let mut bench = Bench::new();
    bench.see(&ours(), StatusSeen::default());
    bench.wish("web", &[IP]);
    let mut writes = Vec::new();
    for second in 0..3_600 {
        bench.now = Duration::from_secs(second);
        bench.see(&ours(), showing(&["198.51.100.1"], false));
        if !bench.plan().is_empty() {
            writes.push(second);
        }
    }
    assert_eq!(writes[..6], [0, 5, 15, 35, 75, 155]);
    assert_eq!(writes.len(), 12, "and never more often than every ten minutes in the end: {writes:?}");
}

#[test]
fn a_changed_wish_does_not_wait_for_the_rival() {
    let mut bench = Bench::new();
    bench.see(&ours(), StatusSeen::default());
    bench.wish("web", &[IP]);
    assert_eq!(bench.plan().len(), 1);
    bench.see(&ours(), StatusSeen::default());
    assert_eq!(bench.plan(), [], "the same again has to wait");
    bench.wish("web", &["203.0.113.11"]);
    assert_eq!(bench.plan(), [write(&["203.0.113.11"])]);
}

#[test]
fn one_write_per_ingress_and_a_bounded_number_in_all_are_on_their_way() {
    let mut bench = Bench::new();
    for number in 0..IN_FLIGHT_MAX + 10 {
        let name = format!("web-{number}");
        bench.see(&ingress(&name, Some("roadstead"), &[]), StatusSeen::default());
        bench.wish(&name, &[IP]);
    }
    let first = bench.planner.plan(bench.now, &bench.reducer);
    assert_eq!(first.len(), IN_FLIGHT_MAX);
    assert_eq!(bench.planner.plan(bench.now, &bench.reducer), []);
    first.iter().for_each(|write| bench.planner.written(&write.ingress));
    assert_eq!(bench.planner.plan(bench.now, &bench.reducer).len(), 10);
}
