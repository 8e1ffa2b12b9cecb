//! What a host does before the process at home is stopped: judge the offer, make the shell, empty the guest.

use crate::build::Filter;
use crate::fault::{Fault, Result};
use minka_image::cpu::Features;
use minka_image::maps::Backing;
use minka_image::vdso::StandIn;
use minka_image::{PAGE, TASK_SIZE};
use minka_kernel::inject;
use minka_kernel::memory::Memory;
use minka_kernel::procfs::Stat;
use minka_kernel::ptrace::{Options, Running, Stopped, Waited};
use minka_kernel::shell::{Plan, Shell};
use minka_kernel::spawn::ProcessHandle;
use minka_kernel::uffd::{Mode, USER_MODE_ONLY, USERFAULTFD, USERFAULTFD_IOC_NEW, Userfault};
use minka_kernel::workbench::{self, Call, Workbench};
use minka_kernel::{cpu, process, procfs, shared, vdso};
use minka_link::NodeConfig;
use minka_wire::message::Hello;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;

/// System calls used in building, by number (x86-64).
pub(crate) mod call {
    pub(crate) const CLOSE: i64 = 3;
    pub(crate) const FTRUNCATE: i64 = 77;
    pub(crate) const MEMFD_CREATE: i64 = 319;
    pub(crate) const MMAP: i64 = 9;
    pub(crate) const MUNMAP: i64 = 11;
    pub(crate) const BRK: i64 = 12;
    pub(crate) const RT_SIGACTION: i64 = 13;
    pub(crate) const IOCTL: i64 = 16;
    pub(crate) const MREMAP: i64 = 25;
    pub(crate) const MADVISE: i64 = 28;
    pub(crate) const SIGALTSTACK: i64 = 131;
    pub(crate) const PRCTL: i64 = 157;
    pub(crate) const ARCH_PRCTL: i64 = 158;
    pub(crate) const SET_TID_ADDRESS: i64 = 218;
    pub(crate) const SET_ROBUST_LIST: i64 = 273;
    pub(crate) const SECCOMP: i64 = 317;
    pub(crate) const MLOCK2: i64 = 325;
    pub(crate) const RSEQ: i64 = 334;
    pub(crate) const CLOSE_RANGE: i64 = 436;
}

const ARCH_MAP_VDSO_64: u64 = 0x2003;
const RSEQ_UNREGISTER: u64 = 1;

/// An empty guest that waits for its image.
#[derive(Debug)]
pub(crate) struct Empty {
    pub(crate) task: Stopped,
    pub(crate) bench: Workbench,
    pub(crate) uffd: Userfault,
    pub(crate) memory: Memory,
    pub(crate) pidfd: ProcessHandle,
    /// Descriptors of the offered files in the guest, for those that are identical here.
    pub(crate) files: Vec<Option<i32>>,
    /// What the guest has in place of its home's vDSO, where this kernel provides another one.
    pub(crate) stand_in: Option<StandsIn>,
    /// Address of a `syscall` instruction that is there without the workbench.
    pub(crate) site: u64,
    pub(crate) filter: Filter,
    pub(crate) shell: Shell,
}

/// Where a vDSO's stand-in is, with the pages before it that its other code reads.
#[derive(Debug)]
pub(crate) struct StandsIn {
    pub(crate) start: u64,
    /// The code: first address and the one after the last.
    pub(crate) code: (u64, u64),
    pub(crate) made: StandIn,
}

/// What the guest is to have in place of its home's vDSO, if anything; or why this host cannot take the process.
pub(crate) fn judge(
    hello: &Hello,
    own: &Features,
    config: &NodeConfig,
) -> std::result::Result<Option<StandIn>, String> {
    let missing = Features::missing_on(&hello.features, own);
    if !missing.is_empty() {
        return Err(format!("its processor lacks {}", missing.join(", ")));
    }
    let end = hello.vdso.0.checked_add(hello.vdso.1).filter(|end| *end < TASK_SIZE);
    let bench = hello.workbench.checked_add(workbench::LENGTH as u64).filter(|end| *end < TASK_SIZE);
    if end.is_none() || bench.is_none() {
        return Err("it offered an address that no process has".to_owned());
    }
    stand_in(hello, config.other_kernel)
}

