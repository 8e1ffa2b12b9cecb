//! More lanes for calls: a call that blocks keeps its lane, so there is one for each thread.
//!
//! The first lane is opened before the process is stopped; the others while it computes on at its host.

use crate::fault::{Result, chain};
use crate::serve;
use crate::session::{Event, Shared, start};
use minka_kernel::process::Bell;
use minka_link::{Channel, Closer, Credentials, NodeConfig};
use minka_wire::preamble::{Lane, Preamble, Purpose, SessionId};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Opens lanes of one session.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) node: String,
    pub(crate) address: SocketAddr,
    pub(crate) session: SessionId,
    pub(crate) credentials: Credentials,
    pub(crate) tuning: minka_link::Tuning,
}

impl Opener {
    /// For sessions with a node.
    pub(crate) fn new(
        node: &str,
        address: SocketAddr,
        session: SessionId,
        config: &NodeConfig,
        credentials: &Credentials,
    ) -> Self {
        let (credentials, tuning) = (credentials.clone(), config.link.clone());
        Self { node: node.to_owned(), address, session, credentials, tuning }
    }

    /// The same for one who may have to wait so long until the other side takes a lane.
    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        let handshake_ms = self.tuning.handshake_ms.max(patience.as_millis() as u64);
        let (node, credentials) = (self.node.clone(), self.credentials.clone());
        Self {
            node,
            credentials,
            tuning: minka_link::Tuning { handshake_ms, ..self.tuning.clone() },
            ..*self
        }
    }

    /// Opens one.
    pub(crate) fn open(&self, purpose: Purpose, lane: Lane) -> Result<Channel> {
        let preamble = Preamble { session: self.session, purpose, lane };
        let Self { credentials, address, node, tuning, .. } = self;
        Ok(minka_link::connect(credentials, *address, node, &preamble, tuning)?)
    }
}

/// What cuts the lanes of a session when it ends: also those that are opened at that moment.
#[derive(Debug, Default)]
pub(crate) struct Closers(Mutex<Option<Vec<Closer>>>);

impl Closers {
    /// Those of a session that has begun.
    pub(crate) fn new(closers: Vec<Closer>) -> Self {
        Self(Mutex::new(Some(closers)))
    }

    fn add(&self, closer: Closer) {
        match &mut *self.lock() {
            Some(closers) => closers.push(closer),
            None => closer.shutdown(),
        }
    }

    /// Cuts all, now and later.
    pub(crate) fn shutdown(&self) {
        self.lock().take().iter().flatten().for_each(Closer::shutdown);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Closer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread that opens lanes has.
#[derive(Debug)]
pub(crate) struct Lanes {
    pub(crate) opener: Opener,
    pub(crate) closers: Arc<Closers>,
    /// How many there are to be.
    pub(crate) wanted: mpsc::Receiver<usize>,
    pub(crate) events: mpsc::SyncSender<Event>,
    pub(crate) bell: Arc<Bell>,
}

/// Opens lanes as they are wanted, until nobody can want any more.
pub(crate) fn open(shared: &Arc<Shared>, lanes: Lanes) -> Result<()> {
    let Lanes { opener, closers, wanted, events, bell } = lanes;
    let mut threads = Vec::new();
    while let Ok(count) = wanted.recv() {
        while threads.len() + 1 < count {
            match opener.open(Purpose::Join, Lane::Calls) {
                Ok(channel) => {
                    closers.add(channel.closer());
                    threads.push(start("calls", shared, &events, &bell, channel, |shared, channel| {
                        serve::calls(shared, channel)
                    }));
                }
                Err(error) => {
                    // The main thread has gone if nobody receives it.
                    let _ = events.send(Event::Homeward(format!("no lane for a thread: {}", chain(&error))));
                    bell.ring();
                    break;
                }
            }
        }
    }
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread that serves calls for {} panicked", opener.node);
        }
    }
    Ok(())
}
