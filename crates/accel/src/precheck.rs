//! Looking through the kernel's log for trouble with accelerators: XPU Manager's 19 kinds.
//!
//! Fifteen of them leave words in the log. Two are that no driver serves a device, which is seen without it. Two are of
//! Level Zero, which this program does not use; those are never found, and say so.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::identity::Identity;
use crate::kernel_log::Message;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The device cannot be used, or not be trusted.
    Critical,
    /// Part of it cannot be used.
    High,
}

/// Whose fault a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Category {
    /// The hardware's or its firmware's.
    Hardware,
    /// The kernel driver's.
    #[serde(rename = "Kernel Mode Driver")]
    Kernel,
    /// A library's.
    #[serde(rename = "User Mode Driver")]
    User,
}

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Kind {
    /// XPU Manager's number.
    pub id: u8,
    /// Its name.
    pub name: &'static str,
    /// Whose fault it is.
    pub category: Category,
    /// How bad it is.
    pub severity: Severity,
    /// What tells of it: each entry is a row of words that stand in a message in this order, whatever their case.
    #[serde(skip)]
    words: &'static [&'static [&'static str]],
}

macro_rules! kinds {
    ($($id:literal $name:literal $category:ident $severity:ident $words:expr;)*) => {
        /// All kinds, by number.
        pub const KINDS: [Kind; 19] = [$(Kind {
            id: $id,
            name: $name,
            category: Category::$category,
            severity: Severity::$severity,
            words: $words,
        },)*];
    };
}

kinds! {
    1 "GuC Not Running" Hardware Critical &[&["guc", "not running"], &["guc", "is not ready"]];
    2 "GuC Error" Hardware Critical &[&["error", "guc"], &["guc", "ct", "broken"]];
    3 "GuC Initialization Failed" Hardware Critical &[&["guc initialization failed"], &["guc", "load failed"]];
    4 "IOMMU Catastrophic Error" Hardware Critical &[&["iommu catastrophic error"]];
    5 "LMEM Not Initialized By Firmware" Hardware Critical &[
        &["lmem not initialized by firmware"], &["vram not initialized by firmware"],
    ];
    6 "PCIe Error" Hardware Critical &[&["pcie bus error", "severity=uncorrect"], &["aer:", "fatal error"]];
    7 "DRM Error" Kernel Critical &[&["[drm", "*error*"]];
    8 "GPU Hang" Kernel Critical &[&["gpu hang"], &["timedout job"], &["ring", "timeout, signaled"], &["nvrm: xid"]];
    9 "i915 Error" Kernel Critical &[&["i915", "drm", "*error*"]];
    10 "i915 Not Loaded" Kernel Critical &[];
    11 "Level Zero Init Error" Kernel Critical &[];
    12 "HuC Disabled" Hardware High &[&["huc", "disabled"]];
    13 "HuC Not Running" Hardware High &[&["huc", "not running"], &["huc", "load failed"], &["huc", "authentication failed"]];
    14 "Level Zero Metrics Init Error" User High &[];
    15 "Memory Error" Hardware Critical &[&["uncorrectable hardware errors"], &["uncorrectable ecc"], &["gddr", "memory error"]];
    16 "GPU Initialization Failed" Hardware Critical &[
        &["timed out waiting for forcewake ack"], &["amdgpu", "fatal error during gpu init"], &["nvrm", "rminitadapter failed"],
    ];
    17 "MEI Error" Kernel High &[&["mei_gsc", "id exceeded"], &["mei", "hw_start failed"], &["mei_gsc", "unexpected reset"]];
    18 "Xe Error" Kernel Critical &[&["xe ", "drm", "*error*"]];
    19 "Xe Not Loaded" Kernel Critical &[];
}

/// From the special to the general: a message counts for the first kind that it fits.
const ORDER: [u8; 15] = [8, 3, 5, 16, 4, 13, 12, 1, 17, 15, 6, 2, 9, 18, 7];

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What kind it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// The PCI address that the message names, if it names one.
    pub address: Option<String>,
    /// Seconds after the machine's start, of the last such message, if they are told.
    pub seconds: Option<f64>,
    /// The last such message.
    pub message: String,
    /// How many there were.
    pub count: u32,
}

