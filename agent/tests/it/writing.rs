//! From the controller to the Kubernetes API: statuses and Events.

use roadstead_proto::wire;
use roadstead_proto::wire::controller_message::Message;
use serde_json::{Value, json};

use crate::rig::{Rig, eventually, ingress, slice};

const ADDRESS: &str = "203.0.113.10";

async fn wish(rig: &Rig, name: &str, addresses: &[&str]) {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    let status = wire::DesiredStatus { namespace: "shop".to_owned(), name: name.to_owned(), addresses };
    rig.controller.say(Message::DesiredStatuses(wire::DesiredStatuses { statuses: vec![status] })).await;
}

fn addresses(ingress: &Value) -> Vec<Value> {
    ingress["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default()
}

fn managers(ingress: &Value) -> Vec<&str> {
    let fields = ingress["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    fields.iter().filter_map(|entry| entry["manager"].as_str()).collect()
}

#[tokio::test]
async fn a_status_is_applied_as_our_own_field_and_costs_no_delta() {
    let rig = Rig::with_shop().await;
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    wish(&rig, "web", &[ADDRESS, "LB.example.com"]).await;
    let expected = [json!({"ip": ADDRESS}), json!({"hostname": "lb.example.com"})];
    eventually("the status", || addresses(&rig.get_ingress("web")) == expected).await;
    let written = rig.get_ingress("web");
    let entry = written["metadata"]["managedFields"].as_array().unwrap().iter().find(|entry| {
        entry["manager"] == "roadstead-agent" && entry["operation"] == "Apply" && entry["subresource"] == "status"
    });
    assert!(entry.is_some(), "{}", written["metadata"]["managedFields"]);

    // The same wish again writes nothing, and our own write was no change to report.
    wish(&rig, "web", &[ADDRESS, "lb.example.com"]).await;
    rig.apply(slice("front", 5));
    rig.until("a later change", |state| state.heard().upserts.len() == 5).await;
    assert_eq!(rig.get_ingress("web")["metadata"]["resourceVersion"], written["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn an_ingress_that_leaves_our_class_loses_our_entry() {
    let rig = Rig::with_shop().await;
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    wish(&rig, "web", &[ADDRESS]).await;
    eventually("the status", || addresses(&rig.get_ingress("web")).len() == 1).await;
    rig.apply(ingress("web", "nginx", "front"));
    eventually("the withdrawal", || addresses(&rig.get_ingress("web")).is_empty()).await;
    assert!(!managers(&rig.get_ingress("web")).contains(&"roadstead-agent"));
}

#[tokio::test]
async fn an_empty_wish_withdraws_and_a_stopping_agent_does_not() {
    let rig = Rig::with_shop().await;
    let agent = rig.start_agent().await;
    rig.until_synced(1).await;
    wish(&rig, "web", &[ADDRESS]).await;
    eventually("the status", || addresses(&rig.get_ingress("web")).len() == 1).await;
    agent.stop().await;
    assert_eq!(addresses(&rig.get_ingress("web")).len(), 1);

    let _agent = rig.start_agent().await;
    rig.until_synced(2).await;
    assert_eq!(addresses(&rig.get_ingress("web")).len(), 1, "a restarted agent waits for the controller's word");
    wish(&rig, "web", &[]).await;
    eventually("the withdrawal", || addresses(&rig.get_ingress("web")).is_empty()).await;
}

#[tokio::test]
async fn the_status_of_another_class_is_never_touched() {
    let rig = Rig::with_shop().await;
    let mut foreign = ingress("foreign", "nginx", "back");
    foreign["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}});
    rig.apply(foreign);
    let before = rig.get_ingress("foreign");
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    wish(&rig, "foreign", &[ADDRESS]).await;
    wish(&rig, "web", &[ADDRESS]).await;
    eventually("the status that is ours", || addresses(&rig.get_ingress("web")).len() == 1).await;
    assert_eq!(rig.get_ingress("foreign"), before);
}

pub(crate) fn findings(message: &str) -> Message {
    let object = wire::ObjectRef { kind: wire::Kind::Ingress.into(), namespace: "shop".into(), name: "web".into() };
    let finding = wire::Finding {
        cluster: "eu".into(),
        object: Some(object.clone()),
        code: "invalid-host".into(),
        severity: wire::Severity::Warning.into(),
        message: message.into(),
        remedy: "Use a DNS name.".into(),
    };
    let objects = vec![wire::ObjectFindings { object: Some(object), findings: vec![finding] }];
    Message::Findings(wire::Findings { objects })
}

#[tokio::test]
async fn a_finding_becomes_one_event_however_often_it_is_told() {
    let mut rig = Rig::with_shop().await;
    let agent = rig.start_agent().await;
    rig.until_synced(1).await;
    for _ in 0..3 {
        rig.controller.say(findings("host 1.2.3.4 is an IP.")).await;
    }
    eventually("the Event", || !rig.api.list("events").is_empty()).await;
    rig.controller.stop();
    rig.controller.start_again().await;
    rig.until_synced(2).await;
    rig.controller.say(findings("host 1.2.3.4 is an IP.")).await;
    rig.controller.say(findings("another one.")).await;
    eventually("the second Event", || rig.api.list("events").len() == 2).await;
    agent.stop().await;

    // A new agent knows nothing of them, but the Events' names do.
    let _agent = rig.start_agent().await;
    rig.until_synced(3).await;
    rig.controller.say(findings("host 1.2.3.4 is an IP.")).await;
    rig.controller.say(findings("a third.")).await;
    eventually("the third Event", || rig.api.list("events").len() == 3).await;

    let events = rig.api.list("events");
    let uid = rig.get_ingress("web")["metadata"]["uid"].clone();
    for event in &events {
        assert_eq!(
            (&event["metadata"]["namespace"], &event["reason"]),
            (&json!("shop"), &json!("InvalidHost")),
            "{event}"
        );
        assert_eq!(event["type"], "Warning", "{event}");
        assert_eq!(event["involvedObject"]["uid"], uid, "kept in its core/v1 form: {event}");
    }
    assert!(events.iter().any(|event| event["message"] == "host 1.2.3.4 is an IP. Use a DNS name."), "{events:?}");
}

#[tokio::test]
async fn the_agents_own_findings_become_events_too() {
    let rig = Rig::with_shop().await;
    let mut annotated = ingress("web", "roadstead", "front");
    annotated["metadata"]["annotations"] = json!({"roadstead.dev/strategy": "spread\u{0}"});
    rig.api.faults().change(|faults| faults.accept_invalid = true);
    rig.apply(annotated);
    let _agent = rig.start_agent().await;
    rig.until_synced(1).await;
    eventually("the Event", || rig.api.list("events").iter().any(|event| event["reason"] == "InvalidAnnotation")).await;
    assert_eq!(rig.controller.state().keys().len(), 4, "the Ingress itself is reported");
}
