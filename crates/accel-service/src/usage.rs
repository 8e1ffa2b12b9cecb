//! How many devices there are, and how many of them could be given to somebody who wants one.
//!
//! | device | who uses it |
//! |---|---|
//! | i915, xe, amdgpu | every process with the device open and memory on it, as the kernel tells |
//! | NVIDIA's driver | every process that the driver's library names |
//! | any other, or none | nobody tells |
//!
//! A device is free if it is known that nobody uses it, and no policy drains it. What is not known is told as not known,
//! for all devices of its kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use minka_accel::identity::DeviceType;
use minka_accel::process::{self, Process};
use minka_accel::{Identity, Station};

/// A kind of devices, to those who want any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Intel's GPUs.
    Intel,
    /// NVIDIA's GPUs.
    Nvidia,
    /// AMD's GPUs.
    Amd,
    /// Xeon Phis.
    Mic,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::Intel, Kind::Nvidia, Kind::Amd, Kind::Mic];

    /// The kind of a device; none if it is of no vendor whose devices are looked for.
    pub fn of(identity: &Identity) -> Option<Self> {
        if identity.device_type == DeviceType::Coprocessor {
            return Some(Kind::Mic);
        }
        match identity.pci.as_ref()?.vendor_id {
            0x8086 => Some(Kind::Intel),
            0x10de => Some(Kind::Nvidia),
            0x1002 => Some(Kind::Amd),
            _ => None,
        }
    }
}

/// How many devices of a kind there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub total: u16,
    /// Those that nobody uses and that are not drained; none if that is not known of one of them.
    pub free: Option<u16>,
    /// Those that policies drain.
    pub drained: u16,
}

/// Whether somebody uses a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Nobody,
    Somebody,
    NotKnown,
}

/// The devices that are there.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// How many, by kind, in the order of [`Kind::ALL`].
    pub counts: [Count; 4],
    /// Those that are free.
    pub free: Vec<Arc<Identity>>,
}

/// Looks who uses which devices. `drained` are the keys of those that are to get no work.
pub fn usage(station: &Station, drained: &BTreeSet<&str>) -> Usage {
    let reports = station.reports();
    let there = reports.iter().filter(|report| !report.sample.gone).map(|report| &report.sample.identity);
    let there: Vec<&Arc<Identity>> = there.collect();
    // Who looks after processes has to look at all of them: only where that tells something.
    let seen = there.iter().any(|identity| told_by_kernel(identity)).then(|| {
        let (processes, hidden) = process::list(station.root());
        let known = station.root().has("proc") && hidden == 0;
        (processes, known)
    });
    let mut counts = [Count { free: Some(0), ..Count::default() }; 4];
    let mut free = Vec::new();
    for identity in there {
        let Some(kind) = Kind::of(identity) else { continue };
        let count = &mut counts[kind as usize];
        count.total += 1;
        if drained.contains(identity.key().as_str()) {
            count.drained += 1;
            continue;
        }
        let used = match &seen {
            Some((processes, known)) if told_by_kernel(identity) => by_kernel(identity, processes, *known),
            _ => by_library(station, identity),
        };
        match used {
            Use::Nobody => {
                count.free = count.free.map(|free| free + 1);
                free.push(Arc::clone(identity));
            }
            Use::Somebody => {}
            Use::NotKnown => count.free = None,
        }
    }
    Usage { counts, free }
}

/// Whether the kernel tells who uses a device.
fn told_by_kernel(identity: &Identity) -> bool {
    ["i915", "xe", "amdgpu"].contains(&identity.driver.as_str())
}

/// Who uses a device, by the processes that have it open. `known`: no process was hidden.
fn by_kernel(identity: &Identity, processes: &[Process], known: bool) -> Use {
    let address = identity.pci.as_ref().map(|pci| pci.address.as_str());
    let mut used = if known { Use::Nobody } else { Use::NotKnown };
    for process in processes.iter().filter(|process| Some(process.pci_address.as_str()) == address) {
        match process.memory_bytes {
            Some(0) => {}
            Some(_) => return Use::Somebody,
            None => used = Use::NotKnown,
        }
    }
    used
}

