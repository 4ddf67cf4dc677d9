//! The way of a request to the core and to the store, each with an end to waiting.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::problem::Failure;
use crate::guard::decide::{Decided, Decision};
use crate::observe::status::Report;
use crate::serve::core_task::Command;
use crate::store::StoreError;

/// How long the core may take. It answers within a turn; before the world is loaded nobody does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the store may take. Longer than it waits for a connection itself, because it says why there is none.
const STORE_TIMEOUT: Duration = Duration::from_secs(6);

/// Filled once the world is loaded: the API is there before, to say so.
pub type StoreCell<S> = Arc<OnceLock<Arc<S>>>;

/// The way to the core.
#[derive(Clone)]
pub(super) struct Core(mpsc::Sender<Command>);

/// The way to the core and to the store.
pub(super) struct Controller<S> {
    pub core: Core,
    store: StoreCell<S>,
}

/// What is not possible without the store.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Change,
    History,
}

impl Core {
    pub fn new(inbox: mpsc::Sender<Command>) -> Self {
        Self(inbox)
    }

    pub async fn report(&self) -> Result<Report, Failure> {
        self.ask(Command::Report).await
    }

    pub async fn decide(&self, decision: Decision) -> Result<Decided, Failure> {
        self.ask(|asked| Command::Decide(decision, asked)).await?.map_err(|refused| Failure::refused(&refused))
    }

    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Failure> {
        let (asked, answer) = oneshot::channel();
        let asking = async {
            self.0.send(command(asked)).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(ANSWER_TIMEOUT, asking).await.ok().flatten().ok_or_else(Failure::not_ready)
    }
}

impl<S> Controller<S> {
    pub fn new(core: Core, store: StoreCell<S>) -> Self {
        Self { core, store }
    }

    pub fn store(&self) -> Result<&S, Failure> {
        self.store.get().map(Arc::as_ref).ok_or_else(Failure::not_ready)
    }
}

impl<S> Clone for Controller<S> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), store: self.store.clone() }
    }
}

/// What the store answers. If it takes too long, whether anything was written is not known.
pub(super) async fn stored<T>(
    purpose: Purpose,
    asking: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Failure> {
    let late = || StoreError::Unavailable(format!("no answer within {} s", STORE_TIMEOUT.as_secs()));
    let answer = tokio::time::timeout(STORE_TIMEOUT, asking).await.unwrap_or_else(|_| Err(late()));
    answer.map_err(|error| Failure::store(purpose, &error))
}
