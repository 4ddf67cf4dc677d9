//! The simulated API server over bare HTTP: what clients rely on but no client library shows.

use http::Method;
use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};
use serde_json::{Value, json};

use crate::client::{Answer, get, send};
use crate::kube_rs::ingress;

const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

async fn start() -> ApiServer {
    ApiServer::start(ApiServerOptions::new("eu-1")).await.expect("starts")
}

async fn post(server: &ApiServer, path: &str, body: &Value) -> Answer {
    send(Method::POST, &format!("{}{path}", server.url()), "application/json", Some(body)).await
}

async fn patch(server: &ApiServer, path: &str, content_type: &str, body: &Value) -> Answer {
    send(Method::PATCH, &format!("{}{path}", server.url()), content_type, Some(body)).await
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})
}

#[tokio::test]
async fn invalid_fields_are_a_422_with_causes_and_wrong_types_a_400() {
    let server = start().await;
    let mut bad = ingress("bad", "10.0.0.1");
    bad["spec"]["rules"][0]["http"]["paths"][0]["path"] = json!("no-slash");
    let answer = post(&server, INGRESSES, &bad).await;
    assert_eq!((answer.status.as_u16(), &answer.body["reason"]), (422, &json!("Invalid")));
    let fields: Vec<&str> = answer.body["details"]["causes"]
        .as_array()
        .expect("causes")
        .iter()
        .filter_map(|cause| cause["field"].as_str())
        .collect();
    assert_eq!(fields, ["spec.rules[0].host", "spec.rules[0].http.paths[0].path"]);
    bad["spec"]["rules"] = json!("x");
    assert_eq!(post(&server, INGRESSES, &bad).await.status, 400);

    server.faults().change(|faults| faults.accept_invalid = true);
    assert_eq!(post(&server, INGRESSES, &bad).await.status, 201);
    assert_eq!(server.get("ingresses", "default", "bad").expect("stored")["spec"]["rules"], "x");
}

#[tokio::test]
async fn immutable_fields_stay() {
    let server = start().await;
    server
        .apply(json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "c"},
        "spec": {"controller": "roadstead.dev/ingress"}}))
        .expect("applied");
    server
        .apply(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s"},
        "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]}))
        .expect("applied");
    let class = "/apis/networking.k8s.io/v1/ingressclasses/c";
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/s";
    let other_controller = json!({"spec": {"controller": "other.dev/ingress"}});
    assert_eq!(patch(&server, class, MERGE, &other_controller).await.status, 422);
    let other_type = json!({"addressType": "IPv6", "endpoints": [{"addresses": ["::1"]}]});
    assert_eq!(patch(&server, slice, MERGE, &other_type).await.status, 422);
    let uid = server.get("ingressclasses", "", "c").expect("stored")["metadata"]["uid"].clone();
    let renamed = json!({"metadata": {"uid": "stolen"}});
    assert_eq!(patch(&server, class, MERGE, &renamed).await.status, 409);
    assert_eq!(server.get("ingressclasses", "", "c").expect("stored")["metadata"]["uid"], uid);
}

#[tokio::test]
async fn the_default_class_is_filled_in_at_creation_only() {
    let server = start().await;
    let mut classless = ingress("a", "a.example");
    classless["spec"].as_object_mut().expect("spec").remove("ingressClassName");
    server.apply(classless.clone()).expect("no default yet");
    let class = |name: &str| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
            "spec": {"controller": "roadstead.dev/ingress"}})
    };
    server.apply(class("one")).expect("applied");
    server.apply(classless.clone()).expect("an update");
    assert_eq!(server.get("ingresses", "default", "a").expect("stored")["spec"]["ingressClassName"], Value::Null);
    classless["metadata"]["name"] = json!("b");
    let created = post(&server, INGRESSES, &classless).await;
    assert_eq!(created.body["spec"]["ingressClassName"], "one");
    server.apply(class("two")).expect("applied");
    classless["metadata"]["name"] = json!("c");
    assert_eq!(post(&server, INGRESSES, &classless).await.status, 403);
}

