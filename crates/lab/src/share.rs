//! How much of the machine's processors and memory a node has, by control groups of its own.
//!
//! In the group are the programs that are started in the node, and the guests that come to it (`[guests]` in the node's
//! configuration). Minka's own daemon, deputies and hosts are not: the share is what a small machine would have for
//! programs, and a machine does not stop its daemons when its programs have had their turn.
//!
//! With control groups of version 2 the limits are the files `cpu.max` and `memory.max`, with those of version 1
//! `cpu.cfs_quota_us` and `memory.limit_in_bytes`; which there are depends on the system, and each may be of another
//! version. The groups lie beside or below the supervisor's own and go with the lab.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::LabError;

/// The period in which a node has its share. Short, so that a node with a small share still answers soon.
const PERIOD_US: u64 = 20_000;

/// The least share that can be given: the kernel takes no quota below a millisecond.
pub(crate) const SHARE_MIN: f64 = 0.05;

/// More processors than any machine has.
pub(crate) const SHARE_MAX: f64 = 8192.0;

/// How long the kernel may take to let go of a group whose processes have been killed.
const REMOVE_LIMIT: Duration = Duration::from_secs(2);
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// The least memory that a node can be given, in MiB: what a few programs take.
pub(crate) const MEMORY_MIN_MIB: u32 = 16;

/// Where control groups that limit something can be made.
#[derive(Debug, PartialEq, Eq)]
enum Hierarchy {
    /// Version 1, with the supervisor's own group.
    One(PathBuf),
    /// Version 2, whose root may have processes and groups.
    Two(PathBuf),
}

/// What a node may have of the machine, as far as it is limited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) cpus: Option<f64>,
    pub(crate) memory_mib: Option<u32>,
}

/// Makes the groups of this name that have so much, and adds where they are to `groups`: one, or one for processors and
/// one for memory where each has a hierarchy of its own.
pub(crate) fn make(name: &str, limits: Limits, groups: &mut Vec<PathBuf>) -> Result<(), LabError> {
    if let Some(share) = limits.cpus {
        let quota_us = (share * PERIOD_US as f64).round().max(1000.0) as u64;
        let one = [("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota_us.to_string())];
        limit("cpu", name, groups, &one, &[("cpu.max", format!("{quota_us} {PERIOD_US}"))])?;
    }
    if let Some(memory_mib) = limits.memory_mib {
        let bytes = (u64::from(memory_mib) << 20).to_string();
        limit("memory", name, groups, &[("memory.limit_in_bytes", bytes.clone())], &[("memory.max", bytes)])?;
    }
    Ok(())
}

/// Limits a group by a controller's files, those of version 1 or those of version 2, and makes it if there is none yet.
fn limit(
    controller: &'static str,
    name: &str,
    groups: &mut Vec<PathBuf>,
    one: &[(&str, String)],
    two: &[(&str, String)],
) -> Result<(), LabError> {
    let read = |path: &str| fs::read_to_string(path).map_err(LabError::file("read", path));
    let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    let hierarchy = find(&mounts, &own, controller).ok_or(LabError::NoShares { what: controller })?;
    let (parent, limits) = match &hierarchy {
        Hierarchy::One(parent) => (parent, one),
        Hierarchy::Two(parent) => {
            // If it cannot be written, it may be so already; what counts is whether the limit is there in the end.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
            (parent, two)
        }
    };
    let group = parent.join(name);
    if !groups.contains(&group) {
        fs::create_dir(&group).map_err(LabError::file("make the control group", &group))?;
        groups.push(group.clone());
    }
    for (file, value) in limits {
        let path = group.join(file);
        fs::write(&path, value).map_err(LabError::file("limit a node by", path))?;
    }
    Ok(())
}

/// Puts this process into a group; its children will be in it as well.
pub(crate) fn join(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}

/// Removes a group whose processes are gone, or are about to be.
pub(crate) fn remove(group: &Path) {
    let deadline = Instant::now() + REMOVE_LIMIT;
    while let Err(error) = fs::remove_dir(group) {
        if error.kind() == io::ErrorKind::NotFound || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(REMOVE_PAUSE);
    }
}

/// Where groups of a controller can be made: from `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn find(mounts: &str, own: &str, controller: &str) -> Option<Hierarchy> {
    let mount = |kind: &str, option: Option<&str>| {
        mounts.lines().find_map(|line| {
            let (fields, rest) = line.split_once(" - ")?;
            let mut rest = rest.split(' ');
            let found = rest.next()? == kind;
            let options = rest.nth(1).unwrap_or_default();
            let has = option.is_none_or(|option| options.split(',').any(|it| it == option));
            let mut fields = fields.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            (found && has).then(|| (root.to_owned(), PathBuf::from(point)))
        })
    };
    if let Some((root, point)) = mount("cgroup", Some(controller)) {
        let path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            parts.next()?.split(',').any(|it| it == controller).then(|| parts.next())?
        })?;
        // What lies above the mount's root cannot be seen.
        let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or("").trim_start_matches('/');
        return Some(Hierarchy::One(point.join(below)));
    }
    mount("cgroup2", None).map(|(_, point)| Hierarchy::Two(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let one = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n";
        let two = "31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "4:cpu,cpuacct:/user/a\n3:cpuset:/x\n0::/user.slice/b\n";
        let found = |mounts: &str| find(mounts, own, "cpu");
        assert_eq!(found(one), Some(Hierarchy::One("/sys/fs/cgroup/cpu,cpuacct/user/a".into())));
        assert_eq!(found(two), Some(Hierarchy::Two("/sys/fs/cgroup".into())));
        assert_eq!(found(&format!("{two}{one}")), found(one), "where both are, version 1 has the processors");
        let inner = "30 25 0:26 /user /cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(found(inner), Some(Hierarchy::One("/cpu/a".into())));
        assert_eq!(found("30 25 0:26 / / rw - ext4 /dev/a rw\n"), None);
        let memory = find(&format!("{two}{one}"), own, "memory");
        assert_eq!(memory, Some(Hierarchy::Two("/sys/fs/cgroup".into())), "each has its own");
    }
}
