//! What other replicas wrote, once a second: where clusters stand and what they have, Holds, the policy, who is there.
//!
//! Beat out (what this replica knows) → store → News in → the same state machines as everything else. Peers tell most of
//! it sooner; this is what nothing gets past.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_routing::finding::{Code, Finding, Severity};
use roadstead_routing::id::{ClusterId, Kind, PoolName, Position};
use roadstead_routing::membership::Lifecycle;
use roadstead_routing::policy::{Span, StalePolicy};
use roadstead_routing::reach::{GatewayRef, ReachMode};

use crate::clerk::Terms;
use crate::core::Core;
use crate::core::message::{Close, Output};
use crate::policy;
use crate::publish::canary;
use crate::status::findings::Source;
use crate::store::{Beat, Cause, Changes, Clerk, ClusterNews, ClusterRow, MemberRow, News, ReplicaRow};
use crate::world::Change;

/// Between two beats.
pub const BEAT_EVERY_MS: u64 = 1_000;
/// Longer than a replica takes to read what another one has stored.
const CATCH_UP_MS: u64 = 10 * BEAT_EVERY_MS;

/// What the store said last.
#[derive(Default)]
pub struct Followed {
    pub replica: ReplicaRow,
    pub members: BTreeMap<ClusterId, MemberRow>,
    pub clerk: Option<String>,
    keeps_stamp: u64,
    /// The epochs of clusters in the store. One below what an edge knows tells of a restored backup.
    epochs: BTreeMap<ClusterId, u64>,
    next_beat_ms: u64,
    /// A stored policy that this build does not understand.
    unreadable_policy: Option<u64>,
}

/// Something that is wrong with the whole and needs a person.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Alert {
    /// Stable: alerts and docs name it.
    pub code: String,
    pub message: String,
    pub remedy: String,
}

impl Followed {
    pub fn new(replica: ReplicaRow, clusters: &BTreeMap<ClusterId, ClusterRow>) -> Self {
        let members = clusters.iter().map(|(id, row)| (id.clone(), row.member.clone())).collect();
        Self { replica, members, ..Self::default() }
    }

    /// Clusters of which the guard lets everything go.
    pub fn leaving(&self) -> BTreeSet<ClusterId> {
        let leaving = self.members.iter().filter(|(_, row)| row.membership.lifecycle.is_leaving());
        leaving.map(|(id, _)| id.clone()).collect()
    }
}

impl Core {
    pub(super) fn beat_if_due(&mut self) {
        if self.turn.now_ms >= self.followed.next_beat_ms {
            self.say_beat();
        }
    }

    pub(super) fn say_beat(&mut self) {
        self.followed.next_beat_ms = self.turn.now_ms + BEAT_EVERY_MS;
        let beat = Beat {
            replica: self.followed.replica.clone(),
            known: self.turn.world.positions().map(|(id, position)| (id.clone(), position)).collect(),
            held: self.ingest.held().cloned().collect(),
            keeps_stamp: self.followed.keeps_stamp,
            policy_rev: self.turn.policy.rev.max(self.followed.unreadable_policy.unwrap_or_default()),
            token: self.turn.token.unwrap_or_default(),
            terms: self.terms(),
        };
        self.turn.out.push(Output::Beat(Box::new(beat)));
    }

    pub(super) fn follow(&mut self, news: News) {
        let News { world, clusters, clerk_rev, keeps, policy, replicas, clerk } = news;
        if world.id != self.turn.world_id.id {
            self.store_away =
                Some(format!("the database holds another world now, {}: start this controller again", world.id));
            return;
        }
        if world != self.turn.world_id {
            tracing::warn!(
                incarnation = world.incarnation,
                adopted = world.adopted.len(),
                "The world was adopted by a person"
            );
            self.turn.world_id = world;
            self.ingest.end_all(&Close::Adopted, &mut self.turn);
            self.publish.end_all(&Close::Adopted, &mut self.turn);
        }
        for (cluster, it) in clusters {
            self.follow_cluster(&cluster, it);
        }
        self.turn.clerk_rev = self.turn.clerk_rev.max(clerk_rev);
        let leaving = self.followed.leaving();
        self.publish.guard_mut().set_leaving(leaving);
        if let Some(keeps) = keeps {
            self.followed.keeps_stamp = keeps.stamp;
            self.publish.guard_mut().follow(keeps, &mut self.turn);
        }
        if let Some(row) = policy {
            let rev = row.rev;
            match policy::accepted(row) {
                Ok(policy) => self.set_policy(policy),
                Err(error) => {
                    self.followed.unreadable_policy = Some(rev);
                    self.policy_problem = Some(error.to_string());
                }
            }
        }
        self.peers.found(replicas, &mut self.turn);
        self.be_clerk(clerk);
        self.look_for_old_addresses();
    }

