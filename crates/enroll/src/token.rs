//! Tokens with which a machine may join, once and for a while.
//!
//! ```text
//! minka1-IDENTIFIER-SECRET-DIGEST        8, 32 and 64 hexadecimal digits
//! ```
//!
//! The identifier says which of the tokens it is, the secret is 128 random bits, and the digest is the one of the certificate
//! of the cluster's authority. The file of tokens has a SHA-256 of each secret: of so many random bits nobody finds what
//! they were.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{constant_time, digest};
use serde::{Deserialize, Serialize};

/// How tokens begin.
const PREFIX: &str = "minka1";

/// The file of tokens in a cluster's directory.
pub const TOKENS_FILE: &str = "join-tokens.toml";

/// So many tokens may be open at a time.
const TOKENS_MAX: usize = 1000;

/// No token is good for longer.
pub const LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is no token.
    #[error("understand the token: it begins with {PREFIX}- and is as `minka cluster token` has printed it")]
    Malformed,
    /// The file cannot be read or written.
    #[error("use the file of tokens {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not as it should be.
    #[error("understand the file of tokens {}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There are too many tokens.
    #[error("make another token: {TOKENS_MAX} are open already")]
    Many,
    /// There is no randomness.
    #[error("make a secret")]
    Secret(#[source] io::Error),
}

/// A token as it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    identifier: [u8; 4],
    secret: [u8; 16],
    /// The digest of the certificate of the authority.
    pub(crate) authority: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Token")
            .field("identifier", &hexadecimal(&self.identifier))
            .finish_non_exhaustive()
    }
}

impl Token {
    /// Reads what somebody has copied.
    ///
    /// # Errors
    /// When it is no token.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('-');
        let (prefix, rest) = (parts.next(), [parts.next(), parts.next(), parts.next()]);
        let ([Some(identifier), Some(secret), Some(authority)], None) = (rest, parts.next()) else {
            return Err(TokenError::Malformed);
        };
        let read = || {
            let (identifier, secret) = (bytes(identifier)?, bytes(secret)?);
            Some(Token { identifier, secret, authority: bytes(authority)? })
        };
        read().filter(|_| prefix == Some(PREFIX)).ok_or(TokenError::Malformed)
    }

    /// The token to be copied: a secret.
    pub fn reveal(&self) -> String {
        let [identifier, secret, authority] =
            [&self.identifier[..], &self.secret, &self.authority].map(hexadecimal);
        format!("{PREFIX}-{identifier}-{secret}-{authority}")
    }

    /// The part of it that the service looks at.
    pub(crate) fn shown(&self) -> Shown {
        Shown { identifier: hexadecimal(&self.identifier), secret: hexadecimal(&self.secret) }
    }
}

/// What is shown of a token to the service.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    identifier: String,
    secret: String,
}

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shown").finish_non_exhaustive()
    }
}

/// A token as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    identifier: String,
    /// The SHA-256 of the secret.
    hash: String,
    /// Good until then, in seconds since 1970.
    until: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

/// The tokens of a cluster, whose directory nobody else changes meanwhile.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Tokens {
    /// Those of a cluster's directory that are still good.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(directory: &Path, now: SystemTime) -> Result<Self, TokenError> {
        let path = directory.join(TOKENS_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(TokenError::File { path, source }),
        };
        let file: File = toml::from_str(&text)
            .map_err(|error| TokenError::Format { path: path.clone(), source: error.into() })?;
        let now = seconds(now);
        Ok(Tokens { path, entries: file.token.into_iter().filter(|entry| entry.until > now).collect() })
    }

    /// Makes a token that is good for so long.
    ///
    /// # Errors
    /// When there are too many, or the file cannot be written.
    pub fn add(&mut self, authority: [u8; 32], now: SystemTime, life: Duration) -> Result<Token, TokenError> {
        if self.entries.len() >= TOKENS_MAX {
            return Err(TokenError::Many);
        }
        let token = Token { identifier: random()?, secret: random()?, authority };
        let shown = token.shown();
        self.entries.push(Entry {
            identifier: shown.identifier,
            hash: hash(&shown.secret),
            until: seconds(now).saturating_add(life.min(LIFE_MAX).as_secs()),
        });
        self.write()?;
        Ok(token)
    }

    /// Whether a token is one of these, and good.
    pub fn knows(&self, shown: &Shown) -> bool {
        self.position(shown).is_some()
    }

    /// Uses a token up: nobody else can join with it, whatever comes of this one.
    ///
    /// # Errors
    /// When the file cannot be written; the token is to be refused then.
    pub fn take(&mut self, shown: &Shown) -> Result<bool, TokenError> {
        let Some(position) = self.position(shown) else { return Ok(false) };
        self.entries.remove(position);
        self.write().map(|()| true)
    }

    fn position(&self, shown: &Shown) -> Option<usize> {
        let hash = hash(&shown.secret);
        let is_it = |entry: &Entry| {
            entry.identifier == shown.identifier
                && constant_time::verify_slices_are_equal(entry.hash.as_bytes(), hash.as_bytes()).is_ok()
        };
        self.entries.iter().position(is_it)
    }

    fn write(&self) -> Result<(), TokenError> {
        let text = toml::to_string(&File { token: self.entries.clone() })
            .map_err(|error| TokenError::Format { path: self.path.clone(), source: error.into() })?;
        let new = self.path.with_extension("new");
        let save = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)
        };
        save().map_err(|source| TokenError::File { path: self.path.clone(), source })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn hash(secret: &str) -> String {
    hexadecimal(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(length) if length == N => Ok(bytes),
        Ok(_) => Err(TokenError::Secret(io::ErrorKind::UnexpectedEof.into())),
        Err(errno) => Err(TokenError::Secret(errno.into())),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(900);

    #[test]
    fn tokens_are_copied_as_text() {
        let token = Token { identifier: [1; 4], secret: [2; 16], authority: [0xab; 32] };
        let text = token.reveal();
        assert_eq!(text, format!("minka1-01010101-{}-{}", "02".repeat(16), "ab".repeat(32)));
        assert_eq!(Token::parse(&format!(" {text}\n")).unwrap(), token);
        assert!(!format!("{token:?}").contains("0202"));
        let short = &text[..text.len() - 1];
        for wrong in ["", "minka1", "minka1---", short, &format!("{text}-"), &text.replace("ab", "+b")] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_good_once_and_for_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let read = |now| Tokens::read(directory.path(), now).unwrap();
        let [one, other] = [(); 2].map(|()| read(now).add([7; 32], now, LIFE).unwrap());
        let text = fs::read_to_string(directory.path().join(TOKENS_FILE)).unwrap();
        assert!(!text.contains(&one.shown().secret) && text.contains(&one.shown().identifier));
        assert!(read(now).knows(&one.shown()) && read(now).knows(&other.shown()));
        assert!(!read(now + LIFE).knows(&one.shown()), "too late");
        assert!(read(now).take(&one.shown()).unwrap());
        assert!(!read(now).take(&one.shown()).unwrap(), "a second time");
        assert!(read(now).knows(&other.shown()));
        let mixed = Token { secret: one.secret, ..other };
        assert!(!read(now).knows(&mixed.shown()));
    }
}
