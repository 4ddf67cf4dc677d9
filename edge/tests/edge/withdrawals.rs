//! The edge's own guard in the process: what no controller gets it to withdraw, also over restarts.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use roadstead_proto::resource::host_to_wire;
use roadstead_proto::wire;
use roadstead_routing::table::Target;

use crate::controller::{Controller, HOST, answers, first_set, upsert};
use crate::pki::Authority;
use crate::process::{EdgeProcess, free_address};
use crate::support::{Pod, eventually, get, host_of, id};

/// The first set with nine more hosts of the same namespace.
fn ten_hosts(address: SocketAddr) -> wire::Update {
    let mut update = first_set(address);
    for number in 0..9 {
        let host = host_of(&format!("h{number}.example.com"), vec![("eu", 100, Target::Backend(id("eu")))]);
        update.upserts.push(upsert(wire::resource_upsert::Resource::Host(host_to_wire(&host))));
    }
    update
}

/// Everything is to go, as the first set of a stream.
fn withdrawal(address: SocketAddr) -> wire::Update {
    let hosts = (0..9).map(|number| format!("host/h{number}.example.com"));
    let removals = hosts.chain([format!("host/{HOST}")]).collect();
    wire::Update { nonce: 2, upserts: Vec::new(), removals, ..first_set(address) }
}

/// As if nothing had been written for so long.
fn age(state: &Path, by: Duration) {
    let journal = std::fs::File::options().write(true).open(state.join("table.journal")).unwrap();
    journal.set_modified(SystemTime::now() - by).unwrap();
}

#[tokio::test]
async fn a_controller_cannot_withdraw_a_pool_unless_a_person_approved() {
    let (authority, pod) = (Authority::new(), Pod::saying("from the pod").await);
    let (tls, controller_tls) = (authority.issue("pool/public/edge/e1"), authority.issue("controller/c1"));
    let address = free_address();
    let mut controller = Controller::start(address, &controller_tls).await;
    let edge = EdgeProcess::start(&tls, &authority.path().join("state"), address);
    let mut session = controller.session().await;
    session.update(ten_hosts(pod.address)).await;

    let refusals = session.update(withdrawal(pod.address)).await.refusals;
    assert!(refusals.len() == 10 && refusals.iter().all(|refusal| refusal.guarded), "{refusals:?}");
    assert_eq!(get(edge.http, HOST, "/").await.text(), "from the pod");
    eventually("the page and the metrics say so", async || {
        let (status, metrics) = (get(edge.observe, "x", "/status").await, get(edge.observe, "x", "/metrics").await);
        status.text().contains("\"host/a.example.com\":\"cluster eu in pool public would lose")
            && metrics.text().contains("roadstead_edge_resources_guarded_total 10\n")
    })
    .await;

    let approved = (0..9).map(|number| format!("h{number}.example.com")).chain([HOST.to_owned()]).collect();
    let guard = Some(wire::GuardContext { approved, ..wire::GuardContext::default() });
    let result = session.update(wire::Update { nonce: 3, guard, ..withdrawal(pod.address) }).await;
    assert_eq!(result, wire::UpdateResult { nonce: 3, refusals: vec![] });
    assert_eq!(get(edge.http, HOST, "/").await.status(), 404);
    eventually("nothing is refused", async || {
        get(edge.observe, "x", "/status").await.text().contains("\"refused\":{}")
    })
    .await;
}

#[tokio::test]
async fn a_restart_is_no_way_around_the_guard_but_a_long_absence_ends_what_it_knows() {
    let (authority, pod) = (Authority::new(), Pod::saying("from the pod").await);
    let (tls, controller_tls) = (authority.issue("pool/public/edge/e1"), authority.issue("controller/c1"));
    let (state, address) = (authority.path().join("state"), free_address());
    let mut controller = Controller::start(address, &controller_tls).await;
    let edge = EdgeProcess::start(&tls, &state, address);
    controller.session().await.update(ten_hosts(pod.address)).await;
    assert!(edge.terminate().success());

    for (absence, held) in [(Duration::ZERO, 10), (Duration::from_secs(660), 0)] {
        age(&state, absence);
        let edge = EdgeProcess::start(&tls, &state, address);
        answers(&edge, 200).await;
        let refusals = controller.session().await.update(withdrawal(pod.address)).await.refusals;
        assert_eq!(refusals.len(), held, "absent for {absence:?}");
        assert_eq!(get(edge.http, HOST, "/").await.status(), if held == 0 { 404 } else { 200 });
        assert!(edge.terminate().success());
    }
}