    /// Pods come and go while nobody reports them, and their addresses with them.
    fn look_for_old_addresses(&mut self) {
        let after = self.turn.policy.policy.defaults.stale_pod_ip_after;
        for (cluster, row) in &self.followed.members {
            let policy = self.turn.policy.policy.cluster(cluster);
            let uses_pods = policy.reach_modes().any(|mode| mode == ReachMode::PodIp);
            let is_at_risk = row.membership.is_doubtful && row.membership.lifecycle.serves() && uses_pods;
            let finding = is_at_risk.then(|| old_addresses(cluster, after, policy.gateway.as_ref()));
            self.turn.findings.set(&Source::Staleness(cluster.clone()), finding.into_iter().collect());
        }
    }

    /// What needs a person, beyond single clusters and objects. Trials are the same at every replica; the rest is about
    /// edges, wherever they are connected.
    pub fn alerts(&self) -> Vec<Alert> {
        let trials =
            self.publish.pools().iter().filter_map(|(name, pool)| Some(on_trial(name, pool.canary().state()?)));
        let elsewhere = self.publish.elsewhere().iter().flat_map(|it| it.alerts.iter().cloned());
        self.unstored_secrets().into_iter().chain(trials).chain(self.edge_alerts()).chain(elsewhere).collect()
    }

    /// The same at every replica, like what it is about.
    fn unstored_secrets(&self) -> Option<Alert> {
        let world = &self.turn.world;
        let secrets: usize = world.positions().map(|(cluster, _)| world.count(cluster, Kind::Secret)).sum();
        (world.forgets_secrets() && secrets > 0).then(|| Alert {
            code: "secrets-not-stored".to_owned(),
            message: format!(
                "{secrets} Secrets are only in memory: after a restart of the controllers, edges without certificates get none \
                 before the agents have reported again"
            ),
            remedy:
                "Give every replica the same key with --secrets-key-file FILE; `head -c 32 /dev/urandom` makes one."
                    .to_owned(),
        })
    }

    /// What needs a person about the edges that are connected here.
    pub(super) fn edge_alerts(&self) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for (name, pool) in self.publish.pools() {
            for (id, edge) in pool.edges() {
                if let Some(theirs) = edge.foreign_world() {
                    alerts.push(self.foreign(name, id, theirs));
                }
                let is_lost = |(cluster, at): &(&ClusterId, Position)| {
                    self.followed.epochs.get(*cluster).is_some_and(|stored| at.epoch > *stored)
                };
                if let Some((cluster, at)) = edge.ahead().find(is_lost) {
                    let known = format!("cluster {cluster} at {at}, an epoch that the database never had");
                    alerts.push(restored(name, id, &known));
                }
                let since_ms = edge.ahead_of_everything_since_ms();
                if since_ms.is_some_and(|it| self.turn.now_ms > it + CATCH_UP_MS) {
                    alerts.push(restored(name, id, "a policy or states of clusters that the database does not have"));
                }
            }
        }
        alerts
    }

    fn follow_cluster(&mut self, cluster: &ClusterId, news: ClusterNews) {
        let turn = &mut self.turn;
        self.ingest.stored(cluster, &news.row, turn);
        self.followed.epochs.insert(cluster.clone(), news.row.lineage.position.epoch);
        let membership = news.row.member.membership;
        if turn.world.inputs().membership(cluster) != membership {
            turn.dirty.merge(turn.world.set_membership(cluster, membership));
            turn.cause = Cause::Lifecycle;
        }
        self.followed.members.insert(cluster.clone(), news.row.member.clone());
        if self.ingest.session(cluster).is_some() {
            return;
        }
        let (stored, incarnation) = (news.row.lineage.position, news.row.lineage.incarnation);
        let is_settled = news.row.lineage.settled;
        let is_inferred = news.changes.as_ref().is_some_and(Changes::is_inferred);
        if let Some(change) = Change::stored(cluster.clone(), news) {
            // Where it does not follow on what a peer said meanwhile, the next beat asks for what is missing then.
            turn.follow(change, is_inferred);
            if turn.world.forgets_secrets() {
                self.peers.compare(cluster, turn);
            }
        }
        turn.world.durable(cluster, stored);
        let here = turn.world.position(cluster);
        if is_settled && here.epoch == stored.epoch && here >= stored {
            turn.world.settle(cluster, incarnation);
        }
    }

    fn be_clerk(&mut self, clerk: Clerk) {
        match clerk {
            Clerk::Same => {}
            Clerk::Other(holder) => {
                if self.turn.token.take().is_some() {
                    tracing::warn!(holder, "Another replica is the clerk now");
                }
                self.followed.clerk = Some(holder);
            }
            Clerk::New { token, published } => {
                tracing::info!(token, "This replica is the clerk");
                self.turn.token = Some(token);
                self.followed.clerk = Some(self.turn.replica.clone());
                self.publish.become_clerk(published, &mut self.turn);
            }
        }
    }

    fn terms(&self) -> Terms {
        let policy = &self.turn.policy.policy;
        let hold_for = |cluster: &ClusterId| match policy.stale(cluster) {
            StalePolicy::Hold => None,
            StalePolicy::HoldFor(span) => Some((cluster.clone(), u64::from(span.seconds()) * 1_000)),
        };
        let at_zero = |row: &MemberRow| row.membership.lifecycle == Lifecycle::Draining && row.membership.percent == 0;
        let mut draining = self.followed.members.iter().filter(|(_, row)| at_zero(row)).peekable();
        let is_known = draining.peek().is_some() && self.publish.all_settled(&self.turn);
        Terms {
            hold_for_ms: self.followed.members.keys().filter_map(hold_for).collect(),
            doubt_after_ms: u64::from(policy.defaults.stale_pod_ip_after.seconds()) * 1_000,
            drained: draining.filter(|_| is_known).map(|(id, _)| id.clone()).collect(),
        }
    }

    fn foreign(&self, pool: &PoolName, edge: &str, theirs: &roadstead_proto::wire::World) -> Alert {
        let id = uuid::Uuid::from_slice(&theirs.id).unwrap_or_default();
        let ours = &self.turn.world_id;
        let remedy = if id == ours.id {
            "Wait until this controller has read its database again; it lags behind another one.".to_owned()
        } else {
            format!(
                "If this is the wrong database, start the controllers on the right one. If it is meant to replace the other \
                 world: wait until every cluster has reported, then `roadstead adopt-world --world {id}`."
            )
        };
        Alert {
            code: "other-world".to_owned(),
            message: format!(
                "Edge {edge} of pool {pool} serves the table of world {id} incarnation {}, this database holds {} \
                 incarnation {}; it is sent nothing and keeps what it has",
                theirs.incarnation, ours.id, ours.incarnation
            ),
            remedy,
        }
    }
}

