//! The same requests at two small servers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::json;

use crate::run::{folder, roadstead};

/// Serves with `answer` of Host and target until the test ends. Returns its URL.
fn server(answer: fn(&str, &str) -> String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let target = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            let fields: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let host = fields.iter().find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
            // The other side may have enough.
            let _ = stream.write_all(answer(&host.unwrap_or_default(), &target).as_bytes());
        }
    });
    format!("http://{address}")
}

fn response(status: &str, field: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{field}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn old(host: &str, target: &str) -> String {
    match (host, target) {
        ("moved.example.com", _) => response("301 Moved", "location: /old\r\n", ""),
        (_, "/status") => response("503 Slow Down", "", "same"),
        (_, "/body") => response("200 OK", "", "old"),
        _ => response("200 OK", "", "same"),
    }
}

fn new(host: &str, target: &str) -> String {
    match (host, target) {
        ("moved.example.com", _) => response("301 Moved", "location: /new\r\n", ""),
        (_, "/status") => response("429 Slow Down", "", "same"),
        (_, "/body") => response("200 OK", "", "new"),
        _ => response("200 OK", "", "same"),
    }
}

const REQUESTS: &str = "\
{\"host\":\"a.example.com\",\"path\":\"/\"}
{\"host\":\"a.example.com\",\"path\":\"/status\"}
{\"host\":\"a.example.com\",\"path\":\"/body\",\"headers\":{\"X-A\":\"1\"}}
{\"host\":\"moved.example.com\",\"path\":\"/\"}
";

#[test]
fn differences_in_status_location_and_body_are_reported() {
    let (a, b) = (server(old), server(new));
    let said = roadstead(&["migrate", "--json", "--compare", &a, &b, "--requests", "-"], REQUESTS);
    assert_eq!(said.code, 0, "{said:?}");
    let report = said.json();
    assert_eq!((&report["requests"], &report["same"]), (&json!(4), &json!(1)));
    let differences = report["differences"].as_array().unwrap();
    let brief: Vec<_> = differences.iter().map(|it| (it["path"].as_str().unwrap(), &it["differs"])).collect();
    let [status, body, location] = [json!(["status"]), json!(["body"]), json!(["location"])];
    assert_eq!(brief, [("/status", &status), ("/body", &body), ("/", &location)]);
    assert_eq!(differences[2]["a"]["location"], "/old", "a redirect is compared, not followed");
    let strict = ["migrate", "--strict", "--compare", &a, &b, "--requests", "-"];
    let said = roadstead(&strict, REQUESTS);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("4 requests: 1 answered alike, 3 differently."), "{}", said.out);
    assert_eq!(roadstead(&strict, "{\"host\":\"a\",\"path\":\"/\"}").code, 0, "nothing differs");
}

#[test]
fn without_requests_every_host_and_path_is_asked() {
    let text = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, annotations: {nginx.ingress.kubernetes.io/use-regex: 'true'}}
spec:
  ingressClassName: nginx
  rules:
  - host: '*.example.com'
    http:
      paths:
      - {path: /status, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: '/v[0-9]+', pathType: ImplementationSpecific, backend: {service: {name: web, port: {number: 80}}}}
";
    let files = folder(&[("a.yaml", text)]);
    let (a, b) = (server(old), server(new));
    let report = roadstead(&["migrate", "--json", "--compare", &a, &b, files.path().to_str().unwrap()], "").json();
    assert_eq!((&report["requests"], &report["patterns"]), (&json!(1), &json!(1)));
    assert_eq!(report["differences"][0]["host"], "any.example.com");
}

#[test]
fn an_address_that_never_answers_is_an_error_of_its_own() {
    let a = server(old);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = roadstead(&["migrate", "--compare", &a, &format!("http://{closed}"), "--requests", "-"], REQUESTS);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("no request was answered"), "{}", said.err);
    assert_eq!(roadstead(&["migrate", "--compare", &a, "https://127.0.0.1:1", "--requests", "-"], "").code, 2);
    assert_eq!(roadstead(&["migrate", "--compare", &a, &a, "--requests", "-"], "{").code, 1);
}
