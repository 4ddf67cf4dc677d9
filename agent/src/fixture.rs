//! Small objects of one namespace for tests, and a controller that keeps what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use roadstead_manifests::{Converted, Problem};
use roadstead_proto::digest::{BucketHashes, Digest, bucket_of};
use roadstead_proto::object::key_text;
use roadstead_proto::{finding, wire};
use roadstead_routing::finding::{Code, Severity};
use roadstead_routing::id::{Kind, ObjectKey, ObjectName, PortRef};
use roadstead_routing::object::{
    AddressType, EndpointSlice, Hidden, Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, IngressTls,
    Meta, Node, Object, PathType, Secret, SecretContent, Service, ServiceType, SliceEndpoint,
};
use roadstead_routing::policy::CONTROLLER_NAME;
use wire::agent_message::Message as ToController;
use wire::controller_message::Message as FromController;

use crate::reduce::{Change, Observation, Reducer, Sighting, Unreadable};
use crate::status::StatusSeen;

pub(crate) const NAMESPACE: &str = "shop";

pub(crate) fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::new(kind, if kind.is_cluster_scoped() { "" } else { NAMESPACE }, name)
}

fn meta(kind: Kind, name: &str) -> Meta {
    Meta { uid: format!("uid-{kind}-{name}").into(), ..Meta::default() }
}

pub(crate) fn class(name: &str, controller: &str) -> Object {
    let meta = meta(Kind::IngressClass, name);
    Object::IngressClass(Arc::new(IngressClass {
        name: name.into(),
        meta,
        controller: controller.into(),
        parameters: None,
    }))
}

pub(crate) fn our_class() -> Object {
    class("roadstead", CONTROLLER_NAME)
}

pub(crate) fn ingress(name: &str, class: Option<&str>, services: &[&str]) -> Object {
    let path = |service: &&str| IngressPath {
        path: format!("/{service}").into(),
        path_type: PathType::Prefix,
        backend: IngressBackend::Service { name: (*service).into(), port: Some(PortRef::Number(80)) },
    };
    Object::Ingress(Arc::new(Ingress {
        name: ObjectName::new(NAMESPACE, name),
        meta: meta(Kind::Ingress, name),
        class_name: class.map(Into::into),
        rules: vec![IngressRule {
            host: format!("{name}.example.com").into(),
            paths: Some(services.iter().map(path).collect()),
        }],
        ..Ingress::default()
    }))
}

pub(crate) fn service(name: &str) -> Object {
    Object::Service(Arc::new(Service {
        name: ObjectName::new(NAMESPACE, name),
        meta: meta(Kind::Service, name),
        ports: Vec::new(),
        ..Service::default()
    }))
}

/// The Service, as one that may be the cluster's gateway.
pub(crate) fn load_balancer(name: &str) -> Object {
    let Object::Service(plain) = service(name) else { unreachable!("a Service") };
    Object::Service(Arc::new(Service { service_type: ServiceType::LoadBalancer, ..Service::clone(&plain) }))
}

pub(crate) fn node(name: &str, is_ready: bool) -> Object {
    Object::Node(Arc::new(Node { name: name.into(), is_ready, ..Node::default() }))
}

pub(crate) fn secret(name: &str) -> Object {
    Object::Secret(Arc::new(Secret {
        name: ObjectName::new(NAMESPACE, name),
        meta: meta(Kind::Secret, name),
        content: SecretContent::Values([("auth".into(), Hidden(name.as_bytes().into()))].into()),
    }))
}

/// The Ingress, with this Secret in its `tls`.
pub(crate) fn showing(ingress: &Object, secret: &str) -> Object {
    let Object::Ingress(ingress) = ingress else { panic!("an Ingress") };
    let tls = vec![IngressTls { hosts: Vec::new(), secret_name: secret.into() }];
    Object::Ingress(Arc::new(Ingress { tls, ..(**ingress).clone() }))
}