#[tokio::test]
async fn dry_run_and_preconditions() {
    let server = start().await;
    let answer = post(&server, "/api/v1/namespaces/default/services?dryRun=All", &service("web")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["spec"]["type"]), (201, &json!("ClusterIP")));
    assert!(server.get("services", "default", "web").is_none());

    server.apply(service("web")).expect("applied");
    let path = format!("{}/api/v1/namespaces/default/services/web", server.url());
    let wrong = json!({"preconditions": {"uid": "other"}});
    assert_eq!(send(Method::DELETE, &path, "application/json", Some(&wrong)).await.status, 409);
    let gone = send(Method::DELETE, &path, "application/json", None).await;
    assert_eq!((gone.status.as_u16(), &gone.body["status"]), (200, &json!("Success")));
    assert_eq!(send(Method::DELETE, &path, "application/json", None).await.status, 404);
}

#[tokio::test]
async fn finalizers_hold_a_deletion_back() {
    let server = start().await;
    let mut object = service("web");
    object["metadata"]["finalizers"] = json!(["x.io/hold"]);
    server.apply(object).expect("applied");
    server.delete("services", "default", "web").expect("marked");
    assert!(
        server.get("services", "default", "web").expect("still there")["metadata"]["deletionTimestamp"].is_string()
    );
    let path = "/api/v1/namespaces/default/services/web";
    assert_eq!(patch(&server, path, MERGE, &json!({"metadata": {"finalizers": null}})).await.status, 200);
    assert!(server.get("services", "default", "web").is_none());
}

#[tokio::test]
async fn a_namespace_takes_its_objects_with_it_and_must_exist() {
    let server = start().await;
    let answer = post(&server, "/api/v1/namespaces/shop/services", &service("web")).await;
    assert_eq!(answer.status, 404);
    let mut object = service("web");
    object["metadata"]["namespace"] = json!("shop");
    server.apply(object).expect("in-process writes create the namespace");
    server.delete("namespaces", "", "shop").expect("deleted");
    assert!(server.list("services").is_empty());
}

#[tokio::test]
async fn lists_say_what_is_wrong_with_their_parameters() {
    let server = start().await;
    let services = format!("{}/api/v1/services", server.url());
    for (query, status) in [
        ("resourceVersionMatch=Exact", 400),
        ("resourceVersion=0&resourceVersionMatch=Exact", 400),
        ("continue=nonsense", 400),
        ("fieldSelector=spec.unknown%3D1", 400),
        ("labelSelector=a%20b", 400),
        ("resourceVersion=0", 200),
        ("resourceVersion=99999999", 504),
        ("watch=1&sendInitialEvents=true", 422),
        ("watch=1&resourceVersionMatch=NotOlderThan", 422),
    ] {
        assert_eq!(get(&format!("{services}?{query}")).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn an_exact_list_shows_the_past() {
    let server = start().await;
    server.apply(service("a")).expect("applied");
    let then = server.revision();
    server.apply(service("b")).expect("applied");
    let url = format!("{}/api/v1/services?resourceVersion={then}&resourceVersionMatch=Exact", server.url());
    let names = |list: &Value| {
        list["items"].as_array().expect("items").iter().map(|item| item["metadata"]["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&get(&url).await.body), ["a"]);
    server.faults().compact();
    let expired = get(&url).await;
    assert_eq!((expired.status.as_u16(), &expired.body["reason"]), (410, &json!("Expired")));
}

#[tokio::test]
async fn apply_to_status_and_to_the_object_own_different_fields() {
    let server = start().await;
    let path = format!("{INGRESSES}/a");
    let created = patch(&server, &format!("{path}?fieldManager=gitops"), APPLY, &ingress("a", "a.example")).await;
    assert_eq!(created.status, 201);
    let status = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"},
        "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}});
    let written = patch(&server, &format!("{path}/status?fieldManager=agent"), APPLY, &status).await;
    let owners = written.body["metadata"]["managedFields"].as_array().expect("owners").clone();
    let owned = |manager: &str| owners.iter().find(|owner| owner["manager"] == manager).expect("an owner").clone();
    assert_eq!(owned("agent")["subresource"], "status");
    assert_eq!(owned("agent")["fieldsV1"], json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}}));
    assert_eq!(owned("gitops")["fieldsV1"], json!({"f:spec": {"f:ingressClassName": {}, "f:rules": {}}}));

    let other = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"},
        "status": {"loadBalancer": {"ingress": [{"hostname": "other.example"}]}}});
    let conflict = patch(&server, &format!("{path}/status?fieldManager=rival"), APPLY, &other).await;
    assert_eq!(conflict.status, 409);
    assert_eq!(conflict.body["details"]["causes"][0]["field"], ".status.loadBalancer.ingress");
    assert_eq!(patch(&server, &path, APPLY, &other).await.status, 400, "apply needs a fieldManager");
    let again = patch(&server, &format!("{path}/status?fieldManager=agent"), APPLY, &status).await;
    assert_eq!(
        again.body["metadata"]["resourceVersion"], written.body["metadata"]["resourceVersion"],
        "no change, no write"
    );
}

#[tokio::test]
async fn a_creator_does_not_own_what_the_server_fills_in_below_status() {
    let server = start().await;
    let created = post(&server, INGRESSES, &ingress("a", "a.example")).await;
    let owners = created.body["metadata"]["managedFields"].as_array().expect("owners").clone();
    assert_eq!((owners.len(), &owners[0]["operation"], &owners[0]["manager"]), (1, &json!("Update"), &json!("bare")));
    assert_eq!(owners[0]["fieldsV1"], json!({"f:spec": {"f:ingressClassName": {}, "f:rules": {}}}));
}

#[tokio::test]
async fn one_event_has_two_forms() {
    let server = start().await;
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"generateName": "web."}, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Warning",
        "reason": "InvalidHost", "action": "Compile", "note": "the host is an IP address",
        "reportingController": "roadstead.dev/agent", "reportingInstance": "agent-0",
        "regarding": {"kind": "Ingress", "namespace": "default", "name": "web"}});
    let created = post(&server, "/apis/events.k8s.io/v1/namespaces/default/events", &event).await;
    assert_eq!((created.status.as_u16(), &created.body["note"]), (201, &event["note"]));
    let core = get(&format!("{}/api/v1/events?fieldSelector=involvedObject.name%3Dweb", server.url())).await;
    assert_eq!(core.body["items"][0]["message"], event["note"]);
    assert_eq!(core.body["items"][0]["involvedObject"]["name"], "web");

    let name = created.body["metadata"]["name"].as_str().expect("generated");
    let path = format!("/apis/events.k8s.io/v1/namespaces/default/events/{name}");
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}});
    assert_eq!(patch(&server, &path, MERGE, &series).await.body["series"]["count"], 2);
    assert_eq!(patch(&server, &path, MERGE, &json!({"note": "rewritten"})).await.status, 422);
    let incomplete = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "x"}});
    assert_eq!(post(&server, "/apis/events.k8s.io/v1/namespaces/default/events", &incomplete).await.status, 422);
}

