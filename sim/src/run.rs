//! Many histories: seeds in, a summary out. Several threads, each history on its own.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use roadstead_controller::policy::file;
use roadstead_routing::policy::Policy;

use crate::objects::POLICY;
use crate::simulation::{Options, Outcome, Simulation};

#[derive(Default)]
pub struct Summary {
    pub histories: u64,
    pub steps: u64,
    pub faults: BTreeMap<&'static str, u64>,
    /// By seed.
    pub failed: BTreeMap<u64, Outcome>,
}

/// The policy that every history begins with.
pub fn policy() -> Policy {
    file::parse(&POLICY.replace("WEIGHT", "100")).expect("the simulation's policy must be valid")
}

/// One history. A panic is a violation like any other.
pub fn one(options: &Options, policy: &Policy) -> Outcome {
    let mut simulation = Simulation::new(options.clone(), policy.clone());
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| simulation.play())) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        simulation.fail("nothing panics", text.unwrap_or_default());
    }
    simulation.into_outcome()
}

/// Histories of `seeds`, with everything but the seed as in `options`. Stops early once `failures_max` have failed.
pub fn many(options: &Options, seeds: std::ops::Range<u64>, jobs: usize, failures_max: usize) -> Summary {
    let (next, summary, policy) = (AtomicU64::new(seeds.start), Mutex::new(Summary::default()), policy());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || lock(&summary).failed.len() >= failures_max {
                return;
            }
            let outcome = one(&Options { seed, ..options.clone() }, &policy);
            lock(&summary).add(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.histories += 1;
        self.steps += u64::from(outcome.steps);
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        if outcome.violation.is_some() {
            self.failed.insert(outcome.seed, outcome);
        }
    }
}

fn lock(summary: &Mutex<Summary>) -> std::sync::MutexGuard<'_, Summary> {
    summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
