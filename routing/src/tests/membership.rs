//! Where clusters stand: its case file, drains, and the policy that goes with it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::check::check;
use crate::compute::{build, compute_backend, compute_ingress, hosts_only_served_by};
use crate::finding::Code;
use crate::id::{ClusterId, ObjectName, PoolName};
use crate::inputs::Inputs;
use crate::lookup::{Found, unserved_status};
use crate::membership::{Lifecycle, Liveness, Membership};
use crate::policy::{Activate, ClusterPolicy, Policy, StalePolicy};
use crate::table::{Table, Target};

use super::cases::read;
use super::world::{self, POOL, words};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    rule: String,
    says: String,
    given: String,
    #[serde(default)]
    weights: BTreeMap<ClusterId, u32>,
    members: String,
    expect: String,
}

pub(super) fn failures() -> Vec<String> {
    read("membership.yaml").iter().flat_map(check_case).collect()
}

fn check_case(case: &Case) -> Vec<String> {
    let name = format!("{} ({}: {})", case.case, case.rule, case.says);
    let inputs = inputs(&case.given, &case.weights, &case.members);
    let table = build(&inputs).table;
    let mut failures: Vec<String> =
        check(&inputs, &table).iter().map(|violation| format!("{name}: {violation}")).collect();
    for line in case.expect.lines() {
        let words = words(line);
        let (want, got) = (words[2..].join(" "), answer(&table, &words[0], &words[1]));
        if want != got {
            failures.push(format!("{name}: {:?} {:?} wants {want}, got {got}", words[0], words[1]));
        }
    }
    failures
}

fn inputs(given: &str, weights: &BTreeMap<ClusterId, u32>, members: &str) -> Inputs {
    let weighted =
        |(id, weight): (&ClusterId, &u32)| (id.clone(), ClusterPolicy { weight: *weight, ..ClusterPolicy::default() });
    let policy = Policy { clusters: weights.iter().map(weighted).collect(), ..world::policy() };
    let mut inputs = world::inputs(policy, &world::parse(given));
    for line in members.lines() {
        let words = words(line);
        inputs.set_membership(&ClusterId::from(words[0].as_str()), member(&words[1..]));
    }
    inputs
}

fn member(words: &[String]) -> Membership {
    Membership {
        lifecycle: Lifecycle::parse(&words[0]).expect("a lifecycle"),
        percent: words.get(1).map_or(100, |percent| percent.parse().expect("a percentage")),
        liveness: words.get(2).map_or(Liveness::Fresh, |text| Liveness::parse(text).expect("a liveness")),
        is_doubtful: words.iter().any(|word| word == "doubtful"),
    }
}

/// Who has a backend for a request, with weights, or the status.
fn answer(table: &Table, host: &str, target: &str) -> String {
    let found = table.lookup(&PoolName::from(POOL), host, target);
    if found == Found::NotFound {
        return "404".to_owned();
    }
    let leading = found.backends().iter().filter(|part| matches!(part.target, Target::Backend(_)));
    let parts: Vec<_> = leading.map(|part| format!("{}={}", part.cluster, part.weight)).collect();
    if parts.is_empty() { unserved_status(found.backends()).to_string() } else { parts.join(" ") }
}

