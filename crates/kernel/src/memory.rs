//! Reading and writing another process's memory.

use crate::check;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;

/// Another process's memory, opened once so that it stays reachable even when the leader thread has ended.
#[derive(Debug)]
pub struct Memory {
    pid: i32,
    file: File,
}

impl Memory {
    /// Opens the memory of `pid`; needs the right to trace it.
    pub fn open(pid: i32) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        Ok(Self { pid, file })
    }

    /// Reads at `address`; returns the bytes read before the first that cannot be.
    /// Respects the mapping's protection, as the process itself would.
    pub fn read(&self, address: u64, into: &mut [u8]) -> usize {
        // SAFETY: bytes are valid whether initialized or not as long as only initialized ones are put in, as are here.
        let into = unsafe { std::slice::from_raw_parts_mut(into.as_mut_ptr().cast(), into.len()) };
        self.fetch(address, into)
    }

    /// Like [`Memory::read`], to the end of `out`, for at most `length` bytes: it need not be filled with zeros before.
    pub fn append(&self, address: u64, length: usize, out: &mut Vec<u8>) -> usize {
        out.reserve(length);
        let read = self.fetch(address, &mut out.spare_capacity_mut()[..length]);
        // SAFETY: the kernel has written so many bytes behind those that were there, and there is room for them.
        unsafe { out.set_len(out.len() + read) };
        read
    }

    fn fetch(&self, address: u64, into: &mut [MaybeUninit<u8>]) -> usize {
        transfer(address, into.len(), |remote_at, done, length| {
            let local = libc::iovec { iov_base: into[done..].as_mut_ptr().cast(), iov_len: length };
            let remote = libc::iovec { iov_base: remote_at as *mut libc::c_void, iov_len: length };
            // SAFETY: `local` points into `into`, which is borrowed for the call and at least `length` long from
            // `done`; the remote address is another process's and is checked by the kernel.
            unsafe { libc::process_vm_readv(self.pid, &local, 1, &remote, 1, 0) as i64 }
        })
    }

    /// Writes at `address`; returns the bytes written before the first that cannot be.
    pub fn write(&self, address: u64, from: &[u8]) -> usize {
        transfer(address, from.len(), |remote_at, done, length| {
            let local = libc::iovec { iov_base: from[done..].as_ptr().cast_mut().cast(), iov_len: length };
            let remote = libc::iovec { iov_base: remote_at as *mut libc::c_void, iov_len: length };
            // SAFETY: `local` points into `from` and is only read; see `read`.
            unsafe { libc::process_vm_writev(self.pid, &local, 1, &remote, 1, 0) as i64 }
        })
    }

    /// Reads whatever the protection, as a debugger does; bytes that are not mapped read as zeros.
    /// Returns how many bytes were really there.
    pub fn peek(&self, address: u64, into: &mut [u8]) -> usize {
        let mut present = self.read(address, into);
        let mut at = present;
        while at < into.len() {
            let page_end = ((address + at as u64) | (minka_image::PAGE - 1)) + 1 - address;
            let end = (page_end as usize).min(into.len());
            match self.file.read_at(&mut into[at..end], address + at as u64) {
                Ok(got) if got > 0 => {
                    present += got;
                    at += got;
                }
                _ => {
                    into[at..end].fill(0);
                    at = end;
                }
            }
        }
        present
    }

    /// Writes whatever the protection, as a debugger does; a read-only private page becomes the process's own.
    pub fn poke(&self, address: u64, from: &[u8]) -> io::Result<()> {
        let done = self.write(address, from);
        if done < from.len() { self.file.write_all_at(&from[done..], address + done as u64) } else { Ok(()) }
    }

    /// Reads a little-endian word.
    pub fn read_u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        (self.read(address, &mut bytes) == 8).then(|| u64::from_le_bytes(bytes))
    }
}

/// Repeats a transfer that may end short until it makes no more progress.
fn transfer(address: u64, length: usize, mut step: impl FnMut(u64, usize, usize) -> i64) -> usize {
    let mut done = 0;
    while done < length {
        match check(step(address.wrapping_add(done as u64), done, length - done)) {
            Ok(0) | Err(_) => break,
            Ok(got) => done += got as usize,
        }
    }
    done
}
