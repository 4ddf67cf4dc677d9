//! Where an API server has the objects of each kind.

use roadstead_routing::id::Kind;

/// One kind's place in the API.
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub plural: &'static str,
    /// Of its list over all namespaces.
    pub path: &'static str,
    /// The field selector to ask with; empty: none. Helm keeps every release of every chart in a Secret, and those are
    /// many and large.
    pub fields: &'static str,
}

/// Where `kind` is.
pub fn resource(kind: Kind) -> Resource {
    let fields = if kind == Kind::Secret { "type!=helm.sh/release.v1" } else { "" };
    let (group, plural, path) = match kind {
        Kind::IngressClass => ("networking.k8s.io", "ingressclasses", "/apis/networking.k8s.io/v1/ingressclasses"),
        Kind::Ingress => ("networking.k8s.io", "ingresses", "/apis/networking.k8s.io/v1/ingresses"),
        Kind::Service => ("", "services", "/api/v1/services"),
        Kind::Secret => ("", "secrets", "/api/v1/secrets"),
        Kind::Node => ("", "nodes", "/api/v1/nodes"),
        Kind::EndpointSlice => ("discovery.k8s.io", "endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    };
    Resource { group, plural, path, fields }
}
