//! Intel's GPUs under either of their kernel drivers.
//!
//! ```text
//!   xe      device/tile0/gt0/freq0/act_freq        clocks of a part (gt) of a tile, and why they are held back
//!           device/tile0/gt0/gtidle/…              how long it slept
//!           device/tile0/gt0/engines/rcs/…         time limits of an engine
//!   i915    gt/gt0/rps_act_freq_mhz, throttle_reason_*, rc6_residency_ms
//!           gt_act_freq_mhz …                      the same of the first part, from older kernels
//!   both    device/hwmon/…, device/*.mei-gscfi.*/mei/mei*/fw_ver
//! ```

use crate::hwmon;
use crate::metric::Metric;
use crate::probe::{self, Probe};
use crate::root::Root;
use crate::value::{Reason, Value};

/// File, metric; of a clock of xe, in MHz.
const XE_CLOCKS: &[(&str, Metric)] = &[
    ("act_freq", Metric::Frequency),
    ("cur_freq", Metric::FrequencyRequested),
    ("min_freq", Metric::FrequencyMinimum),
    ("max_freq", Metric::FrequencyMaximum),
    ("rp0_freq", Metric::FrequencyHighest),
    ("rpn_freq", Metric::FrequencyLowest),
    ("rpe_freq", Metric::FrequencyEfficient),
    ("rpa_freq", Metric::FrequencyAchievable),
];

/// File, metric; of a clock of i915, in MHz.
const I915_CLOCKS: &[(&str, Metric)] = &[
    ("rps_act_freq_mhz", Metric::Frequency),
    ("rps_cur_freq_mhz", Metric::FrequencyRequested),
    ("rps_min_freq_mhz", Metric::FrequencyMinimum),
    ("rps_max_freq_mhz", Metric::FrequencyMaximum),
    ("rps_boost_freq_mhz", Metric::FrequencyBoost),
    ("rps_RP0_freq_mhz", Metric::FrequencyHighest),
    ("rps_RP1_freq_mhz", Metric::FrequencyEfficient),
    ("rps_RPn_freq_mhz", Metric::FrequencyLowest),
    (".defaults/rps_min_freq_mhz", Metric::FrequencyDefaultMinimum),
    (".defaults/rps_max_freq_mhz", Metric::FrequencyDefaultMaximum),
];

/// The same from kernels before parts had directories of their own.
const I915_OLD_CLOCKS: &[(&str, Metric)] = &[
    ("gt_act_freq_mhz", Metric::Frequency),
    ("gt_cur_freq_mhz", Metric::FrequencyRequested),
    ("gt_min_freq_mhz", Metric::FrequencyMinimum),
    ("gt_max_freq_mhz", Metric::FrequencyMaximum),
    ("gt_boost_freq_mhz", Metric::FrequencyBoost),
    ("gt_RP0_freq_mhz", Metric::FrequencyHighest),
    ("gt_RP1_freq_mhz", Metric::FrequencyEfficient),
    ("gt_RPn_freq_mhz", Metric::FrequencyLowest),
];

/// Settings of i915's clock control that have no metric of their own.
const I915_TUNING: &[&str] = &[
    "slpc_ignore_eff_freq",
    "rc6_enable",
    "media_freq_factor",
    "rps_up_threshold_pct",
    "rps_down_threshold_pct",
];

/// Time limits of an engine of xe and of i915.
const TIMES: &[(&str, Metric, f64)] = &[
    ("job_timeout_ms", Metric::EngineTimeout, 1.0),
    ("timeslice_duration_us", Metric::EngineTimeslice, 1.0),
    ("timeslice_duration_ms", Metric::EngineTimeslice, 1e3),
    ("preempt_timeout_us", Metric::EnginePreemption, 1.0),
    ("preempt_timeout_ms", Metric::EnginePreemption, 1e3),
];

