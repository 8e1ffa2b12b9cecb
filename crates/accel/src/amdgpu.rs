//! AMD's GPUs under amdgpu, whose values are files of the device besides those of its sensors.

use crate::hwmon;
use crate::metric::Metric;
use crate::probe::{self, Probe};
use crate::root::Root;
use crate::value::{Reason, Value};

/// File, metric, location, scale.
const NUMBERS: &[(&str, Metric, &str)] = &[
    ("gpu_busy_percent", Metric::Utilization, ""),
    ("mem_busy_percent", Metric::MemoryBandwidthUtilization, ""),
    ("mem_info_vram_total", Metric::MemoryTotal, "vram"),
    ("mem_info_vram_used", Metric::MemoryUsed, "vram"),
    ("mem_info_vis_vram_total", Metric::MemoryTotal, "vram seen by the host"),
    ("mem_info_vis_vram_used", Metric::MemoryUsed, "vram seen by the host"),
    ("mem_info_gtt_total", Metric::MemoryTotal, "gtt"),
    ("mem_info_gtt_used", Metric::MemoryUsed, "gtt"),
    ("mem_info_preempt_used", Metric::MemoryUsed, "preempted"),
    ("pcie_replay_count", Metric::PcieReplays, ""),
];

/// File, metric, location.
const TEXTS: &[(&str, Metric, &str)] = &[
    ("power_dpm_force_performance_level", Metric::PerformanceLevel, ""),
    ("power_dpm_state", Metric::PerformanceLevel, "state"),
    ("pp_cur_state", Metric::PerformanceLevel, "current state"),
    ("pp_force_state", Metric::PerformanceLevel, "forced state"),
    ("pp_num_states", Metric::PerformanceLevel, "states"),
    ("pp_sclk_od", Metric::PerformanceLevel, "sclk overdrive"),
    ("pp_mclk_od", Metric::PerformanceLevel, "mclk overdrive"),
    ("vbios_version", Metric::Firmware, "vbios"),
    ("mem_info_vram_vendor", Metric::Property, "memory vendor"),
    ("product_name", Metric::Property, "product name"),
    ("product_number", Metric::Property, "product number"),
    ("serial_number", Metric::Property, "serial number"),
];

/// Clocks with a table of levels, and the name of the domain among the sensors.
const CLOCKS: &[(&str, &str)] =
    &[("pp_dpm_sclk", "sclk"), ("pp_dpm_mclk", "mclk"), ("pp_dpm_socclk", "socclk"), ("pp_dpm_fclk", "fclk")];

/// What the device offers.
pub fn probes(root: &Root, device: &str, pci_address: Option<&str>) -> Vec<Probe> {
    let mut probes = hwmon::probes(root, device, channel_name);
    let path = |file: &str| format!("{device}/{file}");
    for (file, metric, location) in NUMBERS {
        if root.has(&path(file)) {
            probes.push(Probe::number(*metric, location, path(file), 1.0));
        }
    }
    for (file, metric, location) in TEXTS {
        if root.has(&path(file)) {
            probes.push(Probe::text(*metric, location, path(file)));
        }
    }
    for (file, domain) in CLOCKS.iter().filter(|(file, _)| root.has(&path(file))) {
        let sensed =
            probes.iter().any(|probe| probe.metric() == Metric::Frequency && **probe.location() == **domain);
        let location = if sensed { format!("{domain} level") } else { (*domain).to_owned() };
        let clocks = [
            (Metric::Frequency, location.as_str(), probe::active_level as probe::Parse),
            (Metric::FrequencyLowest, domain, probe::first_level),
            (Metric::FrequencyHighest, domain, probe::last_level),
        ];
        for (metric, location, parse) in clocks {
            probes.push(Probe::parsed(metric, location, path(file), parse, 1.0));
        }
    }
    let special: [(&str, Metric, &str, probe::Parse); 4] = [
        ("pp_dpm_pcie", Metric::PerformanceLevel, "pcie", active_line),
        ("pp_power_profile_mode", Metric::PerformanceLevel, "profile", active_profile),
        ("pcie_bw", Metric::PcieReceived, "", received),
        ("pcie_bw", Metric::PcieSent, "", sent),
    ];
    for (file, metric, location, parse) in special {
        if root.has(&path(file)) {
            probes.push(Probe::parsed(metric, location, path(file), parse, 1.0));
        }
    }
    for control in root.list(&path("gpu_od/fan_ctrl")) {
        let file = path(&format!("gpu_od/fan_ctrl/{control}"));
        probes.push(Probe::parsed(Metric::FanControl, &control.replace('_', " "), file, control_value, 1.0));
    }
    if !root.has(&path("mem_info_vram_total")) {
        probes.extend(pci_address.and_then(|address| memory_bank(root, address)));
    }
    probes
}

