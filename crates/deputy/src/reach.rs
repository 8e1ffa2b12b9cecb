//! Forwarded calls that would reach, by a descriptor or a name, the shared memory that is away with the process: what
//! they would find at home is old. The process has to be at home for them.

use minka_syscalls::marshal::Placed;
use minka_syscalls::spec::{Direction, Kind};

/// The area in which a call's data lie.
#[derive(Clone, Copy)]
pub(crate) struct Area<'a> {
    pub(crate) address: u64,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Area<'a> {
    fn at(&self, address: u64, length: usize) -> Option<&'a [u8]> {
        let from = usize::try_from(address.checked_sub(self.address)?).ok()?;
        self.bytes.get(from..from.checked_add(length)?)
    }

    pub(crate) fn word(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.at(address, 8)?.try_into().ok()?))
    }

    /// What lies at an address up to the next NUL.
    pub(crate) fn text(&self, address: u64) -> Option<&'a [u8]> {
        let from = usize::try_from(address.checked_sub(self.address)?).ok()?;
        self.bytes.get(from..)?.split(|byte| *byte == 0).next()
    }
}

/// What tells descriptors that lead to such memory from others.
pub(crate) trait Descriptors {
    /// Whether a descriptor leads there.
    fn is_behind(&self, descriptor: i32) -> bool;
    /// Whether a descriptor is a directory from which such memory can be opened.
    fn leads_there(&self, descriptor: i32) -> bool;
    /// Whether others will find such memory when all who have it have ended.
    fn outlives(&self) -> bool;
    /// Whether some of it lies on a disk.
    fn is_on_disk(&self) -> bool;
    /// Whether the process has no other thread.
    fn is_last_thread(&self) -> bool;
}

/// Whether a call would reach the memory, or give another process the means to.
pub(crate) fn reaches(placed: &Placed, area: Area<'_>, descriptors: &impl Descriptors) -> bool {
    if is_harmless(placed) {
        return false;
    }
    if reaches_without(placed.number(), descriptors) {
        return true;
    }
    let arguments = placed.spec().arguments.iter().zip(placed.arguments());
    let mut names = false;
    let mut directory = None;
    for (argument, value) in arguments {
        let reached = match argument.kind {
            Kind::Fd => {
                directory = directory.or(Some(*value as i32));
                (*value as i32) >= 0 && descriptors.is_behind(*value as i32)
            }
            Kind::Str => {
                names = true;
                area.text(*value).is_some_and(leads_to_descriptors)
            }
            Kind::Message(Direction::In) => passes(area, *value, descriptors),
            Kind::Messages(Direction::In, count) => {
                // struct mmsghdr { struct msghdr, unsigned int }
                const MMSGHDR: u64 = 64;
                let count = placed.arguments()[usize::from(count)].min(1024);
                (0..count).any(|index| passes(area, value.wrapping_add(index * MMSGHDR), descriptors))
            }
            _ => false,
        };
        if reached {
            return true;
        }
    }
    names && directory.is_some_and(|directory| directory >= 0 && descriptors.leads_there(directory))
}

/// Calls that reach it without a descriptor of it and without opening it, which the process would not be permitted
/// ([`crate::sole`]): what cuts a file short by its name, sets its times, has all disks be as they should, and the end.
fn reaches_without(number: u32, descriptors: &impl Descriptors) -> bool {
    const EXIT: u32 = 60;
    const TRUNCATE: u32 = 76;
    const SYNC: u32 = 162;
    const EXIT_GROUP: u32 = 231;
    const SYNCFS: u32 = 306;
    /// `utime`, `utimes`, `futimesat`, `utimensat`
    const TIMES: [u32; 4] = [132, 235, 261, 280];
    match number {
        TRUNCATE => true,
        EXIT => descriptors.outlives() && descriptors.is_last_thread(),
        EXIT_GROUP => descriptors.outlives(),
        SYNC | SYNCFS => descriptors.is_on_disk(),
        number => TIMES.contains(&number) && descriptors.outlives(),
    }
}

