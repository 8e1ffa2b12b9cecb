//! Tells all nodes of a new list: over mutual TLS, the authority showing a certificate that it has made for itself.
//!
//! Who cannot be reached hears of it from the others.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;

use minka_link::roster::{Nodes, Roster, RosterError};
use minka_link::{ChannelError, Credentials, Tuning, exchange_rosters};
use tracing::{debug, warn};

/// So many nodes are told at a time.
const THREADS_MAX: usize = 16;

/// What became of telling the nodes.
#[derive(Debug, Default)]
pub struct Told {
    /// These know now.
    pub told: Vec<String>,
    /// These could not be told.
    pub missed: Vec<(String, ChannelError)>,
}

/// A list that is to be told.
#[derive(Debug)]
struct News {
    credentials: Credentials,
    text: String,
    nodes: Nodes,
}

impl News {
    /// What a cluster's directory holds; one who has just been removed is to know that, too.
    fn of(roster: &Roster, removed: Option<(String, SocketAddr)>) -> Result<Self, RosterError> {
        let keys = roster.authority().own_keys(roster.list().version.max(1))?;
        Ok(News {
            credentials: Credentials::new(&keys)?,
            text: roster.signed()?,
            nodes: roster.nodes().clone().into_iter().chain(removed).collect(),
        })
    }

    fn tell(self) -> Told {
        let todo: Mutex<Vec<(String, SocketAddr)>> =
            Mutex::new(self.nodes.into_iter().filter(|(_, at)| !at.ip().is_unspecified()).collect());
        let told = Mutex::new(Told::default());
        let tuning = Tuning { handshake_ms: 3_000, ..Tuning::default() };
        std::thread::scope(|scope| {
            for _ in 0..THREADS_MAX {
                scope.spawn(|| {
                    loop {
                        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some((name, address)) = next else { return };
                        let outcome =
                            exchange_rosters(&self.credentials, address, &name, &self.text, &tuning);
                        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                        match outcome {
                            Ok(_) => told.told.push(name),
                            Err(error) => told.missed.push((name, error)),
                        }
                    }
                });
            }
        });
        let mut told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
        told.told.sort();
        told
    }
}

/// Tells all nodes of the list that a cluster's directory holds, and the one that was removed; waits for what becomes of it.
///
/// # Errors
/// When the directory cannot be used.
pub fn tell(roster: Roster, removed: Option<(String, SocketAddr)>) -> Result<Told, RosterError> {
    let news = News::of(&roster, removed)?;
    // Nobody has to wait for the network.
    drop(roster);
    Ok(news.tell())
}

/// The same without waiting.
pub(crate) fn in_background(roster: &Roster, removed: Option<(String, SocketAddr)>) {
    match News::of(roster, removed) {
        Ok(news) => {
            std::thread::spawn(move || {
                for (node, error) in news.tell().missed {
                    debug!(node, %error, "could not tell a node of the new list");
                }
            });
        }
        Err(error) => warn!(%error, "could not tell the nodes of the new list"),
    }
}