/// More findings are not told apart.
const FINDINGS_MAX: usize = 1000;

/// How many seconds ago a time such as `-90min`, `2h` or `today` was; days begin in UTC.
pub fn seconds_ago(text: &str, now: SystemTime) -> Option<f64> {
    const DAY: u64 = 86_400;
    let of_today = || now.duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs() % DAY);
    match text {
        "today" => return of_today().map(|seconds| seconds as f64),
        "yesterday" => return of_today().map(|seconds| (seconds + DAY) as f64),
        _ => {}
    }
    let text = text.strip_prefix('-').unwrap_or(text);
    let unit = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
    let length = match unit.trim() {
        "s" | "sec" => 1,
        "min" => 60,
        "h" => 3600,
        "d" | "days" => DAY,
        _ => return None,
    };
    Some((u64::from(number) * length) as f64)
}

/// What a log and the devices that are there tell of; `since` leaves out what is older, in seconds after the start.
pub fn scan(messages: &[Message], since: Option<f64>, devices: &[&Identity]) -> Vec<Finding> {
    let mut found: BTreeMap<(u8, Option<String>), Finding> = BTreeMap::new();
    for message in messages {
        let old = since.zip(message.seconds).is_some_and(|(since, seconds)| seconds < since);
        let Some(kind) = (if old { None } else { kind_of(&message.text) }) else { continue };
        let address = address(&message.text);
        if found.len() == FINDINGS_MAX && !found.contains_key(&(kind.id, address.clone())) {
            continue;
        }
        let finding = found.entry((kind.id, address.clone())).or_insert_with(|| Finding {
            kind: *kind,
            address,
            seconds: None,
            message: String::new(),
            count: 0,
        });
        finding.seconds = message.seconds;
        finding.message =
            message.text.chars().filter(|character| !character.is_control()).take(400).collect();
        finding.count += 1;
    }
    let mut findings: Vec<Finding> = found.into_values().collect();
    findings.extend(devices.iter().filter_map(|identity| unserved(identity)));
    findings
}

fn kind_of(text: &str) -> Option<&'static Kind> {
    let text = text.to_lowercase();
    let fits = |row: &&[&str]| {
        let mut rest = text.as_str();
        row.iter().all(|word| match rest.find(word) {
            Some(at) => {
                rest = &rest[at + word.len()..];
                true
            }
            None => false,
        })
    };
    let kinds = ORDER.iter().map(|id| &KINDS[usize::from(*id) - 1]);
    kinds.into_iter().find(|kind| kind.words.iter().any(fits))
}