fn old_addresses(cluster: &ClusterId, after: Span, gateway: Option<&GatewayRef>) -> Finding {
    let meanwhile = match gateway {
        Some(gateway) => format!("requests go to its gateway {gateway} if that has an address, else"),
        None => {
            "Services with a node port are reached by that; all other requests go, with half the weight,".to_owned()
        }
    };
    Finding {
        cluster: cluster.clone(),
        object: None,
        code: Code::StalePodAddresses,
        severity: Severity::Warning,
        message: format!(
            "The agent of cluster {cluster} has been away for more than {after}; {meanwhile} to the pod addresses that it \
             reported last, which pods of somebody else may have by now"
        ),
        remedy: format!(
            "Bring the agent back. If the cluster is lost: `roadstead cluster drain {cluster}`. If that should happen by \
             itself, `stale: {{hold_for: 10m}}` in the policy lets other clusters take over."
        ),
    }
}

fn restored(pool: &PoolName, edge: &str, known: &str) -> Alert {
    Alert {
        code: "restored-backup".to_owned(),
        message: format!(
            "Edge {edge} of pool {pool} knows {known}: an older backup was put back. It keeps what it has of that"
        ),
        remedy: "Wait until every cluster has reported, then `roadstead adopt-world`: edges then follow what the clusters say now."
            .to_owned(),
    }
}

fn on_trial(pool: &PoolName, (state, hosts, edge): (canary::State, usize, Option<&str>)) -> Alert {
    let edge = edge.unwrap_or("none yet");
    let (code, message) = match state {
        canary::State::Trying => ("canary", format!("{hosts} hosts of pool {pool} are tried on edge {edge} first")),
        canary::State::Lost => (
            "canary-lost",
            format!(
                "Edge {edge} was lost while it tried {hosts} hosts of pool {pool}; the other edges keep what they have"
            ),
        ),
        canary::State::Refused => (
            "canary-refused",
            format!("Edge {edge} refused {hosts} hosts of pool {pool}; the other edges keep what they have"),
        ),
    };
    let remedy = match state {
        canary::State::Trying => "Nothing: the others follow in a few seconds.".to_owned(),
        canary::State::Lost | canary::State::Refused => {
            format!(
                "Take the policy change back, or repair the edge. `roadstead canary release {pool}` sends it to all."
            )
        }
    };
    Alert { code: code.to_owned(), message, remedy }
}
