//! Who may do what.
//!
//! A token is `name.secret`, the secret 256 random bits that this program made. The file of tokens has an Argon2
//! hash of each secret, and four bytes of a plain digest, which give away nothing of 256 bits and tell nearly
//! every wrong secret from a right one at no cost:
//!
//! ```text
//!   header ── no such name, or wrong digest ──► guess: counted by address; 401, after a few it comes late
//!         └── right digest ── known from before ──► in
//!                         └── Argon2, beside the server's thread, one at a time ──► in, or a guess
//! ```
//!
//! So whoever guesses waits for each answer, but nobody else does: a wrong secret costs a digest,
//! and a right one is never held up by the guesses of others, not even from the same address.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// What a token allows; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To see.
    Read,
    /// To change how devices are watched.
    Operate,
    /// To change devices.
    Admin,
}

impl std::str::FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "read" => Ok(Role::Read),
            "operate" => Ok(Role::Operate),
            "admin" => Ok(Role::Admin),
            _ => Err("a role is read, operate or admin"),
        }
    }
}

/// A token as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Four bytes of the secret's digest.
    check: String,
    /// The secret's Argon2 hash.
    hash: String,
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

fn check(secret: &str) -> String {
    hexadecimal(&digest::digest(&digest::SHA256, secret.as_bytes()).as_ref()[..4])
}

/// 19 MiB and two passes, the least that is recommended: the secrets are random already.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default())
}

/// A caller who showed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose token it was.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

/// What a header is worth.
#[derive(Debug)]
pub enum Verdict {
    /// A right token, or one that was right before.
    Known(Caller),
    /// Probably right: to be checked by [`Entry::is_right`].
    Probable(Box<Entry>, String),
    /// Wrong.
    Wrong,
    /// Wrong again: wait so many seconds.
    Wait(u64),
}

/// So many guesses are free.
const GUESSES_FREE: u32 = 5;

/// No wait is longer, in seconds.
const WAIT_MAX: u64 = 300;

/// More addresses are not remembered.
const ADDRESSES_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Guesses {
    count: u32,
    last: Instant,
}

/// The tokens of a file, and who guessed.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    read: Option<SystemTime>,
    entries: Vec<Entry>,
    /// Digests of secrets that Argon2 found right, by their hash.
    right: BTreeMap<String, Vec<u8>>,
    guesses: BTreeMap<IpAddr, Guesses>,
}

impl Entry {
    /// Whether a secret is right. Takes tens of milliseconds.
    pub fn is_right(&self, secret: &str) -> bool {
        let hash = PasswordHash::new(&self.hash);
        hash.is_ok_and(|hash| argon2().verify_password(secret.as_bytes(), &hash).is_ok())
    }
}

