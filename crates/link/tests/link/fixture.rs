//! Two nodes of one cluster, and a connection between them.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use minka_link::{Authority, Channel, ChannelError, Credentials, Tuning};
use minka_wire::preamble::{Lane, Preamble, Purpose, SessionId};

pub(crate) const PREAMBLE: Preamble =
    Preamble { session: SessionId([7; 16]), purpose: Purpose::Open, lane: Lane::Control };

/// Patience enough for a busy machine, and not too much for a test that waits for its end.
pub(crate) fn tuning() -> Tuning {
    Tuning { connect_ms: 2_000, handshake_ms: 10_000, ..Tuning::default() }
}

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
        Pair { a: credentials(&authority, "a"), b: credentials(&authority, "b"), tuning: tuning() }
    }

    /// Connects "a" to what it takes for "b"; both ends' results.
    pub(crate) fn try_connect(&self) -> (Result<Channel, ChannelError>, Result<Channel, ChannelError>) {
        let (listener, address) = listen();
        thread::scope(|scope| {
            let b = scope.spawn(|| accept(&self.b, &listener.accept().unwrap().0, &self.tuning));
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
pub(crate) fn accept(
    credentials: &Credentials,
    stream: &TcpStream,
    tuning: &Tuning,
) -> Result<Channel, ChannelError> {
    let preamble = minka_link::read_preamble(stream, tuning)?;
    minka_link::accept(credentials, stream.try_clone().unwrap(), &preamble, tuning)
}

/// No polling: the thread sleeps.
pub(crate) const NO_SPIN: Duration = Duration::ZERO;
