//! The journal file: Updates, one after the other.
//!
//! ```text
//! header   "roadstead-edge-journal 1 VERSION\n"      VERSION: of the build that wrote it
//! record   u32 length (little-endian) · 16 bytes of BLAKE3 over the rest · an encoded wire::Update
//! ```
//!
//! A record that is cut short or does not match its hash ends the journal: it and what follows are cut off, everything
//! before is kept. A new file replaces the old one only when it is complete on disk. No threads and no clock here.
//!
//! The file's time says when its table was last known to be current: an append and [`Journal::mark_current`] set it, a
//! rewrite keeps it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use prost::Message;
use roadstead_proto::wire;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;

#[cfg(test)]
mod tests;

const FILE: &str = "table.journal";
const NEW_FILE: &str = "table.journal.new";
const MAGIC: &str = "roadstead-edge-journal 1 ";
/// Bytes of the header line at most.
const HEADER_BYTES_MAX: usize = 128;
const HASH_BYTES: usize = 16;
const FRAME_BYTES: usize = 4 + HASH_BYTES;
/// Bytes of one encoded Update. Received ones are at most [`MESSAGE_BYTES_MAX`]; what is journalled of one can be
/// larger by the removals it sets free.
pub const RECORD_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
/// Below this many bytes the journal is never rewritten.
pub const REWRITE_BYTES_MIN: u64 = 1024 * 1024;
/// The journal is rewritten when it is this many times as large as after the last rewrite.
const REWRITE_GROWTH: u64 = 2;

/// The open journal, positioned at its end.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    file: File,
    bytes: u64,
    bytes_rewritten: u64,
    current_at: Option<SystemTime>,
}

/// What was found at start.
#[derive(Debug, PartialEq)]
pub struct Replayed {
    /// The build that wrote the journal is this one. Another build may not have known everything that the Updates
    /// said, so what it held must not be taken for what the controller sent.
    pub same_build: bool,
    pub updates: Vec<wire::Update>,
    /// Bytes cut off because they were torn or corrupt.
    pub bytes_lost: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("an Update of {0} bytes is larger than a record may be")]
    TooLarge(usize),
}

impl Journal {
    /// Opens the journal in `directory` and reads it; creates an empty one if there is none.
    ///
    /// # Errors
    /// If the disk fails or the directory cannot be written to. Damaged content is not an error.
    pub fn open(directory: &Path) -> Result<(Self, Replayed), JournalError> {
        let new = directory.join(NEW_FILE);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &new)(error)),
            // A rewrite that did not get as far as to replace the journal.
            Ok(()) | Err(_) => {}
        }
        let path = directory.join(FILE);
        let options = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = options.map_err(failed("open", &path))?;
        let current_at = modified(&file);
        let scan = Scan::of(&file).map_err(failed("read", &path))?;
        let bytes_lost = scan.bytes_total - scan.bytes_good;
        if scan.bytes_good == 0 {
            // New, or not one of ours: begin it anew.
            let journal = Self::replace(directory, None, &mut std::iter::empty())?;
            return Ok((journal, Replayed { same_build: true, updates: Vec::new(), bytes_lost }));
        }
        if bytes_lost > 0 {
            file.set_len(scan.bytes_good).map_err(failed("truncate", &path))?;
            keep_time(&file, current_at);
        }
        file.seek(SeekFrom::Start(scan.bytes_good)).map_err(failed("seek in", &path))?;
        let replayed = Replayed { same_build: scan.same_build, updates: scan.updates, bytes_lost };
        let bytes = scan.bytes_good;
        Ok((Self { directory: directory.to_owned(), file, bytes, bytes_rewritten: bytes, current_at }, replayed))
    }

    /// When the table that was found at start was last known to be current, if there was one and the disk knows.
    pub fn current_at(&self) -> Option<SystemTime> {
        self.current_at
    }

    /// Notes that the table is current although nothing is added to it.
    ///
    /// # Errors
    /// If the disk fails; nothing else is changed.
    pub fn mark_current(&self, now: SystemTime) -> Result<(), JournalError> {
        self.file.set_modified(now).map_err(failed("set the time of", &self.path()))
    }

    /// Adds an Update at the end. It is durable after [`Journal::sync`].
    ///
    /// # Errors
    /// If it cannot be written as a whole. The journal is then as before, unless the disk does not even allow that.
    pub fn append(&mut self, update: &wire::Update) -> Result<(), JournalError> {
        let record = record(update)?;
        if let Err(source) = self.file.write_all(&record) {
            self.cut_back().map_err(failed("repair", &self.path()))?;
            return Err(failed("write", &self.path())(source));
        }
        self.bytes += record.len() as u64;
        Ok(())
    }

    /// Returns when everything appended is on disk.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(failed("sync", &self.path()))
    }

    /// Replaces everything by `updates`. The old journal stays in place until the new one is complete on disk.
    ///
    /// # Errors
    /// If the disk fails; the old journal is then still there and in use.
    pub fn rewrite(&mut self, updates: &mut dyn Iterator<Item = wire::Update>) -> Result<(), JournalError> {
        *self = Self { current_at: self.current_at, ..Self::replace(&self.directory, modified(&self.file), updates)? };
        Ok(())
    }

    /// Whether the journal has grown so much that it should be rewritten.
    pub fn is_overgrown(&self) -> bool {
        self.bytes > REWRITE_BYTES_MIN.max(REWRITE_GROWTH * self.bytes_rewritten)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Removes what a failed append may have left.
    fn cut_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.file.seek(SeekFrom::Start(self.bytes)).map(drop)
    }

    fn replace(
        directory: &Path,
        current_at: Option<SystemTime>,
        updates: &mut dyn Iterator<Item = wire::Update>,
    ) -> Result<Self, JournalError> {
        let (path, new) = (directory.join(FILE), directory.join(NEW_FILE));
        let (file, bytes) = write_new(&new, updates)?;
        keep_time(&file, current_at);
        std::fs::rename(&new, &path).map_err(failed("rename to", &path))?;
        // The rename itself is durable only when the directory is.
        let directory_file = File::open(directory).map_err(failed("open", directory))?;
        directory_file.sync_all().map_err(failed("sync", directory))?;
        Ok(Self { directory: directory.to_owned(), file, bytes, bytes_rewritten: bytes, current_at: None })
    }
}

