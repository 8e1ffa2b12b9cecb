//! Which of its descriptors a process has opened for reading by itself, so that nobody else can have them.
//!
//! Whoever has the same open file description has its position, too, and may move it. So what is known of a descriptor counts
//! from its opening, and only as long as the process makes no call that could share or replace it: there is a list of those
//! that cannot, and any other call ends it for all descriptors.

use crate::marshal::{REQUEST_HEAD, load};
use std::collections::BTreeMap;

/// Most descriptors that are known at a time.
const OPENED_MAX: usize = 64;

mod call {
    pub(super) const READ: u32 = 0;
    pub(super) const OPEN: u32 = 2;
    pub(super) const CLOSE: u32 = 3;
    pub(super) const LSEEK: u32 = 8;
    pub(super) const IOCTL: u32 = 16;
    pub(super) const FCNTL: u32 = 72;
    pub(super) const OPENAT: u32 = 257;
}

/// Calls that leave all descriptors, and the positions of those that cannot be written to, as they are.
const HARMLESS: &[u32] = &[
    1,   // write
    4,   // stat
    5,   // fstat
    6,   // lstat
    7,   // poll
    13,  // rt_sigaction
    14,  // rt_sigprocmask
    17,  // pread64
    18,  // pwrite64
    20,  // writev
    21,  // access
    23,  // select
    35,  // nanosleep
    39,  // getpid
    63,  // uname
    74,  // fsync
    75,  // fdatasync
    79,  // getcwd
    89,  // readlink
    96,  // gettimeofday
    98,  // getrusage
    100, // times
    102, // getuid
    104, // getgid
    107, // geteuid
    108, // getegid
    110, // getppid
    186, // gettid
    201, // time
    217, // getdents64
    221, // fadvise64
    228, // clock_gettime
    230, // clock_nanosleep
    262, // newfstatat
    267, // readlinkat
    269, // faccessat
    271, // ppoll
    318, // getrandom
    332, // statx
    439, // faccessat2
];

/// Commands of `ioctl`: TCGETS, FIONREAD, FIONCLEX, FIOCLEX.
const HARMLESS_IOCTLS: &[u64] = &[0x5401, 0x541b, 0x5450, 0x5451];
/// Commands of `fcntl`: F_GETFD, F_SETFD, F_GETFL.
const HARMLESS_FCNTLS: &[u64] = &[1, 2, 3];

const O_ACCMODE: u64 = 3;
const O_TRUNC: u64 = 0o1000;
const O_APPEND: u64 = 0o2000;
const O_NONBLOCK: u64 = 0o4000;
const O_DIRECT: u64 = 0o40_000;
const O_PATH: u64 = 0o10_000_000;

/// A call as it was asked for: its number and its arguments.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    arguments: [u64; 6],
}

impl Call {
    fn of(request: &[u8]) -> Option<Self> {
        let head: &[u8; REQUEST_HEAD] = request.first_chunk()?;
        let arguments = core::array::from_fn(|index| load(head, REQUEST_HEAD - 48 + 8 * index));
        Some(Self { number: load(head, 0) as u32, arguments })
    }

    fn descriptor(&self) -> i32 {
        self.arguments[0] as i32
    }

    /// The flags with which it opens something.
    fn opens_with(&self) -> Option<u64> {
        match self.number {
            call::OPEN => Some(self.arguments[1]),
            call::OPENAT => Some(self.arguments[2]),
            _ => None,
        }
    }

    fn is_harmless(&self) -> bool {
        match self.number {
            call::READ | call::LSEEK | call::OPEN | call::OPENAT => true,
            call::IOCTL => HARMLESS_IOCTLS.contains(&self.arguments[1]),
            call::FCNTL => HARMLESS_FCNTLS.contains(&self.arguments[1]),
            number => HARMLESS.contains(&number),
        }
    }
}

/// Whether a request may have a file opened for writing, or cut short, without waiting for whoever has a lease on it.
#[must_use]
pub fn opens_to_write_at_once(request: &[u8]) -> bool {
    let flags = Call::of(request).and_then(|call| call.opens_with());
    flags.is_some_and(|flags| flags & O_NONBLOCK != 0 && flags & (O_ACCMODE | O_TRUNC) != 0)
}

