//! Which devices there are, and who reads them.
//!
//! ```text
//!   sys/class/drm/cardN     i915, xe, amdgpu: their readers; radeon, nouveau: sensors only; display-only
//!                           adapters are left out
//!   libnvidia-ml            GPUs under NVIDIA's driver, on the machine itself
//!   sys/class/mic/micN      Xeon Phi
//!   sys/bus/pci/devices     GPUs that no driver has taken: seen, with nothing to read
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::device::{Device, Instrument, Moment, Source};
use crate::drm::Inquiry;
use crate::identity::{Identity, Pci};
use crate::metric::{Kind, Metric};
use crate::nvidia::Library;
use crate::pmu::Counters;
use crate::probe::Probe;
use crate::root::Root;
use crate::value::{Reading, Reason};
use crate::{amdgpu, hwmon, intel, mic, pcie};

/// More devices than this are not looked at.
pub const DEVICES_MAX: usize = 256;

/// The vendors whose GPUs are accelerators.
const VENDORS: &[u16] = &[0x8086, 0x1002, 0x10de];

/// What was found.
#[derive(Debug)]
pub struct Discovery {
    /// The devices, by address; numbered from 0.
    pub devices: Vec<Device>,
    /// Libraries that are not there, and why.
    pub absences: Vec<(&'static str, Reason)>,
}

/// Looks at a tree; at the machine itself, asks the vendors' libraries too.
pub fn discover(root: &Root) -> Discovery {
    let library = if root.is_machine() {
        Library::start()
    } else {
        Err(Reason::NotOffered("a recorded tree is read, not the machine"))
    };
    discover_with(root, &library)
}

/// The same with a library that is started already.
pub fn discover_with(root: &Root, library: &Result<Library, Reason>) -> Discovery {
    let (mut devices, mut absences) = (Vec::new(), Vec::new());
    match library {
        Ok(library) => devices.extend(library.devices().into_iter().map(|(index, identity)| {
            let place = Place::of(root, &identity);
            let device = Device::new(identity, Source::Nvml(library.clone(), index), Vec::new());
            match place {
                Some(place) => device.with_instrument(Box::new(place)),
                None => device,
            }
        })),
        Err(reason) => absences.push(("nvml", reason.clone())),
    }
    devices.extend(mic::cards(root).iter().map(|path| coprocessor(root, path)));
    let known: BTreeSet<String> = devices.iter().map(|device| device.identity().key()).collect();
    let cards = cards(root).into_iter().filter_map(|card| graphics(root, &card));
    devices.extend(cards.filter(|device| !known.contains(&device.identity().key())));
    let known: BTreeSet<String> = devices.iter().map(|device| device.identity().key()).collect();
    devices.extend(driverless(root).filter(|device| !known.contains(&device.identity().key())));
    devices.sort_by_cached_key(|device| {
        let identity = device.identity();
        (identity.pci.is_none(), identity.key())
    });
    devices.truncate(DEVICES_MAX);
    let devices = devices.into_iter().zip(0..).map(|(device, id)| device.with_id(id)).collect();
    Discovery { devices, absences }
}

/// The addresses of what is there, cheaply: enough to notice a change.
pub fn keys(root: &Root) -> BTreeSet<String> {
    let cards = cards(root).into_iter().filter_map(|card| {
        let (pci, driver) = Pci::from_uevent(&root.text(&format!("{card}/device/uevent"))?)?;
        Some(format!("{} {driver}", pci.address))
    });
    cards.chain(mic::cards(root)).collect()
}

fn cards(root: &Root) -> Vec<String> {
    let names = root.list("sys/class/drm").into_iter();
    let cards = names.filter(|name| {
        name.strip_prefix("card")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    cards.map(|name| format!("sys/class/drm/{name}")).collect()
}

fn graphics(root: &Root, card: &str) -> Option<Device> {
    let path = format!("{card}/device");
    let (pci, driver) = Pci::from_uevent(&root.text(&format!("{path}/uevent"))?)?;
    let intel = pci.vendor_id == 0x8086;
    let (mut probes, mut gaps) = match driver.as_str() {
        "xe" => (intel::xe(root, &path), intel::gaps("xe")),
        "i915" => (intel::i915(root, card), intel::gaps("i915")),
        "amdgpu" => (amdgpu::probes(root, &path, Some(&pci.address)), amdgpu::gaps()),
        "radeon" | "nouveau" | "nvidia" => (hwmon::probes(root, &path, sensor), Vec::new()),
        _ => return None,
    };
    let (link, no_link) = pcie::probes(root, &path, intel);
    probes.extend(link);
    gaps.extend(no_link.map(|reason| (Metric::LinkSpeed, reason)));
    probes.extend(common(root, &path));
    for metric in [Metric::Temperature, Metric::Power, Metric::Energy, Metric::FanSpeed, Metric::Frequency] {
        if !gaps.iter().any(|(gap, _)| *gap == metric) {
            gaps.push((metric, Reason::NotOffered("the driver does not offer it for this device")));
        }
    }
    let identity = Identity::of_gpu(root, &path, pci, driver);
    let mut device = Device::new(identity, Source::Files { root: root.clone(), probes }, gaps);
    if root.is_machine() {
        let identity = Arc::clone(device.identity());
        if let Some(inquiry) = Inquiry::of(root, &identity) {
            device = device.with_instrument(Box::new(inquiry));
        }
        if let Some(counters) = Counters::of(root, &identity) {
            device = device.with_instrument(Box::new(counters));
        }
    }
    let address = device.identity().pci.as_ref().map(|pci| pci.address.clone());
    if let Some((helper, address)) = root.helper().zip(address).filter(|_| intel) {
        device = device.with_instrument(Box::new(helper.reader(&address)));
    }
    Some(device)
}

/// Where on its bus a device is that a library reads.
#[derive(Debug)]
struct Place {
    root: Root,
    probes: Vec<Probe>,
}

impl Place {
    fn of(root: &Root, identity: &Identity) -> Option<Self> {
        let path = format!("sys/bus/pci/devices/{}", identity.pci.as_ref()?.address);
        let mut probes = common(root, &path);
        probes.retain(|probe| probe.metric().kind() == Kind::Setting);
        (!probes.is_empty()).then(|| Place { root: root.clone(), probes })
    }
}

impl Instrument for Place {
    fn read(&mut self, settings: bool, _: Moment) -> Vec<Reading> {
        if !settings {
            return Vec::new();
        }
        self.probes.iter_mut().map(|probe| probe.read(&self.root)).collect()
    }
}

/// What the bus tells of every device.
fn common(root: &Root, path: &str) -> Vec<Probe> {
    let files = [
        ("power_state", Metric::State, "power"),
        ("numa_node", Metric::Property, "memory node of the host"),
        ("local_cpulist", Metric::Property, "processors of the host nearby"),
        ("revision", Metric::Property, "revision"),
        ("reset_method", Metric::Property, "reset methods"),
        ("sriov_totalvfs", Metric::Property, "virtual functions possible"),
        ("sriov_numvfs", Metric::Property, "virtual functions"),
    ];
    let there = files.into_iter().filter(|(file, ..)| root.has(&format!("{path}/{file}")));
    there.map(|(file, metric, location)| Probe::text(metric, location, format!("{path}/{file}"))).collect()
}

fn sensor(kind: &str, channel: &str) -> String {
    format!("{kind}{channel}")
}

fn coprocessor(root: &Root, path: &str) -> Device {
    let source = Source::Files { root: root.clone(), probes: mic::probes(root, path) };
    Device::new(mic::identity(root, path), source, mic::gaps())
}

/// GPUs and coprocessors on the bus that no driver serves.
fn driverless(root: &Root) -> impl Iterator<Item = Device> {
    let folder = "sys/bus/pci/devices";
    root.list(folder).into_iter().filter_map(move |address| {
        let path = format!("{folder}/{address}");
        let class = root.text(&format!("{path}/class"))?;
        let (pci, driver) = Pci::from_uevent(&root.text(&format!("{path}/uevent"))?)?;
        let phi = pci.vendor_id == 0x8086 && (0x2250..=0x225f).contains(&pci.product_id);
        let graphics = class.starts_with("0x03") && VENDORS.contains(&pci.vendor_id);
        if !driver.is_empty() || !(phi || graphics) {
            return None;
        }
        let probes = common(root, &path);
        let identity = Identity::of_gpu(root, &path, pci, driver);
        let reason = Reason::NotOffered("no kernel driver serves the device");
        let gaps = [Metric::Utilization, Metric::Temperature, Metric::Power, Metric::Frequency];
        let gaps = gaps.into_iter().map(|metric| (metric, reason.clone())).collect();
        Some(Device::new(identity, Source::Files { root: root.clone(), probes }, gaps))
    })
}
