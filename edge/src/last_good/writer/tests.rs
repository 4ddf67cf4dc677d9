//! The thread around the journal: order, failure, recovery.

use std::path::Path;

use super::super::journal::RECORD_BYTES_MAX;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn update(nonce: u64) -> wire::Update {
    wire::Update { nonce, ..wire::Update::default() }
}

fn snapshot(nonces: std::ops::Range<u64>) -> Snapshot {
    Box::new(nonces.map(update))
}

fn start(directory: &Path) -> (LastGood, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let (journal, _) = Journal::open(directory).unwrap();
    let pace = Pace { sync_every: Duration::from_millis(5), retry_after: Duration::from_millis(20) };
    (LastGood::start(journal, metrics.clone(), pace).unwrap(), metrics)
}

/// Reads a copy: opening a journal repairs it, which must not happen under the hands of the thread that writes it.
fn on_disk(directory: &Path) -> Vec<u64> {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(directory.join("table.journal"), copy.path().join("table.journal")).unwrap();
    Journal::open(copy.path()).unwrap().1.updates.iter().map(|update| update.nonce).collect()
}

fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn updates_are_written_in_order_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (last_good, metrics) = start(dir.path());
    let empty = metrics.last_good_bytes.get();
    (0..100).for_each(|nonce| last_good.append(update(nonce)));
    eventually(|| metrics.last_good_bytes.get() > empty + 100 * 20);
    // Dropped without a close, as in a crash of the process.
    drop(last_good);
    eventually(|| on_disk(dir.path()) == (0..100).collect::<Vec<_>>());
}

#[test]
fn a_clean_end_leaves_the_snapshot_only() {
    let dir = tempfile::tempdir().unwrap();
    let (last_good, _) = start(dir.path());
    (0..100).for_each(|nonce| last_good.append(update(nonce)));
    last_good.close(snapshot(7..9));
    assert_eq!(on_disk(dir.path()), [7, 8]);
}

#[test]
fn a_failed_write_ends_the_journal_there_until_a_snapshot_makes_it_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (last_good, metrics) = start(dir.path());
    last_good.append(update(1));
    // Fails as a full disk would.
    last_good.append(wire::Update { removals: vec!["x".repeat(RECORD_BYTES_MAX)], ..update(2) });
    eventually(|| metrics.last_good_failures.get() == 1);
    last_good.append(update(3));
    eventually(|| last_good.wants_snapshot());
    assert_eq!(on_disk(dir.path()), [1], "nothing is added behind a gap");
    last_good.rewrite(snapshot(1..4));
    last_good.append(update(4));
    eventually(|| on_disk(dir.path()) == [1, 2, 3, 4]);
    assert!(!last_good.wants_snapshot());
}

#[test]
fn a_rewrite_that_fails_is_wanted_again() {
    let dir = tempfile::tempdir().unwrap();
    let (last_good, metrics) = start(dir.path());
    let too_large = wire::Update { removals: vec!["x".repeat(RECORD_BYTES_MAX)], ..update(1) };
    last_good.rewrite(Box::new(std::iter::once(too_large)));
    eventually(|| metrics.last_good_failures.get() == 1);
    eventually(|| last_good.wants_snapshot());
    last_good.rewrite(snapshot(0..2));
    eventually(|| on_disk(dir.path()) == [0, 1]);
}

#[test]
fn an_overgrown_journal_asks_for_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (last_good, _) = start(dir.path());
    for nonce in 0..5 {
        last_good.append(wire::Update { removals: vec!["x".repeat(300 * 1024)], ..update(nonce) });
    }
    eventually(|| last_good.wants_snapshot());
}

fn current_at(directory: &Path) -> SystemTime {
    std::fs::metadata(directory.join("table.journal")).unwrap().modified().unwrap()
}

fn set_time(directory: &Path, at: SystemTime) {
    std::fs::File::options().write(true).open(directory.join("table.journal")).unwrap().set_modified(at).unwrap();
}

#[test]
fn a_table_that_does_not_change_can_be_marked_as_current_unless_it_misses_something() {
    let dir = tempfile::tempdir().unwrap();
    let (last_good, metrics) = start(dir.path());
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    set_time(dir.path(), long_ago);
    last_good.mark_current();
    eventually(|| current_at(dir.path()) > long_ago);
    // Fails as a full disk would; the next thing in the queue comes after it.
    last_good.append(wire::Update { removals: vec!["x".repeat(RECORD_BYTES_MAX)], ..update(1) });
    eventually(|| metrics.last_good_failures.get() == 1);
    set_time(dir.path(), long_ago);
    last_good.mark_current();
    last_good.close(snapshot(0..2));
    assert_eq!(current_at(dir.path()), long_ago);
    assert_eq!(on_disk(dir.path()), [0, 1]);
}