/// What the driver does not tell, and why.
pub fn gaps() -> Vec<(Metric, Reason)> {
    vec![
        (Metric::Utilization, Reason::NotOffered("the driver does not measure it on this device")),
        (
            Metric::MemoryTotal,
            Reason::NotOffered("the driver does not tell the size of this device's memory"),
        ),
        (Metric::MemoryUsed, Reason::NotOffered("the driver does not tell the use of this device's memory")),
        (
            Metric::MemoryBandwidthUtilization,
            Reason::NotOffered("the driver does not measure it on this device"),
        ),
        (Metric::EngineUtilization, Reason::NotOffered("the driver tells it only of processes")),
        (Metric::EuActive, Reason::NotOffered("the driver does not measure it")),
        (Metric::Energy, Reason::NotOffered("the driver has no energy counter")),
        (Metric::FanSpeed, Reason::NotOffered("the device has no fan of its own")),
        (Metric::Throttled, Reason::NotOffered("the driver tells it only in a table that differs by chip")),
        (Metric::PcieReceived, Reason::NotOffered("the driver does not measure it on this device")),
        (Metric::Errors, Reason::NotOffered("the driver shows no error counters of this device")),
    ]
}

fn channel_name(kind: &str, channel: &str) -> String {
    format!("{}{channel}", if kind == "pwm" { "fan" } else { kind })
}

/// The line with the star.
fn active_line(table: &str) -> Result<Value, Reason> {
    let line = table.lines().rev().find(|line| line.trim_end().ends_with('*'));
    let line = line.ok_or(Reason::Unknown("no level is active"))?;
    probe::text(line.trim_end().trim_end_matches('*').split_once(':').map_or(line, |(_, level)| level))
}

/// The name before a star, as `1 3D_FULL_SCREEN *:`.
fn active_profile(table: &str) -> Result<Value, Reason> {
    let name = table
        .lines()
        .filter_map(|line| line.split_once('*'))
        .find_map(|(before, _)| before.split_whitespace().next_back().map(str::to_owned));
    name.map_or(Err(Reason::Unknown("no profile is marked as active")), |name| probe::text(&name))
}

/// Packets received and sent in the last second, and the greatest size of one.
fn packets(text: &str, index: usize) -> Result<Value, Reason> {
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [_, _, size] => Ok(Value::Number(numbers[index] * size)),
        _ => Err(Reason::Malformed(text.chars().take(80).collect::<String>().into())),
    }
}

fn received(text: &str) -> Result<Value, Reason> {
    packets(text, 0)
}

fn sent(text: &str) -> Result<Value, Reason> {
    packets(text, 1)
}

/// What stands between the first heading and the next, as `OD_ACOUSTIC_LIMIT:\n3200\nOD_RANGE:`.
fn control_value(text: &str) -> Result<Value, Reason> {
    let lines = text.lines().skip(1).take_while(|line| !line.starts_with("OD_"));
    probe::text(&lines.collect::<Vec<_>>().join("\n"))
}

/// The memory that the compute driver tells of a device at this PCI address.
fn memory_bank(root: &Root, address: &str) -> Option<Probe> {
    let (bus, rest) = address.split_once(':')?.1.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    let hex = |text| u32::from_str_radix(text, 16).ok();
    let location = (hex(bus)? << 8) | (hex(slot)? << 3) | hex(function)?;
    for topology in ["sys/class/kfd/kfd/topology/nodes", "sys/class/kfd/topology/nodes"] {
        for node in root.list(topology) {
            let folder = format!("{topology}/{node}");
            let properties = root.text(&format!("{folder}/properties")).unwrap_or_default();
            if properties.lines().any(|line| line == format!("location_id {location}")) {
                let path = format!("{folder}/mem_banks/0/properties");
                return root
                    .has(&path)
                    .then(|| Probe::parsed(Metric::MemoryTotal, "vram", path, bank_size, 1.0));
            }
        }
    }
    None
}

fn bank_size(text: &str) -> Result<Value, Reason> {
    let size = text.lines().find_map(|line| line.strip_prefix("size_in_bytes "));
    size.map_or(Err(Reason::Unknown("the memory bank has no size")), probe::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_with_stars() {
        let profiles = "NUM        MODE_NAME\n  0   BOOTUP_DEFAULT:   -\n  1 3D_FULL_SCREEN *:   0";
        assert_eq!(active_profile(profiles), Ok(Value::Text("3D_FULL_SCREEN".into())));
        assert_eq!(
            active_profile("PROFILE_INDEX(NAME)\n 0 BOOTUP_DEFAULT*:"),
            Ok(Value::Text("BOOTUP_DEFAULT".into()))
        );
        assert!(active_profile(" 1 3D_FULL_SCREEN\n 3 VIDEO").is_err());
        assert_eq!(active_line("0: 2.5GT/s, x8 \n1: 8.0GT/s, x16 *"), Ok(Value::Text("8.0GT/s, x16".into())));
    }

    #[test]
    fn packets_and_their_greatest_size() {
        assert_eq!(received("11886 2528 256"), Ok(Value::Number(11886.0 * 256.0)));
        assert_eq!(sent("11886 2528 256"), Ok(Value::Number(2528.0 * 256.0)));
        assert!(received("1 2").is_err());
    }
}
