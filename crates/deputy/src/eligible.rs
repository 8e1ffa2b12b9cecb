//! Whether a process can be moved at all, and if not, exactly why (`cantmove`).

use crate::behind;
use crate::sole::{self, Sole};
use minka_image::maps::{Backing, Mapping};
use minka_image::shared;
use minka_kernel::procfs::{self, Stat, Status};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Why a process stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's text says what it means")]
pub enum Reason {
    #[error("no such process")]
    Gone,
    #[error("a kernel thread has no memory of its own")]
    KernelThread,
    #[error("the init of its PID namespace stays")]
    System,
    #[error("it is ending")]
    Ending,
    #[error("it has {0} threads, more than can be moved")]
    Threads(u32),
    #[error("its main thread has ended before the others")]
    MainThreadEnded,
    #[error("it is traced by process {0}")]
    Traced(i32),
    #[error("it has a seccomp filter of its own")]
    Seccomp,
    #[error("it maps the device {0}")]
    Device(String),
    #[error("it shares writable memory outside itself: {0}")]
    SharedMemory(String),
    #[error("what it maps has just become something else")]
    Remapped,
    #[error("it shares writable memory ({path}) with {with}")]
    SharedWith { path: String, with: Sharers },
    #[error("it may share writable memory ({path}) with process {pid}, which cannot be looked at")]
    SharedPerhaps { path: String, pid: i32 },
    #[error("it shares writable memory ({0}) with a process that cannot be seen from here")]
    SharedUnseen(String),
    #[error("it maps {0} shared and to be written, which lies where others may change it unseen")]
    SharedElsewhere(String),
    #[error("it maps parts of {0} shared and to be written that have no room on the disk yet")]
    SharedHoles(String),
    #[error("it shares writable memory of which others may be getting a descriptor: {0}")]
    SharedByDescriptor(String),
    #[error(
        "it shares writable memory of which others may have a descriptor ({path}), and the kernel does not say who: failed to {cause}"
    )]
    SharedUncounted { path: String, cause: String },
    #[error("it has attached the System V shared memory {0}, as others may")]
    SharedByNumber(u64),
    #[error("it maps shared memory that it cannot write to: {0}")]
    SharedUnwritten(String),
    #[error("process {pid}, with which it would have to move, stays: {reason}")]
    Relative { pid: i32, reason: Box<Reason> },
    #[error("it shares writable memory with more processes than can move together: {0}")]
    FamilyTooLarge(usize),
    #[error("it shares writable memory ({path}) with process {pid}, which maps another part of it")]
    SharedOtherwise { path: String, pid: i32 },
    #[error("it maps shared memory privately, too: {0}")]
    SharedPrivately(String),
    #[error("it shares its memory with process {0}")]
    SharedAddressSpace(i32),
    #[error("it uses io_uring")]
    IoUring,
    #[error("it serves page faults itself (userfaultfd)")]
    Userfaultfd,
    #[error("it maps huge pages")]
    HugePages,
    #[error("it locks all of its memory ({0} KiB), and perhaps all that it will have")]
    Locked(u64),
    #[error("it has real-time scheduling")]
    RealTime,
    #[error("it runs 32-bit code")]
    Bits32,
    #[error("it lives in a {0} namespace other than this node's")]
    Namespace(&'static str),
    #[error("it has the execution domain {0:#x} (personality)")]
    Personality(u32),
    #[error("it maps {path} shared, which may change: {cause}")]
    SharedFile { path: String, cause: String },
    #[error("it maps pages behind the end of {0}")]
    BehindTheEnd(String),
    #[error("it has a timer that counts its CPU time")]
    CpuTimer,
    #[error("it could not be examined: {0}")]
    Unknown(String),
}

/// Processes with which another one would have to move together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharers(pub Vec<i32>);

impl fmt::Display for Sharers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// As many are named.
        const NAMED: usize = 8;
        let (named, others) = self.0.split_at(self.0.len().min(NAMED));
        let mut names: Vec<String> = named.iter().map(i32::to_string).collect();
        match others.len() {
            0 => {}
            1 => names.push("another one".to_owned()),
            count => names.push(format!("{count} others")),
        }
        match &names[..] {
            [] => formatter.write_str("nobody"),
            [one] => write!(formatter, "process {one}"),
            [first @ .., last] => write!(formatter, "processes {} and {last}", first.join(", ")),
        }
    }
}

