//! One HTTP request: from method, path, query and headers to an operation on the cluster, and its answer.
//!
//! In: a hyper request. Out: a response with JSON, a watch stream, or an error that makes hyper close the connection (the
//! outage switch). No rule about objects lives here.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};

use super::apply::OnConflict;
use super::cluster::Cluster;
use super::failure::Failure;
use super::kind::{self, Kind};
use super::list::ListRequest;
use super::query::{Plus, Query, decode};
use super::render::Shape;
use super::watch::Watch;
use super::write::{Checks, Effect, Part, Patch, Preconditions, WriteOptions, Writer};
use super::{control, discovery};

/// Largest request body, as in kube-apiserver.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Answer body: JSON in one piece, or a watch.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the outage switch is on")]
pub(crate) struct Outage;

/// What the path and query of an object request name.
#[derive(Debug)]
struct Target {
    kind: &'static Kind,
    namespace: Option<String>,
    name: Option<String>,
    part: Part,
}

/// One request with its body read.
struct Call {
    cluster: Arc<Cluster>,
    method: Method,
    headers: HeaderMap,
    query: Query,
    body: Bytes,
}

/// Answers one request.
pub(crate) async fn serve(
    cluster: Arc<Cluster>,
    address: String,
    request: Request<Incoming>,
) -> Result<Response<Body>, Outage> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let is_control = path.starts_with("/__");
    if !is_control && cluster.faults(|faults| faults.outage) {
        return Err(Outage);
    }
    let segments: Vec<String> =
        path.split('/').filter(|segment| !segment.is_empty()).map(|segment| decode(segment, Plus::IsPlus)).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let query = Query::parse(head.uri.query().unwrap_or_default());
    if let Some(health) = health(&segments) {
        return Ok(health);
    }
    let accept = head.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some((value, content_type)) = discovery::answer(&segments, accept, &address) {
        return Ok(respond(200, content_type, &value));
    }
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        let message = format!("limit is {BODY_BYTES_MAX} bytes");
        return Ok(refuse(&Failure::new(413, "RequestEntityTooLarge", message)));
    };
    let body = body.to_bytes();
    if is_control {
        return Ok(control::answer(&cluster, &head.method, &segments, &body).map_or_else(|f| refuse(&f), |v| ok(&v)));
    }
    let call = Call { cluster, method: head.method, headers: head.headers, query, body };
    Ok(match Target::parse(&segments) {
        Ok(target) => call.run(target).await.unwrap_or_else(|failure| refuse(&failure)),
        Err(failure) => refuse(&failure),
    })
}

impl Target {
    fn parse(segments: &[&str]) -> Result<Self, Failure> {
        let (group, version, rest) = match segments {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(Failure::unknown_path()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, resource, rest @ ..] if !matches!(*resource, "status" | "finalize") => {
                (Some((*namespace).to_owned()), [&[*resource], rest].concat())
            }
            rest => (None, rest.to_vec()),
        };
        let (resource, name, part) = match rest.as_slice() {
            [resource] => (resource, None, Part::Main),
            [resource, name] => (resource, Some((*name).to_owned()), Part::Main),
            [resource, name, "status"] => (resource, Some((*name).to_owned()), Part::Status),
            _ => return Err(Failure::unknown_path()),
        };
        let kind = kind::find(group, version, resource).ok_or_else(Failure::unknown_path)?;
        let has_wrong_scope = namespace.is_some() != kind.is_namespaced() && (name.is_some() || namespace.is_some());
        if has_wrong_scope || (part == Part::Status && !kind.has_status()) {
            return Err(Failure::unknown_path());
        }
        Ok(Self { kind, namespace, name, part })
    }

    fn key(&self) -> (String, String) {
        (self.namespace.clone().unwrap_or_default(), self.name.clone().unwrap_or_default())
    }
}

