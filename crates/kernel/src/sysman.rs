//! Level Zero's Sysman: a library of Intel's that is looked for when the program runs, and called.
//!
//! Layouts and numbers are of `zes_api.h` 1.4, which later versions keep.

use std::ffi::{CStr, c_void};
use std::fmt;

use crate::library::Library;

/// No list of the library's is believed to be longer.
const LIST_MAX: u32 = 64;

/// A handle of the library's.
type Handle = *mut c_void;

/// `zesInit`, which older loaders lack, and `zeInit`.
type Init = unsafe extern "C" fn(flags: u32) -> u32;

/// `zesDeviceEnum…`, `zesDriverGet` with the owner left out.
type List = unsafe extern "C" fn(owner: Handle, count: *mut u32, handles: *mut Handle) -> u32;
type ListDrivers = unsafe extern "C" fn(count: *mut u32, handles: *mut Handle) -> u32;

/// `zes…Get…` of a handle's structure.
type Get = unsafe extern "C" fn(handle: Handle, structure: *mut c_void) -> u32;

/// `zesRasGetState`.
type GetErrors = unsafe extern "C" fn(handle: Handle, clear: u8, structure: *mut c_void) -> u32;

/// Why the library tells nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SysmanError {
    /// There is no such library.
    NoLibrary(String),
    /// It lacks a function.
    NoFunction(&'static str),
    /// A function failed, with the library's number for why.
    Failed(&'static str, u32),
}

impl fmt::Display for SysmanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SysmanError::NoLibrary(text) => write!(formatter, "load the library: {text}"),
            SysmanError::NoFunction(name) => write!(formatter, "the library has no {name}"),
            SysmanError::Failed(name, number) => write!(formatter, "{name} failed: {number:#x}"),
        }
    }
}

impl std::error::Error for SysmanError {}

/// Counters of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// `zes_mem_health_t`: 1 ok, 2 degraded, 3 critical, 4 to be replaced.
    pub health: u32,
    /// Bytes read and written, greatest bytes per second, and when, in µs; if the library tells.
    pub traffic: Option<[u64; 4]>,
}

/// Counters of a group of engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engines {
    /// `zes_engine_group_t`.
    pub kind: u32,
    /// µs of work, and when, in µs.
    pub active: [u64; 2],
}

/// Counters of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errors {
    /// 0 for those that were corrected, 1 for others.
    pub kind: u32,
    /// By `zes_ras_error_cat_t`.
    pub counts: [u64; 7],
}

/// What the library tells of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its PCI address.
    pub address: String,
    /// Its memories.
    pub memories: Vec<Memory>,
    /// Its groups of engines.
    pub engines: Vec<Engines>,
    /// Its errors.
    pub errors: Vec<Errors>,
}

/// The head of each structure: what it is, and no extensions.
#[repr(C)]
struct Head {
    kind: u32,
    next: *mut c_void,
}

/// A structure of the library's with words behind its head.
#[repr(C)]
struct Structure<const N: usize> {
    head: Head,
    words: [u64; N],
}

impl<const N: usize> Structure<N> {
    fn new(kind: u32) -> Self {
        Structure { head: Head { kind, next: std::ptr::null_mut() }, words: [0; N] }
    }

    /// A half of a word.
    fn half(&self, number: usize) -> u32 {
        let word = self.words.get(number / 2).copied().unwrap_or(0).to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = word;
        u32::from_ne_bytes(if number.is_multiple_of(2) { [a, b, c, d] } else { [e, f, g, h] })
    }
}