fn write_new(path: &Path, updates: &mut dyn Iterator<Item = wire::Update>) -> Result<(File, u64), JournalError> {
    let file = File::create(path).map_err(failed("create", path))?;
    let mut writer = BufWriter::new(file);
    let header = header();
    let mut bytes = header.len() as u64;
    writer.write_all(header.as_bytes()).map_err(failed("write", path))?;
    for update in updates {
        let record = record(&update)?;
        bytes += record.len() as u64;
        writer.write_all(&record).map_err(failed("write", path))?;
    }
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))?;
    Ok((file, bytes))
}

fn modified(file: &File) -> Option<SystemTime> {
    file.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// Gives a file that was changed without news the time that it had. One that cannot be set counts as current.
fn keep_time(file: &File, at: Option<SystemTime>) {
    if let Some(at) = at {
        drop(file.set_modified(at));
    }
}

fn header() -> String {
    format!("{MAGIC}{}\n", env!("CARGO_PKG_VERSION"))
}

fn record(update: &wire::Update) -> Result<Vec<u8>, JournalError> {
    let length = update.encoded_len();
    if length > RECORD_BYTES_MAX {
        return Err(JournalError::TooLarge(length));
    }
    let mut record = vec![0; FRAME_BYTES];
    record.reserve(length);
    update.encode(&mut record).expect("a Vec must have room for a message");
    record[..4].copy_from_slice(&u32::try_from(length).expect("a record's length must fit").to_le_bytes());
    let hash = hash_of(&record[FRAME_BYTES..]);
    record[4..FRAME_BYTES].copy_from_slice(&hash);
    Ok(record)
}

fn hash_of(encoded: &[u8]) -> [u8; HASH_BYTES] {
    let hash = blake3::hash(encoded);
    let mut short = [0; HASH_BYTES];
    short.copy_from_slice(&hash.as_bytes()[..HASH_BYTES]);
    short
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> JournalError + 'a {
    move |source| JournalError::Io { action, path: path.to_owned(), source }
}

/// One pass over a journal file.
struct Scan {
    same_build: bool,
    updates: Vec<wire::Update>,
    /// Up to where the file is as it was written; 0 if not even its header is.
    bytes_good: u64,
    bytes_total: u64,
}

impl Scan {
    fn of(file: &File) -> io::Result<Self> {
        let bytes_total = file.metadata()?.len();
        let mut scan = Self { same_build: false, updates: Vec::new(), bytes_good: 0, bytes_total };
        let mut reader = BufReader::new(file);
        let Some(header_read) = read_header(&mut reader)? else { return Ok(scan) };
        scan.same_build = header_read == header();
        scan.bytes_good = header_read.len() as u64;
        while let Some((update, bytes)) = read_record(&mut reader)? {
            scan.updates.push(update);
            scan.bytes_good += bytes;
        }
        Ok(scan)
    }
}

/// The header line, or `None` if the file does not begin with one of ours.
fn read_header(reader: &mut impl Read) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < HEADER_BYTES_MAX && fill(reader, &mut byte)? {
        line.push(byte[0]);
        if byte[0] == b'\n' {
            break;
        }
    }
    let line = String::from_utf8(line).ok();
    Ok(line.filter(|line| line.starts_with(MAGIC) && line.ends_with('\n')))
}

/// The next record and its bytes, or `None` at the end of what is whole.
fn read_record(reader: &mut impl Read) -> io::Result<Option<(wire::Update, u64)>> {
    let mut frame = [0; FRAME_BYTES];
    if !fill(reader, &mut frame)? {
        return Ok(None);
    }
    let (length, hash) = frame.split_at(4);
    let length = u32::from_le_bytes(length.try_into().expect("4 bytes")) as usize;
    if length > RECORD_BYTES_MAX {
        return Ok(None);
    }
    let mut encoded = vec![0; length];
    if !fill(reader, &mut encoded)? || hash_of(&encoded) != *hash {
        return Ok(None);
    }
    let update = wire::Update::decode(&*encoded).ok();
    Ok(update.map(|update| (update, (FRAME_BYTES + length) as u64)))
}

/// Fills `buffer`; false if the file ends before.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
