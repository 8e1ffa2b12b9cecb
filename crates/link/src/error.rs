//! What can go wrong on a channel. Every message reads well after "failed to".

use std::{io, net::SocketAddr, time::Duration};

use minka_wire::{frame::FrameError, preamble::PreambleError};
use thiserror::Error;

/// Why a channel could not be made, or can no longer be used.
///
/// A channel on which something failed cannot be used further, with one exception: a frame that is too long is refused
/// with [`ChannelError::Frame`] before anything of it is sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// No TCP connection came about.
    #[error("reach {address}")]
    Reach {
        /// Where the peer should listen.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// The kernel refused a socket option.
    #[error("set the {option} of a socket")]
    Option {
        /// Which one.
        option: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// The peer name is none that a certificate could carry.
    #[error("take {name:?} for the name of a node: it must be lower-case letters, digits and inner hyphens")]
    Name {
        /// The name.
        name: String,
    },
    /// The peer took too long over its preamble or the TLS handshake.
    #[error("come to terms with the peer within {limit:?}")]
    Slow {
        /// How long it was given.
        limit: Duration,
    },
    /// The connection began with something other than a node's preamble.
    #[error("read the preamble of a connection")]
    Preamble(#[source] PreambleError),
    /// The preamble said in clear and the one said inside TLS differ: somebody between the nodes changed it.
    #[error("confirm the preamble: inside TLS the peer says another one than in clear")]
    PreambleChanged,
    /// The TLS handshake failed: not TLS, a wrong version, a certificate that is missing, or of another cluster or node.
    #[error("agree with the peer on keys")]
    Handshake(#[source] rustls::Error),
    /// The certificate is of the cluster, but good no more.
    #[error(
        "accept {peer}: its certificate is refused, as that of a node that was removed or has a newer one"
    )]
    Removed {
        /// The node that it is for.
        peer: String,
    },
    /// The certificate is of the cluster but names no node.
    #[error("find the name of a node in the certificate of the peer")]
    Nameless,
    /// This end was shut down by [`crate::Closer::shutdown`], or receiving failed before.
    #[error("go on: this end of the channel is closed")]
    Closed,
    /// The peer said goodbye. Nothing is lost: all it sent before has been received.
    #[error("go on: the peer has closed the channel")]
    PeerClosed,
    /// The connection ended without a goodbye: the peer's program died, or somebody cut the connection.
    #[error("go on: the connection to the peer was cut")]
    Dropped,
    /// The connection ended in the middle of a frame or of a TLS record.
    #[error("receive a whole frame: the connection was cut after {received} of its bytes")]
    Truncated {
        /// Bytes of the frame that had arrived, header included.
        received: usize,
    },
    /// Nothing came back from the peer for as long as [`crate::Tuning::dead_after_ms`] allows.
    #[error("hear from the peer: its machine or the network is down")]
    Silent,
    /// Reading from the socket failed in another way.
    #[error("read from the peer")]
    Read(#[source] io::Error),
    /// Writing to the socket failed in another way.
    #[error("write to the peer")]
    Write(#[source] io::Error),
    /// A record was forged or damaged on its way.
    #[error("decrypt what came from the peer")]
    Forged,
    /// The peer broke off with a TLS alert, whose number RFC 8446 (section 6) explains.
    #[error("go on: the peer gave up with TLS alert {0}")]
    Alert(u8),
    /// What came is properly encrypted, but no TLS 1.3 that a node would speak.
    #[error("follow the peer: it sent {0}")]
    Protocol(&'static str),
    /// A frame is malformed, or the one to be sent is too long. In the latter case the channel remains usable.
    #[error("handle a frame")]
    Frame(#[from] FrameError),
    /// A node's certificate could not be renewed.
    #[error("renew the certificate of a node")]
    Renewal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The keys could not be used.
    #[error("use the keys of the channel")]
    Keys(#[source] rustls::Error),
}

impl ChannelError {
    /// Tells apart what the kernel reports on reading.
    pub(crate) fn from_read(errno: rustix::io::Errno) -> Self {
        Self::from_errno(errno).unwrap_or_else(|| ChannelError::Read(errno.into()))
    }

    /// Tells apart what the kernel reports on writing.
    pub(crate) fn from_write(errno: rustix::io::Errno) -> Self {
        Self::from_errno(errno).unwrap_or_else(|| ChannelError::Write(errno.into()))
    }

    fn from_errno(errno: rustix::io::Errno) -> Option<Self> {
        use rustix::io::Errno;
        match errno {
            Errno::CONNRESET | Errno::PIPE => Some(ChannelError::Dropped),
            Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => Some(ChannelError::Silent),
            _ => None,
        }
    }
}
