//! What is held, as a controller asks for it: some buckets → keys, digests and the clusters of hosts, in messages of a
//! bounded size. Only hosts that are asked for are decoded.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use roadstead_proto::digest::bucket_of;
use roadstead_proto::resource::ResourceKey;
use roadstead_proto::wire;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

use super::HeldResource;

/// Bytes that the frames around an entry take at most: its own, its bucket's with the index, and the message's.
const FRAME_BYTES: usize = 32;

pub(super) fn of(held: &BTreeMap<ResourceKey, HeldResource>, buckets: &[u32]) -> Vec<wire::HeldContents> {
    let mut wanted: BTreeMap<u32, Vec<wire::Held>> = buckets.iter().map(|index| (*index, Vec::new())).collect();
    for (key, held) in held {
        let text = key.to_string();
        let bucket = u32::try_from(bucket_of(&text)).expect("a bucket's index must fit");
        if let Some(entries) = wanted.get_mut(&bucket) {
            let clusters = if matches!(key, ResourceKey::Host(_)) { clusters(held) } else { Vec::new() };
            entries.push(wire::Held { key: text, digest: held.digest.to_vec(), clusters });
        }
    }
    chunked(wanted)
}

/// The clusters that have a part in a held host. Sorted.
fn clusters(held: &HeldResource) -> Vec<String> {
    let upsert = wire::ResourceUpsert::decode(held.encoded.clone()).expect("what was encoded must decode");
    let Some(wire::resource_upsert::Resource::Host(host)) = upsert.resource else { return Vec::new() };
    let of_route =
        |route: wire::Route| route.backends.into_iter().chain(route.canary.into_iter().flat_map(|it| it.backends));
    let parts = host.routes.into_iter().flat_map(of_route).chain(host.default);
    let clusters: BTreeSet<String> = parts.map(|part| part.cluster).collect();
    clusters.into_iter().collect()
}

/// A bucket that is too large for one message goes on in the next.
fn chunked(buckets: BTreeMap<u32, Vec<wire::Held>>) -> Vec<wire::HeldContents> {
    let mut messages = Vec::new();
    let mut message = wire::HeldContents::default();
    let mut bytes = 0;
    for (index, entries) in buckets {
        let mut bucket = wire::Bucket { index, held: Vec::new() };
        bytes += FRAME_BYTES;
        for entry in entries {
            let size = entry.encoded_len() + FRAME_BYTES;
            if bytes + size > MESSAGE_BYTES_MAX {
                let part = wire::Bucket { index, held: std::mem::take(&mut bucket.held) };
                message.buckets.extend(Some(part).filter(|part| !part.held.is_empty()));
                messages.push(std::mem::take(&mut message));
                bytes = FRAME_BYTES;
            }
            bytes += size;
            bucket.held.push(entry);
        }
        message.buckets.push(bucket);
    }
    messages.push(wire::HeldContents { last: true, ..message });
    messages
}
