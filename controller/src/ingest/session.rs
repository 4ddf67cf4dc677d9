//! The live stream of one cluster: deltas in, positions assigned, acknowledgements out.
//!
//! Everything accepted gets the next position of this epoch, is applied to the world at once and queued for the store.
//! Only the holder of the epoch has one of these, so positions are never assigned twice.

use std::collections::{BTreeSet, VecDeque};

use prost::Message;
use roadstead_proto::wire::agent_message::Message as Said;
use roadstead_proto::wire::controller_message::Message as Say;
use roadstead_proto::{finding, object, wire};
use roadstead_routing::finding::Finding;
use roadstead_routing::id::{ClusterId, Kind, ObjectKey, Position};

use crate::core::message::{Close, Output, StreamId};
use crate::core::turn::Turn;
use crate::ingest::admit::{Admitted, admit, over_limit};
use crate::ingest::prune::Prune;
use crate::status::findings::Source;
use crate::store::StoredObject;
use crate::store::queue::{Request, Write};
use crate::world::lineage::Lineage;
use crate::world::{Base, Change, Outcome, Unstored};

/// Deltas that wait for their acknowledgement one by one. Beyond, the newest ones share one: an Ack covers all before.
pub const ACKS_WAITING_MAX: usize = 10_000;
/// Findings an agent may report about its own work.
pub const AGENT_FINDINGS_MAX: usize = 1_000;

pub struct Session {
    cluster: ClusterId,
    /// The last position assigned.
    position: Position,
    durable_seq: u64,
    /// (our sequence number, the agent's), both ascending.
    acks: VecDeque<(u64, u64)>,
    prune: Prune,
}

impl Session {
    pub fn new(cluster: ClusterId, epoch: u64) -> Self {
        let position = Position { epoch, seq: 0 };
        Self { cluster, position, durable_seq: 0, acks: VecDeque::new(), prune: Prune::default() }
    }

    /// What this replica has of the cluster and the store has not is the first change of the epoch.
    pub fn store_first(&mut self, unstored: Unstored, turn: &mut Turn) {
        let Unstored { upserts, removals } = unstored;
        if upserts.is_empty() && removals.is_empty() {
            return;
        }
        let admitted = upserts.into_iter().map(|(object, digest)| {
            let packed = object::to_wire(&object).encode_to_vec();
            Admitted { object, digest, packed }
        });
        let removals = removals.into_iter().collect();
        self.accept(admitted.collect(), removals, false, turn);
    }

    pub fn epoch(&self) -> u64 {
        self.position.epoch
    }

    pub fn position(&self) -> Position {
        self.position
    }

    pub fn durable_seq(&self) -> u64 {
        self.durable_seq
    }

    pub fn is_complete(&self, kind: Kind) -> bool {
        self.prune.is_complete(kind)
    }

    /// # Errors
    /// If the agent breaks the protocol.
    pub fn received(&mut self, stream: StreamId, said: Said, turn: &mut Turn) -> Result<(), Close> {
        match said {
            Said::BucketRequest(request) => self.bucket_request(stream, &request, turn),
            Said::Delta(delta) => self.delta(stream, delta, turn),
            Said::SyncComplete(complete) => self.sync_complete(&complete, turn),
            Said::Findings(findings) => self.agent_findings(findings, turn),
            Said::Heartbeat(_) => {}
            Said::Hello(_) => return Err(Close::Protocol("a second Hello".to_owned())),
        }
        Ok(())
    }

    /// The store has everything up to `position`.
    pub fn durable(&mut self, stream: StreamId, position: Position, turn: &mut Turn) {
        if position.epoch != self.position.epoch {
            return;
        }
        self.durable_seq = self.durable_seq.max(position.seq);
        turn.world.durable(&self.cluster, position);
        while let Some((seq, agent_seq)) = self.acks.front().copied()
            && seq <= self.durable_seq
        {
            self.acks.pop_front();
            turn.to_agent(stream, Say::Ack(wire::Ack { seq: agent_seq }));
        }
    }

    fn bucket_request(&mut self, stream: StreamId, request: &wire::BucketRequest, turn: &mut Turn) {
        for chunk in turn.world.contents(&self.cluster, request) {
            turn.to_agent(stream, Say::BucketContents(chunk));
        }
    }

    fn delta(&mut self, stream: StreamId, delta: wire::Delta, turn: &mut Turn) {
        turn.metrics.ingest.deltas.inc();
        let mut admitted = Vec::with_capacity(delta.upserts.len());
        for upsert in delta.upserts {
            match admit(&self.cluster, upsert) {
                Ok(it) => self.take(it, &mut admitted, turn),
                Err(finding) => self.refuse(finding, turn),
            }
        }
        let removals = self.removals(delta.removals, turn);
        if !admitted.is_empty() || !removals.is_empty() {
            self.accept(admitted, removals, false, turn);
        }
        self.wait_for_ack(delta.seq);
        self.durable(stream, Position { seq: self.durable_seq, ..self.position }, turn);
    }

    fn take(&mut self, it: Admitted, admitted: &mut Vec<Admitted>, turn: &mut Turn) {
        let key = it.object.key();
        self.prune.forget(&key);
        turn.findings.clear(&Source::Admission(self.cluster.clone(), key.clone()));
        if turn.world.digest(&self.cluster, &key) != Some(it.digest) {
            turn.findings.clear(&Source::Storage(self.cluster.clone(), key));
            admitted.push(it);
        }
    }

