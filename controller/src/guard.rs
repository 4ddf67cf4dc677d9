//! The controller's side of the blast-radius guard: what computing wants to publish → what may be published now.
//!
//! Changes per pool + what is published → changes that flow; the rest waits here as [`hold::Hold`]s, frozen or discarded,
//! and is proposed again whenever something changes. Whether something trips is decided by `routing::guard` alone, so
//! that edges come to the same answer. Synchronous, with time passed in; everything that must survive a restart is
//! handed to the store as [`kept::Keep`]s.
//!
//! With several replicas each judges for itself, and all obey what is stored: see [`follow`].
//!
//! While a Host is held, backends of it that the world no longer describes keep their last addresses (see `publish`):
//! an agent stops reporting the pods of a Service when its last Ingress is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roadstead_proto::digest::Digest;
use roadstead_proto::wire;
use roadstead_routing::guard::{Context, Scope, ScopeText, Split, Summary, Trip, Units, WINDOW_MS, Window};
use roadstead_routing::id::{ClusterId, HostKey, ObjectName, PoolName};
use roadstead_routing::table::Host;

use crate::compute::{Resource, ingresses_of};
use crate::core::message::Output;
use crate::core::turn::Turn;
use crate::publish::pool::Pool;
use crate::status::findings::Source;
use crate::store::queue::Request;

use hold::{Hold, MANAGERS_MAX, State};
use kept::{Keep, digest_text, stored_host};
use overrides::{Effect, Override, Pin};

pub mod decide;
pub mod follow;
pub mod hold;
pub mod kept;
pub mod overrides;

mod findings;

/// What some hosts of one pool would become. `None`: the host goes.
pub type Changes = BTreeMap<HostKey, Option<Resource<Host>>>;

#[derive(Default, Debug)]
pub struct Guard {
    is_on: bool,
    pools: BTreeMap<PoolName, Guarded>,
    /// Those that are open, and closed ones whose effect lasts.
    holds: BTreeMap<String, Hold>,
    overrides: BTreeMap<String, Override>,
    /// When each cluster last lost something because a list lacked it.
    inferred: BTreeMap<ClusterId, u64>,
    /// What is allowed has changed, so everything that waits is to be judged again.
    rejudge: bool,
    /// Holds to be written and shown anew.
    touched: BTreeSet<String>,
    /// Overrides set here that are not known to be stored, and lifted ones that are not known to be gone.
    unsaved: BTreeSet<String>,
    lifted: BTreeSet<String>,
    /// Holds resolved here that are not known to be closed in the store.
    resolved: BTreeSet<String>,
    /// Hosts of Holds that other replicas opened, with the Hold.
    obeyed: BTreeMap<(PoolName, HostKey), String>,
    /// Holds that were handed to the store.
    written: BTreeSet<String>,
    /// Holds that turned out to be others: what was shown of them goes.
    forgotten: BTreeSet<String>,
    /// Clusters that are on their way out: what they lose is meant.
    leaving: BTreeSet<ClusterId>,
}

#[derive(Debug)]
struct Guarded {
    window: Window,
    /// What waits: for a Hold if there is one in `hold_of`, else for the end of a freeze.
    held: Changes,
    hold_of: BTreeMap<HostKey, String>,
}

impl Guarded {
    fn new(pool: &PoolName) -> Self {
        let window = Window::new(Summary::new(pool.clone()));
        Self { window, held: BTreeMap::new(), hold_of: BTreeMap::new() }
    }
}

impl Guard {
    /// A guard that goes on where an earlier process was. `published` is what each pool has now.
    pub(crate) fn resume(
        holds: Vec<Hold>,
        overrides: Vec<Override>,
        losses: Vec<(u64, PoolName, HostKey, Units)>,
        published: &BTreeMap<PoolName, Pool>,
    ) -> Self {
        let mut guard = Self { is_on: true, rejudge: true, ..Self::default() };
        for (name, pool) in published {
            let summary = Summary::of(name, pool.hosts().map(|(_, it)| &*it.value));
            guard.pool(name).window = Window::new(summary);
        }
        for (at_ms, pool, host, before) in losses {
            guard.pool(&pool).window.recall(at_ms, &host, before);
        }
        for hold in holds {
            for host in hold.host_keys().filter(|_| hold.state != State::Approved) {
                guard.pool(&hold.pool).hold_of.insert(host, hold.id.clone());
            }
            guard.touched.insert(hold.id.clone());
            guard.holds.insert(hold.id.clone(), hold);
        }
        guard.overrides = overrides.into_iter().map(|it| (it.id.clone(), it)).collect();
        guard
    }

