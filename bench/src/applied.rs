//! What the edges have applied, from their logs.
//!
//! An edge logs one JSON line per applied resource under the target [`TARGET`], with the resource's key and the moment
//! at which it was visible to requests. The moment is in the line, so how late the line is read does not matter.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::tracker::Tracker;

/// The tracing target of an edge's lines about applied resources.
const TARGET: &str = "\"target\":\"roadstead_edge::applied\"";
/// The flags that make an edge log them, and warnings, and nothing else.
pub const EDGE_LOG_FLAGS: [&str; 4] = ["--log-format", "json", "--log", "warn,roadstead_edge::applied=trace"];
/// How often a log that has no more lines is looked at again.
const POLL: Duration = Duration::from_millis(5);

/// Threads that follow the logs of all edges. Dropping ends them.
pub struct Followers {
    seen: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Followers {
    /// Follows the log at each path, from its beginning; the index is the edge's number for the tracker.
    ///
    /// # Errors
    /// If a log cannot be opened.
    pub fn start<'a>(logs: impl IntoIterator<Item = &'a Path>, tracker: &Arc<Mutex<Tracker>>) -> io::Result<Self> {
        let mut followers = Self { seen: Arc::default(), stop: Arc::default(), threads: Vec::new() };
        for (edge, log) in logs.into_iter().enumerate() {
            let lines = BufReader::new(File::open(log)?);
            let (seen, stop, tracker) = (Arc::clone(&followers.seen), Arc::clone(&followers.stop), Arc::clone(tracker));
            let on_line = move |line: &str| {
                let Some((key, nanos)) = parse(line) else { return };
                seen.fetch_add(1, Ordering::Relaxed);
                tracker.lock().unwrap_or_else(PoisonError::into_inner).applied(edge, key, nanos);
            };
            followers.threads.push(thread::spawn(move || follow(lines, &stop, on_line)));
        }
        Ok(followers)
    }

    /// Applications seen so far, over all edges.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A follower that panicked has been reported by the panic itself.
            let _ = thread.join();
        }
    }
}

fn follow(mut lines: impl BufRead, stop: &AtomicBool, on_line: impl Fn(&str)) {
    let mut line = String::new();
    while !stop.load(Ordering::Relaxed) {
        match lines.read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => {
                on_line(&line);
                line.clear();
            }
            // The end of the log for now, possibly within a line: what was read of it stays in `line`.
            Ok(_) => thread::sleep(POLL),
            Err(_) => line.clear(),
        }
    }
}

pub fn is_about_applied(line: &str) -> bool {
    line.contains(TARGET)
}

/// The key and the moment in nanoseconds since the Unix epoch. `None` for every other line.
fn parse(line: &str) -> Option<(&str, u64)> {
    is_about_applied(line).then_some(())?;
    let (_, key) = line.split_once("\"key\":\"")?;
    let (key, _) = key.split_once('"')?;
    let (_, nanos) = line.split_once("\"unix_nanos\":")?;
    let digits = nanos.find(|character: char| !character.is_ascii_digit()).unwrap_or(nanos.len());
    Some((key, nanos[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::tracker::{Change, Series};

    const LINE: &str = r#"{"timestamp":"2026-01-01T00:00:00Z","level":"TRACE","key":"backend/c1/bench/h1:80","unix_nanos":1700000000000000001,"target":"roadstead_edge::applied"}"#;

    #[test]
    fn reads_the_key_and_the_moment() {
        assert_eq!(parse(LINE), Some(("backend/c1/bench/h1:80", 1_700_000_000_000_000_001)));
    }

    #[test]
    fn ignores_other_lines() {
        assert_eq!(parse(&LINE.replace("::applied", "::proxy")), None);
        assert_eq!(parse("thread 'main' panicked at"), None);
    }

    #[test]
    fn follows_a_log_that_grows_within_a_line() {
        let mut log = tempfile::NamedTempFile::new().expect("must create");
        let tracker = Arc::new(Mutex::new(Tracker::new(1)));
        let change = Change {
            key: "backend/c1/bench/h1:80".to_owned(),
            series: Series::Endpoint,
            scheduled_nanos: 1_700_000_000_000_000_000,
            done: None,
        };
        tracker.lock().unwrap().begin(change);
        let followers = Followers::start([log.path()], &tracker).expect("must open");
        let (head, tail) = LINE.split_at(40);
        log.write_all(head.as_bytes()).expect("must write");
        log.write_all(format!("{tail}\n").as_bytes()).expect("must write");
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while followers.seen() == 0 && std::time::Instant::now() < deadline {
            thread::sleep(POLL);
        }
        assert_eq!(tracker.lock().unwrap().latencies(Series::Endpoint), [Duration::from_nanos(1)]);
    }
}
