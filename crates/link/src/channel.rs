//! Channels: how they are made, and the parts that threads share.

use std::{
    net::{Shutdown, SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::aead;
use minka_wire::{
    frame::Header,
    preamble::{PREAMBLE_BYTES, Preamble, Purpose},
};

use crate::{
    credentials::Credentials,
    error::ChannelError,
    handshake::{self, Agreement, KeySchedule},
    receiver::Receiver,
    record::Protection,
    sender::Sender,
    socket::Tuning,
};

/// Reads what a peer that connected says first. Not a byte more is taken from the socket, so that the connection can be
/// passed on to another program, which calls [`accept`].
pub fn read_preamble(stream: &TcpStream, tuning: &Tuning) -> Result<Preamble, ChannelError> {
    let deadline = tuning.handshake_deadline();
    let mut bytes = [0; PREAMBLE_BYTES];
    deadline.fill(stream, &mut bytes)?;
    Preamble::parse(&bytes).map_err(ChannelError::Preamble)
}

/// Connects to the node `peer`, and returns once both have proved who they are.
pub fn connect(
    credentials: &Credentials,
    address: SocketAddr,
    peer: &str,
    preamble: &Preamble,
    tuning: &Tuning,
) -> Result<Channel, ChannelError> {
    let stream = tuning.connect(address)?;
    let deadline = tuning.handshake_deadline();
    let agreement = handshake::connect(credentials, &stream, peer, preamble, deadline)?;
    Ok(Channel::new(stream, agreement))
}

/// Takes over a connection whose `preamble` has been read, and returns once both ends have proved who they are.
///
/// Any node of the cluster is accepted; whether [`Channel::peer`] may have what it asks for is for the caller to say.
pub fn accept(
    credentials: &Credentials,
    stream: TcpStream,
    preamble: &Preamble,
    tuning: &Tuning,
) -> Result<Channel, ChannelError> {
    tuning.apply(&stream)?;
    let deadline = tuning.handshake_deadline();
    let agreement = handshake::accept(credentials, &stream, preamble, deadline)?;
    Ok(Channel::new(stream, agreement))
}

/// Opens a channel with this very program, for one that waits: a first handshake takes half as long again as others, for the
/// pages of code and memory that have not been used before.
///
/// # Errors
/// When these credentials are of no use.
pub fn rehearse(credentials: &Credentials) -> Result<(), ChannelError> {
    let preamble = Preamble::without_session(Purpose::Open);
    let (one, other) = UnixStream::pair().map_err(ChannelError::Read)?;
    let [one, other] = [one, other].map(|stream| TcpStream::from(OwnedFd::from(stream)));
    let deadline = Tuning::default().handshake_deadline();
    std::thread::scope(|scope| {
        // Whichever gives up closes its end, and the other does not wait.
        let accepting = scope.spawn(move || {
            // The preamble is read by another program in earnest.
            deadline.fill(&other, &mut [0; PREAMBLE_BYTES])?;
            handshake::accept(credentials, &other, &preamble, deadline).map(drop)
        });
        let connected = handshake::connect(credentials, &one, credentials.name(), &preamble, deadline);
        drop(one);
        let accepted = accepting.join().unwrap_or(Err(ChannelError::Closed));
        connected.map(drop).and(accepted)
    })
}

/// A connection between two nodes that have proved who they are, and on which they exchange frames.
#[derive(Debug)]
pub struct Channel {
    sender: Sender,
    receiver: Receiver,
    peer: Box<str>,
    resumed: bool,
    cipher: &'static aead::Algorithm,
}

impl Channel {
    pub(crate) fn new(stream: TcpStream, agreement: Agreement) -> Self {
        let Agreement { peer, sending, receiving, keys, incoming, resumed } = agreement;
        let shared = Arc::new(Shared {
            stream,
            keys: Mutex::new(keys),
            rekey_asked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        Channel {
            cipher: sending.algorithm(),
            sender: Sender::new(shared.clone(), sending),
            receiver: Receiver::new(shared, receiving, &incoming),
            peer,
            resumed,
        }
    }

    /// What both ends encrypt with.
    pub(crate) fn cipher(&self) -> &'static aead::Algorithm {
        self.cipher
    }

    /// The name of the node at the other end, from its certificate.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Whether no certificates were shown, because of an earlier channel to the same peer.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Cuts the channel into its directions, each for a thread of its own.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// A handle with which any thread can end the channel.
    pub fn closer(&self) -> Closer {
        self.sender.closer()
    }

    /// See [`Sender::send_awaited`].
    pub fn send_awaited(
        &mut self,
        header: Header,
        body: &[std::io::IoSlice<'_>],
    ) -> Result<(), ChannelError> {
        self.sender.send_awaited(header, body)
    }

    /// See [`Sender::send`].
    pub fn send(&mut self, header: Header, body: &[std::io::IoSlice<'_>]) -> Result<(), ChannelError> {
        self.sender.send(header, body)
    }

    /// See [`Sender::queue`]; [`Channel::send`] sends it along.
    pub fn queue(&mut self, header: Header, body: &[std::io::IoSlice<'_>]) -> Result<(), ChannelError> {
        self.sender.queue(header, body)
    }

    /// See [`Receiver::recv_into`].
    pub fn recv_into(&mut self, area: &mut [u8], spin: Duration) -> Result<Header, ChannelError> {
        self.receiver.recv_into(area, spin)
    }

    /// See [`Receiver::recv`].
    pub fn recv(&mut self, body: &mut Vec<u8>, spin: Duration) -> Result<Header, ChannelError> {
        self.receiver.recv(body, spin)
    }

    /// See [`Receiver::recv_with`].
    pub fn recv_with(
        &mut self,
        body: &mut Vec<u8>,
        spin: Duration,
        progress: impl FnMut(&Header, &[u8]),
    ) -> Result<Header, ChannelError> {
        self.receiver.recv_with(body, spin, progress)
    }

    /// See [`Receiver::try_recv`].
    pub fn try_recv(&mut self, body: &mut Vec<u8>) -> Result<Option<Header>, ChannelError> {
        self.receiver.try_recv(body)
    }

    /// See [`Receiver::recv_timeout`].
    pub fn recv_timeout(
        &mut self,
        body: &mut Vec<u8>,
        spin: Duration,
        limit: Duration,
    ) -> Result<Option<Header>, ChannelError> {
        self.receiver.recv_timeout(body, spin, limit)
    }

    /// See [`Sender::close`].
    pub fn close(self) -> Result<(), ChannelError> {
        self.sender.close()
    }
}

/// Ends a channel from any thread, without waiting for those that use it.
#[derive(Clone, Debug)]
pub struct Closer {
    shared: Arc<Shared>,
}

impl Closer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Closer { shared }
    }

    /// Makes every use of the channel fail with [`ChannelError::Closed`], also those that are blocked at present. The peer
    /// sees a connection that was cut; to say goodbye is up to [`Sender::close`].
    pub fn shutdown(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.cut();
    }
}

/// What both directions of a channel need.
pub(crate) struct Shared {
    pub(crate) stream: TcpStream,
    keys: Mutex<KeySchedule>,
    /// The peer wants this end to change the keys it sends with.
    rekey_asked: AtomicBool,
    closed: AtomicBool,
}

impl Shared {
    /// Fails if this end has been shut down.
    pub(crate) fn check_open(&self) -> Result<(), ChannelError> {
        if self.closed.load(Ordering::Acquire) { Err(ChannelError::Closed) } else { Ok(()) }
    }

    /// What went wrong, seen by someone who knows whether this end was shut down: then that is the reason.
    pub(crate) fn explain(&self, error: ChannelError) -> ChannelError {
        self.check_open().err().unwrap_or(error)
    }

    /// Ends the connection under both directions.
    pub(crate) fn cut(&self) {
        // Fails only if the connection is gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(crate) fn ask_for_rekey(&self) {
        self.rekey_asked.store(true, Ordering::Release);
    }

    pub(crate) fn take_rekey_request(&self) -> bool {
        self.rekey_asked.load(Ordering::Acquire) && self.rekey_asked.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn next_sending(&self) -> Result<Protection, ChannelError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.next_sending()
    }

    pub(crate) fn next_receiving(&self) -> Result<Protection, ChannelError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.next_receiving()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("stream", &self.stream)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Two ends of a channel, for tests in this crate.
#[cfg(test)]
pub(crate) fn pair() -> (Channel, Channel) {
    let authority = crate::Authority::create().unwrap();
    let [a, b] = ["a", "b"].map(|name| Credentials::new(&authority.issue(name).unwrap()).unwrap());
    meet(&a, &b).unwrap()
}

/// What becomes of one node's connecting to another.
#[cfg(test)]
pub(crate) fn meet(one: &Credentials, other: &Credentials) -> Result<(Channel, Channel), ChannelError> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (preamble, tuning) = (Preamble::without_session(Purpose::Open), Tuning::default());
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| {
            let stream = listener.accept().unwrap().0;
            let preamble = read_preamble(&stream, &tuning).unwrap();
            accept(other, stream, &preamble, &tuning)
        });
        let connected = connect(one, address, other.name(), &preamble, &tuning);
        let accepted = accepting.join().unwrap();
        Ok((connected?, accepted?))
    })
}

/// Two ends of a further channel.
#[cfg(test)]
pub(crate) fn further_pair(a: &Channel, b: &Channel) -> (Channel, Channel) {
    use crate::further::SessionKeys;
    use minka_wire::preamble::{Lane, SessionId, SessionSecret};
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let tuning = Tuning::default();
    let preamble =
        Preamble { session: SessionId([0; 16]), purpose: Purpose::Join, lane: Lane::Calls, number: 1 };
    let [a, b] = [a, b].map(|first| SessionKeys::new(first, &SessionSecret([3; 32])));
    let mut connected = a.connect(listener.local_addr().unwrap(), &[preamble], &tuning).unwrap();
    let stream = listener.accept().unwrap().0;
    let preamble = read_preamble(&stream, &tuning).unwrap();
    (connected.remove(0), b.accept(stream, &preamble, &tuning).unwrap())
}
