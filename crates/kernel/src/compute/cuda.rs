//! CUDA's driver, which is where NVIDIA's driver is, also where OpenCL is not.
//!
//! Layouts and numbers are of `cuda.h` 11, which later versions keep. The programs are of PTX 6.0, which the driver
//! makes fit for its device.

use std::ffi::{CString, c_char, c_void};

use super::{Argument, CARDS_MAX, Card, ComputeError, Driver, Facts, Place, text};
use crate::library::Library;

/// The library's usual name.
pub const LIBRARY: &str = "libcuda.so.1";

/// How many threads are in a block.
const BLOCK: u64 = 256;

/// `CUresult`, 0 for well done.
type Outcome = i32;
/// `CUdevice`.
type Device = i32;
/// `CUcontext`, `CUmodule`, `CUfunction`.
type Handle = *mut c_void;
/// `CUdeviceptr`.
type Address = u64;

// `CUdevice_attribute`.
const MULTIPROCESSOR_COUNT: i32 = 16;
const INTEGRATED: i32 = 18;

/// `CU_MEMHOSTALLOC_PORTABLE`.
const PORTABLE: u32 = 1;

functions! {
    init "cuInit" fn(u32) -> Outcome;
    version "cuDriverGetVersion" fn(*mut i32) -> Outcome;
    count "cuDeviceGetCount" fn(*mut i32) -> Outcome;
    device "cuDeviceGet" fn(*mut Device, i32) -> Outcome;
    name "cuDeviceGetName" fn(*mut c_char, i32, Device) -> Outcome;
    bus_id "cuDeviceGetPCIBusId" fn(*mut c_char, i32, Device) -> Outcome;
    total "cuDeviceTotalMem_v2" fn(*mut usize, Device) -> Outcome;
    attribute "cuDeviceGetAttribute" fn(*mut i32, i32, Device) -> Outcome;
    retain "cuDevicePrimaryCtxRetain" fn(*mut Handle, Device) -> Outcome;
    enter "cuCtxSetCurrent" fn(Handle) -> Outcome;
    finish "cuCtxSynchronize" fn() -> Outcome;
    free "cuMemGetInfo_v2" fn(*mut usize, *mut usize) -> Outcome;
    load "cuModuleLoadData" fn(*mut Handle, *const c_void) -> Outcome;
    function "cuModuleGetFunction" fn(*mut Handle, Handle, *const c_char) -> Outcome;
    allocate "cuMemAlloc_v2" fn(*mut Address, usize) -> Outcome;
    release "cuMemFree_v2" fn(Address) -> Outcome;
    staging "cuMemHostAlloc" fn(*mut *mut c_void, usize, u32) -> Outcome;
    upload "cuMemcpyHtoD_v2" fn(Address, *const c_void, usize) -> Outcome;
    download "cuMemcpyDtoH_v2" fn(*mut c_void, Address, usize) -> Outcome;
    launch "cuLaunchKernel" fn(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void, *mut *mut c_void) -> Outcome;
}

fn succeed(name: &'static str, outcome: Outcome) -> Result<(), ComputeError> {
    if outcome == 0 { Ok(()) } else { Err(ComputeError::Failed(name, outcome)) }
}

/// Loads the library and makes ready to compute the device that is wanted of those that it knows. Returns also how many
/// those are.
pub fn open(path: &str, wanted: &dyn Fn(&Facts) -> bool) -> Result<(usize, Option<Card>), ComputeError> {
    let library = Library::open(path).map_err(ComputeError::NoLibrary)?;
    let functions = Functions::of(&library)?;
    // SAFETY: all of these functions have these types, and what they write has room.
    unsafe {
        succeed("cuInit", (functions.init)(0))?;
        let (mut version, mut count) = (0, 0);
        succeed("cuDriverGetVersion", (functions.version)(&raw mut version))?;
        succeed("cuDeviceGetCount", (functions.count)(&raw mut count))?;
        let runtime = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
        let count = usize::try_from(count).unwrap_or(0).min(CARDS_MAX);
        for number in 0..count {
            let mut device = 0;
            succeed("cuDeviceGet", (functions.device)(&raw mut device, number as i32))?;
            let facts = facts(&functions, device, &runtime)?;
            if wanted(&facts) {
                return Ok((count, Some(begin(functions, device, facts)?)));
            }
        }
        Ok((count, None))
    }
}

