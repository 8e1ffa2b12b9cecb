//! Building the guest from its image: the only part of a move in which the process stands still.

use crate::extended::Exchange;
use crate::fault::{Fault, Result};
use crate::prepare::call;
use minka_image::PAGE;
use minka_image::origin::Origins;
use minka_image::process::{AltStack, Area, Image, Source, Thread};
use minka_kernel::ptrace::Stopped;
use minka_kernel::seccomp::{self, Listener};
use minka_kernel::shell::Shell;
use minka_kernel::spawn::ProcessHandle;
use minka_kernel::uffd::{Mode, Tracking, Userfault};
use minka_kernel::workbench::{Call, DATA_LENGTH, Workbench};
use std::os::fd::{AsRawFd, BorrowedFd};

const MAP_SHARED: u64 = 0x01;
const MAP_PRIVATE: u64 = 0x02;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_GROWSDOWN: u64 = 0x100;
const MAP_NORESERVE: u64 = 0x4000;
const MAP_STACK: u64 = 0x20000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const NO_DESCRIPTOR: u64 = u64::MAX;

const PR_SET_NAME: u64 = 15;
const PR_SET_MM: u64 = 35;
const PR_SET_MM_MAP: u64 = 14;
const SECCOMP_SET_MODE_FILTER: u64 = 1;

/// The guest's memory: maps every area and registers those whose pages are at home.
/// The fault server has to be running before [`finish`].
pub(crate) fn map_areas(
    task: Stopped,
    image: &Image,
    bench: &Workbench,
    uffd: &Userfault,
    files: &[Option<i32>],
    family: Option<BorrowedFd<'_>>,
) -> Result<(Stopped, Origins)> {
    let (task, objects) = match family {
        Some(memory) => (task, objects_of_family(image, memory, uffd)?),
        None => make_objects(task, image, bench, uffd)?,
    };
    let mut calls = Vec::with_capacity(image.areas.len() + 1);
    for area in &image.areas {
        calls.push(map_call(area, files, &objects)?);
    }
    let (reserved, end) = image.reserved;
    let reserved_length = end.checked_sub(reserved).filter(|length| *length > 0);
    let reserved_length =
        reserved_length.ok_or_else(|| Fault::Said("the image reserves less than nothing".to_owned()))?;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    calls.push(Call::new(call::MMAP, &[reserved, reserved_length, 0, flags, NO_DESCRIPTOR, 0]));
    let (task, results) = bench.run(task, &calls)?;
    let starts = image.areas.iter().map(|area| area.start).chain([reserved]);
    for (start, result) in starts.zip(&results) {
        if *result as u64 != start {
            return Err(Fault::Build { what: format!("mmap at {start:#x}"), result: *result });
        }
    }
    let mut origins = Origins::new();
    let task = register(task, image, bench, uffd, &mut origins)?;
    Ok((task, origins))
}

/// Has the pages served that are at home, and locks what is locked there, as soon as it comes.
fn register(
    task: Stopped,
    image: &Image,
    bench: &Workbench,
    uffd: &Userfault,
    origins: &mut Origins,
) -> Result<Stopped> {
    const MLOCK_ONFAULT: u64 = 1;
    for area in &image.areas {
        match area.source {
            Source::Home => {
                uffd.register(area.start, area.end - area.start)
                    .map_err(|error| Fault::Io("register the guest's memory", error))?;
                if area.part.is_some() {
                    // As long as it is empty, so that what comes by another mapping does not count as written by this one.
                    uffd.protect(area.start, area.end - area.start)
                        .map_err(|error| Fault::Io("track writes to shared memory", error))?;
                }
                origins.from_home(area.start, area.end);
            }
            Source::HostFile { .. } => origins.from_host_file(area.start, area.end),
        }
    }
    if image.locked.is_empty() {
        return Ok(task);
    }
    let lock = |&(start, end): &(u64, u64)| {
        Call::new(call::MLOCK2, &[start, end.wrapping_sub(start), MLOCK_ONFAULT])
    };
    let locks: Vec<Call> = image.locked.iter().map(lock).collect();
    let (task, results) = bench.run(task, &locks)?;
    match results.into_iter().find(|result| *result != 0) {
        Some(result) => Err(Fault::Build { what: "mlock2".to_owned(), result }),
        None => Ok(task),
    }
}

