//! The binary: what it says when it cannot start, and how it ends.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use roadstead_proto::tls::TlsFiles;

use crate::pki::Authority;
use crate::support::PATIENCE;

/// An address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The binary with everything it needs; further flags may follow.
pub fn command(tls: &TlsFiles, state_dir: &Path, controller: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead-edge"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ROADSTEAD_")) {
        command.env_remove(name);
    }
    command.args(["--controller", &format!("https://{controller}")]);
    command.arg("--tls-cert").arg(&tls.certificate).arg("--tls-key").arg(&tls.key).arg("--tls-ca").arg(&tls.authority);
    command.arg("--state-dir").arg(state_dir).args(["--workers", "2"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A running edge; killed when dropped.
pub struct EdgeProcess {
    pub http: SocketAddr,
    pub observe: SocketAddr,
    child: Child,
}

impl EdgeProcess {
    pub fn start(tls: &TlsFiles, state_dir: &Path, controller: SocketAddr) -> Self {
        let mut command = command(tls, state_dir, controller);
        command.stderr(Stdio::null());
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let (http, observe) = (free_address(), free_address());
        command.args(["--http-listen", &http.to_string(), "--observe-listen", &observe.to_string()]);
        Self { http, observe, child: command.spawn().unwrap() }
    }

    /// SIGTERM; returns what it wrote to its log, if that is piped.
    pub fn log(mut self) -> String {
        let mut stderr = self.child.stderr.take().unwrap();
        assert!(self.terminate().success());
        let mut log = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut log).unwrap();
        log
    }

    /// SIGTERM; returns how it ended.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the edge must end when told to");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for EdgeProcess {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a command that must fail at start, and returns its one line.
fn refusal(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    errors[0].to_owned()
}

#[test]
fn what_keeps_an_edge_from_starting_is_one_line_that_names_the_flag() {
    let authority = Authority::new();
    let tls = authority.issue("pool/public/edge/e1");
    let cluster = authority.issue("cluster/eu");
    let state = authority.path().join("state");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = taken.local_addr().unwrap().to_string();
    let start = |tls: &TlsFiles, state: &Path, flags: &[&str]| {
        let mut command = command(tls, state, "127.0.0.1:1".parse().unwrap());
        let (http, observe) = (free_address().to_string(), free_address().to_string());
        if !flags.contains(&"--http-listen") {
            command.args(["--http-listen", &http]);
        }
        if !flags.contains(&"--observe-listen") {
            command.args(["--observe-listen", &observe]);
        }
        refusal({
            command.args(flags);
            command
        })
    };
    let missing = TlsFiles { certificate: authority.path().join("missing"), ..tls.clone() };
    let not_pem = TlsFiles { key: authority.path().to_owned(), ..tls.clone() };
    let file = authority.path().join("ca.crt");
    for (line, expected) in [
        (start(&missing, &state, &[]), "--tls-cert"),
        (start(&not_pem, &state, &[]), "--tls-key"),
        (start(&cluster, &state, &[]), "--tls-cert"),
        (start(&tls, &file, &[]), "--state-dir"),
        (start(&tls, &state, &["--http-listen", &in_use]), "--http-listen"),
        (start(&tls, &state, &["--observe-listen", &in_use]), "--observe-listen"),
        (start(&tls, &state, &["--controller", "http://127.0.0.1:1"]), "--controller"),
        (start(&tls, &state, &["--controller", "nonsense"]), "--controller"),
        (start(&tls, &state, &["--log", "a=b=c"]), "--log"),
    ] {
        assert!(line.starts_with(&format!("error: {expected}")), "{line}");
    }
    assert!(start(&cluster, &state, &[]).contains("pool/NAME/edge/ID"));
}

#[tokio::test]
async fn two_edges_share_neither_a_port_nor_a_state_directory() {
    let authority = Authority::new();
    let tls = authority.issue("pool/public/edge/e1");
    let nowhere = free_address();
    let first = EdgeProcess::start(&tls, &authority.path().join("one"), nowhere);
    crate::support::eventually("the first edge listens", async || {
        tokio::net::TcpStream::connect(first.http).await.is_ok()
    })
    .await;
    let mut same_port = command(&tls, &authority.path().join("two"), nowhere);
    same_port.args(["--http-listen", &first.http.to_string(), "--observe-listen", "127.0.0.1:0"]);
    assert!(refusal(same_port).starts_with("error: --http-listen"));
    let mut same_state = command(&tls, &authority.path().join("one"), nowhere);
    same_state.args(["--http-listen", "127.0.0.1:0", "--observe-listen", "127.0.0.1:0"]);
    assert!(refusal(same_state).contains("another edge uses it"));
    assert!(first.terminate().success());
}

#[tokio::test]
async fn the_access_log_is_one_json_line_per_request() {
    let authority = Authority::new();
    let tls = authority.issue("pool/public/edge/e1");
    let http = free_address();
    let mut command = command(&tls, &authority.path().join("state"), free_address());
    command.args(["--http-listen", &http.to_string(), "--observe-listen", "127.0.0.1:0"]);
    let child = command.args(["--access-log", "--log-format", "json"]).spawn().unwrap();
    crate::support::eventually("the edge listens", async || tokio::net::TcpStream::connect(http).await.is_ok()).await;
    assert_eq!(crate::support::get(http, "a.example.com", "/x?y").await.status(), 503);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let log = String::from_utf8(output.stderr).unwrap();
    let requests: Vec<&str> = log.lines().filter(|line| line.contains("roadstead_edge::access")).collect();
    assert_eq!(requests.len(), 1, "{log}");
    for part in ["\"status\":503", "\"host\":\"a.example.com\"", "\"request.target\":\"/x?y\"", "\"complete\":true"] {
        assert!(requests[0].contains(part), "{part} in {}", requests[0]);
    }
}
