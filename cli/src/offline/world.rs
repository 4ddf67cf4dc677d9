//! Everything that manifests say, computed once: inputs, the table, and findings by Ingress.
//!
//! The same calls as in the controller: `Inputs::apply` for every object, then `compute::build`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use roadstead_routing::class::{self, ChosenBy};
use roadstead_routing::compute;
use roadstead_routing::finding::Finding;
use roadstead_routing::grant;
use roadstead_routing::id::{ClusterId, HostKey, Kind, ObjectKey, ObjectName};
use roadstead_routing::inputs::Inputs;
use roadstead_routing::object::{Ingress, IngressClass, Object};
use roadstead_routing::policy::{CONTROLLER_NAME, Policy};
use roadstead_routing::table::Table;

use super::manifests::Manifests;

pub struct World {
    pub inputs: Inputs,
    pub table: Table,
    findings: BTreeMap<IngressId, Vec<Finding>>,
    /// Ingresses that are not served for a host that a rule of theirs names, by that host as written.
    unserved: BTreeMap<Arc<str>, Vec<Unserved>>,
}

/// One Ingress of one cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IngressId {
    pub cluster: ClusterId,
    pub name: ObjectName,
}

/// An Ingress that is not served for a host, and the reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unserved {
    pub ingress: IngressId,
    pub rule: &'static str,
    pub why: String,
}

impl World {
    /// `now` in seconds since the Unix epoch: which certificates are in their time.
    pub fn new(policy: Policy, clusters: Vec<(ClusterId, Manifests)>, now: i64) -> Self {
        let mut inputs = Inputs::new(policy);
        inputs.set_now(now);
        let mut all = Vec::new();
        for (cluster, manifests) in clusters {
            all.extend(manifests.problems.into_iter().map(|problem| problem.into_finding(&cluster)));
            for object in manifests.objects {
                inputs.apply(&cluster, &object.key(), Some(object));
            }
        }
        let outcome = compute::build(&inputs);
        all.extend(outcome.findings);
        let mut world = Self { inputs, table: outcome.table, findings: BTreeMap::new(), unserved: BTreeMap::new() };
        for finding in all {
            let Some(ObjectKey { kind: Kind::Ingress, name }) = &finding.object else { continue };
            let id = IngressId { cluster: finding.cluster.clone(), name: name.clone() };
            world.findings.entry(id).or_default().push(finding);
        }
        world.index_unserved();
        world
    }

    pub fn findings(&self, ingress: &IngressId) -> &[Finding] {
        self.findings.get(ingress).map_or(&[], Vec::as_slice)
    }

    /// Ingresses that are not served although a rule of theirs names `host`; empty: a rule without a host.
    pub fn unserved(&self, host: &str) -> &[Unserved] {
        self.unserved.get(host).map_or(&[], Vec::as_slice)
    }

    pub fn ingress(&self, id: &IngressId) -> Option<Arc<Ingress>> {
        let key = ObjectKey { kind: Kind::Ingress, name: id.name.clone() };
        match self.inputs.object(&id.cluster, &key)? {
            Object::Ingress(ingress) => Some(ingress),
            _ => None,
        }
    }

    /// Every Ingress, by cluster and name.
    pub fn ingresses(&self) -> impl Iterator<Item = IngressId> {
        let all = self.inputs.ingresses();
        all.map(|(cluster, name)| IngressId { cluster: cluster.clone(), name: name.clone() })
    }

    /// Why nobody serves an Ingress; `None` if somebody does.
    pub fn why_unserved(&self, id: &IngressId) -> Option<String> {
        if self.inputs.view(&id.cluster, &id.name).is_some() {
            return None;
        }
        let ingress = self.ingress(id)?;
        let policy = self.inputs.policy();
        let Some(choice) = class::choice(&ingress) else {
            return Some("it names no class, neither by spec.ingressClassName nor by annotation".to_owned());
        };
        let name = choice.class;
        let object = self.class(&id.cluster, name);
        Some(match object.as_deref() {
            None if choice.by == ChosenBy::Field => format!("its cluster has no IngressClass {name}"),
            None if !policy.classes.contains_key(&**name) => format!("class {name} is not ours"),
            Some(it) if &*it.controller != CONTROLLER_NAME && !policy.classes.contains_key(&**name) => {
                format!("class {name} belongs to controller {}, and the policy does not list it", it.controller)
            }
            object => match class::pool_of(name, object, policy) {
                Err(why) => why.to_string(),
                Ok(pool) => format!("pool {pool} does not take it"),
            },
        })
    }

    fn class(&self, cluster: &ClusterId, name: &str) -> Option<Arc<IngressClass>> {
        match self.inputs.object(cluster, &ObjectKey::new(Kind::IngressClass, "", name))? {
            Object::IngressClass(class) => Some(class),
            _ => None,
        }
    }

    fn index_unserved(&mut self) {
        let ids: Vec<_> = self.ingresses().collect();
        for ingress in ids {
            let Some(object) = self.ingress(&ingress) else { continue };
            let by_class = self.why_unserved(&ingress);
            for rule in &object.rules {
                let (rule_id, why) = match &by_class {
                    Some(why) => ("I-4", why.clone()),
                    None if !self.is_granted(&ingress, &rule.host) => {
                        ("M-8", "the policy grants it to others".to_owned())
                    }
                    None => continue,
                };
                let unserved = Unserved { ingress: ingress.clone(), rule: rule_id, why };
                self.unserved.entry(rule.host.clone()).or_default().push(unserved);
            }
        }
    }

    /// Whether the policy lets an Ingress declare a host (rule M-8).
    fn is_granted(&self, ingress: &IngressId, host: &str) -> bool {
        let host = if host.is_empty() { Some(HostKey::Any) } else { HostKey::parse(host) };
        let grants = &self.inputs.policy().grants;
        host.is_none_or(|host| grant::allows(grants, &host, &ingress.cluster, &ingress.name.namespace))
    }
}

impl fmt::Display for IngressId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.name)
    }
}
