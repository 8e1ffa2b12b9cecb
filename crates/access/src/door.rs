//! What every request meets: its token is looked at, guessers wait, and who changed something is written down.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Semaphore;

use crate::{Caller, Gate, TokenError, Verdict, time};

/// An answer to a guesser comes so late at most, and to so many guessers.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// So many guessers wait at a time; more are answered at once.
pub const WAITING_MAX: usize = 64;

/// Why there can be no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The audit log cannot be opened.
    #[error("open the audit log {}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A token was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    /// After so many seconds the guesser may try again.
    pub retry_after: Option<u64>,
}

impl Wrong {
    /// What the guesser is told.
    pub fn detail(self) -> &'static str {
        match self.retry_after {
            Some(_) => "the token is wrong, as others before",
            None => "the token is wrong",
        }
    }
}

/// The door of a service.
#[derive(Debug)]
pub struct Door {
    gate: Gate,
    checks: Semaphore,
    waiting: Semaphore,
    audit: Option<Mutex<File>>,
}

impl Door {
    /// A door for the tokens of a file, and the file of its audit log; without one it goes to the log.
    pub fn new(tokens: &Path, audit: Option<&Path>) -> Result<Self, DoorError> {
        let open = |path: &Path| {
            let file = File::options().append(true).create(true).mode(0o600).open(path);
            file.map(Mutex::new).map_err(|source| DoorError::Audit { path: path.to_owned(), source })
        };
        Ok(Door {
            gate: Gate::new(tokens.to_owned())?,
            checks: Semaphore::new(1),
            waiting: Semaphore::new(WAITING_MAX),
            audit: audit.map(open).transpose()?,
        })
    }

    /// Who a caller is by its `Authorization` header: nobody without one.
    pub async fn identify(&self, header: Option<&str>, from: IpAddr) -> Result<Option<Caller>, Wrong> {
        let Some(header) = header else { return Ok(None) };
        let token = crate::token(header).unwrap_or_default();
        let mut verdict = self.gate.judge(&token, from, Instant::now());
        if let Verdict::Probable(entry, secret) = verdict {
            // One at a time: each takes 19 MiB and a processor for a while.
            let _turn = self.checks.acquire().await;
            let (checked, tried) = (entry.clone(), secret.clone());
            let right = tokio::task::spawn_blocking(move || checked.is_right(&tried)).await.unwrap_or(false);
            verdict = self.gate.settle(&entry, &secret, right, from, Instant::now());
        }
        match verdict {
            Verdict::Known(caller) => Ok(Some(caller)),
            Verdict::Wait(seconds) => {
                // The guesser waits, in a place that others do not need; a crowd of guessers is turned away.
                if let Ok(_place) = self.waiting.try_acquire() {
                    tokio::time::sleep(Duration::from_secs(seconds).min(WAIT_MAX)).await;
                }
                Err(Wrong { retry_after: Some(seconds) })
            }
            Verdict::Wrong | Verdict::Probable(..) => Err(Wrong { retry_after: None }),
        }
    }

    /// Writes down who changed something, and who was refused.
    pub fn audit(&self, from: IpAddr, caller: Option<&Caller>, method: &str, path: &str, status: u16) {
        let name = caller.map_or("-", |caller| caller.name.as_str());
        let Some(file) = &self.audit else {
            tracing::info!(%from, name, method, path, status, "audit");
            return;
        };
        let line = serde_json::json!({
            "time": time::text(SystemTime::now()),
            "from": from.to_string(),
            "token": name,
            "method": method,
            "path": path,
            "status": status,
        });
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}
