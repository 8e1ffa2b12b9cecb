//! What `/proc/PID` says of a process (`proc(5)`).

use minka_image::maps::{self, Mapping};
use minka_image::process::Borders;
use std::io;

fn read(pid: i32, file: &str) -> io::Result<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("understand /proc/PID/{what}"))
}

/// Its mappings.
pub fn maps(pid: i32) -> io::Result<Vec<Mapping>> {
    maps::parse(&read(pid, "maps")?).map_err(|_| malformed("maps"))
}

/// The ranges of its memory that are locked.
pub fn locked(pid: i32) -> io::Result<Vec<(u64, u64)>> {
    // Few processes have any, and the kernel looks at every page for the list.
    if Status::read(pid)?.locked_kib == 0 {
        return Ok(Vec::new());
    }
    Ok(maps::locked(&read(pid, "smaps")?))
}

/// Its auxiliary vector, whole entries up to and with `AT_NULL`.
pub fn auxv(pid: i32) -> io::Result<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/auxv"))
}

/// Its command name, at most 15 bytes.
pub fn command(pid: i32) -> io::Result<String> {
    Ok(read(pid, "comm")?.trim_end().to_owned())
}

/// This boot of this machine.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Its tasks' ids, in no particular order.
pub fn tasks(pid: i32) -> io::Result<Vec<i32>> {
    std::fs::read_dir(format!("/proc/{pid}/task"))?
        .map(|entry| entry?.file_name().to_string_lossy().parse().map_err(|_| malformed("task")))
        .collect()
}

/// What `/proc/PID/stat` says, as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// State letter.
    pub state: char,
    /// Parent.
    pub parent: i32,
    /// User and system CPU time, clock ticks (`sysconf(_SC_CLK_TCK)`, 100 a second on every x86-64 kernel).
    pub cpu_ticks: (u64, u64),
    /// Start time after boot, clock ticks.
    pub start: u64,
    /// Scheduling policy (`SCHED_*`).
    pub policy: u32,
    /// Borders of the address space; `brk` is not told here and 0.
    pub borders: Borders,
}

impl Stat {
    /// Reads it.
    pub fn read(pid: i32) -> io::Result<Self> {
        Self::parse(&read(pid, "stat")?).ok_or_else(|| malformed("stat"))
    }

    fn parse(text: &str) -> Option<Self> {
        // The command, field 2, may hold anything, parentheses and blanks included.
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |at: usize| field(at)?.parse::<u64>().ok();
        Some(Self {
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            cpu_ticks: (number(14)?, number(15)?),
            start: number(22)?,
            policy: number(41)? as u32,
            borders: Borders {
                start_code: number(26)?,
                end_code: number(27)?,
                start_stack: number(28)?,
                start_data: number(45)?,
                end_data: number(46)?,
                start_brk: number(47)?,
                brk: 0,
                arg_start: number(48)?,
                arg_end: number(49)?,
                env_start: number(50)?,
                env_end: number(51)?,
            },
        })
    }
}

/// What `/proc/PID/status` says, as far as it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The process that it is a thread of.
    pub process: i32,
    /// Real user id.
    pub uid: u32,
    /// Who traces it, or 0.
    pub tracer: i32,
    /// Threads.
    pub threads: u32,
    /// Signals that are pending for its main thread, bit `n - 1` for signal `n`.
    pub pending: u64,
    /// Signals that are pending for any of its threads.
    pub pending_for_any: u64,
    /// Signals that its main thread blocks.
    pub blocked: u64,
    /// Caught signals.
    pub caught: u64,
    /// Ignored signals.
    pub ignored: u64,
    /// Seccomp mode, 0 for none.
    pub seccomp: u32,
    /// Locked memory, KiB.
    pub locked_kib: u64,
    /// Whether it has memory at all (kernel threads have none).
    pub has_memory: bool,
    /// Its PID in each of its PID namespaces, ours first.
    pub namespace_pids: Vec<i32>,
}

impl Status {
    /// Reads it.
    pub fn read(pid: i32) -> io::Result<Self> {
        Ok(Self::parse(&read(pid, "status")?))
    }

    /// Whether its main thread is about to take a signal that one of its own instructions has raised. The kernel
    /// delivers such a signal at the next step, blocked or not.
    pub fn has_raised_a_fault(&self) -> bool {
        let faults = [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS];
        let faults = faults.into_iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
        self.is_about_to_take(faults)
    }

    /// Whether its main thread is about to take one of those signals (bit `n - 1` for signal `n`).
    pub fn is_about_to_take(&self, signals: u64) -> bool {
        self.pending & !self.blocked & signals != 0
    }

    fn parse(text: &str) -> Self {
        let mut status = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let first = value.split_ascii_whitespace().next().unwrap_or("");
            match name {
                "Tgid" => status.process = first.parse().unwrap_or(0),
                "Uid" => status.uid = first.parse().unwrap_or(u32::MAX),
                "TracerPid" => status.tracer = first.parse().unwrap_or(0),
                "Threads" => status.threads = first.parse().unwrap_or(0),
                "SigPnd" => status.pending = u64::from_str_radix(first, 16).unwrap_or(0),
                "ShdPnd" => status.pending_for_any = u64::from_str_radix(first, 16).unwrap_or(0),
                "SigBlk" => status.blocked = u64::from_str_radix(first, 16).unwrap_or(0),
                "SigCgt" => status.caught = u64::from_str_radix(first, 16).unwrap_or(0),
                "SigIgn" => status.ignored = u64::from_str_radix(first, 16).unwrap_or(0),
                "Seccomp" => status.seccomp = first.parse().unwrap_or(0),
                "VmLck" => status.locked_kib = first.parse().unwrap_or(0),
                "VmSize" => status.has_memory = true,
                "NSpid" => {
                    status.namespace_pids =
                        value.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
                }
                _ => {}
            }
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_reads_itself() {
        let pid = std::process::id() as i32;
        let stat = Stat::read(pid).expect("own stat");
        assert!("RS".contains(stat.state) && stat.policy == 0, "{stat:?}");
        assert!(stat.borders.start_stack > stat.borders.start_code);
        let status = Status::read(pid).expect("own status");
        assert!(
            status.has_memory
                && status.threads >= 1
                && status.process == pid
                && status.namespace_pids.last() == Some(&pid)
        );
        assert!(maps(pid).expect("own maps").iter().any(|mapping| mapping.backing == maps::Backing::Vdso));
    }

    #[test]
    fn a_command_may_hold_anything() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = Stat::parse(&format!("1 (a) R (b) S {}", fields.join(" "))).expect("parses");
        assert_eq!((stat.state, stat.parent, stat.start, stat.policy), ('S', 4, 22, 41));
        assert_eq!(stat.borders.env_end, 51);
    }
}
