//! What happens to the system: changes of objects, faults, and repairs, at random; and the repair of everything.

use roadstead_controller::store::{LifecycleAnswer, LifecycleChange};
use roadstead_routing::id::Kind;
use roadstead_routing::membership::Lifecycle;
use roadstead_routing::object::Object;

use crate::agenda::{Event, Ms, Node};
use crate::network::End;
use crate::objects::{CLASSES, HOSTS, INGRESSES, IngressWish, SERVICES, SLICES, class, ingress, key, service, slice};
use crate::simulation::Simulation;

/// Backups kept; more push the oldest out.
const BACKUPS_MAX: usize = 3;

/// One thing that can happen.
#[derive(Clone, Copy, Debug)]
enum Action {
    Ingress,
    Service,
    Slice,
    DropObject,
    DropClass,
    MassDeletion,
    AgentCrash,
    ReplicaCrash,
    EdgeCrash,
    Cut,
    Partition,
    Heal,
    Pause,
    ListBreaks,
    Forbid,
    Allow,
    WatchExpires,
    StoreAway,
    StoreBack,
    StoreSlow,
    StoreFast,
    Policy,
    Backup,
    Restore,
    Lifecycle,
}

/// How often each happens, relative to the others.
const WEIGHTS: [(Action, u64); 25] = [
    (Action::Ingress, 22),
    (Action::Service, 8),
    (Action::Slice, 16),
    (Action::DropObject, 14),
    (Action::DropClass, 1),
    (Action::MassDeletion, 1),
    (Action::AgentCrash, 3),
    (Action::ReplicaCrash, 3),
    (Action::EdgeCrash, 3),
    (Action::Cut, 4),
    (Action::Partition, 2),
    (Action::Heal, 3),
    (Action::Pause, 3),
    (Action::ListBreaks, 3),
    (Action::Forbid, 1),
    (Action::Allow, 2),
    (Action::WatchExpires, 3),
    (Action::StoreAway, 2),
    (Action::StoreBack, 3),
    (Action::StoreSlow, 1),
    (Action::StoreFast, 1),
    (Action::Policy, 1),
    (Action::Backup, 1),
    (Action::Restore, 1),
    (Action::Lifecycle, 2),
];

impl Simulation {
    /// What clusters have before anything happens.
    pub fn first_objects(&mut self) {
        for index in 0..self.clusters.len() {
            for name in CLASSES {
                let version = self.clusters[index].next_version();
                self.clusters[index].put(class(name, version));
            }
            for name in 0..SERVICES {
                let version = self.clusters[index].next_version();
                self.clusters[index].put(service(name, 80, version));
            }
            for _ in 0..self.dice.between(1, 4) {
                self.change_ingress(index);
                self.change_slice(index);
            }
        }
    }

    pub fn take_step(&mut self) {
        let total: u64 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut number = self.dice.between(1, total);
        let chosen = WEIGHTS.iter().find(|(_, weight)| {
            let is_it = number <= *weight;
            number = number.saturating_sub(*weight);
            is_it
        });
        if let Some((action, _)) = chosen {
            self.act(*action);
        }
    }

    fn act(&mut self, action: Action) {
        let cluster = self.dice.index(self.clusters.len());
        match action {
            Action::Ingress => self.change_ingress(cluster),
            Action::Service => self.change_service(cluster),
            Action::Slice => self.change_slice(cluster),
            Action::DropObject => self.drop_object(cluster),
            Action::DropClass => self.drop_class(cluster),
            Action::MassDeletion => self.delete_all_ingresses(cluster),
            Action::AgentCrash | Action::ReplicaCrash | Action::EdgeCrash => self.crash(action),
            Action::Cut => self.cut(),
            Action::Partition => self.partition(),
            Action::Heal => self.heal_partition(),
            Action::Pause => self.pause(),
            Action::ListBreaks | Action::Forbid | Action::Allow | Action::WatchExpires => {
                self.disturb_api(action, cluster);
            }
            Action::StoreAway | Action::StoreBack | Action::StoreSlow | Action::StoreFast => self.disturb_store(action),
            Action::Policy => self.change_policy(),
            Action::Backup => self.back_up(),
            Action::Restore => self.restore_backup(),
            Action::Lifecycle => self.change_lifecycle(cluster),
        }
    }

    /// Every fault ends, every process runs. Pauses run out.
    pub fn heal(&mut self) {
        self.fault("everything heals", format_args!(""));
        self.network.heal();
        self.database_away = false;
        self.database_slow = false;
        for index in 0..self.clusters.len() {
            self.clusters[index].forbidden.clear();
            self.clusters[index].breaking_lists.clear();
            // A class that nobody brings back would leave nothing to compare.
            if self.dice.percent(50) {
                CLASSES.iter().for_each(|name| self.restore_class(index, name));
            }
        }
        let agents = (0..self.agents.len()).map(Node::Agent);
        let edges = (0..self.edges.len()).map(Node::Edge);
        let replicas = (0..self.replicas.len()).map(Node::Replica);
        for node in replicas.chain(agents).chain(edges).collect::<Vec<_>>() {
            self.plan(20, Event::Start(node));
        }
    }

