//! Memory shared with another process through a memfd.

use crate::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

/// A shared mapping of a memfd. The other side may change it at any time, so it is only reached through copies
/// and atomics.
#[derive(Debug)]
pub struct Shared {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is not tied to a thread; all access is by raw copies or atomics.
unsafe impl Send for Shared {}
// SAFETY: as above; races on the bytes are with another process anyway and never produce invalid values.
unsafe impl Sync for Shared {}

/// Makes a memfd of this length (bytes).
pub fn memfd(name: &std::ffi::CStr, length: usize) -> io::Result<OwnedFd> {
    // SAFETY: the name is NUL-terminated.
    let fd = check(i64::from(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) }))?;
    // SAFETY: just created, owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    resize(fd.as_fd(), length)?;
    Ok(fd)
}

/// Sets a memfd's length (bytes).
pub fn resize(fd: BorrowedFd<'_>, length: usize) -> io::Result<()> {
    // SAFETY: no pointers.
    check(i64::from(unsafe { libc::ftruncate(fd.as_raw_fd(), length as i64) })).map(drop)
}

impl Shared {
    /// Maps the first `length` bytes of a memfd.
    pub fn map(fd: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: NonNull::new(base.cast()).expect("a mapping is not at address 0"), length })
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes (it always has).
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// If the range is not inside.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.length && bytes.len() <= self.length - offset, "write outside the mapping");
        // SAFETY: the range was checked and is mapped for the life of `self`; the source does not overlap it.
        unsafe { self.base.as_ptr().add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// If the range is not inside.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset <= self.length && into.len() <= self.length - offset, "read outside the mapping");
        // SAFETY: as in `write`.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(self.base.as_ptr().add(offset), into.len()) }
    }

    /// A word as an atomic.
    ///
    /// # Panics
    /// If it is not inside or not aligned.
    pub fn word(&self, offset: usize) -> &std::sync::atomic::AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.length, "word outside the mapping");
        // SAFETY: aligned, inside the mapping, and only ever used atomically on this side.
        unsafe { std::sync::atomic::AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// The bytes of a part that the other side does not touch at present.
    ///
    /// # Safety
    /// Until the slice is dropped nobody else, in this process or the other, may write to the range.
    /// (The other process breaking that can make the bytes change, and nothing worse, as they are plain bytes.)
    ///
    /// # Panics
    /// If the range is not inside.
    #[allow(clippy::mut_from_ref, reason = "exclusive use of the range is the caller's promise")]
    pub unsafe fn slice(&self, offset: usize, length: usize) -> &mut [u8] {
        assert!(offset <= self.length && length <= self.length - offset, "slice outside the mapping");
        // SAFETY: inside the mapping; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), length) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`, and no borrow of it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}