/// What this machine's processor can do, less what it is to pretend not to have.
pub(crate) fn own_features(config: &NodeConfig) -> std::result::Result<Features, String> {
    cpu::features()
        .without(&config.without_cpu)
        .map_err(|name| format!("its configuration names the unknown processor feature {name}"))
}

/// What stands in for the home's vDSO, if this kernel provides another one.
fn stand_in(hello: &Hello, other_kernel: bool) -> std::result::Result<Option<StandIn>, String> {
    let (digest, distance) = own_vdso().map_err(|error| format!("it cannot read its own vDSO: {error}"))?;
    if !other_kernel && (digest, distance) == (hello.vdso_digest, hello.vdso.1) {
        return Ok(None);
    }
    let (start, distance) = hello.vdso;
    let length = (hello.vdso_code.len() as u64).next_multiple_of(PAGE);
    let whole = start.is_multiple_of(PAGE) && distance.is_multiple_of(PAGE) && distance <= VDSO_DATA_MAX;
    let end = start.checked_add(distance + length).filter(|end| *end < TASK_SIZE);
    if !whole || start == 0 || end.is_none() || hello.vdso_code.len() > minka_image::vdso::LENGTH_MAX {
        return Err("it offered a vDSO that no process has".to_owned());
    }
    StandIn::of(&hello.vdso_code).map(Some).map_err(|error| error.to_string())
}

/// Most bytes of the data that a kernel maps before its vDSO.
const VDSO_DATA_MAX: u64 = 1 << 20;

/// Digest of the vDSO's code, and the bytes from its data to it. They stay the same as long as the kernel runs.
pub(crate) fn own_vdso() -> std::io::Result<([u8; 32], u64)> {
    static FOUND: OnceLock<([u8; 32], u64)> = OnceLock::new();
    match FOUND.get() {
        Some(found) => Ok(*found),
        None => look_at_own_vdso().inspect(|found| _ = FOUND.set(*found)),
    }
}

fn look_at_own_vdso() -> std::io::Result<([u8; 32], u64)> {
    let pid = std::process::id() as i32;
    let maps = procfs::maps(pid)?;
    let code = maps.iter().find(|mapping| mapping.backing == Backing::Vdso);
    let first = maps.iter().find(|mapping| matches!(mapping.backing, Backing::Vvar | Backing::Vdso));
    let (Some(code), Some(first)) = (code, first) else { return Err(std::io::ErrorKind::NotFound.into()) };
    let mut bytes = vec![0; code.length() as usize];
    Memory::open(pid)?.peek(code.start, &mut bytes);
    Ok((minka_identity::digest_of(&bytes), code.start - first.start))
}

/// What to add to this machine's clocks so that they continue those at home, nanoseconds.
fn clock_offsets(hello: &Hello) -> std::io::Result<(i64, i64)> {
    if procfs::boot_id()? == hello.boot_id {
        return Ok((0, 0));
    }
    let (monotonic, boottime) = process::clocks();
    Ok((hello.clocks.0.saturating_sub(monotonic), hello.clocks.1.saturating_sub(boottime)))
}