    fn change(&mut self, cluster: usize, object: Object) {
        let (key, version) = (object.key(), self.clusters[cluster].next_version());
        self.note(format_args!("== c{cluster} has {key} in version {version}"));
        self.clusters[cluster].put(object);
        self.cluster_changed(cluster, key.kind);
    }

    fn change_ingress(&mut self, cluster: usize) {
        let wish = IngressWish {
            name: self.dice.index(INGRESSES),
            class: usize::from(self.dice.percent(20)),
            host: self.dice.index(HOSTS),
            service: self.dice.index(SERVICES),
        };
        let version = self.clusters[cluster].next_version();
        let existing = self.clusters[cluster].truth().get(&key(Kind::Ingress, &format!("i{}", wish.name)));
        let created = existing.map_or(version, |object| object.meta().created_at as u64);
        self.change(cluster, ingress(wish, version, created));
    }

    fn change_service(&mut self, cluster: usize) {
        let (name, port) = (self.dice.index(SERVICES), if self.dice.percent(80) { 80 } else { 81 });
        let version = self.clusters[cluster].next_version();
        self.change(cluster, service(name, port, version));
    }

    fn change_slice(&mut self, cluster: usize) {
        let (name, number) = (self.dice.index(SERVICES), self.dice.index(SLICES));
        let version = self.clusters[cluster].next_version();
        self.change(cluster, slice(name, number, version));
    }

    fn drop_object(&mut self, cluster: usize) {
        let keys = self.clusters[cluster].truth().keys().filter(|key| key.kind != Kind::IngressClass);
        let keys: Vec<_> = keys.cloned().collect();
        if keys.is_empty() {
            return;
        }
        let key = self.dice.pick(&keys).clone();
        self.note(format_args!("== c{cluster} loses {key}"));
        self.clusters[cluster].delete(&key);
        self.cluster_changed(cluster, key.kind);
    }

    fn drop_class(&mut self, cluster: usize) {
        let name = *self.dice.pick(&CLASSES);
        if self.clusters[cluster].delete(&key(Kind::IngressClass, name)) {
            self.fault("class deleted", format_args!("{name} of c{cluster}"));
            self.cluster_changed(cluster, Kind::IngressClass);
        } else {
            self.restore_class(cluster, name);
        }
    }

    fn restore_class(&mut self, cluster: usize, name: &str) {
        if !self.clusters[cluster].truth().contains_key(&key(Kind::IngressClass, name)) {
            let version = self.clusters[cluster].next_version();
            self.change(cluster, class(name, version));
        }
    }

    /// All Ingresses of a cluster go at once; sometimes no watch sees it happen.
    fn delete_all_ingresses(&mut self, cluster: usize) {
        self.fault("cluster emptied", format_args!("c{cluster}"));
        let keys = self.clusters[cluster].truth().keys().filter(|key| key.kind == Kind::Ingress).cloned();
        for key in keys.collect::<Vec<_>>() {
            self.clusters[cluster].delete(&key);
        }
        if self.dice.percent(70) {
            self.clusters[cluster].compact();
        }
        Kind::ALL.into_iter().for_each(|kind| self.cluster_changed(cluster, kind));
    }

    fn crash(&mut self, action: Action) {
        let (kind, node) = match action {
            Action::AgentCrash => ("agent crash", Node::Agent(self.dice.index(self.agents.len()))),
            Action::EdgeCrash => ("edge crash", Node::Edge(self.dice.index(self.edges.len()))),
            _ => ("controller crash", Node::Replica(self.dice.index(self.replicas.len()))),
        };
        self.fault(kind, format_args!("{node:?}"));
        self.paused.remove(&node);
        match node {
            Node::Agent(index) => self.agent_crash(index),
            Node::Edge(index) => self.edge_crash(index),
            Node::Replica(index) => self.replica_crash(index),
        }
        let away: Ms =
            if self.dice.percent(75) { self.dice.between(50, 2_000) } else { self.dice.between(2_000, 15_000) };
        self.plan(away, Event::Start(node));
    }

    fn cut(&mut self) {
        let links = self.open_links();
        if links.is_empty() {
            return;
        }
        let link = *self.dice.pick(&links);
        self.fault("connection lost", format_args!("link {}", link.0));
        self.network.lose(link);
        for end in [End::Client, End::Replica] {
            let delay = self.dice.between(1, 1_500);
            self.plan(delay, Event::Broken { link, end });
        }
    }