impl Gate {
    /// The tokens of a file, read now and when it changes.
    pub fn new(path: PathBuf) -> Result<Self, TokenError> {
        let entries = read(&path)?;
        let inner =
            Inner { read: modified(&path), entries, right: BTreeMap::new(), guesses: BTreeMap::new() };
        Ok(Gate { path, inner: Mutex::new(inner) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Judges what a caller shows, as `name.secret`.
    pub fn judge(&self, token: &str, from: IpAddr, now: Instant) -> Verdict {
        let mut inner = self.lock();
        inner.renew(&self.path);
        let probable = token.split_once('.').and_then(|(name, secret)| {
            let entry = inner.entries.iter().find(|entry| entry.name == name)?;
            (entry.check == check(secret)).then(|| (entry.clone(), secret.to_owned()))
        });
        let Some((entry, secret)) = probable else { return inner.guess(from, now) };
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        let known = inner.right.get(&entry.hash).is_some_and(|right| {
            aws_lc_rs::constant_time::verify_slices_are_equal(right, digest.as_ref()).is_ok()
        });
        if known {
            return Verdict::Known(Caller { name: entry.name, role: entry.role });
        }
        Verdict::Probable(Box::new(entry), secret)
    }

    /// Remembers that a secret was right, or that it was a guess after all.
    pub fn settle(&self, entry: &Entry, secret: &str, right: bool, from: IpAddr, now: Instant) -> Verdict {
        let mut inner = self.lock();
        if !right {
            return inner.guess(from, now);
        }
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        inner.right.insert(entry.hash.clone(), digest.as_ref().to_vec());
        Verdict::Known(Caller { name: entry.name.clone(), role: entry.role })
    }
}

impl Inner {
    fn renew(&mut self, path: &Path) {
        let modified = modified(path);
        if modified == self.read {
            return;
        }
        match read(path) {
            Ok(entries) => {
                self.right.retain(|hash, _| entries.iter().any(|entry| entry.hash == *hash));
                self.entries = entries;
            }
            Err(error) => tracing::warn!(%error, "the tokens stay as they were"),
        }
        self.read = modified;
    }

    fn guess(&mut self, from: IpAddr, now: Instant) -> Verdict {
        let from = neighbourhood(from);
        let old = Duration::from_secs(WAIT_MAX * 2);
        if self.guesses.len() >= ADDRESSES_MAX {
            self.guesses.retain(|_, guesses| now.duration_since(guesses.last) < old);
            if self.guesses.len() >= ADDRESSES_MAX {
                self.guesses.pop_first();
            }
        }
        let guesses = self.guesses.entry(from).or_insert(Guesses { count: 0, last: now });
        if now.duration_since(guesses.last) >= old {
            guesses.count = 0;
        }
        *guesses = Guesses { count: guesses.count.saturating_add(1), last: now };
        match guesses.count.checked_sub(GUESSES_FREE + 1) {
            None => Verdict::Wrong,
            Some(beyond) => Verdict::Wait((1_u64 << beyond.min(20)).min(WAIT_MAX)),
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// Whoever has one address of version 6 has 2⁶⁴ of them.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The token of an `Authorization` header: `Bearer name.secret`, or `Basic` with the name as user.
pub fn token(header: &str) -> Option<String> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64(rest.trim())?;
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    let prefix = format!("{user}.");
    Some(if password.starts_with(&prefix) { password.to_owned() } else { format!("{prefix}{password}") })
}

/// Base 64 with padding, as `Basic` has it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() > 1024 || !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> (tempfile::TempDir, Gate, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.toml");
        let token = add(&path, "ana", Role::Operate).unwrap();
        let gate = Gate::new(path).unwrap();
        (directory, gate, token)
    }

    #[test]
    fn a_right_token_is_checked_once_and_known_after() {
        let (directory, gate, token) = gate();
        let (from, now) = (IpAddr::from([127, 0, 0, 1]), Instant::now());
        let Verdict::Probable(entry, secret) = gate.judge(&token, from, now) else { panic!() };
        assert!(entry.is_right(&secret) && !entry.is_right("other"));
        gate.settle(&entry, &secret, true, from, now);
        let Verdict::Known(caller) = gate.judge(&token, from, now) else { panic!() };
        assert_eq!(caller, Caller { name: "ana".into(), role: Role::Operate });
        let text = fs::read_to_string(directory.path().join("tokens.toml")).unwrap();
        assert!(!text.contains(&secret) && text.contains("$argon2id$"));
    }

    #[test]
    fn guesses_cost_the_guesser_time_and_nobody_else() {
        let (_directory, gate, token) = gate();
        let (from, now) = (IpAddr::from([127, 0, 0, 1]), Instant::now());
        for _ in 0..GUESSES_FREE {
            assert!(matches!(gate.judge("ana.guess", from, now), Verdict::Wrong));
        }
        let wait = |gate: &Gate| match gate.judge("bob.guess", from, now) {
            Verdict::Wait(seconds) => seconds,
            other => panic!("{other:?}"),
        };
        assert_eq!((wait(&gate), wait(&gate), wait(&gate)), (1, 2, 4));
        assert!(matches!(gate.judge(&token, from, now), Verdict::Probable(..)));
        assert!(matches!(gate.judge("x", IpAddr::from([10, 0, 0, 1]), now), Verdict::Wrong));
    }

    #[test]
    fn a_token_that_was_taken_away_is_worth_nothing() {
        let (directory, gate, token) = gate();
        let (from, now) = (IpAddr::from([127, 0, 0, 1]), Instant::now());
        let path = directory.path().join("tokens.toml");
        assert!(remove(&path, "ana").unwrap() && !remove(&path, "ana").unwrap());
        let later = fs::File::options().write(true).open(&path).unwrap();
        later.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        assert!(matches!(gate.judge(&token, from, now), Verdict::Wrong));
    }

    #[test]
    fn both_schemes_carry_a_token() {
        assert_eq!(token("Bearer ana.123").as_deref(), Some("ana.123"));
        // ana:123
        assert_eq!(token("Basic YW5hOjEyMw==").as_deref(), Some("ana.123"));
        for wrong in ["", "Bearer", "Basic !!!!", "Basic YW5h", "Digest a=b", "Basic YW5hOjEyMw"] {
            assert_eq!(token(wrong), None, "{wrong}");
        }
    }
}