    /// When an earlier process was told that a cluster lost something which a list lacked.
    pub(crate) fn recall_inferred(&mut self, inferred: BTreeMap<ClusterId, u64>) {
        self.inferred = inferred;
    }

    /// Those that wait for a decision.
    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values().filter(|hold| hold.is_open())
    }

    pub fn overrides(&self) -> impl Iterator<Item = &Override> {
        self.overrides.values()
    }

    /// Hosts that are not published as computed: held, frozen or discarded.
    pub fn held(&self) -> impl Iterator<Item = (&PoolName, &HostKey)> {
        self.pools.iter().flat_map(|(name, pool)| pool.held.keys().map(move |host| (name, host)))
    }

    /// Hosts of a pool that wait; not those that are pinned, which are as somebody wants them.
    pub fn kept_as_they_are(&self, pool: &PoolName) -> BTreeSet<HostKey> {
        let pinned: BTreeSet<HostKey> = self.pins().filter(|pin| pin.pool == *pool).filter_map(Pin::host).collect();
        let waiting = self.pools.get(pool).into_iter().flat_map(|pool| pool.held.keys());
        waiting.filter(|host| !pinned.contains(host)).cloned().collect()
    }

    /// Lets time end what ends by itself.
    pub(crate) fn tick(&mut self, turn: &mut Turn) {
        let over: Vec<String> = self.overrides.values().filter(|it| it.expires_ms <= turn.now_ms).map(id_of).collect();
        for id in over {
            self.lift(&id, turn);
        }
        self.inferred.retain(|_, at| turn.now_ms < *at + WINDOW_MS);
        let is_over = |hold: &&Hold| hold.state == State::Approved && !lasts(hold, turn.now_ms);
        self.touched.extend(self.holds.values().filter(is_over).map(|hold| hold.id.clone()));
        let unwritten = |hold: &&Hold| hold.is_open() && !self.written.contains(&hold.id) && follow::writes(hold, turn);
        self.touched.extend(self.holds.values().filter(unwritten).map(|hold| hold.id.clone()));
        self.write(turn);
    }

    /// What of `changes`, and of what has waited so far, is to be published now. The caller must publish it.
    pub(crate) fn review(
        &mut self,
        mut changes: BTreeMap<PoolName, Changes>,
        published: &BTreeMap<PoolName, Pool>,
        turn: &mut Turn,
    ) -> BTreeMap<PoolName, Changes> {
        for cluster in std::mem::take(&mut turn.inferred) {
            self.inferred.insert(cluster, turn.now_ms);
        }
        if std::mem::take(&mut self.rejudge) {
            let waiting = self.pools.iter().filter(|(_, pool)| !pool.held.is_empty() || !pool.hold_of.is_empty());
            let pinned = self.pins().map(|pin| &pin.pool);
            for name in waiting.map(|(name, _)| name).chain(pinned) {
                changes.entry(name.clone()).or_default();
            }
        }
        let mut flow = BTreeMap::new();
        for (name, changes) in changes {
            let mut review = Review { guard: self, pool: name.clone(), published: published.get(&name), turn };
            flow.insert(name, review.run(changes));
        }
        self.write(turn);
        flow
    }

    fn pool(&mut self, name: &PoolName) -> &mut Guarded {
        self.pools.entry(name.clone()).or_insert_with(|| Guarded::new(name))
    }

    fn lift(&mut self, id: &str, turn: &mut Turn) -> Option<Override> {
        let lifted = self.overrides.remove(id)?;
        self.unsaved.remove(id);
        self.lifted.insert(id.to_owned());
        self.rejudge = true;
        turn.out.push(Output::Store(Request::Keep(Keep::Lift(id.to_owned()))));
        Some(lifted)
    }

    fn pins(&self) -> impl Iterator<Item = &Pin> {
        self.overrides.values().filter_map(|it| if let Effect::Pin(pin) = &it.effect { Some(pin) } else { None })
    }

    /// What edges' own guards are to know.
    pub(crate) fn context_for_edges(&self, pool: &PoolName, now_ms: u64) -> wire::GuardContext {
        if !self.is_on {
            return wire::GuardContext { expected: vec![ScopeText(&Scope::Pool).to_string()], ..Default::default() };
        }
        let Context { expected, approved, inferred } = self.context(pool, now_ms);
        wire::GuardContext {
            expected: expected.iter().map(|scope| ScopeText(scope).to_string()).collect(),
            approved: approved.iter().map(ToString::to_string).collect(),
            inferred: inferred.iter().map(ToString::to_string).collect(),
        }
    }

    /// What the guard is to know besides the numbers.
    fn context(&self, pool: &PoolName, now_ms: u64) -> Context {
        let expected = self.overrides.values().filter(|it| now_ms < it.expires_ms);
        let approved = self.holds.values().filter(|hold| hold.pool == *pool && lasts(hold, now_ms));
        Context {
            expected: expected
                .filter_map(|it| if let Effect::ExpectRemoval(scope) = &it.effect { Some(scope.clone()) } else { None })
                .chain(self.leaving.iter().cloned().map(Scope::Cluster))
                .collect(),
            approved: approved.filter(|hold| hold.state == State::Approved).flat_map(Hold::host_keys).collect(),
            inferred: self.inferred.keys().cloned().collect(),
        }
    }

    /// Stores and shows what changed about Holds, and forgets those without any effect.
    fn write(&mut self, turn: &mut Turn) {
        for id in std::mem::take(&mut self.forgotten) {
            turn.findings.clear(&Source::Hold(id));
        }
        for id in std::mem::take(&mut self.touched) {
            let Some(hold) = self.holds.get_mut(&id) else { continue };
            if hold.is_open() && hold.hosts.is_empty() {
                tracing::info!(hold.id = id, "A Hold is resolved: the objects came back");
                (hold.state, hold.closed_ms) = (State::Resolved, Some(turn.now_ms));
            }
            let source = Source::Hold(id.clone());
            let findings = findings::about(hold, self.pools.get(&hold.pool).map(|pool| &pool.held), &turn.world);
            turn.findings.set(&source, findings);
            let is_live = lasts(hold, turn.now_ms);
            if follow::writes(hold, turn) {
                self.written.insert(id.clone());
                if hold.state == State::Resolved {
                    self.resolved.insert(id.clone());
                }
                turn.out.push(Output::Store(Request::Keep(Keep::Hold { hold: Box::new(hold.clone()), is_live })));
            }
            if !is_live {
                self.holds.remove(&id);
                self.written.remove(&id);
                self.obeyed.retain(|_, of| *of != id);
            }
        }
        turn.metrics.publish.holds.set(self.holds().count() as i64);
    }
}