/// Makes the shell and empties the guest in it. The threads of this program wait; the shell's processes have one each.
pub(crate) fn empty_guest(
    hello: &Hello,
    files: &[Option<File>],
    stand_in: Option<StandIn>,
    in_empty_network: bool,
) -> Result<Empty> {
    let io = |what| move |error| Fault::Io(what, error);
    // Only the privileged may open it; without it everything is copied before the guest runs.
    let device = File::open("/dev/userfaultfd").ok();
    let memfd = shared::memfd(c"minka", workbench::LENGTH).map_err(io("make the workbench"))?;
    let plan = Plan {
        pid: hello.pid,
        clock_offsets: clock_offsets(hello).map_err(io("compare clocks"))?,
        workbench: (memfd.as_fd(), hello.workbench),
        in_empty_network,
    };
    let shell = Shell::create(&plan).map_err(io("make the guest's namespaces"))?;
    let guest = shell.guest();
    let task = Running::seize(guest, Options::EXIT_KILL.and(Options::TRACE_CLONE)).map_err(|error| {
        let state = Stat::read(guest).map(|stat| stat.state);
        tracing::error!(guest, ?state, "the empty guest cannot be traced");
        Fault::Io("trace the guest", error)
    })?;
    task.interrupt().map_err(io("stop the guest"))?;
    let task = match task.wait().map_err(io("stop the guest"))? {
        Waited::Stopped(task, _) => task,
        Waited::Gone(end) => return Err(Fault::Gone(end)),
        Waited::Still(_) => unreachable!("a blocking wait returns only with news"),
    };
    let bench = Workbench::create(memfd.as_fd(), hello.workbench).map_err(io("lay out the workbench"))?;
    let pidfd = ProcessHandle::open(guest.cast_unsigned()).map_err(io("hold the guest"))?;
    let (task, uffd) = make_userfault(task, &bench, &pidfd, device.as_ref())?;
    let task = clear(task, &bench, hello, stand_in.as_ref())?;
    let files = files.iter().map(|file| file.as_ref().map(AsRawFd::as_raw_fd)).collect();
    let memory = Memory::open(guest).map_err(io("open the guest's memory"))?;
    let code = hello.vdso.0 + hello.vdso.1;
    let vdso = match &stand_in {
        Some(stand_in) => {
            memory.poke(code, stand_in.image()).map_err(io("write what stands in for the vDSO"))?;
            (code, code + (stand_in.image().len() as u64).next_multiple_of(PAGE))
        }
        None => vdso::code_range(&procfs::maps(guest).map_err(io("read the guest's maps"))?)
            .ok_or_else(|| Fault::Said("the guest has no vDSO".to_owned()))?,
    };
    let stand_in = stand_in.map(|made| StandsIn { start: hello.vdso.0, code: vdso, made });
    let site = vdso::syscall_site(&memory, vdso).map_err(io("find a place for its calls"))?;
    let filter = Filter::lay(&bench)?;
    Ok(Empty { task, bench, uffd, memory, pidfd, files, stand_in, site, filter, shell })
}

/// The guest makes a userfaultfd for its own memory: by the device that it inherited, or the unprivileged kind.
fn make_userfault(
    task: Stopped,
    bench: &Workbench,
    pidfd: &ProcessHandle,
    device: Option<&File>,
) -> Result<(Stopped, Userfault)> {
    const CLOEXEC_NONBLOCK: u64 = 0o2_000_000 | 0o4_000;
    let (make, mode) = match device {
        Some(device) => {
            let device = device.as_raw_fd() as u64;
            (Call::new(call::IOCTL, &[device, USERFAULTFD_IOC_NEW, CLOEXEC_NONBLOCK]), Mode::Serve)
        }
        None => (Call::new(USERFAULTFD, &[CLOEXEC_NONBLOCK | USER_MODE_ONLY]), Mode::Track),
    };
    let (task, results) = bench.run(task, &[make])?;
    if results[0] < 0 {
        return Err(Fault::Build { what: "userfaultfd".to_owned(), result: results[0] });
    }
    let inner = results[0] as i32;
    let fd = pidfd.descriptor(inner).map_err(|error| Fault::Io("take over the userfaultfd", error))?;
    let uffd = Userfault::new(fd, mode).map_err(|error| Fault::Io("set up userfaultfd", error))?;
    let (task, _) = bench.run(task, &[Call::new(call::CLOSE, &[inner as u64])])?;
    Ok((task, uffd))
}

