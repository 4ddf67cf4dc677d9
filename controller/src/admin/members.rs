//! Steps in a cluster's life that a person asks for: a request → whether somebody would be left alone → the store.
//!
//! The core learns of it as of everything that others write, so all replicas take the step at the same time.

use axum::Json;
use axum::extract::{Path, State};
use roadstead_api as api;
use roadstead_routing::id::ClusterId;
use roadstead_routing::membership::{Lifecycle, Membership};

use super::problem::{Failure, text};
use super::reach::{Controller, Core, Purpose, stored};
use super::{Body, present};
use crate::clerk;
use crate::serve::core_task::Command;
use crate::store::{LifecycleAnswer, LifecycleChange, MemberRow, Store};

pub(super) async fn change<S: Store>(
    State(at): State<Controller<S>>,
    Path(cluster): Path<String>,
    body: Body<api::ChangeLifecycle>,
) -> Result<Json<api::Member>, Failure> {
    let Json(asked) = body?;
    let cluster = ClusterId::from(cluster.as_str());
    let force = asked.force;
    let change = wish(cluster.clone(), asked)?;
    let store = at.store()?;
    if !force && change.to.is_leaving() {
        keep_last_backends(&at.core, &change).await?;
    }
    match stored(Purpose::Change, store.change_lifecycle(&change)).await? {
        LifecycleAnswer::Changed(row) => {
            let (to, by, reason) = (change.to.as_str(), &change.by, &change.reason);
            tracing::warn!(cluster.id = %cluster, to, seconds = change.seconds, by, reason, "A cluster takes a step in its life");
            Ok(Json(present::member(&cluster, &row)))
        }
        LifecycleAnswer::NoCluster => Err(Failure::no_cluster(&cluster)),
        LifecycleAnswer::NotFrom(from) => Err(Failure::lifecycle_order(&cluster, from, &followers(from))),
    }
}

pub(super) async fn readopt<S: Store>(
    State(at): State<Controller<S>>,
    Path(cluster): Path<String>,
    body: Body<api::Readopt>,
) -> Result<Json<api::Readopted>, Failure> {
    let Json(api::Readopt { uid, by }) = body?;
    let by = text("by", by)?;
    if uid.trim().is_empty() || uid.chars().count() > api::UID_CHARS_MAX || uid.contains(char::is_control) {
        let max = api::UID_CHARS_MAX;
        return Err(Failure::invalid(format!("`uid` must have 1 to {max} characters and no control characters")));
    }
    let cluster = ClusterId::from(cluster.as_str());
    if !stored(Purpose::Change, at.store()?.readopt(&cluster, &uid)).await? {
        return Err(Failure::no_cluster(&cluster));
    }
    tracing::warn!(cluster.id = %cluster, uid, by, "A cluster's identity belongs to another uid from now on");
    Ok(Json(api::Readopted { cluster: cluster.to_string(), uid }))
}

fn wish(cluster: ClusterId, asked: api::ChangeLifecycle) -> Result<LifecycleChange, Failure> {
    let api::ChangeLifecycle { to, over_seconds: seconds, force: _, by, reason } = asked;
    let to = match to {
        api::Lifecycle::Joining => Lifecycle::Joining,
        api::Lifecycle::Active => Lifecycle::Active,
        api::Lifecycle::Draining => Lifecycle::Draining,
        api::Lifecycle::Drained => Lifecycle::Drained,
        api::Lifecycle::Offline => Lifecycle::Offline,
        api::Lifecycle::Removed => Lifecycle::Removed,
    };
    if seconds > api::OVER_SECONDS_MAX {
        return Err(Failure::invalid(format!("`over_seconds` must be at most {}, a day", api::OVER_SECONDS_MAX)));
    }
    if seconds > 0 && !to.serves() {
        return Err(Failure::invalid(format!(
            "`over_seconds` means nothing for {to}: only active and draining take time"
        )));
    }
    Ok(LifecycleChange { cluster, to, seconds, by: text("by", by)?, reason: text("reason", reason)? })
}

/// Refuses what would leave hosts without any backend.
async fn keep_last_backends(core: &Core, change: &LifecycleChange) -> Result<(), Failure> {
    let report = core.report().await?;
    let known = report.clusters.iter().find(|it| it.id == change.cluster.as_str());
    let stands = known.and_then(|it| Lifecycle::parse(&it.lifecycle));
    // What may not follow anyway is for the store to refuse: no force would help.
    if !stands.is_some_and(|from| followers(from).contains(&change.to)) {
        return Ok(());
    }
    let alone = core.ask(|asked| Command::OnlyServedBy(change.cluster.clone(), asked)).await?;
    if alone.is_empty() { Ok(()) } else { Err(Failure::last_backend(&change.cluster, &alone)) }
}

/// What may follow where a cluster stands.
fn followers(from: Lifecycle) -> Vec<Lifecycle> {
    let row = MemberRow { membership: Membership { lifecycle: from, ..Membership::default() }, ..MemberRow::default() };
    let follows = |to: &Lifecycle| {
        let (cluster, by, reason) = (ClusterId::from(""), String::new(), String::new());
        let change = LifecycleChange { cluster, to: *to, seconds: 0, by, reason };
        matches!(clerk::change(&row, &change, 0), LifecycleAnswer::Changed(_))
    };
    Lifecycle::ALL.into_iter().filter(follows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(to: api::Lifecycle, over_seconds: u64) -> api::ChangeLifecycle {
        api::ChangeLifecycle { to, over_seconds, force: false, by: "me".to_owned(), reason: "x".to_owned() }
    }

    #[test]
    fn only_steps_that_serve_take_time_and_no_more_than_a_day() {
        let wish = |to, seconds| wish("eu".into(), asked(to, seconds)).map(|it| (it.to, it.seconds));
        assert_eq!(wish(api::Lifecycle::Draining, 86_400).unwrap(), (Lifecycle::Draining, 86_400));
        assert_eq!(wish(api::Lifecycle::Active, 60).unwrap(), (Lifecycle::Active, 60));
        assert!(wish(api::Lifecycle::Draining, 86_401).unwrap_err().to_string().contains("86400"));
        assert!(wish(api::Lifecycle::Offline, 60).unwrap_err().to_string().contains("offline"));
        assert!(wish(api::Lifecycle::Offline, 0).is_ok());
    }

    #[test]
    fn who_and_why_are_said() {
        for (by, reason) in [("", "x"), ("me", " "), ("me", "a\nb")] {
            let (by, reason) = (by.to_owned(), reason.to_owned());
            let asked = api::ChangeLifecycle { by, reason, ..asked(api::Lifecycle::Active, 0) };
            assert!(wish("eu".into(), asked).is_err());
        }
    }

    #[test]
    fn what_may_follow_is_what_the_store_lets_follow() {
        use Lifecycle::{Active, Drained, Draining, Offline, Removed};
        assert_eq!(followers(Active), [Active, Draining]);
        assert_eq!(followers(Drained), [Active, Offline, Removed]);
    }
}
