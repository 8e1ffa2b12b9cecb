//! The processes of this node, behind a trait so that the daemon's rules are tested without any.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What tells one process from every other that ever had its PID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PID as this node counts.
    pub pid: i32,
    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start: u64,
    /// Real user id of its owner.
    pub uid: u32,
    /// Command name.
    pub command: String,
}

/// The processes of a node.
pub trait Processes: Send + Sync {
    /// The process with that PID, or `None` when there is none or it is only waiting to be reaped.
    fn look(&self, pid: i32) -> Option<Identity>;

    /// The PIDs of all processes, in no order.
    fn list(&self) -> Vec<i32>;

    /// Ends a process as by SIGKILL, unless its PID has passed to another one.
    ///
    /// # Errors
    /// When the kernel does not let this program signal it.
    fn kill(&self, identity: &Identity) -> io::Result<()>;

    /// Whether that very process still runs.
    fn is_alive(&self, identity: &Identity) -> bool {
        self.look(identity.pid).is_some_and(|found| found.start == identity.start)
    }
}

/// The real ones, from `/proc`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcFs;

impl Processes for ProcFs {
    fn look(&self, pid: i32) -> Option<Identity> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let identity = parse(&stat, &status)?;
        // `/proc/TID` exists for every thread; only the process itself is meant.
        (identity.pid == pid).then_some(identity)
    }

    fn list(&self) -> Vec<i32> {
        let Ok(directory) = fs::read_dir("/proc") else { return Vec::new() };
        directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn kill(&self, identity: &Identity) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(identity.pid) else { return Ok(()) };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        // The handle holds whatever has the PID now; only after this look do we know that it is ours.
        if self.is_alive(identity) {
            pidfd_send_signal(handle, Signal::KILL)?;
        }
        Ok(())
    }
}

/// Reads `/proc/PID/stat` and `/proc/PID/status`; the PID returned is the thread group's.
fn parse(stat: &[u8], status: &str) -> Option<Identity> {
    // The name stands in parentheses and may itself hold any byte, parentheses included.
    let open = stat.iter().position(|&byte| byte == b'(')?;
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let command = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let start = fields.get(19)?.parse().ok()?;
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_ascii_whitespace().next()
    };
    let pid = value("Tgid:")?.parse().ok()?;
    let uid = value("Uid:")?.parse().ok()?;
    Some(Identity { pid, start, uid, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nTgid:\t42\nPid:\t42\nUid:\t1000\t0\t0\t0\n";

    fn stat(name: &str, state: char) -> Vec<u8> {
        let mut fields = vec![state.to_string(), "7".into()];
        fields.extend((0..17).map(|field| field.to_string()));
        fields.push("987654".into());
        fields.push("0".into());
        format!("42 ({name}) {}\n", fields.join(" ")).into_bytes()
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_is_read() {
        let identity = parse(&stat("a) R 1 (b", 'S'), STATUS).unwrap();
        let expected = Identity { pid: 42, start: 987_654, uid: 1000, command: "a) R 1 (b".into() };
        assert_eq!(identity, expected);
    }

    #[test]
    fn a_process_waiting_to_be_reaped_is_none() {
        assert_eq!(parse(&stat("x", 'Z'), STATUS), None);
    }

    #[test]
    fn cut_files_are_none() {
        let whole = stat("x", 'R');
        for length in 0..whole.len().saturating_sub(12) {
            assert_eq!(parse(&whole[..length], STATUS), None, "{length}");
        }
        assert_eq!(parse(&whole, "Name:\tx\n"), None);
    }

    #[test]
    fn this_very_process_is_found_and_its_threads_are_not_processes() {
        let own = i32::try_from(std::process::id()).unwrap();
        let identity = ProcFs.look(own).unwrap();
        assert_eq!(identity.pid, own);
        assert!(ProcFs.is_alive(&identity));
        assert!(!ProcFs.is_alive(&Identity { start: identity.start + 1, ..identity }));
        assert!(ProcFs.list().contains(&own));
        let thread = std::thread::spawn(|| {
            let link = fs::read_link("/proc/thread-self").unwrap();
            let tid: i32 = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
            (tid, ProcFs.look(tid))
        });
        let (tid, found) = thread.join().unwrap();
        assert_ne!(tid, own);
        assert_eq!(found, None);
    }

    #[test]
    fn kill_spares_a_process_that_took_over_the_pid() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = ProcFs.look(i32::try_from(child.id()).unwrap()).unwrap();
        ProcFs.kill(&Identity { start: identity.start + 1, ..identity.clone() }).unwrap();
        assert!(ProcFs.is_alive(&identity));
        ProcFs.kill(&identity).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!ProcFs.is_alive(&identity));
    }
}