// Pinned: as a C compiler lays out the header's structures.
const PCI_PROPERTIES: u32 = 0x2;
const ENGINE_PROPERTIES: u32 = 0x5;
const RAS_PROPERTIES: u32 = 0xf;
const MEM_STATE: u32 = 0x1e;
const RAS_STATE: u32 = 0x22;
const _: () = assert!(size_of::<Structure<5>>() == 56); // zes_pci_properties_t
const _: () = assert!(size_of::<Structure<2>>() == 32); // zes_engine_properties_t, zes_ras_properties_t
const _: () = assert!(size_of::<Structure<3>>() == 40); // zes_mem_state_t
const _: () = assert!(size_of::<Structure<7>>() == 72); // zes_ras_state_t

/// The library, loaded and started.
#[derive(Debug)]
pub struct Sysman {
    library: Library,
}

impl Sysman {
    /// Loads and starts it.
    pub fn open(path: &str) -> Result<Self, SysmanError> {
        let library = Library::open(path).map_err(SysmanError::NoLibrary)?;
        let sysman = Sysman { library };
        let (name, address) = match sysman.find(c"zesInit") {
            Some(address) => ("zesInit", address),
            // Before version 1.5 of the interface Sysman began with the rest, where the environment asked for it.
            None => ("zeInit", sysman.find(c"zeInit").ok_or(SysmanError::NoFunction("zesInit"))?),
        };
        // SAFETY: the function of this name has this type.
        let outcome = unsafe { std::mem::transmute::<Handle, Init>(address)(0) };
        succeed(name, outcome)?;
        Ok(sysman)
    }

    fn find(&self, name: &CStr) -> Option<Handle> {
        self.library.find(name)
    }

    fn get<const N: usize>(&self, name: &'static CStr, handle: Handle, kind: u32) -> Option<Structure<N>> {
        let address = self.find(name)?;
        let mut structure = Structure::<N>::new(kind);
        // SAFETY: all of these functions have this type, and the structure is as large as theirs of this kind.
        let outcome =
            unsafe { std::mem::transmute::<Handle, Get>(address)(handle, (&raw mut structure).cast()) };
        (outcome == 0).then_some(structure)
    }

    /// A structure without a head.
    fn get_plain<const N: usize>(&self, name: &'static CStr, handle: Handle) -> Option<[u64; N]> {
        let address = self.find(name)?;
        let mut words = [0_u64; N];
        // SAFETY: as above.
        let outcome =
            unsafe { std::mem::transmute::<Handle, Get>(address)(handle, words.as_mut_ptr().cast()) };
        (outcome == 0).then_some(words)
    }

    fn list(&self, name: &'static CStr, owner: Handle) -> Vec<Handle> {
        let Some(address) = self.find(name) else { return Vec::new() };
        // SAFETY: all of these functions have this type.
        let list = unsafe { std::mem::transmute::<Handle, List>(address) };
        // SAFETY: of as many handles as the count says there is room.
        collect(|count, handles| unsafe { list(owner, count, handles) })
    }

    /// What it tells of all devices now.
    pub fn devices(&self) -> Result<Vec<Device>, SysmanError> {
        let own = self.find(c"zesDriverGet").zip(self.find(c"zesDeviceGet"));
        let older = || self.find(c"zeDriverGet").zip(self.find(c"zeDeviceGet"));
        let (drivers, _) = own.or_else(older).ok_or(SysmanError::NoFunction("zesDriverGet"))?;
        let devices = if own.is_some() { c"zesDeviceGet" } else { c"zeDeviceGet" };
        // SAFETY: the function of this name has this type.
        let drivers = unsafe { std::mem::transmute::<Handle, ListDrivers>(drivers) };
        // SAFETY: of as many handles as the count says there is room.
        let drivers = collect(|count, handles| unsafe { drivers(count, handles) });
        let devices = drivers.into_iter().flat_map(|driver| self.list(devices, driver));
        Ok(devices.filter_map(|device| self.device(device)).take(LIST_MAX as usize).collect())
    }

