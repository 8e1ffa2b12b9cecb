//! Judging what callers show.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use aws_lc_rs::digest;

use crate::Caller;
use crate::guesses::Guesses;
use crate::tokens::{Entry, TokenError, check, read};

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
    guesses: Guesses,
}

impl Gate {
    /// The tokens of a file, read now and when it changes.
    pub fn new(path: PathBuf) -> Result<Self, TokenError> {
        let entries = read(&path)?;
        let inner =
            Inner { read: modified(&path), entries, right: BTreeMap::new(), guesses: Guesses::default() };
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
        self.guesses.count(from, now).map_or(Verdict::Wrong, Verdict::Wait)
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guesses::GUESSES_FREE;
    use crate::{Role, add, remove};

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
}
