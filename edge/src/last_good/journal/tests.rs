//! What a crash or a bad disk can leave behind, and what is read from it.

use super::*;

fn update(nonce: u64) -> wire::Update {
    wire::Update {
        nonce,
        removals: vec![format!("host/{nonce}.example.com"); nonce as usize % 3 + 1],
        ..wire::Update::default()
    }
}

fn updates(nonces: std::ops::Range<u64>) -> Vec<wire::Update> {
    nonces.map(update).collect()
}

/// A directory with a journal of these updates.
fn written(nonces: std::ops::Range<u64>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    for nonce in nonces {
        journal.append(&update(nonce)).unwrap();
    }
    journal.sync().unwrap();
    dir
}

fn reopened(directory: &Path) -> Vec<wire::Update> {
    Journal::open(directory).unwrap().1.updates
}

#[test]
fn what_was_appended_is_replayed_and_can_be_continued() {
    let dir = written(0..5);
    let (mut journal, replayed) = Journal::open(dir.path()).unwrap();
    assert_eq!(replayed, Replayed { same_build: true, updates: updates(0..5), bytes_lost: 0 });
    journal.append(&update(5)).unwrap();
    assert_eq!(journal.bytes(), std::fs::metadata(dir.path().join(FILE)).unwrap().len());
    drop(journal);
    assert_eq!(reopened(dir.path()), updates(0..6));
}

#[test]
fn a_record_torn_at_any_byte_costs_that_record_only() {
    let dir = written(0..4);
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    let last = record(&update(3)).unwrap().len();
    for end in whole.len() - last..whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        let (mut journal, replayed) = Journal::open(dir.path()).unwrap();
        assert_eq!(replayed.updates, updates(0..3), "torn at byte {end}");
        assert_eq!(replayed.bytes_lost, (end - (whole.len() - last)) as u64);
        journal.append(&update(9)).unwrap();
        drop(journal);
        let mut expected = updates(0..3);
        expected.push(update(9));
        assert_eq!(reopened(dir.path()), expected, "continued after a tear at byte {end}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_costs_it_and_what_follows() {
    let dir = written(0..3);
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    let [second, third] = [1, 2].map(|nonce| record(&update(nonce)).unwrap().len());
    let begin = whole.len() - second - third;
    for bit in begin * 8..(begin + second) * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(reopened(dir.path()), updates(0..1), "bit {bit} flipped");
    }
}

#[test]
fn a_file_that_is_not_a_journal_is_begun_anew() {
    let whole = std::fs::read(written(0..2).path().join(FILE)).unwrap();
    let mut torn_header: Vec<Vec<u8>> = (0..header().len()).map(|end| whole[..end].to_vec()).collect();
    torn_header.push(b"something else\n".to_vec());
    torn_header.push(vec![0xff; 4_096]);
    for content in torn_header {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), &content).unwrap();
        let (mut journal, replayed) = Journal::open(dir.path()).unwrap();
        assert_eq!((replayed.updates, replayed.bytes_lost), (vec![], content.len() as u64));
        journal.append(&update(1)).unwrap();
        drop(journal);
        assert_eq!(reopened(dir.path()), updates(1..2));
    }
}

#[test]
fn a_journal_of_another_build_is_replayed_but_known_as_such() {
    let dir = written(0..2);
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    let other = [format!("{MAGIC}0.0.0-other\n").as_bytes(), &whole[header().len()..]].concat();
    std::fs::write(&path, other).unwrap();
    let (mut journal, replayed) = Journal::open(dir.path()).unwrap();
    assert_eq!(replayed, Replayed { same_build: false, updates: updates(0..2), bytes_lost: 0 });
    journal.rewrite(&mut updates(0..2).into_iter()).unwrap();
    drop(journal);
    assert!(Journal::open(dir.path()).unwrap().1.same_build);
}

#[test]
fn a_rewrite_replaces_everything_and_goes_on() {
    let dir = written(0..50);
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let before = journal.bytes();
    journal.rewrite(&mut updates(7..9).into_iter()).unwrap();
    assert!(journal.bytes() < before);
    journal.append(&update(9)).unwrap();
    assert_eq!(journal.bytes(), std::fs::metadata(dir.path().join(FILE)).unwrap().len());
    drop(journal);
    assert_eq!(reopened(dir.path()), updates(7..10));
}

