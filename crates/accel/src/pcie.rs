//! The card's link to the host.
//!
//! ```text
//!   host ── root port ══ the slot ══ upstream port ── downstream port ── endpoint (the GPU)
//!                                    └──────────────── the card ──────────────────┘
//! ```
//!
//! Intel's cards have a switch on them. The endpoint's own files then tell of a link inside of the card, always
//! 2.5 GT/s ×1; the slot's link is told by the card's upstream port.

use crate::metric::Metric;
use crate::probe::{self, Probe};
use crate::root::Root;
use crate::value::Reason;

const SLOT: [Metric; 4] =
    [Metric::LinkSpeed, Metric::LinkWidth, Metric::LinkSpeedMaximum, Metric::LinkWidthMaximum];
const ENDPOINT: [Metric; 4] = [
    Metric::EndpointSpeed,
    Metric::EndpointWidth,
    Metric::EndpointSpeedMaximum,
    Metric::EndpointWidthMaximum,
];

/// What is known of the link: probes, and why there are none.
pub fn probes(root: &Root, device: &str, intel: bool) -> (Vec<Probe>, Option<Reason>) {
    if !root.has(&format!("{device}/current_link_speed")) {
        return (Vec::new(), Some(Reason::NotOffered("the device has no PCI Express link of its own")));
    }
    match upstream_port(root, device) {
        Some(port) => {
            let mut probes = link(root, &port, SLOT);
            probes.extend(link(root, device, ENDPOINT));
            (probes, None)
        }
        None if intel && inner_link(root, device) => {
            let reason = "the card's upstream port is not in sight; the device's own files tell of a link \
                          inside of the card";
            (link(root, device, ENDPOINT), Some(Reason::NotOffered(reason)))
        }
        None => (link(root, device, SLOT), None),
    }
}

/// Whether the endpoint's link looks like the one inside of a card.
fn inner_link(root: &Root, device: &str) -> bool {
    let read = |file: &str| root.text(&format!("{device}/{file}"));
    read("current_link_speed").is_some_and(|speed| speed.starts_with("2.5 "))
        && read("current_link_width").as_deref() == Some("1")
        && read("max_link_width").is_none_or(|width| width == "1")
}

/// The upstream port of the switch on an Intel card.
fn upstream_port(root: &Root, device: &str) -> Option<String> {
    let endpoint = root.follow(device)?;
    let downstream = parent(&endpoint)?;
    let upstream = parent(downstream)?;
    parent(upstream)?;
    let bridge = |path: &str| {
        let read = |file: &str| root.text(&format!("{path}/{file}"));
        read("vendor").as_deref() == Some("0x8086")
            && read("class").is_some_and(|class| class.starts_with("0x0604"))
    };
    let own = root.text(&format!("{endpoint}/vendor")).as_deref() == Some("0x8086");
    (own && bridge(downstream) && bridge(upstream)).then(|| upstream.to_owned())
}

/// The directory above, if it is a PCI device's.
fn parent(path: &str) -> Option<&str> {
    let (parent, _) = path.rsplit_once('/')?;
    let name = parent.rsplit('/').next()?;
    let is_address = name.len() == 12 && name.split([':', '.']).count() == 4;
    is_address.then_some(parent)
}

fn link(root: &Root, device: &str, metrics: [Metric; 4]) -> Vec<Probe> {
    let files = ["current_link_speed", "current_link_width", "max_link_speed", "max_link_width"];
    let there = files.into_iter().zip(metrics).filter(|(file, _)| root.has(&format!("{device}/{file}")));
    there
        .map(|(file, metric)| {
            let parse = if file.ends_with("speed") { probe::link_speed } else { probe::number };
            Probe::parsed(metric, "", format!("{device}/{file}"), parse, 1.0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn port(folder: &Path, vendor: &str, class: &str, speed: &str, width: &str) {
        std::fs::create_dir_all(folder).unwrap();
        let files = [
            ("vendor", vendor),
            ("class", class),
            ("current_link_speed", speed),
            ("current_link_width", width),
        ];
        for (name, content) in files {
            std::fs::write(folder.join(name), format!("{content}\n")).unwrap();
        }
    }

    #[test]
    fn the_slot_is_told_by_the_card_s_upstream_port() {
        let directory = tempfile::tempdir().unwrap();
        let root_port = directory.path().join("sys/devices/pci0000:00/0000:00:01.0");
        let upstream = root_port.join("0000:01:00.0");
        let downstream = upstream.join("0000:02:01.0");
        let endpoint = downstream.join("0000:03:00.0");
        port(&root_port, "0x8086", "0x060400", "16.0 GT/s PCIe", "8");
        port(&upstream, "0x8086", "0x060400", "16.0 GT/s PCIe", "8");
        port(&downstream, "0x8086", "0x060400", "2.5 GT/s PCIe", "1");
        port(&endpoint, "0x8086", "0x030000", "2.5 GT/s PCIe", "1");
        let card = directory.path().join("sys/class/drm/card0");
        std::fs::create_dir_all(&card).unwrap();
        std::os::unix::fs::symlink(&endpoint, card.join("device")).unwrap();
        let root = Root::at(directory.path());
        let (mut probes, reason) = probes(&root, "sys/class/drm/card0/device", true);
        let numbers: Vec<_> = probes.iter_mut().map(|probe| probe.read(&root)).collect();
        assert_eq!(reason, None);
        let find = |metric| numbers.iter().find(|reading| reading.metric == metric).unwrap();
        assert_eq!(find(Metric::LinkSpeed).number(), Some(16.0));
        assert_eq!(find(Metric::LinkWidth).number(), Some(8.0));
        assert!(find(Metric::LinkSpeed).source.ends_with("0000:01:00.0/current_link_speed"));
        assert_eq!(find(Metric::EndpointSpeed).number(), Some(2.5));
    }

    #[test]
    fn without_the_bridge_an_inner_link_is_not_sold_as_the_slot_s() {
        let directory = tempfile::tempdir().unwrap();
        let device = directory.path().join("sys/class/drm/card0/device");
        port(&device, "0x8086", "0x030000", "2.5 GT/s PCIe", "1");
        let root = Root::at(directory.path());
        let (found, reason) = probes(&root, "sys/class/drm/card0/device", true);
        assert!(found.iter().all(|probe| ENDPOINT.contains(&probe.metric())) && found.len() == 2);
        assert!(matches!(reason, Some(Reason::NotOffered(_))));
    }
}