impl Call {
    async fn run(self, target: Target) -> Result<Response<Body>, Failure> {
        let delay_ms = self.cluster.faults(|faults| faults.delay_ms(target.kind));
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        self.cluster.faults(|faults| faults.check(target.kind))?;
        let shape = Shape::parse(self.header(header::ACCEPT), &self.query);
        match (self.method.as_str(), target.name.is_some()) {
            ("GET", false) if self.query.is_true("watch") => self.watch(target, shape),
            ("GET", false) => self.list(&target, shape),
            ("GET", true) => self.get(&target, shape),
            ("POST", false) if target.namespace.is_some() == target.kind.is_namespaced() => self.create(&target, shape),
            ("PUT", true) => self.replace(&target, shape),
            ("PATCH", true) => self.patch(&target, shape),
            ("DELETE", true) => self.delete(&target),
            ("DELETE", false) => self.delete_collection(&target, shape),
            _ => Err(Failure::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    fn get(&self, target: &Target, shape: Shape) -> Result<Response<Body>, Failure> {
        let key = target.key();
        let found = self.cluster.read(|store| store.get(target.kind.resource, &key).cloned());
        let object = found.ok_or_else(|| Failure::not_found(target.kind, &key.1))?;
        Ok(ok(&shape.object(target.kind, &object)))
    }

    fn list(&self, target: &Target, shape: Shape) -> Result<Response<Body>, Failure> {
        if self.query.get("sendInitialEvents").is_some() {
            return Err(Failure::new(
                422,
                "Invalid",
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ));
        }
        let request = ListRequest::parse(target.kind, target.namespace.clone(), &self.query)?;
        let faults = self.cluster.faults(|faults| faults.clone());
        let page = self.cluster.read(|store| request.run(target.kind, store, &faults))?;
        Ok(ok(&shape.list(target.kind, &page)))
    }

    fn watch(self, target: Target, shape: Shape) -> Result<Response<Body>, Failure> {
        let watch = Watch::start(self.cluster, target.kind, target.namespace, &self.query, shape)?;
        let chunks = futures::stream::unfold(watch, Watch::next).map(|chunk| chunk.map(Frame::data));
        let body = StreamBody::new(chunks).boxed_unsync();
        Ok(with_type(Response::new(body), 200, "application/json"))
    }

    fn create(&self, target: &Target, shape: Shape) -> Result<Response<Body>, Failure> {
        let object = self.object()?;
        let namespace = target.namespace.clone().unwrap_or_default();
        let created = self.write(target, |writer| writer.create(&namespace, object))?;
        Ok(respond(201, "application/json", &shape.object(target.kind, &created)))
    }

    fn replace(&self, target: &Target, shape: Shape) -> Result<Response<Body>, Failure> {
        let object = self.object()?;
        let stored = self.write(target, |writer| writer.replace(&target.key(), object))?;
        Ok(ok(&shape.object(target.kind, &stored)))
    }

    fn patch(&self, target: &Target, shape: Shape) -> Result<Response<Body>, Failure> {
        let document = self.object()?;
        let patch = match self.content_type() {
            "application/json-patch+json" => Patch::Json(document),
            "application/merge-patch+json" => Patch::Merge(document),
            "application/strategic-merge-patch+json" => Patch::Strategic(document),
            "application/apply-patch+yaml" => Patch::Apply(document),
            other => return Err(unsupported(other)),
        };
        let written = self.write(target, |writer| writer.patch(&target.key(), patch))?;
        let code = if written.is_new { 201 } else { 200 };
        Ok(respond(code, "application/json", &shape.object(target.kind, &written.object)))
    }

    fn delete(&self, target: &Target) -> Result<Response<Body>, Failure> {
        let options = if self.body.is_empty() { json!({}) } else { self.object()? };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let wanted = &options["preconditions"];
        let wanted = Preconditions { uid: text(&wanted["uid"]), resource_version: text(&wanted["resourceVersion"]) };
        let last = self.write(target, |writer| writer.delete(&target.key(), &wanted))?;
        if !last["metadata"]["deletionTimestamp"].is_null() {
            return Ok(ok(&Shape::Full.object(target.kind, &last)));
        }
        let details = json!({
            "name": last["metadata"]["name"], "group": target.kind.group, "kind": target.kind.resource,
            "uid": last["metadata"]["uid"],
        });
        Ok(ok(&json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})))
    }

    fn delete_collection(&self, target: &Target, shape: Shape) -> Result<Response<Body>, Failure> {
        let request = ListRequest::parse(target.kind, target.namespace.clone(), &self.query)?;
        let page =
            self.cluster.read(|store| request.run(target.kind, store, &super::faults::FaultSettings::default()))?;
        for object in &page.items {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let key = (text("namespace"), text("name"));
            self.write(target, |writer| writer.delete(&key, &Preconditions::default()))?;
        }
        Ok(ok(&shape.list(target.kind, &page)))
    }

    fn write<T>(
        &self,
        target: &Target,
        change: impl FnOnce(&mut Writer<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let accepts_invalid = self.cluster.faults(|faults| faults.accept_invalid);
        let agent = self.header(header::USER_AGENT).split('/').next().unwrap_or_default();
        let is_apply = self.content_type() == "application/apply-patch+yaml";
        let manager = self.query.get("fieldManager").unwrap_or(if is_apply { "" } else { agent });
        let options = WriteOptions {
            manager: manager.to_owned(),
            part: target.part,
            effect: if self.query.get("dryRun").is_some() { Effect::DryRun } else { Effect::Keep },
            checks: if accepts_invalid { Checks::None } else { Checks::Full },
            on_conflict: if self.query.is_true("force") { OnConflict::Force } else { OnConflict::Refuse },
        };
        self.cluster.write(|store| change(&mut Writer { store, kind: target.kind, options: &options }))
    }

    fn object(&self) -> Result<Value, Failure> {
        let content_type = self.content_type();
        if content_type.contains("yaml") {
            let text = str::from_utf8(&self.body).map_err(|_| Failure::bad_request("the body is not UTF-8"))?;
            return serde_saphyr::from_str(text)
                .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")));
        }
        if !content_type.is_empty() && !content_type.contains("json") {
            return Err(unsupported(content_type));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::bad_request(format!("error decoding JSON: {error}")))
    }

    fn content_type(&self) -> &str {
        self.header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim()
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

fn unsupported(content_type: &str) -> Failure {
    let message =
        format!("the body of the request was in an unknown format ({content_type}); only JSON and YAML are served");
    Failure::new(415, "UnsupportedMediaType", message)
}

fn health(segments: &[&str]) -> Option<Response<Body>> {
    matches!(segments, ["livez" | "readyz" | "healthz", ..])
        .then(|| with_type(Response::new(full(Bytes::from_static(b"ok"))), 200, "text/plain; charset=utf-8"))
}

fn ok(value: &Value) -> Response<Body> {
    respond(200, "application/json", value)
}

fn refuse(failure: &Failure) -> Response<Body> {
    let mut response = respond(failure.code, "application/json", &failure.to_status());
    if let Some(seconds) = failure.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn respond(code: u16, content_type: &'static str, value: &Value) -> Response<Body> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    with_type(Response::new(full(Bytes::from(bytes))), code, content_type)
}

fn with_type(mut response: Response<Body>, code: u16, content_type: &'static str) -> Response<Body> {
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}
