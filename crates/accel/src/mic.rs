//! Xeon Phi coprocessors, as their host driver shows them in `/sys/class/mic/micN`.
//!
//! The card runs a system of its own. What it measures (temperatures, power, memory) it tells over its own
//! connection, not in these files; here are its state, what it is made of, and how often it was started.

use crate::identity::{DeviceType, Identity, Pci};
use crate::metric::Metric;
use crate::names;
use crate::probe::{self, Probe};
use crate::root::Root;
use crate::value::Reason;

const TEXTS: &[(&str, Metric, &str)] = &[
    ("state", Metric::State, ""),
    ("scif_status", Metric::State, "messages"),
    ("mode", Metric::State, "mode"),
    ("shutdown_status", Metric::State, "last shutdown"),
    ("post_code", Metric::State, "power-on test"),
    ("flashversion", Metric::Firmware, "flash"),
    ("family", Metric::Property, "family"),
    ("stepping", Metric::Property, "stepping"),
    ("sku", Metric::Property, "sku"),
    ("serialnumber", Metric::Property, "serial number"),
    ("image", Metric::Property, "image"),
    ("initramfs", Metric::Property, "initramfs"),
    ("firmware", Metric::Property, "image"),
    ("ramdisk", Metric::Property, "initramfs"),
    ("bootmode", Metric::Property, "boot mode"),
    ("cmdline", Metric::Property, "command line"),
    ("kernel_cmdline", Metric::Property, "kernel command line"),
    ("meminfo", Metric::Property, "memory"),
    ("memsize", Metric::Property, "memory size register"),
    ("memoryfrequency", Metric::Property, "memory frequency register"),
    ("memoryvoltage", Metric::Property, "memory voltage register"),
    ("boot_count", Metric::Property, "boots"),
    ("heartbeat_enable", Metric::Property, "heartbeat"),
    ("pc3_enabled", Metric::Property, "package sleep 3"),
    ("pc6_enabled", Metric::Property, "package sleep 6"),
    ("interface_version", Metric::Property, "interface version"),
];

/// The cards' directories.
pub fn cards(root: &Root) -> Vec<String> {
    let names = root.list("sys/class/mic");
    let cards = names.iter().filter(|name| {
        name.strip_prefix("mic")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    cards.map(|name| format!("sys/class/mic/{name}")).collect()
}

/// Who the card is.
pub fn identity(root: &Root, path: &str) -> Identity {
    let uevent = root.text(&format!("{path}/device/uevent")).unwrap_or_default();
    let pci = Pci::from_uevent(&uevent);
    let (name, uuid) = match &pci {
        Some((pci, _)) => (names::device(root, pci.vendor_id, pci.product_id), pci.uuid()),
        None => {
            let family = root.text(&format!("{path}/family")).unwrap_or_default();
            let number: u32 = path.rsplit("mic").next().and_then(|number| number.parse().ok()).unwrap_or(0);
            (
                format!("Intel Xeon Phi {family}").trim_end().to_owned(),
                format!("6d696300-0000-0000-0000-{number:012x}"),
            )
        }
    };
    let driver = pci.as_ref().map(|(_, driver)| driver.clone()).unwrap_or_default();
    Identity {
        device_id: 0,
        device_name: name,
        device_type: DeviceType::Coprocessor,
        vendor_name: "Intel".to_owned(),
        uuid,
        driver: if driver.is_empty() { "mic".to_owned() } else { driver },
        pci: pci.map(|(pci, _)| pci),
        device_file: None,
        path: path.into(),
    }
}

/// What the host driver tells of the card.
pub fn probes(root: &Root, path: &str) -> Vec<Probe> {
    let file = |name: &str| format!("{path}/{name}");
    let mut probes = Vec::new();
    for (name, metric, location) in TEXTS.iter().filter(|(name, ..)| root.has(&file(name))) {
        probes.push(Probe::text(*metric, location, file(name)));
    }
    if root.has(&file("crash_count")) {
        probes.push(Probe::number(Metric::Errors, "crashes", file("crash_count"), 1.0));
    }
    if root.has(&file("active_cores")) {
        probes.push(Probe::parsed(
            Metric::ComputeUnits,
            "active cores",
            file("active_cores"),
            probe::hexadecimal,
            1.0,
        ));
    }
    probes
}

/// What the host driver does not tell, and why.
pub fn gaps() -> Vec<(Metric, Reason)> {
    let reason = "the card tells it over its own connection, which is not used";
    let metrics = [
        Metric::Utilization,
        Metric::MemoryTotal,
        Metric::MemoryUsed,
        Metric::Temperature,
        Metric::Power,
        Metric::Frequency,
        Metric::FanSpeed,
    ];
    metrics.into_iter().map(|metric| (metric, Reason::NotOffered(reason))).collect()
}