/// `last`: of the one endpoint's address.
pub(crate) fn slice(name: &str, service: &str, last: u8) -> Object {
    Object::EndpointSlice(Arc::new(EndpointSlice {
        name: ObjectName::new(NAMESPACE, name),
        meta: meta(Kind::EndpointSlice, name),
        service: service.into(),
        address_type: AddressType::Ipv4,
        ports: Vec::new(),
        endpoints: vec![SliceEndpoint {
            address: [10, 0, 0, last].into(),
            ready: None,
            serving: None,
            terminating: None,
            zone: None,
            node: None,
            for_zones: Vec::new(),
        }],
    }))
}

pub(crate) fn with_meta(object: &Object, change: impl Fn(&mut Meta)) -> Object {
    let mut object = object.clone();
    match &mut object {
        Object::IngressClass(class) => change(&mut Arc::make_mut(class).meta),
        Object::Ingress(ingress) => change(&mut Arc::make_mut(ingress).meta),
        Object::Service(service) => change(&mut Arc::make_mut(service).meta),
        Object::Node(node) => change(&mut Arc::make_mut(node).meta),
        Object::EndpointSlice(slice) => change(&mut Arc::make_mut(slice).meta),
        Object::Secret(secret) => change(&mut Arc::make_mut(secret).meta),
    }
    object
}

pub(crate) fn seen(object: &Object) -> Observation {
    seen_with(object, StatusSeen::default())
}

pub(crate) fn seen_with(object: &Object, status: StatusSeen) -> Observation {
    let status = matches!(object, Object::Ingress(_)).then_some(status);
    let converted = Converted { object: object.clone(), problems: Vec::new() };
    Observation::Seen(Box::new(Sighting { converted, status }))
}

pub(crate) fn unreadable(key: Option<ObjectKey>) -> Observation {
    let problem = Problem {
        object: key,
        code: Code::MalformedObject,
        severity: Severity::Error,
        message: "cannot be read".to_owned(),
        remedy: String::new(),
    };
    Observation::Unreadable(Unreadable { problem, uid: "uid-unreadable".to_owned() })
}

pub(crate) fn failed() -> Observation {
    Observation::Failed(crate::reduce::ListFailure { message: "403".to_owned(), remedy: "grant it".to_owned() })
}

/// Lists `objects`, each kind completely and, as agents do, all at the same time.
pub(crate) fn list_all(reducer: &mut Reducer, objects: &[Object]) {
    for kind in Kind::ALL {
        reducer.apply(kind, Observation::ListStarted);
    }
    for kind in Kind::ALL {
        finish_list(reducer, kind, objects);
    }
}

pub(crate) fn list(reducer: &mut Reducer, kind: Kind, objects: &[Object]) -> Vec<Change> {
    reducer.apply(kind, Observation::ListStarted);
    finish_list(reducer, kind, objects)
}

pub(crate) fn finish_list(reducer: &mut Reducer, kind: Kind, objects: &[Object]) -> Vec<Change> {
    let mut changes = Vec::new();
    for object in objects.iter().filter(|object| object.key().kind == kind) {
        changes.extend(reducer.apply(kind, seen(object)).changes);
    }
    changes.extend(reducer.apply(kind, Observation::Listed).changes);
    changes
}

/// Every watch says that it is live.
pub(crate) fn bookmarks(reducer: &mut Reducer) -> Vec<Change> {
    Kind::ALL.into_iter().flat_map(|kind| reducer.apply(kind, Observation::Bookmark).changes).collect()
}

/// A controller that believes everything, and holds inferred removals back until their kind's SyncComplete.
#[derive(Default)]
pub(crate) struct ModelController {
    pub(crate) objects: BTreeMap<ObjectKey, (Digest, wire::Object)>,
    held_back: Vec<ObjectKey>,
    pub(crate) completes: Vec<(Kind, u64)>,
    pub(crate) upserts: Vec<ObjectKey>,
    pub(crate) removals: Vec<(ObjectKey, wire::RemovalCause)>,
    pub(crate) last_seq: u64,
    pub(crate) largest: usize,
}

