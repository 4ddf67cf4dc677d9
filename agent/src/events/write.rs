//! Creates Events in the Kubernetes API.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use roadstead_routing::finding::Severity;
use roadstead_routing::id::Kind;

use super::Notice;

const REPORTING_CONTROLLER: &str = "roadstead.dev/agent";
/// What the Event is about, in the words of the API: the action that was taken or failed.
const ACTION: &str = "Route";
/// Where Events about objects without a namespace belong.
const DEFAULT_NAMESPACE: &str = "default";

/// Creates one Event as `instance`. One that exists already is as good.
///
/// # Errors
/// Whatever the API answers.
pub async fn write(client: &Client, instance: &str, notice: Notice) -> Result<(), kube::Error> {
    let event = event(instance, notice, Timestamp::now());
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    match api.create(&PostParams::default(), &event).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

fn event(instance: &str, notice: Notice, now: Timestamp) -> Event {
    let Notice { object, uid, name, reason, note, severity } = notice;
    let namespace = if object.name.namespace.is_empty() { DEFAULT_NAMESPACE } else { &object.name.namespace };
    let event_type = match severity {
        Severity::Info => "Normal",
        Severity::Warning | Severity::Error => "Warning",
    };
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
        event_time: Some(MicroTime(now)),
        type_: Some(event_type.to_owned()),
        reason: Some(reason.to_owned()),
        note: Some(note),
        action: Some(ACTION.to_owned()),
        reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(api_version(object.kind).to_owned()),
            kind: Some(object.kind.to_string()),
            name: Some(object.name.name.to_string()),
            namespace: Some(object.name.namespace.to_string()).filter(|namespace| !namespace.is_empty()),
            uid: Some(uid),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

fn api_version(kind: Kind) -> &'static str {
    match kind {
        Kind::IngressClass | Kind::Ingress => "networking.k8s.io/v1",
        Kind::Service | Kind::Node | Kind::Secret => "v1",
        Kind::EndpointSlice => "discovery.k8s.io/v1",
    }
}
