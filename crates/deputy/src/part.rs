//! Calls that send data, and that an interruption ends when they have carried a part of it: natively only a signal does
//! that to a transfer that waits for room.
//!
//! What has been carried is kept with the thread ([`minka_image::restart::Interruption::ReturnsPart`]): where it goes on
//! it makes the same call for the rest, and gets the sum. See [`crate::rest`] for how that is done at home.

use minka_image::registers::Registers;
use minka_kernel::memory::Memory;
use rustix::fs::{FileType, OFlags};
use rustix::net::SocketType;
use rustix::net::sockopt::{Timeout, socket_timeout, socket_type};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::os::fd::{AsFd, OwnedFd};

const WRITE: u64 = 1;
const WRITEV: u64 = 20;
const SENDTO: u64 = 44;

/// Most parts that the data of one call may have (`UIO_MAXIOV`).
const PARTS_MAX: u64 = 1024;

/// Bytes of `struct iovec { base, length }`.
const IOVEC: usize = 16;

/// How many bytes a call has carried in which a process of this PID has been found, if it would have gone on with the
/// rest but for our interruption.
pub(crate) fn carried(pid: i32, found: &Registers, memory: &Memory) -> Option<u64> {
    let (call, arguments) = (found.syscall()?, found.arguments());
    let read = |address: u64, into: &mut [u8]| memory.read(address, into) == into.len();
    let done = u64::try_from(found.rax as i64).ok().filter(|done| *done > 0)?;
    (done < wanted(call, &arguments, read)? && waits_for_room(pid, call, &arguments)).then_some(done)
}

/// How many bytes a call is to send; none if it is not one of those that do. `read` fills a buffer from the memory in
/// which its data are described, or fails.
pub(crate) fn wanted(call: u64, arguments: &[u64; 6], read: impl Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
    let [_, vector, count, ..] = *arguments;
    match call {
        WRITE | SENDTO => return Some(count),
        WRITEV => {}
        _ => return None,
    }
    let mut parts = vec![0; usize::try_from(count.min(PARTS_MAX)).ok()? * IOVEC];
    read(vector, &mut parts).then_some(())?;
    Some(parts.chunks_exact(IOVEC).fold(0u64, |sum, part| sum.saturating_add(word(part, 8))))
}

/// Whether a call that sends to this descriptor waits until all is sent, as long as it takes.
pub(crate) fn waits_for_room(pid: i32, call: u64, arguments: &[u64; 6]) -> bool {
    const MSG_DONTWAIT: u64 = 0x40;
    let flags = if call == SENDTO { arguments[3] } else { 0 };
    // If it cannot be told, what was carried is the result: the program finds a short transfer.
    flags & MSG_DONTWAIT == 0 && descriptor(pid, arguments[0]).is_ok_and(|descriptor| is_patient(&descriptor))
}

fn descriptor(pid: i32, number: u64) -> rustix::io::Result<OwnedFd> {
    let process = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    pidfd_getfd(process, number as i32, PidfdGetfdFlags::empty())
}

fn is_patient(descriptor: &impl AsFd) -> bool {
    let Ok(status) = rustix::fs::fstat(descriptor) else { return false };
    let blocks = rustix::fs::fcntl_getfl(descriptor).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK));
    blocks
        && match FileType::from_raw_mode(status.st_mode) {
            FileType::Fifo | FileType::CharacterDevice => true,
            FileType::Socket => {
                socket_type(descriptor) == Ok(SocketType::STREAM)
                    && socket_timeout(descriptor, Timeout::Send) == Ok(None)
            }
            _ => false,
        }
}

/// The same call for what is left of its data after so many bytes, in registers; what describes them is written below
/// the thread's stack, beyond its red zone, where need be.
pub(crate) fn without(done: u64, registers: &Registers, memory: &Memory) -> Option<Registers> {
    /// Below the stack pointer, bytes that are the program's (System V ABI for x86-64).
    const RED_ZONE: u64 = 128;
    let Registers { rax, rsi, rdx, rsp, .. } = *registers;
    match rax {
        WRITE | SENDTO => {
            Some(Registers { rsi: rsi.checked_add(done)?, rdx: rdx.checked_sub(done)?, ..*registers })
        }
        WRITEV => {
            let mut parts = vec![0; usize::try_from(rdx.min(PARTS_MAX)).ok()? * IOVEC];
            (memory.read(rsi, &mut parts) == parts.len()).then_some(())?;
            let rest = after(&parts, done);
            let place = rsp.checked_sub(RED_ZONE)?.checked_sub(rest.len() as u64)? & !15;
            let count = (rest.len() / IOVEC) as u64;
            (memory.write(place, &rest) == rest.len()).then_some(Registers {
                rsi: place,
                rdx: count,
                ..*registers
            })
        }
        _ => None,
    }
}

/// What is left of the parts of a call's data after so many bytes.
fn after(parts: &[u8], done: u64) -> Vec<u8> {
    let mut done = done;
    let mut rest = Vec::with_capacity(parts.len());
    for part in parts.chunks_exact(IOVEC) {
        let (base, length) = (word(part, 0), word(part, 8));
        let skipped = done.min(length);
        done -= skipped;
        if length > skipped {
            rest.extend(base.wrapping_add(skipped).to_le_bytes());
            rest.extend((length - skipped).to_le_bytes());
        }
    }
    rest
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn vector(parts: &[(u64, u64)]) -> Vec<u8> {
        parts.iter().flat_map(|(base, length)| [base.to_le_bytes(), length.to_le_bytes()]).flatten().collect()
    }

    #[test]
    fn the_rest_begins_where_the_part_ended() {
        let parts = vector(&[(1000, 10), (2000, 0), (3000, 20), (4000, 5)]);
        assert_eq!(after(&parts, 0), vector(&[(1000, 10), (3000, 20), (4000, 5)]));
        assert_eq!(after(&parts, 10), vector(&[(3000, 20), (4000, 5)]));
        assert_eq!(after(&parts, 29), vector(&[(3019, 1), (4000, 5)]));
        assert_eq!(after(&parts, 35), vector(&[]));
    }

    #[test]
    fn what_a_call_is_to_send_is_the_sum_of_its_parts() {
        let memory = vector(&[(0, 7), (0, 8)]);
        let read = |address: u64, into: &mut [u8]| {
            let from = memory.get(address as usize..address as usize + into.len());
            from.map(|from| into.copy_from_slice(from)).is_some()
        };
        assert_eq!(wanted(WRITE, &[1, 0, 99, 0, 0, 0], read), Some(99));
        assert_eq!(wanted(WRITEV, &[1, 0, 2, 0, 0, 0], read), Some(15));
        assert_eq!(wanted(WRITEV, &[1, 4000, 2, 0, 0, 0], read), None);
        assert_eq!(wanted(0, &[1, 0, 99, 0, 0, 0], read), None);
    }

    #[test]
    fn only_what_waits_without_limit_is_patient() {
        let (_reader, writer) = std::io::pipe().expect("a pipe");
        assert!(is_patient(&writer));
        rustix::io::ioctl_fionbio(&writer, true).expect("make it impatient");
        assert!(!is_patient(&writer));
        let (socket, _other) = UnixStream::pair().expect("sockets");
        assert!(is_patient(&socket));
        socket.set_write_timeout(Some(Duration::from_secs(1))).expect("limit it");
        assert!(!is_patient(&socket));
        let (datagrams, _other) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
        assert!(!is_patient(&datagrams));
        assert!(!is_patient(&tempfile::tempfile().expect("a file")));
    }
}
