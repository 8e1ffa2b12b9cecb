//! Further lanes of a session, and who may open them.

use crate::fault::{Fault, Result, chain};
use minka_link::{Channel, SessionKeys, Tuning};
use minka_wire::preamble::{Lane, PREAMBLE_BYTES, Preamble, Purpose, SessionId};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What further lanes are checked with.
#[derive(Debug)]
pub(crate) struct Joining {
    session: SessionId,
    keys: SessionKeys,
    tuning: Tuning,
    /// Those that have not proved yet who they are.
    knocking: AtomicUsize,
    /// Lanes for calls that were taken in.
    calls: AtomicUsize,
}

/// So many may try to join at the same time: whoever has seen the name of a session can.
const KNOCKING_MAX: usize = 16;

/// How long one may take to prove who it is: it says that together with what the daemon has read of it.
const PROOF_MS: u64 = 1_000;

/// One that has not proved yet who it is.
pub(crate) struct Knock(Arc<Joining>);

impl Knock {
    /// See [`Joining::accept`].
    pub(crate) fn accept(self, preamble: Vec<u8>, stream: TcpStream) -> Result<(Lane, Channel)> {
        self.0.accept(preamble, stream)
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        self.0.knocking.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Joining {
    pub(crate) fn new(session: SessionId, keys: SessionKeys, tuning: &Tuning) -> Self {
        let handshake_ms = tuning.handshake_ms.min(PROOF_MS);
        let tuning = Tuning { handshake_ms, ..tuning.clone() };
        Self { session, keys, tuning, knocking: AtomicUsize::new(0), calls: AtomicUsize::new(1) }
    }

    /// Lets one more try, if there are not too many that do.
    pub(crate) fn knock(self: &Arc<Self>) -> Option<Knock> {
        let before = self.knocking.fetch_add(1, Ordering::Relaxed);
        let knock = Knock(Arc::clone(self));
        (before < KNOCKING_MAX).then_some(knock)
    }

    /// Whether one more lane for calls is taken in.
    pub(crate) fn has_room(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) <= minka_kernel::ring::SLOTS_MAX
    }

    /// Takes in a connection that the daemon has passed on, if it comes from the home.
    pub(crate) fn accept(&self, preamble: Vec<u8>, stream: TcpStream) -> Result<(Lane, Channel)> {
        let preamble = parse(preamble)?;
        if (preamble.session, preamble.purpose) != (self.session, Purpose::Join) {
            return Err(Fault::Said("the daemon passed on a connection of another session".to_owned()));
        }
        Ok((preamble.lane, self.keys.accept(stream, &preamble, &self.tuning)?))
    }
}

/// What a connection began with.
pub(crate) fn parse(preamble: Vec<u8>) -> Result<Preamble> {
    let bytes: [u8; PREAMBLE_BYTES] =
        preamble.try_into().map_err(|_| Fault::Said("the daemon passed on half a preamble".to_owned()))?;
    Preamble::parse(&bytes).map_err(|error| Fault::Said(chain(&error)))
}
