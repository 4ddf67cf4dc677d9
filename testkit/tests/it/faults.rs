//! Fault switches, in-process and through the control endpoint of the process.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use roadstead_testkit::kube_api::{ALL, ApiServer, FailPage, Throttle};
use roadstead_testkit::stack::{Process, Ready, Spec, ports};
use serde_json::json;

use crate::client::{DEADLINE, get, send};
use crate::kube_rs::{ingress, start};

async fn with_three() -> (ApiServer, Api<Ingress>, Client) {
    let (server, client) = start().await;
    for name in ["a", "b", "c"] {
        server.apply(ingress(name, &format!("{name}.example"))).expect("applied");
    }
    (server, Api::all(client.clone()), client)
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not an answer of the server: {other}"),
    }
}

async fn lists(api: &Api<Ingress>) -> Result<usize, u16> {
    api.list(&ListParams::default()).await.map(|list| list.items.len()).map_err(|error| code(&error))
}

#[tokio::test]
async fn throttling_runs_out() {
    let (server, api, _) = with_three().await;
    server.faults().throttle("ingresses", Throttle { requests: 2, retry_after_s: 7 });
    let answer = get(&format!("{}/apis/networking.k8s.io/v1/ingresses", server.url())).await;
    assert_eq!((answer.status.as_u16(), answer.headers["retry-after"].as_bytes()), (429, b"7".as_slice()));
    assert_eq!(get(&format!("{}/api/v1/services", server.url())).await.status, 200, "other kinds are not affected");
    assert_eq!(get(&format!("{}/apis/networking.k8s.io/v1/ingresses", server.url())).await.status, 429);
    assert_eq!(lists(&api).await, Ok(3));
}

#[tokio::test]
async fn a_page_in_the_middle_fails() {
    let (server, api, _) = with_three().await;
    server.faults().fail_list_page("ingresses", FailPage { page: 2, status: 500 });
    let first = api.list(&ListParams::default().limit(1)).await.expect("the first page works");
    let token = first.metadata.continue_.expect("more");
    let second = api.list(&ListParams::default().limit(1).continue_token(&token)).await.expect_err("fails");
    assert_eq!(code(&second), 500);
    server.faults().clear();
    assert!(api.list(&ListParams::default().limit(1).continue_token(&token)).await.is_ok());
}

#[tokio::test]
async fn forbidden_and_empty_lists() {
    let (server, api, _) = with_three().await;
    server.faults().forbid("ingresses");
    assert_eq!(lists(&api).await, Err(403));
    server.faults().clear();
    server.faults().empty_lists(ALL);
    assert_eq!(lists(&api).await, Ok(0));
    server.faults().clear();
    assert_eq!(lists(&api).await, Ok(3));
}

