//! Who gets a change that no object asked for, and when.

use super::*;

const NONE: BTreeSet<HostKey> = BTreeSet::new();

/// What one edge says; everything it does not name it has.
#[derive(Default)]
struct Says {
    unsettled: &'static [&'static str],
    refused: &'static [&'static str],
}

struct Trying {
    canary: Canary,
    on: Occasion,
    edges: BTreeSet<&'static str>,
}

fn host(name: &str) -> HostKey {
    HostKey::Exact(name.into())
}

fn hosts(names: &[&str]) -> BTreeSet<HostKey> {
    names.iter().map(|name| host(name)).collect()
}

fn version(number: u8) -> Option<Digest> {
    Some(Digest::of_bytes(&[number]))
}

impl Trying {
    /// A policy change of `names` from version 1 to version 2.
    fn new(names: &[&str]) -> Self {
        let on = Occasion { cause: Cause::Policy, policy_rev: 0, now_ms: 1_000_000 };
        let mut it = Self { canary: Canary::default(), on, edges: ["a", "b"].into() };
        it.policy(names, (1, 2));
        it
    }

    fn policy(&mut self, names: &[&str], (before, after): (u8, u8)) {
        for name in names {
            self.canary.published(&host(name), (version(before), version(after)), self.on);
        }
    }

    fn after(&mut self, ms: u64, says: Option<Says>) -> Vec<HostKey> {
        self.on.now_ms += ms;
        let seen = |_: &str| {
            says.map(|it| {
                let unsettled = hosts(it.unsettled).union(&hosts(it.refused)).cloned().collect();
                Seen { policy_rev: 0, unsettled: Some(unsettled), refused: hosts(it.refused) }
            })
        };
        self.canary.advance(&self.edges, seen, &NONE, self.on.now_ms).map(|(passed, _)| passed).unwrap_or_default()
    }

    fn state(&self) -> Option<State> {
        self.canary.state().map(|(state, ..)| state)
    }

    fn waits(&self, edge: &str, name: &str) -> bool {
        self.canary.trial().is_some_and(|trial| trial.keeps(&host(name), edge))
    }
}

#[test]
fn the_others_follow_once_the_first_edge_has_served_it_for_a_while() {
    let mut it = Trying::new(&["shop"]);
    assert!(it.waits("a", "shop") && it.waits("b", "shop"), "no edge is chosen yet");
    assert_eq!(it.after(0, Some(Says { unsettled: &["shop"], ..Says::default() })), []);
    assert!(!it.waits("a", "shop") && it.waits("b", "shop") && !it.waits("b", "other"));
    it.after(60_000, Some(Says { unsettled: &["shop"], ..Says::default() }));
    assert_eq!(it.state(), Some(State::Trying), "however long it takes to get there");
    assert_eq!(it.after(1, Some(Says::default())), []);
    assert_eq!(it.after(SOAK_MS - 1, Some(Says::default())), []);
    assert_eq!(it.after(1, Some(Says::default())), [host("shop")]);
    assert_eq!((it.state(), it.waits("b", "shop")), (None, false));
}

#[test]
fn an_edge_that_comes_and_goes_begins_anew_each_time() {
    let mut it = Trying::new(&["shop"]);
    it.after(0, Some(Says::default()));
    it.edges = ["b"].into();
    assert_eq!(it.after(SOAK_MS, None), []);
    assert_eq!(it.state(), Some(State::Lost));
    it.edges = ["a", "b"].into();
    assert_eq!(it.after(1, Some(Says::default())), []);
    assert_eq!(it.state(), Some(State::Trying));
    assert_eq!(it.after(SOAK_MS - 1, Some(Says::default())), []);
    assert_eq!(it.after(1, Some(Says::default())), [host("shop")]);
}

#[test]
fn a_change_that_is_taken_back_is_on_trial_no_more() {
    let mut it = Trying::new(&["shop", "blog"]);
    it.after(0, Some(Says::default()));
    it.edges = ["b"].into();
    it.after(1, None);
    it.policy(&["shop"], (2, 3));
    assert!(it.waits("b", "shop"), "another change is not the one before");
    it.policy(&["shop"], (3, 1));
    assert!(!it.waits("b", "shop") && it.waits("b", "blog"));
    it.policy(&["blog"], (2, 1));
    assert_eq!(it.state(), None);
}

#[test]
fn what_an_object_asks_for_goes_to_everybody() {
    let mut it = Trying::new(&["shop", "blog"]);
    it.on.cause = Cause::Objects;
    it.canary.published(&host("shop"), (version(2), version(3)), it.on);
    assert!(!it.waits("b", "shop") && it.waits("b", "blog"));
}

