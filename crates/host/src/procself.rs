//! Files of `/proc/self` that a guest opens: its home would show its own, stale memory.

use crate::calls::{Answer, Worker};
use crate::fault::Result;
use crate::guest::{Guest, lock};
use crate::leave;
use minka_image::maps::Backing;
use minka_kernel::procfs::{self, Stat};
use minka_kernel::seccomp::Notification;
use minka_wire::message::{Piece, ProcFile, Special};

const OPEN: u64 = 2;
const OPENAT: u64 = 257;
const OPENAT2: u64 = 437;
/// `O_WRONLY | O_RDWR`.
const WRITES: u64 = 3;

/// What a path in a process's own `/proc` directory asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    Maps,
    Status,
    Stat,
    Statm,
    Cmdline,
    Environ,
    /// Shows memory in a form that only the process at home has exactly.
    Native,
}

/// The answer to an `open` of such a file; `None` for every other call.
pub(crate) fn open(worker: &mut Worker<'_>, call: &Notification) -> Result<Option<Answer>> {
    let (path, flags) = match call.call {
        OPEN => (call.arguments[0], call.arguments[1]),
        OPENAT => (call.arguments[1], call.arguments[2]),
        OPENAT2 => (call.arguments[1], worker.guest.memory.read_u64(call.arguments[2]).unwrap_or(0)),
        _ => return Ok(None),
    };
    // Long enough for every path that is looked for.
    let mut bytes = [0; 64];
    let length = worker.guest.memory.read(path, &mut bytes);
    let Some(end) = bytes[..length].iter().position(|byte| *byte == 0) else { return Ok(None) };
    let Some(file) = parse(&bytes[..end], worker.guest.home_pid) else { return Ok(None) };
    let content = if flags & WRITES != 0 { None } else { content(worker, file) };
    Ok(Some(match content {
        Some(file) => Answer::Result(worker.special(&Special::Proc { file, flags: flags as u32 })?),
        None => Answer::Homeward(format!("open of {}", String::from_utf8_lossy(&bytes[..end]))),
    }))
}

fn parse(path: &[u8], pid: i32) -> Option<File> {
    let path = std::str::from_utf8(path).ok()?.strip_prefix("/proc/")?;
    let (who, rest) = path.split_once('/')?;
    let own = |who: &str| who == "self" || who == "thread-self" || who.parse() == Ok(pid);
    if !own(who) {
        return None;
    }
    let file = match rest.strip_prefix("task/").and_then(|rest| rest.split_once('/')) {
        Some((task, file)) if own(task) => file,
        _ => rest,
    };
    Some(match file {
        "maps" => File::Maps,
        "status" => File::Status,
        "stat" => File::Stat,
        "statm" => File::Statm,
        "cmdline" => File::Cmdline,
        "environ" => File::Environ,
        "smaps" | "smaps_rollup" | "numa_maps" | "pagemap" | "mem" | "clear_refs" | "syscall" => File::Native,
        _ if file.starts_with("map_files") => File::Native,
        _ => return None,
    })
}

fn content(worker: &Worker<'_>, file: File) -> Option<ProcFile> {
    let guest = worker.guest;
    let text = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", guest.pid)).ok();
    Some(match file {
        File::Maps => maps(guest)?,
        File::Status => ProcFile::Status { guest: text("status")? },
        File::Stat => ProcFile::Stat { guest: text("stat")? },
        File::Statm => ProcFile::Whole { content: text("statm")? },
        File::Cmdline => part(guest, |stat| (stat.borders.arg_start, stat.borders.arg_end))?,
        File::Environ => part(guest, |stat| (stat.borders.env_start, stat.borders.env_end))?,
        File::Native => return None,
    })
}

fn maps(guest: &Guest) -> Option<ProcFile> {
    let maps = procfs::maps(guest.pid).ok()?;
    let heap = maps.iter().filter(|mapping| mapping.backing == Backing::Heap);
    let heap = heap.fold((u64::MAX, 0), |(start, end), area| (start.min(area.start), end.max(area.end)));
    let wanted = leave::its_own(guest, lock(&guest.origins).wanted(&maps));
    Some(ProcFile::Maps { space: wanted.into_iter().map(Piece::from).collect(), heap })
}

/// A part of the guest's memory that is text; what is not goes home, where the kernel reads it natively.
fn part(guest: &Guest, borders: impl Fn(&Stat) -> (u64, u64)) -> Option<ProcFile> {
    const LENGTH_MAX: u64 = 128 << 10;
    let (start, end) = borders(&Stat::read(guest.pid).ok()?);
    let length = end.checked_sub(start).filter(|length| *length <= LENGTH_MAX)?;
    let mut bytes = vec![0; length as usize];
    let read = guest.memory.read(start, &mut bytes);
    (read == bytes.len())
        .then(|| String::from_utf8(bytes).ok())
        .flatten()
        .map(|content| ProcFile::Whole { content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_files_that_show_memory() {
        let parse = |path: &str| parse(path.as_bytes(), 42);
        assert_eq!(parse("/proc/self/maps"), Some(File::Maps));
        assert_eq!(parse("/proc/42/status"), Some(File::Status));
        assert_eq!(parse("/proc/thread-self/stat"), Some(File::Stat));
        assert_eq!(parse("/proc/self/task/42/maps"), Some(File::Maps));
        assert_eq!(parse("/proc/42/smaps"), Some(File::Native));
        assert_eq!(parse("/proc/43/maps"), None);
        assert_eq!(parse("/proc/self/exe"), None);
        assert_eq!(parse("/proc/self/fd/3"), None);
        assert_eq!(parse("/etc/passwd"), None);
    }
}
