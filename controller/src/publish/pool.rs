//! One pool: its hosts, the backends they refer to, the digests of both, and its edges.

use std::collections::BTreeMap;

use roadstead_proto::digest::Digest;
use roadstead_proto::resource::ResourceKey;
use roadstead_proto::wire;
use roadstead_proto::wire::edge_message::Message as Said;
use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{BackendId, HostKey, Kind, ObjectKey};
use roadstead_routing::table::{Backend, Host};

use crate::compute::{Resource, ingresses_of};
use crate::core::message::{Close, EdgeId, StreamId};
use crate::core::turn::Turn;
use crate::held::Held;
use crate::ingest::Ingest;
use crate::publish::edge::Edge;
use crate::publish::{EDGES_PER_POOL_MAX, Reached};
use crate::status::findings::Source;

#[derive(Default)]
pub struct Pool {
    hosts: BTreeMap<HostKey, Resource<Host>>,
    /// How many of the hosts refer to a backend. Never 0.
    references: BTreeMap<BackendId, usize>,
    held: Held<ResourceKey>,
    edges: BTreeMap<String, Edge>,
}

/// What an edge's stream may look at while it is served.
pub struct Content<'a> {
    pub hosts: &'a BTreeMap<HostKey, Resource<Host>>,
    pub backends: &'a BTreeMap<BackendId, Resource<Backend>>,
    pub held: &'a Held<ResourceKey>,
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
        self.held.len() - self.hosts.len()
    }

    pub fn held(&self) -> &Held<ResourceKey> {
        &self.held
    }

    pub fn edges(&self) -> impl Iterator<Item = (&String, &Edge)> {
        self.edges.iter()
    }

    /// Returns what was there before.
    pub fn replace_host(&mut self, host: &HostKey, resource: Option<Resource<Host>>) -> Option<Resource<Host>> {
        self.changed(&ResourceKey::Host(host.clone()), resource.as_ref().map(|it| it.digest));
        match resource {
            Some(resource) => self.hosts.insert(host.clone(), resource),
            None => self.hosts.remove(host),
        }
    }

    pub fn refers_to(&self, id: &BackendId) -> bool {
        self.references.contains_key(id)
    }

    pub fn backend_changed(&mut self, id: &BackendId, digest: Option<Digest>) {
        if self.references.contains_key(id) {
            self.changed(&ResourceKey::Backend(id.clone()), digest);
        }
    }

    /// One more host refers to the backend.
    pub fn refer(&mut self, id: &BackendId, digest: Option<Digest>) {
        let references = self.references.entry(id.clone()).or_default();
        *references += 1;
        if *references == 1 {
            self.changed(&ResourceKey::Backend(id.clone()), digest);
        }
    }

    /// One host less refers to the backend.
    pub fn release(&mut self, id: &BackendId) {
        let Some(references) = self.references.get_mut(id) else { return };
        *references -= 1;
        if *references == 0 {
            self.references.remove(id);
            self.changed(&ResourceKey::Backend(id.clone()), None);
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
        ingest: &Ingest,
        turn: &mut Turn,
    ) -> bool {
        let content = Content { hosts: &self.hosts, backends, held: &self.held };
        self.edges.values_mut().filter_map(|edge| edge.flush(&content, ingest, turn).then_some(())).count() > 0
    }

    pub fn silent(&self, since_ms: u64) -> Vec<StreamId> {
        self.edges.values().filter(|edge| edge.last_heard_ms() < since_ms).filter_map(Edge::stream).collect()
    }

    pub fn reached(&self, hosts: &[HostKey]) -> Reached {
        let keys: Vec<ResourceKey> = hosts.iter().cloned().map(ResourceKey::Host).collect();
        let connected = self.edges.values().filter(|edge| edge.stream().is_some());
        let (mut all, mut some) = (true, false);
        for edge in connected {
            let has = keys.iter().all(|key| edge.is_settled(key));
            all &= has;
            some |= has;
        }
        match (some, all) {
            (false, _) => Reached::None,
            (true, false) => Reached::Some,
            (true, true) => Reached::All,
        }
    }

    /// How many hosts an edge has in their newest version.
    pub fn settled_hosts(&self, edge: &Edge) -> usize {
        let unsettled = edge.unsettled_hosts();
        unsettled
            .map_or(0, |hosts| self.hosts.len() - hosts.iter().filter(|host| self.hosts.contains_key(host)).count())
    }

    /// A resource is now `digest` (`None`: gone): remembered here and for every connected edge.
    fn changed(&mut self, key: &ResourceKey, digest: Option<Digest>) {
        let before = self.held.set(key, digest);
        if before != digest {
            for edge in self.edges.values_mut() {
                edge.changed(key, before, digest);
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
                let object =
                    |name: &roadstead_routing::id::ObjectName| ObjectKey { kind: Kind::Ingress, name: name.clone() };
                ingresses.into_iter().map(|(cluster, name)| finding(cluster, object(name))).collect()
            }
            ResourceKey::Backend(id) => {
                vec![finding(&id.cluster, ObjectKey { kind: Kind::Service, name: id.service.clone() })]
            }
        }
    }
}
