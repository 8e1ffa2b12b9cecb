//! The socket under a channel: options, deadlines, and reads that may poll before they block.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::{RecvFlags, SendFlags, sockopt},
};
use serde::Deserialize;
use socket2::{Domain, Socket, Type};

use crate::error::ChannelError;

/// How long to wait for what, and how much the kernel may hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// How long a TCP connection may take to come about, in milliseconds.
    pub connect_ms: u64,
    /// How long preamble and TLS handshake may take together, in milliseconds.
    pub handshake_ms: u64,
    /// After how many milliseconds of silence a peer counts as dead: its kernel answers neither data nor probes.
    ///
    /// The kernel applies the same limit to a peer that lives but does not read ([`TCP_USER_TIMEOUT`, tcp(7)]): whoever
    /// receives must not leave a full channel unread for longer.
    ///
    /// [`TCP_USER_TIMEOUT`, tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub dead_after_ms: u64,
    /// How long the program at the other end, whose kernel answers, may take for its next step, in milliseconds.
    pub answer_ms: u64,
    /// How long a process may stand still while a host builds its guest, in milliseconds: then it goes on at home.
    pub freeze_ms: u64,
    /// Bytes the kernel holds of what was sent and not acknowledged yet. Unset: the kernel adapts it.
    pub send_buffer_bytes: Option<usize>,
    /// Bytes the kernel holds of what was received and not read yet. Unset: the kernel adapts it.
    pub receive_buffer_bytes: Option<usize>,
    /// The congestion control of connections between nodes, by the kernel's name for it (`tcp_congestion_control` in [tcp(7)]), or
    /// `system` for the machine's own. Nodes are near each other, and BBR, which some machines have set for the Internet, takes a timer for
    /// every piece that it sends. Where the kernel does not give what is asked for, it is Reno, which every kernel has.
    ///
    /// [tcp(7)]: https://man7.org/linux/man-pages/man7/tcp.7.html
    pub congestion: String,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            connect_ms: 5_000,
            handshake_ms: 5_000,
            dead_after_ms: 10_000,
            answer_ms: 60_000,
            freeze_ms: 5_000,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            congestion: "cubic".to_owned(),
        }
    }
}

impl Tuning {
    /// Opens a TCP connection to a peer, with these options set.
    pub(crate) fn connect(&self, address: SocketAddr) -> Result<TcpStream, ChannelError> {
        self.begin_to_connect(address)?.finish(self)
    }

    /// Begins to open a TCP connection, so that others can be opened meanwhile.
    pub(crate) fn begin_to_connect(&self, address: SocketAddr) -> Result<Connecting, ChannelError> {
        let begin = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            self.choose_congestion(&socket);
            socket.set_nonblocking(true)?;
            match socket.connect(&address.into()) {
                Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
                _ => Ok(socket),
            }
        };
        let socket = begin().map_err(|source| ChannelError::Reach { address, source })?;
        let until = Instant::now() + Duration::from_millis(self.connect_ms.max(1));
        Ok(Connecting { stream: socket.into(), address, until })
    }

    /// Listens for the connections of other nodes.
    pub fn listen(&self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let listener = TcpListener::bind(address)?;
        // Connections inherit it.
        self.choose_congestion(&listener);
        Ok(listener)
    }

    /// See [`Tuning::congestion`]. To be done before there is a connection: one that BBR has begun keeps its timers.
    fn choose_congestion(&self, socket: impl AsFd) {
        if self.congestion != "system" {
            // Not every user may set every one: then the machine's stays.
            let _ = sockopt::set_tcp_congestion(&socket, &self.congestion)
                .or_else(|_| sockopt::set_tcp_congestion(&socket, "reno"));
        }
    }

    /// Sets the options on a connection.
    pub(crate) fn apply(&self, stream: &TcpStream) -> Result<(), ChannelError> {
        let set = |option, result: Result<(), Errno>| {
            result.map_err(|errno| ChannelError::Option { option, source: errno.into() })
        };
        let dead_after_ms = u32::try_from(self.dead_after_ms).unwrap_or(u32::MAX);
        // Probes start early enough that several go unanswered before the peer counts as dead.
        let probe_every = Duration::from_secs((self.dead_after_ms / 4_000).max(1));
        let probes =
            u32::try_from(self.dead_after_ms.div_ceil(1_000) / probe_every.as_secs()).unwrap_or(u32::MAX);
        set("immediate sending", sockopt::set_tcp_nodelay(stream, true))?;
        set("keep-alive", sockopt::set_socket_keepalive(stream, true))?;
        set("keep-alive start", sockopt::set_tcp_keepidle(stream, probe_every))?;
        set("keep-alive interval", sockopt::set_tcp_keepintvl(stream, probe_every))?;
        set("keep-alive count", sockopt::set_tcp_keepcnt(stream, probes.clamp(1, 127)))?;
        set("user timeout", sockopt::set_tcp_user_timeout(stream, dead_after_ms))?;
        if let Some(bytes) = self.send_buffer_bytes {
            set("send buffer", sockopt::set_socket_send_buffer_size(stream, bytes))?;
        }
        if let Some(bytes) = self.receive_buffer_bytes {
            set("receive buffer", sockopt::set_socket_recv_buffer_size(stream, bytes))?;
        }
        Ok(())
    }

    /// See [`Tuning::answer_ms`].
    pub fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_ms)
    }

    /// See [`Tuning::freeze_ms`].
    pub fn freeze(&self) -> Duration {
        Duration::from_millis(self.freeze_ms)
    }

    /// When a handshake that begins now has to be over.
    pub(crate) fn handshake_deadline(&self) -> Deadline {
        let limit = Duration::from_millis(self.handshake_ms);
        Deadline { at: Instant::now() + limit, limit }
    }
}

