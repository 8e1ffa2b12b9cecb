//! Building and reading netlink messages. Pure: bytes in, bytes out.
//!
//! ```text
//! nlmsghdr (16)                        attribute
//! ┌───────────┬───────┬───────┐        ┌─────────┬─────────┬───────────┐
//! │ length u32│ type  │ flags │        │ length  │ kind    │ payload … │
//! ├───────────┴───┬───┴───────┤        │ u16     │ u16     │ padded to │
//! │ sequence u32  │ port u32  │        │         │         │ 4 bytes   │
//! ├───────────────┴───────────┤        └─────────┴─────────┴───────────┘
//! │ family header, attributes │
//! └───────────────────────────┘        everything in the machine's byte order
//! ```
//!
//! Layouts: `linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h`, `linux/veth.h`.

/// Length of `struct nlmsghdr`.
pub(super) const HEADER_LENGTH: usize = 16;
/// Length of `struct ifinfomsg`.
pub(super) const LINK_HEADER_LENGTH: usize = 16;
/// Length of the header of an attribute (`struct nlattr`).
const ATTRIBUTE_HEADER_LENGTH: usize = 4;
/// The two topmost bits of an attribute's kind are flags (`NLA_TYPE_MASK`).
const ATTRIBUTE_KIND_MASK: u16 = 0x3fff;
/// The kernel's sentence about an error (`NLMSGERR_ATTR_MSG`).
const EXPLANATION: u16 = 1;

/// A request under construction.
#[derive(Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of the given type; `NLM_F_REQUEST | NLM_F_ACK` are added to `flags`.
    pub(super) fn new(kind: u16, flags: i32) -> Self {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; HEADER_LENGTH];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    /// Appends `struct ifinfomsg`: the interface by number (0: by name or new) and which of its flags to
    /// change.
    pub(super) fn link_header(&mut self, index: u32, flags: u32, change: u32) -> &mut Self {
        self.bytes.extend([libc::AF_UNSPEC as u8, 0, 0, 0]);
        for field in [index, flags, change] {
            self.bytes.extend(field.to_ne_bytes());
        }
        self
    }

    /// Appends `struct ifaddrmsg` for an IPv4 address.
    pub(super) fn address_header(&mut self, prefix_length: u8, index: u32) -> &mut Self {
        self.bytes.extend([libc::AF_INET as u8, prefix_length, 0, libc::RT_SCOPE_UNIVERSE]);
        self.bytes.extend(index.to_ne_bytes());
        self
    }

    /// Appends `struct rtmsg` for an IPv4 route of the main table, as if an administrator had made it.
    pub(super) fn route_header(&mut self, prefix_length: u8, kind: u8) -> &mut Self {
        self.bytes.extend([libc::AF_INET as u8, prefix_length, 0, 0]);
        self.bytes.extend([libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE, kind]);
        self.bytes.extend([0; 4]);
        self
    }

    /// Appends an attribute with the given payload.
    pub(super) fn attribute(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        self.nested(kind, |message| message.bytes.extend(payload))
    }

    /// Appends an attribute that holds a number.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute that holds a text; the kernel expects its end marked with a zero.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.nested(kind, |message| {
            message.bytes.extend(value.as_bytes());
            message.bytes.push(0);
        })
    }

    /// Appends an attribute whose payload is written by `fill`.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        fill(self);
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "an attribute of {length} bytes");
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// The finished message, numbered so that its answer can be told from others.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The messages of one datagram. Stops at the first that does not fit into what is left.
pub(super) fn answers(mut datagram: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = read_u32(datagram, 0)? as usize;
        let answer = Answer {
            kind: read_u16(datagram, 4)?,
            flags: read_u16(datagram, 6)?,
            sequence: read_u32(datagram, 8)?,
            payload: datagram.get(HEADER_LENGTH..length)?,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    })
}

/// What the kernel says to a request: 0 or an error number, and perhaps a sentence about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    pub(super) errno: i32,
    pub(super) explanation: Option<String>,
}

