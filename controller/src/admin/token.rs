//! The bearer token: a file that only its owner can read. Made with a random token if it is not there.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rand::RngExt;
use roadstead_runtime::private;

/// Shorter ones could be guessed.
pub const TOKEN_CHARS_MIN: usize = 32;
/// Bytes of the file that are read.
const FILE_BYTES_MAX: u64 = 4_096;

#[derive(Debug, thiserror::Error)]
#[error("--api-token-file {path}: {problem}")]
pub struct TokenError {
    path: String,
    problem: String,
}

/// A hash of it, so that it is neither shown nor compared byte by byte.
#[derive(Clone, Debug)]
pub struct Token(blake3::Hash);

impl Token {
    pub fn new(token: &str) -> Self {
        Self(blake3::hash(token.as_bytes()))
    }

    /// Takes as long for any other token.
    pub fn is(&self, presented: &str) -> bool {
        // Comparing two blake3 hashes takes constant time.
        self.0 == blake3::hash(presented.as_bytes())
    }

    /// Reads the file; creates it first, with mode 0600 and a random token, if there is none.
    ///
    /// # Errors
    /// If it cannot be read or made, if others may read it, or if the token is too short.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let problem = |problem: String| TokenError { path: path.display().to_string(), problem };
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(file) => return create(file).map_err(|error| problem(format!("cannot write it: {error}"))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(problem(format!("cannot create it: {error}"))),
        }
        let content = private::read(path, FILE_BYTES_MAX).map_err(|error| problem(error.to_string()))?;
        let text = String::from_utf8(content).map_err(|_| problem("it is not text".to_owned()))?;
        let token = text.trim();
        if token.chars().count() < TOKEN_CHARS_MIN {
            return Err(problem(format!(
                "the token has fewer than {TOKEN_CHARS_MIN} characters; remove the file to get a random one"
            )));
        }
        Ok(Self::new(token))
    }
}

fn create(mut file: File) -> std::io::Result<Token> {
    let random: [u8; 32] = rand::rng().random();
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{token}")?;
    file.sync_all()?;
    Ok(Token::new(&token))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_missing_file_is_made_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let made = Token::from_file(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(made.is(text.trim()) && Token::from_file(&path).unwrap().is(text.trim()));
        assert!(!made.is(&text.trim()[1..]) && !made.is(""));
    }

    #[test]
    fn files_of_everybody_and_short_tokens_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        Token::from_file(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Token::from_file(&path).unwrap_err().to_string();
        assert!(
            error.contains("--api-token-file") && error.contains("0640") && error.contains("chmod 0600"),
            "{error}"
        );
        std::fs::write(&path, "secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Token::from_file(&path).unwrap_err().to_string().contains("fewer than 32"));
    }
}
