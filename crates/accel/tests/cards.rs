//! Each recorded card is shown whole: every value that the recording holds, with its unit, and no other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;

use minka_accel::fixture::{RECORDINGS, Recording};
use minka_accel::{Moment, Root, Sample, discovery};

/// What a recording has that is no value of the card's, and why: the kernel's own bookkeeping, tables of tuning
/// that mean nothing without their chip, and what says over again what another file says.
const NOT_VALUES: &[(&str, &str)] = &[
    ("/dev", "numbers of the device file"),
    ("uevent", "read for the identity"),
    ("/vendor", "in the identity"),
    ("/device/device", "in the identity"),
    ("/class", "in the identity"),
    ("subsystem_device", "in the identity"),
    ("subsystem_vendor", "in the identity"),
    ("modalias", "in the identity"),
    ("_label", "the name of another value"),
    ("hwmon/name", "the name of the driver"),
    ("ari_enabled", "bookkeeping of the bus"),
    ("auto_link_downgrade", "bookkeeping of the bus"),
    ("boot_vga", "of the display"),
    ("boot_display", "of the display"),
    ("broken_parity_status", "bookkeeping of the bus"),
    ("consistent_dma_mask_bits", "bookkeeping of the bus"),
    ("dma_mask_bits", "bookkeeping of the bus"),
    ("d3cold_allowed", "bookkeeping of the bus"),
    ("driver_override", "bookkeeping of the bus"),
    ("/enable", "bookkeeping of the bus"),
    ("/irq", "bookkeeping of the bus"),
    ("/link/", "bookkeeping of the bus"),
    ("local_cpus", "the list of processors says the same"),
    ("msi_bus", "bookkeeping of the bus"),
    ("/resource", "addresses"),
    ("intel_vsec", "raw registers that mean nothing without their chip"),
    ("/.defaults/", "bounds and defaults of settings"),
    ("_timeout_max", "bounds of settings"),
    ("_timeout_min", "bounds of settings"),
    ("timeslice_duration_max", "bounds of settings"),
    ("timeslice_duration_min", "bounds of settings"),
    ("media_freq_factor.scale", "unit of a setting"),
    ("gt_RP", "the same as gt0's"),
    ("card1/gt_", "the same as gt0's"),
    ("/gt0/id", "number of the part"),
    ("mei0/kind", "kind of the interface"),
    ("mei0/hbm_ver_drv", "version of the driver"),
    ("mei0/tx_queue_limit", "bookkeeping of the interface"),
    ("xe.nvm", "bookkeeping of the interface"),
    ("mei-gscfi.2048/uevent", "bookkeeping of the interface"),
    ("pp_od_clk_voltage", "tuning table"),
    ("pp_features", "tuning table"),
    ("kfd/", "read for the size of memory where nothing else tells it"),
    ("hwmon4/power/", "bookkeeping of the kernel"),
];

/// Two samples a second apart, the machine standing still between them.
fn sample(recording: &Recording) -> (tempfile::TempDir, Sample) {
    let directory = tempfile::tempdir().unwrap();
    recording.plant(directory.path()).unwrap();
    let mut discovery = discovery::discover(&Root::at(directory.path()));
    assert_eq!(discovery.devices.len(), 1, "{}", recording.name);
    let device = &mut discovery.devices[0];
    device.sample(Moment(0.0));
    let sample = device.sample(Moment(1.0));
    (directory, sample)
}

fn show(sample: &Sample) -> String {
    let identity = &sample.identity;
    let mut shown = format!(
        "{} | {} | {} | {} | {}\n",
        identity.device_name,
        identity.vendor_name,
        identity.driver,
        identity.uuid,
        identity.pci.as_ref().map(|pci| pci.address.as_str()).unwrap_or_default(),
    );
    for reading in sample.sorted() {
        let value = match &reading.value {
            Ok(value) => format!("{value} {}", reading.metric.unit().symbol()),
            Err(reason) => format!("— ({reason})"),
        };
        let source = reading.source.replace("sys/class/drm/", "");
        let place = if reading.location.is_empty() { "" } else { &format!(" [{}]", reading.location) };
        let from = if source.is_empty() { String::new() } else { format!(" ← {source}") };
        shown.push_str(&format!("{}{place} = {}{from}\n", reading.metric.name(), value.trim_end()));
    }
    shown
}

#[test]
fn every_card_is_shown_as_recorded() {
    for recording in RECORDINGS {
        let (_directory, sample) = sample(recording);
        insta::assert_snapshot!(recording.name, show(&sample));
    }
}

#[test]
fn every_file_is_shown_or_named_as_no_value() {
    for recording in RECORDINGS {
        let (_directory, sample) = sample(recording);
        let sources: BTreeSet<&str> = sample.readings.iter().map(|reading| &*reading.source).collect();
        let left_out = recording.files().map(|(path, _)| path).filter(|path| !sources.contains(path));
        let unexplained: Vec<_> = left_out
            .filter(|path| !NOT_VALUES.iter().any(|(part, _)| shortened(path).contains(part)))
            .collect();
        assert!(unexplained.is_empty(), "{}: {unexplained:#?}", recording.name);
    }
}

/// The path with `hwmon/hwmon4/name` as `hwmon/name`.
fn shortened(path: &str) -> String {
    match path.strip_suffix("/name") {
        Some(folder) if folder.contains("/hwmon/hwmon") => "hwmon/name".to_owned(),
        _ => path.to_owned(),
    }
}

#[test]
fn no_value_is_made_up() {
    for recording in RECORDINGS {
        let (_directory, sample) = sample(recording);
        let files: BTreeSet<&str> = recording.files().map(|(path, _)| path).collect();
        for reading in sample.readings.iter().filter(|reading| reading.value.is_ok()) {
            let source = reading.source.trim_start_matches("change of ");
            assert!(files.contains(source), "{}: {reading:?}", recording.name);
        }
    }
}

#[test]
fn removing_any_file_makes_its_value_unknown_and_no_other() {
    for recording in RECORDINGS {
        let (directory, before) = sample(recording);
        let paths: Vec<&str> =
            recording.files().map(|(path, _)| path).filter(|path| path.contains("_input")).collect();
        for path in paths {
            let content = std::fs::read(directory.path().join(path)).unwrap();
            let root = Root::at(directory.path());
            let mut device = discovery::discover(&root).devices.remove(0);
            device.sample(Moment(0.0));
            std::fs::remove_file(directory.path().join(path)).unwrap();
            let after = device.sample(Moment(1.0));
            std::fs::write(directory.path().join(path), content).unwrap();
            for (one, other) in before.readings.iter().zip(&after.readings) {
                if one.source.contains(path) {
                    assert!(other.value.is_err(), "{other:?}");
                } else if !one.source.starts_with("change of ") {
                    assert_eq!(one, other);
                }
            }
        }
    }
}