/// Where an object is: a descriptor in the guest, and the place in that where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    descriptor: u64,
    base: u64,
}

/// Where the objects of a family are: one behind the other, at the same places for all members.
fn objects_of_family(image: &Image, memory: BorrowedFd<'_>, uffd: &Userfault) -> Result<Vec<Place>> {
    tells_writers_apart(uffd)?;
    let (bases, length) = bases(&image.objects)
        .ok_or_else(|| Fault::Said("the image has more shared memory than there can be".to_owned()))?;
    // Each member does that, to the same length.
    minka_kernel::shared::resize(memory, length)
        .map_err(|error| Fault::Io("make the family's memory as long as it is", error))?;
    // This program's number is the guest's, which was made from it.
    let descriptor = memory.as_raw_fd() as u64;
    Ok(bases.into_iter().map(|base| Place { descriptor, base }).collect())
}

/// Where objects of these lengths begin, and where the last one ends.
fn bases(lengths: &[u64]) -> Option<(Vec<u64>, usize)> {
    /// Between two of them nothing is mapped, so none grows into another.
    const GAP: u64 = PAGE;
    /// More than any machine has.
    const LIMIT: u64 = 1 << 46;
    let mut end = 0u64;
    let mut bases = Vec::with_capacity(lengths.len());
    for length in lengths {
        bases.push(end);
        end = end.checked_add(length.checked_next_multiple_of(PAGE)?)?.checked_add(GAP)?;
    }
    Some((bases, usize::try_from(end).ok().filter(|_| end <= LIMIT)?))
}

fn tells_writers_apart(uffd: &Userfault) -> Result<()> {
    if uffd.mode() == Mode::Serve && uffd.tracking() == Tracking::ByKernel {
        return Ok(());
    }
    Err(Fault::Said("this node cannot tell who writes to memory that is mapped twice".to_owned()))
}

/// Makes the objects that are mapped more than once, in the guest: descriptors that it has until it is finished.
fn make_objects(
    task: Stopped,
    image: &Image,
    bench: &Workbench,
    uffd: &Userfault,
) -> Result<(Stopped, Vec<Place>)> {
    const MFD_CLOEXEC: u64 = 1;
    if image.objects.is_empty() {
        return Ok((task, Vec::new()));
    }
    tells_writers_apart(uffd)?;
    // Behind all that lies on the workbench by now.
    let name = bench.put(DATA_LENGTH - 8, b"shared\0\0");
    let make: Vec<Call> =
        image.objects.iter().map(|_| Call::new(call::MEMFD_CREATE, &[name, MFD_CLOEXEC])).collect();
    let (task, made) = bench.run(task, &make)?;
    if let Some(result) = made.iter().copied().find(|result| *result < 0) {
        return Err(Fault::Build { what: "memfd_create".to_owned(), result });
    }
    let made: Vec<u64> = made.into_iter().map(|descriptor| descriptor as u64).collect();
    let sizes = made.iter().zip(&image.objects);
    let sizes: Vec<Call> =
        sizes.map(|(descriptor, length)| Call::new(call::FTRUNCATE, &[*descriptor, *length])).collect();
    let (task, sized) = bench.run(task, &sizes)?;
    match sized.into_iter().find(|result| *result != 0) {
        Some(result) => Err(Fault::Build { what: "ftruncate".to_owned(), result }),
        None => {
            let place = |descriptor| Place { descriptor, base: 0 };
            Ok((task, made.into_iter().map(place).collect()))
        }
    }
}

