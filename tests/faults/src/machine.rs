//! A computation whose every step depends on all before it and on much memory: whoever loses a page, a step or does
//! one twice ends up with other numbers.

use std::fs::File;
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The computation.
#[derive(Debug)]
pub struct Machine {
    memory: Words,
    sum: u64,
    step: u64,
}

/// Members of a family, each a process.
pub const FAMILY: u64 = 3;

/// Threads of a crowd, each of which computes with a machine of its own.
pub const CROWD: u64 = 4;

/// Words that one step changes, all over the memory.
const WORDS_PER_STEP: usize = 24;

impl Machine {
    /// The `number`th machine with that much memory, all of it written.
    pub fn new(kib: usize, number: u64) -> Self {
        let words = kib * 128;
        Self::with(Words::Private((0..words as u64).map(mix).collect()), number)
    }

    /// The same with memory that is shared, but with nobody. It is there as long as the program.
    ///
    /// # Panics
    /// When it cannot be mapped.
    pub fn shared(kib: usize, number: u64) -> Self {
        let mut words = Words::Shared(map_shared(kib));
        words.iter_mut().zip(0..).for_each(|(word, number)| *word = mix(number));
        Self::with(words, number)
    }

    /// Takes up where another one has come to in the same memory.
    pub fn resume(&mut self, sum: u64, step: u64) {
        (self.sum, self.step) = (sum, step);
    }

    fn with(memory: Words, number: u64) -> Self {
        Self { memory, sum: 1 + number, step: 0 }
    }

    /// Computes a step; returns its number, from 1, and its result.
    pub fn step(&mut self) -> (u64, u64) {
        self.step += 1;
        for round in 0..WORDS_PER_STEP as u64 {
            let place = mix(self.sum ^ round) as usize % self.memory.len();
            self.memory[place] = self.memory[place].rotate_left(9) ^ self.sum;
            self.sum = mix(self.sum.wrapping_add(self.memory[place]));
        }
        (self.step, self.sum)
    }

    /// All of the memory.
    pub fn memory(&self) -> &[u64] {
        &self.memory
    }

    /// A sum over all of the memory.
    pub fn digest(&self) -> u64 {
        self.memory.iter().fold(self.sum, |sum, word| mix(sum ^ word))
    }
}

#[derive(Debug)]
enum Words {
    Private(Vec<u64>),
    Shared(&'static mut [u64]),
}

impl Deref for Words {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match self {
            Self::Private(words) => words,
            Self::Shared(words) => words,
        }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Private(words) => words,
            Self::Shared(words) => words,
        }
    }
}

/// By what memory is shared, if not by its mapping alone.
#[derive(Debug)]
enum Share {
    /// By files that have no name, and stay open.
    Files,
    /// By files whose names begin like this, and that nobody keeps open.
    Names(PathBuf),
}

static SHARE: OnceLock<Share> = OnceLock::new();

/// From now on memory is shared by files that have no name, and stay open.
pub fn share_by_files() {
    let _ = SHARE.set(Share::Files);
}

/// From now on memory is shared by files whose names begin like this, followed by their numbers.
pub fn share_by_names(prefix: PathBuf) {
    let _ = SHARE.set(Share::Names(prefix));
}

/// A file that has a name and all the room that it needs.
fn file_with_name(prefix: &Path, kib: usize) -> OwnedFd {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = numbered(prefix, number);
    let mut file = File::options().read(true).write(true).create_new(true).open(path).expect("make a file");
    file.write_all(&vec![0; kib * 1024]).expect("fill it");
    file.into()
}

/// How the names of such files begin, of a program that tells what it does in this file.
pub fn prefix(is_in_memory: bool, told: &Path) -> PathBuf {
    let mut name = told.file_name().unwrap_or_default().to_owned();
    if is_in_memory {
        name.push(format!("-{}-", told.parent().unwrap_or(told).display()).replace('/', "-"));
        Path::new("/dev/shm").join(name)
    } else {
        name.push("-memory-");
        told.with_file_name(name)
    }
}

/// The path of such a file.
pub fn numbered(prefix: &Path, number: u64) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(number.to_string());
    path.into()
}

/// A file in memory, without a name, that stays open.
fn file_without_name(kib: usize) -> OwnedFd {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = format!("/dev/shm/minka-subject-{}-{number}", std::process::id());
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("make a file");
    std::fs::remove_file(path).expect("take its name away");
    file.set_len(kib as u64 * 1024).expect("give it a length");
    file.into()
}

/// Memory that is shared with children, as long as the program runs.
///
/// # Panics
/// When it cannot be mapped.
#[allow(unsafe_code, reason = "a mapping of a kind that no safe library makes")]
pub fn map_shared(kib: usize) -> &'static mut [u64] {
    use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let nowhere = std::ptr::null_mut();
    // SAFETY: a new mapping at an address of the kernel's choice.
    let map = |file: &OwnedFd| unsafe { mmap(nowhere, kib * 1024, protection, MapFlags::SHARED, file, 0) };
    let mapped = match SHARE.get() {
        Some(Share::Files) => {
            let file = file_without_name(kib);
            let mapped = map(&file);
            std::mem::forget(file);
            mapped
        }
        Some(Share::Names(prefix)) => map(&file_with_name(prefix, kib)),
        // SAFETY: as above.
        None => unsafe { mmap_anonymous(nowhere, kib * 1024, protection, MapFlags::SHARED) },
    };
    let mapped = mapped.expect("map shared memory");
    // SAFETY: it is mapped for as long as the program runs, aligned to pages, zero, and nobody else's.
    unsafe { std::slice::from_raw_parts_mut(mapped.cast(), kib * 128) }
}

/// The finisher of `splitmix64`.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