#[test]
fn cases() {
    let failures = failures();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

const TWO: &str = "
a shop/web
  h.ex.com    Prefix  /     web
  own.ex.com  Prefix  /     web
b shop/web
  h.ex.com    Prefix  /     web
c shop/web
  c.ex.com    Prefix  /     web
";

fn dirty_hosts(inputs: &mut Inputs, cluster: &str, membership: Membership) -> (Vec<String>, usize, usize) {
    let dirty = inputs.set_membership(&ClusterId::from(cluster), membership);
    let hosts = dirty.hosts.iter().map(|(_, host)| host.to_string()).collect();
    (hosts, dirty.backends.len(), dirty.ingresses.len())
}

#[test]
fn a_change_of_standing_marks_what_the_cluster_declares() {
    let mut inputs = inputs(TWO, &BTreeMap::new(), "");
    let both = vec!["h.ex.com".to_owned(), "own.ex.com".to_owned()];
    let draining = Membership { lifecycle: Lifecycle::Draining, percent: 50, ..Membership::default() };
    assert_eq!(dirty_hosts(&mut inputs, "a", draining), (both.clone(), 0, 0));
    assert_eq!(dirty_hosts(&mut inputs, "a", draining), (vec![], 0, 0), "nothing changed");
    let joining = Membership { lifecycle: Lifecycle::Joining, ..Membership::default() };
    assert_eq!(dirty_hosts(&mut inputs, "a", joining), (both.clone(), 1, 1), "it leaves the table");
    assert_eq!(dirty_hosts(&mut inputs, "a", Membership::default()), (both, 1, 1));
    assert_eq!(inputs.membership(&ClusterId::from("a")), Membership::default());
    assert_eq!(dirty_hosts(&mut inputs, "unknown", draining), (vec![], 0, 0));
    assert_eq!(inputs.membership(&ClusterId::from("unknown")), draining, "known before its first object");
}

#[test]
fn a_joining_cluster_shows_its_problems_and_a_removed_one_none() {
    let given = "
a shop/web age=1
  h.ex.com  Prefix  /x  web
  h.ex.com  Prefix  /s  !gone
  bad_host  Prefix  /   web
a shop/late age=2
  h.ex.com  Prefix  /x  web
";
    let codes = |members: &str| -> Vec<Code> {
        let inputs = inputs(given, &BTreeMap::new(), members);
        let outcome = build(&inputs);
        assert_eq!(outcome.table.hosts.is_empty(), !members.is_empty());
        assert_eq!(outcome.table.backends.is_empty(), !members.is_empty());
        outcome.findings.iter().map(|finding| finding.code).collect()
    };
    let active = codes("");
    for code in [Code::InvalidHost, Code::PathConflict, Code::ServiceNotFound] {
        assert!(active.contains(&code), "{code} in {active:?}");
    }
    assert_eq!(codes("a joining"), active);
    assert_eq!(codes("a removed"), []);
    let removed = inputs(given, &BTreeMap::new(), "a removed");
    let cluster = ClusterId::from("a");
    assert_eq!(compute_ingress(&removed, &cluster, &ObjectName::new("shop", "web")), []);
    let id = removed.backends().next().expect("the objects are kept");
    assert_eq!(compute_backend(&removed, &id).backend, None);
}

fn sole(given: &str, members: &str, cluster: &str) -> Vec<String> {
    let inputs = inputs(given, &BTreeMap::new(), members);
    let hosts = hosts_only_served_by(&inputs, &ClusterId::from(cluster));
    assert!(hosts.iter().all(|(pool, _)| pool.as_str() == POOL));
    hosts.iter().map(|(_, host)| host.to_string()).collect()
}

#[test]
fn a_drain_says_which_hosts_nobody_else_keeps_up() {
    assert_eq!(sole(TWO, "", "a"), ["own.ex.com"]);
    assert_eq!(sole(TWO, "", "b"), Vec::<String>::new());
    assert_eq!(sole(TWO, "", "nobody"), Vec::<String>::new());
    let both = ["h.ex.com", "own.ex.com"];
    for other in ["b draining 50", "b drained", "b joining", "b offline", "b removed", "b active 100 expired"] {
        assert_eq!(sole(TWO, other, "a"), both, "{other}");
    }
    assert_eq!(sole(TWO, "b active 100 stale", "a"), ["own.ex.com"]);
    assert_eq!(sole(TWO, "a joining", "a"), Vec::<String>::new(), "it serves nothing yet");
    assert_eq!(sole(TWO, "a drained", "a"), Vec::<String>::new(), "it serves nothing any more");
}

#[test]
fn a_drain_counts_routes_defaults_and_endpoints() {
    let given = "
a shop/web
  h.ex.com  Prefix  /     web
  h.ex.com  Prefix  /own  web
  e.ex.com  Prefix  /     web
  default   web
b shop/web
  h.ex.com  Prefix  /     web
  e.ex.com  Prefix  /     ?gone
";
    assert_eq!(sole(given, "", "a"), ["e.ex.com", "h.ex.com", "_"]);
    assert_eq!(sole(given, "", "b"), Vec::<String>::new());
}

#[test]
fn policies_of_standing_are_read() {
    let policy: Policy = serde_saphyr::from_str(
        "
clusters:
  a: {activate: manual, stale: {hold_for: 10m}}
  b: {stale: hold}
  c: {}
defaults: {stale: {hold_for: 1d}}
",
    )
    .expect("a policy");
    let seconds = |cluster: &str| match policy.stale(&ClusterId::from(cluster)) {
        StalePolicy::Hold => None,
        StalePolicy::HoldFor(span) => Some(span.seconds()),
    };
    assert_eq!(["a", "b", "c", "unknown"].map(seconds), [Some(600), None, Some(86_400), Some(86_400)]);
    let activate = |cluster: &str| policy.cluster(&ClusterId::from(cluster)).activate;
    assert_eq!(["a", "c", "unknown"].map(activate), [Activate::Manual, Activate::Auto, Activate::Auto]);
    assert_eq!(Policy::default().stale(&ClusterId::from("a")), StalePolicy::Hold);
    let text = serde_saphyr::to_string(&policy).expect("a policy can be written");
    assert_eq!(serde_saphyr::from_str::<Policy>(&text).expect("and read again"), policy);
}

#[test]
fn spans_have_bounds_and_say_so() {
    let stale = |span: &str| {
        let text = format!("defaults: {{stale: {{hold_for: {span}}}}}");
        serde_saphyr::from_str::<Policy>(&text).map(|policy| policy.defaults.stale).map_err(|error| error.to_string())
    };
    for (good, shown) in [("10s", "10s"), ("7d", "7d"), ("90m", "90m"), ("120m", "2h"), ("0010s", "10s")] {
        assert_eq!(stale(good).map(|it| format!("{it:?}")), Ok(format!("HoldFor(Span({}))", seconds(shown))));
        assert_eq!(good.parse::<crate::policy::Span>().expect("a span").to_string(), shown);
    }
    for bad in ["9s", "0m", "169h", "8d", "99999999999d"] {
        let error = stale(bad).expect_err(bad);
        assert!(error.contains(&format!("`{bad}` is out of range: from 10s to 7d")), "{error}");
    }
    for bad in ["10", "m", "ten m", "-5m", "5 m", "10ms", "1.5h", "''"] {
        let error = stale(bad).expect_err(bad);
        assert!(error.contains("is not a time like 90s, 10m, 2h or 1d"), "{bad}: {error}");
    }
}

fn seconds(span: &str) -> u32 {
    let (count, unit) = span.split_at(span.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => 86_400,
    };
    count.parse::<u32>().expect("a number") * unit
}

#[test]
fn texts_are_read_back() {
    assert!(Lifecycle::ALL.iter().all(|it| Lifecycle::parse(&it.to_string()) == Some(*it)));
    assert!(Liveness::ALL.iter().all(|it| Liveness::parse(&it.to_string()) == Some(*it)));
    assert_eq!((Lifecycle::parse("Active"), Liveness::parse("")), (None, None));
}

#[test]
fn more_than_the_whole_counts_as_the_whole() {
    let member = Membership { percent: 250, ..Membership::default() };
    assert_eq!((member.weight(40), Membership::default().weight(u32::MAX)), (40, u32::MAX));
}
