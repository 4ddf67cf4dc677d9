//! What an edge tells its controller about backends that requests cannot reach.

use roadstead_proto::wire;
use roadstead_proto::wire::edge_message::Message as Heard;
use tokio::net::TcpListener;

use crate::controller::{Controller, HOST, first_set};
use crate::pki::Authority;
use crate::process::{EdgeProcess, free_address};
use crate::support::get;

#[tokio::test]
async fn a_controller_hears_of_backends_that_fail_and_that_they_are_tried_again() {
    let authority = Authority::new();
    let (tls, controller_tls) = (authority.issue("pool/public/edge/e1"), authority.issue("controller/c1"));
    let address = free_address();
    let mut controller = Controller::start(address, &controller_tls).await;
    let edge = EdgeProcess::start(&tls, &authority.path().join("state"), address);
    let mut session = controller.session().await;
    // Nobody listens there.
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    session.update(first_set(nowhere)).await;
    assert_eq!(get(edge.http, HOST, "/").await.status(), 502);
    let Some(Heard::Health(health)) = session.next().await else { panic!("expected a report") };
    let backend = wire::BackendId {
        cluster: "eu".to_owned(),
        namespace: "shop".to_owned(),
        service: "web".to_owned(),
        port: Some(wire::PortRef { port: Some(wire::port_ref::Port::Number(80)) }),
    };
    let failing = wire::FailingBackend { backend: Some(backend), failing: 1, endpoints: 1 };
    assert_eq!(health, wire::BackendHealth { failing: vec![failing] });
    // No request comes, so after its rest the endpoint counts as usable.
    let Some(Heard::Health(health)) = session.next().await else { panic!("expected a report") };
    assert_eq!(health, wire::BackendHealth { failing: vec![] });
}
