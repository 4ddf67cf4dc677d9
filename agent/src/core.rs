//! The whole agent as one synchronous state machine: [`Input`]s and `now` in, [`Output`]s out.
//!
//! It owns what was seen ([`Reducer`]), the stream ([`Session`]), statuses and Events, and routes between them. All
//! I/O is around it, in [`crate::app`], so that a simulation can drive it.

use std::time::Duration;

use roadstead_proto::{finding, wire};
use roadstead_routing::finding::Finding;
use roadstead_routing::id::{ClusterId, Kind, ObjectName};

use crate::events::{EventQueue, Notice};
use crate::reduce::{Observation, Outcome, Reducer};
use crate::session::{Delivery, Introduction, Session};
use crate::status::{StatusPlanner, StatusWrite};

pub enum Input {
    /// A watch saw something.
    Observed(Kind, Observation),
    /// A stream to a controller is open.
    Connected,
    Received(wire::ControllerMessage),
    Disconnected,
    /// A status write ended, well or not.
    StatusWritten(ObjectName),
}

#[derive(Debug)]
pub enum Output {
    Send(wire::AgentMessage),
    /// The stream is of no use any more; why, for people.
    Disconnect(String),
    WriteStatus(StatusWrite),
    CreateEvent(Notice),
}

/// See the module's head.
pub struct Core {
    cluster: ClusterId,
    reducer: Reducer,
    session: Session,
    status: StatusPlanner,
    events: EventQueue,
    /// A controller has told us its policy: only now is it known which Ingresses are ours.
    policy_known: bool,
    /// Own findings that Events were offered for.
    offered_revision: u64,
    ready: Vec<Output>,
}

impl Core {
    pub fn new(introduction: Introduction) -> Self {
        Self {
            cluster: introduction.cluster.as_str().into(),
            reducer: Reducer::default(),
            session: Session::new(introduction),
            status: StatusPlanner::default(),
            events: EventQueue::default(),
            policy_known: false,
            offered_revision: 0,
            ready: Vec::new(),
        }
    }

    pub fn reducer(&self) -> &Reducer {
        &self.reducer
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn events(&self) -> &EventQueue {
        &self.events
    }

    pub fn handle(&mut self, now: Duration, input: Input) {
        match input {
            Input::Observed(kind, observation) => {
                let outcome = self.reducer.apply(kind, observation);
                self.follow(outcome);
            }
            Input::Connected => {
                let hello = self.session.connected(now);
                self.ready.push(Output::Send(hello));
            }
            Input::Received(message) => self.receive(now, message),
            Input::Disconnected => self.session.disconnected(),
            Input::StatusWritten(ingress) => self.status.written(&ingress),
        }
    }

    /// Everything that is to be done now. Call it after inputs, and a few times per second.
    pub fn poll(&mut self, now: Duration) -> Vec<Output> {
        if self.session.is_dead(now) {
            self.disconnect("the controller has been silent for too long".to_owned());
        }
        let mut outputs = std::mem::take(&mut self.ready);
        outputs.extend(self.session.poll(now, &self.reducer).into_iter().map(Output::Send));
        if self.policy_known && self.reducer.complete(Kind::Ingress) {
            outputs.extend(self.status.plan(now, &self.reducer).into_iter().map(Output::WriteStatus));
        }
        self.offer_own_findings(now);
        outputs.extend(self.events.take(now).into_iter().map(Output::CreateEvent));
        outputs
    }

    fn follow(&mut self, outcome: Outcome) {
        self.session.changed(outcome.changes);
        self.status.look_at(outcome.ingresses);
    }

    fn receive(&mut self, now: Duration, message: wire::ControllerMessage) {
        match self.session.receive(now, message) {
            Ok(Some(Delivery::Policy(policy))) => {
                self.policy_known = true;
                let outcome = self.reducer.set_wanted(&policy.services, &policy.secrets);
                self.follow(outcome);
                let outcome = self.reducer.set_classes(&policy.classes);
                self.follow(outcome);
            }
            Ok(Some(Delivery::Statuses(statuses))) => self.status.wish(statuses),
            Ok(Some(Delivery::Findings(findings))) => self.offer(now, findings),
            Ok(None) => {}
            Err(error) => self.disconnect(error.to_string()),
        }
    }

    fn disconnect(&mut self, why: String) {
        self.session.disconnected();
        self.ready.push(Output::Disconnect(why));
    }

    fn offer(&mut self, now: Duration, findings: wire::Findings) {
        let all = findings.objects.into_iter().flat_map(|object| object.findings);
        for finding in all.filter_map(finding::from_wire) {
            self.offer_one(now, &finding);
        }
    }

    fn offer_own_findings(&mut self, now: Duration) {
        let revision = self.reducer.findings_revision();
        if revision != self.offered_revision {
            self.offered_revision = revision;
            for finding in self.reducer.findings(&self.cluster) {
                self.offer_one(now, &finding);
            }
        }
    }

    /// A finding about the cluster as a whole, or about an object that is gone, has nothing to attach an Event to.
    fn offer_one(&mut self, now: Duration, finding: &Finding) {
        if let Some(uid) = finding.object.as_ref().and_then(|object| self.reducer.uid(object)) {
            self.events.offer(now, finding, uid);
        }
    }
}