    fn partition(&mut self) {
        let replica = self.dice.index(self.replicas.len());
        let node = match self.dice.index(self.replicas.len()) {
            peer if peer != replica && self.dice.percent(30) => Node::Replica(peer),
            _ => self.any_client(),
        };
        self.fault("partition", format_args!("{node:?} and controller {replica}"));
        self.network.partition(node, replica);
    }

    fn heal_partition(&mut self) {
        if let Some((node, replica)) = self.network.partitions().first().copied() {
            self.note(format_args!("== partition of {node:?} and controller {replica} heals"));
            self.network.heal_one(node, replica);
        }
    }

    fn pause(&mut self) {
        let node =
            if self.dice.percent(40) { Node::Replica(self.dice.index(self.replicas.len())) } else { self.any_client() };
        let pause =
            if self.dice.percent(60) { self.dice.between(200, 4_000) } else { self.dice.between(4_000, 15_000) };
        self.fault("pause", format_args!("{node:?} for {pause} ms"));
        self.paused.insert(node, self.now + pause);
    }

    fn any_client(&mut self) -> Node {
        let number = self.dice.index(self.agents.len() + self.edges.len());
        if number < self.agents.len() { Node::Agent(number) } else { Node::Edge(number - self.agents.len()) }
    }

    fn disturb_api(&mut self, action: Action, index: usize) {
        let kind = *self.dice.pick(&Kind::ROUTING);
        let again = self.dice.between(1, 2) as u32;
        let cluster = &mut self.clusters[index];
        let what = match action {
            Action::ListBreaks => {
                cluster.breaking_lists.insert(kind, again);
                cluster.compact();
                "lists break"
            }
            Action::Forbid => {
                cluster.forbidden.insert(kind);
                "kind forbidden"
            }
            Action::Allow => {
                cluster.forbidden.clear();
                return self.note(format_args!("== c{index} forbids nothing"));
            }
            _ => {
                cluster.compact();
                "watches expire"
            }
        };
        self.fault(what, format_args!("{kind} in c{index}"));
        Kind::ALL.into_iter().for_each(|kind| self.cluster_changed(index, kind));
    }

    fn disturb_store(&mut self, action: Action) {
        match action {
            Action::StoreAway if !self.database_away => {
                self.fault("database away", format_args!(""));
                self.database_away = true;
            }
            Action::StoreSlow if !self.database_slow => {
                self.fault("database slow", format_args!(""));
                self.database_slow = true;
            }
            Action::StoreBack => self.database_away = false,
            Action::StoreFast => self.database_slow = false,
            _ => {}
        }
    }

    /// A policy is accepted by the database and becomes known to every controller.
    fn change_policy(&mut self) {
        if self.database_away {
            return;
        }
        let (rev, weight) = (self.database.policy.0 + 1, self.dice.between(0, 3) as u32 * 50);
        self.database.policy = (rev, weight);
        self.fault("policy change", format_args!("{rev}: c0 weighs {weight}"));
        for replica in 0..self.replicas.len() {
            let (life, delay) = (self.replicas[replica].life(), self.dice.between(0, 2_000));
            self.plan(delay, Event::PolicyKnown { replica, life });
        }
    }

    /// A person drains or activates a cluster, or goes on with what was begun.
    fn change_lifecycle(&mut self, index: usize) {
        if self.database_away {
            return;
        }
        let cluster = self.clusters[index].id.clone();
        let to = *self.dice.pick(&Lifecycle::ALL);
        let change = LifecycleChange {
            cluster: cluster.clone(),
            to,
            seconds: self.dice.between(0, 20),
            by: "somebody".to_owned(),
            reason: "a test".to_owned(),
        };
        if let LifecycleAnswer::Changed(_) = self.database.model.change_lifecycle(&change, self.unix_ms()) {
            self.fault("lifecycle change", format_args!("{cluster} is to be {to}"));
            self.moved.insert(cluster);
        }
    }

    fn back_up(&mut self) {
        self.note(format_args!("== the database is backed up"));
        if self.backups.len() == BACKUPS_MAX {
            self.backups.remove(0);
        }
        self.backups.push(self.database.clone());
    }

    /// A person stops the controllers, puts a backup back and adopts the world.
    fn restore_backup(&mut self) {
        if self.backups.is_empty() {
            return;
        }
        let index = self.dice.index(self.backups.len());
        self.fault("backup restored", format_args!(""));
        for replica in 0..self.replicas.len() {
            self.replica_crash(replica);
            let delay = self.dice.between(500, 3_000);
            self.plan(delay, Event::Start(Node::Replica(replica)));
        }
        // Restoring ends every transaction.
        self.orphans.clear();
        let backup = self.backups[index].clone();
        self.database.restore(&backup);
    }
}
