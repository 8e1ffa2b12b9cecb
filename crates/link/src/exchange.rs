//! Lists of nodes, compared between two nodes: each ends up with the newer one.
//!
//! ```text
//!  connecting node                 accepting node
//!  the text of its list   ──────►  newer than its own: it takes it, and answers nothing
//!                         ◄──────  older: the text of its own
//! ```
//!
//! Either may have nothing to show. What a text is worth follows from its signature alone, see [`crate::roster`].

use std::io::IoSlice;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use minka_wire::frame::Header;
use minka_wire::preamble::{Preamble, Purpose};

use crate::channel::{self, Channel};
use crate::credentials::Credentials;
use crate::error::ChannelError;
use crate::socket::Tuning;

/// The kind of the frames in which texts travel.
const ROSTER_FRAME: u16 = 0x0701;

/// Shows the own list to a node; returns what it has to show, which is nothing if that is older or the same.
///
/// # Errors
/// When the node cannot be reached or is not who it should be.
pub fn exchange_rosters(
    credentials: &Credentials,
    address: SocketAddr,
    peer: &str,
    own: &str,
    tuning: &Tuning,
) -> Result<String, ChannelError> {
    let preamble = Preamble::without_session(Purpose::Roster);
    let mut channel = channel::connect(credentials, address, peer, &preamble, tuning)?;
    channel.send(Header::new(ROSTER_FRAME, 0), &[IoSlice::new(own.as_bytes())])?;
    let theirs = receive(&mut channel, tuning)?;
    // The other end is done with it as well.
    let _ = channel.close();
    Ok(theirs)
}

/// Takes over a connection whose preamble says [`Purpose::Roster`]: `answer` is told who shows what, and returns what that
/// one is to be shown.
///
/// # Errors
/// When the peer is not of the cluster or sends something else.
pub fn answer_roster(
    credentials: &Credentials,
    stream: TcpStream,
    preamble: &Preamble,
    tuning: &Tuning,
    answer: impl FnOnce(&str, &str) -> String,
) -> Result<(), ChannelError> {
    let mut channel = channel::accept(credentials, stream, preamble, tuning)?;
    let theirs = receive(&mut channel, tuning)?;
    let ours = answer(channel.peer(), &theirs);
    channel.send(Header::new(ROSTER_FRAME, 0), &[IoSlice::new(ours.as_bytes())])
}

fn receive(channel: &mut Channel, tuning: &Tuning) -> Result<String, ChannelError> {
    let mut body = Vec::new();
    let limit = Duration::from_millis(tuning.handshake_ms);
    match channel.recv_timeout(&mut body, Duration::ZERO, limit)? {
        Some(header) if header.kind == ROSTER_FRAME => {
            String::from_utf8(body).map_err(|_| ChannelError::Protocol("a list of nodes that is no text"))
        }
        Some(_) => Err(ChannelError::Protocol("something else than a list of nodes")),
        None => Err(ChannelError::Slow { limit }),
    }
}
