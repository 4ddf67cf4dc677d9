//! Whatever happens to a cluster, its API and the stream: once everything works again, the controller knows exactly
//! what it should, and on the way nothing was taken for gone without evidence.

use proptest::prelude::*;

use super::*;
use crate::fixture::{
    ModelController, class, failed, ingress, key, load_balancer, node, our_class, secret, seen, service, showing,
    slice, unreadable, with_meta,
};
use crate::reduce::Observation;
use roadstead_routing::object::{Object, ServiceType};

/// One thing that happens. Objects are chosen by small numbers, so that they meet often.
#[derive(Clone, Debug)]
enum Step {
    /// The object now exists like this.
    Put(Object),
    Delete(Kind, u8),
    /// The object's stored form becomes unreadable until it is put again.
    Garble(Kind, u8),
    /// A kind's watch breaks: changes are missed until it lists again.
    Break(Kind),
    /// A list that ends after this many objects.
    HalfList(Kind, u8),
    List(Kind),
    /// The watch of a kind, if it is live, says so.
    Bookmark(Kind),
    /// Every kind lists, but this one's list fails.
    ListOthers(Kind),
    /// The controller's policy names this class, or none.
    Policy(bool),
    Connect,
    /// The stream breaks; only this many of the messages on their way arrive.
    Cut(u8),
    /// All messages arrive and are answered.
    Deliver,
    /// The agent's process starts anew and knows nothing.
    Restart,
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const FOREIGN: &str = "foreign";

fn name(number: u8) -> &'static str {
    NAMES[usize::from(number) % NAMES.len()]
}

fn object() -> impl Strategy<Value = Object> {
    let services =
        prop::collection::btree_set(0..3_u8, 0..3).prop_map(|set| set.into_iter().map(name).collect::<Vec<&str>>());
    let of_class = prop_oneof![Just(None), Just(Some("roadstead")), Just(Some(FOREIGN))];
    prop_oneof![
        1 => Just(our_class()),
        1 => Just(class(FOREIGN, "example.com/other")),
        4 => (0..3_u8, of_class, services, prop::option::of(0..3_u8)).prop_map(|(n, class, services, shows)| {
            let ingress = ingress(name(n), class, &services);
            shows.map_or_else(|| ingress.clone(), |secret| showing(&ingress, name(secret)))
        }),
        1 => (0..3_u8).prop_map(|n| secret(name(n))),
        2 => (0..3_u8, 0..3_i64).prop_map(|(n, created)| {
            with_meta(&service(name(n)), |meta| meta.created_at = created)
        }),
        1 => (0..3_u8).prop_map(|n| load_balancer(name(n))),
        1 => (0..3_u8, any::<bool>()).prop_map(|(n, is_ready)| node(name(n), is_ready)),
        4 => (0..3_u8, 0..3_u8, any::<u8>()).prop_map(|(n, of, last)| slice(name(n), name(of), last)),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    (0..Kind::ALL.len()).prop_map(|index| Kind::ALL[index])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => object().prop_map(Step::Put),
        6 => (kind(), any::<u8>()).prop_map(|(kind, n)| Step::Delete(kind, n)),
        1 => (kind(), any::<u8>()).prop_map(|(kind, n)| Step::Garble(kind, n)),
        2 => kind().prop_map(Step::Break),
        2 => (kind(), 0..4_u8).prop_map(|(kind, n)| Step::HalfList(kind, n)),
        6 => kind().prop_map(Step::List),
        6 => kind().prop_map(Step::Bookmark),
        3 => kind().prop_map(Step::ListOthers),
        1 => any::<bool>().prop_map(Step::Policy),
        3 => Just(Step::Connect),
        2 => (0..4_u8).prop_map(Step::Cut),
        4 => Just(Step::Deliver),
        2 => Just(Step::Restart),
    ]
}