/// Takes everything of this program out of the guest, and puts the vDSO where the process expects it, or makes room there
/// for what stands in for it.
fn clear(task: Stopped, bench: &Workbench, hello: &Hello, stand_in: Option<&StandIn>) -> Result<Stopped> {
    let mut calls = Vec::new();
    // A registration that outlived its memory would be a fatal fault on the way back to user mode.
    if let Some(rseq) = task.rseq().map_err(|error| Fault::Io("read the guest's rseq", error))? {
        let arguments = [rseq.address, u64::from(rseq.length), RSEQ_UNREGISTER, u64::from(rseq.signature)];
        calls.push(Call::new(call::RSEQ, &arguments));
    }
    let (start, end) = (bench.address(), bench.address() + workbench::LENGTH as u64);
    calls.push(Call::new(call::MUNMAP, &[0, start]));
    calls.push(Call::new(call::MUNMAP, &[end, TASK_SIZE - end]));
    if let Some(stand_in) = stand_in {
        return room_for(task, bench, calls, (hello.vdso, stand_in.image().len() as u64));
    }
    calls.push(Call::new(call::ARCH_PRCTL, &[ARCH_MAP_VDSO_64, hello.vdso.0]));
    let (task, results) = bench.run(task, &calls)?;
    let [.., below, above, vdso] = results[..] else {
        return Err(Fault::Said("the workbench returned too few results".to_owned()));
    };
    for (what, result) in [("munmap below", below), ("munmap above", above), ("the vDSO", vdso.min(0))] {
        if result != 0 {
            return Err(Fault::Build { what: what.to_owned(), result });
        }
    }
    let maps = procfs::maps(task.tid()).map_err(|error| Fault::Io("read the guest's maps", error))?;
    let vdso = maps.iter().find(|mapping| mapping.backing == Backing::Vdso);
    // The address given to the kernel is only a hint.
    if vdso.map(|mapping| mapping.start) != Some(hello.vdso.0 + hello.vdso.1) {
        return Err(Fault::Build { what: "the vDSO's place".to_owned(), result: -1 });
    }
    Ok(task)
}

/// Makes the calls, and then room for so many bytes of code, behind pages of zeros.
fn room_for(
    task: Stopped,
    bench: &Workbench,
    mut calls: Vec<Call>,
    ((start, distance), bytes): ((u64, u64), u64),
) -> Result<Stopped> {
    const READ_AND_EXECUTE: u64 = 1 | 4;
    const MAP_PRIVATE_ANONYMOUS_HERE: u64 = 0x02 | 0x20 | 0x10_0000;
    const DONTFORK: u64 = 10;
    let length = (distance + bytes).next_multiple_of(PAGE);
    let map = [start, length, READ_AND_EXECUTE, MAP_PRIVATE_ANONYMOUS_HERE, u64::MAX, 0];
    calls.push(Call::new(call::MMAP, &map));
    // The kernel joins it with no neighbour then: it is to be told from the guest's own memory by its borders.
    calls.push(Call::new(call::MADVISE, &[start, length, DONTFORK]));
    let (task, results) = bench.run(task, &calls)?;
    let [.., below, above, mapped, marked] = results[..] else {
        return Err(Fault::Said("the workbench returned too few results".to_owned()));
    };
    let mapped = if mapped as u64 == start { 0 } else { mapped };
    let outcomes = [("munmap below", below), ("munmap above", above), ("mmap", mapped), ("madvise", marked)];
    match outcomes.into_iter().find(|(_, result)| *result != 0) {
        Some((what, result)) => Err(Fault::Build { what: what.to_owned(), result }),
        None => Ok(task),
    }
}

/// One call in the guest with nothing of ours in it.
pub(crate) fn lone(task: Stopped, site: u64, number: i64, arguments: [u64; 6]) -> Result<(Stopped, i64)> {
    Ok(inject::inject(task, site, number as u64, arguments, &mut Vec::new())?)
}
