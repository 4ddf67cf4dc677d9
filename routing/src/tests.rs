//! Case files, properties, and the proof that every rule is covered by one of them.

mod annotations;
mod cases;
mod checks;
mod guard;
mod membership;
mod naive;
mod properties;
mod reach;
mod switches;
mod units;
mod world;
