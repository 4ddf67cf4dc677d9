//! Which Events to create, and when. Pure: `now` is passed in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use roadstead_proto::digest::Digest;
use roadstead_routing::finding::{Finding, Severity};
use roadstead_routing::id::ObjectKey;

/// How long the same Event is not repeated: the default life of an Event in the API server.
pub const REPEAT_AFTER: Duration = Duration::from_secs(3_600);
/// Events that may be created at once, and how fast that allowance refills.
pub const BURST: u32 = 50;
const REFILL_EVERY: Duration = Duration::from_secs(1);
/// Notices that wait. Beyond this, new ones are dropped until the finding comes again.
pub const WAITING_MAX: usize = 1_000;
/// What was created lately. Beyond this, the oldest is forgotten.
const REMEMBERED_MAX: usize = 10_000;
/// Bytes of an Event's `note` that the API accepts.
const NOTE_BYTES_MAX: usize = 1_024;
/// Bytes of an Event's name that come from the object's.
const NAME_PREFIX_BYTES_MAX: usize = 200;

/// One Event to create.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    pub object: ObjectKey,
    pub uid: String,
    /// The Event's `metadata.name`.
    pub name: String,
    pub reason: &'static str,
    pub note: String,
    pub severity: Severity,
}

/// See the module's head.
pub struct EventQueue {
    waiting: VecDeque<(Digest, Notice)>,
    remembered: BTreeMap<Digest, Duration>,
    by_age: VecDeque<(Duration, Digest)>,
    tokens: u32,
    refilled: Duration,
    dropped: u64,
}

impl Default for EventQueue {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            remembered: BTreeMap::new(),
            by_age: VecDeque::new(),
            tokens: BURST,
            refilled: Duration::ZERO,
            dropped: 0,
        }
    }
}

impl EventQueue {
    /// Queues an Event for `finding` about the object with `uid`, unless it was created within [`REPEAT_AFTER`].
    pub fn offer(&mut self, now: Duration, finding: &Finding, uid: &str) {
        let Some(object) = &finding.object else { return };
        self.forget(now);
        let text = format!("{uid}\0{}\0{}", finding.code, finding.message);
        let digest = Digest::of_bytes(text.as_bytes());
        if self.remembered.contains_key(&digest) {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.dropped += 1;
            return;
        }
        self.remembered.insert(digest, now);
        self.by_age.push_back((now, digest));
        self.waiting.push_back((digest, notice(object, uid, finding, &digest)));
    }

    /// The Events to create now.
    pub fn take(&mut self, now: Duration) -> Vec<Notice> {
        self.refill(now);
        let count = self.waiting.len().min(self.tokens as usize);
        self.tokens -= count as u32;
        self.waiting.drain(..count).map(|(_, notice)| notice).collect()
    }

    /// Findings that got no Event because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn refill(&mut self, now: Duration) {
        let periods = now.saturating_sub(self.refilled).as_secs() / REFILL_EVERY.as_secs();
        self.tokens = self.tokens.saturating_add(u32::try_from(periods).unwrap_or(BURST)).min(BURST);
        self.refilled += REFILL_EVERY * u32::try_from(periods).unwrap_or(0);
        if self.tokens == BURST {
            self.refilled = now;
        }
    }

    fn forget(&mut self, now: Duration) {
        while let Some((at, digest)) = self.by_age.front().copied() {
            if now.saturating_sub(at) < REPEAT_AFTER && self.by_age.len() < REMEMBERED_MAX {
                break;
            }
            self.by_age.pop_front();
            self.remembered.remove(&digest);
        }
    }
}

fn notice(object: &ObjectKey, uid: &str, finding: &Finding, digest: &Digest) -> Notice {
    let note = format!("{}. {}", finding.message.trim_end_matches('.'), finding.remedy);
    let prefix = cut(&object.name.name, NAME_PREFIX_BYTES_MAX).trim_end_matches(['.', '-']);
    let hash = digest.to_string();
    Notice {
        object: object.clone(),
        uid: uid.to_owned(),
        name: format!("{prefix}.{}", &hash[..16]),
        reason: finding.code.event_reason(),
        note: cut(note.trim(), NOTE_BYTES_MAX).to_owned(),
        severity: finding.severity,
    }
}

/// The first `max` bytes of `text`, or a little less where a character would be split.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
