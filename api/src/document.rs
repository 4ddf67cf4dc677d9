//! The OpenAPI 3.1 document of the API, made from the types. `api/openapi.json` is its committed form.

use utoipa::OpenApi;

use crate::{
    AdoptWorld, Alerts, ChangeLifecycle, Clusters, Decision, Edges, ExpectRemoval, Findings, Freeze, Health, Hold,
    Holds, Member, Override, Overrides, Pin, Pools, Problem, Readopt, Readopted, Released, Replicas, Revisions, World,
};

/// The document as JSON, ending in a line break.
pub fn json() -> String {
    let document = Document::openapi();
    serde_json::to_string_pretty(&document).expect("a document must have a JSON form") + "\n"
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Roadstead admin API",
        description = "Every request but health needs the header `Authorization: Bearer TOKEN`. Errors are RFC 9457 problem documents."
    ),
    paths(
        health,
        clusters,
        change_lifecycle,
        readopt,
        edges,
        pools,
        host_revisions,
        release_canary,
        findings,
        holds,
        approve_hold,
        discard_hold,
        overrides,
        lift_override,
        expect_removal,
        freeze,
        pin,
        world,
        adopt_world,
        alerts,
        replicas
    ),
    components(schemas(Problem))
)]
struct Document;

macro_rules! operations {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        $($(#[$attribute])* #[expect(dead_code, reason = "only its description is used")] fn $name() {})*
    };
}

operations! {
    /// Whether the controller serves. Needs no token.
    #[utoipa::path(get, path = "/api/v1/health", responses((status = 200, body = Health)))]
    health
    /// Clusters that ever reported, and clusters that the policy names.
    #[utoipa::path(get, path = "/api/v1/clusters", responses((status = 200, body = Clusters), (status = "4XX", body = Problem)))]
    clusters
    /// Begins the next part of a cluster's life. Refused as `/problems/last-backend` if some hosts would be left without
    /// any backend, as `/problems/lifecycle-order` if it may not follow where the cluster stands.
    #[utoipa::path(post, path = "/api/v1/clusters/{id}/lifecycle", params(("id" = String, Path)),
        request_body = ChangeLifecycle,
        responses((status = 200, body = Member), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
    change_lifecycle
    /// Gives a cluster's identity to the cluster with another uid of namespace kube-system.
    #[utoipa::path(post, path = "/api/v1/clusters/{id}/readopt", params(("id" = String, Path)), request_body = Readopt,
        responses((status = 200, body = Readopted), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
    readopt
    /// Edges, connected to this controller or to another one, or remembered.
    #[utoipa::path(get, path = "/api/v1/edges", responses((status = 200, body = Edges), (status = "4XX", body = Problem)))]
    edges
    /// Pools of the policy, and others that edges ask for.
    #[utoipa::path(get, path = "/api/v1/pools", responses((status = 200, body = Pools), (status = "4XX", body = Problem)))]
    pools
    /// Versions of a host, newest first: 20, or as many as `limit` says, at most 200.
    #[utoipa::path(get, path = "/api/v1/pools/{pool}/hosts/{host}/revisions",
        params(("pool" = String, Path), ("host" = String, Path), ("limit" = Option<u32>, Query)),
        responses((status = 200, body = Revisions), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
    host_revisions
    /// Sends all edges of a pool what one of them is trying or has refused.
    #[utoipa::path(post, path = "/api/v1/pools/{pool}/canary/release", params(("pool" = String, Path)),
        request_body = Decision, responses((status = 200, body = Released), (status = "4XX", body = Problem)))]
    release_canary
    /// Problems for people, the first of them.
    #[utoipa::path(get, path = "/api/v1/findings", responses((status = 200, body = Findings), (status = "4XX", body = Problem)))]
    findings
    /// Changes that wait for a decision.
    #[utoipa::path(get, path = "/api/v1/holds", responses((status = 200, body = Holds), (status = "4XX", body = Problem)))]
    holds
    /// Lets the held changes go.
    #[utoipa::path(post, path = "/api/v1/holds/{id}/approve", params(("id" = String, Path)), request_body = Decision,
        responses((status = 200, body = Hold), (status = "4XX", body = Problem)))]
    approve_hold
    /// Closes the Hold; its hosts keep their form until their objects change again.
    #[utoipa::path(post, path = "/api/v1/holds/{id}/discard", params(("id" = String, Path)), request_body = Decision,
        responses((status = 200, body = Hold), (status = "4XX", body = Problem)))]
    discard_hold
    /// Expected removals, freezes and pins that are in force.
    #[utoipa::path(get, path = "/api/v1/overrides", responses((status = 200, body = Overrides), (status = "4XX", body = Problem)))]
    overrides
    /// Ends an override before its time.
    #[utoipa::path(delete, path = "/api/v1/overrides/{id}", params(("id" = String, Path)),
        responses((status = 200, body = Override), (status = "4XX", body = Problem)))]
    lift_override
    /// Announces a removal.
    #[utoipa::path(post, path = "/api/v1/expect-removals", request_body = ExpectRemoval,
        responses((status = 201, body = Override), (status = "4XX", body = Problem)))]
    expect_removal
    /// Freezes a pool, or all.
    #[utoipa::path(post, path = "/api/v1/freezes", request_body = Freeze,
        responses((status = 201, body = Override), (status = "4XX", body = Problem)))]
    freeze
    /// Makes a host keep one of its earlier versions.
    #[utoipa::path(post, path = "/api/v1/pins", request_body = Pin,
        responses((status = 201, body = Override), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
    pin
    /// Which world the database holds.
    #[utoipa::path(get, path = "/api/v1/world", responses((status = 200, body = World), (status = "4XX", body = Problem)))]
    world
    /// Makes edges follow this database that have the table of another world, or know more than an older backup has.
    /// Refused as `/problems/not-settled` while some cluster has not reported everything.
    #[utoipa::path(post, path = "/api/v1/adopt-world", request_body = AdoptWorld,
        responses((status = 200, body = World), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
    adopt_world
    /// What is wrong with the whole and needs a person.
    #[utoipa::path(get, path = "/api/v1/alerts", responses((status = 200, body = Alerts), (status = "4XX", body = Problem)))]
    alerts
    /// Controllers that are there.
    #[utoipa::path(get, path = "/api/v1/replicas",
        responses((status = 200, body = Replicas), (status = "4XX", body = Problem)))]
    replicas
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// `UPDATE=1` writes the committed document anew.
    #[test]
    fn the_committed_document_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let now = super::json();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &now).expect("api/openapi.json is writable");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == now, "api/openapi.json is stale: UPDATE=1 cargo nextest run -p roadstead-api");
        assert!(now.contains("\"openapi\": \"3.1.0\""));
    }
}
