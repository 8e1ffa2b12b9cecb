//! A node gets a new key, and a certificate for it by the authority that takes another one's place.
//!
//! ```text
//!  the authority                                    the node
//!                        ◄──────  CURRENT           its certificate is by that authority already; nothing more
//!                        ◄──────  REQUEST           a new key, and the proof that it has it
//!  CERTIFICATE           ──────►                    good, and kept?
//!                        ◄──────  DONE
//! ```
//!
//! Who asks has to be the authority, which no node can have a certificate for. It knows the node by the certificate that is
//! good until then, and has shown it the list that names the authorities before.

use std::io::IoSlice;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use minka_wire::frame::Header;
use minka_wire::preamble::{Preamble, Purpose};

use crate::authority::{AUTHORITY_NAME, NodeKey, NodeRequest};
use crate::channel::{self, Channel};
use crate::credentials::Credentials;
use crate::error::ChannelError;
use crate::keys::NodeKeys;
use crate::socket::Tuning;

const CURRENT: u16 = 0x0710;
const REQUEST: u16 = 0x0711;
const CERTIFICATE: u16 = 0x0712;
const DONE: u16 = 0x0713;

/// No certificate, with the one of its authority by another, is near as long, in bytes.
const CERTIFICATE_BYTES_MAX: usize = 8 << 10;

/// Has a node get a new certificate, unless it has one by this authority; `certify` makes it.
///
/// # Errors
/// When the node cannot be reached or is not who it should be, asks for nothing sensible, or cannot keep the certificate.
pub fn offer_renewal(
    credentials: &Credentials,
    address: SocketAddr,
    node: &str,
    tuning: &Tuning,
    certify: impl FnOnce(&NodeRequest) -> Result<String, Box<dyn std::error::Error + Send + Sync>>,
) -> Result<(), ChannelError> {
    let preamble = Preamble::without_session(Purpose::Renew);
    let mut channel = channel::connect(credentials, address, node, &preamble, tuning)?;
    let (kind, body) = receive(&mut channel, tuning)?;
    let request = match kind {
        CURRENT => return Ok(()),
        REQUEST => NodeRequest::parse(&body),
        _ => None,
    };
    let request = request.ok_or(ChannelError::Protocol("no request for a certificate"))?;
    let certificate = certify(&request).map_err(ChannelError::Renewal)?;
    channel.send(Header::new(CERTIFICATE, 0), &[IoSlice::new(certificate.as_bytes())])?;
    match receive(&mut channel, tuning)? {
        (DONE, _) => Ok(()),
        _ => Err(ChannelError::Protocol("no word that the certificate is kept")),
    }
}

/// Takes over a connection whose preamble says [`Purpose::Renew`]; `keep` stores the new keys. Returns whether there are any.
///
/// # Errors
/// When somebody else than the authority asks, what it sends is of no use, or it cannot be kept.
pub fn answer_renewal(
    credentials: &Credentials,
    stream: TcpStream,
    preamble: &Preamble,
    tuning: &Tuning,
    keep: impl FnOnce(&NodeKeys) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
) -> Result<bool, ChannelError> {
    let mut channel = channel::accept(credentials, stream, preamble, tuning)?;
    if channel.peer() != AUTHORITY_NAME {
        return Err(ChannelError::Protocol("a certificate that is not from the authority"));
    }
    if credentials.is_current() {
        channel.send(Header::new(CURRENT, 0), &[])?;
        return Ok(false);
    }
    let made = |error: crate::KeyError| ChannelError::Renewal(Box::new(error));
    let key = NodeKey::create().map_err(made)?;
    let request = key.request().map_err(made)?.encode();
    channel.send(Header::new(REQUEST, 0), &[IoSlice::new(&request)])?;
    let (CERTIFICATE, body) = receive(&mut channel, tuning)? else {
        return Err(ChannelError::Protocol("something else than a certificate"));
    };
    let certificate = String::from_utf8(body).ok().filter(|it| it.len() <= CERTIFICATE_BYTES_MAX);
    let certificate = certificate.ok_or(ChannelError::Protocol("a certificate that is none"))?;
    let keys = key.certified(credentials.trusted().to_owned(), certificate);
    let new = Credentials::new(&keys).map_err(made)?;
    if new.name() != credentials.name() || !new.is_current() {
        return Err(ChannelError::Protocol("a certificate that is of no use here"));
    }
    keep(&keys).map_err(ChannelError::Renewal)?;
    channel.send(Header::new(DONE, 0), &[])?;
    Ok(true)
}

fn receive(channel: &mut Channel, tuning: &Tuning) -> Result<(u16, Vec<u8>), ChannelError> {
    let mut body = Vec::new();
    let limit = Duration::from_millis(tuning.handshake_ms);
    match channel.recv_timeout(&mut body, Duration::ZERO, limit)? {
        Some(header) => Ok((header.kind, body)),
        None => Err(ChannelError::Slow { limit }),
    }
}
