//! Two nodes of one cluster, and a connection between them.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use minka_link::{Authority, Channel, ChannelError, Credentials, Tuning};
use minka_wire::preamble::{Lane, Preamble, Purpose, SessionId};

/// No polling: the thread sleeps.
pub(crate) const NO_SPIN: Duration = Duration::ZERO;

pub(crate) const PREAMBLE: Preamble =
    Preamble { session: SessionId([7; 16]), purpose: Purpose::Roster, lane: Lane::Control, number: 0 };

pub(crate) type Outcome = Result<Channel, ChannelError>;

/// Credentials of the node with this name in the cluster of `authority`.
pub(crate) fn credentials(authority: &Authority, name: &str) -> Credentials {
    Credentials::new(&authority.issue(name).unwrap()).unwrap()
}

/// Node "a", which connects, and node "b", which listens.
pub(crate) struct Pair {
    pub(crate) a: Credentials,
    pub(crate) b: Credentials,
    pub(crate) tuning: Tuning,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let authority = Authority::create().unwrap();
        Pair::of(credentials(&authority, "a"), credentials(&authority, "b"))
    }

    pub(crate) fn of(a: Credentials, b: Credentials) -> Self {
        // Patience enough for a busy machine.
        Pair { a, b, tuning: Tuning { handshake_ms: 20_000, ..Tuning::default() } }
    }

    /// Connects "a" to what it takes for "b", and returns what both make of it.
    pub(crate) fn try_connect(&self) -> (Outcome, Outcome) {
        self.try_connect_by(|address| address)
    }

    /// Connects "a" to "b" by another address than where "b" listens.
    pub(crate) fn try_connect_by(&self, detour: impl FnOnce(SocketAddr) -> SocketAddr) -> (Outcome, Outcome) {
        let (listener, address) = listen();
        let address = detour(address);
        thread::scope(|scope| {
            let b = scope.spawn(|| accept(&self.b, listener.accept().unwrap().0, &self.tuning));
            let a = minka_link::connect(&self.a, address, "b", &PREAMBLE, &self.tuning);
            (a, b.join().unwrap())
        })
    }

    /// Connects "a" to "b".
    pub(crate) fn connect(&self) -> (Channel, Channel) {
        let (a, b) = self.try_connect();
        (a.unwrap(), b.unwrap())
    }
}

pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Does what the node daemon and a session's program do with a new connection.
pub(crate) fn accept(credentials: &Credentials, stream: TcpStream, tuning: &Tuning) -> Outcome {
    let preamble = minka_link::read_preamble(&stream, tuning)?;
    minka_link::accept(credentials, stream, &preamble, tuning)
}
