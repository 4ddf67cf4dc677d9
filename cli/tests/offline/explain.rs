//! Requests against small manifests: answers, reasons, codes.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::run::{CLASS, Said, cluster, folder, ingress, roadstead, service};

/// Two clusters of which both have the shop; only `eu` has the cart.
fn shop() -> [TempDir; 2] {
    let paths = "Prefix / web";
    let eu = ingress("shop", "shop.example.com", &format!("{paths}\nPrefix /cart/ cart\nExact /down web-down"));
    let eu = [CLASS, &eu, &service("web", &["10.0.0.10", "10.0.0.9"]), &service("cart", &["10.0.0.3"])].concat();
    let us = [CLASS, &ingress("store", "shop.example.com", paths), &service("web", &["10.1.0.1"])].concat();
    [folder(&[("a/shop.yaml", &eu)]), folder(&[("shop.yml", &us), ("notes.txt", "not: [read")])]
}

fn explain(clusters: &[TempDir; 2], words: &[&str], input: &str) -> Said {
    let [eu, us] = [cluster("eu", &clusters[0]), cluster("us", &clusters[1])];
    let words = [&["explain", "--manifests", &eu, "--manifests", &us], words].concat();
    roadstead(&words, input)
}

fn batch(clusters: &[TempDir; 2], lines: &[Value]) -> Vec<Value> {
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let said = explain(clusters, &["--batch"], &input);
    assert_eq!(said.code, 0, "{said:?}");
    said.lines()
}

fn rules(answer: &Value) -> Vec<&str> {
    answer["why"].as_array().unwrap().iter().map(|step| step["rule"].as_str().unwrap()).collect()
}

#[test]
fn an_answer_has_exactly_the_documented_shape() {
    let answers = batch(&shop(), &[json!({"host": "Shop.example.com:80", "path": "/cart/1?x=2", "headers": {}})]);
    let mut answer = answers[0].clone();
    let why = answer.as_object_mut().unwrap().remove("why").unwrap();
    let expected = json!({
        "status": 200,
        "host": "shop.example.com",
        "pool": "default",
        "route": {"type": "Prefix", "path": "/cart/", "ingress": {"cluster": "eu", "namespace": "shop", "name": "shop"}},
        "backends": [
            {"cluster": "eu", "namespace": "shop", "service": "cart", "port": 80, "weight": 100,
             "endpoints": ["10.0.0.3:8080"]},
        ],
        "certificate": null,
    });
    assert_eq!(answer, expected);
    let steps = why.as_array().unwrap();
    assert!(steps.iter().all(|step| step.as_object().unwrap().keys().eq(["rule", "text"])), "{why}");
    assert_eq!(steps[0]["rule"], "S-1");
    assert!(["S-3", "S-6", "S-8", "P-3"].iter().all(|rule| rules(&answers[0]).contains(rule)), "{why}");
}

#[test]
fn clusters_with_one_route_share_it() {
    let answers = batch(&shop(), &[json!({"host": "shop.example.com", "path": "/"})]);
    let clusters: Vec<_> = answers[0]["backends"].as_array().unwrap().iter().map(|it| &it["cluster"]).collect();
    assert_eq!(clusters, ["eu", "us"]);
    assert_eq!(answers[0]["backends"][0]["endpoints"], json!(["10.0.0.10:8080", "10.0.0.9:8080"]), "sorted as text");
    assert_eq!(rules(&answers[0]).iter().filter(|rule| **rule == "M-2").count(), 2);
}

#[test]
fn what_nobody_can_answer_keeps_its_place() {
    let lines = [
        json!({"host": "shop.example.com", "path": "/down"}),
        json!({"host": "other.example.com", "path": "/"}),
        json!({"host": "", "path": ""}),
    ];
    let answers = batch(&shop(), &lines);
    let brief: Vec<_> = answers.iter().map(|it| (&it["status"], &it["route"]["type"], &it["backends"])).collect();
    let none = json!([]);
    assert_eq!(
        brief,
        [(&json!(503), &json!("Exact"), &none), (&json!(404), &Value::Null, &none), (&json!(404), &Value::Null, &none)]
    );
    assert!(rules(&answers[0]).contains(&"S-11"));
    let finding = answers[0]["why"].to_string();
    assert!(finding.contains("service-not-found"), "{finding}");
    assert!(answers[1]["route"].is_null());
}

#[test]
fn defaults_and_resources_are_routes_too() {
    let text = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: rest, namespace: shop}
