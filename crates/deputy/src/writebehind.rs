//! Writing behind: a thread away from home is told that a write has been made before it has.
//!
//! ```text
//!  guest ──write──► host ──CALL──► home         the first ones are waited for
//!        ◄──────────     ◄─RESULT, GRANTED──
//!  guest ──write──► host                        those that follow are not
//!        ◄──────────     ──CALL, BEHIND──► home
//! ```
//!
//! Nobody can tell that from a write that took place at once. Whatever the thread does next that anybody else could see goes
//! home on the same lane, and is made after it; the process has one thread, and shares memory with nobody. It comes home only when all
//! of its writes have been made. And the write cannot fail: that is what a grant promises. It is given for a regular file on a
//! disk of this machine, or in memory, with room to spare, no quota and no limit of size, that is not written through and that the process
//! does not map; and it is good for some milliseconds and megabytes only, whereas the room is a multiple.
//!
//! Where a write fails all the same (a broken disk, or a file system that was filled up in between), a later call for the descriptor brings
//! its error: the next write, `fsync` or `close`, as where the kernel itself finds out too late.

mod fit;
mod making;

use crate::fault::Result;
use crate::session::lock;
use minka_syscalls::marshal::Write;
use minka_syscalls::opened::{Leaves, Opened, moves_position, tells_of_writes};
use minka_wire::message::{GRANT_TIME, GRANTED, GRANTS_MAX, GRANTS_STAND};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fit::{Fit, fit, get, has_room, is_same_file};
pub(crate) use making::{closes, perform};

/// Writes that follow one another as fast as this are going to go on.
const SOON: Duration = Duration::from_millis(100);

/// And from so many on that is relied on: to look at a file takes as long as some writes.
const IN_A_ROW: u64 = 3;

const WRITE: u64 = 1;

/// What is known of a process's writes.
#[derive(Debug, Default)]
pub(crate) struct WriteBehind {
    known: Mutex<Known>,
    made: Made,
}

#[derive(Debug)]
struct Known {
    /// Whose openings nobody else has.
    opened: Opened,
    /// Descriptors that are written to.
    streams: BTreeMap<i32, Stream>,
    /// Descriptors of which a write has failed behind its thread's back, which has not heard of it yet.
    failed: BTreeMap<i32, Failed>,
}

/// A write that has failed.
#[derive(Debug)]
struct Failed {
    error: i64,
    /// The file: another one may get the descriptor. As long as it is open here none gets its inode.
    file: Option<OwnedFd>,
}

impl Default for Known {
    fn default() -> Self {
        Self { opened: Opened::to_write(), streams: BTreeMap::new(), failed: BTreeMap::new() }
    }
}

#[derive(Debug)]
struct Stream {
    last: Instant,
    /// How many writes have followed one another.
    count: u64,
    /// Whether such a file can be written behind, and when that was looked at.
    fit: Option<(Instant, Fit)>,
    is_granted: bool,
}

/// How many writes have been made behind their threads' back.
#[derive(Debug, Default)]
struct Made {
    count: Mutex<u64>,
    more: Condvar,
}

impl WriteBehind {
    /// A call is about to be made, for this request: what it may change is not known any more.
    pub(crate) fn before(&self, request: &[u8]) {
        let mut known = lock(&self.known);
        known.opened.before(request);
        match Leaves::of(request) {
            // Whether there is room depends on where it is written.
            Leaves::Everything if moves_position(request) => known.end_grants(),
            Leaves::Everything => {}
            Leaves::EverythingBut(closed) => known.end(closed),
            Leaves::Nothing => known.streams.clear(),
        }
    }

    /// The error that a call brings instead of its own result, because a write before it has failed.
    pub(crate) fn error_for(&self, pid: i32, request: &[u8]) -> Option<i64> {
        let descriptor = tells_of_writes(request)?;
        let mut known = lock(&self.known);
        let Failed { error, file } = known.failed.get(&descriptor)?;
        let now = get(pid, descriptor).ok();
        let same = file.as_ref().zip(now).and_then(|(file, now)| is_same_file(file, &now).ok());
        if same == Some(true) {
            return Some(*error);
        }
        known.failed.remove(&descriptor);
        None
    }

    /// The program has got the error that this request brought.
    pub(crate) fn has_told(&self, request: &[u8]) {
        if let Some(descriptor) = tells_of_writes(request) {
            lock(&self.known).failed.remove(&descriptor);
        }
    }

