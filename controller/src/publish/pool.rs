//! One pool: its hosts, the backends they refer to, the digests of both, and its edges.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_proto::digest::Digest;
use roadstead_proto::resource::ResourceKey;
use roadstead_proto::wire;
use roadstead_proto::wire::edge_message::Message as Said;
use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{BackendId, ClusterId, HostKey, Kind, ObjectKey, ObjectName};
use roadstead_routing::table::{Backend, Host, SecretId};

use crate::compute::{Resource, clusters_of, ingresses_of};
use crate::core::message::{Close, EdgeId, StreamId};
use crate::core::turn::Turn;
use crate::held::Held;
use crate::peers::state::{Reported, ReportedEdge};
use crate::publish::canary::{Canary, Passed, Trial};
use crate::publish::edge::{Edge, Guarded};
use crate::publish::secrets::Secrets;
use crate::publish::{EDGES_PER_POOL_MAX, Reached};
use crate::status::findings::Source;

#[derive(Default)]
pub struct Pool {
    hosts: BTreeMap<HostKey, Resource<Host>>,
    /// How many of the hosts refer to a backend or certificate. Never 0.
    references: BTreeMap<ResourceKey, usize>,
    held: Held<ResourceKey>,
    edges: BTreeMap<String, Edge>,
    canary: Canary,
    context: wire::GuardContext,
}

/// What an edge's stream may look at while it is served.
pub struct Content<'a> {
    pub hosts: &'a BTreeMap<HostKey, Resource<Host>>,
    pub backends: &'a BTreeMap<BackendId, Resource<Backend>>,
    pub secrets: &'a Secrets,
    pub held: &'a Held<ResourceKey>,
    /// The edge that is served.
    pub edge: &'a str,
    pub trial: Option<Trial<'a>>,
    pub guarded: &'a Guarded<'a>,
    /// Clusters whose certificates are not known yet.
    pub awaited: &'a BTreeSet<ClusterId>,
    /// What the edge's guard is to know.
    pub context: &'a wire::GuardContext,
}

impl Pool {
    pub fn host(&self, host: &HostKey) -> Option<&Resource<Host>> {
        self.hosts.get(host)
    }

    pub fn host_digest(&self, host: &HostKey) -> Option<Digest> {
        self.hosts.get(host).map(|it| it.digest)
    }

    pub fn hosts(&self) -> impl Iterator<Item = (&HostKey, &Resource<Host>)> {
        self.hosts.iter()
    }

    pub fn host_count(&self) -> usize {
        self.hosts.len()
    }

    pub fn backend_count(&self) -> usize {
        self.held.len() - self.hosts.len() - self.certificate_count()
    }

    pub fn certificate_count(&self) -> usize {
        let is_certificate = |(key, _): &(&ResourceKey, &Digest)| matches!(key, ResourceKey::Secret(_));
        self.held.from(&first_certificate()).take_while(is_certificate).count()
    }

    pub fn held(&self) -> &Held<ResourceKey> {
        &self.held
    }

    pub fn edges(&self) -> impl Iterator<Item = (&String, &Edge)> {
        self.edges.iter()
    }

    pub fn connected(&self) -> impl Iterator<Item = (&String, &Edge)> {
        self.edges().filter(|(_, edge)| edge.stream().is_some())
    }

    /// Returns what was there before.
    pub fn replace_host(&mut self, host: &HostKey, resource: Option<Resource<Host>>) -> Option<Resource<Host>> {
        let digest = resource.as_ref().map(|it| it.digest);
        let mut clusters = resource.as_ref().map(|it| clusters_of(&it.value)).unwrap_or_default();
        let before = match resource {
            Some(resource) => self.hosts.insert(host.clone(), resource),
            None => self.hosts.remove(host),
        };
        clusters.extend(before.iter().flat_map(|it| clusters_of(&it.value)));
        self.changed(&ResourceKey::Host(host.clone()), digest, &clusters);
        before
    }

    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    pub fn canary_mut(&mut self) -> &mut Canary {
        &mut self.canary
    }

    /// What edges' guards are to know from now on. What they refused is offered again if that has changed.
    pub fn set_context(&mut self, context: wire::GuardContext) {
        if context != self.context {
            self.context = context;
            self.edges.values_mut().for_each(|edge| edge.offer_again(&self.held));
        }
    }