/// The first PCI address of a text.
fn address(text: &str) -> Option<String> {
    let word = |c: char| !(c.is_ascii_hexdigit() || c == ':' || c == '.');
    let is = |text: &&str| {
        let parts: Vec<&str> = text.split([':', '.']).collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        lengths == [4, 2, 2, 1] && parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let found = text.split(word).map(|part| part.trim_matches([':', '.'])).find(is);
    found.map(str::to_ascii_lowercase)
}

/// Whether no driver serves a device of Intel's that one should.
fn unserved(identity: &Identity) -> Option<Finding> {
    let pci = identity.pci.as_ref().filter(|pci| pci.vendor_id == 0x8086 && identity.driver.is_empty())?;
    // i915 ends with Meteor Lake and Alchemist: Lunar Lake, Battlemage and what follows are xe's alone.
    let id = match pci.product_id >> 8 {
        0x64 | 0xb0 | 0xe2 => 19,
        0x22 => return None,
        _ => 10,
    };
    Some(Finding {
        kind: KINDS[id - 1],
        address: Some(pci.address.clone()),
        seconds: None,
        message: format!("no kernel driver serves {}", identity.device_name),
        count: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_count_for_the_most_special_kind() {
        let check = |text: &str, expected: Option<u8>| {
            assert_eq!(kind_of(text).map(|kind| kind.id), expected, "{text}");
        };
        check("i915 0000:03:00.0: [drm] GPU HANG: ecode 12:1:85dffffb, in chrome [1234]", Some(8));
        check("xe 0000:03:00.0: [drm] GT0: Timedout job: seqno=4294967169", Some(8));
        check("[drm:amdgpu_job_timedout [amdgpu]] *ERROR* ring gfx timeout, signaled seq=1", Some(8));
        check("NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus.", Some(8));
        check("i915 0000:03:00.0: [drm] *ERROR* GuC initialization failed -ENXIO", Some(3));
        check("xe 0000:03:00.0: [drm] *ERROR* GT0: GuC CT broken", Some(2));
        check("i915 0000:03:00.0: [drm] *ERROR* LMEM not initialized by firmware", Some(5));
        check("i915 0000:03:00.0: [drm] *ERROR* AUX A/DDI A/PHY A: not done", Some(9));
        check("xe 0000:03:00.0: [drm] *ERROR* Tile0: failed to bind", Some(18));
        check("[drm:drm_atomic_helper_wait_for_dependencies] *ERROR* flip_done timed out", Some(7));
        check("i915 0000:03:00.0: render: timed out waiting for forcewake ack request.", Some(16));
        check("mei_gsc i915.mei-gscfi.768: id exceeded 256", Some(17));
        check("pcieport 0000:00:1c.0: PCIe Bus Error: severity=Uncorrectable (Fatal)", Some(6));
        check("pcieport 0000:00:1c.0: PCIe Bus Error: severity=Corrected, type=Physical Layer", None);
        check("i915 0000:03:00.0: [drm] HuC authentication failed", Some(13));
        check("i915 0000:03:00.0: [drm] GuC firmware i915/dg2_guc_70.bin version 70.20.0", None);
        check("xe 0000:03:00.0: [drm] Using GuC firmware from xe/bmg_guc_70.bin", None);
        check("usb 1-1: new high-speed USB device", None);
    }

    #[test]
    fn findings_are_counted_by_kind_and_device() {
        let message = |seconds: f64, address: &str| Message {
            seconds: Some(seconds),
            text: format!("i915 {address}: [drm] GPU HANG: {seconds}"),
        };
        let log = [message(1.0, "0000:03:00.0"), message(2.0, "0000:03:00.0"), message(3.0, "0000:0A:00.0")];
        let all = scan(&log, None, &[]);
        let counts: Vec<_> = all.iter().map(|one| (one.address.as_deref(), one.count, one.seconds)).collect();
        assert_eq!(counts, [(Some("0000:03:00.0"), 2, Some(2.0)), (Some("0000:0a:00.0"), 1, Some(3.0))]);
        assert_eq!(scan(&log, Some(2.5), &[]).len(), 1);
    }

    #[test]
    fn addresses_are_found_in_messages() {
        let check = |text: &str, expected| assert_eq!(address(text).as_deref(), expected, "{text}");
        check("i915 0000:03:00.0: [drm]", Some("0000:03:00.0"));
        check("(0000:AF:1f.7)", Some("0000:af:1f.7"));
        check("NVRM: Xid (PCI:0000:17:00): 79", None);
        check("12:34:56 host kernel", None);
    }

    #[test]
    fn times_that_are_past() {
        let now = UNIX_EPOCH + std::time::Duration::from_secs(86_400 * 5 + 100);
        let check = |text: &str, expected| assert_eq!(seconds_ago(text, now), expected, "{text}");
        check("-90min", Some(5400.0));
        check("2h", Some(7200.0));
        check("3 days", Some(259_200.0));
        check("today", Some(100.0));
        check("yesterday", Some(86_500.0));
        for wrong in ["", "min", "-", "1", "1y", "--1s", "99999999999s"] {
            check(wrong, None);
        }
    }

    #[test]
    fn the_numbers_are_xpu_manager_s() {
        assert!(KINDS.iter().zip(1..).all(|(kind, number)| kind.id == number));
        let silent: Vec<u8> = KINDS.iter().filter(|kind| kind.words.is_empty()).map(|kind| kind.id).collect();
        assert_eq!(silent, [10, 11, 14, 19]);
        assert!(KINDS.iter().all(|kind| kind.words.is_empty() != ORDER.contains(&kind.id)));
    }
}