fn map_call(area: &Area, files: &[Option<i32>], objects: &[Place]) -> Result<Call> {
    let length = area.end.checked_sub(area.start).filter(|length| *length > 0 && length.is_multiple_of(PAGE));
    let length = length.ok_or_else(|| Fault::Said(format!("the area at {:#x} has no length", area.start)))?;
    let protection = u64::from(area.protection & 7);
    if let (Source::Home, Some(part)) = (area.source, area.part) {
        let place = objects.get(part.object as usize);
        let Place { descriptor, base } = place.copied().ok_or_else(|| {
            Fault::Said(format!("the image names object {}, which is not there", part.object))
        })?;
        let offset = base.checked_add(part.offset).filter(|_| part.offset < 1 << 46);
        let offset = offset.ok_or_else(|| Fault::Said("the image names a place beyond memory".to_owned()))?;
        let flags = MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
        return Ok(Call::new(call::MMAP, &[area.start, length, protection, flags, descriptor, offset]));
    }
    Ok(match area.source {
        Source::Home => {
            let stack = if area.stack { MAP_GROWSDOWN | MAP_STACK } else { 0 };
            let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE | stack;
            Call::new(call::MMAP, &[area.start, length, protection, flags, NO_DESCRIPTOR, 0])
        }
        Source::HostFile { file, offset } => {
            let descriptor = files.get(file as usize).copied().flatten();
            let descriptor = descriptor
                .ok_or_else(|| Fault::Said(format!("the image names file {file}, which is not here")))?;
            let flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE;
            Call::new(call::MMAP, &[area.start, length, protection, flags, descriptor as u64, offset])
        }
    })
}

/// Everything but the memory: threads, borders, signals, the filter, registers. The guest is ready to run afterwards.
/// Its main thread is the first.
pub(crate) fn finish(
    task: Stopped,
    image: &Image,
    parts: &mut Parts<'_>,
) -> Result<(Vec<Stopped>, Listener)> {
    let Some((main, others)) = image.threads.split_first() else {
        return Err(Fault::Said("the image has no thread".to_owned()));
    };
    if others.len() >= minka_kernel::ring::SLOTS_MAX {
        return Err(Fault::Said(format!("the image has {} threads", image.threads.len())));
    }
    let (mut task, mut tasks) = (task, Vec::with_capacity(others.len()));
    for thread in others {
        let made;
        (task, made) = make_thread(task, thread, parts)?;
        tasks.push(made);
    }
    let (task, listener) = finish_main(task, main, image, parts)?;
    tasks.insert(0, task);
    Ok((tasks, listener))
}

/// What makes a thread that shares everything: `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
/// CLONE_SYSVSEM`.
const THREAD: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;

/// Makes a thread with the id that it has at home, and what it has registered with the kernel.
fn make_thread(task: Stopped, thread: &Thread, parts: &mut Parts<'_>) -> Result<(Stopped, Stopped)> {
    parts
        .shell
        .number_next_thread(thread.tid)
        .map_err(|error| Fault::Io("number a thread of the guest", error))?;
    let (task, result, made) = parts.bench.make_thread(task, THREAD)?;
    let Some(made) = made.filter(|_| result == i64::from(thread.tid)) else {
        return Err(Fault::Build { what: format!("clone of thread {}", thread.tid), result });
    };
    let mut demands = Demands::new(parts.bench, parts.filter.end);
    registrations(thread, &mut demands)?;
    let (made, tid) = demands.run(made)?;
    if tid != [i64::from(thread.tid)] {
        return Err(Fault::Build { what: "set_tid_address".to_owned(), result: tid[0] });
    }
    Ok((task, made))
}

fn finish_main(
    task: Stopped,
    thread: &Thread,
    image: &Image,
    parts: &Parts<'_>,
) -> Result<(Stopped, Listener)> {
    let Parts { bench, pidfd, command, filter, .. } = parts;
    let mut demands = Demands::new(bench, filter.end);
    demands.add("close_range".into(), call::CLOSE_RANGE, &[0, u64::from(u32::MAX), 0]);
    let command = demands.data.put(&[command.as_bytes(), &[0]].concat())?;
    demands.add("PR_SET_NAME".into(), call::PRCTL, &[PR_SET_NAME, command]);
    let borders = borders(image, &mut demands.data)?;
    demands.add("PR_SET_MM_MAP".into(), call::PRCTL, &[PR_SET_MM, PR_SET_MM_MAP, borders, 104]);
    for action in &image.actions {
        let at = demands.data.put(&action.to_bytes())?;
        let name = format!("rt_sigaction {}", action.signal);
        demands.add(name, call::RT_SIGACTION, &[u64::from(action.signal), at, 0, 8]);
    }
    registrations(thread, &mut demands)?;
    // The last one: no call of ours is to meet the filter.
    let filter = if image.areas.iter().any(|area| area.shared) { filter.watching } else { filter.plain };
    demands.ask(Call::new(call::SECCOMP, &[SECCOMP_SET_MODE_FILTER, seccomp::FILTER_FLAGS, filter]));
    let (task, results) = demands.run(task)?;
    let [tid, inner] = results[..] else {
        return Err(Fault::Said("the workbench returned too few results".to_owned()));
    };
    if tid != i64::from(thread.tid) {
        return Err(Fault::Build { what: "set_tid_address".to_owned(), result: tid });
    }
    if inner < 0 {
        return Err(Fault::Build { what: "seccomp".to_owned(), result: inner });
    }
    let listener =
        pidfd.descriptor(inner as i32).map_err(|error| Fault::Io("take over the listener", error))?;
    // The guest keeps a descriptor of it, with which it can do nothing: every call on descriptors goes home.
    Ok((task, Listener::new(listener)))
}

