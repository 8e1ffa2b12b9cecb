//! Programs that compute on an accelerator, by a vendor's library: [`opencl`] for all vendors, [`cuda`] for NVIDIA's.
//!
//! ```text
//!   opencl::cards, cuda::cards ──► Card { facts, driver }
//!                                    │ allocate, upload, fill, copy, chain, check, download
//!                                    ▼
//!                                  Driver: what the two libraries have in common
//! ```
//!
//! The programs are fixed, and each is as much for OpenCL (`programs.cl`) as for CUDA (`programs.ptx`). Whether sizes
//! fit is looked at here, before a device is asked; what a device writes beyond them nobody can prevent. A library may
//! crash or hang, and keeps what it was given until the process ends: so only a process calls it that has nothing to
//! lose.

use std::fmt;

/// The functions of a library that are called: their names and types.
macro_rules! functions {
    ($($field:ident $name:literal fn($($argument:ty),*) -> $result:ty;)*) => {
        /// The functions that are called.
        #[derive(Debug, Clone, Copy)]
        struct Functions {
            $($field: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl Functions {
            fn of(library: &Library) -> Result<Self, ComputeError> {
                Ok(Functions {
                    $($field: {
                        let name = concat!($name, "\0");
                        let found = std::ffi::CStr::from_bytes_with_nul(name.as_bytes()).ok();
                        let found = found.and_then(|name| library.find(name));
                        let found = found.ok_or(ComputeError::NoFunction($name))?;
                        // SAFETY: the function of this name has this type.
                        unsafe { std::mem::transmute::<Handle, unsafe extern "C" fn($($argument),*) -> $result>(found) }
                    },)*
                })
            }
        }
    };
}

pub mod cuda;
pub mod opencl;

/// No more devices are looked at.
const CARDS_MAX: usize = 64;

/// How many operations a thread of [`Card::chain`] does in a round, and how many chains it has.
const CHAIN_OPERATIONS: u32 = 128;
const CHAINS: u32 = 8;

/// The numbers that a chain begins with are less than this, and are subtracted from [`CHAIN_MIRROR`].
const CHAIN_STARTS: u32 = 1024;
const CHAIN_MIRROR: f32 = 4096.0;

/// A piece of memory is a multiple of this.
pub const MEMORY_UNIT: u64 = 4096;

/// Why something was not computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComputeError {
    /// There is no such library.
    NoLibrary(String),
    /// It lacks a function.
    NoFunction(&'static str),
    /// A function failed, with the library's number for why.
    Failed(&'static str, i32),
    /// The programs are not taken.
    Build(String),
    /// What was asked makes no sense.
    Senseless(&'static str),
}

impl fmt::Display for ComputeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ComputeError::NoLibrary(text) => write!(formatter, "load the library: {text}"),
            ComputeError::NoFunction(name) => write!(formatter, "the library has no {name}"),
            ComputeError::Failed(name, number) => write!(formatter, "{name} failed: {number}"),
            ComputeError::Build(text) => write!(formatter, "build the programs: {text}"),
            ComputeError::Senseless(what) => formatter.write_str(what),
        }
    }
}

impl std::error::Error for ComputeError {}

/// Where a device is on its bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The domain, which not every library tells.
    pub domain: Option<u32>,
    /// The bus.
    pub bus: u32,
    /// The device.
    pub device: u32,
    /// The function.
    pub function: u32,
}

/// What a library tells of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What it is called.
    pub name: String,
    /// Which library it is, and of which version.
    pub runtime: String,
    /// Where it is; unknown for what is not on a bus.
    pub place: Option<Place>,
    /// Whether it is the machine's processor.
    pub is_processor: bool,
    /// Bytes of its memory.
    pub memory_bytes: u64,
    /// Bytes that a piece of memory has at most.
    pub piece_bytes_max: u64,
    /// Whether its memory is the machine's.
    pub shares_memory: bool,
    /// Its parts that compute by themselves.
    pub units: u32,
    /// Whether it computes with 64 bits.
    pub has_double: bool,
}

/// A piece of a device's memory.
#[derive(Debug)]
pub struct Memory {
    handle: u64,
    bytes: u64,
}

