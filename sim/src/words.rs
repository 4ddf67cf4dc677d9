//! Messages in few words, for the trace. Heartbeats are not worth any.

use roadstead_agent::reduce::Observation;
use roadstead_proto::{finding, object, wire};
use wire::agent_message::Message as FromAgent;
use wire::config_message::Message as ToEdge;
use wire::controller_message::Message as ToAgent;
use wire::edge_message::Message as FromEdge;

pub fn from_agent(message: &wire::AgentMessage) -> Option<String> {
    Some(match message.message.as_ref()? {
        FromAgent::Heartbeat(_) => return None,
        FromAgent::Hello(hello) => format!("Hello of {}", hello.agent),
        FromAgent::BucketRequest(request) => format!("BucketRequest of {}", request.buckets.len()),
        FromAgent::Delta(delta) => format!("Delta {}: {}", delta.seq, delta_words(delta)),
        FromAgent::SyncComplete(complete) => format!("SyncComplete {:?} {}", complete.kind(), complete.count),
        FromAgent::Findings(findings) => format!("{} own findings", findings.findings.len()),
    })
}

pub fn to_agent(message: &wire::ControllerMessage) -> Option<String> {
    Some(match message.message.as_ref()? {
        ToAgent::Heartbeat(_) => return None,
        ToAgent::Welcome(welcome) => format!("Welcome to epoch {}", welcome.epoch),
        ToAgent::BucketContents(_) => "BucketContents".to_owned(),
        ToAgent::Ack(ack) => format!("Ack {}", ack.seq),
        ToAgent::DesiredStatuses(statuses) => format!("{} statuses", statuses.statuses.len()),
        ToAgent::Findings(findings) => format!("findings on {} objects", findings.objects.len()),
        ToAgent::Policy(_) => "Policy".to_owned(),
        ToAgent::Standby(_) => "Standby".to_owned(),
    })
}

pub fn from_edge(message: &wire::EdgeMessage) -> Option<String> {
    Some(match message.message.as_ref()? {
        FromEdge::Heartbeat(_) | FromEdge::Health(_) => return None,
        FromEdge::Hello(hello) => format!("Hello at {}", positions(hello.positions.as_ref())),
        FromEdge::HeldContents(_) => "HeldContents".to_owned(),
        FromEdge::Result(result) if result.refusals.is_empty() => format!("Result {}", result.nonce),
        FromEdge::Result(result) => {
            let refusals = result.refusals.iter().map(|it| format!("{}: {}", it.key, it.reason));
            format!("Result {}, refused {}", result.nonce, refusals.collect::<Vec<_>>().join("; "))
        }
    })
}

pub fn to_edge(message: &wire::ConfigMessage) -> Option<String> {
    Some(match message.message.as_ref()? {
        ToEdge::Heartbeat(_) => return None,
        ToEdge::HeldRequest(request) => format!("HeldRequest of {}", request.buckets.len()),
        ToEdge::Update(update) => {
            let upserts: Vec<String> = update.upserts.iter().map(upsert).collect();
            let at = positions(update.positions.as_ref());
            format!("Update {} at {at}: +[{}] -[{}]", update.nonce, upserts.join(" "), update.removals.join(" "))
        }
    })
}

/// Reports about edges are no events.
pub fn from_peer(message: &wire::PeerMessage) -> Option<String> {
    use wire::peer_message::Message;
    match message.message.as_ref()? {
        Message::Heartbeat(_) | Message::State(_) => None,
        Message::Hello(hello) => Some(format!("Hello of {}", hello.replica)),
        Message::Cluster(says) => {
            let said = says.message.as_ref()?;
            let about = match said.message.as_ref()? {
                FromAgent::Hello(hello) => format!("Hello in epoch {}", hello.epoch),
                FromAgent::Delta(delta) => {
                    let peer = delta.peer.clone().unwrap_or_default();
                    let (at, since) = (peer.position.unwrap_or_default(), peer.since.unwrap_or_default());
                    let settled = if peer.settled { " settled" } else { "" };
                    let step = format!("{}.{} → {}.{}{settled}", since.epoch, since.seq, at.epoch, at.seq);
                    format!("Delta {step}: {}", delta_words(delta))
                }
                _ => from_agent(said)?,
            };
            Some(format!("{}: {about}", says.cluster))
        }
    }
}

pub fn to_peer(message: &wire::PeerAnswer) -> Option<String> {
    use wire::peer_answer::Message;
    match message.message.as_ref()? {
        Message::Heartbeat(_) => None,
        Message::Cluster(hears) => Some(format!("{}: {}", hears.cluster, to_agent(hears.message.as_ref()?)?)),
    }
}

pub fn observation(observation: &Observation) -> String {
    match observation {
        Observation::ListStarted => "list begin".to_owned(),
        Observation::Seen(sighting) => {
            let object = &sighting.converted.object;
            format!("{} in version {}", object.key().name, object.meta().resource_version)
        }
        Observation::Unreadable(_) => "something unreadable".to_owned(),
        Observation::Deleted(key) => format!("{} deleted", key.name),
        Observation::Bookmark => "a bookmark".to_owned(),
        Observation::Listed => "list end".to_owned(),
        Observation::Failed(failure) => format!("fail: {}", failure.message),
    }
}

fn delta_words(delta: &wire::Delta) -> String {
    let upserts = delta.upserts.iter().filter_map(|upsert| {
        let object = object::from_wire(upsert.object.clone()?).ok()?;
        Some(format!("+{} v{}", object.key().name, object.meta().resource_version))
    });
    let removals = delta.removals.iter().filter_map(|removal| {
        let key = finding::key_from_wire(removal.object.as_ref()?)?;
        let how = if removal.cause() == wire::RemovalCause::Deleted { "deleted" } else { "inferred" };
        Some(format!("-{key} {how}"))
    });
    upserts.chain(removals).collect::<Vec<_>>().join(" ")
}

fn upsert(upsert: &wire::ResourceUpsert) -> String {
    match &upsert.resource {
        Some(wire::resource_upsert::Resource::Host(host)) => host.name.clone(),
        Some(wire::resource_upsert::Resource::Backend(backend)) => {
            let id = backend.id.clone().unwrap_or_default();
            let last = |endpoint: &wire::Endpoint| match *endpoint.address.as_slice() {
                [_, slice, high, low] => format!("{slice}v{}", u16::from_be_bytes([high, low])),
                _ => "?".to_owned(),
            };
            let endpoints: Vec<String> = backend.endpoints.iter().map(last).collect();
            format!("{}/{}={}", id.cluster, id.service, endpoints.join(","))
        }
        Some(wire::resource_upsert::Resource::Secret(secret)) => format!("{secret:?}"),
        None => "nothing".to_owned(),
    }
}

fn positions(positions: Option<&wire::Positions>) -> String {
    let entries = positions.into_iter().flat_map(|positions| &positions.clusters).map(|entry| {
        let position = entry.position.unwrap_or_default();
        format!("{}:{}.{}", entry.cluster, position.epoch, position.seq)
    });
    format!("({})", entries.collect::<Vec<_>>().join(" "))
}
