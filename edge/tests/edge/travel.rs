//! Settings from a controller to the edge process, and over its restart.

use roadstead_proto::resource::host_to_wire;
use roadstead_proto::wire;
use roadstead_routing::settings::{Access, ClientSettings, UpstreamSettings};
use roadstead_routing::table::Target;

use crate::controller::{Controller, HOST, answers, first_set, upsert};
use crate::pki::Authority;
use crate::process::{EdgeProcess, free_address};
use crate::support::{Pod, eventually, get, host_of, id};

#[tokio::test]
async fn settings_travel_and_are_obeyed_after_a_restart_without_a_controller() {
    let (authority, pod) = (Authority::new(), Pod::saying("x").await);
    let (tls, controller_tls) = (authority.issue("pool/public/edge/e1"), authority.issue("controller/c1"));
    let (state, address) = (authority.path().join("state"), free_address());
    let edge = EdgeProcess::start(&tls, &state, address);
    let mut controller = Controller::start(address, &controller_tls).await;
    let mut session = controller.session().await;
    let first = first_set(pod.address);
    assert!(session.update(first.clone()).await.refusals.is_empty());
    assert_eq!(get(edge.http, HOST, "/").await.status(), 200);

    let mut host = host_of(HOST, vec![("eu", 100, Target::Backend(id("eu")))]);
    let upstream = UpstreamSettings { host: Some("inner".into()), ..UpstreamSettings::default() };
    host.routes[0].backends[0].upstream = upstream.into();
    let seen = wire::resource_upsert::Resource::Host(host_to_wire(&host));
    let update = |nonce, host| wire::Update { nonce, upserts: vec![upsert(host)], ..wire::Update::default() };
    assert!(session.update(wire::Update { world: first.world.clone(), ..update(2, seen) }).await.refusals.is_empty());
    assert_eq!(get(edge.http, HOST, "/").await.status(), 200);
    assert_eq!(pod.requests().last().unwrap().header("host"), ["inner"]);

    let deny = vec!["127.0.0.0/8".parse().unwrap()];
    let access = Access { deny, ..Access::default() };
    host.routes[0].client = ClientSettings { access, ..ClientSettings::default() }.into();
    let mut denied = host_to_wire(&host);
    let usable = wire::resource_upsert::Resource::Host(denied.clone());
    let networks = &mut denied.routes[0].client.as_mut().unwrap().access.as_mut().unwrap().deny;
    networks[0].prefix = 200;
    let unusable = wire::resource_upsert::Resource::Host(denied);
    let result = session.update(wire::Update { world: first.world.clone(), ..update(3, unusable) }).await;
    assert_eq!(result.refusals[0].reason, "access deny has a value that is not allowed: 127.0.0.0/200");
    assert_eq!(get(edge.http, HOST, "/").await.status(), 200, "the old form stays");
    assert!(session.update(wire::Update { world: first.world, ..update(4, usable) }).await.refusals.is_empty());
    answers(&edge, 403).await;

    controller.stop().await;
    drop(session);
    let journal = state.join("table.journal");
    eventually("the updates are on disk", async || {
        let bytes = std::fs::read(&journal).unwrap();
        bytes.windows(4).any(|window| window == [127, 0, 0, 0])
    })
    .await;
    edge.kill();
    let edge = EdgeProcess::start(&tls, &state, address);
    answers(&edge, 403).await;
}
