//! Requests that need a store which is not there, or not there yet.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use roadstead_api as api;
use tokio::sync::mpsc;

use super::reach::{Controller, Core};
use super::{StoreCell, history, members, worlds};
use crate::store::memory::Memory;

/// Nobody reads the inbox: what is asked here must not need the core.
fn controller(store: Option<Memory>) -> Controller<Memory> {
    let cell = StoreCell::default();
    if let Some(store) = store {
        assert!(cell.set(Arc::new(store)).is_ok());
    }
    Controller::new(Core::new(mpsc::channel(1).0), cell)
}

async fn activate(at: &Controller<Memory>) -> String {
    let (to, by, reason) = (api::Lifecycle::Active, "me".to_owned(), "x".to_owned());
    let asked = api::ChangeLifecycle { to, over_seconds: 0, force: false, by, reason };
    members::change(State(at.clone()), Path("eu".to_owned()), Ok(Json(asked))).await.unwrap_err().to_string()
}

async fn readopt(at: &Controller<Memory>, uid: &str) -> String {
    let asked = api::Readopt { uid: uid.to_owned(), by: "me".to_owned() };
    members::readopt(State(at.clone()), Path("eu".to_owned()), Ok(Json(asked))).await.unwrap_err().to_string()
}

async fn pin(at: &Controller<Memory>, host: &str) -> String {
    let (pool, host, reason, by) = ("public".to_owned(), host.to_owned(), "x".to_owned(), "me".to_owned());
    let asked = api::Pin { pool, host, revision: 1, for_seconds: 60, reason, by };
    history::pin(State(at.clone()), Ok(Json(asked))).await.unwrap_err().to_string()
}

#[tokio::test]
async fn before_the_world_is_loaded_nothing_is_ready() {
    let at = controller(None);
    let adopt = api::AdoptWorld { world: None, force: true, by: "me".to_owned() };
    let adopted = worlds::adopt(State(at.clone()), Ok(Json(adopt))).await.unwrap_err().to_string();
    for said in [activate(&at).await, readopt(&at, "u").await, pin(&at, "a.example.com").await, adopted] {
        assert!(said.starts_with("503 /problems/not-ready: "), "{said}");
    }
}

#[tokio::test]
async fn while_the_database_is_away_changes_are_refused_and_say_so() {
    let store = Memory::default();
    store.set_away(true);
    let at = controller(Some(store));
    for said in [activate(&at).await, readopt(&at, "u").await] {
        let expected = "503 /problems/store-away: policy changes are refused while the database is away: it is away";
        assert!(said.starts_with(expected), "{said}");
    }
    let said = pin(&at, "a.example.com").await;
    assert!(said.starts_with("503 /problems/store-away: earlier versions cannot be read"), "{said}");
}

#[tokio::test]
async fn what_was_never_there_is_not_found() {
    let at = controller(Some(Memory::default()));
    for said in [activate(&at).await, readopt(&at, "u").await] {
        assert!(said.starts_with("404 /problems/no-such-cluster: no cluster eu ever reported"), "{said}");
    }
    let said = pin(&at, "A.example.com").await;
    assert!(said.starts_with("404 /problems/no-such-revision: a.example.com has no revision 1"), "{said}");
}

#[tokio::test]
async fn an_unusable_uid_or_host_is_told() {
    let at = controller(Some(Memory::default()));
    for uid in ["", " ", "a\nb", &"u".repeat(201)] {
        assert!(readopt(&at, uid).await.starts_with("422 /problems/invalid-request: `uid`"), "{uid:?}");
    }
    assert!(pin(&at, "").await.starts_with("422 /problems/invalid-request: `` is not a host"));
}
