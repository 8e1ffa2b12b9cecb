//! Readings as Prometheus and OpenMetrics scrape them.
//!
//! Base units, one `hw_gpu_info` series that says who a device is, and elsewhere only its identifier. A value
//! that is not known has no series. Energy is the counter made safe, so that its rate has no spike.

mod xpum;

use std::fmt::Write;

use crate::health::State;
use crate::metric::Metric;
use crate::station::Report;
use crate::statistics::Quantity;

/// What the scraper understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own text, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The better one of those that an `Accept` header names.
    pub fn accepted(accept: &str) -> Self {
        let open = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next() == Some("application/openmetrics-text") && !parts.any(|part| part == "q=0")
        });
        if open { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Gauge,
    Counter,
    Info,
}

/// The names under which values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// `hw_*`, as OpenTelemetry has them.
    Hardware,
    /// `hw_*`, and `xpum_*` as XPU Manager 1 has them.
    WithXpum,
}

/// Family, the label that tells its series apart, and what goes into it: metric, that label's value (`None`: the
/// place of the reading), and how many base units the metric's unit is.
type Family = (&'static str, &'static str, &'static str, &'static [(Metric, Option<&'static str>, f64)]);

const MEGA: f64 = 1e6;
const GIGA: f64 = 1e9;
const PERCENT: f64 = 0.01;

const FAMILIES: &[Family] = &[
    (
        "hw_gpu_utilization_ratio",
        "location",
        "Share of the time in which the device was busy.",
        &[(Metric::Utilization, None, PERCENT)],
    ),
    (
        "hw_gpu_engine_utilization_ratio",
        "engine",
        "Share of the time in which an engine was busy.",
        &[(Metric::EngineUtilization, None, PERCENT)],
    ),
    (
        "hw_memory_bandwidth_utilization_ratio",
        "location",
        "Share of the time in which memory was busy.",
        &[(Metric::MemoryBandwidthUtilization, None, PERCENT)],
    ),
    ("hw_memory_size_bytes", "location", "Memory that the device has.", &[(Metric::MemoryTotal, None, 1.0)]),
    ("hw_memory_usage_bytes", "location", "Memory in use.", &[(Metric::MemoryUsed, None, 1.0)]),
    ("hw_temperature_celsius", "location", "Temperature.", &[(Metric::Temperature, None, 1.0)]),
    ("hw_power_watts", "location", "Power that is drawn.", &[(Metric::Power, None, 1.0)]),
    (
        "hw_power_limit_watts",
        "limit_type",
        "Power limits in force.",
        &[
            (Metric::PowerLimit, Some("sustained"), 1.0),
            (Metric::PowerLimitPeak, Some("peak"), 1.0),
            (Metric::PowerCritical, Some("critical"), 1.0),
        ],
    ),
    ("hw_voltage_volts", "location", "Voltage.", &[(Metric::Voltage, None, 1.0)]),
    ("hw_fan_speed_rpm", "location", "Speed of a fan.", &[(Metric::FanSpeed, None, 1.0)]),
    ("hw_frequency_hertz", "location", "Clock.", &[(Metric::Frequency, None, MEGA)]),
    (
        "hw_frequency_request_hertz",
        "location",
        "Clock that the driver asked for.",
        &[(Metric::FrequencyRequested, None, MEGA)],
    ),
    (
        "hw_frequency_throttled",
        "location",
        "Whether the clocks are held back.",
        &[(Metric::Throttled, None, 1.0)],
    ),
    (
        "hw_pcie_link_transfers_per_second",
        "direction",
        "Speed of a lane of the link to the host.",
        &[(Metric::LinkSpeed, Some("both"), GIGA)],
    ),
    (
        "hw_pcie_link_lanes",
        "direction",
        "Lanes of the link to the host.",
        &[(Metric::LinkWidth, Some("both"), 1.0)],
    ),
    (
        "hw_pcie_bytes_per_second",
        "direction",
        "At most so much went over the link to the host.",
        &[(Metric::PcieReceived, Some("receive"), 1.0), (Metric::PcieSent, Some("transmit"), 1.0)],
    ),
];

const LIMITS: &[(Metric, &str)] =
    &[(Metric::TemperatureCritical, "throttle"), (Metric::TemperatureEmergency, "shutdown")];

const CLOCK_LIMITS: &[(Metric, &str)] = &[
    (Metric::FrequencyMinimum, "minimum"),
    (Metric::FrequencyMaximum, "maximum"),
    (Metric::FrequencyLowest, "hardware_minimum"),
    (Metric::FrequencyHighest, "hardware_maximum"),
];

/// Writes all that is known.
pub fn write(reports: &[Report], format: Format, names: Names) -> String {
    let mut page = Page { text: String::with_capacity(4096 + reports.len() * 6144), format };
    page.identities(reports);
    page.states(reports);
    for (name, label, help, sources) in FAMILIES {
        page.family(name, Type::Gauge, help, reports, |report, line| {
            for (metric, fixed, scale) in *sources {
                let of = report.sample.readings.iter().filter(|reading| reading.metric == *metric);
                let mut first = true;
                for (reading, number) in of.filter_map(|reading| Some((reading, reading.number()?))) {
                    if fixed.is_none() || first {
                        line(&[(label, fixed.unwrap_or(&reading.location))], number * scale);
                    }
                    first = false;
                }
            }
        });
    }
    page.limits(
        "hw_temperature_limit_celsius",
        "Temperatures at which the device slows down and stops.",
        reports,
        LIMITS,
        1.0,
    );
    page.limits(
        "hw_frequency_limit_hertz",
        "Clocks that may be asked for and that the hardware has.",
        reports,
        CLOCK_LIMITS,
        MEGA,
    );
    page.family(
        "hw_memory_utilization_ratio",
        Type::Gauge,
        "Share of the memory in use.",
        reports,
        |report, line| {
            if let Some(percent) = Quantity::MemoryUtilization.of(&report.sample) {
                line(&[("location", "vram")], percent * PERCENT);
            }
        },
    );
    page.family("hw_energy_joules", Type::Counter, "Energy used.", reports, |report, line| {
        for (_, place, total) in report.sample.totals.iter().filter(|(metric, ..)| *metric == Metric::Energy)
        {
            line(&[("location", place)], *total);
        }
    });
    page.family("hw_errors", Type::Counter, "Errors counted.", reports, |report, line| {
        for reading in &report.sample.readings {
            match (reading.metric, reading.number()) {
                (Metric::Errors, Some(count)) => line(&[("error_type", &reading.location)], count),
                (Metric::PcieReplays, Some(count)) => line(&[("error_type", "pcie_replay")], count),
                _ => {}
            }
        }
    });
    if names == Names::WithXpum {
        page.xpum(reports);
    }
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

struct Page {
    text: String,
    format: Format,
}

type Line<'a> = dyn FnMut(&[(&str, &str)], f64) + 'a;

impl Page {
    /// Writes a family; nothing at all when it has no series.
    fn family(
        &mut self,
        name: &str,
        kind: Type,
        help: &str,
        reports: &[Report],
        series: impl Fn(&Report, &mut Line<'_>),
    ) {
        let suffix = match kind {
            Type::Gauge => "",
            Type::Counter => "_total",
            Type::Info => "_info",
        };
        let (declared, word) = match (self.format, kind) {
            (Format::OpenMetrics, Type::Info) => (name.to_owned(), "info"),
            (Format::OpenMetrics, Type::Counter) => (name.to_owned(), "counter"),
            (_, Type::Counter) => (format!("{name}_total"), "counter"),
            (_, _) => (format!("{name}{suffix}"), "gauge"),
        };
        let mut started = false;
        let text = &mut self.text;
        for report in reports {
            let id = &report.sample.identity.uuid;
            series(report, &mut |labels, number| {
                if !started {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "# HELP {declared} {help}\n# TYPE {declared} {word}\n");
                    started = true;
                }
                let _ = write!(text, "{name}{suffix}{{hw_id=\"");
                escape(text, id);
                text.push('"');
                for (label, value) in labels {
                    let _ = write!(text, ",{label}=\"");
                    escape(text, value);
                    text.push('"');
                }
                let _ = writeln!(text, "}} {number}");
            });
        }
    }

    fn identities(&mut self, reports: &[Report]) {
        self.family("hw_gpu", Type::Info, "Who the device is.", reports, |report, line| {
            let identity = &report.sample.identity;
            let address = identity.pci.as_ref().map(|pci| pci.address.as_str()).unwrap_or_default();
            let labels = [
                ("device", identity.device_id.to_string()),
                ("hw_name", identity.device_name.clone()),
                ("hw_vendor", identity.vendor_name.clone()),
                ("driver", identity.driver.clone()),
                ("pci_bdf", address.to_owned()),
            ];
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            line(&labels, 1.0);
        });
        self.family("hw_device_up", Type::Gauge, "Whether the device answers.", reports, |report, line| {
            let silent = report.sample.readings.iter().all(|reading| reading.value.is_err());
            line(&[], f64::from(u8::from(!report.sample.gone && !silent)));
        });
    }

    fn states(&mut self, reports: &[Report]) {
        let states = [State::Ok, State::Warning, State::Critical, State::Unknown];
        self.family(
            "hw_status",
            Type::Gauge,
            "Whether the device is well: 1 for its state.",
            reports,
            |report, line| {
                for state in states {
                    let labels = [("hw_state", state.word())];
                    line(&labels, f64::from(u8::from(report.health.state == state)));
                }
            },
        );
        self.family(
            "hw_check_status",
            Type::Gauge,
            "What a check found: 1 for its state.",
            reports,
            |report, line| {
                for (check, state) in
                    report.health.checks.iter().flat_map(|check| states.map(|state| (check, state)))
                {
                    let labels = [("check", check.kind.name()), ("hw_state", state.word())];
                    line(&labels, f64::from(u8::from(check.state == state)));
                }
            },
        );
    }

    fn limits(&mut self, name: &str, help: &str, reports: &[Report], limits: &[(Metric, &str)], scale: f64) {
        self.family(name, Type::Gauge, help, reports, |report, line| {
            for (metric, word) in limits {
                for reading in report.sample.readings.iter().filter(|reading| reading.metric == *metric) {
                    if let Some(number) = reading.number() {
                        line(&[("location", &reading.location), ("limit_type", word)], number * scale);
                    }
                }
            }
        });
    }
}

fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Root, Station};
    use std::time::Duration;

    #[test]
    fn the_format_is_negotiated() {
        let check = |accept: &str, expected| assert_eq!(Format::accepted(accept), expected, "{accept}");
        check("", Format::Prometheus);
        check("*/*", Format::Prometheus);
        check("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Format::OpenMetrics);
        check("text/plain, application/openmetrics-text; q=0", Format::Prometheus);
    }

    #[test]
    fn each_family_is_declared_once_and_unknown_series_are_absent() {
        let directory = tempfile::tempdir().unwrap();
        crate::fixture::plant_machine(directory.path(), 6).unwrap();
        let station = Station::start(Root::at(directory.path()), Duration::from_millis(50));
        station.settle(Duration::from_secs(10));
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let text = write(&station.reports(), format, Names::WithXpum);
            let declared: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
            let unique: std::collections::BTreeSet<&str> = declared.iter().copied().collect();
            assert_eq!((declared.len(), declared.is_empty()), (unique.len(), false));
            assert!(!text.contains("NaN") && !text.contains("hw_fan_speed_rpm{hw_id=\"x"));
            assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
            let series: Vec<&str> =
                text.lines().filter_map(|line| line.split_once("} ").map(|(series, _)| series)).collect();
            let unique: std::collections::BTreeSet<&str> = series.iter().copied().collect();
            assert_eq!(series.len(), unique.len(), "a series occurs twice");
        }
    }
}
