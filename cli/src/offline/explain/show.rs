//! An answer as text for people: what happens, who is asked, and why.

use std::fmt::Write as _;

use super::answer::{Answer, Backend, Port, Step};
use crate::offline::request::{Request, Scheme};
use crate::table;

/// Endpoints of one backend that the text names.
const ENDPOINTS_SHOWN_MAX: usize = 4;

pub fn text(request: &Request, answer: &Answer) -> String {
    let scheme = match request.scheme() {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let mut text =
        format!("{} {scheme}://{}{} at pool {}\n", request.method(), request.host, request.path, answer.pool);
    // A String takes everything that is written to it.
    let _ = writeln!(text, "{}", outcome(answer));
    if let Some(certificate) = &answer.certificate {
        let _ = writeln!(text, "certificate {certificate}");
    }
    if !answer.backends.is_empty() {
        text.push('\n');
        text.push_str(&backends(&answer.backends));
    }
    text.push('\n');
    let width = answer.why.iter().map(|step| step.rule.len()).max().unwrap_or_default();
    for Step { rule, text: sentence } in &answer.why {
        let _ = writeln!(text, "{rule:<width$}  {sentence}");
    }
    text
}

fn outcome(answer: &Answer) -> String {
    let what = match answer.status {
        200 => "a backend is asked",
        _ => "answered by the edge",
    };
    let route = match &answer.route {
        None => "no route".to_owned(),
        Some(route) => {
            let it = &route.ingress;
            let ingress = format!("Ingress {}/{}/{}", it.cluster, it.namespace, it.name);
            if route.path.is_empty() {
                format!("the default backend of {ingress}")
            } else {
                format!("{} {} of {ingress}", route.kind, route.path)
            }
        }
    };
    format!("{}, {what}: {route}", answer.status)
}

fn backends(backends: &[Backend]) -> String {
    let sum: u64 = backends.iter().map(|backend| backend.weight).sum();
    let row = |backend: &Backend| {
        let port = match &backend.port {
            Port::Number(number) => number.to_string(),
            Port::Name(name) => name.clone(),
        };
        let shown: Vec<&str> = backend.endpoints.iter().take(ENDPOINTS_SHOWN_MAX).map(String::as_str).collect();
        let more = backend.endpoints.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        [
            backend.cluster.clone(),
            format!("{}/{}:{port}", backend.namespace, backend.service),
            format!("{} %", backend.weight * 100 / sum.max(1)),
            format!("{}{more}", shown.join(" ")),
        ]
    };
    let rows: Vec<_> = backends.iter().map(row).collect();
    table::render(["CLUSTER", "SERVICE", "SHARE", "ENDPOINTS"], &rows, "")
}
