//! kube-rs against the simulated API server: CRUD, both watcher strategies, compaction, apply.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config, ResourceExt as _};
use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions, Restart};
use serde_json::json;

use crate::client::DEADLINE;

pub(crate) async fn start() -> (ApiServer, Client) {
    let server = ApiServer::start(ApiServerOptions::new("eu-1")).await.expect("starts");
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).expect("is a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("usable");
    let client = Client::try_from(config).expect("client");
    (server, client)
}

pub(crate) fn ingress(name: &str, host: &str) -> serde_json::Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": "default"},
        "spec": {"ingressClassName": "roadstead", "rules": [
            {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}},
        ]},
    })
}

fn configmap(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v"}})).expect("valid")
}

#[tokio::test]
async fn create_read_update_delete() {
    let (_server, client) = start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let created = api.create(&PostParams::default(), &configmap("a")).await.expect("created");
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    let duplicate = api.create(&PostParams::default(), &configmap("a")).await.expect_err("exists");
    assert!(matches!(duplicate, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists"));

    let mut changed = created.clone();
    changed.data.as_mut().expect("data").insert("k".to_owned(), "w".to_owned());
    let updated = api.replace("a", &PostParams::default(), &changed).await.expect("updated");
    assert_ne!(updated.resource_version(), created.resource_version());
    let stale = api.replace("a", &PostParams::default(), &changed).await.expect_err("stale");
    assert!(matches!(stale, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"));

    api.delete("a", &DeleteParams::default()).await.expect("deleted");
    assert!(api.get_opt("a").await.expect("answers").is_none());
}

#[tokio::test]
async fn pages_show_one_snapshot() {
    let (server, client) = start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    for name in ["a", "b", "c", "d", "e"] {
        api.create(&PostParams::default(), &configmap(name)).await.expect("created");
    }
    let first = api.list(&ListParams::default().limit(2)).await.expect("page");
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    api.delete("d", &DeleteParams::default()).await.expect("deleted");
    api.create(&PostParams::default(), &configmap("bb")).await.expect("created");
    let token = first.metadata.continue_.clone().expect("token");
    let rest = api.list(&ListParams::default().continue_token(&token)).await.expect("page");
    let names: Vec<String> = first.items.iter().chain(&rest.items).map(kube::ResourceExt::name_any).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(first.metadata.resource_version, rest.metadata.resource_version);

    server.faults().compact();
    let expired = api.list(&ListParams::default().continue_token(&token)).await.expect_err("expired");
    assert!(matches!(expired, kube::Error::Api(status) if status.code == 410 && status.reason == "Expired"));
}

async fn names_until(
    stream: &mut (impl futures::Stream<Item = watcher::Result<Event<Ingress>>> + Unpin),
    done: impl Fn(&BTreeSet<String>) -> bool,
) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut fresh = BTreeSet::new();
    let follow = async {
        while !done(&known) {
            match stream.next().await.expect("endless") {
                Ok(Event::Apply(object)) => drop(known.insert(object.name_any())),
                Ok(Event::Delete(object)) => drop(known.remove(&object.name_any())),
                Ok(Event::Init) => fresh.clear(),
                Ok(Event::InitApply(object)) => drop(fresh.insert(object.name_any())),
                Ok(Event::InitDone) => known = std::mem::take(&mut fresh),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, follow).await.expect("converges");
    known
}

async fn watcher_follows(config: watcher::Config) {
    let (mut server, client) = start().await;
    server.apply(ingress("a", "a.example")).expect("applied");
    let mut stream = watcher::watcher(Api::<Ingress>::all(client), config).boxed();
    names_until(&mut stream, |known| known.contains("a")).await;
    server.apply(ingress("b", "b.example")).expect("applied");
    names_until(&mut stream, |known| known.contains("b")).await;

    // Dropped watches resume without a new list; a compaction forces one.
    server.faults().drop_watches("ingresses");
    server.apply(ingress("c", "c.example")).expect("applied");
    names_until(&mut stream, |known| known.contains("c")).await;
    server.faults().compact();
    server.faults().drop_watches("ingresses");
    server.delete("ingresses", "default", "a").expect("deleted");
    server.apply(ingress("d", "d.example")).expect("applied");
    let known = names_until(&mut stream, |known| known.contains("d") && known.contains("b")).await;
    assert_eq!(known, BTreeSet::from(["b", "c", "d"].map(str::to_owned)));

    // The API goes down and comes back empty.
    server.stop().await;
    server.start_again(Restart::EmptyState).await.expect("same port");
    server.apply(ingress("e", "e.example")).expect("applied");
    let known = names_until(&mut stream, |known| known.contains("e")).await;
    assert!(!known.contains("b"), "a server that lost its state must cause a new list: {known:?}");
}

#[tokio::test]
async fn watcher_with_list_and_watch() {
    watcher_follows(watcher::Config::default().page_size(1)).await;
}

#[tokio::test]
async fn watcher_with_streaming_lists() {
    watcher_follows(watcher::Config::default().streaming_lists()).await;
}

#[tokio::test]
async fn an_old_server_refuses_streaming_lists() {
    let (server, client) = start().await;
    server.faults().change(|faults| faults.no_streaming_lists = true);
    let stream = watcher::watcher(Api::<Ingress>::all(client), watcher::Config::default().streaming_lists());
    let error = stream.boxed().try_next().await;
    let error = match error {
        Ok(Some(Event::Init)) => {
            panic!("an Init without an answer from the server")
        }
        other => other.expect_err("refused"),
    };
    assert!(format!("{error:?}").contains("422"), "{error:?}");
}

#[tokio::test]
async fn status_is_written_only_through_its_subresource() {
    let (server, client) = start().await;
    server.apply(ingress("a", "a.example")).expect("applied");
    let api: Api<Ingress> = Api::default_namespaced(client);
    let status = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"},
        "spec": {"ingressClassName": "stolen"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let params = PatchParams::apply("roadstead-agent");
    let written = api.patch_status("a", &params, &Patch::Apply(&status)).await.expect("applied");
    assert_eq!(written.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref()), Some("roadstead"));
    let address =
        |ingress: &Ingress| serde_json::to_value(&ingress.status).expect("json")["loadBalancer"]["ingress"].clone();
    assert_eq!(address(&written), json!([{"ip": "192.0.2.1"}]));
    assert_eq!(written.metadata.generation, Some(1));

    // The main resource ignores the status, and a changed spec bumps the generation.
    let mut main = ingress("a", "b.example");
    main["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
    let main: Ingress = serde_json::from_value(main).expect("typed");
    let after = api.replace("a", &PostParams::default(), &main).await.expect("replaced");
    assert_eq!((address(&after), after.metadata.generation), (json!([{"ip": "192.0.2.1"}]), Some(2)));

    // What the manager stops sending disappears.
    let cleared =
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"}, "status": {}});
    let after = api.patch_status("a", &params, &Patch::Apply(&cleared)).await.expect("applied");
    assert_eq!(address(&after), json!(null));
}

#[tokio::test]
async fn server_side_apply_keeps_what_others_own() {
    let (_server, client) = start().await;
    let api: Api<Service> = Api::default_namespaced(client);
    let service = |ports: serde_json::Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": ports}});
    let both = service(json!([{"name": "http", "port": 80}, {"name": "alt", "port": 8080}]));
    api.patch("web", &PatchParams::apply("gitops"), &Patch::Apply(&both)).await.expect("created");
    let extra = service(json!([{"name": "metrics", "port": 9090}]));
    api.patch("web", &PatchParams::apply("monitoring"), &Patch::Apply(&extra)).await.expect("merged by port");
    let one = service(json!([{"name": "http", "port": 80}]));
    let after = api.patch("web", &PatchParams::apply("gitops"), &Patch::Apply(&one)).await.expect("dropped");
    let ports: Vec<i32> = after.spec.expect("spec").ports.expect("ports").iter().map(|port| port.port).collect();
    assert_eq!(ports, [80, 9090]);

    let renamed = service(json!([{"name": "web", "port": 80}]));
    let refused = api.patch("web", &PatchParams::apply("other"), &Patch::Apply(&renamed)).await.expect_err("conflict");
    let kube::Error::Api(status) = refused else { panic!("not from the API: {refused}") };
    assert_eq!(status.code, 409);
    let causes = &status.details.as_ref().expect("details").causes;
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert!(causes[0].message.contains("gitops"), "{causes:?}");
    let forced = PatchParams::apply("other").force();
    let after = api.patch("web", &forced, &Patch::Apply(&renamed)).await.expect("forced");
    assert_eq!(after.spec.expect("spec").ports.expect("ports")[0].name.as_deref(), Some("web"));
}

#[tokio::test]
async fn a_selector_watch_sees_objects_move_in_and_out() {
    let (server, client) = start().await;
    let api: Api<Ingress> = Api::all(client);
    let mut object = ingress("a", "a.example");
    server.apply(object.clone()).expect("applied");
    let params = kube::api::WatchParams::default().labels("tier=web").timeout(10);
    let version = server.revision().to_string();
    let mut events = api.watch(&params, &version).await.expect("watch").boxed();
    let mut seen = Vec::new();
    for labels in [json!({"tier": "web"}), json!({"tier": "web", "x": "y"}), json!({})] {
        object["metadata"]["labels"] = labels;
        server.apply(object.clone()).expect("applied");
        let event =
            tokio::time::timeout(DEADLINE, events.try_next()).await.expect("in time").expect("ok").expect("event");
        seen.push(format!("{event:?}").split(' ').next().unwrap_or_default().to_owned());
    }
    assert_eq!(seen, ["Added", "Modified", "Deleted"]);
}

#[tokio::test]
async fn discovery_finds_every_kind() {
    let (_server, client) = start().await;
    let discovery = kube::discovery::Discovery::new(client).run().await.expect("answers");
    let kind = kube::core::GroupVersionKind::gvk("networking.k8s.io", "v1", "Ingress");
    let (resource, capabilities) = discovery.resolve_gvk(&kind).expect("served");
    assert_eq!((resource.plural.as_str(), &capabilities.scope), ("ingresses", &kube::discovery::Scope::Namespaced));
    assert!(discovery.resolve_gvk(&kube::core::GroupVersionKind::gvk("", "v1", "Namespace")).is_some());
}

#[tokio::test]
async fn metadata_can_be_had_alone() {
    let (server, client) = start().await;
    server.apply(ingress("a", "a.example")).expect("applied");
    let api: Api<Ingress> = Api::all(client.clone());
    let list = api.list_metadata(&ListParams::default()).await.expect("a list");
    assert_eq!((list.items.len(), list.items[0].name_any()), (1, "a".to_owned()));
    let api: Api<PartialObjectMeta<Ingress>> = Api::all(client);
    let mut stream = watcher::watcher(api, watcher::Config::default().streaming_lists()).boxed();
    let seen = async {
        loop {
            if let Event::InitApply(object) = stream.try_next().await.expect("ok").expect("endless") {
                return object.name_any();
            }
        }
    };
    assert_eq!(tokio::time::timeout(DEADLINE, seen).await.expect("in time"), "a");
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_labels() {
    let (_server, client) = start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    for (name, tier) in [("a", "web"), ("b", "db"), ("c", "web")] {
        let mut object = configmap(name);
        object.metadata.labels = Some([("tier".to_owned(), tier.to_owned())].into());
        api.create(&PostParams::default(), &object).await.expect("created");
    }
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels("tier=web")).await.expect("deleted");
    let left = api.list(&ListParams::default()).await.expect("list");
    assert_eq!(left.items.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>(), ["b"]);
}