/// What a call leaves of what is known of the process's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// All of it.
    Everything,
    /// All but what is known of this one.
    EverythingBut(i32),
    /// Nothing for sure.
    Nothing,
}

impl Leaves {
    /// What the call leaves that is about to be made for a request.
    #[must_use]
    pub fn of(request: &[u8]) -> Self {
        match Call::of(request) {
            Some(call) if call.number == call::CLOSE => Self::EverythingBut(call.descriptor()),
            Some(call) if call.is_harmless() => Self::Everything,
            _ => Self::Nothing,
        }
    }
}

/// Whether a request may have a file read and written at another place from now on.
#[must_use]
pub fn moves_position(request: &[u8]) -> bool {
    Call::of(request).is_some_and(|call| call.number == call::LSEEK)
}

/// The descriptor whose earlier writes a request tells of: a call that says so if one of them has failed.
#[must_use]
pub fn tells_of_writes(request: &[u8]) -> Option<i32> {
    const WRITES: &[u32] = &[
        1,   // write
        3,   // close
        18,  // pwrite64
        20,  // writev
        74,  // fsync
        75,  // fdatasync
        277, // sync_file_range
        296, // pwritev
        328, // pwritev2
    ];
    Call::of(request).filter(|call| WRITES.contains(&call.number)).map(|call| call.descriptor())
}

/// The descriptors, and how many bytes were read from each since it was opened or its position set.
#[derive(Debug, Default)]
pub struct Opened {
    descriptors: BTreeMap<i32, u64>,
    to_write: bool,
}

impl Opened {
    /// The same of descriptors that are opened for writing, and not to append what others may, too.
    #[must_use]
    pub fn to_write() -> Self {
        Self { to_write: true, ..Self::default() }
    }

    /// A call is about to be made, for this request. What it may change is not known any more.
    pub fn before(&mut self, request: &[u8]) {
        match Leaves::of(request) {
            Leaves::Everything => {}
            Leaves::EverythingBut(closed) => drop(self.descriptors.remove(&closed)),
            Leaves::Nothing => self.descriptors.clear(),
        }
    }

    /// It has been made, with this result.
    pub fn after(&mut self, request: &[u8], result: i64) {
        let Some(call) = Call::of(request) else { return };
        if let (Some(flags), Ok(opened @ 0..)) = (call.opens_with(), i32::try_from(result)) {
            self.descriptors.remove(&opened);
            let is_known = match self.to_write {
                false => flags & (O_ACCMODE | O_DIRECT | O_PATH) == 0,
                true => flags & O_ACCMODE != 0 && flags & (O_APPEND | O_DIRECT | O_PATH) == 0,
            };
            if is_known && self.descriptors.len() < OPENED_MAX {
                self.descriptors.insert(opened, 0);
            }
            return;
        }
        let Some(bytes) = self.descriptors.get_mut(&call.descriptor()) else { return };
        match (call.number, result) {
            (call::READ, 1..) => *bytes = bytes.saturating_add(result.unsigned_abs()),
            (call::LSEEK, _) => *bytes = 0,
            _ => {}
        }
    }

    /// Nothing is known of any descriptor any more.
    pub fn forget(&mut self) {
        self.descriptors.clear();
    }

    /// Whether the process has opened a descriptor itself, and nobody else can have it.
    #[must_use]
    pub fn has(&self, descriptor: i32) -> bool {
        self.descriptors.contains_key(&descriptor)
    }

