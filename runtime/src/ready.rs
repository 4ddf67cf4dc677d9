//! Readiness: every component says whether it can do its part, and why not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by all tasks of a process. Ready when at least one component has reported and all that did are well.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what `component` said before. The error text is shown on `/readyz`.
    pub fn set(&self, component: &'static str, state: Result<(), String>) {
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
        let problems: Vec<String> = components
            .iter()
            .filter_map(|(component, state)| state.as_ref().err().map(|why| format!("{component}: {why}")))
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
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
    }
}
