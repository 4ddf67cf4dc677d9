//! Joining what several clusters demand of clients (rule M-7).

use ipnet::IpNet;

use crate::rules::{self, Rule};

use super::{Access, ClientSettings, RateLimit};

/// `parts` in the order of precedence; at least one. What protects is joined so that the strictest wins, everything
/// else is that of the first.
pub fn merge<'a>(parts: impl Iterator<Item = &'a ClientSettings> + Clone) -> ClientSettings {
    let mut merged = parts.clone().next().cloned().unwrap_or_default();
    if rules::on(Rule::StrictestAccess) {
        for part in parts.clone().skip(1) {
            join(&mut merged.access, &part.access);
        }
    }
    merged.access.is_irreconcilable |= cannot_be_met(&merged.access);
    merged.rate = parts.map(|part| &part.rate).fold(None, |strictest, rate| stricter(strictest, rate.as_ref()));
    merged
}

/// Whether something that `part` asks for is not done in `merged`.
pub fn loses(part: &ClientSettings, merged: &ClientSettings) -> bool {
    let open = |settings: &ClientSettings| ClientSettings { access: Access::default(), rate: None, ..settings.clone() };
    open(part) != open(merged)
}

fn join(access: &mut Access, other: &Access) {
    access.is_irreconcilable |= other.is_irreconcilable;
    extend(&mut access.allow, &other.allow);
    extend(&mut access.deny, &other.deny);
    extend(&mut access.basic, &other.basic);
    extend(&mut access.external, &other.external);
    extend(&mut access.certificates, &other.certificates);
}

fn extend<T: Clone + Ord>(list: &mut Vec<T>, more: &[T]) {
    list.extend(more.iter().cloned());
    list.sort();
    list.dedup();
}

/// One request carries one user, and one address.
fn cannot_be_met(access: &Access) -> bool {
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    let is_disjoint = |a: &Vec<IpNet>, b: &Vec<IpNet>| !a.iter().any(|one| b.iter().any(|other| overlaps(one, other)));
    let allow = &access.allow;
    let pairs = (1..allow.len()).flat_map(|later| (0..later).map(move |first| (first, later)));
    access.basic.len() > 1 || pairs.into_iter().any(|(a, b)| is_disjoint(&allow[a], &allow[b]))
}

fn stricter(a: Option<RateLimit>, b: Option<&RateLimit>) -> Option<RateLimit> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (a, b) => return a.or_else(|| b.cloned()),
    };
    let lower = |a: u32, b: u32| if a == 0 || b == 0 { a.max(b) } else { a.min(b) };
    Some(RateLimit {
        per_second: lower(a.per_second, b.per_second),
        per_minute: lower(a.per_minute, b.per_minute),
        connections: lower(a.connections, b.connections),
        burst: a.burst.min(b.burst),
        exempt: a.exempt.into_iter().filter(|network| b.exempt.contains(network)).collect(),
    })
}
