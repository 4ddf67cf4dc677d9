//! `roadstead explain` and `roadstead migrate` as processes: what they print, and with which code they end.

#![expect(clippy::unwrap_used, reason = "in a test, a panic with the place is the report")]

mod compare;
mod documents;
mod explain;
mod live;
mod migrate;
mod run;
mod settings;
