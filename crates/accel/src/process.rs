//! Who uses a device: what the kernel tells of open device files in `/proc/<pid>/fdinfo`.
//!
//! ```text
//!   drm-driver: xe   drm-pdev: 0000:03:00.0   drm-client-id: 7
//!   drm-engine-render: 123456789 ns           i915, amdgpu: time that an engine worked for the client
//!   drm-cycles-rcs: 9 / drm-total-cycles-rcs  xe: the same in cycles, of so many
//!   drm-resident-vram0: 64 KiB                memory
//! ```
//!
//! A client that is open several times, in one process or by inheritance, is counted once.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

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
    /// Nanoseconds for which each engine worked, if the driver tells.
    pub engine_ns: BTreeMap<String, u64>,
}

/// One client's lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// The PCI address of the device.
    pub pci_address: String,
    /// The driver's number of the client.
    pub id: u64,
    /// Bytes of the device's own memory.
    pub memory: Option<u64>,
    /// Bytes shared with others.
    pub shared: Option<u64>,
    /// Nanoseconds per engine.
    pub engines: BTreeMap<String, u64>,
}

impl Client {
    /// Reads a file's lines; `None` when it is not a device that works for clients.
    pub fn parse(text: &str) -> Option<Self> {
        let mut client = Client::default();
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
                _ => client.measure(key, value),
            }
        }
        (identified == (true, true)).then_some(client)
    }

    fn measure(&mut self, key: &str, value: &str) {
        if let Some(engine) = key.strip_prefix("drm-engine-").filter(|name| !name.starts_with("capacity-")) {
            if let Some(time) = value.strip_suffix(" ns").and_then(|number| number.parse().ok()) {
                self.engines.insert(engine.to_owned(), time);
            }
        } else if let Some(region) =
            key.strip_prefix("drm-resident-").or_else(|| key.strip_prefix("drm-memory-"))
        {
            if (region.starts_with("vram") || region.starts_with("local"))
                && let Some(size) = bytes(value)
            {
                self.memory = Some(self.memory.unwrap_or(0).saturating_add(size));
            }
        } else if key.starts_with("drm-shared-")
            && let Some(size) = bytes(value)
        {
            self.shared = Some(self.shared.unwrap_or(0).saturating_add(size));
        }
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
    for name in root
        .list("proc")
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
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
    (processes, hidden)
}

fn add(root: &Root, name: &str, client: Client, devices: &mut BTreeMap<String, Process>) {
    let process = devices.entry(client.pci_address.clone()).or_insert_with(|| Process {
        process_id: name.parse().unwrap_or(0),
        process_name: root.text(&format!("proc/{name}/comm")).unwrap_or_default(),
        pci_address: client.pci_address.clone(),
        memory_bytes: None,
        shared_bytes: None,
        engine_ns: BTreeMap::new(),
    });
    let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    };
    process.memory_bytes = sum(process.memory_bytes, client.memory);
    process.shared_bytes = sum(process.shared_bytes, client.shared);
    for (engine, time) in client.engines {
        let total = process.engine_ns.entry(engine).or_insert(0);
        *total = total.saturating_add(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const XE: &str = "pos:\t0\ndrm-driver:\txe\ndrm-client-id:\t7\ndrm-pdev:\t0000:03:00.0\n\
                      drm-resident-vram0:\t64 KiB\ndrm-shared-vram0:\t0\ndrm-cycles-rcs:\t28257900\n";
    const I915: &str = "drm-driver: i915\ndrm-pdev: 0000:00:02.0\ndrm-client-id: 9\n\
                        drm-engine-render: 9288864723 ns\ndrm-engine-capacity-video: 2\ndrm-resident-local0: 3 MiB\n";

    #[test]
    fn clients_of_both_drivers() {
        let client = Client::parse(XE).unwrap();
        assert_eq!((client.id, client.memory, client.shared), (7, Some(65_536), Some(0)));
        let client = Client::parse(I915).unwrap();
        assert_eq!((client.memory, client.engines["render"]), (Some(3 << 20), 9_288_864_723));
        assert_eq!(client.engines.len(), 1);
        assert_eq!(Client::parse("pos: 0\nflags: 02\n"), None);
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
