//! Starts that must fail: one line on stderr that names the flag, and an exit code other than 0.

use crate::setup::Setup;

/// Runs with one argument replaced and checks that the one line starts so and contains that.
fn refuses(setup: &Setup, flag: &str, value: &str, expected: &[&str]) {
    let output = setup.run_with(flag, value);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{flag} {value} must be refused");
    assert_eq!(stderr.trim_end().lines().count(), 1, "one line: {stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for text in expected {
        assert!(stderr.contains(text), "{text:?} must be in: {stderr}");
    }
}

#[tokio::test]
async fn every_mistake_is_one_line_that_names_the_flag() {
    let setup = Setup::new().await;
    setup.issue("cluster/eu");
    let foreign = setup.certificate_directory("cluster/eu").join("tls.crt").display().to_string();
    refuses(&setup, "--tls-cert", &foreign, &["--tls-cert", "cluster/eu", "controller/ID"]);
    refuses(&setup, "--tls-cert", "/nowhere/tls.crt", &["--tls-cert /nowhere/tls.crt"]);
    let policy = setup.path("policy.yaml").display().to_string();
    setup.issue("controller/c2");
    let other_key = setup.certificate_directory("controller/c2").join("tls.key").display().to_string();
    refuses(&setup, "--tls-key", &other_key, &["--tls-key", "not usable for TLS"]);
    refuses(&setup, "--tls-key", &policy, &["--tls-key", "PRIVATE KEY"]);
    refuses(&setup, "--database-url", "mysql://x", &["--database-url", "postgres://"]);
    let nobody = format!("postgres://app@127.0.0.1:{}/x", roadstead_testkit::stack::ports::free(1)[0]);
    refuses(&setup, "--database-url", &nobody, &["--database-url", "check that the database runs"]);
    refuses(&setup, "--policy", "/nowhere/policy.yaml", &["--policy /nowhere/policy.yaml", "correct the file"]);
    setup.write_policy("pools:\n  p: {kind: edge, weight: 3}");
    refuses(&setup, "--policy", &policy, &["--policy", "line 2", "`weight`"]);
}

#[tokio::test]
async fn a_port_in_use_names_its_flag() {
    let setup = Setup::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    refuses(&setup, "--observe-listen", &address, &["--observe-listen", "cannot listen"]);
    refuses(&setup, "--grpc-listen", &address, &["--grpc-listen", "cannot listen"]);
    refuses(&setup, "--api-listen", &address, &["--api-listen", "cannot listen"]);
}

#[tokio::test]
async fn the_admin_api_is_neither_for_other_machines_nor_for_other_users() {
    let setup = Setup::new().await;
    refuses(&setup, "--api-listen", "0.0.0.0:9780", &["--api-listen 0.0.0.0:9780", "loopback", "127.0.0.1"]);
    let token = setup.path("open.token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let token = token.display().to_string();
    refuses(&setup, "--api-token-file", &token, &["--api-token-file", "0644", "chmod 0600"]);
}

#[tokio::test]
async fn an_unknown_flag_names_itself() {
    let setup = Setup::new().await;
    let mut args = setup.args();
    args.push("--plaintext".to_owned());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_roadstead-controller")).args(args).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--plaintext"));
}