/// A read-only shared mapping of a file is exact elsewhere only while nobody writes to the file. The lease proves
/// it, and its break says when that ends.
#[derive(Debug)]
pub struct Lease {
    file: File,
    path: String,
}

impl Lease {
    /// The file's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether somebody wants to write to the file: the process has to be home before they may.
    pub fn is_breaking(&self) -> bool {
        minka_kernel::lease::is_breaking(&self.file)
    }
}

/// Everything that keeps `pid` from being moved; empty when nothing does. One that shares memory moves with those with whom
/// it does, if these can move.
pub fn reasons(pid: i32) -> Vec<Reason> {
    let reasons = judge(pid).err().unwrap_or_default();
    match &reasons[..] {
        [Reason::SharedWith { .. }] => sole::family_of(pid).err().into_iter().collect(),
        _ => reasons,
    }
}

/// Those with whom `pid` would have to move, itself among them; just itself if it moves alone.
pub fn family(pid: i32) -> Vec<i32> {
    sole::family_of(pid).unwrap_or_else(|_| vec![pid])
}

/// What keeps `pid` from being moved, whoever shares memory with it.
pub(crate) fn own_reasons(pid: i32) -> Vec<Reason> {
    examined(pid, sole::obstacle).err().unwrap_or_default()
}

/// The shared memory that goes with `pid`, or everything that keeps it from being moved.
pub(crate) fn judge(pid: i32) -> Result<Sole, Vec<Reason>> {
    examined(pid, sole::look)
}

/// The same, where somebody else judges shared memory.
fn examined<T: Default>(
    pid: i32,
    look: impl Fn(i32, &[Mapping]) -> Result<T, Reason>,
) -> Result<T, Vec<Reason>> {
    let mut pauses = LOADING.into_iter();
    loop {
        match examine(pid, &look) {
            Ok((reasons, found)) if reasons.is_empty() => return Ok(found),
            Ok((reasons, _)) => match pauses.next().filter(|_| may_be_loading(&reasons)) {
                Some(pause) => std::thread::sleep(pause),
                None => return Err(reasons),
            },
            Err(error) if matches!(error.raw_os_error(), Some(2 | 3)) => return Err(vec![Reason::Gone]),
            Err(error) => return Err(vec![Reason::Unknown(error.to_string())]),
        }
    }
}

/// How long it is waited for a program that may be loading its libraries.
const LOADING: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(10)];

/// While a library is being loaded, its file is mapped beyond its end, before memory takes the place of that.
fn may_be_loading(reasons: &[Reason]) -> bool {
    reasons.iter().all(|reason| matches!(reason, Reason::BehindTheEnd(_)))
}

/// Why a thread cannot be traced, of which the kernel says only that it is not permitted.
pub(crate) fn untraceable(tid: i32) -> Option<Reason> {
    let (Ok(status), Ok(stat)) = (Status::read(tid), Stat::read(tid)) else { return Some(Reason::Gone) };
    ended(&status, &stat).or_else(|| (status.tracer != 0).then_some(Reason::Traced(status.tracer)))
}

fn ended(status: &Status, stat: &Stat) -> Option<Reason> {
    let has_others = status.threads > 1;
    matches!(stat.state, 'Z' | 'X').then_some(if has_others {
        Reason::MainThreadEnded
    } else {
        Reason::Ending
    })
}

