//! Who uses a device: what the kernel tells of open device files in `/proc/<pid>/fdinfo`.
//!
//! ```text
//!   drm-driver: xe   drm-pdev: 0000:03:00.0   drm-client-id: 7
//!   drm-engine-render: 123456789 ns           i915, amdgpu: time that an engine worked for the client
//!   drm-cycles-rcs: 9                         xe: the same in cycles of the device's clock,
//!   drm-total-cycles-rcs: 12                  of so many that passed
//!   drm-engine-capacity-vcs: 2                of so many engines of the kind
//!   drm-resident-vram0: 64 KiB                memory, by region; drm-memory-vram0 from drivers that do not tell that
//! ```
//!
//! A client that is open several times, in one process or by inheritance, is counted once. Of NVIDIA's devices, whose
//! driver tells nothing there, their library says who uses them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::nvidia::Library;
use crate::root::Root;

/// More processes than this are not looked at, nor more files of one.
const PROCESSES_MAX: usize = 65_536;
const FILES_MAX: usize = 4096;

/// A process and what it has of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// The process.
    pub process_id: u32,
    /// Its name.
    pub process_name: String,
    /// The PCI address of the device.
    pub pci_address: String,
    /// Memory of the device in bytes, if the driver tells.
    pub memory_bytes: Option<u64>,
    /// Memory shared with others in bytes, if the driver tells.
    pub shared_bytes: Option<u64>,
    /// Bytes of memory by region, the host's among them, as far as the driver tells.
    pub regions: BTreeMap<String, u64>,
    /// Nanoseconds for which each engine worked, if the driver tells.
    pub engine_ns: BTreeMap<String, u64>,
    /// Cycles for which each engine worked, if the driver tells those.
    pub engine_cycles: BTreeMap<String, Cycles>,
    /// How many engines of a kind there are, where there are several.
    pub engine_capacity: BTreeMap<String, u64>,
}

/// Cycles of a device's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Cycles {
    /// Those for which an engine worked.
    pub used: u64,
    /// Those that passed.
    pub total: u64,
}

impl Process {
    /// How busy it kept each kind of engine since it was looked at before, `elapsed_ns` ago: percent of all engines of
    /// the kind. What stepped back is left out.
    pub fn busy_since(&self, before: &Process, elapsed_ns: u64) -> BTreeMap<String, f64> {
        let mut busy = BTreeMap::new();
        let mut add = |engine: &String, used: u64, total: u64| {
            let all = self.engine_capacity.get(engine).copied().unwrap_or(1).max(1) as f64 * total as f64;
            if all > 0.0 {
                busy.insert(engine.clone(), (used as f64 * 100.0 / all).min(100.0));
            }
        };
        for (engine, ns) in &self.engine_ns {
            if let Some(used) = before.engine_ns.get(engine).and_then(|before| ns.checked_sub(*before)) {
                add(engine, used, elapsed_ns);
            }
        }
        for (engine, now) in &self.engine_cycles {
            let step = before.engine_cycles.get(engine).and_then(|before| {
                Some((now.used.checked_sub(before.used)?, now.total.checked_sub(before.total)?))
            });
            if let Some((used, total)) = step {
                add(engine, used, total);
            }
        }
        busy
    }
}

/// One client's lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// The PCI address of the device.
    pub pci_address: String,
    /// The driver's number of the client.
    pub id: u64,
    /// Bytes by region of memory.
    pub regions: BTreeMap<String, u64>,
    /// Bytes shared with others.
    pub shared: Option<u64>,
    /// Nanoseconds per engine.
    pub engines: BTreeMap<String, u64>,
    /// Cycles per engine.
    pub cycles: BTreeMap<String, Cycles>,
    /// Engines of a kind, where the driver tells.
    pub capacity: BTreeMap<String, u64>,
}