impl Memory {
    /// How large it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Memory of the machine's that a device reads and writes by itself; there until the process ends.
#[derive(Debug)]
pub struct Staging {
    bytes: &'static mut [u8],
}

impl Staging {
    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// What is in it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

/// What memory is filled with, as 32-bit words: a mixture of each word's number under a mask, with bits turned over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// Which mixture.
    pub seed: u32,
    /// Which of its bits; none for words that are all the same.
    pub mask: u32,
    /// Bits that are turned over.
    pub flip: u32,
}

impl Pattern {
    /// The word of a number.
    pub fn word(self, number: u64) -> u32 {
        let (low, high) = (number as u32, (number >> 32) as u32);
        let mut word = low.wrapping_add(high.wrapping_mul(0x9e37_79b9)) ^ self.seed;
        word ^= word >> 16;
        word = word.wrapping_mul(0x7feb_352d);
        word ^= word >> 15;
        word = word.wrapping_mul(0x846c_a68b);
        word ^= word >> 16;
        (word & self.mask) ^ self.flip
    }
}

/// Words that are not as they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mistakes {
    /// How many there are, at most 2³² − 1.
    pub count: u32,
    /// The first page of 4096 bytes that has one.
    pub first_page: Option<u32>,
}

/// How many bits the numbers of a computation have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 32.
    Single,
    /// 64.
    Double,
}

/// What a program is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    Memory(u64),
    Long(u64),
    Word(u32),
}

/// What the libraries have in common.
pub(crate) trait Driver: fmt::Debug {
    fn free_bytes(&self) -> Option<u64>;
    fn allocate(&mut self, bytes: u64) -> Result<u64, ComputeError>;
    fn release(&mut self, handle: u64) -> Result<(), ComputeError>;
    fn staging(&mut self, bytes: usize) -> Result<&'static mut [u8], ComputeError>;
    fn upload(&mut self, from: &[u8], to: u64) -> Result<(), ComputeError>;
    fn download(&mut self, from: u64, to: &mut [u8]) -> Result<(), ComputeError>;
    /// Begins a program with so many threads, a multiple of 256.
    fn launch(
        &mut self,
        name: &'static str,
        arguments: &[Argument],
        threads: u64,
    ) -> Result<(), ComputeError>;
    /// Waits until all has been done.
    fn finish(&mut self) -> Result<(), ComputeError>;
}

/// A device that computes. What it is asked has been done when the answer comes.
#[derive(Debug)]
pub struct Card {
    facts: Facts,
    driver: Box<dyn Driver>,
    /// Where a check counts.
    tally: Option<Memory>,
}

impl Card {
    fn new(facts: Facts, driver: Box<dyn Driver>) -> Self {
        Card { facts, driver, tally: None }
    }

    /// What is known of it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Bytes of its memory that nobody uses, if it tells.
    pub fn free_bytes(&self) -> Option<u64> {
        self.driver.free_bytes()
    }

    /// How many threads keep all of it busy.
    fn threads(&self) -> u64 {
        u64::from(self.facts.units.clamp(1, 1 << 16)) * 2048
    }

    /// Takes memory.
    pub fn allocate(&mut self, bytes: u64) -> Result<Memory, ComputeError> {
        if bytes == 0 || !bytes.is_multiple_of(MEMORY_UNIT) {
            return Err(ComputeError::Senseless("memory comes in pages"));
        }
        Ok(Memory { handle: self.driver.allocate(bytes)?, bytes })
    }

    /// Gives memory back.
    pub fn release(&mut self, memory: Memory) -> Result<(), ComputeError> {
        self.driver.release(memory.handle)
    }

    /// Takes memory of the machine's.
    pub fn staging(&mut self, bytes: usize) -> Result<Staging, ComputeError> {
        Ok(Staging { bytes: self.driver.staging(bytes)? })
    }

    /// Copies from the machine's memory to the device's.
    pub fn upload(&mut self, from: &Staging, to: &Memory) -> Result<(), ComputeError> {
        same_size(from.bytes.len() as u64, to.bytes)?;
        self.driver.upload(from.bytes, to.handle)
    }

    /// Copies from the device's memory to the machine's.
    pub fn download(&mut self, from: &Memory, to: &mut Staging) -> Result<(), ComputeError> {
        same_size(to.bytes.len() as u64, from.bytes)?;
        self.driver.download(from.handle, to.bytes)
    }

    /// Fills memory.
    pub fn fill(&mut self, memory: &Memory, pattern: Pattern) -> Result<(), ComputeError> {
        let arguments = filling(memory, pattern);
        self.driver.launch("fill", &arguments, self.threads())?;
        self.driver.finish()
    }

