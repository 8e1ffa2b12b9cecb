//! OpenCL, which every vendor has a library for; its loader finds them.
//!
//! Layouts and numbers are of `cl.h` and `cl_ext.h` 3.0; only what OpenCL 1.2 has is called.

use std::ffi::{CString, c_char, c_void};

use super::{Argument, CARDS_MAX, Card, ComputeError, Driver, Facts, Place, text};
use crate::library::Library;

/// The loader's usual name.
pub const LIBRARY: &str = "libOpenCL.so.1";

/// `cl_platform_id`, `cl_device_id`, `cl_context` and the like.
type Handle = *mut c_void;

/// `CL_SUCCESS`, and what there is no device of.
const DEVICE_NOT_FOUND: i32 = -1;

// `cl_device_type`.
const ALL: u64 = 0xffff_ffff;
const PROCESSOR: u64 = 1 << 1;

// `cl_device_info`.
const TYPE: u32 = 0x1000;
const MAX_COMPUTE_UNITS: u32 = 0x1002;
const MAX_MEM_ALLOC_SIZE: u32 = 0x1010;
const GLOBAL_MEM_SIZE: u32 = 0x101f;
const NAME: u32 = 0x102b;
const VERSION: u32 = 0x102f;
const DOUBLE_FP_CONFIG: u32 = 0x1032;
const HOST_UNIFIED_MEMORY: u32 = 0x1035;
const PCI_BUS_ID_NV: u32 = 0x4008;
const PCI_SLOT_ID_NV: u32 = 0x4009;
const PCI_DOMAIN_ID_NV: u32 = 0x400a;
const TOPOLOGY_AMD: u32 = 0x4037;
const GLOBAL_FREE_MEMORY_AMD: u32 = 0x4039;
const PCI_BUS_INFO: u32 = 0x410f;

/// `CL_PLATFORM_NAME`.
const PLATFORM_NAME: u32 = 0x0902;

/// `CL_PROGRAM_BUILD_LOG`.
const BUILD_LOG: u32 = 0x1183;

/// `CL_MEM_READ_WRITE`, and with `CL_MEM_ALLOC_HOST_PTR`.
const READ_WRITE: u64 = 1;
const HOST_MEMORY: u64 = 1 | 1 << 4;

/// `CL_MAP_READ | CL_MAP_WRITE`.
const MAP_READ_WRITE: u64 = 3;

/// `cl_event` and its lists, of which none is used.
type Events = *const c_void;

functions! {
    platforms "clGetPlatformIDs" fn(u32, *mut Handle, *mut u32) -> i32;
    platform_info "clGetPlatformInfo" fn(Handle, u32, usize, *mut c_void, *mut usize) -> i32;
    devices "clGetDeviceIDs" fn(Handle, u64, u32, *mut Handle, *mut u32) -> i32;
    info "clGetDeviceInfo" fn(Handle, u32, usize, *mut c_void, *mut usize) -> i32;
    context "clCreateContext" fn(*const isize, u32, *const Handle, *const c_void, *mut c_void, *mut i32) -> Handle;
    queue "clCreateCommandQueue" fn(Handle, Handle, u64, *mut i32) -> Handle;
    program "clCreateProgramWithSource" fn(Handle, u32, *const *const c_char, *const usize, *mut i32) -> Handle;
    build "clBuildProgram" fn(Handle, u32, *const Handle, *const c_char, *const c_void, *mut c_void) -> i32;
    build_info "clGetProgramBuildInfo" fn(Handle, Handle, u32, usize, *mut c_void, *mut usize) -> i32;
    kernel "clCreateKernel" fn(Handle, *const c_char, *mut i32) -> Handle;
    argument "clSetKernelArg" fn(Handle, u32, usize, *const c_void) -> i32;
    launch "clEnqueueNDRangeKernel" fn(Handle, Handle, u32, *const usize, *const usize, *const usize, u32, Events, Events) -> i32;
    finish "clFinish" fn(Handle) -> i32;
    release_kernel "clReleaseKernel" fn(Handle) -> i32;
    allocate "clCreateBuffer" fn(Handle, u64, usize, *mut c_void, *mut i32) -> Handle;
    release "clReleaseMemObject" fn(Handle) -> i32;
    map "clEnqueueMapBuffer" fn(Handle, Handle, u32, u64, usize, usize, u32, Events, Events, *mut i32) -> *mut c_void;
    upload "clEnqueueWriteBuffer" fn(Handle, Handle, u32, usize, usize, *const c_void, u32, Events, Events) -> i32;
    download "clEnqueueReadBuffer" fn(Handle, Handle, u32, usize, usize, *mut c_void, u32, Events, Events) -> i32;
}