spec:
  ingressClassName: roadstead
  defaultBackend: {service: {name: web, port: {number: 80}}}
  rules:
  - host: files.example.com
    http:
      paths:
      - {path: /b, pathType: ImplementationSpecific, backend: {resource: {kind: Bucket, name: b, apiGroup: x.example}}}
";
    let both = [CLASS, text, &service("web", &["10.0.0.1"])].concat();
    let clusters = [folder(&[("a.yaml", &both)]), folder(&[])];
    let lines = [json!({"host": "files.example.com", "path": "/b"}), json!({"host": "x", "path": "/"})];
    let answers = batch(&clusters, &lines);
    assert_eq!((&answers[0]["status"], &answers[0]["route"]["type"]), (&json!(404), &json!("ImplementationSpecific")));
    assert_eq!(answers[1]["status"], 200);
    assert_eq!((&answers[1]["route"]["type"], &answers[1]["route"]["path"]), (&json!("Default"), &json!("")));
}

#[test]
fn zones_choose_among_endpoints_if_all_are_hinted() {
    let text = [CLASS, &ingress("a", "a.example.com", "Prefix / web"), &service("web", &["10.0.0.1@a", "10.0.0.2@b"])];
    let clusters = [folder(&[("a.yaml", &text.concat())]), folder(&[])];
    let request = |zone: Value| json!({"host": "a.example.com", "path": "/", "zone": zone});
    let answers = batch(&clusters, &[request(json!("b")), request(json!("c")), request(Value::Null)]);
    assert_eq!(answers[0]["backends"][0]["endpoints"], json!(["10.0.0.2:8080"]));
    assert!(rules(&answers[0]).contains(&"P-5"));
    for answer in &answers[1..] {
        assert_eq!(answer["backends"][0]["endpoints"], json!(["10.0.0.1:8080", "10.0.0.2:8080"]));
    }
}

#[test]
fn an_ingress_that_is_not_ours_is_named() {
    let without_class = [ingress("shop", "shop.example.com", "Prefix / web"), service("web", &["10.0.0.1"])].concat();
    let clusters = [folder(&[("a.yaml", &without_class)]), folder(&[])];
    let answers = batch(&clusters, &[json!({"host": "shop.example.com", "path": "/"})]);
    assert_eq!(answers[0]["status"], 404);
    let why = answers[0]["why"].to_string();
    assert!(why.contains("Ingress eu/shop/shop") && why.contains("has no IngressClass roadstead"), "{why}");
}

#[test]
fn lines_that_are_no_requests_are_answered_in_their_place() {
    let input = "{\"host\":\"shop.example.com\",\"path\":\"/\"}\n{\n[1]\n{\"host\":\"a\"}\n\
                 {\"host\":\"a\",\"path\":\"/\",\"pool\":\"none\"}\n\n{\"host\":\"a\",\"path\":\"/\"}";
    let said = explain(&shop(), &["--batch"], input);
    assert_eq!(said.code, 0, "{said:?}");
    let lines = said.lines();
    let failed: Vec<bool> = lines.iter().map(|line| line.get("error").is_some()).collect();
    assert_eq!(failed, [false, true, true, true, true, false]);
    assert!(lines[4]["error"].as_str().unwrap().contains("none"));
}

#[test]
fn a_batch_answers_before_the_next_line_comes() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    let [eu, _us] = shop();
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.args(["explain", "--manifests", &cluster("eu", &eu), "--batch"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
    for path in ["/", "/cart/"] {
        writeln!(input, "{}", json!({"host": "shop.example.com", "path": path})).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["route"]["path"], path);
    }
    drop(input);
    assert!(process.wait().unwrap().success());
}

#[test]
fn ten_thousand_requests_over_a_thousand_ingresses_are_all_answered() {
    let mut text = CLASS.to_owned();
    for index in 0..1_000 {
        text += &ingress(&format!("i{index}"), &format!("h{index}.example.com"), "Prefix / web\nExact /x web");
    }
    text += &service("web", &["10.0.0.1"]);
    let clusters = [folder(&[("all.yaml", &text)]), folder(&[])];
    let line = |index: usize| json!({"host": format!("h{}.example.com", index % 1_000), "path": "/x"});
    let answers = batch(&clusters, &(0..10_000).map(line).collect::<Vec<_>>());
    assert_eq!(answers.len(), 10_000);
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer["route"]["ingress"]["name"], format!("i{}", index % 1_000));
    }
}

