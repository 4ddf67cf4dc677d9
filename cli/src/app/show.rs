//! Answers of the API as text for people: tables of lists, a sentence about one thing.

use roadstead_api as api;
use serde_json::Value;

use crate::client::{ClientError, read};
use crate::table;

/// Hosts of a Hold that a table names.
const HOSTS_SHOWN_MAX: usize = 3;
/// Characters of a digest that tell versions apart.
const DIGEST_CHARS_SHOWN: usize = 12;

/// Makes text for people of an answer.
pub type Show = fn(Value) -> Result<String, ClientError>;

pub fn clusters(answer: Value) -> Result<String, ClientError> {
    let rows: Vec<_> = read::<api::Clusters>(answer)?
        .clusters
        .into_iter()
        .map(|it| {
            let lifecycle = standing(&it.lifecycle, it.percent);
            // What is stale needs no second word for it.
            let state = if it.liveness == "expired" { format!("{}, expired", it.state) } else { it.state };
            let (since, agent) = (it.since.unwrap_or_default(), it.agent_version.unwrap_or_default());
            let (replica, counts) = (it.replica.unwrap_or_default(), [it.hosts, it.findings]);
            let [hosts, findings] = counts.map(|count| count.to_string());
            [it.id, state, since, lifecycle, yes(it.settled), replica, hosts, findings, agent]
        })
        .collect();
    let header = ["CLUSTER", "STATE", "SINCE", "LIFECYCLE", "SETTLED", "REPLICA", "HOSTS", "FINDINGS", "AGENT"];
    Ok(table::render(header, &rows, "No cluster ever reported."))
}

pub fn edges(answer: Value) -> Result<String, ClientError> {
    let rows: Vec<_> = read::<api::Edges>(answer)?
        .edges
        .into_iter()
        .map(|it| {
            let state = match (it.connected, it.synced) {
                _ if it.world.is_some() => "other world",
                (false, _) => "disconnected",
                (true, false) => "synchronising",
                (true, true) => "synced",
            };
            let hosts = format!("{}/{}", it.hosts_held, it.hosts);
            let [refused, failing] = [it.refused, it.failing].map(|names| names.len().to_string());
            let replica = it.replica.unwrap_or_default();
            [it.pool, it.id, state.to_owned(), it.since, replica, hosts, refused, failing, it.version]
        })
        .collect();
    let header = ["POOL", "EDGE", "STATE", "SINCE", "REPLICA", "HOSTS", "REFUSED", "FAILING", "VERSION"];
    Ok(table::render(header, &rows, "No edge ever connected."))
}

pub fn findings(answer: Value) -> Result<String, ClientError> {
    let api::Findings { findings, total } = read(answer)?;
    let shown = findings.len();
    let rows: Vec<_> = findings
        .into_iter()
        .map(|it| [it.severity, it.cluster, it.object.unwrap_or_default(), it.code, it.message])
        .collect();
    let header = ["SEVERITY", "CLUSTER", "OBJECT", "CODE", "MESSAGE"];
    let mut text = table::render(header, &rows, "No findings.");
    if total > shown {
        text.push_str(&format!("… and {} more\n", total - shown));
    }
    Ok(text)
}

pub fn holds(answer: Value) -> Result<String, ClientError> {
    let holds = read::<api::Holds>(answer)?.holds;
    let rows: Vec<_> = holds.iter().map(hold_row).collect();
    let header = ["HOLD", "STATE", "POOL", "SCOPE", "SINCE", "HOSTS", "WRITTEN BY", "SUCH AS"];
    Ok(table::render(header, &rows, "Nothing is held."))
}

pub fn hold(answer: Value) -> Result<String, ClientError> {
    let hold: api::Hold = read(answer)?;
    Ok(format!("Hold {} is {}: {} hosts of {}\n", hold.id, hold.state, hold.hosts_total, hold.scope))
}

fn hold_row(hold: &api::Hold) -> [String; 8] {
    let hosts: Vec<&str> = hold.hosts.iter().take(HOSTS_SHOWN_MAX).map(String::as_str).collect();
    [
        hold.id.clone(),
        hold.state.clone(),
        hold.pool.clone(),
        hold.scope.clone(),
        hold.since.clone(),
        hold.hosts_total.to_string(),
        hold.cause.managers.join(","),
        hosts.join(" "),
    ]
}

pub fn overrides(answer: Value) -> Result<String, ClientError> {
    let rows: Vec<_> = read::<api::Overrides>(answer)?
        .overrides
        .into_iter()
        .map(|it| [it.id, it.kind, it.scope, it.expires, it.by, it.reason])
        .collect();
    Ok(table::render(["OVERRIDE", "KIND", "SCOPE", "UNTIL", "BY", "REASON"], &rows, "No override is in force."))
}

pub fn an_override(answer: Value) -> Result<String, ClientError> {
    let it: api::Override = read(answer)?;
    Ok(format!("{} of {} until {} ({})\n", it.kind, it.scope, it.expires, it.id))
}

pub fn member(answer: Value) -> Result<String, ClientError> {
    let it: api::Member = read(answer)?;
    let standing = standing(&it.lifecycle, it.percent);
    Ok(format!("Cluster {} is {standing} since {} (by {}: {})\n", it.cluster, it.since, it.by, it.reason))
}

pub fn readopted(answer: Value) -> Result<String, ClientError> {
    let it: api::Readopted = read(answer)?;
    Ok(format!("Cluster {} is the one with kube-system uid {} from now on\n", it.cluster, it.uid))
}

pub fn pools(answer: Value) -> Result<String, ClientError> {
    let pools = read::<api::Pools>(answer)?.pools.into_iter();
    let row = |it: api::Pool| [it.name, yes(it.default), it.hosts.to_string(), it.backends.to_string()];
    let rows: Vec<_> = pools.map(row).collect();
    Ok(table::render(["POOL", "DEFAULT", "HOSTS", "BACKENDS"], &rows, "The policy names no pool."))
}

