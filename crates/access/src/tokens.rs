//! The file of tokens.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::Role;

/// A token as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Four bytes of the secret's digest.
    pub(crate) check: String,
    /// The secret's Argon2 hash.
    pub(crate) hash: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

/// Why tokens cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("use the file of tokens {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not as it should be.
    #[error("understand the file of tokens {}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The name is taken, or not one.
    #[error("name a token {name:?}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The secret could not be made.
    #[error("make a secret: {0}")]
    Secret(String),
}

/// No file has more tokens.
const TOKENS_MAX: usize = 1000;

/// Reads a file of tokens; one that is not there has none.
pub fn read(path: &Path) -> Result<Vec<Entry>, TokenError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TokenError::File { path: path.to_owned(), source }),
    };
    let format = |source: Box<dyn std::error::Error + Send + Sync>| TokenError::Format {
        path: path.to_owned(),
        source,
    };
    let file: File = toml::from_str(&text).map_err(|error| format(error.into()))?;
    if file.token.len() > TOKENS_MAX {
        return Err(format("too many tokens".into()));
    }
    Ok(file.token)
}

fn write(path: &Path, token: Vec<Entry>) -> Result<(), TokenError> {
    let format = |source: Box<dyn std::error::Error + Send + Sync>| TokenError::Format {
        path: path.to_owned(),
        source,
    };
    let text = toml::to_string(&File { token }).map_err(|error| format(error.into()))?;
    let save = || -> std::io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let fresh = path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(fresh, path)
    };
    save().map_err(|source| TokenError::File { path: path.to_owned(), source })
}

/// Makes a token and keeps its hash; returns the token, which is not kept anywhere.
pub fn add(path: &Path, name: &str, role: Role) -> Result<String, TokenError> {
    let refuse = |reason| TokenError::Name { name: name.to_owned(), reason };
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if name.is_empty() || name.len() > 64 || !plain {
        return Err(refuse("only letters, digits, - and _, at most 64"));
    }
    let mut entries = read(path)?;
    if entries.iter().any(|entry| entry.name == name) {
        return Err(refuse("there is one already"));
    }
    if entries.len() == TOKENS_MAX {
        return Err(refuse("there are too many"));
    }
    let secret = hexadecimal(&random::<32>()?);
    let salt =
        SaltString::encode_b64(&random::<16>()?).map_err(|error| TokenError::Secret(error.to_string()))?;
    let hash = argon2()
        .hash_password(secret.as_bytes(), &salt)
        .map_err(|error| TokenError::Secret(error.to_string()))?;
    let check = check(&secret);
    entries.push(Entry { name: name.to_owned(), role, check, hash: hash.to_string() });
    write(path, entries)?;
    Ok(format!("{name}.{secret}"))
}

/// Takes a token away; `false` when there is none of that name.
pub fn remove(path: &Path, name: &str) -> Result<bool, TokenError> {
    let mut entries = read(path)?;
    let before = entries.len();
    entries.retain(|entry| entry.name != name);
    let found = entries.len() < before;
    if found {
        write(path, entries)?;
    }
    Ok(found)
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match got {
        Ok(length) if length == N => Ok(bytes),
        Ok(_) => Err(TokenError::Secret("too little randomness".to_owned())),
        Err(error) => Err(TokenError::Secret(error.to_string())),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn check(secret: &str) -> String {
    hexadecimal(&digest::digest(&digest::SHA256, secret.as_bytes()).as_ref()[..4])
}

/// 19 MiB and two passes, the least that is recommended: the secrets are random already.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default())
}

impl Entry {
    /// Whether a secret is right. Takes tens of milliseconds.
    pub fn is_right(&self, secret: &str) -> bool {
        let hash = PasswordHash::new(&self.hash);
        hash.is_ok_and(|hash| argon2().verify_password(secret.as_bytes(), &hash).is_ok())
    }
}