    /// Moves the trial of what has no object as its cause. `elsewhere`: edges of the pool at other replicas. Returns
    /// what everybody may have now.
    pub fn advance_canary(
        &mut self,
        elsewhere: &[(&Reported, &ReportedEdge)],
        held: &BTreeSet<HostKey>,
        turn: &Turn,
    ) -> Option<Passed> {
        let here = || self.edges.iter().filter(|(_, edge)| edge.stream().is_some());
        let names = here().map(|(name, _)| name.as_str());
        let names = names.chain(elsewhere.iter().map(|(_, edge)| edge.id.as_str())).collect();
        let seen = |name: &str| match here().find(|(id, _)| *id == name) {
            Some((_, edge)) => Some(edge.seen(turn.policy.rev)),
            None => elsewhere.iter().find(|(_, edge)| edge.id == name).map(|(there, edge)| edge.seen(there.policy_rev)),
        };
        self.canary.advance(&names, seen, held, turn.now_ms)
    }

    pub fn refers_to(&self, key: &ResourceKey) -> bool {
        self.references.contains_key(key)
    }

    /// A backend or certificate is now `digest`, if some host refers to it.
    pub fn resource_changed(&mut self, key: &ResourceKey, digest: Option<Digest>) {
        if self.references.contains_key(key) {
            self.changed(key, digest, &BTreeSet::new());
        }
    }

    /// One more host refers to the backend or certificate.
    pub fn refer(&mut self, key: &ResourceKey, digest: Option<Digest>) {
        let references = self.references.entry(key.clone()).or_default();
        *references += 1;
        if *references == 1 {
            self.changed(key, digest, &BTreeSet::new());
        }
    }

    /// One host less refers to the backend or certificate.
    pub fn release(&mut self, key: &ResourceKey) {
        let Some(references) = self.references.get_mut(key) else { return };
        *references -= 1;
        if *references == 0 {
            self.references.remove(key);
            self.changed(key, None, &BTreeSet::new());
        }
    }

    /// Returns the edge's older stream, if it still had one: an edge that dials again has lost it.
    ///
    /// # Errors
    /// If too many edges are connected. Of those that are not, the longest gone makes room.
    pub fn connect(&mut self, id: &EdgeId, stream: StreamId, turn: &mut Turn) -> Result<Option<StreamId>, Close> {
        if !self.edges.contains_key(&id.edge) && self.edges.len() >= EDGES_PER_POOL_MAX {
            let gone = self.edges.iter().filter(|(_, edge)| edge.stream().is_none());
            let Some(longest) = gone.min_by_key(|(_, edge)| edge.since_ms).map(|(name, _)| name.clone()) else {
                return Err(Close::Limit(format!("{EDGES_PER_POOL_MAX} edges of this pool are connected")));
            };
            let forgotten = self.edges.remove(&longest).unwrap_or_default();
            let id = EdgeId { pool: id.pool.clone(), edge: longest };
            for key in forgotten.refused() {
                turn.findings.clear(&Source::Edge(id.clone(), key.clone()));
            }
        }
        Ok(self.edges.entry(id.edge.clone()).or_default().connect(stream, turn))
    }

    pub fn disconnect(&mut self, edge: &str, now_ms: u64) {
        if let Some(edge) = self.edges.get_mut(edge) {
            edge.disconnect(now_ms);
        }
    }

    pub fn received(&mut self, id: &EdgeId, stream: StreamId, said: Said, turn: &mut Turn) -> Result<(), Close> {
        let Some(edge) = self.edges.get_mut(&id.edge) else { return Ok(()) };
        edge.heard(turn);
        match said {
            Said::Hello(hello) => {
                for (key, _) in edge.hello(id, hello, &self.held, turn)? {
                    turn.findings.clear(&Source::Edge(id.clone(), key));
                }
                edge.request_held(stream, turn);
                Ok(())
            }
            Said::HeldContents(contents) => edge.held_contents(contents, &self.held),
            Said::Health(health) => {
                edge.set_failing(health);
                Ok(())
            }
            Said::Heartbeat(_) | Said::Result(_) => Ok(()),
        }
    }

