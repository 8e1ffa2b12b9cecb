//! The names that XPU Manager 1 gives to values.

use super::{Line, PERCENT, Page, Type};
use crate::station::Report;
use crate::statistics::Quantity;

/// Name, help, quantity, base units of its unit, labels.
type XpumGauge = (&'static str, &'static str, Quantity, f64, &'static [(&'static str, &'static str)]);

impl Page {
    pub(super) fn xpum(&mut self, reports: &[Report]) {
        let gauges: [XpumGauge; 9] = [
            (
                "xpum_engine_ratio",
                "Share of the time in which the device was busy.",
                Quantity::Utilization,
                PERCENT,
                &[],
            ),
            ("xpum_power_watts", "Power drawn.", Quantity::Power, 1.0, &[]),
            ("xpum_memory_used_bytes", "Memory in use.", Quantity::MemoryUsed, 1.0, &[]),
            ("xpum_memory_ratio", "Share of the memory in use.", Quantity::MemoryUtilization, PERCENT, &[]),
            (
                "xpum_memory_bandwidth_ratio",
                "Share of the time in which memory was busy.",
                Quantity::MemoryBandwidth,
                PERCENT,
                &[],
            ),
            (
                "xpum_frequency_mhz",
                "Clock.",
                Quantity::Frequency,
                1.0,
                &[("location", "gpu"), ("type", "actual")],
            ),
            (
                "xpum_frequency_request_mhz",
                "Clock asked for.",
                Quantity::FrequencyRequested,
                1.0,
                &[("location", "gpu"), ("type", "request")],
            ),
            (
                "xpum_temperature_celsius",
                "Temperature of the processor.",
                Quantity::CoreTemperature,
                1.0,
                &[("location", "gpu")],
            ),
            (
                "xpum_memory_temperature_celsius",
                "Temperature of the memory.",
                Quantity::MemoryTemperature,
                1.0,
                &[("location", "memory")],
            ),
        ];
        for (name, help, quantity, scale, labels) in gauges {
            self.family(name, Type::Gauge, help, reports, |report, line| {
                if let Some(number) = quantity.of(&report.sample) {
                    xpum_line(report, labels, number * scale, line);
                }
            });
        }
        self.family("xpum_energy_joules", Type::Counter, "Energy used.", reports, |report, line| {
            if let Some(number) = Quantity::Energy.of(&report.sample) {
                xpum_line(report, &[], number, line);
            }
        });
    }
}

fn xpum_line(report: &Report, labels: &[(&str, &str)], number: f64, line: &mut Line<'_>) {
    let identity = &report.sample.identity;
    let (address, product) = match &identity.pci {
        Some(pci) => (pci.address.clone(), format!("0x{:04x}", pci.product_id)),
        None => Default::default(),
    };
    let mut all = vec![
        ("uuid", identity.uuid.as_str()),
        ("dev_name", identity.device_name.as_str()),
        ("pci_dev", product.as_str()),
        ("vendor", identity.vendor_name.as_str()),
        ("pci_bdf", address.as_str()),
        ("dev_file", identity.device_file.as_deref().unwrap_or_default()),
        ("src", "direct"),
    ];
    all.extend(labels);
    line(&all, number);
}