/// What is known of a device.
///
/// # Safety
///
/// The functions are the library's, which has been started, and the device is one of its.
unsafe fn facts(functions: &Functions, device: Device, runtime: &str) -> Result<Facts, ComputeError> {
    let (mut name, mut address) = ([0_u8; 128], [0_u8; 32]);
    let (mut total, mut units, mut integrated) = (0_usize, 0, 0);
    // SAFETY: what they write has as much room as they are told.
    unsafe {
        let outcome = (functions.name)(name.as_mut_ptr().cast(), 127, device);
        succeed("cuDeviceGetName", outcome)?;
        let outcome = (functions.bus_id)(address.as_mut_ptr().cast(), 31, device);
        succeed("cuDeviceGetPCIBusId", outcome)?;
        succeed("cuDeviceTotalMem", (functions.total)(&raw mut total, device))?;
        let outcome = (functions.attribute)(&raw mut units, MULTIPROCESSOR_COUNT, device);
        succeed("cuDeviceGetAttribute", outcome)?;
        let outcome = (functions.attribute)(&raw mut integrated, INTEGRATED, device);
        succeed("cuDeviceGetAttribute", outcome)?;
    }
    Ok(Facts {
        name: text(&name),
        runtime: runtime.to_owned(),
        place: place(&text(&address)),
        is_processor: false,
        memory_bytes: total as u64,
        piece_bytes_max: total as u64,
        shares_memory: integrated != 0,
        units: u32::try_from(units).unwrap_or(1),
        has_double: true,
    })
}

/// `0000:04:00.0`, with a domain of four digits or eight.
fn place(text: &str) -> Option<Place> {
    let hexadecimal = |text| u32::from_str_radix(text, 16).ok();
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.split(':');
    let (domain, bus, device) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Place {
        domain: Some(hexadecimal(domain)?),
        bus: hexadecimal(bus)?,
        device: hexadecimal(device)?,
        function: hexadecimal(function)?,
    })
}

/// Makes a device ready to compute.
///
/// # Safety
///
/// As above.
unsafe fn begin(functions: Functions, device: Device, facts: Facts) -> Result<Card, ComputeError> {
    let programs = CString::new(programs()).map_err(|error| ComputeError::Build(error.to_string()))?;
    let (mut context, mut module) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the text ends with a zero.
    unsafe {
        succeed("cuDevicePrimaryCtxRetain", (functions.retain)(&raw mut context, device))?;
        succeed("cuCtxSetCurrent", (functions.enter)(context))?;
        succeed("cuModuleLoadData", (functions.load)(&raw mut module, programs.as_ptr().cast()))?;
    }
    Ok(Card::new(facts, Box::new(Cuda { functions, module })))
}