/// What a device under xe offers.
pub fn xe(root: &Root, device: &str) -> Vec<Probe> {
    let mut probes = hwmon::probes(root, device, channel_name);
    for tile in numbered(root, device, "tile") {
        for gt in numbered(root, &format!("{device}/{tile}"), "gt") {
            let (part, folder) = (format!("{tile}/{gt}"), format!("{device}/{tile}/{gt}"));
            let clock = format!("{folder}/freq0");
            probes.extend(numbers(root, &clock, XE_CLOCKS, &part));
            if root.has(&format!("{clock}/power_profile")) {
                let path = format!("{clock}/power_profile");
                let location = format!("{part} profile");
                probes.push(Probe::parsed(Metric::FrequencyTuning, &location, path, probe::bracketed, 1.0));
            }
            probes.extend(throttle(root, &format!("{clock}/throttle"), "status", "reason_", &part));
            if root.has(&format!("{clock}/throttle/reasons")) {
                let path = format!("{clock}/throttle/reasons");
                probes.push(Probe::text(Metric::ThrottleCauses, &part, path));
            }
            probes.extend(idle(root, &format!("{folder}/gtidle"), &part));
            probes.extend(engines(root, &format!("{folder}/engines"), &part));
            for (file, name) in [("ccs_mode", "compute engines in use"), ("num_cslices", "compute slices")] {
                let path = format!("{folder}/{file}");
                if root.has(&path) {
                    probes.push(Probe::number(Metric::ComputeUnits, &format!("{part} {name}"), path, 1.0));
                }
            }
        }
    }
    probes.extend(firmware(root, device));
    probes
}

/// What a device under i915 offers; `card` is its directory in `class/drm`.
pub fn i915(root: &Root, card: &str) -> Vec<Probe> {
    let device = format!("{card}/device");
    let mut probes = hwmon::probes(root, &device, channel_name);
    let parts = numbered(root, &format!("{card}/gt"), "gt");
    for gt in &parts {
        let folder = format!("{card}/gt/{gt}");
        probes.extend(numbers(root, &folder, I915_CLOCKS, gt));
        probes.extend(numbers(
            root,
            &folder,
            &[("punit_req_freq_mhz", Metric::FrequencyRequested)],
            &format!("{gt} unit"),
        ));
        let media = [
            ("media_RP0_freq_mhz", Metric::FrequencyHighest),
            ("media_RPn_freq_mhz", Metric::FrequencyLowest),
        ];
        probes.extend(numbers(root, &folder, &media, &format!("{gt} media")));
        probes.extend(throttle(root, &folder, "throttle_reason_status", "throttle_reason_", gt));
        let residency = format!("{folder}/rc6_residency_ms");
        if root.has(&residency) {
            probes.push(Probe::number(Metric::IdleTime, gt, residency, 1.0));
        }
        for name in I915_TUNING {
            for folder in [folder.clone(), format!("{folder}/.defaults")] {
                let path = format!("{folder}/{name}");
                if root.has(&path) {
                    let default = if folder.ends_with(".defaults") { " default" } else { "" };
                    let location = format!("{gt} {name}{default}");
                    probes.push(Probe::text(Metric::FrequencyTuning, &location, path));
                }
            }
        }
    }
    if parts.is_empty() {
        probes.extend(numbers(root, card, I915_OLD_CLOCKS, "gt0"));
        let residency = format!("{card}/power/rc6_residency_ms");
        if root.has(&residency) {
            probes.push(Probe::number(Metric::IdleTime, "gt0", residency, 1.0));
        }
    }
    probes.extend(engines(root, &format!("{card}/engine"), ""));
    if root.has(&format!("{card}/error")) {
        probes.push(Probe::text(Metric::ErrorState, "", format!("{card}/error")));
    }
    probes.extend(firmware(root, &device));
    probes
}

/// What neither driver can tell, and why.
pub fn gaps(driver: &str) -> Vec<(Metric, Reason)> {
    let memory = "the kernel tells it when the device file is asked, which a recording does not hold";
    let engines = "the kernel tells it by performance counters, which a recording does not hold";
    let mut gaps = vec![
        (Metric::MemoryTotal, Reason::NotOffered(memory)),
        (Metric::MemoryUsed, Reason::NotOffered(memory)),
        (Metric::EngineUtilization, Reason::NotOffered(engines)),
        (Metric::MemoryBandwidthUtilization, Reason::NotOffered("the kernel does not count memory traffic")),
        (
            Metric::EuActive,
            Reason::NotOffered("the kernel offers it only to whoever observes the whole device"),
        ),
        (Metric::PcieReceived, Reason::NotOffered("the kernel does not count PCI Express traffic")),
        (Metric::Errors, Reason::NotOffered("the kernel does not show error counters of this device")),
    ];
    if driver == "i915" {
        gaps.push((Metric::Firmware, Reason::NotOffered("the driver shows no firmware version here")));
    }
    gaps
}

