//! Using long data while the rest of them is still arriving: a reply's at the host, a request's at home. And the reply to a
//! read whose data are there before it is made.

use super::carrier::{USER_END, USER_START};
use super::{REPLY_HEAD, REQUEST_HEAD, alignment, load};
use std::ops::Range;

const READ: u64 = 0;
const WRITE: u64 = 1;
const PWRITE64: u64 = 18;

/// Fewer bytes are copied when the whole request is there.
const PIECE: usize = 64 << 10;

/// The data of a long write, as far as they are in the area already. [`place_started`](super::place_started) leaves out
/// what is. Whoever uses the area for something else meanwhile has to begin anew, with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Where in the area they begin.
    at: usize,
    bytes: usize,
}

impl Started {
    /// Takes in the beginning of a request of `length` bytes, all of which is going to be placed in `area`. Says whether
    /// it wrote there; it does not for a request that is going to be refused, or is no long write.
    pub fn arrived(&mut self, begin: &[u8], length: usize, area: &mut [u8], address: u64) -> bool {
        let Some((head, data)) = begin.split_first_chunk() else { return false };
        let Some(block) = written_block(head, length, address) else { return false };
        let fresh = data.get(self.bytes..).filter(|fresh| fresh.len() >= PIECE);
        let (Some(fresh), Some(block_area)) = (fresh, area.get_mut(block.clone())) else { return false };
        let Some(target) = block_area.get_mut(self.bytes..data.len()) else { return false };
        target.copy_from_slice(fresh);
        *self = Self { at: block.start, bytes: data.len() };
        true
    }

    /// How many bytes of a block are in their place: it comes from `content` in the request and goes to `at` in the area.
    pub(super) fn of(&self, content: usize, at: usize) -> usize {
        if content == REQUEST_HEAD && at == self.at { self.bytes } else { 0 }
    }
}

/// Where in the area the data of a write go. `None` if it is no write, or its head does not belong to a request of that
/// length.
fn written_block(head: &[u8; REQUEST_HEAD], length: usize, address: u64) -> Option<Range<usize>> {
    let argument = |index: usize| load(head, REQUEST_HEAD - 48 + 8 * index);
    let (WRITE | PWRITE64, guest, count) = (load(head, 0), argument(1), argument(2)) else { return None };
    let room = length.checked_sub(REQUEST_HEAD).filter(|room| *room as u64 == count)?;
    if guest < USER_START || guest.checked_add(count)? > USER_END {
        return None;
    }
    // As for any block of that size: there is no other before it.
    let start = guest.wrapping_sub(address) as usize & (alignment(room) - 1);
    Some(start..start + room)
}

/// Where the data of a reply lie that has a single output as long as its result, as that of a read: their place in the
/// reply, the whole of which need not be there yet. `None` for any other reply.
#[must_use]
pub fn sole_output(reply: &[u8]) -> Option<Range<usize>> {
    const ENTRY: usize = 8;
    let start = REPLY_HEAD + ENTRY;
    let head = reply.get(..start)?;
    let (result, count) = (load(head, 0), load(head, 8) as u32);
    let size = load(head, REPLY_HEAD + 4) as u32;
    let end = start.checked_add(size as usize)?;
    (count == 1 && size > 0 && result == u64::from(size)).then_some(start..end)
}

/// A `read`, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// From which descriptor.
    pub descriptor: i32,
    /// How many bytes at most.
    pub count: usize,
}

impl Read {
    /// The read that a request is for; `None` if it is for another call, or for memory that no data can go to.
    #[must_use]
    pub fn of(request: &[u8]) -> Option<Self> {
        let head: &[u8; REQUEST_HEAD] = request.try_into().ok()?;
        let argument = |index: usize| load(head, REQUEST_HEAD - 48 + 8 * index);
        let (READ, guest, count) = (load(head, 0), argument(1), argument(2)) else { return None };
        let fits = guest >= USER_START && guest.checked_add(count).is_some_and(|end| end <= USER_END);
        (fits && count > 0)
            .then(|| Some(Self { descriptor: argument(0) as i32, count: usize::try_from(count).ok()? }))?
    }

    /// What comes before the data in the reply to a read that has got so many bytes.
    #[must_use]
    pub fn reply_head(bytes: u32) -> [u8; REPLY_HEAD + 8] {
        /// The first output of the second argument.
        const TAG: u32 = 1 << 29;
        let mut head = [0; REPLY_HEAD + 8];
        head[..8].copy_from_slice(&u64::from(bytes).to_le_bytes());
        head[8..12].copy_from_slice(&1u32.to_le_bytes());
        head[REPLY_HEAD..REPLY_HEAD + 4].copy_from_slice(&TAG.to_le_bytes());
        head[REPLY_HEAD + 4..].copy_from_slice(&bytes.to_le_bytes());
        head
    }
}

/// A `write`, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// To which descriptor.
    pub descriptor: i32,
    /// How many bytes, all of which came with the request.
    pub count: usize,
}

impl Write {
    /// The write that a request is for; `None` if it is for another call, or brings other data than it says.
    #[must_use]
    pub fn of(request: &[u8]) -> Option<Self> {
        let head: &[u8; REQUEST_HEAD] = request.first_chunk()?;
        let argument = |index: usize| load(head, REQUEST_HEAD - 48 + 8 * index);
        let count = request.len() - REQUEST_HEAD;
        let is_whole = load(head, 0) == WRITE && count > 0 && argument(2) == count as u64;
        is_whole.then_some(Self { descriptor: argument(0) as i32, count })
    }

    /// The beginning of its request, before the data.
    #[must_use]
    pub fn head(descriptor: u64, guest: u64, count: u64) -> [u8; REQUEST_HEAD] {
        let words = [WRITE, descriptor, guest, count, 0, 0, 0];
        let mut head = [0; REQUEST_HEAD];
        head.as_chunks_mut().0.iter_mut().zip(words).for_each(|(at, word)| *at = word.to_le_bytes());
        head
    }