#[test]
fn a_crash_at_any_point_of_a_rewrite_leaves_the_old_or_the_new_journal() {
    let new = std::fs::read(written(5..8).path().join(FILE)).unwrap();
    // Before the rename: whatever the new file holds, the old one counts and the new one is gone afterwards.
    for end in 0..=new.len() {
        let dir = written(0..3);
        std::fs::write(dir.path().join(NEW_FILE), &new[..end]).unwrap();
        assert_eq!(reopened(dir.path()), updates(0..3), "crashed after {end} bytes of the new file");
        assert!(!dir.path().join(NEW_FILE).exists());
    }
    // After the rename.
    let dir = written(0..3);
    std::fs::write(dir.path().join(NEW_FILE), &new).unwrap();
    std::fs::rename(dir.path().join(NEW_FILE), dir.path().join(FILE)).unwrap();
    assert_eq!(reopened(dir.path()), updates(5..8));
}

#[test]
fn a_failed_rewrite_keeps_the_old_journal_in_use() {
    let dir = written(0..2);
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let too_large = wire::Update { removals: vec!["x".repeat(RECORD_BYTES_MAX)], ..wire::Update::default() };
    assert!(matches!(journal.append(&too_large), Err(JournalError::TooLarge(_))));
    assert!(matches!(journal.rewrite(&mut [too_large].into_iter()), Err(JournalError::TooLarge(_))));
    journal.append(&update(2)).unwrap();
    drop(journal);
    assert_eq!(reopened(dir.path()), updates(0..3));
}

#[test]
fn a_journal_is_overgrown_when_it_has_doubled_and_is_large() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    let large = wire::Update { removals: vec!["x".repeat(300 * 1024)], ..wire::Update::default() };
    for _ in 0..3 {
        journal.append(&large).unwrap();
        assert!(!journal.is_overgrown(), "{} bytes", journal.bytes());
    }
    journal.append(&large).unwrap();
    assert!(journal.is_overgrown());
    journal.rewrite(&mut std::iter::repeat_n(large.clone(), 4)).unwrap();
    for _ in 0..4 {
        assert!(!journal.is_overgrown(), "{} bytes", journal.bytes());
        journal.append(&large).unwrap();
    }
    journal.append(&large).unwrap();
    assert!(journal.is_overgrown());
}

/// Pretends that the journal was last written then.
fn set_time(directory: &Path, at: SystemTime) {
    File::options().write(true).open(directory.join(FILE)).unwrap().set_modified(at).unwrap();
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)
}

#[test]
fn starting_again_and_again_does_not_make_an_old_table_current() {
    let dir = written(0..3);
    set_time(dir.path(), long_ago());
    for _ in 0..3 {
        assert_eq!(Journal::open(dir.path()).unwrap().0.current_at(), Some(long_ago()));
    }
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.rewrite(&mut updates(0..3).into_iter()).unwrap();
    assert_eq!(journal.current_at(), Some(long_ago()));
    drop(journal);
    assert_eq!(Journal::open(dir.path()).unwrap().0.current_at(), Some(long_ago()), "a rewrite is no news");
    let path = dir.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    set_time(dir.path(), long_ago());
    for _ in 0..2 {
        assert_eq!(Journal::open(dir.path()).unwrap().0.current_at(), Some(long_ago()), "nor is a repair");
    }
}

#[test]
fn a_table_is_current_when_something_is_added_or_it_is_marked() {
    let dir = written(0..3);
    set_time(dir.path(), long_ago());
    let (mut journal, _) = Journal::open(dir.path()).unwrap();
    journal.append(&update(3)).unwrap();
    assert!(Journal::open(dir.path()).unwrap().0.current_at().unwrap() > long_ago());
    let later = long_ago() + std::time::Duration::from_secs(60);
    journal.mark_current(later).unwrap();
    let (reopened, replayed) = Journal::open(dir.path()).unwrap();
    assert_eq!((reopened.current_at(), replayed.updates), (Some(later), updates(0..4)));
}