/// A TCP connection that is coming about.
#[derive(Debug)]
pub(crate) struct Connecting {
    stream: TcpStream,
    address: SocketAddr,
    until: Instant,
}

impl Connecting {
    /// Waits until it is there, and sets its options.
    pub(crate) fn finish(self, tuning: &Tuning) -> Result<TcpStream, ChannelError> {
        let Self { stream, address, until } = self;
        let reach = |source| ChannelError::Reach { address, source };
        if !wait_for(&stream, PollFlags::OUT, until.saturating_duration_since(Instant::now()))? {
            return Err(reach(io::ErrorKind::TimedOut.into()));
        }
        if let Some(error) = stream.take_error().map_err(reach)? {
            return Err(reach(error));
        }
        stream.set_nonblocking(false).map_err(reach)?;
        tuning.apply(&stream)?;
        Ok(stream)
    }
}

/// The end of a peer's time, and how long that time was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// Reads what there is, waiting for it until the deadline; zero bytes at the end of the stream.
    pub(crate) fn read(&self, stream: &TcpStream, buffer: &mut [u8]) -> Result<usize, ChannelError> {
        loop {
            match recv_now(stream, buffer)? {
                Some(count) => return Ok(count),
                None => self.wait(stream, PollFlags::IN)?,
            }
        }
    }

    /// Reads all that there is room for before the deadline, and not a byte more.
    pub(crate) fn fill(&self, stream: &TcpStream, buffer: &mut [u8]) -> Result<(), ChannelError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read(stream, rest)? {
                0 => return Err(ChannelError::Dropped),
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Writes everything before the deadline.
    pub(crate) fn write_all(&self, stream: &TcpStream, mut bytes: &[u8]) -> Result<(), ChannelError> {
        while !bytes.is_empty() {
            match rustix::net::send(stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(stream, PollFlags::OUT)?,
                Err(errno) => return Err(ChannelError::from_write(errno)),
            }
        }
        Ok(())
    }

    fn wait(&self, stream: &TcpStream, events: PollFlags) -> Result<(), ChannelError> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait_for(stream, events, left)? {
            return Err(ChannelError::Slow { limit: self.limit });
        }
        Ok(())
    }
}

/// Waits until the socket is ready, or returns false after `limit`.
pub(crate) fn wait_for(stream: &TcpStream, events: PollFlags, limit: Duration) -> Result<bool, ChannelError> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        match rustix::event::poll(&mut [PollFd::from_borrowed_fd(stream.as_fd(), events)], timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(ChannelError::from_read(errno)),
        }
    }
}

/// Reads what there is at this moment; `None` if that is nothing.
pub(crate) fn recv_now(stream: &TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, ChannelError> {
    recv(stream, buffer, RecvFlags::DONTWAIT)
}

/// Reads what there is, and sleeps until there is something; zero bytes at the end of the stream.
pub(crate) fn recv_blocking(stream: &TcpStream, buffer: &mut [u8]) -> Result<usize, ChannelError> {
    loop {
        if let Some(count) = recv(stream, buffer, RecvFlags::empty())? {
            return Ok(count);
        }
    }
}

/// Polls for `spin`; `None` if nothing came.
pub(crate) fn recv_polling(
    stream: &TcpStream,
    buffer: &mut [u8],
    spin: Duration,
) -> Result<Option<usize>, ChannelError> {
    let begin = Instant::now();
    loop {
        if let Some(count) = recv_now(stream, buffer)? {
            return Ok(Some(count));
        }
        if begin.elapsed() >= spin {
            return Ok(None);
        }
        // Whoever is to send the answer may need this very processor.
        std::thread::yield_now();
    }
}

/// Sends everything, and sleeps while the kernel's buffer is full.
pub(crate) fn send_all(stream: &TcpStream, mut bytes: &[u8]) -> Result<(), ChannelError> {
    while !bytes.is_empty() {
        match rustix::net::send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(ChannelError::from_write(errno)),
        }
    }
    Ok(())
}

fn recv(stream: &TcpStream, buffer: &mut [u8], flags: RecvFlags) -> Result<Option<usize>, ChannelError> {
    loop {
        match rustix::net::recv(stream, &mut *buffer, flags) {
            Ok((count, _)) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(ChannelError::from_read(errno)),
        }
    }
}
