//! Reports and comparisons as text for people.

use std::fmt::Write as _;

use super::compare::Comparison;
use super::replay::Reply;
use super::report::{IngressReport, Report, Row, Summary};
use crate::table;

/// Characters of an annotation's value that the text shows.
const VALUE_CHARS_MAX: usize = 40;

pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for it in &report.ingresses {
        ingress(it, &mut text);
        text.push('\n');
    }
    text.push_str("The routing table\n\n");
    let row = |row: &Row| {
        let service = row.service.clone().unwrap_or_else(|| "none".to_owned());
        let note = row.note.clone().unwrap_or_default();
        [row.pool.clone(), row.host.clone(), row.kind.to_owned(), row.path.clone(), service, row.ingress.clone(), note]
    };
    let rows: Vec<_> = report.table.iter().map(row).collect();
    let header = ["POOL", "HOST", "TYPE", "PATH", "SERVICE", "INGRESS", ""];
    text.push_str(&table::render(header, &rows, "No Ingress is served."));
    text.push_str("\nFor every Ingress\n\n");
    for line in &report.general {
        // A String takes everything that is written to it.
        let _ = writeln!(text, "- {line}");
    }
    let Summary { ingresses, as_is, differs, ignored, refused, unserved } = report.summary;
    let _ = writeln!(
        text,
        "\n{ingresses} Ingresses: {as_is} work as they are, {differs} differ, {ignored} are partly ignored, {refused} are \
         refused in part, {unserved} are not served."
    );
    text
}

fn ingress(it: &IngressReport, text: &mut String) {
    let class = it.class.as_deref().unwrap_or("none");
    let pool = it.pool.as_deref().unwrap_or("none");
    let _ = writeln!(text, "{}/{}: {} (class {class}, pool {pool})", it.namespace, it.name, it.verdict);
    if let Some(why) = &it.unserved {
        let _ =
            writeln!(text, "  not served  {why}. Name a class that the policy serves, or list this one in the policy.");
    }
    for annotation in &it.annotations {
        let about = if annotation.text.is_empty() { String::new() } else { format!(" — {}", annotation.text) };
        let _ =
            writeln!(text, "  {:<10}  {}: {}{about}", annotation.verdict, annotation.name, short(&annotation.value));
    }
    for note in &it.differences {
        let _ = writeln!(text, "  {:<10}  {} ({})", "differs", note.text, note.rule);
    }
    for problem in &it.findings {
        let _ = writeln!(text, "  {:<10}  {}: {}. {}", "finding", problem.code, problem.message, problem.remedy);
    }
}

/// On one line.
fn short(value: &str) -> String {
    let line: String = value.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

pub fn comparison([a, b]: &[String; 2], comparison: &Comparison) -> String {
    let mut text = String::new();
    let rows: Vec<_> = comparison
        .differences
        .iter()
        .map(|it| {
            let request = format!("{} {}{}", it.method, it.host, it.path);
            [request, it.differs.join(", "), reply(&it.a), reply(&it.b)]
        })
        .collect();
    text.push_str(&table::render(["REQUEST", "DIFFERS", a.as_str(), b.as_str()], &rows, "No difference."));
    let _ = writeln!(
        text,
        "\n{} requests: {} answered alike, {} differently.",
        comparison.requests,
        comparison.same,
        comparison.differences.len()
    );
    if comparison.patterns > 0 {
        let _ = writeln!(text, "{} paths are patterns: name requests for them with --requests.", comparison.patterns);
    }
    text
}

fn reply(reply: &Reply) -> String {
    match (&reply.error, reply.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => match &reply.location {
            Some(location) => format!("{status} to {location}"),
            None => format!("{status} body {}", reply.body.as_deref().unwrap_or("none")),
        },
        (None, None) => String::new(),
    }
}