    fn device(&self, device: Handle) -> Option<Device> {
        // Domain, bus, device and function, after the head.
        let place = self.get::<5>(c"zesDevicePciGetProperties", device, PCI_PROPERTIES)?;
        let [domain, bus, slot, function] = [0, 1, 2, 3].map(|number| place.half(number));
        let memories = self.list(c"zesDeviceEnumMemoryModules", device).into_iter();
        let memories = memories.filter_map(|memory| {
            let health = self.get::<3>(c"zesMemoryGetState", memory, MEM_STATE)?.half(0);
            Some(Memory { health, traffic: self.get_plain(c"zesMemoryGetBandwidth", memory) })
        });
        let engines = self.list(c"zesDeviceEnumEngineGroups", device).into_iter();
        let engines = engines.filter_map(|engines| {
            let kind = self.get::<2>(c"zesEngineGetProperties", engines, ENGINE_PROPERTIES)?.half(0);
            Some(Engines { kind, active: self.get_plain(c"zesEngineGetActivity", engines)? })
        });
        let errors = self.list(c"zesDeviceEnumRasErrorSets", device).into_iter();
        let errors = errors.filter_map(|errors| {
            let kind = self.get::<2>(c"zesRasGetProperties", errors, RAS_PROPERTIES)?.half(0);
            Some(Errors { kind, counts: self.errors(errors)? })
        });
        Some(Device {
            address: format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"),
            memories: memories.collect(),
            engines: engines.collect(),
            errors: errors.collect(),
        })
    }

    fn errors(&self, handle: Handle) -> Option<[u64; 7]> {
        let address = self.find(c"zesRasGetState")?;
        let mut structure = Structure::<7>::new(RAS_STATE);
        // SAFETY: the function of this name has this type, and the structure is as large as its own.
        let outcome = unsafe {
            std::mem::transmute::<Handle, GetErrors>(address)(handle, 0, (&raw mut structure).cast())
        };
        (outcome == 0).then_some(structure.words)
    }
}

/// A list of handles: first how many there are, then they themselves.
fn collect(call: impl Fn(*mut u32, *mut Handle) -> u32) -> Vec<Handle> {
    let mut count = 0;
    if call(&raw mut count, std::ptr::null_mut()) != 0 || count == 0 {
        return Vec::new();
    }
    count = count.min(LIST_MAX);
    let mut handles = vec![std::ptr::null_mut(); LIST_MAX as usize];
    if call(&raw mut count, handles.as_mut_ptr()) != 0 {
        return Vec::new();
    }
    handles.truncate(count as usize);
    handles.retain(|handle| !handle.is_null());
    handles
}

fn succeed(name: &'static str, outcome: u32) -> Result<(), SysmanError> {
    if outcome == 0 { Ok(()) } else { Err(SysmanError::Failed(name, outcome)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_cut_and_empty_handles_left_out() {
        let lying = |count: *mut u32, handles: *mut Handle| {
            // SAFETY: what `collect` gives.
            unsafe {
                if !handles.is_null() {
                    handles.write(std::ptr::dangling_mut());
                }
                count.write(u32::MAX);
            }
            0
        };
        assert_eq!(collect(lying).len(), 1);
        assert_eq!(collect(|_, _| 0x7000_0001).len(), 0);
        assert_eq!(collect(|_, _| 0).len(), 0);
    }

    #[test]
    fn halves_of_words_are_in_the_order_of_memory() {
        let mut structure = Structure::<2>::new(7);
        structure.words[1] = u64::from_ne_bytes([1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!([0, 1, 2, 3, 9].map(|number| structure.half(number)), [0, 0, 1, 2, 0]);
    }

    #[test]
    fn what_is_not_there_says_so() {
        assert!(matches!(Sysman::open("/nowhere/libze_loader.so.1"), Err(SysmanError::NoLibrary(_))));
        assert!(matches!(Sysman::open("libc.so.6"), Err(SysmanError::NoFunction("zesInit"))));
        assert!(matches!(Sysman::open("a\0b"), Err(SysmanError::NoLibrary(_))));
    }
}