    /// A write to this descriptor has failed.
    fn fails(&self, pid: i32, descriptor: i32, error: i64) {
        let mut known = lock(&self.known);
        let failed = Failed { error, file: get(pid, descriptor).ok() };
        known.failed.entry(descriptor).or_insert(failed);
        known.streams.clear();
    }

    /// The error that an earlier write to it has ended with, of which its thread has not heard yet: those that follow are not made,
    /// for they would be in its place.
    fn failure_of(&self, descriptor: i32) -> Option<i64> {
        lock(&self.known).failed.get(&descriptor).map(|failed| failed.error)
    }

    /// It has been made, with this result. Returns what the flags of the answer say of grants.
    pub(crate) fn after(&self, pid: i32, request: &[u8], result: i64) -> u32 {
        let mut known = lock(&self.known);
        known.opened.after(request, result);
        let granted = match Write::of(request) {
            Some(write) if result == write.count as i64 => known.written(pid, write.descriptor),
            Some(write) => {
                known.streams.remove(&write.descriptor);
                false
            }
            None => false,
        };
        known.flags(granted)
    }

    /// Writes to this descriptor have been made behind their thread's back.
    fn after_batch(&self, pid: i32, descriptor: i32) -> u32 {
        let mut known = lock(&self.known);
        let granted = !known.failed.contains_key(&descriptor) && known.written(pid, descriptor);
        known.flags(granted)
    }

    /// Nothing is granted any more.
    pub(crate) fn forget(&self) {
        let mut known = lock(&self.known);
        known.streams.clear();
        known.opened.forget();
    }

    /// Whether a long write may be made in pieces: nobody else writes to that descriptor, and who reads the file sees pieces anyway.
    fn goes_in_pieces(&self, descriptor: i32) -> bool {
        let known = lock(&self.known);
        let fit = known.streams.get(&descriptor).and_then(|stream| stream.fit);
        fit.is_some_and(|(_, fit)| fit == Fit::InPieces) && known.opened.has(descriptor)
    }

    /// Waits until so many writes have been made; false if none is made any more. Again and again `attend` sees to who makes them,
    /// and says whether that is busy.
    pub(crate) fn wait_for(
        &self,
        count: u64,
        patience: Duration,
        attend: impl Fn() -> Result<bool>,
    ) -> Result<bool> {
        let mut made = lock(&self.made.count);
        let (mut before, mut since) = (*made, Instant::now());
        while *made < count {
            if attend()? || *made != before {
                (before, since) = (*made, Instant::now());
            } else if since.elapsed() > patience {
                return Ok(false);
            }
            let waited = self.made.more.wait_timeout(made, Duration::from_millis(5));
            made = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(true)
    }
}

impl Known {
    /// What an answer says of grants.
    fn flags(&self, granted: bool) -> u32 {
        let stand = self.streams.values().any(|stream| stream.is_granted);
        (if granted { GRANTED } else { 0 }) | (if stand { GRANTS_STAND } else { 0 })
    }

    /// A descriptor is not known any more: another file may get its number. If it was granted, all grants end, for the host
    /// hears only of all; the next write to each of the others is granted again.
    fn end(&mut self, descriptor: i32) {
        if self.streams.remove(&descriptor).is_some_and(|stream| stream.is_granted) {
            self.end_grants();
        }
    }

    fn end_grants(&mut self) {
        self.streams.values_mut().for_each(|stream| stream.is_granted = false);
    }

