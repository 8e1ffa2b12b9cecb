//! Frames: how messages are cut out of a byte stream.
//!
//! ```text
//!  0        4         6      8       12       16              24
//! ┌────────┬─────────┬──────┬───────┬────────┬───────────────┬── … ──┐
//! │ magic  │ version │ kind │ flags │ length │ correlation   │ body  │
//! └────────┴─────────┴──────┴───────┴────────┴───────────────┴── … ──┘
//!   "MKFR"   u16       u16    u32     u32      u64             length bytes
//! ```
//!
//! All numbers are little-endian. The top bit of the kind tells the class of the message, and the class bounds the
//! body, so that a receiver knows how much it may have to hold before it knows what the message means.
//! What the kinds and flags stand for is the business of the message types; a kind nobody knows parses well here.

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian};

/// What every frame begins with.
pub const MAGIC: [u8; 4] = *b"MKFR";

/// The version of the frame layout and of the messages in the frames that this build speaks.
pub const VERSION: u16 = 1;

/// Bytes in an encoded [`Header`].
pub const HEADER_BYTES: usize = 24;

/// Set in the kinds of messages that carry memory or file contents.
pub const BULK_KIND: u16 = 0x8000;

/// The longest body of a control message, in bytes: registers, maps and arguments fit with room to spare.
pub const CONTROL_BODY_BYTES_MAX: u32 = 1 << 20;

/// The longest body of a bulk message, in bytes: 16 MiB of contents, and 64 KiB to describe them.
pub const BULK_BODY_BYTES_MAX: u32 = (16 << 20) + (64 << 10);

/// Why bytes are not the header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The bytes do not start with [`MAGIC`]: the two ends lost step, or the peer speaks something else.
    #[error("find a frame: it would begin with {MAGIC:02x?}, not {found:02x?}")]
    BadMagic {
        /// What stood in place of the magic.
        found: [u8; 4],
    },
    /// The peer was built for another version of the protocol.
    #[error("understand a frame of version {theirs}: this node speaks version {ours}")]
    WrongVersion {
        /// The version in the frame.
        theirs: u16,
        /// The version of this build.
        ours: u16,
    },
    /// The body is longer than its class of messages allows.
    #[error("accept a body of {length} bytes: messages of kind {kind:#06x} hold at most {limit}")]
    TooLong {
        /// The kind of the message.
        kind: u16,
        /// Bytes that the body has, or should have.
        length: u64,
        /// Bytes that it may have.
        limit: u32,
    },
}

/// The longest body that a message of this kind may have, in bytes.
pub const fn body_bytes_max(kind: u16) -> u32 {
    if kind & BULK_KIND != 0 { BULK_BODY_BYTES_MAX } else { CONTROL_BODY_BYTES_MAX }
}

/// What precedes the body of every message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Which message the body is; see [`BULK_KIND`] for its top bit.
    pub kind: u16,
    /// Bits whose meaning depends on the kind.
    pub flags: u32,
    /// Bytes in the body.
    pub length: u32,
    /// Ties an answer to its question; zero where nothing has to be tied.
    pub correlation: u64,
}

/// The bytes of a header, as described at the top of this module.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 4],
    version: little_endian::U16,
    kind: little_endian::U16,
    flags: little_endian::U32,
    length: little_endian::U32,
    correlation: little_endian::U64,
}

const _: () = assert!(size_of::<Layout>() == HEADER_BYTES);

impl Header {
    /// A header for a message without flags whose body is not known yet.
    pub const fn new(kind: u16, correlation: u64) -> Self {
        Header { kind, flags: 0, length: 0, correlation }
    }

    /// The same header for a body of `length` bytes, if a message of this kind may be that long.
    pub fn with_length(self, length: usize) -> Result<Self, FrameError> {
        let limit = body_bytes_max(self.kind);
        match u32::try_from(length) {
            Ok(length) if length <= limit => Ok(Header { length, ..self }),
            _ => Err(FrameError::TooLong { kind: self.kind, length: length as u64, limit }),
        }
    }