fn succeed(name: &'static str, outcome: i32) -> Result<(), ComputeError> {
    if outcome == 0 { Ok(()) } else { Err(ComputeError::Failed(name, outcome)) }
}

/// A new object, or why there is none.
fn made(name: &'static str, handle: Handle, outcome: i32) -> Result<Handle, ComputeError> {
    succeed(name, outcome)?;
    if handle.is_null() { Err(ComputeError::Failed(name, 0)) } else { Ok(handle) }
}

impl Functions {
    /// What is known of a device under a number; nothing if the library does not know so much or so little.
    fn get<const N: usize>(&self, device: Handle, what: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let mut length = 0;
        // SAFETY: it writes no more than it is told.
        let outcome = unsafe { (self.info)(device, what, N, bytes.as_mut_ptr().cast(), &raw mut length) };
        (outcome == 0 && length == N).then_some(bytes)
    }

    fn word(&self, device: Handle, what: u32) -> Option<u32> {
        self.get::<4>(device, what).map(u32::from_ne_bytes)
    }

    fn long(&self, device: Handle, what: u32) -> Option<u64> {
        self.get::<8>(device, what).map(u64::from_ne_bytes)
    }

    fn text(&self, device: Handle, what: u32) -> String {
        let mut bytes = [0_u8; 1024];
        let mut length = 0;
        // SAFETY: as above.
        let outcome =
            unsafe { (self.info)(device, what, bytes.len(), bytes.as_mut_ptr().cast(), &raw mut length) };
        if outcome == 0 { text(&bytes) } else { String::new() }
    }

    /// Where a device is, in the words of the extensions that tell it.
    fn place(&self, device: Handle) -> Option<Place> {
        let known = self.get::<16>(device, PCI_BUS_INFO).map(|bytes| {
            let word =
                |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            Place { domain: Some(word(0)), bus: word(4), device: word(8), function: word(12) }
        });
        let of_nvidia = || {
            let (bus, slot) = (self.word(device, PCI_BUS_ID_NV)?, self.word(device, PCI_SLOT_ID_NV)?);
            let domain = self.word(device, PCI_DOMAIN_ID_NV);
            Some(Place { domain, bus, device: slot >> 3, function: slot & 7 })
        };
        let of_amd = || {
            // `cl_device_topology_amd`: a kind, 1 for PCI, and at the end bus, device and function.
            let bytes = self.get::<24>(device, TOPOLOGY_AMD).filter(|bytes| bytes[0] == 1)?;
            let [bus, device, function] = [bytes[21], bytes[22], bytes[23]].map(u32::from);
            Some(Place { domain: None, bus, device, function })
        };
        known.or_else(of_nvidia).or_else(of_amd)
    }

    fn facts(&self, device: Handle, platform: &str) -> Option<Facts> {
        Some(Facts {
            name: self.text(device, NAME),
            runtime: format!("{} of {platform}", self.text(device, VERSION)),
            place: self.place(device),
            is_processor: self.long(device, TYPE)? & PROCESSOR != 0,
            memory_bytes: self.long(device, GLOBAL_MEM_SIZE)?,
            piece_bytes_max: self.long(device, MAX_MEM_ALLOC_SIZE)?,
            shares_memory: self.word(device, HOST_UNIFIED_MEMORY).is_some_and(|flag| flag != 0),
            units: self.word(device, MAX_COMPUTE_UNITS)?,
            has_double: self.long(device, DOUBLE_FP_CONFIG).is_some_and(|config| config != 0),
        })
    }