    /// A descriptor has been written to. Says whether it is granted.
    fn written(&mut self, pid: i32, descriptor: i32) -> bool {
        let now = Instant::now();
        let Some(stream) = self.streams.get_mut(&descriptor) else {
            if self.streams.len() >= GRANTS_MAX {
                let oldest = self.streams.iter().min_by_key(|(_, stream)| stream.last);
                oldest.map(|(descriptor, _)| *descriptor).into_iter().for_each(|oldest| self.end(oldest));
            }
            self.streams.insert(descriptor, Stream { last: now, count: 1, fit: None, is_granted: false });
            return false;
        };
        let is_soon = now - std::mem::replace(&mut stream.last, now) < SOON;
        stream.count = if is_soon { stream.count + 1 } else { 1 };
        if stream.count >= IN_A_ROW && stream.fit.is_none_or(|(at, _)| now - at >= GRANT_TIME) {
            stream.fit = Some((now, fit(pid, descriptor).unwrap_or(Fit::No)));
        }
        let is_fit = stream.count >= IN_A_ROW && stream.fit.is_some_and(|(_, fit)| fit != Fit::No);
        stream.is_granted = is_fit && has_room(pid, descriptor).unwrap_or(false);
        stream.is_granted
    }
}

const _: () = assert!(GRANT_TIME.as_millis() < SOON.as_millis());

#[cfg(test)]
mod tests {
    use super::fit::LENGTH_MAX;
    use super::*;
    use rustix::fs::{OFlags, SeekFrom};
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    fn request(number: u64, descriptor: i32, data: &[u8]) -> Vec<u8> {
        let words = [number, descriptor as u64, 0x7000_0000, data.len() as u64, 0, 0, 0];
        let mut request: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        request.extend_from_slice(data);
        request
    }

    fn own_pid() -> i32 {
        std::process::id().cast_signed()
    }

    /// Writes so often that it is going to go on; what came of the last two.
    fn write_on(behind: &WriteBehind, file: &impl AsRawFd) -> [u32; 2] {
        let request = request(WRITE, file.as_raw_fd(), b"data");
        let mut results = (0..IN_A_ROW).map(|_| {
            behind.before(&request);
            behind.after(own_pid(), &request, 4)
        });
        let last = results.by_ref().skip(IN_A_ROW as usize - 2).collect::<Vec<_>>();
        [last[0], last[1]]
    }

    #[test]
    fn a_file_in_which_there_is_room_is_granted_when_the_program_goes_on_to_write() {
        let file = tempfile::tempfile_in("/var/tmp").expect("a file");
        let fits = fit(own_pid(), file.as_raw_fd()).expect("a file") != Fit::No
            && has_room(own_pid(), file.as_raw_fd()).expect("a file");
        let behind = WriteBehind::default();
        let expected = if fits { [0, GRANTED | GRANTS_STAND] } else { [0, 0] };
        assert_eq!(write_on(&behind, &file), expected);
        let asked = behind.after(own_pid(), &request(5, file.as_raw_fd(), &[]), 0);
        assert_eq!(asked, if fits { GRANTS_STAND } else { 0 }, "fstat leaves it as it is");
        behind.before(&request(3, file.as_raw_fd(), &[]));
        assert_eq!(behind.after(own_pid(), &request(5, 0, &[]), 0), 0, "it is closed");
    }

    #[test]
    fn what_may_fail_or_wait_is_not_granted() {
        let (_reader, writer) = std::io::pipe().expect("a pipe");
        let sealed = minka_kernel::shared::memfd(c"test", 0).expect("a memfd");
        let named = tempfile::NamedTempFile::new_in("/var/tmp").expect("a file");
        let through = File::options().write(true).custom_flags(OFlags::SYNC.bits() as i32).open(named.path());
        let through = through.expect("the file");
        assert_eq!(write_on(&WriteBehind::default(), &writer), [0, 0]);
        assert_eq!(write_on(&WriteBehind::default(), &sealed), [0, 0]);
        assert_eq!(write_on(&WriteBehind::default(), &through), [0, 0]);
    }

    #[test]
    fn a_call_that_may_change_what_a_descriptor_is_ends_all_grants() {
        const DUP2: u64 = 33;
        const PRLIMIT64: u64 = 302;
        for number in [DUP2, PRLIMIT64] {
            let file = tempfile::tempfile_in("/var/tmp").expect("a file");
            let behind = WriteBehind::default();
            write_on(&behind, &file);
            behind.before(&request(number, 0, &[]));
            assert_eq!(behind.after(own_pid(), &request(number, 0, &[]), 0), 0);
        }
    }

    #[test]
    fn a_number_that_is_given_back_takes_all_grants_with_it_until_the_next_writes() {
        let [one, other] = [(); 2].map(|()| tempfile::tempfile_in("/var/tmp").expect("a file"));
        let behind = WriteBehind::default();
        let granted = write_on(&behind, &one)[1];
        assert_eq!(write_on(&behind, &other)[1], granted);
        let close = request(3, one.as_raw_fd(), &[]);
        behind.before(&close);
        assert_eq!(behind.after(own_pid(), &close, 0), 0, "the host does not know which number it is");
        let next = request(WRITE, other.as_raw_fd(), b"data");
        assert_eq!(behind.after(own_pid(), &next, 4), granted);
    }

