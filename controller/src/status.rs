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
use roadstead_routing::id::{ClusterId, ObjectKey, ObjectName};
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
    /// What to tell once the cluster's agent is live. By cluster, so that a stale one costs nothing.
    waiting: BTreeMap<ClusterId, BTreeSet<Option<ObjectKey>>>,
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
        for subject in turn.findings.take_changed() {
            self.wait(subject);
        }
        for cluster in std::mem::take(&mut turn.welcomed) {
            self.desired.tell_everything(&cluster);
            // A finding that is gone since the last stream must be cleared too.
            let of_cluster = |subject: &&Subject| subject.0 == cluster;
            let told = self.told.range((cluster.clone(), None)..).map(|(subject, _)| subject).take_while(of_cluster);
            let subjects: Vec<Subject> = told.chain(turn.findings.subjects(&cluster)).cloned().collect();
            for subject in subjects {
                self.told.remove(&subject);
                self.wait(subject);
            }
        }
        self.desired.send(ingest, turn);
        self.send_findings(ingest, turn);
    }

    /// Ingresses whose status is not written yet because edges are not there yet.
    pub fn waiting(&self) -> usize {
        self.desired.waiting()
    }

    fn send_findings(&mut self, ingest: &Ingest, turn: &mut Turn) {
        let live: Vec<_> = self.waiting.keys().filter_map(|id| Some((id.clone(), ingest.live(id)?))).collect();
        for (cluster, stream) in live {
            let (mut chunk, mut bytes) = (wire::Findings::default(), 0);
            for object in self.waiting.remove(&cluster).unwrap_or_default() {
                let Some(news) = self.news((cluster.clone(), object), turn) else { continue };
                bytes += news.encoded_len();
                chunk.objects.push(news);
                if bytes > CHUNK_BYTES {
                    turn.to_agent(stream, Say::Findings(std::mem::take(&mut chunk)));
                    bytes = 0;
                }
            }
            if !chunk.objects.is_empty() {
                turn.to_agent(stream, Say::Findings(chunk));
            }
        }
    }

    /// The findings of a subject, if they are not what its agent was told last.
    fn news(&mut self, subject: Subject, turn: &Turn) -> Option<wire::ObjectFindings> {
        let findings = turn.findings.for_agent(&subject);
        let object = wire::ObjectFindings {
            object: subject.1.as_ref().map(key_to_wire),
            findings: findings.iter().map(to_wire).collect(),
        };
        let digest = Digest::of(&object);
        let before = if findings.is_empty() { self.told.remove(&subject) } else { self.told.insert(subject, digest) };
        (before != Some(digest)).then_some(object)
    }

    fn wait(&mut self, (cluster, object): Subject) {
        self.waiting.entry(cluster).or_default().insert(object);
    }
}
