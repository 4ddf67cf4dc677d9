//! Everything held as a sequence of Updates of bounded size, made one at a time on the thread that writes them.

use std::vec::IntoIter;

use bytes::Bytes;
use prost::Message;
use roadstead_proto::wire;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

/// Backends come before hosts, because that is how resource keys are ordered. Positions and completeness are on the
/// last Update: a journal that lost its end must not claim them.
pub(super) struct Updates {
    encoded: std::iter::Peekable<IntoIter<Bytes>>,
    /// The last Update, without resources; `None` when it was made.
    last: Option<wire::Update>,
}

impl Updates {
    pub(super) fn new(encoded: Vec<Bytes>, last: wire::Update) -> Self {
        // Without a world nothing was ever applied, so there is nothing to say.
        let last = Some(last).filter(|last| last.world.is_some());
        Self { encoded: encoded.into_iter().peekable(), last }
    }
}

impl Iterator for Updates {
    type Item = wire::Update;

    fn next(&mut self) -> Option<wire::Update> {
        let last = self.last.take()?;
        let mut upserts = Vec::new();
        let mut bytes = 0;
        while let Some(encoded) = self.encoded.next_if(|next| bytes == 0 || bytes + next.len() <= MESSAGE_BYTES_MAX) {
            bytes += encoded.len();
            upserts.push(wire::ResourceUpsert::decode(encoded).expect("what was encoded must decode"));
        }
        if self.encoded.peek().is_none() {
            return Some(wire::Update { upserts, ..last });
        }
        let part = wire::Update { world: last.world.clone(), upserts, ..wire::Update::default() };
        self.last = Some(last);
        Some(part)
    }
}
