//! The guest's shell: the namespaces, the init process and the empty process in which a guest is built.
//!
//! ```text
//!  host program ──clone3(NEWUSER|PID|NS|NET|IPC|UTS)──► init (pid 1, privileged only inside)
//!       │  writes uid_map, gid_map                        │ own time namespace, empty root
//!       │                                                 └─clone3(set_tid = home's pid)──► guest
//!       └──SEIZE, INTERRUPT──────────────────────────────────────────────────────────────►  │ unprivileged,
//!                                                                                            no_new_privs,
//!                                                                                            workbench mapped
//! ```
//!
//! All of it is done before the process at home is stopped. The children run on a copy of the host program's
//! memory and make system calls only: no allocation, no locks.
//!
//! Init stays: threads of the guest have the ids that they have at home, and only somebody inside with privilege can
//! say which one the kernel is to give next ([`Shell::number_next_thread`]).

use crate::check;
use crate::workbench;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What the shell is made for.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The PID that the guest has at home.
    pub pid: i32,
    /// What to add to this machine's monotonic and boot-time clocks, nanoseconds.
    pub clock_offsets: (i64, i64),
    /// The workbench's memfd and where the guest maps it.
    pub workbench: (BorrowedFd<'a>, u64),
    /// This program lives in a network namespace in which there is nothing, and which the guest may share.
    pub in_empty_network: bool,
}

/// A shell that is ready: end it by dropping.
#[derive(Debug)]
pub struct Shell {
    init: i32,
    guest: i32,
    /// Init ends when this pipe closes.
    command: fs::File,
    report: fs::File,
}

/// Ids inside the guest's user namespace: init is 0, the guest 1 where a second id can be had.
const TWO_IDS: &str = "0 65534 1\n1 65533 1";
/// Inside an unprivileged lab only one id exists; the guest then differs from init by its empty capabilities.
const ONE_ID: &str = "0 0 1";

const REPORT_GUEST: u8 = 2;

impl Shell {
    /// Makes one. The guest waits in `pause` with the workbench mapped, its descriptors those of this process.
    pub fn create(plan: &Plan<'_>) -> io::Result<Self> {
        let (command_read, command_write) = pipe()?;
        let (mut report_read, report_write) = pipe()?;
        let mut offsets = [0u8; 96];
        // On the home's own machine the clocks are the same.
        let same_clocks = plan.clock_offsets == (0, 0);
        let offsets_length = if same_clocks { 0 } else { write_offsets(&mut offsets, plan.clock_offsets) };
        let inside = Inside {
            command: command_read.as_raw_fd(),
            command_write: command_write.as_raw_fd(),
            report: report_write.as_raw_fd(),
            pid: plan.pid,
            offsets: &offsets[..offsets_length],
            workbench: plan.workbench.0.as_raw_fd(),
            workbench_address: plan.workbench.1,
        };
        let flags = libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            // Making one takes as long as everything else here together, and so does its end.
            | if plan.in_empty_network { 0 } else { libc::CLONE_NEWNET };
        // SAFETY: the child only runs `init`, which makes system calls on memory copied with the process.
        let init = unsafe { clone3(flags as u64, None)? };
        if init == 0 {
            inside.init();
        }
        drop((command_read, report_write));
        let two_ids = map_ids(init)?;
        let mut command = fs::File::from(command_write);
        command.write_all(&[u8::from(two_ids)])?;
        let mut report = [0u8; 5];
        let outcome = report_read.read_exact(&mut report);
        let error = i32::from_le_bytes(report[1..].try_into().expect("four bytes"));
        if outcome.is_err() || report[0] != REPORT_GUEST || error != 0 {
            kill(init);
            let step = STEPS.get(report[0] as usize).copied().unwrap_or("start");
            let source = if error == 0 {
                io::ErrorKind::UnexpectedEof.into()
            } else {
                io::Error::from_raw_os_error(error)
            };
            return Err(io::Error::new(
                source.kind(),
                format!("the guest's init failed to {step}: {source}"),
            ));
        }
        let guest = only_child(init)?;
        Ok(Self { init, guest, command, report: report_read })
    }

    /// Has the next task that is made in the guest get this id, as the guest counts. Fails with `Unsupported` where
    /// the kernel does not let itself be told (`CONFIG_CHECKPOINT_RESTORE`).
    pub fn number_next_thread(&mut self, tid: i32) -> io::Result<()> {
        self.command.write_all(&tid.to_le_bytes())?;
        let mut report = [0u8; 5];
        self.report.read_exact(&mut report)?;
        match i32::from_le_bytes(report[1..].try_into().expect("four bytes")) {
            0 => Ok(()),
            error => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the kernel does not let threads be numbered: {}",
                    io::Error::from_raw_os_error(error)
                ),
            )),
        }
    }

    /// The guest, as this process's PID namespace counts.
    pub fn guest(&self) -> i32 {
        self.guest
    }

    /// The init, as this process's PID namespace counts.
    pub fn init(&self) -> i32 {
        self.init
    }
}