/// One pool's changes on their way through the guard.
struct Review<'a> {
    guard: &'a mut Guard,
    pool: PoolName,
    published: Option<&'a Pool>,
    turn: &'a mut Turn,
}

impl Review<'_> {
    fn run(&mut self, changes: Changes) -> Changes {
        let differing = self.differing(changes);
        if !self.guard.is_on {
            return differing;
        }
        let mut proposals = self.proposals(differing);
        let pinned = self.pin(&mut proposals);
        if self.guard.overrides.values().any(|it| self.turn.now_ms < it.expires_ms && it.freezes(&self.pool)) {
            self.guarded().held.extend(proposals);
            return pinned;
        }
        let context = self.guard.context(&self.pool, self.turn.now_ms);
        let now_ms = self.turn.now_ms;
        let units = |resource: &Resource<Host>| Units::of(&resource.value);
        let (trips, Split { flow, held }) = self.guarded().window.review(now_ms, proposals, &context, units);
        for (host, wanted) in held {
            self.hold(host, wanted, &trips);
        }
        let mut flowing = pinned;
        for (host, wanted) in flow {
            if self.waits_for_decision(&host, wanted.as_ref(), &context) {
                self.hold(host, wanted, &trips);
            } else {
                self.release(&host);
                let units = wanted.as_ref().map(|it| Units::of(&it.value));
                self.guarded().window.publish(now_ms, &host, units);
                flowing.insert(host, wanted);
            }
        }
        self.release_what_came_back();
        flowing
    }

    /// Takes pinned hosts out of `proposals`: what is computed of them waits. Returns those that are not what is pinned.
    fn pin(&mut self, proposals: &mut Changes) -> Changes {
        let mut flowing = Changes::new();
        let pins: Vec<_> = self.guard.pins().filter(|pin| pin.pool == self.pool).filter_map(pinned).collect();
        let now_ms = self.turn.now_ms;
        for (host, resource) in pins {
            let published = self.published.and_then(|pool| pool.host(&host)).cloned();
            let computed = match proposals.remove(&host) {
                Some(computed) => computed,
                None => published.clone(),
            };
            self.guarded().held.insert(host.clone(), computed);
            if digest_of(published.as_ref()) != Some(resource.digest) {
                self.guarded().window.publish(now_ms, &host, Some(Units::of(&resource.value)));
                flowing.insert(host, Some(resource));
            }
        }
        flowing
    }

    /// What is not what is published. A held host that is wanted as it is waits no longer.
    fn differing(&mut self, changes: Changes) -> Changes {
        let mut differing = Changes::new();
        for (host, wanted) in changes {
            if digest_of(wanted.as_ref()) != self.published.and_then(|pool| pool.host_digest(&host)) {
                differing.insert(host, wanted);
            } else if self.guard.is_on {
                self.guarded().held.remove(&host);
                self.release(&host);
            }
        }
        differing
    }

    /// `changes` and what waits already. What was discarded is no proposal until it changes.
    fn proposals(&mut self, changes: Changes) -> Changes {
        let mut proposals = std::mem::take(&mut self.guarded().held);
        proposals.extend(changes);
        let mut discarded = Changes::new();
        proposals.retain(|host, wanted| {
            let keep = !self.is_discarded(host, wanted.as_ref());
            if !keep {
                discarded.insert(host.clone(), wanted.take());
            }
            keep
        });
        self.guarded().held = discarded;
        proposals
    }

    fn is_discarded(&self, host: &HostKey, wanted: Option<&Resource<Host>>) -> bool {
        let Some(hold) = self.hold_of(host).filter(|hold| hold.state == State::Discarded) else { return false };
        hold.hosts.get(&host.to_string()) == Some(&digest_text(digest_of(wanted)))
    }

    /// Whether a host of an open Hold must go on waiting although it would pass now: time alone decides nothing.
    fn waits_for_decision(&self, host: &HostKey, wanted: Option<&Resource<Host>>, context: &Context) -> bool {
        let Some(published) = self.published.and_then(|pool| pool.host(host)) else { return false };
        let (before, after) = (Units::of(&published.value), wanted.map(|it| Units::of(&it.value)));
        let is_obeyed = self.guard.obeyed.contains_key(&(self.pool.clone(), host.clone()));
        let is_open = is_obeyed || self.hold_of(host).is_some_and(Hold::is_open);
        let mut lost = lost_parts(&published.value, wanted.map(|it| &*it.value)).peekable();
        let is_expected = lost.peek().is_some() && lost.all(|(cluster, ingress)| expects(context, cluster, ingress));
        is_open && Units::loses(Some(&before), after.as_ref()) && !is_expected
    }

    fn hold(&mut self, host: HostKey, wanted: Option<Resource<Host>>, trips: &[Trip]) {
        let id = self.hold_of(&host).filter(|hold| hold.is_open()).map(|hold| hold.id.clone());
        let id = id.or_else(|| self.hold_for(&host, trips));
        if let Some(hold) = id.as_ref().and_then(|id| self.guard.holds.get_mut(id)) {
            let digest = digest_of(wanted.as_ref());
            if hold.hosts.get(&host.to_string()) != Some(&digest_text(digest)) {
                hold.add(&host, digest);
                if let Some(published) = self.published.and_then(|pool| pool.host(&host)) {
                    add_cause(hold, &published.value, wanted.as_ref().map(|it| &*it.value), self.turn);
                }
                if let Some(trip) = trips.iter().find(|trip| trip.scope == hold.scope) {
                    hold.message = trip.to_string();
                }
                self.guard.touched.insert(hold.id.clone());
            }
            let id = hold.id.clone();
            self.guarded().hold_of.insert(host.clone(), id);
        }
        self.guarded().held.insert(host, wanted);
    }

    /// The Hold that a host joins: one that is open for a scope that tripped, else a new one for the scope that holds
    /// most hosts, and of equal ones for the narrowest: that one names the culprit best.
    fn hold_for(&mut self, host: &HostKey, trips: &[Trip]) -> Option<String> {
        let tripped: Vec<&Trip> = trips.iter().filter(|trip| trip.hosts.contains_key(host)).collect();
        if let Some(id) = self.guard.obeyed.get(&(self.pool.clone(), host.clone())) {
            return Some(id.clone());
        }
        let of = |hold: &&Hold| hold.pool == self.pool && tripped.iter().any(|trip| trip.scope == hold.scope);
        if let Some(open) = self.guard.holds().filter(of).max_by_key(|hold| &hold.scope) {
            return Some(open.id.clone());
        }
        let trip = tripped.into_iter().max_by_key(|trip| (trip.hosts.len(), &trip.scope))?;
        let id = Hold::id_of(&self.pool, &trip.scope, self.turn.now_ms);
        tracing::error!(hold.id = id, message = %trip, "Changes are held: they would withdraw too much at once");
        let hold = Hold::new(id.clone(), trip, self.turn.now_ms, self.turn.replica.clone());
        self.guard.holds.insert(id.clone(), hold);
        Some(id)
    }

    /// The host waits no longer. An approved Hold keeps its hosts: that is what was approved.
    fn release(&mut self, host: &HostKey) {
        let Some(id) = self.guarded().hold_of.remove(host) else { return };
        if let Some(hold) = self.guard.holds.get_mut(&id).filter(|hold| hold.state != State::Approved) {
            hold.hosts.remove(&host.to_string());
            self.guard.touched.insert(id);
        }
    }

    /// Hosts of a Hold that are published as they are wanted, as a start may find them.
    fn release_what_came_back(&mut self) {
        let pool = self.guarded();
        let back = pool.hold_of.keys().filter(|host| !pool.held.contains_key(*host));
        for host in back.cloned().collect::<Vec<_>>() {
            self.release(&host);
        }
    }

    fn hold_of(&self, host: &HostKey) -> Option<&Hold> {
        self.guard.holds.get(self.guard.pools.get(&self.pool)?.hold_of.get(host)?)
    }

    fn guarded(&mut self) -> &mut Guarded {
        self.guard.pool(&self.pool)
    }
}

