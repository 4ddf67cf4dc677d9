//! A problem for a person: what, where, how bad, and what to do. Codes are stable: alerts and docs name them.

use std::fmt;

use crate::id::{ClusterId, ObjectKey};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// Works, but perhaps not as the author expects.
    Info,
    /// Some of the object's entries do not take effect.
    Warning,
    /// Nothing of the object takes effect.
    Error,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Stable reason code of a [`Finding`]. The kebab-case text is the public form; as the `reason` of a
        /// Kubernetes Event it is the variant's name.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The `reason` of an Event: UpperCamelCase, as Kubernetes writes them.
            pub fn event_reason(self) -> &'static str {
                match self { $(Code::$name => stringify!($name),)* }
            }
        }
    };
}

codes! {
    // One Ingress
    /// A rule's host is not a DNS name or one-label wildcard (S-2, S-17).
    InvalidHost = "invalid-host",
    /// A path that the API server would reject today (S-17), or that is too long.
    InvalidPath = "invalid-path",
    /// A pattern that is no RE2 expression or compiles too large (S-16, N-4).
    InvalidRegex = "invalid-regex",
    /// Neither or both of service and resource, or no port (I-3).
    InvalidBackend = "invalid-backend",
    /// Neither rules nor a default backend (S-17).
    EmptyIngress = "empty-ingress",
    /// An annotation has a value that is not allowed. It is ignored, or closes what it was to protect.
    InvalidAnnotation = "invalid-annotation",
    /// An annotation of a known family that has no effect here.
    UnsupportedAnnotation = "unsupported-annotation",
    /// The class names a pool that the policy does not have.
    UnknownPool = "unknown-pool",
    /// More paths than one Ingress may have.
    TooManyPaths = "too-many-paths",
    // One host of one cluster
    /// The same host, path and type is declared by an older Ingress (I-2).
    PathConflict = "path-conflict",
    /// Another entry has priority for the same requests (S-9, S-10), so this one never matches.
    PathShadowed = "path-shadowed",
    /// The policy grants the host to others (M-8).
    HostNotGranted = "host-not-granted",
    /// A canary without an Ingress that it is for (C-4).
    CanaryIgnored = "canary-ignored",
    /// Another cluster has other settings for the same host (M-7).
    SettingsDiffer = "settings-differ",
    // Backends
    /// The Service does not exist (S-11).
    ServiceNotFound = "service-not-found",
    /// The Service has no such port (S-11, P-2).
    ServicePortNotFound = "service-port-not-found",
    /// No endpoint is usable (P-3).
    NoEndpoints = "no-endpoints",
    /// The way on which the cluster is reached has no address.
    NoAddress = "no-address",
    /// A resource backend, which answers 404 (S-11).
    ResourceBackend = "resource-backend",
    /// The kind of Service cannot be served.
    UnsupportedService = "unsupported-service",
    // Certificates
    /// The Secret does not exist (L-3).
    CertificateMissing = "certificate-missing",
    /// The Secret has no usable certificate, or none for the host (L-3).
    CertificateUnusable = "certificate-unusable",
    /// Every certificate for the host is out of its time; one is shown all the same (L-2, L-4).
    CertificateExpired = "certificate-expired",
    /// A Secret that is to say who may enter does not exist, or cannot say it (N-6).
    AccessSecretMissing = "access-secret-missing",
    // Transport and storage
    /// The object could not be decoded.
    MalformedObject = "malformed-object",
    /// The encoded object is larger than allowed.
    ObjectTooLarge = "object-too-large",
    /// The cluster has more objects than allowed.
    TooManyObjects = "too-many-objects",
    /// The cluster declares more hosts than allowed.
    TooManyHosts = "too-many-hosts",
    /// The database refuses this object; routing uses it, a restart will not know it.
    Unstorable = "unstorable",
    /// A kind could not be listed completely; nothing of it is pruned.
    IncompleteSync = "incomplete-sync",
    /// Nobody has reported the cluster's pods for so long that others may have their addresses (D-4).
    StalePodAddresses = "stale-pod-addresses",
    /// Another Kubernetes cluster presents this cluster's identity.
    ClusterIdentity = "cluster-identity",
    /// An edge refused a resource.
    RefusedByEdge = "refused-by-edge",
    /// Changes wait for a person because they would withdraw too much at once (B-2 to B-4).
    ChangeHeld = "change-held",
}

impl Code {
    pub fn parse(text: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `None` in `object`: the Finding is about the cluster as a whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Finding {
    pub cluster: ClusterId,
    pub object: Option<ObjectKey>,
    pub code: Code,
    pub severity: Severity,
    /// What is wrong and where, readable alone.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}
