//! The binary: what it prints when something does not fit, and that it connects.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use roadstead_proto::tls::TlsFiles;

use crate::certificates::Authority;
use crate::rig::{Rig, eventually};

/// Runs the agent with flags that must not work; returns its one line on stderr.
fn refused(flags: &[String]) -> String {
    let Output { status, stderr, .. } = command(flags).output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one line says what is wrong: {text}");
    errors[0].to_owned()
}

fn command(flags: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead-agent"));
    command.args(flags).env_remove("KUBECONFIG").env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

fn flags(controller: &str, tls: &TlsFiles, kubeconfig: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    [
        ("--controller", controller.to_owned()),
        ("--tls-cert", path(&tls.certificate)),
        ("--tls-key", path(&tls.key)),
        ("--tls-ca", path(&tls.authority)),
        ("--kubeconfig", path(kubeconfig)),
        ("--observe-listen", "127.0.0.1:0".to_owned()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

fn with(flags: &[String], flag: &str, value: &str) -> Vec<String> {
    let mut flags = flags.to_vec();
    match flags.iter().position(|other| other == flag) {
        Some(index) => value.clone_into(&mut flags[index + 1]),
        None => flags.extend([flag.to_owned(), value.to_owned()]),
    }
    flags
}

#[tokio::test]
async fn what_does_not_fit_is_one_line_that_names_the_flag() {
    let rig = Rig::new().await;
    let kubeconfig = rig.directory.path().join("kubeconfig");
    rig.api.write_kubeconfig(&kubeconfig).unwrap();
    let good = flags(&rig.controller.url(), &rig.authority.issue("cluster/eu"), &kubeconfig);
    let edge = rig.authority.issue("pool/public/edge/e1");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();

    let cases = [
        (with(&good, "--kubeconfig", "/nonexistent/config"), "--kubeconfig /nonexistent/config: cannot use it: "),
        (with(&good, "--context", "prod"), "--context prod: no such context in "),
        (with(&good, "--tls-cert", "/nonexistent/tls.crt"), "--tls-cert /nonexistent/tls.crt: cannot read it: "),
        (with(&good, "--tls-key", &kubeconfig.display().to_string()), "--tls-key "),
        (with(&good, "--tls-cert", &edge.certificate.display().to_string()), "--tls-cert "),
        (
            with(&good, "--controller", "http://127.0.0.1:1"),
            "--controller http://127.0.0.1:1: expected https://HOST:PORT",
        ),
        (with(&good, "--observe-listen", &taken), &format!("--observe-listen {taken}: cannot listen: ")),
        (with(&good, "--log", "a=b=c"), "--log a=b=c: "),
    ];
    for (flags, expected) in cases {
        let line = refused(&flags);
        assert!(line.starts_with(&format!("error: {expected}")), "expected {expected:?}, got {line:?}");
    }
    let context = refused(&with(&good, "--context", "prod"));
    assert!(context.ends_with("it has: eu"), "{context}");
    let identity = refused(&with(&good, "--tls-cert", &edge.certificate.display().to_string()));
    assert!(identity.contains("pool/public/edge/e1") && identity.contains("cluster/ID"), "{identity}");
}

#[tokio::test]
async fn without_any_kubeconfig_the_remedy_is_named() {
    let rig = Rig::new().await;
    let mut flags = flags(&rig.controller.url(), &rig.authority.issue("cluster/eu"), Path::new("/unused"));
    let index = flags.iter().position(|flag| flag == "--kubeconfig").unwrap();
    flags.drain(index..index + 2);
    let line = refused(&flags);
    assert!(line.starts_with("error: no Kubernetes cluster: ") && line.ends_with("give --kubeconfig FILE"), "{line}");
}

/// Runs the agent until it logs a line with `expected`.
async fn logs(flags: &[String], expected: &str) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let _agent = Killed(command(flags).stderr(log.reopen().unwrap()).spawn().unwrap());
    let read = || std::fs::read_to_string(log.path()).unwrap();
    eventually(expected, || read().lines().any(|line| line.contains(expected))).await;
}

#[tokio::test]
async fn what_goes_wrong_later_is_logged_and_tried_again() {
    let rig = Rig::with_shop().await;
    let kubeconfig = rig.directory.path().join("kubeconfig");
    rig.api.write_kubeconfig(&kubeconfig).unwrap();
    let good = flags(&rig.controller.url(), &rig.authority.issue("cluster/eu"), &kubeconfig);
    let other_directory = tempfile::tempdir().unwrap();
    let stranger = Authority::new(other_directory.path()).issue("cluster/eu");
    let other_authority = stranger.authority.display().to_string();
    let with_strange_certificate = with(
        &with(&good, "--tls-cert", &stranger.certificate.display().to_string()),
        "--tls-key",
        &stranger.key.display().to_string(),
    );

    logs(&with(&good, "--controller", "https://127.0.0.1:1"), "Controller https://127.0.0.1:1 cannot be reached: ")
        .await;
    logs(&with(&good, "--tls-ca", &other_authority), "invalid peer certificate").await;
    logs(&with(&good, "--controller-name", "other.example.com"), "not valid for name").await;
    logs(&with_strange_certificate, &format!("The stream to controller {} ended: ", rig.controller.url())).await;
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_binary_connects_a_cluster_and_stops_on_a_signal() {
    let rig = Rig::with_shop().await;
    let kubeconfig = rig.directory.path().join("kubeconfig");
    rig.api.write_kubeconfig(&kubeconfig).unwrap();
    let flags = flags(&rig.controller.url(), &rig.authority.issue("cluster/eu"), &kubeconfig);
    let mut agent = Killed(command(&flags).stderr(Stdio::null()).spawn().unwrap());
    rig.until_synced(1).await;
    assert_eq!(rig.controller.state().keys().len(), 4);
    let id = agent.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || agent.0.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
}
