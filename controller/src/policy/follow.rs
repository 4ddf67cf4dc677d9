//! Follows the policy file: compares its content every few seconds (a mounted ConfigMap changes by a swapped link, which
//! file notifications miss), imports what is new, reports what is wrong. Each content is reported once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{AcceptedPolicy, Problem, file, import};
use crate::store::Store;

/// What the core is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    Accepted(AcceptedPolicy),
    /// What is wrong with the file, or `None` once it is what is in force.
    Problem(Option<Problem>),
}

/// Runs until nobody listens. `problem` is what the start found.
pub async fn run<S: Store>(
    store: Arc<S>,
    path: PathBuf,
    every: Duration,
    mut problem: Option<Problem>,
    events: mpsc::Sender<Event>,
) {
    let mut imported = None;
    while !events.is_closed() {
        tokio::time::sleep(every).await;
        let now = match file::read(&path) {
            Ok(read) if imported == Some(read.digest) => None,
            Ok(read) => {
                let digest = read.digest;
                let refused = accept(&*store, read, &path, &events).await.err();
                // What could not be imported is tried again.
                imported = Some(digest).filter(|_| refused.is_none());
                refused
            }
            Err(problem) => Some(problem),
        };
        if now != problem {
            if let Some(problem) = &now {
                tracing::error!(problem, "The policy file is not taken; the last accepted policy stays in force");
            }
            // A closed channel ends the loop.
            let _ = events.send(Event::Problem(now.clone())).await;
            problem = now;
        }
    }
}

async fn accept(
    store: &impl Store,
    read: file::Read,
    path: &Path,
    events: &mpsc::Sender<Event>,
) -> Result<(), Problem> {
    let refused = |error| format!("{}: policy changes are refused while {error}", path.display());
    let stored = store.latest_policy().await.map_err(refused)?;
    let accepted = import(store, stored, read, path).await.map_err(refused)?;
    let _ = events.send(Event::Accepted(accepted)).await;
    Ok(())
}