#[test]
fn a_url_is_answered_for_people_and_as_json() {
    let clusters = shop();
    let said = explain(&clusters, &["http://shop.example.com/cart/7"], "");
    assert_eq!(said.code, 0);
    let first = "GET http://shop.example.com/cart/7 at pool default\n200, a backend is asked: Prefix /cart/ of Ingress eu/shop/shop\n";
    assert!(said.out.starts_with(first), "{}", said.out);
    assert!(said.out.contains("shop/cart:80") && said.out.contains("\nS-6 "), "{}", said.out);
    let answer = explain(&clusters, &["--json", "https://x.example.com/", "-H", "Host: shop.example.com"], "").json();
    assert_eq!((&answer["host"], &answer["status"]), (&json!("shop.example.com"), &json!(200)));
    assert!(rules(&answer).contains(&"L-1"), "a client asks for a certificate: {answer}");
}

#[test]
fn a_policy_names_pools_weights_and_classes() {
    let policy = "
clusters: {eu: {weight: 30}, us: {weight: 70}}
pools: {public: {kind: edge}, internal: {kind: edge}}
classes: {roadstead: {pool: public}}
";
    let policy = folder(&[("policy.yaml", policy)]);
    let file = policy.path().join("policy.yaml").display().to_string();
    let clusters = shop();
    let answer =
        explain(&clusters, &["--policy", &file, "--pool", "public", "--json", "http://shop.example.com/"], "").json();
    let weights: Vec<_> = answer["backends"].as_array().unwrap().iter().map(|it| &it["weight"]).collect();
    assert_eq!(weights, [30, 70]);
    let elsewhere =
        explain(&clusters, &["--policy", &file, "--pool", "internal", "--json", "http://shop.example.com/"], "").json();
    assert_eq!(elsewhere["status"], 404);
    assert!(elsewhere["why"].to_string().contains("Pool public has host"), "{elsewhere}");
    let none = explain(&clusters, &["--policy", &file, "http://shop.example.com/"], "");
    assert_eq!(none.code, 2, "no default pool: {none:?}");
}

#[test]
fn what_cannot_be_read_is_said_and_skipped_unless_strict() {
    let good = [CLASS, &ingress("a", "a.example.com", "Prefix / web"), &service("web", &["10.0.0.1"])].concat();
    let clusters = [folder(&[("bad.yaml", "metadata: {name: ["), ("good.yaml", &good)]), folder(&[])];
    let said = explain(&clusters, &["--json", "http://a.example.com/"], "");
    assert_eq!((said.code, &said.json()["status"]), (0, &json!(200)));
    assert!(said.err.starts_with("warning: ") && said.err.contains("bad.yaml"), "{}", said.err);
    let strict = explain(&clusters, &["--strict", "--json", "http://a.example.com/"], "");
    assert_eq!((strict.code, strict.out.as_str()), (1, ""));
}

#[test]
fn exit_codes_tell_inputs_from_usage() {
    let url = "http://a/";
    let cases: [(&[&str], i32); 9] = [
        (&["--manifests", "a=/nowhere/at/all", url], 1),
        (&["--manifests", "a=-", "--policy", "/nowhere/at/all", url], 1),
        (&["--manifests", "a=-", url], 0),
        (&["--manifests", "a=-", "--batch"], 2),
        (&["--manifests", "a=-", "--pool", "none", url], 2),
        (&["--manifests", "a=-"], 2),
        (&["--manifests", "A=-", url], 2),
        (&["--manifests", "a=-", "ftp://a/"], 2),
        (&[url], 2),
    ];
    for (words, code) in cases {
        let said = roadstead(&[&["explain"], words].concat(), "");
        assert_eq!(said.code, code, "{words:?}: {said:?}");
        assert!(code == 0 || said.err.contains("error: "), "{said:?}");
    }
}

/// What is in Git has no EndpointSlices.
#[test]
fn services_without_slices_are_ready_if_that_is_asked_for_and_an_empty_slice_counts() {
    let bare = service("web", &[]);
    let bare = bare.split("---\napiVersion: discovery").next().unwrap();
    let ingress = ingress("shop", "shop.example.com", "Prefix / web\nPrefix /down down");
    let git = folder(&[("shop.yaml", &[CLASS, &ingress, bare, &service("down", &[])].concat())]);
    let clusters = [git, folder(&[("class.yaml", CLASS)])];
    let ask = |words: &[&str], path: &str| {
        let url = format!("http://shop.example.com{path}");
        explain(&clusters, &[&["--json", &url], words].concat(), "").json()
    };
    assert_eq!(ask(&[], "/")["status"], 503);
    let ready = ask(&["--assume-ready"], "/");
    assert_eq!((&ready["status"], &ready["backends"][0]["endpoints"]), (&json!(200), &json!(["192.0.2.1:80"])));
    assert_eq!(ask(&["--assume-ready"], "/down")["status"], 503);
}