#[test]
fn what_the_edge_refuses_stays_from_the_others_until_it_takes_it() {
    let mut it = Trying::new(&["shop", "blog"]);
    let refuses = || Some(Says { refused: &["shop"], ..Says::default() });
    it.after(0, refuses());
    assert_eq!(it.after(SOAK_MS, refuses()), [host("blog")]);
    assert_eq!(it.state(), Some(State::Refused));
    it.after(SOAK_MS, refuses());
    assert!(it.waits("b", "shop"));

    assert_eq!(it.after(1, Some(Says { unsettled: &["shop"], ..Says::default() })), [], "it is offered again");
    assert_eq!(it.state(), Some(State::Refused));
    assert_eq!(it.after(1, Some(Says::default())), []);
    assert_eq!(it.state(), Some(State::Trying));
    assert_eq!(it.after(SOAK_MS, Some(Says::default())), [host("shop")]);
    assert_eq!(it.state(), None);
}

#[test]
fn a_later_trial_does_not_let_go_what_was_refused() {
    let mut it = Trying::new(&["shop"]);
    let refuses = || Some(Says { refused: &["shop"], ..Says::default() });
    it.after(0, refuses());
    it.after(SOAK_MS, refuses());
    it.policy(&["blog"], (1, 2));
    assert!(it.waits("b", "shop") && it.waits("b", "blog"));
    it.after(0, refuses());
    assert_eq!(it.after(SOAK_MS, refuses()), [host("blog")]);
    assert!(it.waits("b", "shop"));
}

#[test]
fn after_an_edge_that_refused_and_is_gone_another_one_tries() {
    let mut it = Trying::new(&["shop"]);
    let refuses = || Some(Says { refused: &["shop"], ..Says::default() });
    it.after(0, refuses());
    it.after(SOAK_MS, refuses());
    it.edges = ["b", "c"].into();
    it.after(1, None);
    it.policy(&["blog"], (1, 2));
    it.after(0, Some(Says::default()));
    assert!(!it.waits("b", "shop") && !it.waits("b", "blog") && it.waits("c", "shop"));
    assert_eq!(it.after(SOAK_MS, Some(Says::default())), [host("blog"), host("shop")]);
}

#[test]
fn what_the_guard_holds_is_not_waited_for() {
    let mut it = Trying::new(&["shop", "blog"]);
    let seen = || |_: &str| Some(Seen { policy_rev: 0, unsettled: Some(hosts(&["shop"])), refused: NONE });
    let held = hosts(&["shop"]);
    it.canary.advance(&it.edges, seen(), &held, it.on.now_ms);
    let passed = it.canary.advance(&it.edges, seen(), &held, it.on.now_ms + SOAK_MS);
    assert_eq!(passed, Some((vec![host("blog"), host("shop")], Cause::Policy)));
}

#[test]
fn an_edge_of_an_older_policy_proves_nothing() {
    let mut it = Trying::new(&["shop"]);
    it.on.policy_rev = 7;
    it.policy(&["shop"], (2, 3));
    it.after(0, Some(Says::default()));
    assert_eq!(it.after(SOAK_MS, Some(Says::default())), []);
    assert_eq!(it.state(), Some(State::Trying));
}

#[test]
fn without_edges_a_trial_is_over_after_a_while_and_alone_nobody_is_spared() {
    let mut it = Trying::new(&["shop"]);
    it.edges.clear();
    assert_eq!(it.after(EDGES_WITHIN_MS - 1, None), []);
    assert_eq!(it.after(1, None), [host("shop")]);

    let mut it = Trying::new(&["shop"]);
    it.edges = ["a"].into();
    assert_eq!(it.after(0, Some(Says::default())), []);
    assert_eq!(it.after(EDGES_WITHIN_MS, Some(Says { unsettled: &["shop"], ..Says::default() })), []);
    assert_eq!(it.after(0, Some(Says::default())), [host("shop")]);
}

#[test]
fn replicas_that_chose_apart_agree_on_the_first_edge() {
    let mut it = Trying::new(&["shop"]);
    it.edges = ["b", "c"].into();
    it.after(0, Some(Says { unsettled: &["shop"], ..Says::default() }));
    assert!(!it.waits("b", "shop"));
    it.canary.agree("c", 0);
    assert!(!it.waits("b", "shop"), "the other one gives way");
    it.canary.agree("a", 0);
    assert!(!it.waits("a", "shop") && it.waits("b", "shop"));
    assert_eq!(it.after(SOAK_MS, None), []);
    assert_eq!(it.state(), Some(State::Lost), "which the other replica knew, perhaps");
}

#[test]
fn a_replica_that_starts_takes_the_edge_that_others_have_lost() {
    let mut it = Trying::new(&["shop"]);
    it.edges = ["b"].into();
    it.canary.agree("a", 0);
    it.after(EDGES_WITHIN_MS, None);
    assert!(it.waits("b", "shop"));
    let mut later = Trying::new(&[]);
    later.on.policy_rev = 7;
    later.policy(&["shop"], (1, 2));
    later.canary.agree("0", 6);
    later.after(0, Some(Says::default()));
    assert!(!later.waits("a", "shop"), "a trial of an older policy says nothing");
}

#[test]
fn a_release_lets_everything_go_once() {
    let mut it = Trying::new(&["shop"]);
    it.after(0, Some(Says { refused: &["shop"], ..Says::default() }));
    assert_eq!(it.canary.release(), Some((vec![host("shop")], Cause::Policy)));
    assert_eq!((it.state(), it.canary.release()), (None, None));
}
