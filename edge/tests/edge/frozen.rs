//! `--frozen`: the last good table serves as it is, whatever controllers say.

use std::process::Stdio;

use crate::controller::{Controller, answers, first_set, positions_of};
use crate::pki::Authority;
use crate::process::{EdgeProcess, command, free_address};
use crate::support::{Pod, eventually, get};

#[tokio::test]
async fn a_frozen_edge_serves_its_last_table_and_dials_nobody() {
    let (authority, pod) = (Authority::new(), Pod::saying("from the pod").await);
    let (tls, controller_tls) = (authority.issue("pool/public/edge/e1"), authority.issue("controller/c1"));
    let (state, address) = (authority.path().join("state"), free_address());
    let mut controller = Controller::start(address, &controller_tls).await;
    let edge = EdgeProcess::start(&tls, &state, address);
    let mut session = controller.session().await;
    session.update(first_set(pod.address)).await;
    assert!(edge.terminate().success());
    drop(session);

    // The controller listens all the time.
    let mut frozen = command(&tls, &state, address);
    frozen.arg("--frozen");
    let edge = EdgeProcess::spawn(frozen);
    answers(&edge, 200).await;
    eventually("the edge is ready", async || get(edge.observe, "x", "/readyz").await.status() == 200).await;
    let status = get(edge.observe, "x", "/status").await;
    assert!(status.text().contains("\"problem\":\"frozen"), "{}", status.text());
    assert!(status.text().contains("\"complete\":true"), "{}", status.text());
    // An edge that follows dials before it does anything else.
    let metrics = get(edge.observe, "x", "/metrics").await;
    assert!(metrics.text().contains("roadstead_edge_controller_reconnects_total 0\n"), "{}", metrics.text());
    assert!(controller.sessions.try_recv().is_err());
    let log = edge.log();
    assert_eq!(log.lines().filter(|line| line.contains("--frozen") && line.contains("WARN")).count(), 1, "{log}");

    // Thawed, it goes on where it was.
    let edge = EdgeProcess::start(&tls, &state, address);
    let session = controller.session().await;
    assert_eq!(session.hello.positions, positions_of(&first_set(pod.address)));
    answers(&edge, 200).await;
}

#[tokio::test]
async fn a_frozen_edge_without_a_table_says_why_it_is_not_ready() {
    let authority = Authority::new();
    let tls = authority.issue("pool/public/edge/e1");
    let mut frozen = command(&tls, &authority.path().join("state"), free_address());
    frozen.env("ROADSTEAD_FROZEN", "1").stderr(Stdio::null());
    let edge = EdgeProcess::spawn(frozen);
    answers(&edge, 503).await;
    eventually("the edge says so", async || {
        let reply = get(edge.observe, "x", "/readyz").await;
        reply.status() == 503 && reply.text().contains("frozen")
    })
    .await;
}
