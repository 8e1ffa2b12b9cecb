//! More lanes for calls: a call that blocks keeps its lane, so there is one for each thread.
//!
//! The first lane is opened before the process is stopped; the others while it computes on at its host.

use crate::fault::{Fault, Result, chain};
use crate::serve;
use crate::session::{Event, Shared, start};
use minka_kernel::process::Bell;
use minka_link::{Channel, Closer, Credentials, NodeConfig, SessionKeys};
use minka_wire::message::{MessageError, kind};
use minka_wire::preamble::{Lane, Preamble, Purpose, SessionId, SessionSecret};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Opens lanes of one session.
#[derive(Debug)]
pub(crate) struct Opener {
    pub(crate) node: String,
    pub(crate) address: SocketAddr,
    pub(crate) session: SessionId,
    tuning: minka_link::Tuning,
    keys: SessionKeys,
    /// The number of the last lane that was opened.
    last: AtomicU32,
}

impl Opener {
    /// Opens a session with a node: its control lane, and what opens the others once the host knows the `secret`.
    pub(crate) fn begin(
        node: &str,
        address: SocketAddr,
        (session, secret): (SessionId, &SessionSecret),
        config: &NodeConfig,
        credentials: &Credentials,
    ) -> Result<(Self, Channel)> {
        let tuning = config.link.clone();
        let preamble = Preamble { session, purpose: Purpose::Open, lane: Lane::Control, number: 0 };
        let control = minka_link::connect(credentials, address, node, &preamble, &tuning)?;
        let keys = SessionKeys::new(&control, secret);
        let opener = Self { node: node.to_owned(), address, session, tuning, keys, last: AtomicU32::new(0) };
        Ok((opener, control))
    }

    /// Opens others, all at the same time.
    pub(crate) fn open<const COUNT: usize>(&self, lanes: [Lane; COUNT]) -> Result<[Channel; COUNT]> {
        let preambles = lanes.map(|lane| {
            let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
            Preamble { session: self.session, purpose: Purpose::Join, lane, number }
        });
        let opened = self.keys.connect(self.address, &preambles, &self.tuning)?;
        opened.try_into().map_err(|_| Fault::Said("fewer lanes than asked for".to_owned()))
    }

    /// Opens one more for calls while the guest is running. It is there when this returns: the end of one that the host never
    /// took must not be taken for the end of the session.
    fn open_one_more(&self) -> Result<Channel> {
        let [mut channel] = self.open([Lane::Calls])?;
        let limit = Duration::from_millis(self.tuning.handshake_ms);
        let taken = channel.recv_timeout(&mut Vec::new(), Duration::ZERO, limit)?;
        let taken = taken.ok_or_else(|| Fault::Said(format!("the host did not take it within {limit:?}")))?;
        match taken.kind {
            kind::TAKEN => Ok(channel),
            found => Err(MessageError::Kind { found, expected: "that the host has taken it" }.into()),
        }
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
            match opener.open_one_more() {
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
