//! The preamble: what a connecting node says in clear, before anything is encrypted.
//!
//! ```text
//!  0          6         8             24        25     26        30         32
//! ┌──────────┬─────────┬─────────────┬─────────┬──────┬─────────┬──────────┐ then the TLS handshake; on a further
//! │ "MINKA"0 │ version │ session     │ purpose │ lane │ number  │ reserved │ channel of a session the same once
//! └──────────┴─────────┴─────────────┴─────────┴──────┴─────────┴──────────┘ more, encrypted
//!   6 bytes    u16 LE    16 bytes      u8       u8     u32 LE    zeros
//! ```
//!
//! The node daemon reads it to pass the raw connection on to the program that the session belongs to, and so need not
//! end the TLS connection itself. It carries no authority: whoever connects proves who they are in the handshake that
//! follows, and says the same preamble again inside of it. Who opens a further channel proves to know what the first has
//! carried.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian};

/// What every connection between nodes begins with.
pub const MAGIC: [u8; 6] = *b"MINKA\0";

/// The version of the preamble and of what follows it before the first frame.
pub const VERSION: u16 = 2;

/// Bytes in an encoded [`Preamble`].
pub const PREAMBLE_BYTES: usize = 32;

/// Names a session, which is what all channels of one migrated family share. Chosen at random by the opener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl std::fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// What the keys of a session's further channels come from. Chosen at random by the opener, and told inside the first.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSecret(pub [u8; 32]);

impl std::fmt::Debug for SessionSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SessionSecret")
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// It begins a new session.
    Open = 1,
    /// It is a further channel of a session that exists.
    Join = 2,
    /// The daemons agree on keys for their datagrams. The session and the lane mean nothing then.
    Keys = 3,
    /// The daemons compare their lists of nodes. The session and the lane mean nothing then.
    Roster = 4,
    /// A program is started for a user of the other node. The session and the lane mean nothing then.
    Start = 5,
    /// The authority has the node get a new certificate. The session and the lane mean nothing then.
    Renew = 6,
    /// The daemon says what its processor can do. The session and the lane mean nothing then.
    Processor = 7,
}

impl Purpose {
    /// All purposes, in the order of their numbers.
    pub const ALL: [Purpose; 7] = [
        Purpose::Open,
        Purpose::Join,
        Purpose::Keys,
        Purpose::Roster,
        Purpose::Start,
        Purpose::Renew,
        Purpose::Processor,
    ];
}

/// Which of a session's channels a connection is, so that a fault never waits behind a stream of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Arrangements: begin, freeze, go home, end.
    Control = 1,
    /// Forwarded system calls and signals.
    Calls = 2,
    /// Pages that somebody waits for.
    Faults = 3,
    /// Pages and files in bulk, which nobody waits for yet.
    Stream = 4,
}

/// Why bytes are not a preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PreambleError {
    /// Somebody connected who is not a node.
    #[error("recognise a node: a connection would begin with {MAGIC:02x?}, not {found:02x?}")]
    BadMagic {
        /// What stood in place of the magic.
        found: [u8; 6],
    },
    /// The connecting node was built for another version.
    #[error("understand a connection of version {theirs}: this node speaks version {ours}")]
    WrongVersion {
        /// The version of the connecting node.
        theirs: u16,
        /// The version of this build.
        ours: u16,
    },
    /// The purpose is none that this version knows.
    #[error("tell what a connection is for: no purpose has the number {0}")]
    UnknownPurpose(u8),
    /// The lane is none that this version knows.
    #[error("tell which channel a connection is: no lane has the number {0}")]
    UnknownLane(u8),
    /// Bytes that this version leaves zero are not.
    #[error("accept a preamble whose reserved bytes are not zero")]
    Reserved,
}

/// Which session and channel a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The session.
    pub session: SessionId,
    /// Whether the session begins here.
    pub purpose: Purpose,
    /// Which of its channels this is.
    pub lane: Lane,
    /// Tells the further channels of a session apart: no two have the same. Zero for all others.
    pub number: u32,
}

/// The bytes of a preamble, as described at the top of this module.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 6],
    version: little_endian::U16,
    session: [u8; 16],
    purpose: u8,
    lane: u8,
    number: little_endian::U32,
    reserved: [u8; 2],
}

const _: () = assert!(size_of::<Layout>() == PREAMBLE_BYTES);