/// A cluster, its agent, and a controller.
struct Trial {
    /// `None`: exists, but cannot be read.
    cluster: BTreeMap<ObjectKey, Option<Object>>,
    watching: BTreeSet<Kind>,
    /// Kinds that this agent process listed completely.
    listed: BTreeSet<Kind>,
    policy: Vec<String>,
    reducer: Reducer,
    session: Session,
    controller: ModelController,
    wire: Vec<wire::AgentMessage>,
    now: Duration,
}

impl Trial {
    fn new() -> Self {
        Self {
            cluster: BTreeMap::new(),
            watching: BTreeSet::new(),
            listed: BTreeSet::new(),
            policy: Vec::new(),
            reducer: Reducer::default(),
            session: Session::new(Introduction::default()),
            controller: ModelController::default(),
            wire: Vec::new(),
            now: Duration::ZERO,
        }
    }

    fn step(&mut self, step: Step) {
        self.now += Duration::from_millis(50);
        match step {
            Step::Put(object) => {
                let key = object.key();
                self.cluster.insert(key.clone(), Some(object));
                self.live(&key);
            }
            Step::Delete(kind, number) => {
                let key = self.pick(kind, number);
                if self.cluster.remove(&key).is_some() && self.watching.contains(&kind) {
                    self.observe(kind, Observation::Deleted(key));
                }
            }
            Step::Garble(kind, number) => {
                let key = self.pick(kind, number);
                if let Some(object) = self.cluster.get_mut(&key) {
                    *object = None;
                    self.live(&key);
                }
            }
            Step::Break(kind) => {
                self.watching.remove(&kind);
            }
            Step::HalfList(kind, count) => self.half_list(kind, usize::from(count)),
            Step::List(kind) => self.list(kind),
            Step::Bookmark(kind) => self.bookmark(kind),
            Step::ListOthers(failing) => {
                self.half_list(failing, 1);
                Kind::ALL.into_iter().filter(|kind| *kind != failing).for_each(|kind| self.list(kind));
            }
            Step::Policy(named) => self.set_policy(named),
            Step::Connect => self.connect(),
            Step::Cut(arrive) => {
                self.poll();
                self.wire.truncate(usize::from(arrive));
                self.deliver_wire(Answers::Lost);
                self.session.disconnected();
            }
            Step::Deliver => self.deliver(),
            Step::Restart => {
                self.session = Session::new(Introduction::default());
                self.reducer = Reducer::default();
                self.watching.clear();
                self.listed.clear();
                self.wire.clear();
            }
        }
        self.poll();
    }

    fn pick(&self, kind: Kind, number: u8) -> ObjectKey {
        let classes = ["roadstead", FOREIGN];
        let name = if kind == Kind::IngressClass { classes[usize::from(number) % 2] } else { name(number) };
        key(kind, name)
    }

    fn live(&mut self, key: &ObjectKey) {
        if self.watching.contains(&key.kind) {
            let observation = self.observation(key);
            self.observe(key.kind, observation);
        }
    }

    fn observation(&self, key: &ObjectKey) -> Observation {
        self.cluster[key].as_ref().map_or_else(|| unreadable(Some(key.clone())), seen)
    }

    fn observe(&mut self, kind: Kind, observation: Observation) {
        let outcome = self.reducer.apply(kind, observation);
        self.session.changed(outcome.changes);
    }

    fn show(&mut self, kind: Kind, count: usize) {
        self.observe(kind, Observation::ListStarted);
        let keys: Vec<ObjectKey> = self.cluster.keys().filter(|key| key.kind == kind).take(count).cloned().collect();
        for key in keys {
            let observation = self.observation(&key);
            self.observe(kind, observation);
        }
    }

    fn half_list(&mut self, kind: Kind, count: usize) {
        let removals = self.removals_on_the_wire();
        self.show(kind, count);
        self.observe(kind, failed());
        self.watching.remove(&kind);
        self.poll();
        let after = self.removals_on_the_wire();
        // What it named may be what the absence of another kind's object waited for: a class that can be read again.
        let is_inferred =
            |(key, cause): &(ObjectKey, wire::RemovalCause)| key.kind == kind && *cause == wire::RemovalCause::Inferred;
        assert!(!after[removals.len()..].iter().any(is_inferred), "a list that failed must infer nothing of its kind");
    }