fn examine<T: Default>(
    pid: i32,
    look: impl FnOnce(i32, &[Mapping]) -> Result<T, Reason>,
) -> io::Result<(Vec<Reason>, T)> {
    let status = Status::read(pid)?;
    let stat = Stat::read(pid)?;
    let mut reasons = Vec::new();
    if let Some(ended) = ended(&status, &stat) {
        return Ok((vec![ended], T::default()));
    }
    if !status.has_memory {
        return Ok((vec![Reason::KernelThread], T::default()));
    }
    let mut because = |holds: bool, reason: Reason| {
        if holds {
            reasons.push(reason);
        }
    };
    because(status.namespace_pids.last() == Some(&1), Reason::System);
    because(status.tracer != 0 && !is_deputy(status.tracer), Reason::Traced(status.tracer));
    because(status.threads as usize > minka_kernel::ring::SLOTS_MAX, Reason::Threads(status.threads));
    for task in procfs::tasks(pid)? {
        // A thread may end while we look.
        let (Ok(status), Ok(stat)) = (Status::read(task), Stat::read(task)) else { continue };
        because(status.seccomp != 0, Reason::Seccomp);
        because(matches!(stat.policy, 1 | 2 | 6), Reason::RealTime);
    }
    because(is_32_bit(pid)?, Reason::Bits32);
    for namespace in ["pid", "user", "time"] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        because(of(&pid.to_string())? != of("self")?, Reason::Namespace(namespace));
    }
    let personality = personality(pid)?;
    because(personality & !ADDR_NO_RANDOMIZE != 0, Reason::Personality(personality));
    if has_cpu_timer(pid) {
        reasons.push(Reason::CpuTimer);
    }
    descriptors(pid, &mut reasons)?;
    if let Some(sharer) = memory_sharer(pid, stat.parent)? {
        reasons.push(Reason::SharedAddressSpace(sharer));
    }
    let mut maps = procfs::maps(pid)?;
    // One that is being moved has a ring of ours: that goes by itself.
    maps.retain(|mapping| !sole::is_ours(mapping));
    reasons.extend(maps.iter().filter_map(|mapping| mapping_reason(pid, mapping)));
    if status.locked_kib > 0 && locks_all(&procfs::locked(pid)?, &maps) {
        reasons.push(Reason::Locked(status.locked_kib));
    }
    reasons.extend(behind::behind_the_end(pid, &maps).map(Reason::BehindTheEnd));
    let mut shared = T::default();
    match look(pid, &maps) {
        Ok(found) => shared = found,
        Err(reason) => reasons.push(reason),
    }
    // One file may be mapped in many pieces, and each thread have the same.
    let mut told = Vec::with_capacity(reasons.len());
    reasons.into_iter().for_each(|reason| {
        if !told.contains(&reason) {
            told.push(reason);
        }
    });
    Ok((told, shared))
}

/// Whoever traces a process on our behalf is no obstacle: it is the one that is going to move it.
pub(crate) fn is_deputy(tracer: i32) -> bool {
    let name = std::fs::read(format!("/proc/{tracer}/comm")).unwrap_or_default();
    name.trim_ascii_end() == crate::NAME.to_bytes()
}

const ADDR_NO_RANDOMIZE: u32 = 0x40000;

fn personality(pid: i32) -> io::Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/personality"))?;
    u32::from_str_radix(text.trim(), 16).map_err(io::Error::other)
}

/// `EI_CLASS` of the executable is 1 for 32-bit programs.
fn is_32_bit(pid: i32) -> io::Result<bool> {
    let mut class = [0];
    File::open(format!("/proc/{pid}/exe"))?.read_exact_at(&mut class, 4)?;
    Ok(class == [1])
}

/// POSIX timers of CPU clocks: the process at home would not run, and they would never fire. (Interval timers of
/// that kind are not shown in `/proc`: they are asked for when the process has been parked.)
fn has_cpu_timer(pid: i32) -> bool {
    // Only the owner of the namespace may read it, and not every kernel has it.
    let timers = std::fs::read_to_string(format!("/proc/{pid}/timers")).unwrap_or_default();
    let clocks = timers.lines().filter_map(|line| line.strip_prefix("ClockID: ")?.trim().parse::<i32>().ok());
    clocks.into_iter().any(|clock| matches!(clock, 2 | 3) || clock < 0)
}

fn descriptors(pid: i32, reasons: &mut Vec<Reason>) -> io::Result<()> {
    let (mut uring, mut uffd) = (false, false);
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed while we look.
        let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
        let target = target.to_string_lossy();
        uring |= target.contains("[io_uring]");
        uffd |= target.contains("[userfaultfd]");
    }
    if uring {
        reasons.push(Reason::IoUring);
    }
    if uffd {
        reasons.push(Reason::Userfaultfd);
    }
    Ok(())
}

/// Its parent or a child that runs in its memory: a `vfork` under way, or `clone(CLONE_VM)`.
fn memory_sharer(pid: i32, parent: i32) -> io::Result<Option<i32>> {
    let mut relatives = vec![parent];
    for task in procfs::tasks(pid)? {
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{task}/children")).unwrap_or_default();
        relatives.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok()));
    }
    let shares = |relative: &i32| minka_kernel::process::share_memory(pid, *relative).unwrap_or(false);
    Ok(relatives.into_iter().filter(|relative| *relative > 0).find(shares))
}