pub fn history(answer: Value) -> Result<String, ClientError> {
    let revisions = read::<api::Revisions>(answer)?.revisions.into_iter();
    let digest = |digest: String| digest.chars().take(DIGEST_CHARS_SHOWN).collect();
    let row =
        |it: api::Revision| [it.id.to_string(), it.at, it.digest.map_or_else(|| "gone".to_owned(), digest), it.cause];
    let rows: Vec<_> = revisions.map(row).collect();
    let nothing = "This host was never published in this pool.";
    Ok(table::render(["REVISION", "AT", "VERSION", "CAUSE"], &rows, nothing))
}

pub fn released(answer: Value) -> Result<String, ClientError> {
    let it: api::Released = read(answer)?;
    Ok(format!("Every edge of pool {} gets what one was trying\n", it.pool))
}

pub fn world(answer: Value) -> Result<String, ClientError> {
    let it: api::World = read(answer)?;
    let adopted = if it.adopted.is_empty() { "none".to_owned() } else { it.adopted.join(", ") };
    Ok(format!("World {} incarnation {}; continues: {adopted}\n", it.id, it.incarnation))
}

/// Two lines each: sentences of this length make no column.
pub fn alerts(answer: Value) -> Result<String, ClientError> {
    let alerts = read::<api::Alerts>(answer)?.alerts;
    if alerts.is_empty() {
        return Ok("No alerts.\n".to_owned());
    }
    Ok(alerts.into_iter().map(|it| format!("{}: {}\n  {}\n", it.code, it.message, it.remedy)).collect())
}

pub fn replicas(answer: Value) -> Result<String, ClientError> {
    let rows: Vec<_> = read::<api::Replicas>(answer)?
        .replicas
        .into_iter()
        .map(|it| {
            // Nobody reports to itself.
            let reports = if it.is_self { "(this one)".to_owned() } else { yes(it.reports_to) };
            [it.id, it.address, it.version, yes(it.is_clerk), reports]
        })
        .collect();
    Ok(table::render(["REPLICA", "ADDRESS", "VERSION", "CLERK", "REPORTED TO"], &rows, "No controller is there."))
}

/// `draining 45 %`; without the share where it says nothing.
fn standing(lifecycle: &str, percent: u8) -> String {
    match (lifecycle, percent) {
        ("draining", _) | ("active", ..100) => format!("{lifecycle} {percent} %"),
        _ => lifecycle.to_owned(),
    }
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_shows_where_it_stands_and_who_has_it() {
        let cluster = |id: &str, lifecycle: &str, percent: u8, liveness: &str| {
            json!({
                "id": id, "state": if liveness == "fresh" { "live" } else { "stale" }, "since": null,
                "lifecycle": lifecycle, "percent": percent, "liveness": liveness,
                "replica": (liveness == "fresh").then_some("c1"), "settled": true, "hosts": 3, "findings": 0,
                "agent_version": null, "kubernetes_version": null,
            })
        };
        let rows = [cluster("eu", "draining", 45, "fresh"), cluster("us", "active", 100, "expired")];
        let text = clusters(json!({"clusters": rows})).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["eu", "live", "draining", "45", "%", "yes", "c1", "3", "0"]);
        assert_eq!(lines[1], ["us", "stale,", "expired", "active", "yes", "3", "0"]);
    }

    #[test]
    fn an_edge_of_another_world_says_so() {
        let edge = json!({
            "pool": "public", "id": "e1", "connected": true, "replica": "c2", "since": "now", "synced": false,
            "hosts_held": 0, "hosts": 2, "refused": [], "failing": ["eu/shop/web:80"],
            "world": {"id": "w", "incarnation": 1}, "version": "1",
        });
        let text = edges(json!({"edges": [edge]})).unwrap();
        let line: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(line, ["public", "e1", "other", "world", "now", "c2", "0/2", "0", "1", "1"]);
    }

    #[test]
    fn a_version_without_a_digest_is_the_host_gone() {
        let digest = "0123456789abcdef0123456789abcdef";
        let revisions = json!([
            {"id": 8, "at": "later", "digest": null, "cause": "objects"},
            {"id": 7, "at": "now", "digest": digest, "cause": "policy"},
        ]);
        let text = history(json!({"revisions": revisions})).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [vec!["8", "later", "gone", "objects"], vec!["7", "now", "0123456789ab", "policy"]]);
        assert_eq!(history(json!({"revisions": []})).unwrap(), "This host was never published in this pool.\n");
    }

    #[test]
    fn what_is_one_thing_is_one_line() {
        let member = member(json!({
            "cluster": "eu", "lifecycle": "drained", "percent": 0, "since": "now", "by": "me", "reason": "upgrade",
        }));
        assert_eq!(member.unwrap(), "Cluster eu is drained since now (by me: upgrade)\n");
        let world = world(json!({"id": "w", "incarnation": 2, "adopted": ["v"]}));
        assert_eq!(world.unwrap(), "World w incarnation 2; continues: v\n");
    }

    #[test]
    fn an_alert_is_followed_by_its_remedy() {
        assert_eq!(alerts(json!({"alerts": []})).unwrap(), "No alerts.\n");
        let alert = json!({"code": "canary", "message": "Something is tried", "remedy": "Nothing."});
        assert_eq!(alerts(json!({"alerts": [alert]})).unwrap(), "canary: Something is tried\n  Nothing.\n");
    }

    #[test]
    fn an_answer_of_another_version_is_not_taken_for_nothing() {
        assert!(matches!(replicas(json!({"peers": []})), Err(ClientError::Answer(_))));
    }
}