    /// The write that such a beginning announces.
    #[must_use]
    pub fn announced(head: &[u8]) -> Option<Self> {
        let head: &[u8; REQUEST_HEAD] = head.try_into().ok()?;
        let argument = |index: usize| load(head, REQUEST_HEAD - 48 + 8 * index);
        let count = usize::try_from(argument(2)).ok()?;
        (load(head, 0) == WRITE && count > 0).then(|| Self { descriptor: argument(0) as i32, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(result: i64, count: u32, size: u32) -> Vec<u8> {
        let mut reply = result.to_le_bytes().to_vec();
        reply.extend(count.to_le_bytes());
        reply.extend([0; 4]);
        reply.extend(7u32.to_le_bytes());
        reply.extend(size.to_le_bytes());
        reply
    }

    /// A write of `data` to descriptor 3, from an address that lies 5 bytes into a page.
    fn request(call: u64, data: &[u8]) -> Vec<u8> {
        let mut request = call.to_le_bytes().to_vec();
        let arguments = [3, 0x7000_0005, data.len() as u64, 0, 0, 0];
        request.extend(arguments.iter().flat_map(|argument: &u64| argument.to_le_bytes()));
        request.extend_from_slice(data);
        request
    }

    const AREA: u64 = 0x10_2000;

    #[test]
    fn a_write_that_was_placed_in_pieces_is_as_if_placed_at_once() {
        let data: Vec<u8> = (0..300_000u32).map(|at| (at / 7) as u8).collect();
        let request = request(PWRITE64, &data);
        let mut whole = vec![0; 400_000];
        crate::marshal::place(&request, &mut whole, AREA).expect("a request");
        for step in [1000, 70_000, 299_000] {
            let mut area = vec![0; 400_000];
            let mut started = Started::default();
            let wrote = (0..request.len())
                .step_by(step)
                .filter(|&end| started.arrived(&request[..end], request.len(), &mut area, AREA))
                .count();
            assert!(wrote > 0 && started.bytes + step + PIECE >= data.len(), "{started:?}");
            // What has been placed is not placed again.
            area[started.at] ^= 1;
            crate::marshal::place_started(&request, &mut area, AREA, started).expect("a request");
            area[started.at] ^= 1;
            assert!(area == whole);
        }
    }

    #[test]
    fn other_requests_are_not_begun() {
        let data = vec![1; 200_000];
        let mut area = vec![0; 400_000];
        let whole = request(WRITE, &data);
        let mut begin = |request: &[u8], length: usize, room: usize| {
            Started::default().arrived(request, length, &mut area[..room], AREA)
        };
        assert!(!begin(&request(44, &data), whole.len(), 400_000));
        assert!(!begin(&whole[..REQUEST_HEAD], whole.len(), 400_000));
        // Not what the head says.
        assert!(!begin(&whole, whole.len() - 1, 400_000));
        assert!(!begin(&whole[..100_000], whole.len() + 1, 400_000));
        // There is no room for all of it.
        assert!(!begin(&whole[..100_000], whole.len(), 150_000));
        assert!(area.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_write_is_known_by_its_request() {
        let whole = request(WRITE, &[1; 1000]);
        assert_eq!(Write::of(&whole), Some(Write { descriptor: 3, count: 1000 }));
        assert_eq!(whole[..REQUEST_HEAD], Write::head(3, 0x7000_0005, 1000));
        assert_eq!(Write::announced(&whole[..REQUEST_HEAD]), Write::of(&whole));
        let none = request(WRITE, &[]);
        assert_eq!((Write::announced(&none), Write::announced(&whole)), (None, None));
        for other in [&request(PWRITE64, &[1; 1000]), &none, &whole[..1000], &whole[..REQUEST_HEAD - 1]] {
            assert_eq!(Write::of(other), None);
        }
    }

    #[test]
    fn the_data_of_a_read_are_found() {
        assert_eq!(sole_output(&reply(1000, 1, 1000)), Some(24..1024));
    }

    #[test]
    fn other_replies_have_none() {
        assert_eq!(sole_output(&reply(1000, 1, 1000)[..23]), None);
        assert_eq!(sole_output(&reply(1000, 2, 1000)), None);
        assert_eq!(sole_output(&reply(0, 1, 1000)), None);
        assert_eq!(sole_output(&reply(-9, 1, 1000)), None);
        assert_eq!(sole_output(&reply(0, 0, 0)), None);
    }

    #[test]
    fn the_reply_to_a_read_is_what_the_call_would_have_brought() {
        let request = |call: u64, guest: u64, count: u64| -> Vec<u8> {
            [call, 3, guest, count, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let body = request(READ, 0x7000_0005, 1000);
        assert_eq!(Read::of(&body), Some(Read { descriptor: 3, count: 1000 }));
        let mut area = vec![9; 10_000];
        let placed = crate::marshal::place(&body, &mut area, AREA).expect("a request");
        let mut reply = Vec::new();
        crate::marshal::collect(&placed, 700, &area).append_to(&mut reply);
        assert_eq!(reply[..REPLY_HEAD + 8], Read::reply_head(700));
        assert_eq!(reply.len(), REPLY_HEAD + 8 + 700);
        let longer = [&body[..], &[0]].concat();
        for other in [request(17, 0x7000_0005, 1000), request(READ, 16, 1000), request(READ, 0x7000_0005, 0)]
        {
            assert_eq!(Read::of(&other), None);
        }
        assert_eq!((Read::of(&longer), Read::of(&request(READ, 0x7000_0005, u64::MAX))), (None, None));
    }
}
