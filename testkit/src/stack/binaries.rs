//! Where the binaries of the workspace are.
//!
//! In: a name. Out: its path, from `ROADSTEAD_BIN_DIR`, else the folder that cargo put the running test or binary into.

use std::env;
use std::path::{Path, PathBuf};

use super::StackError;

/// Environment variable with the folder of the binaries.
pub const FOLDER_VARIABLE: &str = "ROADSTEAD_BIN_DIR";

/// The path of a binary of the workspace.
///
/// # Errors
/// It is not there; the text says where it was looked for.
pub fn find(name: &str) -> Result<PathBuf, StackError> {
    let folder = match env::var_os(FOLDER_VARIABLE) {
        Some(folder) => PathBuf::from(folder),
        None => env::current_exe().as_deref().map(beside).unwrap_or_default(),
    };
    let path = folder.join(name);
    if path.is_file() { Ok(path) } else { Err(StackError::NoBinary { name: name.to_owned(), folder }) }
}

/// Test executables are in `deps`, one below the binaries.
fn beside(executable: &Path) -> PathBuf {
    let folder = executable.parent().unwrap_or(executable);
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    if is_deps { folder.parent().unwrap_or(folder) } else { folder }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_beside_tests_and_beside_each_other() {
        assert_eq!(beside(Path::new("/t/debug/deps/it-123")), Path::new("/t/debug"));
        assert_eq!(beside(Path::new("/t/debug/roadstead-demo")), Path::new("/t/debug"));
    }

    #[test]
    fn a_missing_binary_says_where_it_was_looked_for() {
        let text = find("roadstead-no-such-thing").expect_err("missing").to_string();
        assert!(text.contains("roadstead-no-such-thing") && text.contains(FOLDER_VARIABLE), "{text}");
    }
}