    #[test]
    fn of_many_descriptors_none_is_granted_that_is_not_known() {
        let files: Vec<File> =
            (0..=GRANTS_MAX).map(|_| tempfile::tempfile_in("/var/tmp").expect("a file")).collect();
        let behind = WriteBehind::default();
        files[..GRANTS_MAX].iter().for_each(|file| _ = write_on(&behind, file));
        let one_more = request(WRITE, files[GRANTS_MAX].as_raw_fd(), b"data");
        assert_eq!(behind.after(own_pid(), &one_more, 4), 0);
    }

    #[test]
    fn a_write_that_falls_short_is_not_granted() {
        let file = tempfile::tempfile_in("/var/tmp").expect("a file");
        let behind = WriteBehind::default();
        write_on(&behind, &file);
        let request = request(WRITE, file.as_raw_fd(), b"data");
        assert_eq!(behind.after(own_pid(), &request, 3), 0);
    }

    #[test]
    fn the_error_of_a_write_is_told_once_to_the_next_call_that_asks_for_such() {
        let [one, other] = [(); 2].map(|()| tempfile::tempfile_in("/var/tmp").expect("a file"));
        let behind = WriteBehind::default();
        let error =
            |number, file: &File| behind.error_for(own_pid(), &request(number, file.as_raw_fd(), &[]));
        for number in [3, 74, 1] {
            behind.fails(own_pid(), one.as_raw_fd(), -28);
            behind.fails(own_pid(), one.as_raw_fd(), -5);
            assert_eq!((error(5, &one), error(3, &other)), (None, None), "fstat, and another descriptor");
            assert_eq!(behind.failure_of(one.as_raw_fd()), Some(-28), "what follows is not made");
            assert_eq!(error(number, &one), Some(-28), "{number}");
            behind.has_told(&request(number, one.as_raw_fd(), &[]));
            assert_eq!(error(number, &one), None, "{number}");
            assert_eq!(behind.failure_of(one.as_raw_fd()), None);
        }
    }

    #[test]
    fn the_error_of_a_write_is_not_told_of_another_file_that_has_got_its_number() {
        let file = tempfile::tempfile_in("/var/tmp").expect("a file");
        let behind = WriteBehind::default();
        behind.fails(own_pid(), file.as_raw_fd(), -28);
        let number = file.as_raw_fd();
        drop(file);
        let other = tempfile::tempfile_in("/var/tmp").expect("a file");
        let other = rustix::io::fcntl_dupfd_cloexec(&other, number).expect("a number");
        let found = behind.error_for(own_pid(), &request(74, number, &[]));
        assert_eq!((found, behind.failure_of(number)), (None, None), "{other:?}");
    }

    #[test]
    fn where_the_next_write_goes_is_looked_at_again_after_lseek() {
        let file = tempfile::tempfile_in("/var/tmp").expect("a file");
        let behind = WriteBehind::default();
        let granted = write_on(&behind, &file)[1];
        let seek = request(8, file.as_raw_fd(), &[]);
        behind.before(&seek);
        assert_eq!(behind.after(own_pid(), &seek, 0), 0);
        let next = request(WRITE, file.as_raw_fd(), b"data");
        assert_eq!(behind.after(own_pid(), &next, 4), granted);
        rustix::fs::seek(&file, SeekFrom::Start(LENGTH_MAX)).expect("a place");
        behind.before(&seek);
        assert_eq!(behind.after(own_pid(), &next, 4), 0, "too far");
    }

    #[test]
    fn who_waits_for_writes_goes_on_when_they_have_been_made() {
        let behind = WriteBehind::default();
        *lock(&behind.made.count) = 3;
        let idle = || Ok(false);
        assert!(behind.wait_for(3, Duration::ZERO, idle).expect("nothing fails"));
        assert!(!behind.wait_for(4, Duration::from_millis(1), idle).expect("nothing fails"));
        let ends = behind.wait_for(4, Duration::from_secs(10), || Err(crate::fault::Fault::Ending));
        ends.expect_err("who makes them has ended");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                *lock(&behind.made.count) = 4;
            });
            assert!(behind.wait_for(4, Duration::from_secs(10), idle).expect("nothing fails"));
        });
    }
}