fn channel_name(kind: &str, channel: &str) -> String {
    match kind {
        "fan" | "pwm" => format!("fan{channel}"),
        _ => "pkg".to_owned(),
    }
}

/// The entries of a directory that are a word and a number.
fn numbered(root: &Root, folder: &str, word: &str) -> Vec<String> {
    let mut names = root.list(folder);
    names.retain(|name| {
        name.strip_prefix(word)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    names
}

fn numbers(root: &Root, folder: &str, files: &[(&str, Metric)], location: &str) -> Vec<Probe> {
    let there = files.iter().map(|(file, metric)| (format!("{folder}/{file}"), *metric));
    let there = there.filter(|(path, _)| root.has(path));
    there.map(|(path, metric)| Probe::number(metric, location, path, 1.0)).collect()
}

fn throttle(root: &Root, folder: &str, status: &str, prefix: &str, part: &str) -> Vec<Probe> {
    let files = root.list(folder).into_iter();
    files
        .filter_map(|file| {
            let path = format!("{folder}/{file}");
            if file == status {
                return Some(Probe::number(Metric::Throttled, part, path, 1.0));
            }
            let cause = file.strip_prefix(prefix)?;
            Some(Probe::number(Metric::ThrottleCause, &format!("{part} {cause}"), path, 1.0))
        })
        .collect()
}

fn idle(root: &Root, folder: &str, part: &str) -> Vec<Probe> {
    let mut probes = Vec::new();
    if root.has(&format!("{folder}/idle_residency_ms")) {
        probes.push(Probe::number(Metric::IdleTime, part, format!("{folder}/idle_residency_ms"), 1.0));
        probes.push(Probe::text(Metric::IdleState, part, format!("{folder}/idle_status")));
        probes.push(Probe::text(Metric::Property, &format!("{part} name"), format!("{folder}/name")));
    }
    probes
}

fn engines(root: &Root, folder: &str, part: &str) -> Vec<Probe> {
    let mut probes = Vec::new();
    for engine in root.list(folder) {
        let location = format!("{part}/{engine}");
        let location = location.trim_start_matches('/');
        for (file, metric, scale) in TIMES {
            let path = format!("{folder}/{engine}/{file}");
            if root.has(&path) {
                probes.push(Probe::number(*metric, location, path, *scale));
            }
        }
    }
    probes
}

/// The security controller's firmware, as the management engine's interface shows it to everybody.
fn firmware(root: &Root, device: &str) -> Vec<Probe> {
    let mut probes = Vec::new();
    for entry in root.list(device).iter().filter(|name| name.contains(".mei-gscfi.")) {
        for interface in root.list(&format!("{device}/{entry}/mei")) {
            let folder = format!("{device}/{entry}/mei/{interface}");
            let versions = format!("{folder}/fw_ver");
            probes.push(Probe::parsed(Metric::Firmware, "gsc", versions.clone(), first_version, 1.0));
            probes.push(Probe::parsed(Metric::Firmware, "gsc fitc", versions, third_version, 1.0));
            for (file, name) in
                [("dev_state", "gsc state"), ("fw_status", "gsc status"), ("hbm_ver", "gsc protocol")]
            {
                if root.has(&format!("{folder}/{file}")) {
                    probes.push(Probe::text(Metric::Property, name, format!("{folder}/{file}")));
                }
            }
        }
    }
    probes
}

/// Lines are `platform:major.minor.milestone.build`: running code, recovery, and what the factory put in.
fn version(text: &str, line: usize) -> Result<Value, Reason> {
    let version = text.lines().nth(line).and_then(|line| line.split_once(':')).map(|(_, version)| version);
    match version {
        Some(version) if version != "0.0.0.0" => probe::text(version),
        Some(_) => Err(Reason::Unknown("0.0.0.0: the device does not say")),
        None => Err(Reason::Malformed(text.chars().take(80).collect::<String>().into())),
    }
}

fn first_version(text: &str) -> Result<Value, Reason> {
    version(text, 0)
}

fn third_version(text: &str) -> Result<Value, Reason> {
    version(text, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_versions() {
        let text = "0:101.0.10.2177\n0:0.0.0.0\n0:101.0.10.2210";
        assert_eq!(first_version(text), Ok(Value::Text("101.0.10.2177".into())));
        assert_eq!(third_version(text), Ok(Value::Text("101.0.10.2210".into())));
        assert!(version(text, 1).is_err() && first_version("").is_err());
    }
}
