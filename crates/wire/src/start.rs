//! A program that is started on another node as its user's own, because a device that it needs is there: it is no guest,
//! and nothing of it stays at home but its input, its output and its end.
//!
//! ```text
//!   tool               daemon at home              daemon that has the device
//!    │ start ────────────►│ Order ────────────────────►│ may this user? is one free?
//!    │                    │◄─────────────────── Verdict │
//!    │◄─────────── device │                             │
//!    │ Program ──────────►│────────────────────────────►│ starts it
//!    │◄───────────────────│◄────────────────── Beginning│
//!    │ INPUT, SIGNAL ────►│────────────────────────────►│
//!    │◄───────────────────│◄───── OUTPUT, ERRORS, TAKEN │
//!    │◄───────────────────│◄─────────────────────── END │ a status, as shells have it
//! ```
//!
//! So that a signal never waits behind input that nobody reads, no more than [`INPUT_BYTES_MAX`] of input are under way
//! that were not said to be taken; a piece counts as its [`weight`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::local::{DeviceKind, FreeDevice};

/// Who wants a device of which kind: an [`Order`].
pub const ORDER: u16 = 0x0800;
/// Whether there is one: a [`Verdict`].
pub const VERDICT: u16 = 0x0801;
/// What is to be started: a [`Program`].
pub const PROGRAM: u16 = 0x0802;
/// Whether it was: a [`Beginning`].
pub const BEGINNING: u16 = 0x0803;
/// Bytes for its standard input; none: the input ends.
pub const INPUT: u16 = 0x0804;
/// So many bytes of input were taken: a `u32`.
pub const TAKEN: u16 = 0x0805;
/// A signal for it: an `i32`.
pub const SIGNAL: u16 = 0x0806;
/// Bytes of its standard output.
pub const OUTPUT: u16 = 0x0807;
/// Bytes of its standard error.
pub const ERRORS: u16 = 0x0808;
/// It has ended: a `u8`.
pub const END: u16 = 0x0809;

/// So many bytes of input are under way at most.
pub const INPUT_BYTES_MAX: usize = 256 << 10;

/// No piece of input or output is longer.
pub const PIECE_BYTES_MAX: usize = 32 << 10;

/// How much a piece of input counts, in bytes: small ones take room, too.
pub fn weight(bytes: usize) -> usize {
    bytes.max(64)
}

/// Who wants a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The user's name at home.
    pub user: String,
    /// The kind, if that matters.
    pub kind: Option<DeviceKind>,
}

/// Whether they get one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// This one.
    Granted(FreeDevice),
    /// None.
    Refused(Unstarted),
}

/// Why nothing is started for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unstarted {
    /// The node starts nothing for this user of others.
    NotOffered,
    /// The user has no account there.
    NoSuchUser,
    /// Nothing is started for root.
    Root,
    /// No device is free.
    NoDevice,
    /// It has started as much as it may.
    Full,
    /// The node does not answer.
    Silent,
}

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Where.
    pub directory: Vec<u8>,
    /// The program and its arguments.
    pub words: Vec<Vec<u8>>,
    /// Its environment.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Whether it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Beginning {
    /// It was.
    Begun,
    /// It was not.
    Failed {
        /// There is no such program.
        missing: bool,
        /// Why not.
        reason: String,
    },
}

/// A body of these frames as bytes.
pub fn encode(body: &impl Serialize) -> Vec<u8> {
    // Numbers, texts and lists of them always serialise.
    postcard::to_allocvec(body).unwrap_or_default()
}

/// A body of bytes, if they are one.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((body, [])) => Some(body),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_pinned_and_others_are_refused() {
        fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: T, bytes: &[u8]) {
            assert_eq!(encode(&body), bytes);
            assert_eq!(decode::<T>(bytes), Some(body));
            assert_eq!(decode::<T>(&[bytes, &[0]].concat()), None);
            assert_eq!(decode::<T>(&bytes[..bytes.len() - 1]), None);
        }
        check(Order { user: "ana".into(), kind: Some(DeviceKind::Amd) }, b"\x03ana\x01\x02");
        let device = FreeDevice { kind: DeviceKind::Intel, address: "a".into(), uuid: "u".into() };
        check(Verdict::Granted(device), b"\x00\x00\x01a\x01u");
        check(Verdict::Refused(Unstarted::Full), b"\x01\x04");
        let program = Program {
            directory: b"/".to_vec(),
            words: vec![b"ls".to_vec()],
            environment: vec![(b"A".to_vec(), b"b".to_vec())],
        };
        check(program, b"\x01/\x01\x02ls\x01\x01A\x01b");
        check(Beginning::Begun, b"\x00");
        check(Beginning::Failed { missing: true, reason: "x".into() }, b"\x01\x01\x01x");
        check(7_u8, b"\x07");
        check(-2_i32, b"\x03");
        check(300_u32, b"\xac\x02");
    }
}