#[tokio::test]
async fn large_bodies_and_other_addresses_are_refused() {
    let server = start().await;
    let mut object = service("web");
    object["metadata"]["annotations"] = json!({"x": "y".repeat(roadstead_testkit::kube_api::BODY_BYTES_MAX)});
    assert_eq!(post(&server, "/api/v1/namespaces/default/services", &object).await.status, 413);
    let everywhere = ApiServerOptions { listen: Some(([0, 0, 0, 0], 0).into()), ..ApiServerOptions::new("x") };
    let error = ApiServer::start(everywhere).await.expect_err("refused").to_string();
    assert!(error.contains("loopback"), "{error}");
}

#[tokio::test]
async fn the_same_name_gives_the_same_kube_system_uid() {
    let uid = async |name: &str| {
        let server = ApiServer::start(ApiServerOptions::new(name)).await.expect("starts");
        server.get("namespaces", "", "kube-system").expect("pre-created")["metadata"]["uid"].clone()
    };
    assert_eq!(uid("eu-1").await, uid("eu-1").await);
    assert_ne!(uid("eu-1").await, uid("eu-2").await);
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout() {
    let server = start().await;
    server.apply(service("web")).expect("applied");
    let answer = get(&format!("{}/api/v1/services?watch=1&timeoutSeconds=1", server.url())).await;
    assert_eq!((&answer.body["type"], &answer.body["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("web")));
}

#[tokio::test]
async fn a_namespaced_watch_sees_only_its_namespace() {
    let server = start().await;
    for namespace in ["one", "two"] {
        let mut object = service("web");
        object["metadata"]["namespace"] = json!(namespace);
        server.apply(object).expect("applied");
    }
    let answer = get(&format!("{}/api/v1/namespaces/two/services?watch=1&timeoutSeconds=1", server.url())).await;
    assert_eq!(answer.body["object"]["metadata"]["namespace"], "two", "exactly one event: {}", answer.body);
}