/// What a pin asks for. `None`: it cannot be read.
fn pinned(pin: &Pin) -> Option<(HostKey, Resource<Host>)> {
    let host = stored_host(&pin.body)?;
    let name = pin.host().filter(|name| *name == host.name && host.pool == pin.pool)?;
    Some((name, Resource { value: Arc::new(host), digest: pin.digest() }))
}

fn id_of(it: &Override) -> String {
    it.id.clone()
}

/// Whether a Hold still has an effect.
fn lasts(hold: &Hold, now_ms: u64) -> bool {
    match hold.state {
        State::Open => true,
        State::Approved => hold.closed_ms.is_some_and(|closed| now_ms < closed + WINDOW_MS),
        State::Discarded => !hold.hosts.is_empty(),
        State::Resolved => false,
    }
}

fn digest_of(resource: Option<&Resource<Host>>) -> Option<Digest> {
    resource.map(|resource| resource.digest)
}

/// The Ingresses that have a part before and none after.
fn lost_parts<'a>(
    before: &'a Host,
    after: Option<&Host>,
) -> impl Iterator<Item = (&'a ClusterId, &'a ObjectName)> + use<'a> {
    let after: BTreeSet<(ClusterId, ObjectName)> =
        after.map(ingresses_of).unwrap_or_default().into_iter().map(|(id, name)| (id.clone(), name.clone())).collect();
    ingresses_of(before).into_iter().filter(move |(id, name)| !after.contains(&(ClusterId::clone(id), (*name).clone())))
}

fn expects(context: &Context, cluster: &ClusterId, ingress: &ObjectName) -> bool {
    let scopes =
        [Scope::Pool, Scope::Cluster(cluster.clone()), Scope::Namespace(cluster.clone(), ingress.namespace.clone())];
    scopes.iter().any(|scope| context.expected.contains(scope))
}

/// Whose Ingresses lost a part, or all of the host's if each kept one but served more before.
fn add_cause(hold: &mut Hold, before: &Host, after: Option<&Host>, turn: &Turn) {
    let mut parts: Vec<_> = lost_parts(before, after).collect();
    if parts.is_empty() {
        parts.extend(ingresses_of(before));
    }
    for (cluster, ingress) in parts {
        hold.cause.clusters.insert(cluster.clone());
        hold.cause.namespaces.insert(format!("{cluster}/{}", ingress.namespace));
        if let Some(manager) = turn.world.last_manager(cluster, ingress).filter(|it| !it.is_empty())
            && hold.cause.managers.len() < MANAGERS_MAX
        {
            hold.cause.managers.insert(manager.chars().filter(|it| !it.is_control()).collect());
        }
    }
}
