//! What is said to the authority's service and by it: one line of JSON each way, over TLS.

use std::io::{self, Read, Write};

use minka_link::NodeRequest;
use minka_link::roster::ROSTER_BYTES_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::token::Shown;

/// The version of these messages.
pub const VERSION: u32 = 1;

/// No request is longer, in bytes.
pub(crate) const REQUEST_BYTES_MAX: usize = 8 << 10;

/// No answer is longer: it has a list of nodes in it, whose lines may be written with marks before their quotes.
pub(crate) const ANSWER_BYTES_MAX: usize = 2 * ROSTER_BYTES_MAX;

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    pub(crate) version: u32,
    pub(crate) ask: Ask,
}

/// What is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    /// To become a node. The only thing that may be asked without a certificate.
    Join {
        token: Shown,
        name: String,
        /// Where others reach it; without, where it asks from.
        address: Option<std::net::IpAddr>,
        /// And in other networks.
        #[serde(default)]
        others: Vec<std::net::IpAddr>,
        port: u16,
        request: NodeRequest,
    },
    /// For a new certificate, for another key.
    Renew { request: NodeRequest, refuse_old: bool },
    /// For nothing: to show that the node has the certificate which it was given.
    Confirm,
    /// To be a node no more.
    Leave,
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// What a node gets.
    Admitted { authority: String, certificate: String, list: String },
    /// It is done.
    Done,
    /// It is not, for this reason.
    Refused { reason: String },
}

/// Reads a line of at most so many bytes.
pub(crate) fn read_line<T: DeserializeOwned>(stream: &mut impl Read, max: usize) -> io::Result<T> {
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = piece[..count].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&piece[..end.unwrap_or(count)]);
        if line.len() > max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
        }
        if end.is_some() {
            return serde_json::from_slice(&line).map_err(io::Error::from);
        }
    }
}

/// Writes a line.
pub(crate) fn write_line<T: Serialize>(stream: &mut impl Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_within_limits() {
        let read = |bytes: &[u8]| read_line::<u32>(&mut &*bytes, 8);
        assert_eq!(read(b"7\nrest").unwrap(), 7);
        for wrong in [&b""[..], b"7", b"x\n", b"\n", b"123456789\n", &[b'1'; 10_000]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