#[tokio::test]
async fn a_slow_server_still_answers() {
    let (server, api, _) = with_three().await;
    server.faults().slow("ingresses", Duration::from_millis(50));
    let start = std::time::Instant::now();
    assert_eq!(lists(&api).await, Ok(3));
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_streaming_list_breaks_off_before_its_end() {
    let (server, api, _) = with_three().await;
    server.faults().cut_initial_events("ingresses", 2);
    let params = WatchParams::default().initial_events();
    let mut names = Vec::new();
    let mut events = api.watch(&params, "0").await.expect("watch").boxed();
    // kube-rs reports a broken watch as its end; what counts is that the end of the list was never announced.
    while let Some(Ok(event)) = tokio::time::timeout(DEADLINE, events.next()).await.expect("in time") {
        let WatchEvent::Added(object) = event else { panic!("the end of the list must not come: {event:?}") };
        names.push(object.metadata.name.expect("named"));
    }
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn a_watch_from_before_a_compaction_gets_410() {
    let (server, api, _) = with_three().await;
    let version = server.revision().to_string();
    server.faults().compact();
    let mut events = api.watch(&WatchParams::default(), &version).await.expect("starts").boxed();
    let event = events.try_next().await.expect("an event").expect("not the end");
    assert!(matches!(&event, WatchEvent::Error(status) if status.code == 410), "{event:?}");
}

#[tokio::test]
async fn bookmarks_and_deletions_carry_the_newest_version() {
    let (server, api, _) = with_three().await;
    let version = server.revision().to_string();
    let mut events = api.watch(&WatchParams::default(), &version).await.expect("starts").boxed();
    let before = server.delete("ingresses", "default", "a").expect("deleted");
    let event = tokio::time::timeout(DEADLINE, events.try_next()).await.expect("in time").expect("ok").expect("event");
    let WatchEvent::Deleted(last) = event else { panic!("{event:?}") };
    assert_eq!(last.metadata.resource_version.as_deref(), Some(server.revision().to_string().as_str()));
    assert_eq!(before["metadata"]["name"], "a");
    // Changes of other kinds move bookmarks on as well.
    server.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})).expect("applied");
    let newest = server.revision().to_string();
    let bookmark = async {
        loop {
            if let WatchEvent::Bookmark(bookmark) = events.try_next().await.expect("ok").expect("event")
                && bookmark.metadata.resource_version == newest
            {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, bookmark).await.expect("in time");
}

#[tokio::test]
async fn a_malformed_object_breaks_typed_decoding_and_nothing_else() {
    let (server, api, client) = with_three().await;
    let mut bad = ingress("bad", "x.example");
    bad["spec"]["rules"] = json!("x");
    server.insert_raw(bad).expect("planted");
    assert!(api.list(&ListParams::default()).await.is_err(), "typed decoding must fail");
    let resource = kube::api::ApiResource::erase::<Ingress>(&());
    let dynamic: Api<kube::api::DynamicObject> = Api::all_with(client, &resource);
    assert_eq!(dynamic.list(&ListParams::default()).await.expect("untyped works").items.len(), 4);
}

#[tokio::test]
async fn the_process_takes_flags_manifests_and_commands() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(
        folder.path().join("a.yaml"),
        format!("{}\n---\n{}\n", ingress("a", "a.example"), ingress("b", "b.example")),
    )
    .expect("written");
    let port = ports::free(1)[0];
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let kubeconfig = folder.path().join("kubeconfig");
    let spec = Spec::new("kube", env!("CARGO_BIN_EXE_roadstead-fake-kube"))
        .args(["--name", "eu-1", "--listen", &address.to_string(), "--kubeconfig-out"])
        .args([kubeconfig.display().to_string(), "--manifests".to_owned(), folder.path().display().to_string()])
        .ready(Ready::Readyz(address));
    let _process = Process::spawn(spec).await.expect("starts");
    let url = format!("http://{address}");
    let ingresses = format!("{url}/apis/networking.k8s.io/v1/ingresses");
    let written = std::fs::read_to_string(&kubeconfig).expect("written before the server is ready");
    assert!(written.contains(&url), "{written}");
    assert_eq!(get(&ingresses).await.body["items"].as_array().map(Vec::len), Some(2));

    let control = format!("{url}/__faults");
    let command = json!({"settings": {"forbidden": ["ingresses"]}});
    assert_eq!(send(Method::PUT, &control, "application/json", Some(&command)).await.body["forbidden"][0], "ingresses");
    assert_eq!(get(&ingresses).await.status, 403);
    let typo = json!({"settings": {"forbiden": []}});
    assert_eq!(send(Method::PUT, &control, "application/json", Some(&typo)).await.status, 400);
    let raw =
        json!({"settings": {}, "compact": true, "drop_watches": ["*"], "insert_raw": [ingress("raw", "r.example")]});
    let mut raw = raw;
    raw["insert_raw"][0]["spec"] = json!(1);
    assert_eq!(send(Method::PUT, &control, "application/json", Some(&raw)).await.status, 200);
    assert_eq!(get(&ingresses).await.body["items"][2]["spec"], 1);
    assert_eq!(send(Method::DELETE, &format!("{url}/__state"), "", None).await.status, 200);
    assert_eq!(get(&ingresses).await.body["items"], json!([]));
}

#[tokio::test]
async fn an_outage_ends_watches_and_connections_until_it_is_over() {
    let (server, api, _) = with_three().await;
    let version = server.revision().to_string();
    let mut events = api.watch(&WatchParams::default(), &version).await.expect("starts").boxed();
    server.faults().change(|faults| faults.outage = true);
    let broken = tokio::time::timeout(DEADLINE, events.next()).await.expect("in time");
    assert!(matches!(broken, None | Some(Err(_))), "{broken:?}");
    assert!(api.list(&ListParams::default()).await.is_err());
    let control = format!("{}/__faults", server.url());
    let over = json!({"settings": {}});
    assert_eq!(send(Method::PUT, &control, "application/json", Some(&over)).await.status, 200);
    assert_eq!(lists(&api).await, Ok(3));
}
