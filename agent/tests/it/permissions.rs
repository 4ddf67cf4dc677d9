//! The requests the agent makes, over TLS as a real API server wants it, against what deploy/rbac.yaml grants.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use roadstead_proto::wire;
use roadstead_proto::wire::controller_message::Message;
use serde_json::Value;

use crate::proxy::Proxy;
use crate::rig::{Rig, eventually, slice};
use crate::writing::findings;

/// A verb on something: `list networking.k8s.io/ingresses`, `get /version`.
type Permission = String;

fn asked(passed: &[u8]) -> BTreeSet<Permission> {
    let text = String::from_utf8_lossy(passed);
    text.split("\r\n").filter_map(|line| line.strip_suffix(" HTTP/1.1")).filter_map(permission).collect()
}

/// What RBAC asks of a request line.
fn permission(line: &str) -> Option<Permission> {
    // A request's line follows a body directly, so the method may have anything before it.
    let method = ["GET ", "POST ", "PATCH ", "PUT ", "DELETE "].into_iter().find(|method| line.contains(method))?;
    let (_, target) = line.rsplit_once(method)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group, mut rest) = match parts[..] {
        ["api", _version, ref rest @ ..] => ("", rest),
        ["apis", group, _version, ref rest @ ..] => (group, rest),
        _ => return Some(format!("get {path}")),
    };
    if let ["namespaces", _namespace, resource @ ..] = rest
        && !resource.is_empty()
    {
        rest = resource;
    }
    let (resource, is_named) = match rest {
        [resource, _name, subresource] => (format!("{resource}/{subresource}"), true),
        [resource, _name] => ((*resource).to_owned(), true),
        _ => (rest.join("/"), false),
    };
    let verb = match (method, is_named) {
        ("GET ", true) => "get",
        ("GET ", false) if query.contains("watch=true") => "watch",
        ("GET ", false) => "list",
        ("POST ", _) => "create",
        ("PATCH ", _) => "patch",
        ("PUT ", _) => "update",
        _ => "delete",
    };
    Some(format!("{verb} {group}/{resource}"))
}

fn granted() -> BTreeSet<Permission> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let documents = text.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    let role = documents.into_iter().find(|document| document["kind"] == "ClusterRole").unwrap();
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for verb in strings(&rule["verbs"]) {
            all.extend(strings(&rule["nonResourceURLs"]).iter().map(|path| format!("{verb} {path}")));
            for group in strings(&rule["apiGroups"]) {
                all.extend(strings(&rule["resources"]).iter().map(|resource| format!("{verb} {group}/{resource}")));
            }
        }
    }
    all
}

#[tokio::test]
async fn the_role_grants_exactly_what_the_agent_asks_for() {
    let rig = Rig::with_shop().await;
    let tls = rig.authority.issue("controller/api");
    let passed = Arc::<Mutex<Vec<u8>>>::default();
    let record = Arc::clone(&passed);
    let proxy = Proxy::start(rig.api.address(), Some(&tls), move |bytes: &mut [u8]| {
        record.lock().unwrap().extend_from_slice(bytes);
    })
    .await;
    let authority = rig.directory.path().join("ca.crt");
    let kubeconfig = rig.api.kubeconfig().replace(
        &format!("server: {}", rig.api.url()),
        &format!("server: https://{}\n    certificate-authority: {}", proxy.address, authority.display()),
    );
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();

    // Once with streaming lists, once with pages: both kinds of server are out there.
    for (streams, is_old) in [(1, false), (2, true)] {
        rig.api.faults().change(|faults| faults.no_streaming_lists = is_old);
        let agent = rig.start_agent_with(Client::try_from(config.clone()).unwrap());
        rig.until_synced(streams).await;
        let status = wire::DesiredStatus {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            addresses: vec![format!("203.0.113.{streams}")],
        };
        rig.controller.say(Message::DesiredStatuses(wire::DesiredStatuses { statuses: vec![status] })).await;
        rig.controller.say(findings(&format!("finding {streams}"))).await;
        eventually("an Event", || rig.api.list("events").len() == streams).await;
        let shown = format!("203.0.113.{streams}");
        eventually("the status", || rig.get_ingress("web")["status"]["loadBalancer"]["ingress"][0]["ip"] == shown)
            .await;
        rig.apply(slice("front", 100 + streams as u8));
        rig.until("a live change", |state| !state.heard().upserts.is_empty()).await;
        agent.stop().await;
    }
    assert_eq!(asked(&passed.lock().unwrap()), granted());
}
