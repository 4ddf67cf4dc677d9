//! What a person sees who starts a binary wrongly: one line that names the flag and the remedy, and a failure code.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

struct Place {
    folder: TempDir,
    binaries: std::path::PathBuf,
}

impl Place {
    /// With an authority and one certificate of each identity.
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), binaries: roadstead_e2e::binaries().unwrap() };
        let ca = place.path("ca");
        place.succeed("roadstead-controller", &["ca", "init", "--dir", &ca]);
        for (name, identity) in
            [("controller", "controller/c1"), ("cluster", "cluster/eu-west"), ("edge", "pool/public/edge/e1")]
        {
            let out = place.path(name);
            place.succeed(
                "roadstead-controller",
                &["ca", "issue", "--dir", &ca, "--identity", identity, "--ip", "127.0.0.1", "--out", &out],
            );
        }
        place
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The three TLS flags with the certificate called `name`.
    fn tls(&self, name: &str) -> Vec<String> {
        let file = |file: &str| Path::new(&self.path(name)).join(file).display().to_string();
        let flags = [("--tls-cert", "tls.crt"), ("--tls-key", "tls.key"), ("--tls-ca", "ca.crt")];
        flags.iter().flat_map(|(flag, name)| [(*flag).to_owned(), file(name)]).collect()
    }

    fn succeed(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program, arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs to the end, which must be a failure; returns the last line on stderr.
    fn fail(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{program} {arguments:?} must fail: {stderr}");
        stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.args(arguments).stdin(Stdio::null()).env_clear().env("PATH", "/usr/bin:/bin");
        command
    }
}

fn texts(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[track_caller]
fn assert_names(line: &str, parts: &[&str]) {
    assert!(line.starts_with("error: "), "not an error line: {line}");
    for part in parts {
        assert!(line.contains(part), "`{part}` is missing in: {line}");
    }
}

#[test]
fn an_unreadable_certificate_names_the_flag() {
    let place = Place::new();
    for (program, first) in
        [("roadstead-controller", Some("serve")), ("roadstead-agent", None), ("roadstead-edge", None)]
    {
        let state = place.path("state");
        let mut arguments: Vec<&str> = first.into_iter().collect();
        match program {
            "roadstead-controller" => {
                arguments.extend(["--database-url", "postgres://127.0.0.1:1/x", "--policy", "/dev/null"]);
            }
            "roadstead-agent" => arguments.extend(["--controller", "https://127.0.0.1:1"]),
            _ => arguments.extend(["--controller", "https://127.0.0.1:1", "--state-dir", &state]),
        }
        arguments.extend([
            "--tls-cert",
            "/nowhere/tls.crt",
            "--tls-key",
            "/nowhere/tls.key",
            "--tls-ca",
            "/nowhere/ca",
        ]);
        assert_names(&place.fail(program, &arguments), &["--tls-cert", "/nowhere/tls.crt"]);
    }
}

#[test]
fn a_certificate_of_another_role_is_refused() {
    let place = Place::new();
    let mut arguments = place.tls("edge");
    arguments.extend(["--controller".to_owned(), "https://127.0.0.1:1".to_owned()]);
    assert_names(
        &place.fail("roadstead-agent", &texts(&arguments)),
        &["--tls-cert", "pool/public/edge/e1", "cluster/"],
    );
    let mut arguments = place.tls("cluster");
    let state = place.path("state");
    arguments.extend(["--controller", "https://127.0.0.1:1", "--state-dir", &state].map(str::to_owned));
    assert_names(&place.fail("roadstead-edge", &texts(&arguments)), &["--tls-cert", "cluster/eu-west", "pool/"]);
}

#[test]
fn an_unreachable_database_names_the_flag() {
    let place = Place::new();
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(place.tls("controller"));
    let policy = place.path("policy.yaml");
    std::fs::write(&policy, "pools: {public: {kind: edge}}\n").unwrap();
    let flags = ["--database-url", "postgres://127.0.0.1:1/x", "--database-wait-seconds", "1", "--policy", &policy];
    arguments.extend(flags.map(str::to_owned));
    arguments.extend(["--grpc-listen", "127.0.0.1:0", "--observe-listen", "127.0.0.1:0"].map(str::to_owned));
    assert_names(&place.fail("roadstead-controller", &texts(&arguments)), &["--database-url"]);
}

#[test]
fn a_port_in_use_names_the_flag() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let state = place.path("state");
    let mut arguments = place.tls("edge");
    arguments.extend(["--controller", "https://127.0.0.1:1", "--state-dir", &state].map(str::to_owned));
    arguments.extend(["--http-listen", &address, "--observe-listen", "127.0.0.1:0"].map(str::to_owned));
    assert_names(&place.fail("roadstead-edge", &texts(&arguments)), &["--http-listen", &address]);
}

#[test]
fn an_unreadable_kubeconfig_names_the_flag() {
    let place = Place::new();
    let mut arguments = place.tls("cluster");
    let flags =
        ["--controller", "https://127.0.0.1:1", "--kubeconfig", "/nowhere/config", "--observe-listen", "127.0.0.1:0"];
    arguments.extend(flags.map(str::to_owned));
    assert_names(&place.fail("roadstead-agent", &texts(&arguments)), &["--kubeconfig", "/nowhere/config"]);
}

#[test]
fn a_plaintext_controller_address_is_refused() {
    let place = Place::new();
    let mut arguments = place.tls("cluster");
    arguments.extend(["--controller", "http://127.0.0.1:1"].map(str::to_owned));
    assert_names(&place.fail("roadstead-agent", &texts(&arguments)), &["--controller", "https://"]);
}