impl Purpose {
    fn from_number(number: u8) -> Option<Self> {
        Purpose::ALL.into_iter().find(|purpose| *purpose as u8 == number)
    }
}

impl Lane {
    /// All lanes, in the order of their numbers.
    pub const ALL: [Lane; 4] = [Lane::Control, Lane::Calls, Lane::Faults, Lane::Stream];

    fn from_number(number: u8) -> Option<Self> {
        Lane::ALL.into_iter().find(|lane| *lane as u8 == number)
    }
}

impl Preamble {
    /// For a purpose to which the session, the lane and the number mean nothing.
    pub fn without_session(purpose: Purpose) -> Self {
        Preamble { session: SessionId::default(), purpose, lane: Lane::Control, number: 0 }
    }

    /// The bytes to send before anything else.
    pub fn encode(&self) -> [u8; PREAMBLE_BYTES] {
        let layout = Layout {
            magic: MAGIC,
            version: VERSION.into(),
            session: self.session.0,
            purpose: self.purpose as u8,
            lane: self.lane as u8,
            number: self.number.into(),
            reserved: [0; 2],
        };
        zerocopy::transmute!(layout)
    }

    /// Reads what a connection began with.
    pub fn parse(bytes: &[u8; PREAMBLE_BYTES]) -> Result<Self, PreambleError> {
        let layout: &Layout = zerocopy::transmute_ref!(bytes);
        if layout.magic != MAGIC {
            return Err(PreambleError::BadMagic { found: layout.magic });
        }
        if layout.version != VERSION {
            return Err(PreambleError::WrongVersion { theirs: layout.version.get(), ours: VERSION });
        }
        if layout.reserved != [0; 2] {
            return Err(PreambleError::Reserved);
        }
        Ok(Preamble {
            session: SessionId(layout.session),
            purpose: Purpose::from_number(layout.purpose)
                .ok_or(PreambleError::UnknownPurpose(layout.purpose))?,
            lane: Lane::from_number(layout.lane).ok_or(PreambleError::UnknownLane(layout.lane))?,
            number: layout.number.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[rustfmt::skip]
    const GOLDEN: [u8; PREAMBLE_BYTES] = [
        b'M', b'I', b'N', b'K', b'A', 0,
        0x02, 0x00,
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
        0x02,
        0x04,
        0xc0, 0xc1, 0xc2, 0xc3,
        0, 0,
    ];

    fn pinned() -> Preamble {
        Preamble {
            session: SessionId(std::array::from_fn(|index| 0xa0 + index as u8)),
            purpose: Purpose::Join,
            lane: Lane::Stream,
            number: 0xc3c2_c1c0,
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        assert_eq!(pinned().encode(), GOLDEN);
        assert_eq!(Preamble::parse(&GOLDEN), Ok(pinned()));
        assert_eq!(pinned().session.to_string(), "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
    }

    #[test]
    fn all_purposes_and_lanes_survive() {
        for purpose in Purpose::ALL {
            for lane in Lane::ALL {
                let preamble = Preamble { purpose, lane, ..pinned() };
                assert_eq!(Preamble::parse(&preamble.encode()), Ok(preamble));
            }
        }
    }

    #[test]
    fn strangers_are_told_apart() {
        let with = |at: usize, byte: u8| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            Preamble::parse(&bytes)
        };
        assert_eq!(with(5, b' '), Err(PreambleError::BadMagic { found: *b"MINKA " }));
        assert_eq!(with(7, 1), Err(PreambleError::WrongVersion { theirs: 258, ours: 2 }));
        assert_eq!(with(24, 0), Err(PreambleError::UnknownPurpose(0)));
        assert_eq!(with(25, 5), Err(PreambleError::UnknownLane(5)));
        assert_eq!(with(31, 1), Err(PreambleError::Reserved));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes: [u8; PREAMBLE_BYTES]) {
            let _ = Preamble::parse(&bytes);
        }

        #[test]
        fn what_parses_encodes_to_the_same_bytes(mut bytes: [u8; PREAMBLE_BYTES]) {
            bytes[..8].copy_from_slice(&GOLDEN[..8]);
            bytes[30..].fill(0);
            match Preamble::parse(&bytes) {
                Ok(preamble) => prop_assert_eq!(preamble.encode(), bytes),
                Err(error) => prop_assert!(
                    matches!(error, PreambleError::UnknownPurpose(_) | PreambleError::UnknownLane(_))
                ),
            }
        }
    }
}
