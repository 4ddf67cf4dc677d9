//! From the Kubernetes API to the controller.

use roadstead_agent::reduce::Observation;
use roadstead_agent::watch::{self, WatchSettings};
use roadstead_proto::wire::RemovalCause;
use roadstead_routing::finding::Code;
use roadstead_routing::id::{Kind, ObjectKey};
use roadstead_testkit::kube_api::{FailPage, Restart};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::proxy::Proxy;
use crate::rig::{DEADLINE, Rig, eventually, ingress, service, slice};

const OURS: [&str; 4] =
    ["IngressClass roadstead", "Ingress shop/web", "Service shop/front", "EndpointSlice shop/front-1"];

fn web() -> ObjectKey {
    ObjectKey::new(Kind::Ingress, "shop", "web")
}

#[tokio::test]
async fn a_cluster_is_reported_by_streaming_lists() {
    let rig = Rig::with_shop().await;
    let agent = rig.start_agent().await;
    rig.until_synced(1).await;
    assert_eq!(rig.controller.state().keys(), OURS);
    eventually("readiness", || agent.readiness.state().is_ok()).await;

    let hello = rig.controller.state().heard().hello.clone();
    let kube_system = rig.api.get("namespaces", "", "kube-system").unwrap();
    assert_eq!(hello.cluster, "eu");
    assert_eq!(Some(hello.cluster_uid.as_str()), kube_system["metadata"]["uid"].as_str());
    assert!(hello.kubernetes_version.starts_with("v1."), "{hello:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_asked_for_pages() {
    let rig = Rig::with_shop().await;
    rig.api.faults().change(|faults| faults.no_streaming_lists = true);
    // More than one page.
    for number in 0..600 {
        rig.apply(slice(&format!("s{number}"), 1));
        rig.apply(ingress(&format!("i{number}"), "roadstead", &format!("s{number}")));
    }
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    assert_eq!(rig.controller.state().keys().len(), 4 + 2 * 600);
    rig.apply(slice("front", 2));
    rig.until("a live change", |state| state.heard().upserts.len() > 4 + 2 * 600).await;
}

#[tokio::test]
async fn a_server_that_never_ends_a_streaming_list_is_asked_for_pages() {
    let rig = Rig::with_shop().await;
    // Unknown parameters are ignored, as by servers before 1.27: they show what exists and go on watching.
    let proxy = Proxy::start(rig.api.address(), None, |bytes: &mut [u8]| {
        for parameter in [b"sendInitialEvents=".as_slice(), b"resourceVersionMatch=".as_slice()] {
            while let Some(at) = bytes.windows(parameter.len()).position(|window| window == parameter) {
                bytes[at] = b'x';
            }
        }
    })
    .await;
    let _agent = rig.start_agent_at(proxy.address).await;
    rig.until_synced(1).await;
    assert_eq!(rig.controller.state().keys(), OURS);
}

#[tokio::test]
async fn a_connection_that_is_half_dead_is_noticed() {
    let rig = Rig::with_shop().await;
    let proxy = Proxy::start(rig.api.address(), None, |_: &mut [u8]| {}).await;
    let _agent = rig.start_agent_at(proxy.address).await;
    rig.until_synced(1).await;
    proxy.silence();
    rig.apply(slice("front", 2));
    rig.until("a change on a new connection", |state| state.heard().upserts.len() == 5).await;
    assert_eq!(rig.controller.state().heard().removals, []);
}

#[tokio::test]
async fn live_changes_and_deletions_arrive_with_their_cause() {
    let rig = Rig::with_shop().await;
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    rig.apply(ingress("second", "roadstead", "back"));
    rig.until("what the new Ingress needs", |state| state.objects.len() == 7).await;
    rig.api.delete("ingresses", "shop", "second").unwrap();
    rig.until("its removal", |state| state.objects.len() == 4).await;
    let removals = rig.controller.state().heard().removals.clone();
    assert_eq!(removals.len(), 3);
    assert!(removals.iter().all(|(_, cause)| *cause == RemovalCause::Deleted), "{removals:?}");
}

#[tokio::test]
async fn a_list_that_fails_half_way_after_a_restart_removes_nothing() {
    let rig = Rig::with_shop().await;
    rig.apply(ingress("second", "roadstead", "front"));
    let agent = rig.start_agent().await;
    rig.until_synced(1).await;
    agent.stop().await;

    rig.api.faults().cut_initial_events("ingresses", 1);
    let _agent = rig.start_agent().await;
    rig.until("the finding", |state| {
        state.streams.len() == 2 && state.heard().findings.iter().any(|finding| finding.code == Code::IncompleteSync)
    })
    .await;
    rig.until("the kinds that are complete", |state| state.completed() == [Kind::IngressClass, Kind::Node]).await;
    assert_eq!(rig.controller.state().keys().len(), 5);

    rig.api.faults().clear();
    rig.until_synced(2).await;
    let mut state = rig.controller.state();
    assert_eq!((state.heard().upserts.len(), state.heard().removals.len()), (0, 0), "nothing differs");
    assert_eq!(state.keys().len(), 5);
}

/// Answers every request with one Ingress and then, properly, the end of the answer.
async fn server_that_ends_early() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(1..) = socket.read(&mut request).await {
                    let line =
                        json!({"type": "ADDED", "object": ingress("web", "roadstead", "front")}).to_string() + "\n";
                    let head =
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                    let answer = format!("{head}{:x}\r\n{line}\r\n0\r\n\r\n", line.len());
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_streaming_list_that_ends_in_good_order_but_early_is_not_complete() {
    let address = server_that_ends_early().await;
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let (sender, mut observations) = tokio::sync::mpsc::channel(16);
    tokio::spawn(watch::run(Kind::Ingress, client, WatchSettings::default(), sender));
    let mut seen = 0;
    loop {
        let next = tokio::time::timeout(DEADLINE, observations.recv()).await;
        match next.expect("the watch goes on").expect("the watch lives").1 {
            Observation::ListStarted => {}
            Observation::Seen(_) => seen += 1,
            Observation::Failed(failure) => {
                assert!(failure.message.contains("ended before it was complete"), "{failure:?}");
                break;
            }
            other => panic!("neither complete nor anything else: {other:?}"),
        }
    }
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn a_page_that_fails_removes_nothing_either() {
    let rig = Rig::with_shop().await;
    rig.api.faults().change(|faults| faults.no_streaming_lists = true);
    for number in 0..501 {
        rig.apply(ingress(&format!("i{number}"), "roadstead", "front"));
    }
    let agent = rig.start_agent().await;
    rig.until_synced(1).await;
    agent.stop().await;
    let before = rig.controller.state().keys();

    rig.api.faults().fail_list_page("ingresses", FailPage { page: 2, status: 500 });
    let _agent = rig.start_agent().await;
    rig.until("the finding", |state| state.streams.len() == 2 && !state.heard().findings.is_empty()).await;
    assert_eq!(rig.controller.state().keys(), before);
    rig.api.faults().change(|faults| faults.fail_list_page.clear());
    rig.until_synced(2).await;
    assert_eq!(rig.controller.state().keys(), before);
}

#[tokio::test]
async fn what_went_while_the_watch_was_behind_is_inferred_from_the_new_list() {
    let mut rig = Rig::with_shop().await;
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    rig.api.stop().await;
    rig.api.delete("ingresses", "shop", "web").unwrap();
    rig.api.faults().compact();
    rig.api.start_again(Restart::SameState).await.unwrap();
    rig.until("the Ingress gone", |state| !state.objects.contains_key(&web())).await;
    let mut state = rig.controller.state();
    assert_eq!(state.streams.len(), 1, "the stream outlived the API");
    assert!(state.heard().removals.contains(&(web(), RemovalCause::Inferred)), "{:?}", state.heard().removals);
}

#[tokio::test]
async fn a_malformed_object_is_a_finding_and_stops_nothing() {
    let rig = Rig::with_shop().await;
    let metadata = json!({"name": "broken", "namespace": "shop", "uid": "u-broken"});
    let broken =
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": {"rules": 7}});
    rig.api.insert_raw(broken.clone()).unwrap();
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    let broken_key = ObjectKey::new(Kind::Ingress, "shop", "broken");
    let is_reported = |state: &mut crate::controller::State| {
        let findings = &state.heard().findings;
        findings.iter().any(|f| f.code == Code::MalformedObject && f.object.as_ref() == Some(&broken_key))
    };
    rig.until("the finding", is_reported).await;
    assert_eq!(rig.controller.state().keys(), OURS);
    let has_event = || rig.api.list("events").iter().any(|event| event["involvedObject"]["uid"] == "u-broken");
    eventually("its Event", has_event).await;

    // Seen by the live watch, too, and the watch goes on.
    let mut again = broken;
    again["spec"] = json!([]);
    rig.api.insert_raw(again).unwrap();
    rig.apply(slice("front", 2));
    rig.until("a later change", |state| state.heard().upserts.len() > 4).await;
    rig.api.delete("ingresses", "shop", "broken").unwrap();
    rig.until("the end of the finding", |state| state.heard().findings.is_empty()).await;
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_names_the_remedy_and_blocks_only_itself_and_its_slices() {
    let rig = Rig::with_shop().await;
    rig.api.faults().forbid("services");
    let agent = rig.start_agent().await;
    let others = [Kind::IngressClass, Kind::Ingress, Kind::Secret, Kind::Node];
    rig.until("the other kinds", |state| state.completed() == others).await;
    rig.until("the finding", |state| !state.heard().findings.is_empty()).await;
    let finding = rig.controller.state().heard().findings[0].clone();
    assert_eq!((finding.code, &finding.object), (Code::IncompleteSync, &None));
    assert!(finding.message.starts_with("Service cannot be listed"), "{}", finding.message);
    assert!(finding.remedy.contains("services") && finding.remedy.contains("rbac.yaml"), "{}", finding.remedy);
    eventually("readiness without the kind", || agent.readiness.state().is_ok()).await;

    rig.api.faults().clear();
    rig.until_synced(1).await;
    rig.until("the end of the finding", |state| state.heard().findings.is_empty()).await;
}

#[tokio::test]
async fn an_agent_that_may_read_neither_secrets_nor_nodes_reports_all_else_and_names_the_remedy() {
    let rig = Rig::with_shop().await;
    let denied = ["nodes", "secrets"];
    denied.iter().for_each(|resource| rig.api.faults().forbid(resource));
    let _agent = rig.start_agent().await;
    rig.until("the other kinds", |state| state.completed() == Kind::ROUTING).await;
    rig.until("the findings", |state| state.heard().findings.len() == denied.len()).await;
    let findings = rig.controller.state().heard().findings.clone();
    assert!(findings.iter().all(|finding| finding.code == Code::IncompleteSync), "{findings:?}");
    for resource in denied {
        let remedy = format!("list and watch on {resource}");
        assert!(findings.iter().any(|finding| finding.remedy.contains(&remedy)), "{findings:?}");
    }
    assert_eq!(rig.controller.state().keys(), OURS);
}

#[tokio::test]
async fn only_secrets_that_our_ingresses_name_leave_the_cluster_and_no_helm_release() {
    let rig = Rig::with_shop().await;
    let secret = |name: &str, of: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "type": of, "stringData": {"auth": "ann:hash"},
            "metadata": {"name": name, "namespace": "shop"}})
    };
    rig.apply(secret("web-tls", "Opaque"));
    rig.apply(secret("other", "Opaque"));
    rig.apply(secret("release", "helm.sh/release.v1"));
    let mut web = ingress("web", "roadstead", "front");
    web["spec"]["tls"] = json!([{"secretName": "web-tls"}, {"secretName": "release"}]);
    rig.apply(web);
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    let keys = rig.controller.state().keys();
    assert_eq!(keys[OURS.len()..], ["Secret shop/web-tls"]);
}

#[tokio::test]
async fn access_lost_and_regained_is_a_finding_in_between_and_loses_nothing() {
    let rig = Rig::with_shop().await;
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    rig.api.faults().forbid("ingresses");
    rig.api.faults().drop_watches("ingresses");
    rig.until("the finding", |state| !state.heard().findings.is_empty()).await;
    rig.apply(ingress("second", "roadstead", "front"));
    rig.apply(slice("front", 2));
    rig.until("a change of another kind", |state| state.heard().upserts.len() == 5).await;

    rig.api.faults().clear();
    rig.until("what was missed", |state| state.objects.len() == 5 && state.heard().findings.is_empty()).await;
    assert_eq!(rig.controller.state().heard().removals, []);
}

#[tokio::test]
async fn a_reconnect_sends_only_the_difference() {
    let mut rig = Rig::with_shop().await;
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    rig.controller.stop();
    rig.apply(slice("front", 9));
    rig.apply(ingress("second", "roadstead", "front"));
    rig.controller.start_again().await;
    rig.until_synced(2).await;
    rig.until("both changes", |state| state.heard().upserts.len() == 2).await;
    let mut state = rig.controller.state();
    let keys: Vec<String> = state.heard().upserts.iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["EndpointSlice shop/front-1", "Ingress shop/second"]);
    assert!(state.heard().removals.is_empty());
}

#[tokio::test]
async fn the_stream_outlives_the_kubernetes_api_and_changes_resume() {
    let mut rig = Rig::with_shop().await;
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    rig.api.stop().await;
    let before = rig.controller.state().heard().heartbeats;
    rig.until("heartbeats without the API", |state| state.heard().heartbeats >= before + 2).await;
    rig.api.start_again(Restart::SameState).await.unwrap();
    rig.apply(slice("front", 3));
    rig.until("a change", |state| state.heard().upserts.len() == 5).await;
    let mut state = rig.controller.state();
    assert_eq!((state.streams.len(), state.heard().removals.len()), (1, 0));
}

#[tokio::test]
async fn dropped_watches_resume_without_loss() {
    let rig = Rig::with_shop().await;
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    for round in 0..5 {
        rig.api.faults().drop_watches("*");
        rig.apply(service(&format!("extra{round}")));
        rig.apply(ingress(&format!("extra{round}"), "roadstead", &format!("extra{round}")));
    }
    rig.until("everything", |state| state.objects.len() == 4 + 10).await;
    assert!(rig.controller.state().heard().removals.is_empty());
}
