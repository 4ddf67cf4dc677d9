//! What goes back to the clusters: the addresses that an Ingress's status should show, and findings.
//!
//! Published tables and findings → messages to the agents that are live. Only changes are sent; a stream that went
//! live in this turn is told everything. An address is shown only once the edges really serve the Ingress.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use roadstead_proto::digest::Digest;
use roadstead_proto::finding::{key_to_wire, to_wire};
use roadstead_proto::wire;
use roadstead_proto::wire::controller_message::Message as Say;
use roadstead_routing::id::{ClusterId, ObjectName};
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

use crate::core::turn::Turn;
use crate::ingest::Ingest;
use crate::publish::{News, Publish};
use crate::status::desired::Desired;
use crate::status::findings::Subject;

pub mod desired;
pub mod findings;

/// A message is filled up to here.
const CHUNK_BYTES: usize = MESSAGE_BYTES_MAX / 2;

#[derive(Default)]
pub struct Status {
    desired: Desired,
    /// What the live agent of a cluster was told last about a subject. Absent: nothing, or nothing to tell.
    told: BTreeMap<Subject, Digest>,
    /// Subjects to tell once their agent is live.
    waiting: BTreeSet<Subject>,
}

impl Status {
    /// `ingresses` were computed in this turn.
    pub fn flush(
        &mut self,
        ingresses: BTreeSet<(ClusterId, ObjectName)>,
        ingest: &Ingest,
        publish: &mut Publish,
        turn: &mut Turn,
    ) {
        let news: News = publish.take_news();
        self.desired.refresh(ingresses, publish, turn);
        self.desired.reconsider(&news, publish, turn);
        self.waiting.extend(turn.findings.take_changed());
        for cluster in std::mem::take(&mut turn.welcomed) {
            self.desired.tell_everything(&cluster);
            // A finding that is gone since the last stream must be cleared too.
            let told: Vec<Subject> = self.told.keys().filter(|(id, _)| *id == cluster).cloned().collect();
            self.waiting.extend(told);
            self.waiting.extend(turn.findings.subjects(&cluster).cloned());
            self.told.retain(|(id, _), _| *id != cluster);
        }
        self.desired.send(ingest, turn);
        self.send_findings(ingest, turn);
    }

    /// Ingresses whose status is not written yet because edges are not there yet.
    pub fn waiting(&self) -> usize {
        self.desired.waiting()
    }

    fn send_findings(&mut self, ingest: &Ingest, turn: &mut Turn) {
        let mut chunks: BTreeMap<ClusterId, (wire::Findings, usize)> = BTreeMap::new();
        let sendable = |subject: &Subject| ingest.live(&subject.0).is_some();
        let ready: Vec<Subject> = self.waiting.iter().filter(|subject| sendable(subject)).cloned().collect();
        for subject in ready {
            self.waiting.remove(&subject);
            let findings = turn.findings.for_agent(&subject);
            let object = wire::ObjectFindings {
                object: subject.1.as_ref().map(key_to_wire),
                findings: findings.iter().map(to_wire).collect(),
            };
            let digest = Digest::of(&object);
            let before = if findings.is_empty() {
                self.told.remove(&subject)
            } else {
                self.told.insert(subject.clone(), digest)
            };
            if before == Some(digest) {
                continue;
            }
            let (chunk, bytes) = chunks.entry(subject.0.clone()).or_default();
            *bytes += object.encoded_len();
            chunk.objects.push(object);
            if *bytes > CHUNK_BYTES {
                let full = std::mem::take(chunk);
                *bytes = 0;
                tell(&subject.0, Say::Findings(full), ingest, turn);
            }
        }
        for (cluster, (chunk, _)) in chunks.into_iter().filter(|(_, (chunk, _))| !chunk.objects.is_empty()) {
            tell(&cluster, Say::Findings(chunk), ingest, turn);
        }
    }
}

fn tell(cluster: &ClusterId, message: Say, ingest: &Ingest, turn: &mut Turn) {
    if let Some(stream) = ingest.live(cluster) {
        turn.to_agent(stream, message);
    }
}
