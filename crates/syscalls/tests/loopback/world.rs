//! Two memories and a call: made directly in one, and carried through gather, place, collect and scatter from the
//! other. Afterwards results and memories must be equal, byte by byte.

use minka_syscalls::marshal::{self, Memory, Refusal};
use minka_syscalls::{Spec, lookup};
use std::cell::RefCell;
use std::sync::OnceLock;

/// Bytes of a region that can be used; a page that cannot follows.
pub(crate) const SIZE: usize = 256 * 1024;
/// Bytes of the area that calls are placed in.
pub(crate) const AREA: usize = 512 * 1024;
const PAGE: usize = 4096;

/// A piece of this process's memory with an unusable page behind it.
pub(crate) struct Region {
    base: *mut u8,
    size: usize,
}

impl Region {
    #[allow(unsafe_code)]
    pub(crate) fn new(size: usize) -> Self {
        let (flags, all) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, size + PAGE);
        // SAFETY: a fresh anonymous mapping anywhere, whose last page is then made unusable.
        let base = unsafe {
            let base =
                libc::mmap(std::ptr::null_mut(), all, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(base, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(base.byte_add(size), PAGE, libc::PROT_NONE), 0);
            base
        };
        Self { base: base.cast(), size }
    }

    pub(crate) fn address(&self) -> u64 {
        self.base as u64
    }

    #[allow(unsafe_code)]
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `size` bytes long, lives as long as self, and nothing else refers to it. System
        // calls write to it only between uses of this slice.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.size) }
    }

    #[allow(unsafe_code)]
    fn shared(&self) -> &[u8] {
        // SAFETY: as above, and shared.
        unsafe { std::slice::from_raw_parts(self.base, self.size) }
    }

    /// The part of the region from an address on, as far as wanted.
    fn range(&self, address: u64, length: usize) -> Option<std::ops::Range<usize>> {
        let from = usize::try_from(address.checked_sub(self.address())?).ok()?;
        (from < self.size).then(|| from..from.saturating_add(length).min(self.size))
    }
}

impl Drop for Region {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, to which nothing refers any more.
        unsafe { libc::munmap(self.base.cast(), self.size + PAGE) };
    }
}

impl Memory for Region {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let Some(range) = self.range(address, into.len()) else { return 0 };
        into[..range.len()].copy_from_slice(&self.shared()[range.clone()]);
        range.len()
    }

    fn write(&mut self, address: u64, from: &[u8]) -> usize {
        let Some(range) = self.range(address, from.len()) else { return 0 };
        self.bytes()[range.clone()].copy_from_slice(&from[..range.len()]);
        range.len()
    }

    fn writable(&self, address: u64, length: usize) -> usize {
        self.range(address, length).map_or(0, |range| range.len())
    }
}

/// Makes a system call; an error comes as a negative number.
#[allow(unsafe_code)]
pub(crate) fn raw(number: i64, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: pointers among the arguments lead into regions of this test, are null or fault; the calls that
    // the tests make do nothing else to the memory of the process.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { result }
}

/// An argument of a [`Scene`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// The same on both ways.
    Value(u64),
    /// The address of this offset in the region.
    At(usize),
    /// One for the direct call, one for the forwarded one: descriptors, as a rule.
    Each(u64, u64),
}

/// A call and the memory it is made in.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    number: i64,
    args: Vec<Arg>,
    bytes: Vec<(usize, [Vec<u8>; 2])>,
    links: Vec<(usize, usize)>,
    blurred: Vec<std::ops::Range<usize>>,
    continued: bool,
    area: usize,
}

/// What came of a [`Scene`].
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) direct: i64,
    pub(crate) forwarded: i64,
    pub(crate) direct_memory: Vec<u8>,
    pub(crate) forwarded_memory: Vec<u8>,
    /// How many requests it took.
    pub(crate) requests: usize,
}

impl Scene {
    pub(crate) fn new(number: i64) -> Self {
        let (args, bytes, links, blurred) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { number, args, bytes, links, blurred, continued: false, area: AREA }
    }

    /// By name, for calls that the `libc` crate does not know.
    pub(crate) fn of(name: &str) -> Self {
        let spec = minka_syscalls::table::CALLS.iter().find(|spec| spec.name == name);
        Self::new(spec.unwrap().number.into())
    }

    pub(crate) fn value(mut self, value: impl TryInto<i64>) -> Self {
        self.args.push(Arg::Value(value.try_into().ok().unwrap() as u64));
        self
    }

