//! What debug builds can be run without: that it is off, and that the log says so.

#![cfg(debug_assertions)]

use crate::controller::{Controller, answers, first_set};
use crate::pki::Authority;
use crate::process::{EdgeProcess, command, free_address};
use crate::support::Pod;

#[tokio::test]
async fn an_edge_runs_without_what_is_named_and_says_so() {
    let (authority, pod) = (Authority::new(), Pod::saying("from the pod").await);
    let (tls, controller_tls) = (authority.issue("pool/public/edge/e1"), authority.issue("controller/c1"));
    let (state, address) = (authority.path().join("state"), free_address());
    let mut controller = Controller::start(address, &controller_tls).await;
    let edge = EdgeProcess::start(&tls, &state, address);
    controller.session().await.update(first_set(pod.address)).await;
    assert!(edge.terminate().success());
    controller.stop().await;
    for (name, status, lines) in [("controller-guard", 200, 0), ("edge-guard,edge-last-good", 503, 1)] {
        let mut without = command(&tls, &state, address);
        without.env("ROADSTEAD_UNSAFE_OFF", name);
        let edge = EdgeProcess::spawn(without);
        answers(&edge, status).await;
        let log = edge.log();
        let says = |line: &&str| line.contains("ERROR") && line.contains("without edge-guard, edge-last-good");
        assert_eq!(log.lines().filter(says).count(), lines, "{log}");
    }
}