    /// Returns the hosts that the edge has now.
    pub fn result(&mut self, id: &EdgeId, result: wire::UpdateResult, turn: &mut Turn) -> Result<Vec<HostKey>, Close> {
        let Some(edge) = self.edges.get_mut(&id.edge) else { return Ok(Vec::new()) };
        edge.heard(turn);
        let outcome = edge.result(result)?;
        for refusal in outcome.refused {
            turn.metrics.publish.refused.inc();
            tracing::error!(pool = %id.pool, edge.id = id.edge, key = %refusal.0, reason = refusal.1, "An edge refused a resource");
            let findings = self.refused(id, &refusal.0, &refusal.1);
            turn.findings.set(&Source::Edge(id.clone(), refusal.0), findings);
        }
        for key in &outcome.accepted {
            turn.findings.clear(&Source::Edge(id.clone(), key.clone()));
        }
        let host = |key| if let ResourceKey::Host(host) = key { Some(host) } else { None };
        Ok(outcome.accepted.into_iter().filter_map(host).collect())
    }

    /// Sends what fits. Returns whether some edge got its first complete set by it.
    pub fn flush(
        &mut self,
        backends: &BTreeMap<BackendId, Resource<Backend>>,
        secrets: &Secrets,
        guarded: &Guarded<'_>,
        turn: &mut Turn,
    ) -> bool {
        let (hosts, held, context, trial) = (&self.hosts, &self.held, &self.context, self.canary.trial());
        let (awaited, mut got_all) = (&turn.world.awaited().clone(), false);
        for (name, edge) in &mut self.edges {
            let content = Content { hosts, backends, secrets, held, edge: name, trial, guarded, awaited, context };
            got_all |= edge.flush(&content, turn);
        }
        got_all
    }

    pub fn silent(&self, since_ms: u64) -> Vec<StreamId> {
        self.edges.values().filter(|edge| edge.last_heard_ms() < since_ms).filter_map(Edge::stream).collect()
    }

    /// `elsewhere`: whether each edge of the pool at other replicas has all of them.
    pub fn reached(&self, hosts: &[HostKey], elsewhere: impl Iterator<Item = bool>) -> Reached {
        let keys: Vec<ResourceKey> = hosts.iter().cloned().map(ResourceKey::Host).collect();
        let here = self.connected().map(|(_, edge)| keys.iter().all(|key| edge.is_settled(key)));
        Reached::of(here.chain(elsewhere))
    }

    /// How many hosts an edge has in their newest version.
    pub fn settled_hosts(&self, edge: &Edge) -> usize {
        let unsettled = edge.unsettled_hosts();
        unsettled
            .map_or(0, |hosts| self.hosts.len() - hosts.iter().filter(|host| self.hosts.contains_key(host)).count())
    }

    /// A resource is now `digest` (`None`: gone): remembered here and for every connected edge.
    fn changed(&mut self, key: &ResourceKey, digest: Option<Digest>, clusters: &BTreeSet<ClusterId>) {
        let before = self.held.set(key, digest);
        if before != digest {
            for edge in self.edges.values_mut() {
                edge.changed(key, before, digest, clusters);
            }
        }
    }

    fn refused(&self, edge: &EdgeId, key: &ResourceKey, reason: &str) -> Vec<Finding> {
        let finding = |cluster: &_, object: ObjectKey| Finding {
            cluster: Clone::clone(cluster),
            object: Some(object),
            code: Code::RefusedByEdge,
            severity: Severity::Error,
            message: format!("Edge {} of pool {} refused {key}: {reason}", edge.edge, edge.pool),
            remedy: "Correct the object, or update the edge if the object is valid.".to_owned(),
        };
        match key {
            ResourceKey::Host(host) => {
                let ingresses = self.hosts.get(host).map(|it| ingresses_of(&it.value)).unwrap_or_default();
                let object = |name: &ObjectName| ObjectKey { kind: Kind::Ingress, name: name.clone() };
                ingresses.into_iter().map(|(cluster, name)| finding(cluster, object(name))).collect()
            }
            ResourceKey::Backend(id) => {
                vec![finding(&id.cluster, ObjectKey { kind: Kind::Service, name: id.service.clone() })]
            }
            ResourceKey::Secret(id) => {
                vec![finding(&id.cluster, ObjectKey { kind: Kind::Secret, name: id.secret.clone() })]
            }
        }
    }
}

/// Before every certificate, in the order of keys.
fn first_certificate() -> ResourceKey {
    ResourceKey::Secret(SecretId { cluster: "".into(), secret: ObjectName::new("", "") })
}