impl ModelController {
    pub(crate) fn welcome(&mut self, classes: &[&str]) -> wire::ControllerMessage {
        self.held_back.clear();
        let mut known = BucketHashes::default();
        for (key, (digest, _)) in &self.objects {
            known.toggle(&key_text(key), digest);
        }
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        reply(FromController::Welcome(wire::Welcome {
            world: Some(wire::World { id: vec![1; 16], incarnation: 1, adopted: Vec::new() }),
            epoch: 1,
            known: known.to_bytes(),
            policy: Some(wire::AgentPolicy { classes, ..wire::AgentPolicy::default() }),
            ..wire::Welcome::default()
        }))
    }

    pub(crate) fn ack(&self) -> wire::ControllerMessage {
        reply(FromController::Ack(wire::Ack { seq: self.last_seq }))
    }

    /// Takes a message; returns the answer, if it has one.
    pub(crate) fn take(&mut self, message: wire::AgentMessage) -> Option<wire::ControllerMessage> {
        self.largest = self.largest.max(prost::Message::encoded_len(&message));
        match message.message? {
            ToController::BucketRequest(request) => return Some(self.contents(&request)),
            ToController::Delta(delta) => self.apply(delta),
            ToController::SyncComplete(complete) => {
                let kind = Kind::from_number(complete.kind).unwrap();
                self.completes.push((kind, complete.count));
                let held_back = std::mem::take(&mut self.held_back);
                let (now, later) = held_back.into_iter().partition(|key| key.kind == kind);
                self.held_back = later;
                let now: Vec<ObjectKey> = now;
                now.iter().for_each(|key| drop(self.objects.remove(key)));
            }
            ToController::Hello(_) | ToController::Heartbeat(_) | ToController::Findings(_) => {}
        }
        None
    }

    fn apply(&mut self, delta: wire::Delta) {
        assert_eq!(delta.seq, self.last_seq + 1, "Deltas are numbered without gaps");
        self.last_seq = delta.seq;
        for upsert in delta.upserts {
            let wire_object = upsert.object.unwrap();
            let key = roadstead_proto::object::from_wire(wire_object.clone()).unwrap().key();
            self.held_back.retain(|held| *held != key);
            self.upserts.push(key.clone());
            self.objects.insert(key, (Digest::from_slice(&upsert.digest).unwrap(), wire_object));
        }
        for removal in delta.removals {
            let key = finding::key_from_wire(removal.object.as_ref().unwrap()).unwrap();
            self.removals.push((key.clone(), removal.cause()));
            match removal.cause() {
                wire::RemovalCause::Inferred => self.held_back.push(key),
                _ => drop(self.objects.remove(&key)),
            }
        }
    }

    fn contents(&self, request: &wire::BucketRequest) -> wire::ControllerMessage {
        let bucket = |index: &u32| wire::Bucket {
            index: *index,
            held: self
                .objects
                .iter()
                .map(|(key, (digest, _))| wire::Held {
                    key: key_text(key),
                    digest: digest.to_vec(),
                    clusters: Vec::new(),
                })
                .filter(|held| bucket_of(&held.key) as u32 == *index)
                .collect(),
        };
        let (buckets, number) = (request.buckets.iter().map(bucket).collect(), request.number);
        reply(FromController::BucketContents(wire::BucketContents { buckets, last: true, position: None, number }))
    }

    /// A new stream: numbering starts over, what was held back is asked for again.
    pub(crate) fn new_stream(&mut self) {
        self.last_seq = 0;
        self.held_back.clear();
    }
}

pub(crate) fn reply(message: FromController) -> wire::ControllerMessage {
    wire::ControllerMessage { message: Some(message) }
}
