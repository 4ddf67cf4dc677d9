//! Readiness: every component says whether it can do its part, and why not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by all tasks of a process. Ready when at least one component has reported and all that did can do their part,
/// be it in a degraded way.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, State>>>);

enum State {
    Well,
    /// Goes on, but lacks something.
    Degraded(String),
    NotReady(String),
}

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what `component` said before. The error text is shown on `/readyz`.
    pub fn set(&self, component: &'static str, state: Result<(), String>) {
        self.insert(component, state.map_or_else(State::NotReady, |()| State::Well));
    }

    /// As [`Self::set`]: it does its part, but not as it should.
    pub fn set_degraded(&self, component: &'static str, why: String) {
        self.insert(component, State::Degraded(why));
    }

    fn insert(&self, component: &'static str, state: State) {
        // A panic while holding this lock cannot leave the map half-written, so its content stays usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(component, state);
    }

    /// # Errors
    /// One line per component that is not ready.
    pub fn state(&self) -> Result<(), Vec<String>> {
        let components = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if components.is_empty() {
            return Err(vec!["starting".to_owned()]);
        }
        let problem = |(component, state): (&&'static str, &State)| match state {
            State::NotReady(why) => Some(format!("{component}: {why}")),
            State::Well | State::Degraded(_) => None,
        };
        let problems: Vec<String> = components.iter().filter_map(problem).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// One line per component that is degraded.
    pub fn degraded(&self) -> Vec<String> {
        let components = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let degraded = |(component, state): (&&'static str, &State)| match state {
            State::Degraded(why) => Some(format!("{component}: {why}")),
            State::Well | State::NotReady(_) => None,
        };
        components.iter().filter_map(degraded).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_component_is() {
        let ready = Readiness::new();
        assert_eq!(ready.state(), Err(vec!["starting".to_owned()]));
        ready.set("store", Ok(()));
        ready.set("world", Err("loading".to_owned()));
        assert_eq!(ready.state(), Err(vec!["world: loading".to_owned()]));
        ready.set("world", Ok(()));
        assert_eq!(ready.state(), Ok(()));
        ready.set_degraded("store", "away".to_owned());
        assert_eq!((ready.state(), ready.degraded()), (Ok(()), vec!["store: away".to_owned()]));
        ready.set("store", Ok(()));
        assert_eq!(ready.degraded(), Vec::<String>::new());
    }
}