/// The text of the programs.
fn programs() -> String {
    let index = "mov.u32 %a, %ctaid.x; mov.u32 %b, %ntid.x; mov.u32 %c, %tid.x;\n    \
        mad.lo.u32 %a, %a, %b, %c; cvt.u64.u32 %i, %a;\n    \
        mov.u32 %c, %nctaid.x; mul.lo.u32 %b, %b, %c; cvt.u64.u32 %step, %b;";
    let pattern = "cvt.u32.u64 %w, %i; shr.u64 %at, %i, 32; cvt.u32.u64 %v, %at;\n    \
        mad.lo.u32 %w, %v, 0x9e3779b9, %w; xor.b32 %w, %w, %seed;\n    \
        shr.u32 %v, %w, 16; xor.b32 %w, %w, %v; mul.lo.u32 %w, %w, 0x7feb352d;\n    \
        shr.u32 %v, %w, 15; xor.b32 %w, %w, %v; mul.lo.u32 %w, %w, 0x846ca68b;\n    \
        shr.u32 %v, %w, 16; xor.b32 %w, %w, %v; and.b32 %w, %w, %mask; xor.b32 %w, %w, %flip;";
    let step = |bits: u32| {
        let one = |chain: u32| format!("fma.rn.f{bits} %x{chain}, %x{chain}, %m, %k;\n    ");
        (0..super::CHAINS).map(one).collect::<String>()
    };
    let steps = |bits| step(bits).repeat((super::CHAIN_OPERATIONS / super::CHAINS) as usize);
    include_str!("programs.ptx")
        .lines()
        .filter(|line| !line.starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .replace("@INDEX", index)
        .replace("@PATTERN", pattern)
        .replace("@CHAIN32", &steps(32))
        .replace("@CHAIN64", &steps(64))
}

#[derive(Debug)]
struct Cuda {
    functions: Functions,
    module: Handle,
}

impl Driver for Cuda {
    fn free_bytes(&self) -> Option<u64> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: what it writes has room.
        let outcome = unsafe { (self.functions.free)(&raw mut free, &raw mut total) };
        (outcome == 0).then_some(free as u64)
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, ComputeError> {
        let mut address = 0;
        // SAFETY: as above.
        succeed("cuMemAlloc", unsafe { (self.functions.allocate)(&raw mut address, bytes as usize) })?;
        Ok(address)
    }

    fn release(&mut self, handle: u64) -> Result<(), ComputeError> {
        // SAFETY: it was allocated, and is given back once.
        succeed("cuMemFree", unsafe { (self.functions.release)(handle) })
    }

    fn staging(&mut self, bytes: usize) -> Result<&'static mut [u8], ComputeError> {
        let mut address = std::ptr::null_mut::<c_void>();
        // SAFETY: what it writes has room.
        let outcome = unsafe { (self.functions.staging)(&raw mut address, bytes, PORTABLE) };
        succeed("cuMemHostAlloc", outcome)?;
        if address.is_null() || bytes > isize::MAX as usize {
            return Err(ComputeError::Senseless("the library gave no memory"));
        }
        // SAFETY: so many bytes are there, nobody else's, until the process ends: they are never given back.
        unsafe {
            address.cast::<u8>().write_bytes(0, bytes);
            Ok(std::slice::from_raw_parts_mut(address.cast::<u8>(), bytes))
        }
    }

    fn upload(&mut self, from: &[u8], to: u64) -> Result<(), ComputeError> {
        // SAFETY: it reads as many bytes as there are.
        succeed("cuMemcpyHtoD", unsafe { (self.functions.upload)(to, from.as_ptr().cast(), from.len()) })
    }

    fn download(&mut self, from: u64, to: &mut [u8]) -> Result<(), ComputeError> {
        let length = to.len();
        // SAFETY: it writes as many bytes as there is room for.
        succeed("cuMemcpyDtoH", unsafe { (self.functions.download)(to.as_mut_ptr().cast(), from, length) })
    }

    fn launch(
        &mut self,
        name: &'static str,
        arguments: &[Argument],
        threads: u64,
    ) -> Result<(), ComputeError> {
        let text = CString::new(name).map_err(|_| ComputeError::NoFunction(name))?;
        let mut function = std::ptr::null_mut();
        // SAFETY: the name ends with a zero.
        let outcome = unsafe { (self.functions.function)(&raw mut function, self.module, text.as_ptr()) };
        succeed("cuModuleGetFunction", outcome)?;
        // Each argument's value, low bytes first, and where it is.
        let mut values: Vec<u64> = arguments
            .iter()
            .map(|argument| match *argument {
                Argument::Memory(value) | Argument::Long(value) => value,
                Argument::Word(word) => word.into(),
            })
            .collect();
        let mut places: Vec<*mut c_void> = values.iter_mut().map(|value| (&raw mut *value).cast()).collect();
        let blocks = u32::try_from(threads / BLOCK).unwrap_or(1).max(1);
        let null = std::ptr::null_mut();
        // SAFETY: there are as many arguments as the program has, each at least as large.
        let outcome = unsafe {
            let launch = self.functions.launch;
            launch(
                function,
                blocks,
                1,
                1,
                BLOCK as u32,
                1,
                1,
                0,
                null,
                places.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        succeed("cuLaunchKernel", outcome)
    }

    fn finish(&mut self) -> Result<(), ComputeError> {
        // SAFETY: it takes nothing.
        succeed("cuCtxSynchronize", unsafe { (self.functions.finish)() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let expected = Place { domain: Some(0), bus: 4, device: 0x1f, function: 7 };
        assert_eq!(place("0000:04:1f.7"), Some(expected));
        assert_eq!(place("00000000:04:1F.7"), Some(expected));
        for wrong in ["", "0000:04", "x:y:z.w", "0000:04:00"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_stands_for_lines_any_more() {
        let text = programs();
        assert!(!text.contains("@INDEX") && !text.contains("@PATTERN") && !text.contains("@CHAIN"));
        assert_eq!(text.matches("fma.rn.f32").count(), 128);
        assert!(text.starts_with(".version"));
    }

    #[test]
    fn what_is_not_there_says_so() {
        let none = |_: &Facts| false;
        assert!(matches!(open("/nowhere/libcuda.so.1", &none), Err(ComputeError::NoLibrary(_))));
        assert!(matches!(open("libc.so.6", &none), Err(ComputeError::NoFunction("cuInit"))));
    }
}