    fn platform_name(&self, platform: Handle) -> String {
        let mut bytes = [0_u8; 256];
        let mut length = 0;
        // SAFETY: it writes no more than it is told.
        let outcome = unsafe {
            let info = self.platform_info;
            info(platform, PLATFORM_NAME, bytes.len(), bytes.as_mut_ptr().cast(), &raw mut length)
        };
        if outcome == 0 { text(&bytes) } else { String::new() }
    }

    /// All devices, and the names of their platforms.
    fn all(&self) -> Result<Vec<(Handle, String)>, ComputeError> {
        const PLATFORMS_MAX: usize = 16;
        const NO_PLATFORM: i32 = -1001;
        let mut platforms = [std::ptr::null_mut(); PLATFORMS_MAX];
        let mut count = 0;
        // SAFETY: it writes no more handles than it is told.
        let outcome =
            unsafe { (self.platforms)(PLATFORMS_MAX as u32, platforms.as_mut_ptr(), &raw mut count) };
        if outcome == NO_PLATFORM {
            return Ok(Vec::new());
        }
        succeed("clGetPlatformIDs", outcome)?;
        let mut all = Vec::new();
        for platform in platforms.iter().take(count as usize) {
            let mut devices = [std::ptr::null_mut(); CARDS_MAX];
            let mut count = 0;
            // SAFETY: as above.
            let outcome = unsafe {
                (self.devices)(*platform, ALL, CARDS_MAX as u32, devices.as_mut_ptr(), &raw mut count)
            };
            if outcome == DEVICE_NOT_FOUND {
                continue;
            }
            succeed("clGetDeviceIDs", outcome)?;
            let name = self.platform_name(*platform);
            all.extend(devices.iter().take(count as usize).map(|device| (*device, name.clone())));
        }
        all.truncate(CARDS_MAX);
        Ok(all)
    }
}

/// Loads the library and makes ready to compute the device that is wanted of those that it knows. Returns also how many
/// those are.
pub fn open(path: &str, wanted: &dyn Fn(&Facts) -> bool) -> Result<(usize, Option<Card>), ComputeError> {
    let library = Library::open(path).map_err(ComputeError::NoLibrary)?;
    let functions = Functions::of(&library)?;
    let devices = functions.all()?;
    for (device, platform) in &devices {
        let facts = functions.facts(*device, platform).filter(wanted);
        if let Some(facts) = facts {
            return Ok((devices.len(), Some(begin(functions, *device, facts)?)));
        }
    }
    Ok((devices.len(), None))
}

/// Makes a device ready to compute.
fn begin(functions: Functions, device: Handle, facts: Facts) -> Result<Card, ComputeError> {
    let source =
        CString::new(include_str!("programs.cl")).map_err(|error| ComputeError::Build(error.to_string()))?;
    let options = if facts.has_double { c"-DDOUBLE" } else { c"" };
    let mut outcome = 0;
    let null = std::ptr::null_mut();
    // SAFETY: the device is one of the library's, and what the functions read and write is there.
    unsafe {
        let context =
            (functions.context)(std::ptr::null(), 1, &raw const device, null, null, &raw mut outcome);
        let context = made("clCreateContext", context, outcome)?;
        let queue = (functions.queue)(context, device, 0, &raw mut outcome);
        let queue = made("clCreateCommandQueue", queue, outcome)?;
        let text = source.as_ptr();
        let program = (functions.program)(context, 1, &raw const text, std::ptr::null(), &raw mut outcome);
        let program = made("clCreateProgramWithSource", program, outcome)?;
        let outcome = (functions.build)(program, 1, &raw const device, options.as_ptr(), null, null);
        if outcome != 0 {
            let mut log = [0_u8; 4096];
            let mut length = 0;
            let get = functions.build_info;
            get(program, device, BUILD_LOG, log.len(), log.as_mut_ptr().cast(), &raw mut length);
            return Err(ComputeError::Build(format!("{outcome}: {}", text_of_log(&log))));
        }
        Ok(Card::new(facts, Box::new(OpenCl { functions, device, context, queue, program })))
    }
}

fn text_of_log(log: &[u8]) -> String {
    let log: Vec<u8> = log.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
    text(&log)
}