/// Reads the payload of an `NLMSG_ERROR` answer: the error, the request's header (and the request itself,
/// unless capped), then attributes.
pub(super) fn acknowledgement(answer: &Answer<'_>) -> Option<Acknowledgement> {
    let errno = read_u32(answer.payload, 0)?.cast_signed().checked_neg()?;
    let capped = i32::from(answer.flags) & libc::NLM_F_CAPPED != 0 || errno == 0;
    let quoted = if capped { HEADER_LENGTH } else { read_u32(answer.payload, 4)? as usize };
    let extended = i32::from(answer.flags) & libc::NLM_F_ACK_TLVS != 0;
    let explanation = extended
        .then(|| answer.payload.get(4 + quoted.next_multiple_of(4)..))
        .flatten()
        .and_then(|rest| attributes(rest).find(|(kind, _)| *kind == EXPLANATION))
        .map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
    Some(Acknowledgement { errno, explanation })
}

/// The attributes in `bytes`, in their order. Stops at the first that does not fit into what is left.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(bytes, 0)?);
        let kind = read_u16(bytes, 2)? & ATTRIBUTE_KIND_MASK;
        let payload = bytes.get(ATTRIBUTE_HEADER_LENGTH..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// The two-byte number at `offset`, if there is one.
fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..)?.first_chunk().copied()?))
}

/// The four-byte number at `offset`, if there is one.
pub(super) fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.text(libc::IFLA_IFNAME, "ab").number(libc::IFLA_MTU, 7);
        let bytes = message.finish(42);
        assert_eq!(read_u32(&bytes, 0), Some(bytes.len() as u32));
        assert_eq!(read_u32(&bytes, 8), Some(42));
        let read: Vec<_> = attributes(&bytes[HEADER_LENGTH..]).collect();
        assert_eq!(read, [(libc::IFLA_IFNAME, &b"ab\0"[..]), (libc::IFLA_MTU, &7u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn a_nested_attribute_counts_its_padded_children() {
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.nested(libc::IFLA_LINKINFO, |message| {
            message.text(libc::IFLA_INFO_KIND, "veth");
        });
        let bytes = message.finish(1);
        let (kind, inner) = attributes(&bytes[HEADER_LENGTH..]).next().unwrap();
        assert_eq!((kind, inner.len()), (libc::IFLA_LINKINFO, 12));
        assert_eq!(attributes(inner).next().unwrap(), (libc::IFLA_INFO_KIND, &b"veth\0"[..]));
    }

    #[test]
    fn truncated_answers_and_attributes_end_the_walk() {
        let whole = Message::new(libc::RTM_NEWLINK, 0).finish(1);
        assert_eq!(answers(&whole).count(), 1);
        for length in 0..whole.len() {
            assert_eq!(answers(&whole[..length]).count(), 0, "{length} bytes");
        }
        let mut short = whole;
        short[0..4].copy_from_slice(&3u32.to_ne_bytes());
        assert_eq!(answers(&short).count(), 0, "a length less than the header's");
        assert_eq!(attributes(&[2, 0, 1, 0, 0, 0, 0, 0]).count(), 0, "a length less than the header's");
    }

    #[test]
    fn an_acknowledgement_gives_the_errno_and_the_kernels_sentence() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend(Message::new(libc::RTM_NEWLINK, 0).finish(1));
        let mut attribute = Message::new(0, 0);
        attribute.text(EXPLANATION, "no such thing");
        payload.extend(&attribute.finish(0)[HEADER_LENGTH..]);
        let flags = (libc::NLM_F_CAPPED | libc::NLM_F_ACK_TLVS) as u16;
        let answer = Answer { kind: libc::NLMSG_ERROR as u16, flags, sequence: 1, payload: &payload };
        let expected = Acknowledgement { errno: libc::EINVAL, explanation: Some("no such thing".to_owned()) };
        assert_eq!(acknowledgement(&answer), Some(expected));
    }
}