/// Whether all memory is locked (mlockall(2)): perhaps also what it is going to have, which nobody can see, and which would
/// not be locked elsewhere.
fn locks_all(locked: &[(u64, u64)], maps: &[Mapping]) -> bool {
    let is_locked =
        |mapping: &Mapping| locked.iter().any(|(start, end)| *start <= mapping.start && mapping.end <= *end);
    let mut ordinary = maps.iter().filter(|mapping| mapping.protection != 0 && !mapping.is_kernel());
    ordinary.all(is_locked)
}

fn mapping_reason(pid: i32, mapping: &Mapping) -> Option<Reason> {
    let Backing::File { path, .. } = &mapping.backing else { return None };
    if path == "/anon_hugepage" {
        return Some(Reason::HugePages);
    }
    if path.contains("[io_uring]") {
        return Some(Reason::IoUring);
    }
    if is_device(path) {
        return Some(Reason::Device(path.clone()));
    }
    if !mapping.shared {
        return None;
    }
    take_lease(pid, mapping).err()
}

/// A lease is for the file's owner and the privileged; others depend on the host's having the very same file.
fn is_not_permitted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// `/dev/zero` and `/dev/shm/…` are memory; everything else below `/dev` that can be mapped is a device.
fn is_device(path: &str) -> bool {
    path.starts_with("/dev/") && path != "/dev/zero" && !path.starts_with("/dev/shm/")
}

/// A lease on the file behind a read-only shared mapping.
fn take_lease(pid: i32, mapping: &Mapping) -> Result<Option<Lease>, Reason> {
    // On an anonymous file a lease can be had, whoever writes to it: shared memory is judged otherwise.
    let Backing::File { path, .. } = &mapping.backing else { return Ok(None) };
    if shared::kind(mapping).is_some() || mapping.inode == 0 {
        return Ok(None);
    }
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    let because = |error: io::Error| Reason::SharedFile { path: path.clone(), cause: error.to_string() };
    // In a user namespace of our own the kernel refuses map_files; the path then has to do.
    let file = File::open(link).or_else(|_| File::open(path)).map_err(because)?;
    match minka_kernel::lease::take(&file) {
        Ok(()) => Ok(Some(Lease { file, path: path.clone() })),
        Err(error) if is_not_permitted(&error) => Ok(None),
        Err(error) => Err(because(error)),
    }
}

/// A lease on what the process has just mapped shared at `address`; `None` where that cannot be exact elsewhere.
pub(crate) fn lease_at(pid: i32, address: u64) -> Option<Lease> {
    let maps = procfs::maps(pid).ok()?;
    let mapping = maps.iter().find(|mapping| mapping.start <= address && address < mapping.end)?;
    take_lease(pid, mapping).ok().flatten()
}

/// Leases on the files that the process maps shared, as far as they are permitted, to be held while it is away.
pub(crate) fn take_leases(pid: i32, maps: &[Mapping]) -> Result<Vec<Lease>, Reason> {
    let shared = maps.iter().filter(|mapping| mapping.shared);
    shared.filter_map(|mapping| take_lease(pid, mapping).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn reasons_for(command: &mut Command) -> Vec<Reason> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start");
        std::thread::sleep(std::time::Duration::from_millis(150));
        let reasons = reasons(child.id() as i32);
        child.kill().expect("kill");
        child.wait().expect("wait");
        reasons
    }

    #[test]
    fn those_who_share_are_named_as_far_as_there_is_room() {
        let text = |pids: std::ops::RangeInclusive<i32>| Sharers(pids.collect()).to_string();
        assert_eq!(text(4..=4), "process 4");
        assert_eq!(text(4..=5), "processes 4 and 5");
        assert_eq!(text(1..=8), "processes 1, 2, 3, 4, 5, 6, 7 and 8");
        assert_eq!(text(1..=9), "processes 1, 2, 3, 4, 5, 6, 7, 8 and another one");
        assert_eq!(text(1..=40), "processes 1, 2, 3, 4, 5, 6, 7, 8 and 32 others");
    }

    #[test]
    fn an_ordinary_program_can_move() {
        assert_eq!(reasons_for(&mut Command::new("cat")), []);
    }

    #[test]
    fn what_does_not_exist_says_so() {
        assert_eq!(reasons(i32::MAX), [Reason::Gone]);
    }
}
