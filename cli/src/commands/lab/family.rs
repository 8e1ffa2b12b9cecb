//! A program's processes: itself and all that descend from it, as its node counts them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The processes of a program that runs in a PID namespace within this one.
#[derive(Debug)]
pub(super) struct Family {
    /// How deep the program's namespace lies: which of the PIDs in `NSpid` is the node's.
    depth: usize,
    /// Members that live, by PIDs as this program counts. One whose parent has ended stays a member.
    members: BTreeSet<i32>,
}

impl Family {
    /// The family of a program; `None` when it has ended already.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let depth = pids_in_namespaces(pid)?.len().checked_sub(1)?;
        Some(Family { depth, members: BTreeSet::from([pid]) })
    }

    /// Looks anew; returns the members' PIDs as their node counts them.
    pub(super) fn look(&mut self) -> Vec<i32> {
        let mut found = BTreeMap::new();
        let mut queue: Vec<i32> = self.members.iter().copied().collect();
        while let Some(pid) = queue.pop() {
            if found.contains_key(&pid) {
                continue;
            }
            let Some(pids) = pids_in_namespaces(pid) else { continue };
            // A member in a namespace of its own still has the PID that its node counts.
            if let Some(in_node) = pids.get(self.depth) {
                found.insert(pid, *in_node);
                queue.extend(children(pid));
            }
        }
        self.members = found.keys().copied().collect();
        found.into_values().collect()
    }
}

/// A process's PIDs from this program's namespace inwards; `None` when it has ended.
fn pids_in_namespaces(pid: i32) -> Option<Vec<i32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_status(&status)
}

fn parse_status(status: &str) -> Option<Vec<i32>> {
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    if value("State:")?.trim_start().starts_with(['Z', 'X']) {
        return None;
    }
    value("NSpid:")?.split_ascii_whitespace().map(|pid| pid.parse().ok()).collect()
}

/// The children of all threads of a process.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| parse_children(&list)).collect()
}

fn parse_children(list: &str) -> Vec<i32> {
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn pids_are_read_inwards_and_the_dead_have_none() {
        let status = |state| format!("Name:\tx\nState:\t{state}\nNSpid:\t4242\t17\t2\n");
        assert_eq!(parse_status(&status("S (sleeping)")), Some(vec![4242, 17, 2]));
        assert_eq!(parse_status(&status("Z (zombie)")), None);
        assert_eq!(parse_status("Name:\tx\n"), None);
    }

    #[test]
    fn children_and_grandchildren_are_found_and_orphans_kept() {
        let script = "sleep 60 & (sleep 60 & echo; sleep 60) & read line; wait";
        let shell =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut shell = shell.unwrap();
        // The inner shell has started its first child when it writes.
        let mut byte = [0];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut byte).unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let mut family = Family::of(pid).unwrap();
        let members = family.look();
        assert!(members.len() >= 4, "{members:?}");
        shell.kill().unwrap();
        shell.wait().unwrap();
        let left = family.look();
        assert!(!left.contains(&pid) && left.len() >= 3, "{left:?}");
        for pid in left {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
}