    /// The bytes that go before the body. That the length is allowed is for [`Header::with_length`] to check.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let layout = Layout {
            magic: MAGIC,
            version: VERSION.into(),
            kind: self.kind.into(),
            flags: self.flags.into(),
            length: self.length.into(),
            correlation: self.correlation.into(),
        };
        zerocopy::transmute!(layout)
    }

    /// Reads a header, and refuses one whose body would be too long.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let layout: &Layout = zerocopy::transmute_ref!(bytes);
        if layout.magic != MAGIC {
            return Err(FrameError::BadMagic { found: layout.magic });
        }
        if layout.version != VERSION {
            return Err(FrameError::WrongVersion { theirs: layout.version.get(), ours: VERSION });
        }
        let (kind, length) = (layout.kind.get(), layout.length.get());
        let limit = body_bytes_max(kind);
        if length > limit {
            return Err(FrameError::TooLong { kind, length: length.into(), limit });
        }
        Ok(Header { kind, flags: layout.flags.get(), length, correlation: layout.correlation.get() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[rustfmt::skip]
    const GOLDEN: [u8; HEADER_BYTES] = [
        b'M', b'K', b'F', b'R',
        0x01, 0x00,
        0x34, 0x92,
        0x04, 0x03, 0x02, 0x01,
        0x00, 0x00, 0x01, 0x01,
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
    ];

    /// A bulk message with the longest body there may be.
    const PINNED: Header =
        Header { kind: 0x9234, flags: 0x0102_0304, length: 0x0101_0000, correlation: 0x1112_1314_1516_1718 };

    #[test]
    fn the_layout_is_pinned() {
        assert_eq!(PINNED.encode(), GOLDEN);
        assert_eq!(Header::parse(&GOLDEN), Ok(PINNED));
    }

    #[test]
    fn strangers_are_told_apart() {
        let with = |at: usize, byte: u8| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            Header::parse(&bytes)
        };
        assert_eq!(with(0, b'X'), Err(FrameError::BadMagic { found: *b"XKFR" }));
        assert_eq!(with(4, 2), Err(FrameError::WrongVersion { theirs: 2, ours: 1 }));
        assert_eq!(
            with(12, 1),
            Err(FrameError::TooLong { kind: 0x9234, length: 0x0101_0001, limit: BULK_BODY_BYTES_MAX })
        );
        // The same length is far too much for a control message.
        assert_eq!(
            with(7, 0x12),
            Err(FrameError::TooLong { kind: 0x1234, length: 0x0101_0000, limit: CONTROL_BODY_BYTES_MAX })
        );
    }

    #[test]
    fn lengths_are_checked_before_sending_too() {
        let control = Header::new(1, 0);
        let limit = CONTROL_BODY_BYTES_MAX as usize;
        assert_eq!(control.with_length(limit).map(|header| header.length), Ok(CONTROL_BODY_BYTES_MAX));
        assert!(control.with_length(limit + 1).is_err());
        assert!(control.with_length((1 << 32) + 1).is_err(), "a length must not be cut to 32 bits first");
        assert!(Header::new(BULK_KIND, 0).with_length(BULK_BODY_BYTES_MAX as usize).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes: [u8; HEADER_BYTES]) {
            let _ = Header::parse(&bytes);
        }

        #[test]
        fn what_parses_encodes_to_the_same_bytes(
            mut bytes: [u8; HEADER_BYTES], length in 0..=CONTROL_BODY_BYTES_MAX
        ) {
            bytes[..6].copy_from_slice(&GOLDEN[..6]);
            bytes[12..16].copy_from_slice(&length.to_le_bytes());
            prop_assert_eq!(Header::parse(&bytes).map(|header| header.encode()), Ok(bytes));
        }
    }
}