    fn list(&mut self, kind: Kind) {
        self.show(kind, usize::MAX);
        self.observe(kind, Observation::Listed);
        self.watching.insert(kind);
        self.listed.insert(kind);
    }

    fn bookmark(&mut self, kind: Kind) {
        if self.watching.contains(&kind) {
            self.observe(kind, Observation::Bookmark);
        }
    }

    fn set_policy(&mut self, named: bool) {
        self.policy = if named { vec![FOREIGN.to_owned()] } else { Vec::new() };
        if self.session.is_welcomed() {
            let outcome = self.reducer.set_classes(&self.policy);
            self.session.changed(outcome.changes);
        }
    }

    fn connect(&mut self) {
        self.session.disconnected();
        self.wire.clear();
        self.controller.new_stream();
        self.session.connected(self.now);
        let classes: Vec<&str> = self.policy.iter().map(String::as_str).collect();
        let welcome = self.controller.welcome(&classes);
        self.receive(welcome);
    }

    fn receive(&mut self, message: wire::ControllerMessage) {
        if let Some(Delivery::Policy(policy)) = self.session.receive(self.now, message).unwrap() {
            let outcome = self.reducer.set_classes(&policy.classes);
            self.session.changed(outcome.changes);
        }
    }

    fn poll(&mut self) {
        let messages = self.session.poll(self.now, &self.reducer);
        self.wire.extend(messages);
        for (key, cause) in self.removals_on_the_wire() {
            if cause == wire::RemovalCause::Inferred {
                let needed = [&[key.kind], crate::reduce::depends_on(key.kind)].concat();
                assert!(needed.iter().all(|kind| self.listed.contains(kind)), "{key} was inferred without a list");
            }
        }
    }

    fn removals_on_the_wire(&self) -> Vec<(ObjectKey, wire::RemovalCause)> {
        let delta = |message: &wire::AgentMessage| match &message.message {
            Some(ToController::Delta(delta)) => delta.removals.clone(),
            _ => Vec::new(),
        };
        let all = self.wire.iter().flat_map(delta);
        all.map(|removal| (finding::key_from_wire(removal.object.as_ref().unwrap()).unwrap(), removal.cause()))
            .collect()
    }

    fn deliver_wire(&mut self, answers: Answers) {
        for message in std::mem::take(&mut self.wire) {
            let answer = self.controller.take(message);
            if let (Some(answer), Answers::Arrive) = (answer, answers) {
                self.receive(answer);
            }
        }
    }

    fn deliver(&mut self) {
        self.deliver_wire(Answers::Arrive);
        if self.session.is_connected() {
            let ack = self.controller.ack();
            self.receive(ack);
        }
    }

    /// Everything works again: all kinds list and are live, the stream comes up and runs until both are silent.
    fn heal(&mut self) {
        Kind::ALL.into_iter().for_each(|kind| self.list(kind));
        Kind::ALL.into_iter().for_each(|kind| self.bookmark(kind));
        self.connect();
        for _ in 0..10 {
            self.poll();
            self.deliver();
        }
        assert!(self.session.is_synced());
        assert_eq!(self.session.unacked(), 0);
    }

