//! The memory of a node that may not have all of its machine's: what its control group may have, and has.
//!
//! The group is one of version 1 (`memory.limit_in_bytes`, `Documentation/admin-guide/cgroup-v1/memory.rst` of the
//! kernel) or of version 2 (`memory.max`, `cgroup-v2.rst`). Pages of files that nobody has used lately count as available,
//! as they do in `MemAvailable`: the kernel drops them before anybody runs out.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// A control group whose memory is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryGroup {
    directory: PathBuf,
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: with all groups below it.
    inactive: &'static str,
}

impl MemoryGroup {
    /// The first of these groups in which memory can be limited.
    pub fn among<'a>(groups: impl IntoIterator<Item = &'a PathBuf>) -> Option<Self> {
        groups.into_iter().find_map(|directory| Self::at(directory))
    }

    fn at(directory: &Path) -> Option<Self> {
        let known = [
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ];
        let (limit, usage, inactive) =
            known.into_iter().find(|(limit, ..)| directory.join(limit).exists())?;
        Some(MemoryGroup { directory: directory.to_owned(), limit, usage, inactive })
    }

    /// What the group has of a machine with so much memory, in MiB: all, free, and available. That of the machine if the
    /// group is not limited, or gone.
    pub fn of(&self, machine: [u32; 3]) -> [u32; 3] {
        let read = |name: &str| fs::read_to_string(self.directory.join(name)).ok();
        let bytes = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let (Some(limit), Some(usage)) = (bytes(self.limit), bytes(self.usage)) else { return machine };
        let stat = read("memory.stat").unwrap_or_default();
        let inactive = stat.lines().find_map(|line| line.strip_prefix(self.inactive)?.trim().parse().ok());
        within(machine, limit, usage, inactive.unwrap_or(0))
    }
}

fn within([all, free, available]: [u32; 3], limit: u64, usage: u64, inactive: u64) -> [u32; 3] {
    let mib = |bytes: u64| u32::try_from(bytes / MIB).unwrap_or(u32::MAX);
    let used = usage.saturating_sub(inactive);
    let of_group = [mib(limit), mib(limit.saturating_sub(usage)), mib(limit.saturating_sub(used))];
    [all.min(of_group[0]), free.min(of_group[1]), available.min(of_group[2])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_what_it_may_have_and_the_machine_has() {
        let machine = [4000, 1000, 2000];
        assert_eq!(within(machine, 256 * MIB, 200 * MIB, 50 * MIB), [256, 56, 106]);
        // The machine itself has less left.
        assert_eq!(within(machine, 3000 * MIB, 0, 0), [3000, 1000, 2000]);
        assert_eq!(within(machine, 256 * MIB, 300 * MIB, 0), [256, 0, 0]);
    }

    #[test]
    fn groups_of_both_versions_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        let group = || MemoryGroup::among([&PathBuf::from("/nowhere"), &directory.path().to_owned()]);
        assert_eq!(group(), None);
        write("memory.limit_in_bytes", "104857600\n");
        write("memory.usage_in_bytes", "52428800\n");
        write("memory.stat", "cache 5\ninactive_file 1\ntotal_inactive_file 10485760\n");
        assert_eq!(group().unwrap().of([4000, 4000, 4000]), [100, 50, 60]);
        write("memory.max", "209715200\n");
        write("memory.current", "104857600\n");
        assert_eq!(group().unwrap().of([4000, 4000, 4000]), [200, 100, 100]);
        write("memory.max", "max\n");
        assert_eq!(group().unwrap().of([4000, 3000, 3500]), [4000, 3000, 3500], "nobody limits it");
    }
}