    /// How much was read from a descriptor in order, if nobody else can have it.
    #[must_use]
    pub fn bytes_read(&self, descriptor: i32) -> Option<u64> {
        self.descriptors.get(&descriptor).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u32, arguments: &[u64]) -> Vec<u8> {
        let mut words = [0; 7];
        words[0] = u64::from(number);
        words[1..=arguments.len()].copy_from_slice(arguments);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn make(opened: &mut Opened, number: u32, arguments: &[u64], result: i64) {
        let request = request(number, arguments);
        opened.before(&request);
        opened.after(&request, result);
    }

    /// A process that has opened descriptor 3 and read 1000 bytes from it.
    fn reading() -> Opened {
        let mut opened = Opened::default();
        make(&mut opened, call::OPENAT, &[0, 0x5000, 0, 0], 3);
        make(&mut opened, call::READ, &[3, 0x5000, 1000], 1000);
        opened
    }

    #[test]
    fn what_is_read_in_order_is_counted() {
        let mut opened = reading();
        assert_eq!(opened.bytes_read(3), Some(1000));
        make(&mut opened, call::READ, &[3, 0x5000, 1000], -5);
        make(&mut opened, call::READ, &[4, 0x5000, 1000], 1000);
        make(&mut opened, 1, &[1, 0x5000, 50], 50);
        assert_eq!((opened.bytes_read(3), opened.bytes_read(4)), (Some(1000), None));
        make(&mut opened, call::LSEEK, &[3, 5, 0], 5);
        assert_eq!(opened.bytes_read(3), Some(0));
    }

    #[test]
    fn only_what_is_opened_for_reading_is_known() {
        for flags in [1, 2, 0o40_000, 0o10_000_000] {
            let mut opened = reading();
            // Whoever gets a number that was known has closed it unseen.
            make(&mut opened, call::OPEN, &[0x5000, flags, 0], 3);
            make(&mut opened, call::OPEN, &[0x5000, flags, 0], 5);
            assert_eq!((opened.bytes_read(3), opened.bytes_read(5)), (None, None), "{flags:o}");
        }
        let mut opened = reading();
        make(&mut opened, call::OPEN, &[0x5000, 0, 0], -2);
        assert_eq!(opened.bytes_read(3), Some(1000));
    }

    #[test]
    fn what_is_opened_for_writing_is_known_apart() {
        let mut opened = Opened::to_write();
        for (flags, is_known) in [(1, true), (2, true), (0, false), (0o2001, false), (0o40_001, false)] {
            make(&mut opened, call::OPENAT, &[0, 0x5000, flags, 0], 3);
            assert_eq!(opened.has(3), is_known, "{flags:o}");
        }
        make(&mut opened, call::OPEN, &[0x5000, 0o1101, 0o600], 4);
        make(&mut opened, 1, &[4, 0x5000, 50], 50);
        assert!(opened.has(4));
        make(&mut opened, 33, &[4, 7], 7);
        assert!(!opened.has(4));
    }

    #[test]
    fn whatever_may_share_or_replace_a_descriptor_ends_it_before_it_is_made() {
        let mut opened = reading();
        opened.before(&request(call::CLOSE, &[4]));
        assert_eq!(opened.bytes_read(3), Some(1000));
        opened.before(&request(call::CLOSE, &[3]));
        assert_eq!(opened.bytes_read(3), None);
        // dup, dup2, sendmsg, fcntl(F_DUPFD), fcntl(F_SETFL), readv, execve, close_range, sendfile, copy_file_range, unknown
        let others: &[(u32, &[u64])] = &[
            (32, &[3]),
            (33, &[3, 7]),
            (46, &[9, 0x5000]),
            (72, &[3, 0, 0]),
            (72, &[3, 4, 0]),
            (16, &[3, 0x1234]),
            (19, &[3, 0x5000, 1]),
            (59, &[0x5000]),
            (436, &[0, 9, 0]),
            (40, &[1, 3, 0, 9]),
            (326, &[3, 0, 4, 0, 9, 0]),
            (9999, &[]),
        ];
        for (number, arguments) in others {
            let mut opened = reading();
            opened.before(&request(*number, arguments));
            assert_eq!(opened.bytes_read(3), None, "call {number}");
        }
        let mut opened = reading();
        opened.before(&[0; 5]);
        assert_eq!(opened.bytes_read(3), None, "no request at all");
    }

    #[test]
    fn there_is_a_limit() {
        let mut opened = Opened::default();
        (0..1000).for_each(|number| make(&mut opened, call::OPEN, &[0x5000, 0, 0], number));
        assert_eq!(opened.descriptors.len(), OPENED_MAX);
    }

    #[test]
    fn who_opens_a_file_to_write_and_does_not_wait_is_told_apart() {
        let asks = |number, arguments: &[u64]| opens_to_write_at_once(&request(number, arguments));
        assert!(asks(call::OPEN, &[0x5000, 0o4001, 0]) && asks(call::OPENAT, &[0, 0x5000, 0o5000, 0]));
        assert!(!asks(call::OPEN, &[0x5000, 0o4000, 0o777]) && !asks(call::OPEN, &[0x5000, 0o1001, 0o777]));
        assert!(!asks(call::READ, &[0, 0x5000, 0o4001]));
    }
}
