//! A real kubectl against the simulated API server.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use roadstead_testkit::kube_api::{ApiServer, ApiServerOptions};
use serde_json::{Value, json};

use crate::client::eventually;
use crate::kube_rs::ingress;

/// kubectl with its own home, so that no configuration or cache of the machine is read or written.
struct Kubectl {
    server: ApiServer,
    folder: tempfile::TempDir,
}

impl Kubectl {
    async fn start() -> Self {
        let server = ApiServer::start(ApiServerOptions::new("eu-1")).await.expect("starts");
        let folder = tempfile::tempdir().expect("folder");
        server.write_kubeconfig(&folder.path().join("config")).expect("written");
        Self { server, folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = std::env::var_os("ROADSTEAD_KUBECTL").map_or_else(|| PathBuf::from("kubectl"), PathBuf::from);
        let mut command = Command::new(program);
        command.args(arguments).env("KUBECONFIG", self.folder.path().join("config")).env("HOME", self.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        let input = input.to_owned();
        let run = move || {
            let mut child = command.spawn().expect(
                "these tests need kubectl (1.29 or newer): name it in ROADSTEAD_KUBECTL or install it into PATH",
            );
            child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("read");
            child.wait_with_output().expect("ends")
        };
        tokio::task::spawn_blocking(run).await.expect("runs")
    }

    /// Runs it and expects success; gives standard output.
    async fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs it and expects a failure; gives standard error.
    async fn fails(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        assert!(!output.status.success(), "kubectl {arguments:?} should fail");
        String::from_utf8(output.stderr).expect("text")
    }

    fn ingress(&self) -> Value {
        self.server.get("ingresses", "default", "web").expect("stored")
    }
}

/// Words of a table, line by line.
fn words(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

const APPLY: [&str; 4] = ["apply", "--validate=false", "-f", "-"];
const SERVER_SIDE: [&str; 5] = ["apply", "--server-side", "--validate=false", "-f", "-"];

#[tokio::test]
async fn get_shows_tables_yaml_and_json() {
    let kubectl = Kubectl::start().await;
    kubectl.ok(&SERVER_SIDE, &ingress("web", "web.example").to_string()).await;
    let table = kubectl.ok(&["get", "ing", "-A"], "").await;
    let lines = words(&table);
    assert_eq!(lines[0], ["NAMESPACE", "NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE"]);
    assert_eq!(lines[1][..5], ["default", "web", "roadstead", "web.example", "80"]);
    assert!(kubectl.ok(&["get", "ing", "web", "-o", "yaml"], "").await.contains("host: web.example"));
    let json = kubectl.ok(&["get", "ing", "-o", "json"], "").await;
    let list: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(list["items"][0]["metadata"]["name"], "web");
    for kind in ["ns", "svc", "secrets", "cm", "nodes", "pods", "events", "ingressclass", "endpointslices"] {
        kubectl.ok(&["get", kind, "-A", "-o", "wide"], "").await;
    }
    let missing = kubectl.fails(&["get", "ing", "nope"], "").await;
    assert!(missing.contains(r#"ingresses.networking.k8s.io "nope" not found"#), "{missing}");
}

#[tokio::test]
async fn client_side_apply_changes_only_what_changed() {
    let kubectl = Kubectl::start().await;
    let manifest = ingress("web", "web.example");
    assert!(kubectl.ok(&APPLY, &manifest.to_string()).await.contains("created"));
    assert!(kubectl.ok(&APPLY, &manifest.to_string()).await.contains("unchanged"));
    let mut changed = ingress("web", "other.example");
    changed["metadata"]["labels"] = json!({"a": "b"});
    assert!(kubectl.ok(&APPLY, &changed.to_string()).await.contains("configured"));
    assert_eq!(kubectl.ingress()["spec"]["rules"][0]["host"], "other.example");
    assert!(kubectl.ok(&APPLY, &manifest.to_string()).await.contains("configured"));
    assert_eq!(kubectl.ingress()["metadata"]["labels"], Value::Null);
}

#[tokio::test]
async fn server_side_apply_reports_conflicts_and_can_force() {
    let kubectl = Kubectl::start().await;
    kubectl.ok(&SERVER_SIDE, &ingress("web", "web.example").to_string()).await;
    let other = ingress("web", "other.example").to_string();
    let rival = [&SERVER_SIDE[..], &["--field-manager=rival"]].concat();
    let conflict = kubectl.fails(&rival, &other).await;
    assert!(conflict.contains(r#"conflict with "kubectl""#) && conflict.contains(".spec.rules"), "{conflict}");
    kubectl.ok(&[&rival[..], &["--force-conflicts"]].concat(), &other).await;
    assert_eq!(kubectl.ingress()["spec"]["rules"][0]["host"], "other.example");
}

#[tokio::test]
async fn an_invalid_ingress_names_its_fields() {
    let kubectl = Kubectl::start().await;
    let text = kubectl.fails(&APPLY, &ingress("web", "10.0.0.1").to_string()).await;
    assert!(text.contains("spec.rules[0].host") && text.contains("must be a DNS name"), "{text}");
}

#[tokio::test]
async fn edits_of_all_kinds() {
    let kubectl = Kubectl::start().await;
    let manifest = ingress("web", "web.example").to_string();
    kubectl.ok(&["create", "--validate=false", "-f", "-"], &manifest).await;
    let again = kubectl.fails(&["create", "--validate=false", "-f", "-"], &manifest).await;
    assert!(again.contains("already exists"), "{again}");
    kubectl.ok(&["annotate", "ing", "web", "x.io/a=b"], "").await;
    kubectl.ok(&["label", "ing", "web", "tier=web"], "").await;
    let operations = r#"[{"op":"replace","path":"/spec/rules/0/host","value":"json.example"}]"#;
    kubectl.ok(&["patch", "ing", "web", "--type=json", "-p", operations], "").await;
    assert_eq!(kubectl.ingress()["spec"]["rules"][0]["host"], "json.example");
    kubectl.ok(&["patch", "ing", "web", "--type=merge", "-p", r#"{"metadata":{"labels":{"tier":null}}}"#], "").await;
    assert_eq!(kubectl.ingress()["metadata"]["labels"], Value::Null);
    assert_eq!(kubectl.ingress()["metadata"]["annotations"]["x.io/a"], "b");
    kubectl.ok(&["replace", "--validate=false", "-f", "-"], &manifest).await;
    assert_eq!(kubectl.ingress()["spec"]["rules"][0]["host"], "web.example");

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"ports": [{"name": "http", "port": 80}, {"name": "alt", "port": 8080}]}});
    kubectl.ok(&APPLY, &service.to_string()).await;
    kubectl.ok(&["patch", "svc", "web", "-p", r#"{"spec":{"ports":[{"port":80,"targetPort":9090}]}}"#], "").await;
    let ports = kubectl.server.get("services", "default", "web").expect("stored")["spec"]["ports"].clone();
    assert_eq!(
        (&ports[0]["name"], &ports[0]["targetPort"], ports.as_array().map(Vec::len)),
        (&json!("http"), &json!(9090), Some(2))
    );
}

#[tokio::test]
async fn describe_shows_backends_and_events() {
    let kubectl = Kubectl::start().await;
    let stored = kubectl.server.apply(ingress("web", "web.example")).expect("applied");
    kubectl
        .server
        .apply(json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "web.1"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Warning", "reason": "ServiceMissing", "action": "Compile",
            "note": "there is no Service web", "reportingController": "roadstead.dev/agent", "reportingInstance": "agent-0",
            "regarding": {"kind": "Ingress", "namespace": "default", "name": "web", "uid": stored["metadata"]["uid"]}}))
        .expect("applied");
    let text = kubectl.ok(&["describe", "ingress", "web"], "").await;
    assert!(text.contains("web.example") && text.contains("web:80"), "{text}");
    assert!(text.contains("ServiceMissing") && text.contains("there is no Service web"), "{text}");
}

#[tokio::test]
async fn a_watch_follows_changes_and_delete_waits_for_the_end() {
    let kubectl = Kubectl::start().await;
    kubectl.server.apply(ingress("web", "web.example")).expect("applied");
    let output = kubectl.folder.path().join("watch");
    let file = std::fs::File::create(&output).expect("created");
    let mut watch = kubectl.command(&["get", "ing", "-w"]).stdout(file).spawn().expect("starts");
    let lines = |count: usize| {
        let output = output.clone();
        async move || {
            let text = std::fs::read_to_string(&output).expect("readable");
            (text.lines().count() >= count).then_some(text)
        }
    };
    eventually("the first table", lines(2)).await;
    kubectl.server.apply(ingress("two", "two.example")).expect("applied");
    eventually("the new object", lines(3)).await;
    assert!(kubectl.ok(&["delete", "ing", "two"], "").await.contains("deleted"));
    let text = eventually("the deletion", lines(4)).await;
    watch.kill().expect("killed");
    watch.wait().expect("ended");
    let rows = words(&text);
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), ["NAME", "web", "two", "two"]);
}
