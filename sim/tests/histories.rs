//! Random histories hold every invariant; the same seed is the same history; a rule that is broken on purpose is seen.

use std::collections::BTreeSet;

use roadstead_sim::broken::Broken;
use roadstead_sim::run;
use roadstead_sim::simulation::{Options, Outcome};
use roadstead_sim::trace::Keep;

const JOBS: usize = 2;

fn explain(outcome: &Outcome) -> String {
    format!("seed {}: {:?}\n{}", outcome.seed, outcome.violation, outcome.lines.join("\n"))
}

#[test]
fn every_invariant_holds_in_random_histories_with_every_kind_of_fault() {
    let summary = run::many(&Options::new(0), 1..301, JOBS, 1);
    let failed: Vec<String> = summary.failed.values().map(explain).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert_eq!((summary.histories, summary.steps), (300, 30_000));
    let kinds: BTreeSet<&str> = summary.faults.keys().copied().collect();
    let expected = [
        "agent crash",
        "backup restored",
        "class deleted",
        "cluster emptied",
        "commit answer lost",
        "connection lost",
        "controller crash",
        "database away",
        "database slow",
        "edge crash",
        "everything heals",
        "kind forbidden",
        "lifecycle change",
        "lists break",
        "orphaned transaction",
        "partition",
        "pause",
        "policy change",
        "watches expire",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn the_same_seed_is_the_same_history() {
    let policy = run::policy();
    let hash = |seed| {
        let outcome = run::one(&Options { keep: Keep::All, ..Options::new(seed) }, &policy);
        (outcome.hash, outcome.lines.len())
    };
    for seed in 1..6 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(1), hash(2));
}

/// The first violation with `broken`, within so many seeds.
fn caught(broken: Broken, within: u64) -> Outcome {
    let options = Options { broken: Some(broken), replicas: 1, ..Options::new(0) };
    let summary = run::many(&options, 1..within + 1, JOBS, 1);
    let first = summary.failed.into_values().next();
    first.unwrap_or_else(|| panic!("{broken:?} is not seen within {within} seeds"))
}

fn assert_caught(broken: Broken, within: u64, invariants: &[&str]) {
    let outcome = caught(broken, within);
    let violation = outcome.violation.as_ref().expect("a failed history");
    assert!(invariants.contains(&violation.invariant), "{broken:?} was seen as something else: {}", explain(&outcome));
}

#[test]
fn commits_of_a_stale_epoch_are_seen() {
    assert_caught(Broken::Fencing, 200, &["a stale epoch never commits"]);
}

#[test]
fn edges_that_go_back_in_time_are_seen() {
    assert_caught(Broken::PositionCheck, 100, &["no edge goes back in time"]);
}

#[test]
fn pruning_on_a_failed_list_is_seen() {
    assert_caught(
        Broken::FailedListIsComplete,
        100,
        &["nothing is removed that may exist", "everybody ends with the truth"],
    );
}

#[test]
fn acknowledging_before_the_commit_is_seen() {
    assert_caught(Broken::DurableBeforeCommit, 20, &["acknowledged is stored"]);
}

#[test]
fn a_lost_removal_is_seen() {
    assert_caught(
        Broken::RemovalsArrive,
        50,
        &["everybody ends with the truth", "acknowledged is stored", "nothing is removed that may exist"],
    );
}

#[test]
fn hosts_before_their_backends_are_seen() {
    assert_caught(Broken::BackendsFirst, 20, &["nothing dangles"]);
}

#[test]
fn a_missing_guard_is_seen() {
    assert_caught(Broken::Guard, 100, &["nothing is emptied without a decision", "nothing vanishes that is there"]);
}
