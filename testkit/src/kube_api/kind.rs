//! The table of resource kinds that the simulated API server offers.
//!
//! In: a group and resource from a URL, or apiVersion and kind from an object. Out: the one static [`Kind`].
//! Nothing here knows about stored objects; a kind with special rules is named where the rule is applied.

use serde_json::Value;

/// How a kind counts `metadata.generation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind has no generation.
    None,
    /// The generation grows when `spec` changes.
    Spec,
    /// The generation grows when anything but metadata changes (EndpointSlice has no spec).
    Content,
}

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In a namespace.
    Namespaced,
    /// In the cluster.
    Cluster,
}

/// Whether a kind has a `/status` subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusPart {
    /// `status` can only be written through `/status`.
    Subresource,
    /// The kind has no status.
    Absent,
}

/// One resource kind: how it is named and which general rules it follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// API group; empty for the core group.
    pub(crate) group: &'static str,
    /// API version within the group.
    pub(crate) version: &'static str,
    /// Plural name as in URLs. Also the key of the stored table: both event groups share `events`.
    pub(crate) resource: &'static str,
    /// Singular name as in kubectl arguments.
    pub(crate) singular: &'static str,
    /// Kind as in objects.
    pub(crate) kind: &'static str,
    /// Short names as in kubectl arguments.
    pub(crate) short_names: &'static [&'static str],
    /// Where objects live.
    pub(crate) scope: Scope,
    /// Whether `/status` exists.
    pub(crate) status: StatusPart,
    /// How the generation is counted.
    pub(crate) generation: Generation,
}

const CORE: Kind = Kind {
    group: "",
    version: "v1",
    resource: "",
    singular: "",
    kind: "",
    short_names: &[],
    scope: Scope::Namespaced,
    status: StatusPart::Absent,
    generation: Generation::None,
};

/// All kinds, in discovery order.
pub(crate) static KINDS: [Kind; 11] = [
    Kind {
        resource: "namespaces",
        singular: "namespace",
        kind: "Namespace",
        short_names: &["ns"],
        scope: Scope::Cluster,
        status: StatusPart::Subresource,
        ..CORE
    },
    Kind {
        resource: "services",
        singular: "service",
        kind: "Service",
        short_names: &["svc"],
        status: StatusPart::Subresource,
        ..CORE
    },
    Kind { resource: "secrets", singular: "secret", kind: "Secret", ..CORE },
    Kind { resource: "configmaps", singular: "configmap", kind: "ConfigMap", short_names: &["cm"], ..CORE },
    Kind {
        resource: "nodes",
        singular: "node",
        kind: "Node",
        short_names: &["no"],
        scope: Scope::Cluster,
        status: StatusPart::Subresource,
        ..CORE
    },
    Kind {
        resource: "pods",
        singular: "pod",
        kind: "Pod",
        short_names: &["po"],
        status: StatusPart::Subresource,
        ..CORE
    },
    Kind { resource: "events", singular: "event", kind: "Event", short_names: &["ev"], ..CORE },
    Kind {
        group: "networking.k8s.io",
        resource: "ingresses",
        singular: "ingress",
        kind: "Ingress",
        short_names: &["ing"],
        status: StatusPart::Subresource,
        generation: Generation::Spec,
        ..CORE
    },
    Kind {
        group: "networking.k8s.io",
        resource: "ingressclasses",
        singular: "ingressclass",
        kind: "IngressClass",
        scope: Scope::Cluster,
        generation: Generation::Spec,
        ..CORE
    },
    Kind {
        group: "discovery.k8s.io",
        resource: "endpointslices",
        singular: "endpointslice",
        kind: "EndpointSlice",
        generation: Generation::Content,
        ..CORE
    },
    Kind { group: "events.k8s.io", resource: "events", singular: "event", kind: "Event", short_names: &["ev"], ..CORE },
];

/// The kind served under `/apis/GROUP/VERSION/RESOURCE` (the core group is the empty string).
pub(crate) fn find(group: &str, version: &str, resource: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.version == version && kind.resource == resource)
}

/// The kind of an object, from its `apiVersion` and `kind`.
pub(crate) fn of_object(object: &Value) -> Option<&'static Kind> {
    let (api_version, name) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    KINDS.iter().find(|kind| kind.kind == name && kind.api_version() == api_version)
}

/// The kind that owns the stored table `resource`.
pub(crate) fn of_resource(resource: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.resource == resource)
}

/// The groups other than core, each once, in discovery order. All have only version v1.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&'static str> = Vec::new();
    for kind in &KINDS {
        if !kind.group.is_empty() && !groups.contains(&kind.group) {
            groups.push(kind.group);
        }
    }
    groups
}

impl Kind {
    /// `v1` or `group/v1`, as in the field `apiVersion`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `ingresses.networking.k8s.io`, as in error messages.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.to_owned() } else { format!("{}.{}", self.resource, self.group) }
    }

    /// Whether objects of this kind live in a namespace.
    pub(crate) fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether `/status` exists.
    pub(crate) fn has_status(&self) -> bool {
        self.status == StatusPart::Subresource
    }
}
