//! What controllers hear of each other: beats of the database, and the streams on which they report.

use roadstead_controller::core::message::{Input, StreamId};
use roadstead_controller::store::{Beat, ReplicaRow};
use roadstead_proto::wire;
use roadstead_routing::id::{ClusterId, Kind, ObjectKey};

use crate::agenda::{Event, Node};
use crate::network::{End, LinkId};
use crate::simulation::Simulation;
use crate::words;

/// A controller as its peers know it: the address is its index.
pub fn row(index: usize, life: u32) -> ReplicaRow {
    let (id, version) = (format!("r{index}"), String::new());
    ReplicaRow { id, address: index.to_string(), version, instance: life.to_string() }
}

impl Simulation {
    /// The one on its way is lost if there is another: the next says the same.
    pub fn beat_begins(&mut self, index: usize, beat: Beat) {
        let replica = &mut self.replicas[index];
        if replica.beat_mut().is_some() || replica.news_mut().is_some() {
            return;
        }
        *replica.beat_mut() = Some(beat);
        let life = replica.life();
        let delay = if self.database_slow { self.dice.between(100, 2_000) } else { self.dice.between(1, 40) };
        self.plan(delay, Event::Beat { replica: index, life });
    }

    pub fn beat_lands(&mut self, index: usize, life: u32) {
        if self.replicas[index].life() != life {
            return;
        }
        let Some(beat) = self.replicas[index].beat_mut().take().filter(|_| !self.database_away) else { return };
        let now_ms = self.unix_ms();
        *self.replicas[index].news_mut() = Some(self.database.model.beat(&beat, now_ms));
        let delay = self.dice.between(1, 20);
        self.plan(delay, Event::News { replica: index, life });
    }

    pub fn news_arrives(&mut self, index: usize, life: u32) {
        if self.replicas[index].life() != life {
            return;
        }
        if let Some(news) = self.replicas[index].news_mut().take() {
            self.replica_input(index, Input::News(Box::new(news)));
        }
    }

    /// The controller is to report to exactly these.
    pub fn found_peers(&mut self, index: usize, rows: &[ReplicaRow]) {
        let peers = rows.iter().filter_map(|row| row.address.parse().ok()).collect();
        *self.replicas[index].peers_mut() = peers;
        let gone: Vec<LinkId> = {
            let replica = &mut self.replicas[index];
            let peers = replica.peers_mut().clone();
            let reports = replica.reports_mut();
            let gone = reports.iter().filter(|(to, _)| !peers.contains(to)).map(|(_, link)| *link).collect();
            reports.retain(|to, _| peers.contains(to));
            gone
        };
        for link in gone {
            self.hang_up(link, End::Client);
            self.replica_input(index, Input::ReportClosed { stream: StreamId(link.0) });
        }
        let life = self.replicas[index].life();
        for to in self.replicas[index].peers_mut().clone() {
            self.plan(10, Event::PeerDial { replica: index, life, to });
        }
    }

    pub fn peer_dial(&mut self, index: usize, life: u32, to: usize) {
        let replica = &mut self.replicas[index];
        if replica.life() != life || !replica.peers_mut().contains(&to) || replica.reports_mut().contains_key(&to) {
            return;
        }
        let link = self.network.dial(Node::Replica(index), to, None);
        self.replicas[index].reports_mut().insert(to, link);
        let delay = self.dice.between(1, 60);
        self.plan(delay, Event::Opened(link));
    }

    pub fn report_connected(&mut self, index: usize, link: LinkId, to: usize) {
        self.replica_input(index, Input::ReportOpened { stream: StreamId(link.0), replica: format!("r{to}") });
    }

    /// The stream is over; another one is dialled.
    pub fn report_over(&mut self, index: usize, link: LinkId) {
        let found = self.replicas[index].reports_mut().iter().find(|(_, it)| **it == link).map(|(to, _)| *to);
        let Some(to) = found else { return };
        self.replicas[index].reports_mut().remove(&to);
        let (delay, life) = (self.dice.between(50, 2_000), self.replicas[index].life());
        self.plan(delay, Event::PeerDial { replica: index, life, to });
    }

    pub fn report_lost(&mut self, index: usize, link: LinkId) {
        self.report_over(index, link);
        self.replica_input(index, Input::ReportClosed { stream: StreamId(link.0) });
    }

    pub fn report_hears(&mut self, index: usize, link: LinkId, message: wire::PeerAnswer) {
        if let Some(what) = words::to_peer(&message) {
            self.note(format_args!("controller {index} ← link {} {what}", link.0));
            self.active_at = self.now;
        }
        self.replica_input(index, Input::Report { stream: StreamId(link.0), message });
    }

    /// Remembers which Ingresses were reported gone only because a list lacked them.
    pub fn note_causes(&mut self, link: LinkId, delta: &wire::Delta) {
        let Some(cluster) = self.acks.cluster(link).cloned() else { return };
        for upsert in &delta.upserts {
            if let Some(Ok(object)) = upsert.object.clone().map(roadstead_proto::object::from_wire) {
                self.inferred.remove(&(cluster.clone(), object.key()));
            }
        }
        for removal in &delta.removals {
            let Some(key) = removal.object.as_ref().and_then(roadstead_proto::finding::key_from_wire) else { continue };
            let known: (ClusterId, ObjectKey) = (cluster.clone(), key);
            if removal.cause() == wire::RemovalCause::Deleted {
                if known.1.kind == Kind::IngressClass {
                    self.classless.insert(cluster.clone());
                }
                self.inferred.remove(&known);
            } else {
                self.inferred.insert(known, self.now);
            }
        }
    }
}
