//! Manifest files of one cluster: folders, files or stdin → the objects that routing reads.
//!
//! What cannot be read is skipped and named; it hides nothing else. Of two objects of one name the one read last
//! counts, as if the files were applied in the order of their paths.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use roadstead_manifests::{Converted, Problem, decode, yaml};
use roadstead_routing::id::Kind;
use roadstead_routing::object::Object;
use serde_json::Value;

use super::OfflineError;

/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Files of one folder, with all below it.
const FILES_MAX: usize = 100_000;
/// Folders in folders.
const DEPTH_MAX: usize = 64;
/// What is read in a folder; a file that is named is read whatever its name.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The path that means stdin.
pub const STDIN: &str = "-";

#[derive(Debug, Default)]
pub struct Manifests {
    pub objects: Vec<Object>,
    /// What could not be kept of `objects`.
    pub problems: Vec<Problem>,
    /// Files and documents that were skipped: a line for each, which says why.
    pub skipped: Vec<String>,
    /// Kinds of which everything that there is was read.
    pub whole: BTreeSet<Kind>,
}

impl Manifests {
    /// Adds what is at `path`.
    ///
    /// # Errors
    /// If there is nothing, or it cannot be read at all.
    pub fn read(&mut self, path: &Path) -> Result<(), OfflineError> {
        let unreadable = |error| OfflineError::Input(format!("{}: cannot read it: {error}", path.display()));
        if path.as_os_str() == STDIN {
            self.documents("stdin", bytes_of_stdin().map_err(unreadable)?);
        } else if fs::metadata(path).map_err(unreadable)?.is_dir() {
            let mut files = Vec::new();
            self.list(path, DEPTH_MAX, &mut files)?;
            for file in &files {
                match bytes_of(file) {
                    Ok(bytes) => self.documents(&file.display().to_string(), bytes),
                    Err(error) => self.skipped.push(format!("{}: cannot read it: {error}", file.display())),
                }
            }
        } else {
            self.documents(&path.display().to_string(), bytes_of(path).map_err(unreadable)?);
        }
        Ok(())
    }

    /// The manifest files of a folder and of those in it, in order. Hidden ones are passed over, and so are links to
    /// folders, which could lead round in circles.
    fn list(&mut self, folder: &Path, depth_left: usize, files: &mut Vec<PathBuf>) -> Result<(), OfflineError> {
        let entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) if depth_left > 0 => entries,
            Ok(_) => {
                return Err(OfflineError::Input(format!("{}: more than {DEPTH_MAX} folders deep", folder.display())));
            }
            Err(error) => {
                self.skipped.push(format!("{}: cannot read it: {error}", folder.display()));
                return Ok(());
            }
        };
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.into_iter().filter(|path| !is_hidden(path)) {
            if path.is_dir() {
                if !path.is_symlink() {
                    self.list(&path, depth_left - 1, files)?;
                }
            } else if path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|it| extension == *it)) {
                files.push(path);
            }
            if files.len() > FILES_MAX {
                let message = format!("{}: more than {FILES_MAX} files; name smaller folders", folder.display());
                return Err(OfflineError::Input(message));
            }
        }
        Ok(())
    }

    /// Adds the documents of a file.
    pub fn documents(&mut self, origin: &str, bytes: Vec<u8>) {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return self.skipped.push(format!("{origin}: is larger than {FILE_BYTES_MAX} bytes; split it"));
        }
        let Ok(text) = String::from_utf8(bytes) else {
            return self.skipped.push(format!("{origin}: is not UTF-8; save it as such"));
        };
        for result in yaml::from_yaml(&text) {
            self.keep(result, origin);
        }
    }

    /// Adds an object as an API server has it.
    pub fn object(&mut self, kind: Kind, value: Value, origin: &str) {
        self.keep(decode(kind, value), origin);
    }

    fn keep(&mut self, result: Result<Converted, Problem>, origin: &str) {
        match result {
            Ok(converted) => {
                self.objects.push(converted.object);
                self.problems.extend(converted.problems);
            }
            Err(problem) => self.skipped.push(format!("{origin}: {}. {}", problem.message, problem.remedy)),
        }
    }
}

/// What is in a file, or one byte more than allowed of it.
pub fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    within(fs::File::open(path)?)
}

/// As [`bytes_of`].
pub fn bytes_of_stdin() -> io::Result<Vec<u8>> {
    within(io::stdin().lock())
}

fn within(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
