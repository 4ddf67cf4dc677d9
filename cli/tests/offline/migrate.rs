//! Reports over manifests written for ingress-nginx.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::run::{folder, repository, roadstead};

fn examples() -> String {
    repository().join("examples/ingress-nginx").display().to_string()
}

fn report(words: &[&str]) -> Value {
    let said = roadstead(&[&["migrate", "--json"], words].concat(), "");
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.err, "", "every example can be read");
    said.json()
}

fn named<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut all = report["ingresses"].as_array().unwrap().iter();
    all.find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

fn annotations(ingress: &Value) -> BTreeMap<&str, &str> {
    let all = ingress["annotations"].as_array().unwrap().iter();
    all.map(|it| (it["name"].as_str().unwrap(), it["verdict"].as_str().unwrap())).collect()
}

#[test]
fn the_examples_get_the_verdicts_that_a_platform_team_acts_on() {
    let report = report(&[&examples()]);
    let expected = [
        ("shop", "as-is"),
        ("catalog", "as-is"),
        ("checkout", "as-is"),
        ("checkout-canary", "as-is"),
        ("site", "as-is"),
        ("preview", "as-is"),
        ("api", "differs"),
        ("api-status", "differs"),
        ("staging", "differs"),
        ("reports", "differs"),
        ("login", "differs"),
        ("booking", "differs"),
        ("inventory", "differs"),
        ("docs", "ignored"),
        ("legacy", "refused"),
        ("vault", "refused"),
        ("partners", "differs"),
        ("billing", "unserved"),
        ("intranet", "unserved"),
    ];
    for (name, verdict) in expected {
        assert_eq!(named(&report, name)["verdict"], verdict, "{name}");
    }
    let count = |verdict: &str| expected.iter().filter(|(_, it)| *it == verdict).count();
    assert_eq!(report["summary"]["refused"], count("refused"));
    assert_eq!(report["summary"]["ingresses"], expected.len());
}

#[test]
fn annotations_are_judged_one_by_one() {
    let report = report(&[&examples()]);
    let canary = annotations(named(&report, "checkout-canary"));
    assert!(canary.len() == 3 && canary.values().all(|verdict| *verdict == "as-is"), "{canary:?}");
    let vault = annotations(named(&report, "vault"));
    assert_eq!(vault, BTreeMap::from([("backend-protocol", "as-is"), ("ssl-passthrough", "refused")]));
    let login = named(&report, "login");
    assert_eq!(annotations(login)["limit-rps"], "differs");
    assert!(login["annotations"].to_string().contains("429"), "{login}");
    let docs = annotations(named(&report, "docs"));
    assert_eq!((docs["service-upstream"], docs["custom-http-errors"]), ("ignored", "differs"));
}

#[test]
fn habits_of_ingress_nginx_that_are_not_copied_are_said() {
    let report = report(&[&examples()]);
    let rules = |name: &str| -> Vec<String> {
        let all = named(&report, name)["differences"].as_array().unwrap();
        all.iter().map(|it| it["rule"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(rules("docs"), ["S-5", "S-7", "S-9"]);
    assert_eq!(rules("api-status"), ["S-16"], "patterns of a neighbour");
    assert_eq!(rules("api"), Vec::<String>::new());
    let general = report["general"].to_string();
    assert!(["Strict-Transport-Security", "proxy-body-size"].iter().all(|it| general.contains(it)), "{general}");
}

#[test]
fn the_table_is_that_of_the_edge() {
    let report = report(&[&examples()]);
    let rows: Vec<_> =
        report["table"].as_array().unwrap().iter().filter(|row| row["host"] == "docs.example.com").collect();
    let brief: Vec<_> = rows.iter().map(|row| (row["type"].as_str().unwrap(), row["path"].as_str().unwrap())).collect();
    assert_eq!(brief, [("Exact", "/search/"), ("Prefix", "/static"), ("Prefix", "/guide")]);
    let guide = json!({"pool": "default", "host": "docs.example.com", "type": "Prefix", "path": "/guide",
        "service": "docs/guide:80", "note": null, "ingress": "docs/docs"});
    assert_eq!(*rows[2], guide);
    let notes = report["table"].as_array().unwrap().iter().filter(|row| !row["note"].is_null());
    let notes: Vec<_> = notes.map(|row| (row["ingress"].as_str().unwrap(), row["note"].as_str().unwrap())).collect();
    assert_eq!(notes, [("checkout/checkout-canary", "canary, weight 10 of 100"), ("site/site", "308 to example.com")]);
}

#[test]
fn the_text_says_what_to_decide() {
    let said = roadstead(&["migrate", &examples()], "");
    assert_eq!(said.code, 0);
    for line in [
        "legacy/legacy: refused in part (class nginx, pool default)",
        "  refused     ssl-passthrough: true — TLS ends at the edge",
        "billing/billing: not served (class alb, pool none)",
        "The routing table",
        "2 are refused in part, 2 are not served.",
    ] {
        assert!(said.out.contains(line), "{line:?} is missing in {}", said.out);
    }
}

#[test]
fn strict_fails_on_refusals_and_on_what_cannot_be_read() {
    let snippet = format!("{}/snippet.yaml", examples());
    let shop = format!("{}/shop.yaml", examples());
    assert_eq!(roadstead(&["migrate", "--strict", &snippet], "").code, 1);
    assert_eq!(roadstead(&["migrate", &snippet], "").code, 0);
    assert_eq!(roadstead(&["migrate", "--strict", &shop], "").code, 0);
    assert_eq!(roadstead(&["migrate", "--strict", "-"], "a: [").code, 1);
    assert_eq!(roadstead(&["migrate", "/nowhere/at/all"], "").code, 1);
    assert_eq!(roadstead(&["migrate"], "").code, 2);
    assert_eq!(roadstead(&["migrate", "-", "-"], "").code, 2);
}

#[test]
fn services_that_are_not_in_the_manifests_are_not_missing() {
    let text = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a}
spec: {ingressClassName: nginx, defaultBackend: {service: {name: web, port: {number: 80}}}}
";
    let files = folder(&[("a.yaml", text)]);
    let report = report(&[files.path().to_str().unwrap()]);
    assert_eq!(
        (&report["ingresses"][0]["verdict"], &report["ingresses"][0]["findings"]),
        (&json!("as-is"), &json!([]))
    );
}

#[test]
fn what_would_steer_a_terminal_is_not_printed() {
    let text = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, annotations: {nginx.ingress.kubernetes.io/auth-realm: \"x\\e[2Jy\"}}
spec: {ingressClassName: nginx, defaultBackend: {service: {name: web, port: {number: 80}}}}
";
    let said = roadstead(&["migrate", "-"], text);
    assert!(said.out.contains("auth-realm: x\u{fffd}[2Jy"), "{said:?}");
}
