//! Errors of the admin API as problem documents (RFC 9457).

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use roadstead_api::{PROBLEM_JSON, Problem};

use crate::guard::decide::Refused;

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

    pub(super) fn refused(refused: &Refused) -> Self {
        let (status, kind) = match refused {
            Refused::NoHold(_) => (StatusCode::NOT_FOUND, "/problems/no-such-hold"),
            Refused::NoOverride(_) => (StatusCode::NOT_FOUND, "/problems/no-such-override"),
            Refused::NoCluster(_) => (StatusCode::NOT_FOUND, "/problems/no-such-cluster"),
            Refused::NoPool(_) => (StatusCode::NOT_FOUND, "/problems/no-such-pool"),
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
