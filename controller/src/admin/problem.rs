//! Errors of the admin API as problem documents (RFC 9457).

use std::fmt;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use roadstead_api::{LAST_BACKEND_HOSTS_SHOWN_MAX, PROBLEM_JSON, Problem};
use roadstead_routing::id::{ClusterId, HostKey, PoolName};
use roadstead_routing::membership::Lifecycle;

use super::reach::Purpose;
use crate::guard::decide::{self, Refused};
use crate::store::StoreError;

/// Clusters that a problem names.
const CLUSTERS_SHOWN_MAX: usize = 10;

/// What a request is answered with if it cannot be done.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    detail: String,
}

impl Failure {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into() }
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "send the header `Authorization: Bearer TOKEN` with the content of --api-token-file";
        Self::new(StatusCode::UNAUTHORIZED, "about:blank", detail)
    }

    pub(super) fn no_such_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "about:blank", "this API has no such path")
    }

    pub(super) fn no_such_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "about:blank", "this path knows no such method")
    }

    pub(super) fn not_ready() -> Self {
        let detail = "the world is not loaded yet, or the controller is stopping; see /readyz";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "/problems/not-ready", detail)
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "/problems/invalid-request", detail)
    }

    pub(super) fn store(purpose: Purpose, error: &StoreError) -> Self {
        let what = match purpose {
            Purpose::Change => "policy changes are refused",
            Purpose::History => "earlier versions cannot be read",
        };
        match error {
            StoreError::Unavailable(reason) => {
                let detail = format!("{what} while the database is away: {reason}; try again when it is back");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "/problems/store-away", detail)
            }
            StoreError::Rejected(_) => Self::invalid(error.to_string()),
            StoreError::Corrupt(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "/problems/store-unreadable", error.to_string())
            }
        }
    }

    pub(super) fn no_cluster(cluster: &ClusterId) -> Self {
        let detail = format!("no cluster {cluster} ever reported; see `roadstead clusters`");
        Self::new(StatusCode::NOT_FOUND, "/problems/no-such-cluster", detail)
    }

    pub(super) fn lifecycle_order(cluster: &ClusterId, from: Lifecycle, followers: &[Lifecycle]) -> Self {
        let others: Vec<&str> = followers.iter().filter(|to| **to != from).map(|to| to.as_str()).collect();
        let detail = format!("cluster {cluster} is {from}; what may follow is {}", others.join(" or "));
        Self::new(StatusCode::CONFLICT, "/problems/lifecycle-order", detail)
    }

    pub(super) fn last_backend(cluster: &ClusterId, hosts: &[(PoolName, HostKey)]) -> Self {
        let named = hosts.iter().map(|(pool, host)| format!("{host} in pool {pool}"));
        let detail = format!(
            "only cluster {cluster} serves {}, left without any backend by this: {}; let another cluster serve them \
             first, or do it anyway with --force",
            count(hosts.len(), "host"),
            some_of(named, LAST_BACKEND_HOSTS_SHOWN_MAX)
        );
        Self::new(StatusCode::CONFLICT, "/problems/last-backend", detail)
    }

    pub(super) fn not_settled(clusters: &[String]) -> Self {
        let detail = format!(
            "{} not reported everything yet: {}; wait for that, or go on with --force: edges then keep what they have \
             of such a cluster until it has reported",
            if clusters.len() == 1 { "1 cluster has".to_owned() } else { format!("{} clusters have", clusters.len()) },
            some_of(clusters.iter().cloned(), CLUSTERS_SHOWN_MAX)
        );
        Self::new(StatusCode::CONFLICT, "/problems/not-settled", detail)
    }

    pub(super) fn no_revision(pool: &PoolName, host: &HostKey, revision: i64) -> Self {
        let detail = format!(
            "{host} has no revision {revision} in pool {pool}, or was gone in it; see `roadstead history {host} --pool {pool}`"
        );
        Self::new(StatusCode::NOT_FOUND, "/problems/no-such-revision", detail)
    }

    pub(super) fn refused(refused: &Refused) -> Self {
        let (status, kind) = match refused {
            Refused::NoHold(_) => (StatusCode::NOT_FOUND, "/problems/no-such-hold"),
            Refused::NoOverride(_) => (StatusCode::NOT_FOUND, "/problems/no-such-override"),
            Refused::NoCluster(_) => (StatusCode::NOT_FOUND, "/problems/no-such-cluster"),
            Refused::NoPool(_) => (StatusCode::NOT_FOUND, "/problems/no-such-pool"),
            Refused::NoCanary(_) => (StatusCode::NOT_FOUND, "/problems/no-such-canary"),
            Refused::Unreadable { .. } => (StatusCode::CONFLICT, "/problems/unreadable-revision"),
            Refused::Duration | Refused::Text(_) => (StatusCode::UNPROCESSABLE_ENTITY, "/problems/invalid-request"),
            Refused::TooMany => (StatusCode::CONFLICT, "/problems/too-many-overrides"),
        };
        Self::new(status, kind, refused.to_string())
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), "/problems/invalid-request", rejection.body_text())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "/problems/invalid-request", rejection.body_text())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.kind, self.detail)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: self.kind.to_owned(),
            title: self.status.canonical_reason().unwrap_or_default().to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let mut response = (self.status, Json(problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What a person says about themselves or their reasons, as the guard wants it.
pub(super) fn text(field: &'static str, text: String) -> Result<String, Failure> {
    decide::text(field, text).map_err(|refused| Failure::refused(&refused))
}

/// The first of them, and how many more there are.
fn some_of(names: impl ExactSizeIterator<Item = String>, shown: usize) -> String {
    let more = names.len().saturating_sub(shown);
    let mut text = names.take(shown).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lonely_hosts_are_named_up_to_a_limit_and_counted() {
        let hosts = |count: usize| -> Vec<(PoolName, HostKey)> {
            (0..count).map(|it| ("public".into(), HostKey::Exact(format!("h{it:02}").into()))).collect()
        };
        let one = Failure::last_backend(&"eu".into(), &hosts(1)).to_string();
        assert!(one.starts_with("409 /problems/last-backend: only cluster eu serves 1 host,"), "{one}");
        assert!(one.contains("h00 in pool public;") && one.contains("--force"), "{one}");
        let many = Failure::last_backend(&"eu".into(), &hosts(12)).to_string();
        assert!(many.contains("12 hosts") && many.contains("h09 in pool public and 2 more"), "{many}");
        assert!(!many.contains("h10"), "{many}");
    }

    #[test]
    fn the_order_of_a_life_says_what_may_follow() {
        let followers = [Lifecycle::Active, Lifecycle::Draining];
        let text = Failure::lifecycle_order(&"eu".into(), Lifecycle::Active, &followers).to_string();
        assert_eq!(text, "409 /problems/lifecycle-order: cluster eu is active; what may follow is draining");
    }

    #[test]
    fn a_database_that_is_away_refuses_changes_as_such() {
        let away = StoreError::Unavailable("connection refused".to_owned());
        let change = Failure::store(Purpose::Change, &away).to_string();
        assert!(
            change.starts_with(
                "503 /problems/store-away: policy changes are refused while the database is away: connection refused"
            ),
            "{change}"
        );
        let history = Failure::store(Purpose::History, &away).to_string();
        assert!(history.contains("earlier versions cannot be read while the database is away"), "{history}");
        let rejected = Failure::store(Purpose::Change, &StoreError::Rejected("NUL".to_owned())).to_string();
        assert!(rejected.starts_with("422 "), "{rejected}");
    }
}