/// What a thread has registered with its kernel; the last answer is its id.
fn registrations(thread: &Thread, demands: &mut Demands<'_>) -> Result<()> {
    if let Some(rseq) = &thread.rseq {
        let arguments = [rseq.address, u64::from(rseq.length), 0, u64::from(rseq.signature)];
        demands.add("rseq".into(), call::RSEQ, &arguments);
    }
    demands.add("set_robust_list".into(), call::SET_ROBUST_LIST, &[thread.robust_list.0, 24]);
    // Also if there is none: the host program's own would be left, in memory that is no more.
    let AltStack { base, flags, size } = thread.alt_stack;
    let stack = AltStack { base, flags: flags & !AltStack::ON_STACK, size };
    let at = demands.data.put(&stack.to_bytes())?;
    demands.add("sigaltstack".into(), call::SIGALTSTACK, &[at, 0]);
    demands.ask(Call::new(call::SET_TID_ADDRESS, &[thread.tid_address]));
    Ok(())
}

/// Calls for the workbench: those that must return 0, and behind them those whose answers are wanted.
struct Demands<'a> {
    bench: &'a Workbench,
    data: Data<'a>,
    calls: Vec<Call>,
    names: Vec<String>,
    asked: Vec<Call>,
}

impl<'a> Demands<'a> {
    fn new(bench: &'a Workbench, data_used: usize) -> Self {
        let data = Data { bench, used: data_used };
        Self { bench, data, calls: Vec::new(), names: Vec::new(), asked: Vec::new() }
    }

    fn add(&mut self, name: String, number: i64, arguments: &[u64]) {
        self.calls.push(Call::new(number, arguments));
        self.names.push(name);
    }

    fn ask(&mut self, call: Call) {
        self.asked.push(call);
    }

    fn run(mut self, task: Stopped) -> Result<(Stopped, Vec<i64>)> {
        let demanded = self.calls.len();
        self.calls.append(&mut self.asked);
        let (task, mut results) = self.bench.run(task, &self.calls)?;
        let answers = results.split_off(demanded);
        for (name, result) in self.names.into_iter().zip(results) {
            if result != 0 {
                return Err(Fault::Build { what: name, result });
            }
        }
        Ok((task, answers))
    }
}

/// The last step: registers, and nothing of ours left in the guest.
pub(crate) fn enter(
    tasks: Vec<Stopped>,
    image: &Image,
    site: u64,
    bench: &Workbench,
    exchange: Option<&Exchange>,
) -> Result<Vec<Stopped>> {
    let io = |what| move |error| Fault::Io(what, error);
    let mark = u64::from(minka_syscalls::filter::AT_THE_HOSTS_ORDER);
    let arguments = [bench.address(), minka_kernel::workbench::LENGTH as u64, 0, 0, 0, mark];
    let mut tasks = tasks.into_iter();
    let main = tasks.next().ok_or_else(|| Fault::Said("the guest has no thread".to_owned()))?;
    let (main, result) = crate::prepare::lone(main, site, call::MUNMAP, arguments)?;
    if result != 0 {
        return Err(Fault::Build { what: "munmap of the workbench".to_owned(), result });
    }
    let tasks: Vec<Stopped> = [main].into_iter().chain(tasks).collect();
    for (task, thread) in tasks.iter().zip(&image.threads) {
        task.set_registers(&thread.registers).map_err(io("set the guest's registers"))?;
        let extended = match exchange {
            Some(exchange) => &exchange.arriving(task, &thread.extended)?,
            None => &thread.extended,
        };
        task.set_extended(extended).map_err(io("set the guest's extended registers"))?;
        task.set_mask(thread.mask).map_err(io("set the guest's signal mask"))?;
    }
    Ok(tasks)
}