    pub(crate) fn raw_value(mut self, value: u64) -> Self {
        self.args.push(Arg::Value(value));
        self
    }

    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.args.push(Arg::At(offset));
        self
    }

    pub(crate) fn each(mut self, direct: i32, forwarded: i32) -> Self {
        self.args.push(Arg::Each(direct as u64, forwarded as u64));
        self
    }

    /// A string or other input at an offset, and its address as the next argument.
    pub(crate) fn input(self, offset: usize, bytes: &[u8]) -> Self {
        self.with(offset, bytes).at(offset)
    }

    pub(crate) fn path(self, offset: usize, path: &std::path::Path) -> Self {
        let mut bytes = path.as_os_str().as_encoded_bytes().to_vec();
        bytes.push(0);
        self.input(offset, &bytes)
    }

    /// Bytes at an offset.
    pub(crate) fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.bytes.push((offset, [bytes.to_vec(), bytes.to_vec()]));
        self
    }

    /// Input that differs between the ways (and is not compared), and its address as the next argument.
    pub(crate) fn each_input(self, offset: usize, direct: &[u8], forwarded: &[u8]) -> Self {
        let range = offset..offset + direct.len().max(forwarded.len());
        self.each_bytes(offset, direct, forwarded).blurred(range).at(offset)
    }

    /// Bytes at an offset that differ between the ways.
    pub(crate) fn each_bytes(mut self, offset: usize, direct: &[u8], forwarded: &[u8]) -> Self {
        self.bytes.push((offset, [direct.to_vec(), forwarded.to_vec()]));
        self
    }

    pub(crate) fn word(self, offset: usize, word: u32) -> Self {
        self.with(offset, &word.to_le_bytes())
    }

    pub(crate) fn long(self, offset: usize, long: u64) -> Self {
        self.with(offset, &long.to_le_bytes())
    }

    /// The address of the offset `to` in the memory at `offset`.
    pub(crate) fn link(mut self, offset: usize, to: usize) -> Self {
        self.links.push((offset, to));
        self
    }

    /// These bytes need not be equal afterwards.
    pub(crate) fn blurred(mut self, range: std::ops::Range<usize>) -> Self {
        self.blurred.push(range);
        self
    }

    /// A capped request is continued, as the host does for writes and regular files.
    pub(crate) fn continued(mut self) -> Self {
        self.continued = true;
        self
    }

    pub(crate) fn area(mut self, size: usize) -> Self {
        self.area = size;
        self
    }

    fn spec(&self) -> &'static Spec {
        lookup(self.number as u64).unwrap()
    }

    fn prepare(&self, region: &mut Region, direct: bool) -> [u64; 6] {
        let base = region.address();
        let memory = region.bytes();
        memory.copy_from_slice(noise());
        for (offset, [one, other]) in &self.bytes {
            let bytes = if direct { one } else { other };
            memory[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        for (offset, to) in &self.links {
            memory[*offset..*offset + 8].copy_from_slice(&(base + *to as u64).to_le_bytes());
        }
        let mut args = [0; 6];
        for (register, arg) in args.iter_mut().zip(&self.args) {
            *register = match arg {
                Arg::Value(value) => *value,
                Arg::At(offset) => base + *offset as u64,
                Arg::Each(one, other) => {
                    if direct {
                        *one
                    } else {
                        *other
                    }
                }
            };
        }
        args
    }

    /// Memory with addresses made relative to the region, and blurred bytes blanked.
    fn picture(&self, region: &mut Region) -> Vec<u8> {
        let base = region.address();
        let mut memory = region.bytes().to_vec();
        for (offset, _) in &self.links {
            let slot: &mut [u8; 8] = (&mut memory[*offset..*offset + 8]).try_into().unwrap();
            *slot = u64::from_le_bytes(*slot).wrapping_sub(base).to_le_bytes();
        }
        for range in &self.blurred {
            memory[range.clone()].fill(0);
        }
        memory
    }

    /// Makes the call directly, without comparing: for setting something up or looking at it.
    pub(crate) fn direct(&self) -> (i64, Vec<u8>) {
        REGIONS.with(|[region, _]| {
            let mut region = region.borrow_mut();
            let args = self.prepare(&mut region, true);
            let result = raw(self.number, args);
            (result, self.picture(&mut region))
        })
    }

    /// Only the forwarded way; `Err` tells why it was not carried.
    pub(crate) fn forward(&self) -> Result<(i64, Vec<u8>, usize), Refusal> {
        REGIONS.with(|[guest, area]| {
            let (mut guest, mut area) = (guest.borrow_mut(), area.borrow_mut());
            let args = self.prepare(&mut guest, false);
            let way = (&mut *area, self.area, self.continued);
            let (result, requests) = carry(self.spec(), &args, &mut guest, way)?;
            Ok((result, self.picture(&mut guest), requests))
        })
    }

    /// Both ways, without comparing.
    pub(crate) fn run(&self) -> Outcome {
        self.try_run().unwrap()
    }

    fn try_run(&self) -> Result<Outcome, Refusal> {
        let (forwarded, forwarded_memory, requests) = self.forward()?;
        let (direct, direct_memory) = self.direct();
        Ok(Outcome { direct, forwarded, direct_memory, forwarded_memory, requests })
    }

    /// Both ways; memories must be equal, and results must be equal too. Returns the result.
    #[track_caller]
    pub(crate) fn agree(&self) -> i64 {
        self.check(&self.run())
    }

    /// Like `agree`, where the guest may also be sent home.
    #[track_caller]
    pub(crate) fn agree_unless_homeward(&self) {
        match self.try_run() {
            Err(Refusal::Homeward(_)) => {}
            outcome => drop(self.check(&outcome.unwrap())),
        }
    }

    #[track_caller]
    fn check(&self, outcome: &Outcome) -> i64 {
        assert_eq!(outcome.direct, outcome.forwarded, "results of {} {:x?}", self.spec().name, self.args);
        self.check_memory(outcome);
        outcome.direct
    }

    /// Both ways; memories must be equal, and both results new descriptors or both the same error.
    #[track_caller]
    pub(crate) fn agree_on_descriptors(&self) -> (i32, i32) {
        let outcome = self.run();
        let (direct, forwarded) = (outcome.direct, outcome.forwarded);
        assert!(direct == forwarded || (direct >= 0 && forwarded >= 0), "{direct} against {forwarded}");
        self.check_memory(&outcome);
        (direct as i32, forwarded as i32)
    }

    #[track_caller]
    fn check_memory(&self, outcome: &Outcome) {
        let (direct, forwarded) = (&outcome.direct_memory, &outcome.forwarded_memory);
        if direct == forwarded {
            return;
        }
        if let Some(first) = direct.iter().zip(forwarded).position(|(one, other)| one != other) {
            let until = (first + 32).min(SIZE);
            panic!(
                "memory after {} (result {}) differs from offset {first:#x} on: {:x?} directly, {:x?} forwarded",
                self.spec().name,
                outcome.direct,
                &direct[first..until],
                &forwarded[first..until],
            );
        }
    }
}

/// What the memory is full of before a call.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        (0..SIZE / 8).flat_map(next).collect()
    })
}

