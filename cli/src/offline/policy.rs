//! The policy that manifests are read with: the controller's file, or one pool that serves what is ours.
//!
//! Checks what would change an answer. The controller checks more before it takes a file.

use std::path::Path;

use roadstead_routing::policy::{ClassMode, ClassPolicy, Policy, PoolKind, PoolPolicy, StatusPolicy, WEIGHT_MAX};

use super::OfflineError;

/// Bytes of a policy file, as the controller's limit.
const POLICY_BYTES_MAX: usize = 1024 * 1024;
const DEFAULT_POOL: &str = "default";

/// The policy in `file`; without one, a pool `default` that serves `classes`.
///
/// # Errors
/// One line that names the file, the line in it, and what is wrong.
pub fn read(file: Option<&Path>, classes: &[&str]) -> Result<Policy, OfflineError> {
    let Some(path) = file else { return Ok(default_for(classes)) };
    let wrong = |why: String| OfflineError::Input(format!("{}: {why}", path.display()));
    let body = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot read it: {error}")))?;
    parse(&body).map_err(wrong)
}

fn default_for(classes: &[&str]) -> Policy {
    let pool = PoolPolicy { kind: PoolKind::Edge, addresses: Vec::new(), default: true, certificate: None };
    let class =
        ClassPolicy { pool: DEFAULT_POOL.into(), status: StatusPolicy::Write, mode: ClassMode::Standard, hsts: None };
    Policy {
        pools: [(DEFAULT_POOL.into(), pool)].into(),
        classes: classes.iter().map(|name| ((*name).to_owned(), class.clone())).collect(),
        ..Policy::default()
    }
}

fn parse(body: &str) -> Result<Policy, String> {
    if body.len() > POLICY_BYTES_MAX {
        return Err(format!("is {} bytes long; at most {POLICY_BYTES_MAX} are read", body.len()));
    }
    let policy: Policy = serde_saphyr::from_str(body).map_err(|error| explain(&error))?;
    if let Some((cluster, it)) = policy.clusters.iter().find(|(_, it)| it.weight > WEIGHT_MAX) {
        return Err(format!("clusters.{cluster}.weight: {} is above {WEIGHT_MAX}", it.weight));
    }
    if policy.pools.values().filter(|pool| pool.default).count() > 1 {
        return Err("pools: only one may be the default".to_owned());
    }
    if let Some((class, it)) = policy.classes.iter().find(|(_, it)| !policy.pools.contains_key(&it.pool)) {
        return Err(format!("classes.{class}.pool: there is no pool `{}`", it.pool));
    }
    Ok(policy)
}

fn explain(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    let line = error.location().map_or_else(String::new, |location| format!("line {}: ", location.line()));
    format!("{line}{}", error.to_string().lines().next().unwrap_or("not a policy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_the_only_pool_serves_the_classes() {
        let policy = read(None, &["a", "b"]).unwrap();
        assert_eq!(policy.default_pool().unwrap().as_str(), "default");
        assert_eq!(policy.classes.keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let cases = [
            ("clusters: {a: {weight: 1001}}", "clusters.a.weight: 1001 is above 1000"),
            ("classes: {c: {pool: nowhere}}", "classes.c.pool: there is no pool `nowhere`"),
            ("pools: {p: {kind: edge, default: true}, q: {kind: edge, default: true}}", "only one may be the default"),
            ("pools:\n  p: {kind: edge}\n  q: {kind: moon}", "line 3: "),
        ];
        for (body, expected) in cases {
            let error = parse(body).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
    }
}
