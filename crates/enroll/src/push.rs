//! Tells all nodes of a new list: over mutual TLS, the authority showing a certificate that it has made for itself.
//!
//! Who cannot be reached hears of it from the others.
//!
//! An authority that takes another one's place also has each node get a certificate by it ([`succeed`]). Who cannot be
//! reached is waited for: the former authority is good until all have theirs, or somebody says that it is not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use minka_link::roster::{Nodes, OtherAddresses, Roster, RosterError};
use minka_link::{ChannelError, Credentials, Tuning, exchange_rosters, offer_renewal};
use tracing::{debug, info, warn};

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
    /// Where they are in other networks.
    others: OtherAddresses,
}

impl News {
    /// What a cluster's directory holds; one who has just been removed is to know that, too.
    fn of(roster: &Roster, removed: Option<(String, SocketAddr)>) -> Result<Self, RosterError> {
        let keys = roster.authority().own_keys(roster.list().version.max(1))?;
        Ok(News {
            credentials: Credentials::new(&keys)?,
            text: roster.signed()?,
            nodes: roster.nodes().clone().into_iter().chain(removed).collect(),
            others: roster.list().addresses.clone(),
        })
    }

    fn tell(self) -> Told {
        self.visit(|address, name, tuning| {
            exchange_rosters(&self.credentials, address, name, &self.text, tuning).map(drop)
        })
    }

    /// Shows the nodes the list, and has them get certificates by the authority of a directory.
    fn renew(self, directory: &Path) -> Told {
        self.visit(|address, name, tuning| {
            exchange_rosters(&self.credentials, address, name, &self.text, tuning)?;
            offer_renewal(&self.credentials, address, name, tuning, |request| {
                Ok(Roster::open(directory)?.certify(name, request)?.certificate)
            })
        })
    }

    /// Does something with each node that can be reached at all.
    fn visit(&self, act: impl Fn(SocketAddr, &str, &Tuning) -> Result<(), ChannelError> + Sync) -> Told {
        let is_placed = |(_, at): &(&String, &SocketAddr)| !at.ip().is_unspecified();
        let todo: Vec<_> = self.nodes.iter().filter(is_placed).collect();
        let todo = Mutex::new(todo);
        let told = Mutex::new(Told::default());
        let tuning = Tuning { handshake_ms: 3_000, ..Tuning::default() };
        std::thread::scope(|scope| {
            for _ in 0..THREADS_MAX {
                scope.spawn(|| {
                    loop {
                        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some((name, address)) = next else { return };
                        let mut outcome = act(*address, name, &tuning);
                        for other in self.others.get(name).into_iter().flatten() {
                            if matches!(outcome, Err(ChannelError::Reach { .. })) {
                                outcome = act(SocketAddr::new(*other, address.port()), name, &tuning);
                            }
                        }
                        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                        match outcome {
                            Ok(()) => told.told.push(name.clone()),
                            Err(error) => told.missed.push((name.clone(), error)),
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

/// How far an authority has come in taking another one's place.
#[derive(Debug)]
pub struct Succession {
    /// Nodes that have certificates by it.
    pub renewed: BTreeSet<String>,
    /// Nodes that are not known to.
    pub missing: BTreeSet<String>,
    /// Why not.
    pub reasons: Vec<(String, ChannelError)>,
    /// The former authority is none any more.
    pub finished: bool,
}

/// Has an authority take the place of the one there is, or goes on with that: tells nodes of it and has them get
/// certificates. When all have theirs the former authority is none any more, and at once if nobody is to be waited for.
///
/// # Errors
/// When the directory cannot be used.
pub fn succeed(directory: &Path, wait: bool) -> Result<Succession, RosterError> {
    let mut roster = Roster::open(directory)?;
    if roster.begin_succession()? {
        info!("another authority takes the place of this cluster's");
    }
    go_on(directory, roster, wait)
}

/// Goes on with it if there is anything to go on with.
///
/// # Errors
/// When the directory cannot be used.
pub(crate) fn continue_succession(directory: &Path) -> Result<Option<Succession>, RosterError> {
    let mut roster = Roster::open(directory)?;
    if !roster.authority().is_new() {
        return Ok(None);
    }
    // What was interrupted before the list was written is done now.
    roster.begin_succession()?;
    go_on(directory, roster, true).map(Some)
}

fn go_on(directory: &Path, roster: Roster, wait: bool) -> Result<Succession, RosterError> {
    let mut news = News::of(&roster, None)?;
    // One whose certificate is refused gets no other one.
    news.credentials.refuse(roster.list().refused.clone());
    let missing = roster.standing()?.map(|standing| standing.missing).unwrap_or_default();
    news.nodes.retain(|name, _| missing.contains(name));
    // Nobody has to wait for the network.
    drop(roster);
    let mut told = news.renew(directory);
    let mut roster = Roster::open(directory)?;
    roster.note_renewed(told.told)?;
    // Others may have joined, left or got certificates meanwhile; somebody else may even have finished.
    let standing = roster.standing()?.unwrap_or_default();
    told.missed.retain(|(name, _)| standing.missing.contains(name));
    let finished = standing.missing.is_empty() || !wait;
    if finished && roster.finish_succession()? {
        for (node, error) in tell(roster, None)?.missed {
            debug!(node, %error, "could not tell a node that the former authority is none any more");
        }
    }
    Ok(Succession { renewed: standing.renewed, missing: standing.missing, reasons: told.missed, finished })
}

/// Tells all nodes of the list without waiting.
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
