//! Questions to a graphics driver about its device, asked of the device file.
//!
//! Both of Intel's drivers answer in two steps: asked with no room they tell how much is needed, asked with exactly
//! that room they fill it (`include/uapi/drm/i915_drm.h`, `include/uapi/drm/xe_drm.h`).
//!
//! ```text
//!   header { length 0 } ──► length n        0 < n ≤ ANSWER_MAX, or the driver is not believed
//!   header { length n, n bytes of room } ──► filled, and n said again
//! ```

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;

/// No answer is longer; a driver that wants more room is not believed.
pub const ANSWER_MAX: usize = 64 * 1024;

/// So often a driver may ask to be asked again.
const ATTEMPTS_MAX: u32 = 100;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// i915: one of `DRM_I915_QUERY_*`.
    I915(u64),
    /// xe: one of `DRM_XE_DEVICE_QUERY_*`.
    Xe(u32),
}

/// `struct drm_i915_query_item`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Item {
    query_id: u64,
    length: i32,
    flags: u32,
    data: u64,
}

/// `struct drm_i915_query`.
#[repr(C)]
#[derive(Debug, Default)]
struct Items {
    count: u32,
    flags: u32,
    items: u64,
}

/// `struct drm_xe_device_query`.
#[repr(C)]
#[derive(Debug, Default)]
struct DeviceQuery {
    extensions: u64,
    query: u32,
    size: u32,
    data: u64,
    reserved: [u64; 2],
}

const _: () = assert!(size_of::<Item>() == 24 && size_of::<Items>() == 16 && size_of::<DeviceQuery>() == 40);

/// The number of a driver's own `_IOWR('d', 0x40 + number, …)`.
const fn drm(number: u64, size: usize) -> u64 {
    3 << 30 | (size as u64) << 16 | (b'd' as u64) << 8 | (0x40 + number)
}

const I915_QUERY: u64 = drm(0x39, size_of::<Items>());
const XE_DEVICE_QUERY: u64 = drm(0x00, size_of::<DeviceQuery>());

/// Asks a driver.
pub fn ask(file: BorrowedFd<'_>, question: Question) -> io::Result<Vec<u8>> {
    exchange(|room| step(file, question, room))
}

/// Both steps, whoever makes them: told no room the length that is needed, told the room how much was filled.
fn exchange(mut step: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    let length = step(&mut [])?;
    if length == 0 || length > ANSWER_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {length} bytes")));
    }
    let mut room = vec![0; length];
    let filled = step(&mut room)?;
    if filled != length {
        let text = format!("{filled} bytes where {length} were announced");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(room)
}

fn step(file: BorrowedFd<'_>, question: Question, room: &mut [u8]) -> io::Result<usize> {
    let data = if room.is_empty() { 0 } else { room.as_mut_ptr() as u64 };
    match question {
        Question::I915(query_id) => {
            let length = room.len().try_into().unwrap_or(0);
            let mut item = Item { query_id, length, data, ..Item::default() };
            let mut items = Items { count: 1, items: &raw mut item as u64, ..Items::default() };
            // SAFETY: both structs live until the call returns, and the driver writes to `data` only what fits
            // into the length told, of which there is a buffer.
            unsafe { request(file, I915_QUERY, (&raw mut items).cast()) }?;
            // The item's own error stands where its length would.
            usize::try_from(item.length)
                .map_err(|_| io::Error::from_raw_os_error(item.length.saturating_neg()))
        }
        Question::Xe(query) => {
            let size = room.len().try_into().unwrap_or(0);
            let mut asked = DeviceQuery { query, size, data, ..DeviceQuery::default() };
            // SAFETY: as above: the driver refuses a size that is not its own before it writes.
            unsafe { request(file, XE_DEVICE_QUERY, (&raw mut asked).cast()) }?;
            Ok(asked.size as usize)
        }
    }
}

/// # Safety
/// `argument` is what the driver takes for this request.
unsafe fn request(file: BorrowedFd<'_>, number: u64, argument: *mut libc::c_void) -> io::Result<i64> {
    let mut result = Err(io::ErrorKind::WouldBlock.into());
    for _ in 0..ATTEMPTS_MAX {
        // SAFETY: the caller's promise.
        result = check(unsafe { libc::ioctl(file.as_raw_fd(), number, argument) }.into());
        // Drivers ask for another attempt by either.
        let again = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN));
        if !result.as_ref().is_err_and(again) {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_requests_have_the_kernel_s_numbers() {
        // As the headers' macros come to with a C compiler.
        assert_eq!((I915_QUERY, XE_DEVICE_QUERY), (0xc010_6479, 0xc028_6440));
        assert_eq!(std::mem::offset_of!(Item, data), 16);
        assert_eq!(std::mem::offset_of!(DeviceQuery, data), 16);
    }

    #[test]
    fn an_answer_is_taken_whole() {
        let answer = exchange(|room| {
            room.fill(7);
            Ok(5)
        });
        assert_eq!(answer.unwrap(), [7; 5]);
    }

    #[test]
    fn a_driver_that_lies_about_lengths_is_refused() {
        for lengths in [[0, 0], [ANSWER_MAX + 1, 1], [usize::MAX, 1], [8, 7], [8, 9], [8, 0]] {
            let mut left = lengths.into_iter();
            let error = exchange(|_| Ok(left.next().unwrap())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{lengths:?}");
        }
        let error = exchange(|_| Err(io::Error::from_raw_os_error(libc::ENODEV))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn a_file_that_is_no_such_device_says_so() {
        let null = std::fs::File::open("/dev/null").unwrap();
        for question in [Question::I915(4), Question::Xe(1)] {
            assert_eq!(ask(null.as_fd(), question).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        }
    }
}
