//! Using a long reply while it is still arriving.

use super::{REPLY_HEAD, load};
use std::ops::Range;

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
}