    /// Removals that take effect now. Inferred ones wait for the end of their list.
    fn removals(&mut self, removals: Vec<wire::Removal>, turn: &mut Turn) -> Vec<ObjectKey> {
        let mut now = Vec::new();
        for removal in removals {
            // A kind that this build does not know is not in the world either.
            let Some(key) = removal.object.as_ref().and_then(finding::key_from_wire) else { continue };
            turn.findings.clear(&Source::Admission(self.cluster.clone(), key.clone()));
            if removal.cause() == wire::RemovalCause::Deleted {
                self.prune.forget(&key);
                if turn.world.digest(&self.cluster, &key).is_some() {
                    now.push(key);
                }
            } else if turn.world.digest(&self.cluster, &key).is_some() {
                self.prune.infer(key);
            }
        }
        now
    }

    /// Assigns the next position, applies, and queues for the store.
    fn accept(&mut self, admitted: Vec<Admitted>, removals: Vec<ObjectKey>, inferred: bool, turn: &mut Turn) {
        let since = self.position;
        self.position.seq += 1;
        let position = self.position;
        turn.metrics.ingest.objects.inc_by((admitted.len() + removals.len()) as u64);
        let upserts = admitted.iter().map(|it| (it.object.clone(), it.digest)).collect();
        let lineage = turn.world.lineage(&self.cluster).cloned().unwrap_or_default();
        let change = Change {
            cluster: self.cluster.clone(),
            lineage: Lineage { position, ..lineage },
            base: Base::Since(since),
            upserts,
            removals: removals.clone(),
        };
        let Outcome::Applied(applied) = turn.world.apply(change) else {
            // Positions of an epoch are assigned here only, in order; an older one cannot occur.
            tracing::error!(cluster.id = %self.cluster, %position, "A change older than the world was not applied");
            return;
        };
        turn.dirty.merge(applied.dirty);
        turn.moved.insert(self.cluster.clone(), position);
        for key in &removals {
            turn.findings.clear(&Source::Storage(self.cluster.clone(), key.clone()));
        }
        let refused: BTreeSet<ObjectKey> = applied.refused.iter().map(|(key, _)| key.clone()).collect();
        for (key, limit) in applied.refused {
            self.refuse(over_limit(&self.cluster, key, limit), turn);
        }
        let upserts = admitted.into_iter().filter(|it| !refused.contains(&it.object.key())).map(|it| StoredObject {
            object: it.object,
            digest: it.digest,
            position,
            packed: it.packed,
        });
        let write = Write { cluster: self.cluster.clone(), position, upserts: upserts.collect(), removals, inferred };
        if turn.is_reporting {
            turn.steps.push(write.clone());
        }
        turn.out.push(Output::Store(Request::Write(write)));
    }

    fn refuse(&self, finding: Finding, turn: &mut Turn) {
        turn.metrics.ingest.refused.inc();
        let source = match &finding.object {
            Some(key) => Source::Admission(self.cluster.clone(), key.clone()),
            None => Source::Stream(self.cluster.clone()),
        };
        turn.findings.set(&source, vec![finding]);
    }

    /// Everything accepted so far must be durable before `agent_seq` is acknowledged.
    fn wait_for_ack(&mut self, agent_seq: u64) {
        let waiting = (self.position.seq, agent_seq);
        if self.acks.len() >= ACKS_WAITING_MAX {
            self.acks.pop_back();
        }
        self.acks.push_back(waiting);
    }

    fn sync_complete(&mut self, complete: &wire::SyncComplete, turn: &mut Turn) {
        let Some(kind) = Kind::from_number(complete.kind) else { return };
        let removed = self.prune.completed(kind);
        if !removed.is_empty() {
            turn.inferred.insert(self.cluster.clone());
            self.accept(Vec::new(), removed, true, turn);
        }
        if kind == Kind::Secret {
            turn.dirty.merge(turn.world.secrets_known(&self.cluster));
        }
        if self.prune.is_empty() {
            self.compare_count(kind, complete.count, turn);
        }
        let is_settled = turn.world.lineage(&self.cluster).is_some_and(|lineage| lineage.settled);
        if !is_settled && Kind::ROUTING.iter().all(|kind| self.is_complete(*kind)) {
            self.settle(turn);
        }
    }

    /// Everything the cluster had to say first is here: what is older than this epoch is superseded.
    fn settle(&self, turn: &mut Turn) {
        let (cluster, position, incarnation) = (self.cluster.clone(), self.position, turn.world_id.incarnation);
        turn.world.settle(&cluster, incarnation);
        turn.settled.insert(cluster.clone());
        turn.out.push(Output::Store(Request::Settled { cluster, position, incarnation }));
    }

    fn compare_count(&self, kind: Kind, reported: u64, turn: &mut Turn) {
        let held = turn.world.count(&self.cluster, kind) as u64;
        if held != reported {
            turn.metrics.ingest.count_mismatches.inc();
            tracing::warn!(cluster.id = %self.cluster, %kind, held, reported, "After a full list the counts of a kind differ");
        }
    }

    fn agent_findings(&mut self, findings: wire::AgentFindings, turn: &mut Turn) {
        let own = |finding: &Finding| finding.cluster == self.cluster;
        let findings = findings.findings.into_iter().filter_map(finding::from_wire).filter(own);
        turn.findings.set(&Source::Agent(self.cluster.clone()), findings.take(AGENT_FINDINGS_MAX).collect());
    }
}
