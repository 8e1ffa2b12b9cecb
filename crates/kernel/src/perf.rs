//! Counters of events (perf_event_open(2)): groups that count on one processor and are read at once.
//!
//! ```text
//!   leader ── read ──► number of counters, time enabled, time running, value of each      (PERF_FORMAT_GROUP)
//!   └─ others, in the order in which they were added
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};

use crate::check;

/// No group has more counters.
pub const COUNTERS_MAX: usize = 256;

/// `PERF_TYPE_SOFTWARE`: events of the kernel's own.
pub const SOFTWARE: u32 = 1;

/// `PERF_COUNT_SW_CPU_CLOCK`: nanoseconds.
pub const CPU_CLOCK: u64 = 0;

/// `PERF_FORMAT_TOTAL_TIME_ENABLED`, `_TOTAL_TIME_RUNNING` and `_GROUP`.
const READ_FORMAT: u64 = 1 | 1 << 1 | 1 << 3;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;

/// `struct perf_event_attr` as it was at first (`PERF_ATTR_SIZE_VER0`), which every kernel takes.
#[repr(C)]
#[derive(Debug, Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_kind: u32,
    breakpoint_address: u64,
}

const _: () = assert!(size_of::<Attributes>() == 64);

/// What a group has counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Nanoseconds since the group began.
    pub enabled_ns: u64,
    /// Nanoseconds for which it really counted.
    pub running_ns: u64,
    /// What each counted, in the order in which they were added.
    pub values: Vec<u64>,
}

/// Counters that count on one processor, whoever runs there. Those of a device count for the device.
#[derive(Debug)]
pub struct Group {
    kind: u32,
    processor: i32,
    counters: Vec<File>,
}

impl Group {
    /// A group without counters; `kind` is the number of who counts.
    pub fn new(kind: u32, processor: u32) -> Self {
        Group { kind, processor: processor.try_into().unwrap_or(i32::MAX), counters: Vec::new() }
    }

    /// Adds a counter, which begins at once.
    pub fn add(&mut self, config: u64) -> io::Result<()> {
        if self.counters.len() >= COUNTERS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let size = size_of::<Attributes>() as u32;
        let read_format = READ_FORMAT;
        let attributes = Attributes { kind: self.kind, size, config, read_format, ..Attributes::default() };
        let leader = self.counters.first().map_or(-1, AsRawFd::as_raw_fd);
        let everybody: libc::pid_t = -1;
        // SAFETY: the attributes are of the size that they tell, and only read.
        let result = check(unsafe {
            let attributes = &raw const attributes;
            libc::syscall(
                libc::SYS_perf_event_open,
                attributes,
                everybody,
                self.processor,
                leader,
                CLOSE_ON_EXEC,
            )
        })?;
        let descriptor = i32::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
        // SAFETY: it was just made and belongs to nobody else.
        self.counters.push(unsafe { File::from_raw_fd(descriptor) });
        Ok(())
    }

    /// Reads all of them.
    pub fn read(&mut self) -> io::Result<Tally> {
        let mut bytes = vec![0; (3 + self.counters.len()) * 8];
        let leader = self.counters.first_mut().ok_or(io::ErrorKind::NotFound)?;
        let length = leader.read(&mut bytes)?;
        parse(&bytes[..length.min(bytes.len())], self.counters.len())
    }
}

fn parse(bytes: &[u8], counters: usize) -> io::Result<Tally> {
    let words: Vec<u64> =
        bytes.as_chunks().0.iter().map(|word: &[u8; 8]| u64::from_ne_bytes(*word)).collect();
    match words.as_slice() {
        [count, enabled, running, values @ ..] if *count == counters as u64 && values.len() == counters => {
            Ok(Tally { enabled_ns: *enabled, running_ns: *running, values: values.to_vec() })
        }
        // What a counter answers whose device is gone.
        [] => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_has_to_be_whole() {
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let tally = parse(&bytes(&[2, 10, 9, 7, 8]), 2).unwrap();
        assert_eq!(tally, Tally { enabled_ns: 10, running_ns: 9, values: vec![7, 8] });
        for wrong in [&[2, 10, 9, 7][..], &[3, 10, 9, 7, 8], &[2, 10, 9, 7, 8, 9], &[], &[2]] {
            assert!(parse(&bytes(wrong), 2).is_err(), "{wrong:?}");
        }
        assert!(parse(&bytes(&[1, 1, 1, 1])[..31], 1).is_err());
    }

    #[test]
    fn the_kernel_s_own_clock_counts_in_a_group() {
        let mut group = Group::new(SOFTWARE, 0);
        match group.add(CPU_CLOCK).and_then(|()| group.add(CPU_CLOCK)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("not tried: counting on a processor takes CAP_PERFMON");
                return;
            }
            other => other.unwrap(),
        }
        let first = group.read().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let second = group.read().unwrap();
        let passed = second.enabled_ns - first.enabled_ns;
        assert!(passed >= 50_000_000, "{passed}");
        for (before, after) in first.values.iter().zip(&second.values) {
            let counted = after - before;
            // The clock and the time enabled are read one after the other.
            assert!(counted.abs_diff(passed) < 25_000_000, "{counted} {passed}");
        }
        assert_eq!(second.values.len(), 2);
    }

    #[test]
    fn what_nobody_counts_is_refused() {
        let mut group = Group::new(0x7fff_ffff, 0);
        assert!(group.add(0).is_err() && group.read().is_err());
    }
}