fn by_library(station: &Station, identity: &Identity) -> Use {
    if identity.driver.is_empty() {
        // Nobody can.
        return Use::Somebody;
    }
    match station.nvidia_users(identity) {
        Some(0) => Use::Nobody,
        Some(_) => Use::Somebody,
        None => Use::NotKnown,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use minka_accel::{Root, fixture};

    use super::*;

    /// The counts of a machine with one Arc A380 (0000:01:00.0) and one Radeon (0000:02:00.0), both recorded.
    fn counts(prepare: impl FnOnce(&Path), drained: &[&str]) -> [Count; 4] {
        let directory = tempfile::tempdir().unwrap();
        let two = ["a380_xe", "rx580"];
        for (number, name) in two.into_iter().enumerate() {
            let scratch = tempfile::tempdir().unwrap();
            fixture::Recording::named(name).unwrap().plant(scratch.path()).unwrap();
            let card = fs::read_dir(scratch.path().join("sys/class/drm")).unwrap().flatten();
            let card =
                card.map(|entry| entry.path()).find(|path| path.join("device/uevent").exists()).unwrap();
            let target = directory.path().join(format!("sys/class/drm/card{number}"));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::rename(card, &target).unwrap();
            let uevent = fs::read_to_string(target.join("device/uevent")).unwrap();
            let lines = uevent.lines().map(|line| match line.starts_with("PCI_SLOT_NAME=") {
                true => format!("PCI_SLOT_NAME=0000:0{}:00.0\n", number + 1),
                false => format!("{line}\n"),
            });
            fs::write(target.join("device/uevent"), lines.collect::<String>()).unwrap();
        }
        prepare(directory.path());
        let station = Station::start(Root::at(directory.path()), Duration::from_millis(100));
        station.settle(Duration::from_secs(20));
        let usage = usage(&station, &drained.iter().copied().collect());
        let known: u16 = usage.counts.iter().filter_map(|count| count.free).sum();
        assert!(usage.free.len() >= usize::from(known), "{usage:?}");
        usage.counts
    }

    fn client(root: &Path, pid: u32, address: &str, memory: &str) {
        let folder = root.join(format!("proc/{pid}/fdinfo"));
        fs::create_dir_all(&folder).unwrap();
        let text = format!("drm-driver:\txe\ndrm-client-id:\t7\ndrm-pdev:\t{address}\n{memory}");
        fs::write(folder.join("3"), text).unwrap();
    }

    fn of(total: u16, free: Option<u16>, drained: u16) -> Count {
        Count { total, free, drained }
    }

    #[test]
    fn a_device_is_free_if_nobody_has_memory_on_it() {
        let nothing = of(0, Some(0), 0);
        let both = |intel, amd| [intel, nothing, amd, nothing];
        let idle = |root: &Path| fs::create_dir_all(root.join("proc/1/fdinfo")).unwrap();
        let free = of(1, Some(1), 0);
        assert_eq!(counts(idle, &[]), both(free, free));
        let open = |root: &Path| client(root, 42, "0000:01:00.0", "drm-resident-vram0:\t0\n");
        assert_eq!(counts(open, &[]), both(free, free));
        let used = |root: &Path| client(root, 42, "0000:01:00.0", "drm-resident-vram0:\t64 KiB\n");
        assert_eq!(counts(used, &[]), both(of(1, Some(0), 0), free));
    }

    #[test]
    fn what_nobody_tells_is_not_known() {
        let unknown = of(1, None, 0);
        let bare = counts(|_| {}, &[]);
        assert_eq!((bare[Kind::Intel as usize], bare[Kind::Amd as usize]), (unknown, unknown));
        let untold = |root: &Path| client(root, 42, "0000:01:00.0", "");
        let untold = counts(untold, &[]);
        assert_eq!((untold[Kind::Intel as usize], untold[Kind::Amd as usize]), (unknown, of(1, Some(1), 0)));
    }

    #[test]
    fn a_drained_device_is_not_free_whoever_uses_it() {
        let used = |root: &Path| client(root, 42, "0000:01:00.0", "drm-resident-vram0:\t64 KiB\n");
        let counts = counts(used, &["0000:01:00.0", "0000:02:00.0"]);
        let drained = of(1, Some(0), 1);
        assert_eq!((counts[Kind::Intel as usize], counts[Kind::Amd as usize]), (drained, drained));
    }
}