#[derive(Debug)]
struct OpenCl {
    functions: Functions,
    device: Handle,
    context: Handle,
    queue: Handle,
    program: Handle,
}

/// A buffer's handle as the number that it is.
fn handle(number: u64) -> Handle {
    std::ptr::with_exposed_provenance_mut(number as usize)
}

impl OpenCl {
    fn buffer(&self, bytes: usize, kind: u64) -> Result<Handle, ComputeError> {
        let mut outcome = 0;
        // SAFETY: the context is there; no memory of ours is given.
        let buffer = unsafe {
            (self.functions.allocate)(self.context, kind, bytes, std::ptr::null_mut(), &raw mut outcome)
        };
        made("clCreateBuffer", buffer, outcome)
    }
}

impl Driver for OpenCl {
    fn free_bytes(&self) -> Option<u64> {
        // Kilobytes, and those of the greatest piece.
        let bytes = self.functions.get::<16>(self.device, GLOBAL_FREE_MEMORY_AMD)?;
        let [a, b, c, d, e, f, g, h, ..] = bytes;
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]).checked_mul(1024)
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, ComputeError> {
        let buffer = self.buffer(bytes as usize, READ_WRITE)?;
        Ok(buffer.expose_provenance() as u64)
    }

    fn release(&mut self, number: u64) -> Result<(), ComputeError> {
        // SAFETY: it was allocated, and is given back once.
        succeed("clReleaseMemObject", unsafe { (self.functions.release)(handle(number)) })
    }

    fn staging(&mut self, bytes: usize) -> Result<&'static mut [u8], ComputeError> {
        let buffer = self.buffer(bytes, HOST_MEMORY)?;
        let mut outcome = 0;
        let null = std::ptr::null();
        // SAFETY: the whole buffer is mapped, at once.
        let address = unsafe {
            (self.functions.map)(
                self.queue,
                buffer,
                1,
                MAP_READ_WRITE,
                0,
                bytes,
                0,
                null,
                null,
                &raw mut outcome,
            )
        };
        let address = made("clEnqueueMapBuffer", address, outcome)?.cast::<u8>();
        if bytes > isize::MAX as usize {
            return Err(ComputeError::Senseless("the library gave no memory"));
        }
        // SAFETY: so many bytes are there, nobody else's, until the process ends: the mapping is never ended.
        unsafe {
            address.write_bytes(0, bytes);
            Ok(std::slice::from_raw_parts_mut(address, bytes))
        }
    }

    fn upload(&mut self, from: &[u8], to: u64) -> Result<(), ComputeError> {
        let null = std::ptr::null();
        // SAFETY: it reads as many bytes as there are, before it returns.
        let outcome = unsafe {
            let upload = self.functions.upload;
            upload(self.queue, handle(to), 1, 0, from.len(), from.as_ptr().cast(), 0, null, null)
        };
        succeed("clEnqueueWriteBuffer", outcome)
    }

    fn download(&mut self, from: u64, to: &mut [u8]) -> Result<(), ComputeError> {
        let (null, length) = (std::ptr::null(), to.len());
        // SAFETY: it writes as many bytes as there is room for, before it returns.
        let outcome = unsafe {
            let download = self.functions.download;
            download(self.queue, handle(from), 1, 0, length, to.as_mut_ptr().cast(), 0, null, null)
        };
        succeed("clEnqueueReadBuffer", outcome)
    }

    fn launch(
        &mut self,
        name: &'static str,
        arguments: &[Argument],
        threads: u64,
    ) -> Result<(), ComputeError> {
        let text = CString::new(name).map_err(|_| ComputeError::NoFunction(name))?;
        let mut outcome = 0;
        // SAFETY: the name ends with a zero.
        let kernel = unsafe { (self.functions.kernel)(self.program, text.as_ptr(), &raw mut outcome) };
        let kernel = made("clCreateKernel", kernel, outcome)?;
        for (number, argument) in arguments.iter().enumerate() {
            let (length, value) = match *argument {
                Argument::Memory(value) | Argument::Long(value) => (8, value),
                Argument::Word(word) => (4, word.into()),
            };
            // SAFETY: the value is there, its low bytes first.
            let outcome = unsafe {
                (self.functions.argument)(kernel, number as u32, length, (&raw const value).cast())
            };
            succeed("clSetKernelArg", outcome)?;
        }
        let (null, threads) = (std::ptr::null(), threads as usize);
        // SAFETY: one dimension, whose groups the library chooses; the kernel is kept by what was begun.
        let outcome = unsafe {
            let launch = self.functions.launch;
            let outcome = launch(
                self.queue,
                kernel,
                1,
                std::ptr::null(),
                &raw const threads,
                std::ptr::null(),
                0,
                null,
                null,
            );
            (self.functions.release_kernel)(kernel);
            outcome
        };
        succeed("clEnqueueNDRangeKernel", outcome)
    }

    fn finish(&mut self) -> Result<(), ComputeError> {
        // SAFETY: the queue is there.
        succeed("clFinish", unsafe { (self.functions.finish)(self.queue) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{MEMORY_UNIT, Pattern, Width, chain_result};

    #[test]
    fn what_is_not_there_says_so() {
        let none = |_: &Facts| false;
        assert!(matches!(open("/nowhere/libOpenCL.so.1", &none), Err(ComputeError::NoLibrary(_))));
        assert!(matches!(open("libc.so.6", &none), Err(ComputeError::NoFunction("clGetPlatformIDs"))));
    }

    /// On the machine's processor, by a library that computes there (pocl).
    #[test]
    fn the_programs_do_what_they_say() {
        let Ok((_, Some(mut card))) = open(LIBRARY, &|facts| facts.is_processor) else {
            eprintln!("not tried: no OpenCL library for the processor is installed");
            return;
        };
        assert_eq!(card.facts().place, None);
        let pattern = Pattern { seed: 7, mask: u32::MAX, flip: 0 };
        let bytes = 256 * MEMORY_UNIT;
        let (one, other) = (card.allocate(bytes).unwrap(), card.allocate(bytes).unwrap());
        card.fill(&one, pattern).unwrap();
        let mut staging = card.staging(bytes as usize).unwrap();
        card.download(&one, &mut staging).unwrap();
        let words =
            || staging.bytes().chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
        assert!(words().enumerate().all(|(number, word)| word == pattern.word(number as u64)));
        assert_eq!(card.check(&one, pattern).unwrap().count, 0);

        // Two words on the same page, and one on a later one.
        for at in [5 * MEMORY_UNIT, 5 * MEMORY_UNIT + 8, 9 * MEMORY_UNIT] {
            staging.bytes_mut()[at as usize] ^= 0x10;
        }
        card.upload(&staging, &other).unwrap();
        let mistakes = card.check(&other, pattern).unwrap();
        assert_eq!((mistakes.count, mistakes.first_page), (3, Some(5)));
        card.copy(&one, &other, 1).unwrap();
        assert_eq!(card.check(&other, pattern).unwrap().count, 0);
        card.release(other).unwrap();

        let results = card.allocate(card.chain_bytes()).unwrap();
        let mut staging = card.staging(card.chain_bytes() as usize).unwrap();
        assert!(card.chain(Width::Single, &results, 3).unwrap() > 0.0);
        card.download(&results, &mut staging).unwrap();
        let single = staging.bytes().chunks_exact(4).map(|word| f32::from_ne_bytes(word.try_into().unwrap()));
        let half = card.chain_bytes() / 8;
        let right = |(thread, result): (usize, f32)| result == chain_result(thread as u64) as f32;
        assert!(single.take(half as usize).enumerate().all(right));
        if card.facts().has_double {
            card.chain(Width::Double, &results, 2).unwrap();
            card.download(&results, &mut staging).unwrap();
            let double =
                staging.bytes().chunks_exact(8).map(|word| f64::from_ne_bytes(word.try_into().unwrap()));
            assert!(double.enumerate().all(|(thread, sum)| sum == f64::from(chain_result(thread as u64))));
        }
        assert!(card.allocate(5).is_err() && card.copy(&one, &results, 1).is_err());
    }
}