impl Client {
    /// Reads a file's lines; `None` when it is not a device that works for clients.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut client, mut rough) = (Client::default(), BTreeMap::new());
        let mut identified = (false, false);
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key {
                "drm-pdev" => {
                    client.pci_address = value.to_ascii_lowercase();
                    identified.0 = true;
                }
                "drm-client-id" => {
                    client.id = value.parse().ok()?;
                    identified.1 = true;
                }
                _ => match key.strip_prefix("drm-memory-").zip(bytes(value)) {
                    Some((region, size)) => {
                        rough.insert(region.to_owned(), size);
                    }
                    None => client.measure(key, value),
                },
            }
        }
        // Newer drivers tell the same twice.
        for (region, size) in rough {
            client.regions.entry(region).or_insert(size);
        }
        (identified == (true, true)).then_some(client)
    }

    fn measure(&mut self, key: &str, value: &str) {
        let count = || value.parse::<u64>().ok();
        let Some(key) = key.strip_prefix("drm-") else { return };
        if let Some((engine, count)) = key.strip_prefix("engine-capacity-").zip(count()) {
            self.capacity.insert(engine.to_owned(), count);
        } else if let Some(engine) = key.strip_prefix("engine-") {
            if let Some(time) = value.strip_suffix(" ns").and_then(|number| number.parse().ok()) {
                self.engines.insert(engine.to_owned(), time);
            }
        } else if let Some((engine, count)) = key.strip_prefix("total-cycles-").zip(count()) {
            self.cycles.entry(engine.to_owned()).or_default().total = count;
        } else if let Some((engine, count)) = key.strip_prefix("cycles-").zip(count()) {
            self.cycles.entry(engine.to_owned()).or_default().used = count;
        } else if let Some((region, size)) = key.strip_prefix("resident-").zip(bytes(value)) {
            self.regions.insert(region.to_owned(), size);
        } else if key.starts_with("shared-")
            && let Some(size) = bytes(value)
        {
            self.shared = Some(self.shared.unwrap_or(0).saturating_add(size));
        }
    }

    /// Bytes of the device's own memory.
    pub fn memory(&self) -> Option<u64> {
        let own = |region: &str| region.starts_with("vram") || region.starts_with("local");
        let sizes = self.regions.iter().filter(|(region, _)| own(region)).map(|(_, size)| *size);
        sizes.reduce(u64::saturating_add)
    }
}

/// A size with its unit, as `64 KiB`; bytes when there is none.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let scale = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// The processes that use a device, and how many could not be looked into.
pub fn list(root: &Root) -> (Vec<Process>, usize) {
    let (mut processes, mut hidden) = (Vec::new(), 0);
    let mut seen = BTreeSet::new();
    // Asking a device makes nobody its user.
    let own = root.is_machine().then(|| std::process::id().to_string());
    for name in root
        .list("proc")
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && own.as_ref() != Some(name))
        .take(PROCESSES_MAX)
    {
        let folder = format!("proc/{name}/fdinfo");
        if root.locate(&folder).is_some_and(|path| std::fs::read_dir(path).is_err()) {
            hidden += 1;
            continue;
        }
        let mut devices: BTreeMap<String, Process> = BTreeMap::new();
        for file in root.list(&folder).into_iter().take(FILES_MAX) {
            // Only device files are asked: others may be slow to answer. Recordings have no links.
            let link =
                root.locate(&format!("proc/{name}/fd/{file}")).and_then(|path| std::fs::read_link(path).ok());
            if link.is_some_and(|target| !target.starts_with("/dev/dri")) {
                continue;
            }
            let Some(client) = root.text(&format!("{folder}/{file}")).and_then(|text| Client::parse(&text))
            else {
                continue;
            };
            if seen.insert((client.pci_address.clone(), client.id)) {
                add(root, &name, client, &mut devices);
            }
        }
        processes.extend(devices.into_values());
    }
    processes.extend(root.library().map(|library| known_to(library, root)).unwrap_or_default());
    (processes, hidden)
}

/// Those that NVIDIA's library knows.
fn known_to(library: &Library, root: &Root) -> Vec<Process> {
    let mut known = Vec::new();
    for (index, identity) in library.devices() {
        let Some(pci) = identity.pci else { continue };
        let users = library.processes(index).unwrap_or_default();
        let own = |pid: u32| root.is_machine() && pid == std::process::id();
        known.extend(users.into_iter().filter(|(pid, _)| !own(*pid)).map(|(pid, bytes)| Process {
            memory_bytes: bytes,
            ..Process::new(root, &pid.to_string(), &pci.address)
        }));
    }
    known
}

impl Process {
    /// One of which nothing is known yet.
    fn new(root: &Root, name: &str, pci_address: &str) -> Self {
        Process {
            process_id: name.parse().unwrap_or(0),
            process_name: root.text(&format!("proc/{name}/comm")).unwrap_or_default(),
            pci_address: pci_address.to_owned(),
            memory_bytes: None,
            shared_bytes: None,
            regions: BTreeMap::new(),
            engine_ns: BTreeMap::new(),
            engine_cycles: BTreeMap::new(),
            engine_capacity: BTreeMap::new(),
        }
    }
}

