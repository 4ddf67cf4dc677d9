//! Named limits on everything that grows. Each is enforced where the value enters and has a test.

/// Bytes of one encoded object; a larger one becomes Finding `object-too-large`.
pub const OBJECT_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one gRPC message. Everything larger is sent in chunks.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Objects of one cluster, all kinds together.
pub const OBJECTS_PER_CLUSTER_MAX: usize = 200_000;
/// Paths of one Ingress, over all its rules.
pub const PATHS_PER_INGRESS_MAX: usize = 2_000;
/// Hosts that one cluster may declare.
pub const HOSTS_PER_CLUSTER_MAX: usize = 100_000;
/// Bytes of one path or pattern.
pub const PATH_BYTES_MAX: usize = 2_048;
/// Bytes of one annotation value that routing reads.
pub const ANNOTATION_BYTES_MAX: usize = 8 * 1024;
/// Endpoints of one EndpointSlice (rule P-1).
pub const ENDPOINTS_PER_SLICE_MAX: usize = 1_000;
/// Ports of one EndpointSlice (rule P-1).
pub const PORTS_PER_SLICE_MAX: usize = 100;
/// `hints.forZones` of one endpoint (rule P-5).
pub const ZONES_PER_ENDPOINT_MAX: usize = 8;
/// `status.addresses` of one Node, and `status.loadBalancer.ingress` of one Service.
pub const ADDRESSES_PER_OBJECT_MAX: usize = 16;
/// Nodes through which one Service port is reached (rule R-3): enough to share the load, and a large cluster does not
/// multiply with its Services.
pub const NODES_PER_BACKEND_MAX: usize = 64;
/// Entries of `reach_from` of one cluster.
pub const REACH_RULES_MAX: usize = 32;
/// Bytes that one compiled regular expression may take (rule N-4).
pub const REGEX_BYTES_MAX: usize = 64 * 1024;
/// Bytes of scratch memory that matching one regular expression may take, for each thread that does.
pub const REGEX_CACHE_BYTES_MAX: usize = 256 * 1024;
/// DNS names of one certificate.
pub const CERTIFICATE_NAMES_MAX: usize = 1_000;
/// Keys of one Secret with users.
pub const SECRET_VALUES_MAX: usize = 1_000;
/// Findings kept for one object; more are cut.
pub const FINDINGS_PER_OBJECT_MAX: usize = 32;
