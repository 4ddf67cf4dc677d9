//! What a debug build can be run without, to show what would go wrong: for control runs of the whole system only.
//!
//! `ROADSTEAD_UNSAFE_OFF` → the parts of an edge that are off. Names of other binaries' parts are passed over. In a
//! release build the variable is ignored and nothing is ever off.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The edge's own guard.
    Guard,
    /// Refusing other worlds.
    World,
    /// Refusing what is older than held.
    Positions,
    /// Serving the last good table after a start.
    LastGood,
    /// Another endpoint after one that could not be connected to.
    Retries,
    /// Refusing names that stand for this machine.
    Names,
}

/// The parts that are off. By default none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UnsafeOff(Vec<Part>);

impl Part {
    #[cfg(debug_assertions)]
    const ALL: [Part; 6] = [Part::Guard, Part::World, Part::Positions, Part::LastGood, Part::Retries, Part::Names];

    fn name(self) -> &'static str {
        match self {
            Part::Guard => "edge-guard",
            Part::World => "edge-world",
            Part::Positions => "edge-positions",
            Part::LastGood => "edge-last-good",
            Part::Retries => "edge-retries",
            Part::Names => "edge-names",
        }
    }
}

impl UnsafeOff {
    #[cfg(debug_assertions)]
    pub fn from_environment() -> Self {
        Self::parse(&std::env::var("ROADSTEAD_UNSAFE_OFF").unwrap_or_default())
    }

    #[cfg(not(debug_assertions))]
    pub fn from_environment() -> Self {
        Self::default()
    }

    /// Of names separated by commas.
    #[cfg(debug_assertions)]
    fn parse(text: &str) -> Self {
        let is_named = |part: &Part| text.split(',').any(|name| name.trim() == part.name());
        Self(Part::ALL.into_iter().filter(is_named).collect())
    }

    pub fn has(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for UnsafeOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|part| part.name()).collect();
        f.write_str(&names.join(", "))
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_off() {
        assert!(UnsafeOff::parse("").is_empty() && UnsafeOff::parse("controller-guard,edge,guard").is_empty());
        let off = UnsafeOff::parse("edge-retries, controller-guard,edge-guard");
        assert_eq!(off.to_string(), "edge-guard, edge-retries");
        assert!(off.has(Part::Guard) && off.has(Part::Retries) && !off.has(Part::World));
    }

    #[test]
    fn every_part_has_a_name() {
        for part in Part::ALL {
            assert_eq!(UnsafeOff::parse(part.name()), UnsafeOff(vec![part]));
        }
    }
}
