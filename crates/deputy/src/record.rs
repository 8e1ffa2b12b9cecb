//! The record that lets another deputy put a process right if this one is killed.
//!
//! It is a small file in the node's run directory, written before the process is first changed and removed when
//! the process is an ordinary one again. It holds its last two states, each written by one call in turn:
//!
//! ```text
//! 0      state: number u64, length u64, content, number u64 again
//! HALF   the one before or after it
//! ```
//!
//! A state that is not whole does not end with its number; then the other one counts. While the process stands still a
//! write is worth some 5 µs, and a new file put in place of the old one would be worth 80.

use minka_image::process::Thread;
use minka_image::registers::Registers;
use minka_kernel::procfs::Stat;
use minka_wire::local::{Family, RECORD_PREFIX};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// How far the process had been taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Stopped; the ring is being mapped, and nothing else is different.
    Parking,
    /// In the agent; everything of the program is here.
    Parked,
    /// The guest has done something that cannot be undone: what it computed since is only at the host.
    Committed,
}

/// The record's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// When the process started, clock ticks after boot: another one that gets its PID later is none of this record's.
    pub(crate) start: u64,
    pub(crate) phase: Phase,
    pub(crate) threads: Vec<Thread>,
    /// The registers with which each thread was found.
    pub(crate) originals: Vec<Registers>,
    /// The family with which it moves: what becomes of it is in that one's ledger.
    pub(crate) family: Option<Family>,
}

/// Where it is kept.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    /// When the process that has the PID now started.
    start: u64,
    state: Mutex<State>,
}

impl Record {
    /// For a process; nothing is written yet.
    pub(crate) fn new(run_dir: &Path, pid: i32) -> Self {
        // Of a process that is gone there is nothing to be kept or read.
        let start = Stat::read(pid).map_or(0, |stat| stat.start);
        Self { path: run_dir.join(format!("{RECORD_PREFIX}{pid}")), start, state: Mutex::default() }
    }

    /// Makes the file, still empty, so that this need not be done while the process stands still.
    pub(crate) fn prepare(&self) {
        if let Err(error) = lock(&self.state).open(&self.path) {
            self.complain(&error);
        }
    }

    /// What a killed deputy left of this very process, if it left anything.
    pub(crate) fn read(&self) -> Option<Content> {
        let bytes = std::fs::read(&self.path).ok()?;
        let halves = [bytes.get(..HALF as usize).unwrap_or(&bytes), bytes.get(HALF as usize..)?];
        let (_, content) = halves.into_iter().filter_map(whole).max_by_key(|(number, _)| *number)?;
        (content.start == self.start).then_some(content)
    }

    pub(crate) fn parking(&self, threads: &[Thread], originals: &[Registers], family: Option<&Family>) {
        let (threads, originals, family) = (threads.to_vec(), originals.to_vec(), family.cloned());
        let content = Content { start: self.start, phase: Phase::Parking, threads, originals, family };
        self.write(|state| *state = Some(content));
    }

    pub(crate) fn parked(&self, threads: &[Thread]) {
        self.write(|content| {
            if let Some(content) = content {
                (content.phase, content.threads) = (Phase::Parked, threads.to_vec());
            }
        });
    }

    pub(crate) fn committed(&self) {
        self.write(|content| {
            if let Some(content) = content {
                content.phase = Phase::Committed;
            }
        });
    }

    /// The process is an ordinary one again, or has ended.
    pub(crate) fn clear(&self) {
        *lock(&self.state) = State::default();
        // If it was never written there is nothing to remove.
        let _ = std::fs::remove_file(&self.path);
    }

    fn write(&self, change: impl FnOnce(&mut Option<Content>)) {
        let mut state = lock(&self.state);
        change(&mut state.content);
        if let Err(error) = state.save(&self.path) {
            self.complain(&error);
        }
    }

    fn complain(&self, error: &std::io::Error) {
        tracing::warn!(path = %self.path.display(), %error, "cannot keep the record for a rescue");
    }
}

/// What has been written last.
#[derive(Debug, Default)]
struct State {
    content: Option<Content>,
    number: u64,
    file: Option<File>,
}

impl State {
    fn open(&mut self, path: &Path) -> std::io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?,
        };
        Ok(self.file.insert(file))
    }

    fn save(&mut self, path: &Path) -> std::io::Result<()> {
        let Some(content) = &self.content else { return Ok(()) };
        let content = postcard::to_allocvec(content).map_err(std::io::Error::other)?;
        self.number += 1;
        let number = self.number.to_le_bytes();
        let bytes = [&number[..], &(content.len() as u64).to_le_bytes(), &content, &number].concat();
        if bytes.len() as u64 > HALF {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let place = (self.number % 2) * HALF;
        self.open(path)?.write_all_at(&bytes, place)
    }
}

/// Room for one state. The extended registers are the longest part of it: for each thread some 11 KiB where they are
/// longest. Only what is written takes space.
const HALF: u64 = 8 << 20;

/// A state that has been written to its end, and its number.
fn whole(half: &[u8]) -> Option<(u64, Content)> {
    let (number, rest) = half.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (content, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let ends_whole = rest.first_chunk::<8>() == Some(number);
    let content = postcard::from_bytes(content).ok().filter(|_| ends_whole)?;
    Some((u64::from_le_bytes(*number), content))
}

/// Locks, whoever panicked before: the data are plain values.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tid: i32) -> Thread {
        Thread { extended: vec![7; 3000], ..Thread::new(tid) }
    }

    fn record(name: &str) -> Record {
        Record {
            path: std::env::temp_dir().join(format!("minka-record-{name}-{}", std::process::id())),
            ..Record::new(Path::new("/"), 0)
        }
    }

    #[test]
    fn a_record_of_another_process_with_that_pid_is_none() {
        let record = record("reused");
        record.parking(&[thread(1)], &[Registers::default()], None);
        assert!(record.read().is_some());
        let later = Record { path: record.path.clone(), start: record.start + 1, state: Mutex::default() };
        assert_eq!(later.read(), None);
        later.clear();
        assert_eq!(record.read(), None);
    }

    #[test]
    fn the_last_state_is_read() {
        let record = record("last");
        assert_eq!(record.read(), None);
        record.prepare();
        assert_eq!(record.read(), None);
        record.parking(&[thread(1)], &[Registers::default()], None);
        assert_eq!(record.read().map(|content| content.phase), Some(Phase::Parking));
        for tid in 2..9 {
            record.parked(&[thread(tid)]);
            let content = record.read().expect("a state");
            assert_eq!((content.phase, content.threads[0].tid), (Phase::Parked, tid));
        }
        record.clear();
        assert_eq!(record.read(), None);
    }

    #[test]
    fn half_a_state_does_not_count() {
        let record = record("half");
        record.parking(&[thread(1)], &[Registers::default()], None);
        record.parked(&[thread(2)]);
        let whole = std::fs::read(&record.path).expect("the record");
        // The second state lies in the first half of the file: all that may be missing of it is its end.
        let state = postcard::to_allocvec(&record.read()).expect("bytes").len();
        for cut in [9, 100, state / 2, state] {
            let mut torn = whole.clone();
            torn[cut..HALF as usize].fill(0);
            std::fs::write(&record.path, torn).expect("the record");
            assert_eq!(record.read().map(|content| content.threads[0].tid), Some(1), "{cut}");
        }
        record.clear();
    }
}
