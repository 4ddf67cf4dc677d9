//! The demo's scenario: shares, edits, and everything that breaks at 3 a.m., while clients that never retry send requests.

use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn every_claim_of_the_demo_holds() {
    let folder = roadstead_e2e::binaries().unwrap();
    let out = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new(folder.join("roadstead-demo"))
        .args(["--check", "--json"])
        .arg(out.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    let result: Value = serde_json::from_reader(out.reopen().unwrap()).expect("the demo wrote its result");
    let rows = result["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 10, "{result:#}");
    for row in rows {
        let sent = row["sent"].as_u64().unwrap();
        assert!(row["ok"] == true && sent >= 500 && row["failed"] == 0 && row["misrouted"] == 0, "{row:#}");
    }
    assert!(status.success());
}
