//! The shape of an answer, as `--json` and `--batch` print it. Stable: scripts read it.

use roadstead_routing::id::PortRef;
use serde::Serialize;

/// What a request would get.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Answer {
    /// 200 where a backend would be asked; its own status is not known here.
    pub status: u16,
    /// As it is compared: lower case, without port.
    pub host: String,
    pub pool: String,
    /// `None`: nothing matches.
    pub route: Option<Route>,
    /// Who shares the requests. Empty: nobody is asked. Sorted.
    pub backends: Vec<Backend>,
    /// `cluster/namespace/name` of the Secret; `None`: plain HTTP or the pool's default.
    pub certificate: Option<String>,
    /// In the order in which an edge decides.
    pub why: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Route {
    /// `Exact`, `Prefix`, `ImplementationSpecific` or `Default`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// As the Ingress has it; empty for a default backend.
    pub path: String,
    /// Of several clusters' Ingresses the one whose settings decide (rule M-7).
    pub ingress: Ingress,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Ingress {
    pub cluster: String,
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Backend {
    pub cluster: String,
    pub namespace: String,
    pub service: String,
    pub port: Port,
    /// Its share of the requests is this in relation to the sum.
    pub weight: u64,
    /// Sorted as text.
    pub endpoints: Vec<String>,
}

/// As the Ingress names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(untagged)]
pub enum Port {
    Number(u16),
    Name(String),
}

/// One reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// Of docs/explain.md.
    pub rule: &'static str,
    /// A sentence.
    pub text: String,
}

/// In place of an answer.
#[derive(Debug, Serialize)]
pub struct Wrong {
    pub error: String,
}

impl From<&PortRef> for Port {
    fn from(port: &PortRef) -> Self {
        match port {
            PortRef::Number(number) => Port::Number(*number),
            PortRef::Name(name) => Port::Name(name.to_string()),
        }
    }
}