/// Free data on the workbench, handed out from the front.
struct Data<'a> {
    bench: &'a Workbench,
    used: usize,
}

impl Data<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<u64> {
        if self.used + bytes.len() > DATA_LENGTH {
            return Err(Fault::Said("the image needs more room than the workbench has".to_owned()));
        }
        let address = self.bench.put(self.used, bytes);
        self.used = (self.used + bytes.len()).next_multiple_of(16);
        Ok(address)
    }
}

/// `struct prctl_mm_map`: eleven borders, the auxiliary vector's address and size, and no executable.
fn borders(image: &Image, data: &mut Data<'_>) -> Result<u64> {
    let auxv = data.put(&image.auxv)?;
    let mut bytes = Vec::with_capacity(104);
    image.borders.words().iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    bytes.extend(auxv.to_le_bytes());
    bytes.extend((image.auxv.len() as u32).to_le_bytes());
    bytes.extend(u32::MAX.to_le_bytes());
    data.put(&bytes)
}

/// The filters, which lie on the workbench before there is anything else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter {
    /// Address of the `struct sock_fprog` in the guest of the one that most guests have.
    plain: u64,
    /// The same of the one for guests with shared memory.
    watching: u64,
    /// Where free data begins behind them.
    end: usize,
}

impl Filter {
    /// Makes them, long before one is needed.
    pub(crate) fn lay(bench: &Workbench) -> Result<Self> {
        let mut data = Data { bench, used: 0 };
        let plain = filter(&mut data, &minka_syscalls::filter::program())?;
        let watching = filter(&mut data, &minka_syscalls::filter::watching_program())?;
        Ok(Self { plain, watching, end: data.used })
    }
}

/// `struct sock_fprog` and the filter behind it.
fn filter(data: &mut Data<'_>, program: &[minka_syscalls::filter::Instruction]) -> Result<u64> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_le_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_le_bytes());
    }
    let code = data.put(&bytes)?;
    let mut header = [0; 16];
    header[..2].copy_from_slice(&(program.len() as u16).to_le_bytes());
    header[8..].copy_from_slice(&code.to_le_bytes());
    data.put(&header)
}

/// All steps of a guest's building. Its threads are in the image's order.
pub(crate) fn build(
    empty: &mut Parts<'_>,
    image: &Image,
    task: Stopped,
    serve: impl FnOnce(Origins) -> Result<()>,
) -> Result<(Vec<Stopped>, Listener)> {
    let (task, origins) = map_areas(task, image, empty.bench, empty.uffd, empty.files, empty.family)?;
    serve(origins)?;
    let (tasks, listener) = finish(task, image, empty)?;
    let tasks = enter(tasks, image, empty.site, empty.bench, empty.exchange)?;
    Ok((tasks, listener))
}

/// What of an empty guest building needs.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) bench: &'a Workbench,
    pub(crate) uffd: &'a Userfault,
    pub(crate) pidfd: &'a ProcessHandle,
    pub(crate) files: &'a [Option<i32>],
    /// What it shares with others, if there are any.
    pub(crate) family: Option<BorrowedFd<'a>>,
    pub(crate) site: u64,
    pub(crate) filter: &'a Filter,
    pub(crate) shell: &'a mut Shell,
    /// The name it has at home.
    pub(crate) command: &'a str,
    /// How extended registers are exchanged for the home's, where those are others.
    pub(crate) exchange: Option<&'a Exchange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_a_family_lie_apart() {
        assert_eq!(bases(&[]), Some((vec![], 0)));
        assert_eq!(bases(&[1, 3 * PAGE]), Some((vec![0, 2 * PAGE], 6 * PAGE as usize)));
        assert_eq!(bases(&[u64::MAX]), None);
        assert_eq!(bases(&[1 << 45, 1 << 45]), None);
    }
}