impl Drop for Shell {
    /// Kills everything in the shell, and waits for all of it: this process has no other children. Killing init waits
    /// for every task of the namespace, and a traced zombie is only released by its tracer.
    fn drop(&mut self) {
        kill(self.init);
        let mut status = 0;
        // SAFETY: plain waits; `status` lives over the calls. What has been reaped before is ECHILD.
        while unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) } > 0 {}
    }
}

fn kill(pid: i32) {
    // SAFETY: no pointers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn pipe() -> io::Result<(fs::File, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    check(i64::from(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }))?;
    // SAFETY: both were just created and are owned by nobody else.
    Ok(unsafe { (fs::File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

fn map_ids(init: i32) -> io::Result<bool> {
    fs::write(format!("/proc/{init}/setgroups"), "deny")?;
    for (ids, two) in [(TWO_IDS, true), (ONE_ID, false)] {
        if fs::write(format!("/proc/{init}/uid_map"), ids).is_ok() {
            fs::write(format!("/proc/{init}/gid_map"), ids)?;
            return Ok(two);
        }
    }
    Err(io::Error::other("cannot map a user id into the guest's namespace"))
}

fn only_child(pid: i32) -> io::Result<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    children
        .trim()
        .parse()
        .map_err(|_| io::Error::other(format!("expected one child of init, found {children:?}")))
}

/// Text for `/proc/self/timens_offsets`, without allocation in the child.
fn write_offsets(into: &mut [u8], (monotonic, boottime): (i64, i64)) -> usize {
    let part =
        |nanoseconds: i64| (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    let ((ms, mn), (bs, bn)) = (part(monotonic), part(boottime));
    let room = into.len();
    let mut rest = &mut into[..];
    // The buffer holds two lines of the longest numbers; a write into it cannot fail.
    let _ = write!(rest, "monotonic {ms} {mn}\nboottime {bs} {bn}\n");
    room - rest.len()
}

/// A number in decimal, without allocation in the child.
fn write_number(into: &mut [u8], number: i32) -> usize {
    let room = into.len();
    let mut rest = &mut into[..];
    // The buffer holds the longest number; a write into it cannot fail.
    let _ = write!(rest, "{number}");
    room - rest.len()
}

fn last_error() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks with flags, and with a chosen PID in the current PID namespace.
///
/// # Safety
/// In the child (result 0) only async-signal-safe code may run, and it must not return from the caller's frame
/// into code that owns resources of the parent.
unsafe fn clone3(flags: u64, pid: Option<&i32>) -> io::Result<i32> {
    let args = CloneArgs {
        flags,
        exit_signal: libc::SIGCHLD as u64,
        set_tid: pid.map_or(0, |pid| std::ptr::from_ref(pid) as u64),
        set_tid_size: pid.map_or(0, |_| 1),
        ..CloneArgs::default()
    };
    // SAFETY: the structure and the PID live over the call; without CLONE_VM the child has its own copy of the stack.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, std::mem::size_of::<CloneArgs>()) };
    check(result).map(|pid| pid as i32)
}

/// What the first report byte names when the shell cannot be made.
const STEPS: [&str; 8] = [
    "start",
    "read its orders",
    "report",
    "become its root",
    "make a time namespace",
    "empty its root directory",
    "make the guest's process",
    "prepare the guest's process",
];

/// What init and the guest know; all of it lies in memory that was copied with the fork.
struct Inside<'a> {
    command: RawFd,
    command_write: RawFd,
    report: RawFd,
    pid: i32,
    offsets: &'a [u8],
    workbench: RawFd,
    workbench_address: u64,
}

impl Inside<'_> {
    fn report(&self, step: u8, error: i32) {
        let error = error.to_le_bytes();
        let bytes = [step, error[0], error[1], error[2], error[3]];
        // SAFETY: writes five bytes from a live array.
        unsafe { libc::write(self.report, bytes.as_ptr().cast(), bytes.len()) };
    }

    fn fail(&self, step: u8) -> ! {
        self.report(step, last_error());
        // SAFETY: ends this child without running the parent's exit handlers.
        unsafe { libc::_exit(1) }
    }

    fn demand(&self, step: u8, result: i64) -> i64 {
        if result < 0 { self.fail(step) } else { result }
    }

    fn init(&self) -> ! {
        let mut two_ids = 0u8;
        // SAFETY: system calls on this child's own copy of the memory, with NUL-terminated names.
        unsafe {
            libc::close(self.command_write);
            self.demand(3, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) as i64);
            if libc::read(self.command, (&raw mut two_ids).cast(), 1) != 1 {
                self.fail(1);
            }
            self.demand(3, libc::syscall(libc::SYS_setresgid, 0, 0, 0));
            self.demand(3, libc::syscall(libc::SYS_setresuid, 0, 0, 0));
            // The change of ids cleared it, and made this process's own files in /proc somebody else's.
            self.demand(3, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) as i64);
            self.demand(3, libc::prctl(libc::PR_SET_DUMPABLE, 1) as i64);
            if !self.offsets.is_empty() {
                self.shift_clocks();
            }
            let numbers =
                libc::open(c"/proc/sys/kernel/ns_last_pid".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            let no_numbers = if numbers < 0 { last_error() } else { 0 };
            // An empty directory instead of the host's files: nothing is ever opened here, but nothing could be.
            let (root, kind) = (c"/proc".as_ptr(), c"tmpfs".as_ptr());
            let private = libc::mount(
                std::ptr::null(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            );
            self.demand(5, private as i64);
            let options = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            self.demand(
                5,
                libc::mount(kind, root, kind, options, c"size=4k,mode=755".as_ptr().cast()) as i64,
            );
            self.demand(5, libc::chroot(root) as i64);
            self.demand(5, libc::chdir(c"/".as_ptr()) as i64);
            match clone3(0, Some(&self.pid)) {
                Ok(0) => self.guest(two_ids == 1),
                Ok(_) => {}
                Err(_) => self.fail(6),
            }
            self.serve(numbers, no_numbers)
        }
    }

    /// Writes down the numbers of threads to come, until its namespace is killed.
    fn serve(&self, numbers: RawFd, no_numbers: i32) -> ! {
        // SAFETY: system calls on this child's own copy of the memory.
        unsafe {
            // What is left to it reaps itself.
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            loop {
                let mut tid = [0u8; 4];
                if libc::read(self.command, tid.as_mut_ptr().cast(), tid.len()) != tid.len() as isize {
                    libc::_exit(0);
                }
                let mut text = [0u8; 12];
                let length = write_number(&mut text, i32::from_le_bytes(tid).wrapping_sub(1));
                // Anywhere else than at its beginning the kernel takes note of nothing.
                let written = libc::pwrite(numbers, text.as_ptr().cast(), length, 0);
                let error = if no_numbers != 0 { no_numbers } else { last_error() };
                self.report(0, if written == length as isize { 0 } else { error });
            }
        }
    }

    /// From now on this process's children live in a time namespace.
    fn shift_clocks(&self) {
        let name = c"/proc/self/timens_offsets";
        // SAFETY: system calls on this child's own copy of the memory, with a NUL-terminated name.
        unsafe {
            self.demand(4, libc::unshare(libc::CLONE_NEWTIME) as i64);
            let file = libc::open(name.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            self.demand(4, file as i64);
            self.demand(4, libc::write(file, self.offsets.as_ptr().cast(), self.offsets.len()) as i64);
            libc::close(file);
        }
    }

    fn guest(&self, two_ids: bool) -> ! {
        let id = i64::from(two_ids);
        // SAFETY: system calls on this child's own copy of the memory.
        unsafe {
            if two_ids {
                self.demand(7, libc::syscall(libc::SYS_setresgid, id, id, id));
                self.demand(7, libc::syscall(libc::SYS_setresuid, id, id, id));
            }
            // _LINUX_CAPABILITY_VERSION_3, this task; no capability of any kind.
            let header = [0x2008_0522u32, 0];
            let none = [0u32; 6];
            self.demand(7, libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()));
            self.demand(7, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) as i64);
            let default = [0u64; 4];
            for signal in 1..=64i64 {
                // SIGKILL and SIGSTOP refuse, which is as well.
                libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, 8usize);
            }
            let mapped = libc::mmap(
                self.workbench_address as *mut libc::c_void,
                workbench::LENGTH,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE,
                self.workbench,
                0,
            );
            if mapped == libc::MAP_FAILED {
                self.fail(7);
            }
            self.report(REPORT_GUEST, 0);
            loop {
                libc::pause();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_as_the_kernel_reads_them() {
        let text = |offsets| {
            let mut bytes = [0; 96];
            let length = write_offsets(&mut bytes, offsets);
            String::from_utf8(bytes[..length].to_vec()).expect("text")
        };
        assert_eq!(text((1_500_000_000, 0)), "monotonic 1 500000000\nboottime 0 0\n");
        assert_eq!(text((-1, i64::MIN)), "monotonic -1 999999999\nboottime -9223372037 145224192\n");
    }
}