    /// What the controller should know, worked out from the cluster alone.
    fn expected(&self) -> BTreeMap<ObjectKey, Object> {
        let all = || self.cluster.values().flatten();
        let ours = |name: &str| name == "roadstead" || self.policy.iter().any(|named| named == name);
        let exists = |name: &str| self.cluster.contains_key(&key(Kind::IngressClass, name));
        let managed = |object: &&Object| match object {
            Object::Ingress(ingress) => ingress.class_name.as_deref().is_some_and(|class| ours(class) && exists(class)),
            _ => false,
        };
        let services: BTreeSet<String> = all()
            .filter(managed)
            .flat_map(|object| match object {
                Object::Ingress(ingress) => ingress.service_names().map(ToString::to_string).collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect();
        let secrets: BTreeSet<&str> = all()
            .filter(managed)
            .flat_map(|object| match object {
                Object::Ingress(ingress) => ingress.tls.as_slice(),
                _ => &[],
            })
            .map(|tls| &*tls.secret_name)
            .collect();
        let wanted = |object: &&Object| match object {
            Object::IngressClass(class) => ours(&class.name),
            Object::Ingress(_) => managed(object),
            Object::Node(_) => true,
            Object::Service(service) => {
                service.service_type == ServiceType::LoadBalancer || services.contains(&*service.name.name)
            }
            Object::EndpointSlice(slice) => services.contains(&*slice.service),
            Object::Secret(secret) => secrets.contains(&*secret.name.name),
        };
        all().filter(wanted).map(|object| (object.key(), object.clone())).collect()
    }
}

/// The class could not be read while a complete list no longer had the Ingress. That list counts once the class can be
/// read again, even if the list that shows it fails later.
#[test]
fn an_absence_that_waited_for_a_class_is_inferred_from_the_list_that_lacked_it() {
    let mut trial = Trial::new();
    trial.step(Step::Put(our_class()));
    trial.step(Step::Put(ingress("a", Some("roadstead"), &["a"])));
    trial.heal();
    let ours = 0;
    trial.step(Step::Garble(Kind::IngressClass, ours));
    trial.step(Step::Break(Kind::Ingress));
    trial.step(Step::Delete(Kind::Ingress, 0));
    trial.step(Step::List(Kind::Ingress));
    trial.deliver();
    assert!(trial.controller.objects.contains_key(&key(Kind::Ingress, "a")));
    trial.cluster.insert(key(Kind::IngressClass, "roadstead"), Some(our_class()));
    trial.step(Step::HalfList(Kind::IngressClass, 1));
    trial.deliver();
    assert!(!trial.controller.objects.contains_key(&key(Kind::Ingress, "a")));
}

#[derive(Clone, Copy)]
enum Answers {
    Arrive,
    Lost,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_the_controller_knows_exactly_the_reduced_set(
        cluster in prop::collection::vec(object(), 0..12),
        restart in any::<bool>(),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut trial = Trial::new();
        trial.step(Step::Put(our_class()));
        cluster.into_iter().for_each(|object| trial.step(Step::Put(object)));
        trial.heal();
        if restart {
            trial.step(Step::Restart);
        }
        steps.into_iter().for_each(|step| trial.step(step));
        // Objects that cannot be read are another property's subject.
        trial.cluster.retain(|_, object| object.is_some());
        trial.heal();
        let known: BTreeMap<ObjectKey, Object> = trial
            .controller
            .objects
            .iter()
            .map(|(key, (_, object))| (key.clone(), roadstead_proto::object::from_wire(object.clone()).unwrap()))
            .collect();
        prop_assert_eq!(known, trial.expected());
    }

    #[test]
    fn an_object_that_exists_but_cannot_be_read_is_never_taken_for_gone(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut trial = Trial::new();
        steps.into_iter().for_each(|step| trial.step(step));
        trial.cluster.insert(key(Kind::IngressClass, "roadstead"), Some(our_class()));
        trial.cluster.insert(key(Kind::Ingress, "a"), Some(ingress("a", Some("roadstead"), &["a"])));
        trial.heal();
        prop_assert!(trial.controller.objects.contains_key(&key(Kind::Ingress, "a")));
        trial.step(Step::Garble(Kind::Ingress, 0));
        trial.step(Step::Restart);
        trial.heal();
        prop_assert!(trial.controller.objects.contains_key(&key(Kind::Ingress, "a")));
    }
}