    /// Counts the words of a memory that are not as they were filled.
    pub fn check(&mut self, memory: &Memory, pattern: Pattern) -> Result<Mistakes, ComputeError> {
        let tally = match self.tally.take() {
            Some(tally) => tally,
            None => self.allocate(MEMORY_UNIT)?,
        };
        let handle = tally.handle;
        self.tally = Some(tally);
        // Mistakes, the first page with one, and words that were looked at.
        let mut bytes = [0; 12];
        bytes[4..8].fill(0xff);
        self.driver.upload(&bytes, handle)?;
        let mut arguments = filling(memory, pattern).to_vec();
        arguments.push(Argument::Memory(handle));
        self.driver.launch("check", &arguments, self.threads())?;
        self.driver.finish()?;
        self.driver.download(handle, &mut bytes)?;
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let first_page = (word(0) > 0).then_some(word(4));
        // What nobody looked at is not right; all are counted as 32 bits count.
        let unseen = ((memory.bytes / 4) as u32).wrapping_sub(word(8));
        Ok(Mistakes { count: word(0).saturating_add(unseen), first_page })
    }

    /// Copies memory within the device so many times.
    pub fn copy(&mut self, from: &Memory, to: &Memory, times: u32) -> Result<(), ComputeError> {
        same_size(from.bytes, to.bytes)?;
        let arguments =
            [Argument::Memory(from.handle), Argument::Memory(to.handle), Argument::Long(from.bytes / 16)];
        for _ in 0..times {
            self.driver.launch("copy", &arguments, self.threads())?;
        }
        self.driver.finish()
    }

    /// Has all of the device multiply and add for so many rounds. Returns how many operations that were.
    pub fn chain(&mut self, width: Width, to: &Memory, rounds: u32) -> Result<f64, ComputeError> {
        let (name, each) = match width {
            Width::Single => ("chain32", 4),
            Width::Double if self.facts.has_double => ("chain64", 8),
            Width::Double => return Err(ComputeError::Senseless("the device has no numbers of 64 bits")),
        };
        let threads = self.threads().min(to.bytes / each / 256 * 256);
        if threads == 0 {
            return Err(ComputeError::Senseless("the memory is too small for results"));
        }
        let arguments = [
            Argument::Memory(to.handle),
            Argument::Word(rounds),
            // As numbers of their bits, so that no compiler knows them.
            Argument::Word((-1.0_f32).to_bits()),
            Argument::Word(CHAIN_MIRROR.to_bits()),
        ];
        self.driver.launch(name, &arguments, threads)?;
        self.driver.finish()?;
        // A multiplication and an addition are two.
        Ok(threads as f64 * f64::from(rounds) * f64::from(CHAIN_OPERATIONS) * 2.0)
    }

    /// Bytes that the results of [`chain`](Self::chain) take.
    pub fn chain_bytes(&self) -> u64 {
        self.threads() * 8
    }
}

/// What a chain results in: each number is taken from the mirror an even number of times.
pub fn chain_result(thread: u64) -> u32 {
    let start = (thread % u64::from(CHAIN_STARTS)) as u32;
    CHAINS * start + CHAINS * (CHAINS - 1) / 2
}

fn filling(memory: &Memory, pattern: Pattern) -> [Argument; 5] {
    [
        Argument::Memory(memory.handle),
        Argument::Long(memory.bytes / 4),
        Argument::Word(pattern.seed),
        Argument::Word(pattern.mask),
        Argument::Word(pattern.flip),
    ]
}

fn same_size(one: u64, other: u64) -> Result<(), ComputeError> {
    if one == other { Ok(()) } else { Err(ComputeError::Senseless("the sizes differ")) }
}

/// A text of a library's, cut where it ends.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(200).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_pinned() {
        let check = |pattern: Pattern, number, expected| assert_eq!(pattern.word(number), expected);
        check(Pattern { seed: 0, mask: 0, flip: 0x5555_5555 }, 77, 0x5555_5555);
        check(Pattern { seed: 0, mask: u32::MAX, flip: 0 }, 0, 0);
        let one = Pattern { seed: 1, mask: u32::MAX, flip: 0 };
        let turned = Pattern { flip: u32::MAX, ..one };
        assert_eq!(one.word(12_345), !turned.word(12_345));
        assert_ne!(one.word(5), one.word(5 + (1 << 32)));
    }

    #[test]
    fn a_chain_ends_where_it_began() {
        for thread in [0, 1, 1023, 1024, 70_000] {
            let sum: f32 = (0..CHAINS)
                .map(|chain| {
                    let start = (thread % u64::from(CHAIN_STARTS)) as f32 + chain as f32;
                    (0..CHAIN_OPERATIONS / CHAINS).fold(start, |x, _| x.mul_add(-1.0, CHAIN_MIRROR))
                })
                .sum();
            assert_eq!(sum, chain_result(thread) as f32);
        }
    }

    #[test]
    fn texts_are_cut() {
        assert_eq!(text(b" NVIDIA\x1b[1m CUDA\0rest"), "NVIDIA[1m CUDA");
    }
}