fn add(root: &Root, name: &str, client: Client, devices: &mut BTreeMap<String, Process>) {
    let process = devices
        .entry(client.pci_address.clone())
        .or_insert_with(|| Process::new(root, name, &client.pci_address));
    let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    };
    process.memory_bytes = sum(process.memory_bytes, client.memory());
    process.shared_bytes = sum(process.shared_bytes, client.shared);
    let add = |all: &mut BTreeMap<String, u64>, some: BTreeMap<String, u64>| {
        for (name, amount) in some {
            let total = all.entry(name).or_insert(0);
            *total = total.saturating_add(amount);
        }
    };
    add(&mut process.regions, client.regions);
    add(&mut process.engine_ns, client.engines);
    for (engine, cycles) in client.cycles {
        let all = process.engine_cycles.entry(engine).or_default();
        all.used = all.used.saturating_add(cycles.used);
        // It is one clock, and the files are read one after the other.
        all.total = all.total.max(cycles.total);
    }
    process.engine_capacity.extend(client.capacity);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const XE: &str = "pos:\t0\ndrm-driver:\txe\ndrm-client-id:\t7\ndrm-pdev:\t0000:03:00.0\n\
                      drm-resident-vram0:\t64 KiB\ndrm-shared-vram0:\t0\ndrm-resident-gtt:\t1 MiB\n\
                      drm-cycles-rcs:\t28257900\ndrm-total-cycles-rcs:\t7655183225\ndrm-cycles-vcs:\t0\n\
                      drm-total-cycles-vcs:\t7655183225\ndrm-engine-capacity-vcs:\t2\n";
    const I915: &str = "drm-driver: i915\ndrm-pdev: 0000:00:02.0\ndrm-client-id: 9\n\
                        drm-engine-render: 9288864723 ns\ndrm-engine-capacity-video: 2\ndrm-resident-local0: 3 MiB\n";

    #[test]
    fn clients_of_both_drivers() {
        let client = Client::parse(XE).unwrap();
        assert_eq!((client.id, client.memory(), client.shared), (7, Some(65_536), Some(0)));
        assert_eq!(client.cycles["rcs"], Cycles { used: 28_257_900, total: 7_655_183_225 });
        assert_eq!((client.capacity["vcs"], client.regions["gtt"]), (2, 1 << 20));
        let client = Client::parse(I915).unwrap();
        assert_eq!((client.memory(), client.engines["render"]), (Some(3 << 20), 9_288_864_723));
        assert_eq!((client.engines.len(), client.capacity["video"]), (1, 2));
        assert_eq!(Client::parse("pos: 0\nflags: 02\n"), None);
    }

    #[test]
    fn memory_that_is_told_twice_is_counted_once() {
        let amdgpu = "drm-driver:\tamdgpu\ndrm-client-id:\t5\ndrm-pdev:\t0000:03:00.0\n\
                      drm-memory-vram:\t5 KiB\ndrm-resident-vram:\t4 KiB\ndrm-memory-gtt:\t2 KiB\n\
                      drm-engine-gfx:\t7 ns\n";
        let client = Client::parse(amdgpu).unwrap();
        assert_eq!((client.memory(), client.regions["gtt"], client.engines["gfx"]), (Some(4096), 2048, 7));
        let older = Client::parse(&amdgpu.replace("drm-resident-vram:\t4 KiB\n", "")).unwrap();
        assert_eq!(older.memory(), Some(5120));
    }

    #[test]
    fn engines_are_as_busy_as_they_were_in_between() {
        let process = |text: &str| {
            let mut devices = BTreeMap::new();
            let directory = tempfile::tempdir().unwrap();
            add(&Root::at(directory.path()), "7", Client::parse(text).unwrap(), &mut devices);
            devices.into_values().next().unwrap()
        };
        let before = process(XE);
        let later = XE.replace("28257900", "29257900").replace("7655183225", "7657183225");
        let busy = process(&later.replace("cycles-vcs:\t0", "cycles-vcs:\t1000000")).busy_since(&before, 1);
        assert_eq!((busy["rcs"], busy["vcs"]), (50.0, 25.0));
        // What stepped back, and what did not pass, tells nothing.
        assert!(before.busy_since(&process(&later), 1).is_empty());
        assert!(before.busy_since(&before, 1).is_empty());
        let before = process(I915);
        let after = process(&I915.replace("9288864723", "9788864723"));
        assert_eq!(after.busy_since(&before, 1_000_000_000)["render"], 50.0);
    }

    #[test]
    fn a_client_that_is_open_twice_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("proc/42/fdinfo");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(directory.path().join("sys")).unwrap();
        std::fs::write(directory.path().join("proc/42/comm"), "render\n").unwrap();
        for file in ["3", "4"] {
            std::fs::write(folder.join(file), XE).unwrap();
        }
        std::fs::write(folder.join("5"), XE.replace(":\t7", ":\t8")).unwrap();
        let (processes, hidden) = list(&Root::at(directory.path()));
        assert_eq!((processes.len(), hidden), (1, 0));
        assert_eq!(
            (processes[0].memory_bytes, processes[0].process_name.as_str()),
            (Some(131_072), "render")
        );
    }

    proptest! {
        #[test]
        fn nothing_in_such_a_file_makes_a_panic(text in "(drm-[a-z0-9-]{0,20}:\\PC{0,30}\\n){0,8}|\\PC{0,200}") {
            let _ = Client::parse(&text);
        }
    }
}