/// Calls on descriptors that have nothing to do with what these lead to.
fn is_harmless(placed: &Placed) -> bool {
    const CLOSE: u32 = 3;
    const DUP: [u32; 3] = [32, 33, 292];
    const FCNTL: u32 = 72;
    const CLOSE_RANGE: u32 = 436;
    /// `F_DUPFD`, `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_DUPFD_CLOEXEC`.
    const PLAIN: [u64; 5] = [0, 1, 2, 3, 1030];
    let [_, command, ..] = *placed.arguments();
    match placed.number() {
        CLOSE | CLOSE_RANGE => true,
        FCNTL => PLAIN.contains(&(command & 0xffff_ffff)),
        number => DUP.contains(&number),
    }
}

/// Names by which what is mapped or open can be opened once more: `/proc/PID/fd/N`, `/proc/PID/map_files/…`, `/dev/fd/N`.
fn leads_to_descriptors(name: &[u8]) -> bool {
    let holds = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    holds(b"/fd/") || holds(b"/map_files/") || name == b"/dev/stdin" || name == b"/dev/stdout"
}

/// Whether a message passes descriptors on that lead there (`SCM_RIGHTS`). What cannot be read does.
fn passes(area: Area<'_>, message: u64, descriptors: &impl Descriptors) -> bool {
    // struct msghdr { name, namelen, iov, iovlen, control, controllen, flags }
    let (Some(control), Some(length)) = (area.word(message + 32), area.word(message + 40)) else {
        return message != 0;
    };
    if control == 0 || length == 0 {
        return false;
    }
    let Some(mut rest) = usize::try_from(length).ok().and_then(|length| area.at(control, length)) else {
        return true;
    };
    // struct cmsghdr { size_t len; int level; int type; }, each at a multiple of eight
    const HEAD: usize = 16;
    const SOCKET_RIGHTS: [u8; 8] = [1, 0, 0, 0, 1, 0, 0, 0];
    while let Some(head) = rest.first_chunk::<HEAD>() {
        let length = usize::from_le_bytes(head[..8].try_into().expect("eight bytes"));
        let Some(data) = rest.get(HEAD..length) else { return false };
        let mut passed = data.as_chunks::<4>().0.iter().map(|number| i32::from_le_bytes(*number));
        if head[8..] == SOCKET_RIGHTS && passed.any(|descriptor| descriptors.is_behind(descriptor)) {
            return true;
        }
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use minka_syscalls::marshal;

    /// Descriptor 5 leads there; from 6 it can be opened. Whether it has a name, and lies on a disk.
    struct Five(bool);

    impl Descriptors for Five {
        fn outlives(&self) -> bool {
            self.0
        }
        fn is_on_disk(&self) -> bool {
            self.0
        }
        fn is_last_thread(&self) -> bool {
            true
        }
        fn is_behind(&self, descriptor: i32) -> bool {
            descriptor == 5
        }
        fn leads_there(&self, descriptor: i32) -> bool {
            descriptor == 6
        }
    }

    struct Flat(Vec<u8>);

    const BASE: u64 = 0x1_0000;

    impl marshal::Memory for Flat {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            let from = address.checked_sub(BASE).and_then(|at| self.0.get(at as usize..)).unwrap_or_default();
            let length = from.len().min(into.len());
            into[..length].copy_from_slice(&from[..length]);
            length
        }
        fn append(&self, address: u64, length: usize, out: &mut Vec<u8>) -> usize {
            let from = address.checked_sub(BASE).and_then(|at| self.0.get(at as usize..)).unwrap_or_default();
            let length = from.len().min(length);
            out.extend(&from[..length]);
            length
        }
        fn write(&mut self, _: u64, _: &[u8]) -> usize {
            0
        }
    }

    fn check(number: u64, arguments: [u64; 6], memory: &[u8], expected: bool) {
        check_with(&Five(false), number, arguments, memory, expected);
    }

    fn check_with(five: &Five, number: u64, arguments: [u64; 6], memory: &[u8], expected: bool) {
        const PLACE: u64 = 0x7000_0000;
        let spec = minka_syscalls::lookup(number).expect("a call of the table");
        let memory = Flat([memory, &[0; 256]].concat());
        let mut request = Vec::new();
        marshal::gather(spec, &arguments, &memory, 1 << 16, &mut request).expect("a call that is carried");
        let mut area = vec![0; 1 << 16];
        let placed = marshal::place(&request, &mut area, PLACE)
            .or_else(|_| marshal::place_own(&request, &mut area, PLACE))
            .expect("a call that is placed");
        let found = reaches(&placed, Area { address: PLACE, bytes: &area }, five);
        assert_eq!(found, expected, "{} {arguments:x?}", spec.name);
    }

    #[test]
    fn what_reads_or_writes_the_object_reaches_it() {
        const READ: u64 = 0;
        const PWRITE: u64 = 18;
        const FSTAT: u64 = 5;
        const FTRUNCATE: u64 = 77;
        const SENDFILE: u64 = 40;
        for call in [READ, PWRITE, FSTAT, FTRUNCATE] {
            check(call, [5, BASE, 8, 0, 0, 0], &[], true);
            check(call, [4, BASE, 8, 0, 0, 0], &[], false);
        }
        check(SENDFILE, [4, 5, 0, 8, 0, 0], &[], true);
        check(SENDFILE, [4, 3, 0, 8, 0, 0], &[], false);
    }

    #[test]
    fn descriptors_may_come_and_go() {
        for (call, argument) in [(3, 0), (32, 0), (33, 9), (72, 1), (72, 1030), (436, 0)] {
            check(call, [5, argument, 0, 0, 0, 0], &[], false);
        }
        const F_GETLK: u64 = 5;
        check(72, [5, F_GETLK, BASE, 0, 0, 0], &[0; 32], true);
    }

    #[test]
    fn what_needs_no_descriptor_reaches_it_if_others_will_find_it() {
        const TRUNCATE: u64 = 76;
        check(TRUNCATE, [BASE, 8, 0, 0, 0, 0], b"/tmp/x\0", true);
        for call in [60, 231, 162, 306] {
            check(call, [3, 0, 0, 0, 0, 0], &[], false);
            check_with(&Five(true), call, [3, 0, 0, 0, 0, 0], &[], true);
        }
        const UTIMENSAT: u64 = 280;
        let arguments = [(-100i64) as u64, BASE, BASE + 16, 0, 0, 0];
        check(UTIMENSAT, arguments, b"/tmp/x\0", false);
        check_with(&Five(true), UTIMENSAT, arguments, b"/tmp/x\0", true);
    }

    #[test]
    fn names_of_descriptors_reach_it() {
        const OPEN: u64 = 2;
        const OPENAT: u64 = 257;
        check(OPEN, [BASE, 0, 0, 0, 0, 0], b"/proc/self/fd/5\0", true);
        check(OPEN, [BASE, 0, 0, 0, 0, 0], b"/proc/7/map_files/1000-2000\0", true);
        check(OPEN, [BASE, 0, 0, 0, 0, 0], b"/proc/meminfo\0", false);
        check(OPENAT, [6, BASE, 0, 0, 0, 0], b"5\0", true);
        check(OPENAT, [7, BASE, 0, 0, 0, 0], b"5\0", false);
        check(OPENAT, [(-100i64) as u64, BASE, 0, 0, 0, 0], b"5\0", false);
    }

    #[test]
    fn passing_it_on_reaches_it() {
        const SENDMSG: u64 = 46;
        let message = |descriptors: &[i32], level: u32| {
            let mut bytes = Vec::new();
            let control = 16 + 4 * descriptors.len();
            for word in [0, 0, 0, 0, BASE + 56, control as u64, 0] {
                bytes.extend(u64::to_le_bytes(word));
            }
            bytes.extend((control as u64).to_le_bytes());
            bytes.extend(level.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
            descriptors.iter().for_each(|descriptor| bytes.extend(descriptor.to_le_bytes()));
            bytes
        };
        let arguments = [3, BASE, 0, 0, 0, 0];
        check(SENDMSG, arguments, &message(&[1, 5], 1), true);
        check(SENDMSG, arguments, &message(&[1, 4], 1), false);
        check(SENDMSG, arguments, &message(&[5], 0), false);
        check(SENDMSG, arguments, &[0; 56], false);
    }
}