thread_local! {
    /// The memories are made once per thread: making them anew for every call takes longer than the calls.
    static REGIONS: [RefCell<Region>; 2] = [SIZE, AREA].map(|size| RefCell::new(Region::new(size)));
}

/// Carries a call as host and home do.
fn carry(
    spec: &Spec,
    args: &[u64; 6],
    guest: &mut Region,
    (area, area_size, continued): (&mut Region, usize, bool),
) -> Result<(i64, usize), Refusal> {
    let (mut done, mut requests) = (0, 0);
    loop {
        let mut body = Vec::new();
        let gathered = match marshal::gather_after(spec, args, done, guest, area_size, &mut body) {
            Err(Refusal::Errno(error)) => return Ok((-i64::from(error), requests)),
            gathered => gathered?,
        };
        requests += 1;
        let address = area.address();
        // What an earlier call left in the area must not show.
        area.bytes().fill(0xa5);
        let placed = marshal::place(&body, &mut area.bytes()[..area_size], address).unwrap();
        let result = raw(placed.number().into(), *placed.arguments());
        let mut reply = Vec::new();
        marshal::collect(&placed, result, area.bytes()).append_to(&mut reply);
        let result = marshal::scatter_after(spec, args, done, &reply, guest).unwrap();
        if result < 0 {
            return Ok((if done > 0 { done as i64 } else { result }, requests));
        }
        match gathered.capped {
            Some(capped) if continued && result as u64 == capped.covered => done += result as u64,
            _ => return Ok((done as i64 + result, requests)),
        }
    }
}
