//! What the answers look like.

pub mod config;
pub mod policy;

use std::collections::BTreeMap;

use minka_accel::health::{Check, Health, State};
use minka_accel::station::Report;
use minka_accel::statistics::Quantity;
use minka_accel::{Identity, Metric, Reading, Sample, Value};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const MEBIBYTE: f64 = 1_048_576.0;

/// Whether the service works.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alive {
    /// `ok`.
    pub status: String,
    /// The version of the program.
    pub version: String,
    /// How many devices are known.
    pub devices: usize,
    /// Libraries that are not there, and why.
    pub absent: BTreeMap<String, String>,
}

/// A device in the list of devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceEntry {
    /// Its number.
    pub device_id: u32,
    /// `GPU` or `coprocessor`.
    pub device_type: String,
    /// Its name.
    pub device_name: String,
    /// Its identifier.
    pub uuid: String,
    /// The device's number on the bus, as `0x56a1`.
    pub pci_device_id: Option<String>,
    /// Domain, bus, slot and function.
    pub pci_bdf_address: Option<String>,
    /// The vendor's name.
    pub vendor_name: String,
    /// The kernel driver; empty when none serves the device.
    pub driver: String,
    /// Where to ask for more.
    #[serde(rename = "@odata.id")]
    pub link: String,
}

impl DeviceEntry {
    /// The entry of a device.
    pub fn of(identity: &Identity) -> Self {
        let pci = identity.pci.as_ref();
        DeviceEntry {
            device_id: identity.device_id,
            device_type: match identity.device_type {
                minka_accel::identity::DeviceType::Gpu => "GPU".to_owned(),
                minka_accel::identity::DeviceType::Coprocessor => "coprocessor".to_owned(),
            },
            device_name: identity.device_name.clone(),
            uuid: identity.uuid.clone(),
            pci_device_id: pci.map(|pci| format!("0x{:04x}", pci.product_id)),
            pci_bdf_address: pci.map(|pci| pci.address.clone()),
            vendor_name: identity.vendor_name.clone(),
            driver: identity.driver.clone(),
            link: format!("/rest/v1/devices/{}", identity.device_id),
        }
    }
}

/// The list of devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceList {
    /// The devices.
    pub devices: Vec<DeviceEntry>,
}

/// A value, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadingBody {
    /// What it is.
    pub metric: String,
    /// Which part of the device; empty for the device as a whole.
    pub location: String,
    /// A number or a text; null when it is not known.
    #[schema(value_type = Option<ReadingValue>)]
    pub value: Option<ReadingValue>,
    /// The unit of a number.
    pub unit: String,
    /// Where it comes from.
    pub source: String,
    /// Why there is no value.
    pub reason: Option<String>,
}

/// A number or a text.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ReadingValue {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl ReadingBody {
    /// A reading as it is sent.
    pub fn of(reading: &Reading) -> Self {
        ReadingBody {
            metric: reading.metric.name().to_owned(),
            location: reading.location.to_string(),
            value: reading.value.as_ref().ok().map(|value| match value {
                Value::Number(number) => ReadingValue::Number(*number),
                Value::Text(text) => ReadingValue::Text(text.to_string()),
            }),
            unit: reading.metric.unit().symbol().to_owned(),
            source: reading.source.to_string(),
            reason: reading.value.as_ref().err().map(ToString::to_string),
        }
    }
}

/// What a device does now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Metrics {
    /// Share of the time in which it was busy, in %.
    pub gpu_utilization: Option<f64>,
    /// Memory in use, in MiB.
    pub memory_used: Option<f64>,
    /// Memory, in MiB.
    pub memory_total: Option<f64>,
    /// Temperature of the processor, in °C.
    pub temperature: Option<f64>,
    /// Power drawn, in W.
    pub power_usage: Option<f64>,
    /// Why one of these is null.
    pub reasons: BTreeMap<String, String>,
    /// Everything that was read.
    pub readings: Vec<ReadingBody>,
}

impl Metrics {
    /// The metrics of a sample.
    pub fn of(sample: &Sample) -> Self {
        let mut metrics = Metrics {
            gpu_utilization: sample.utilization(),
            memory_used: sample.memory_used().map(|bytes| bytes / MEBIBYTE),
            memory_total: sample.memory_total().map(|bytes| bytes / MEBIBYTE),
            temperature: sample.core_temperature(),
            power_usage: sample.power(),
            reasons: BTreeMap::new(),
            readings: sample.sorted().into_iter().map(ReadingBody::of).collect(),
        };
        let fields = [
            ("gpu_utilization", metrics.gpu_utilization, Metric::Utilization),
            ("memory_used", metrics.memory_used, Metric::MemoryUsed),
            ("memory_total", metrics.memory_total, Metric::MemoryTotal),
            ("temperature", metrics.temperature, Metric::Temperature),
            ("power_usage", metrics.power_usage, Metric::Power),
        ];
        for (name, value, metric) in fields {
            if value.is_none() {
                let reason = sample.reason(metric).map_or_else(|| "not told".to_owned(), ToString::to_string);
                metrics.reasons.insert(name.to_owned(), reason);
            }
        }
        metrics
    }
}

/// A threshold and where it comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct ThresholdBody {
    /// In the unit of the check.
    pub value: f64,
    /// `hardware`, `configured` or `default`.
    pub origin: String,
}

/// What a check found.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckBody {
    /// What was checked.
    pub kind: String,
    /// `ok`, `warning`, `critical` or `unknown`.
    pub status: String,
    /// In words.
    pub description: String,
    /// The value.
    pub value: Option<f64>,
    /// The unit of the value and the thresholds.
    pub unit: String,
    /// From here on a warning.
    pub throttle_threshold: Option<ThresholdBody>,
    /// From here on critical.
    pub shutdown_threshold: Option<ThresholdBody>,
    /// From here on a warning, because somebody wants it so.
    pub custom_threshold: Option<f64>,
}

impl CheckBody {
    /// A check as it is sent.
    pub fn of(check: &Check) -> Self {
        let threshold = |threshold: Option<minka_accel::health::Threshold>| {
            threshold.map(|threshold| ThresholdBody {
                value: threshold.value,
                origin: match threshold.origin {
                    minka_accel::health::Origin::Hardware => "hardware".to_owned(),
                    minka_accel::health::Origin::Configured => "configured".to_owned(),
                    minka_accel::health::Origin::Default => "default".to_owned(),
                },
            })
        };
        CheckBody {
            kind: check.kind.name().to_owned(),
            status: check.state.word().to_owned(),
            description: check.description.clone(),
            value: check.value,
            unit: check.kind.unit().to_owned(),
            throttle_threshold: threshold(check.throttle),
            shutdown_threshold: threshold(check.shutdown),
            custom_threshold: check.custom,
        }
    }
}

/// How a device is.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthBody {
    /// `healthy`, `warning`, `critical` or `unknown`.
    pub status: String,
    /// Temperature of the processor, in °C.
    pub temperature: Option<f64>,
    /// Power drawn, in W.
    pub power_usage: Option<f64>,
    /// What was checked.
    pub checks: Vec<CheckBody>,
}

impl HealthBody {
    /// The health of a report.
    pub fn of(report: &Report) -> Self {
        HealthBody {
            status: status(&report.health).to_owned(),
            temperature: report.sample.core_temperature(),
            power_usage: report.sample.power(),
            checks: report.health.checks.iter().map(CheckBody::of).collect(),
        }
    }
}

fn status(health: &Health) -> &'static str {
    match health.state {
        State::Ok => "healthy",
        other => other.word(),
    }
}

/// A quantity over the last minutes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Statistic {
    /// What it is, with XPU Manager's name.
    pub metrics_type: String,
    /// The last value.
    pub value: f64,
    /// The mean; absent for counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avg: Option<f64>,
    /// The least; absent for counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest; absent for counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// XPU Manager's name of a quantity, and how many of its units ours is.
pub fn xpum_name(quantity: Quantity) -> Option<(&'static str, f64)> {
    Some(match quantity {
        Quantity::Utilization => ("XPUM_STATS_GPU_UTILIZATION", 1.0),
        Quantity::Power => ("XPUM_STATS_POWER", 1.0),
        Quantity::Energy => ("XPUM_STATS_ENERGY", 1e3),
        Quantity::Frequency => ("XPUM_STATS_GPU_FREQUENCY", 1.0),
        Quantity::FrequencyRequested => ("XPUM_STATS_GPU_REQUEST_FREQUENCY", 1.0),
        Quantity::MediaFrequency => ("XPUM_STATS_MEDIA_ENGINE_FREQUENCY", 1.0),
        Quantity::CoreTemperature => ("XPUM_STATS_GPU_CORE_TEMPERATURE", 1.0),
        Quantity::MemoryTemperature => ("XPUM_STATS_MEMORY_TEMPERATURE", 1.0),
        Quantity::MemoryUsed => ("XPUM_STATS_MEMORY_USED", 1.0),
        Quantity::MemoryUtilization => ("XPUM_STATS_MEMORY_UTILIZATION", 1.0),
        Quantity::MemoryBandwidth => ("XPUM_STATS_MEMORY_BANDWIDTH", 1.0),
        Quantity::Throttled => ("XPUM_STATS_FREQUENCY_THROTTLE", 1.0),
        Quantity::PcieReceived => ("XPUM_STATS_PCIE_READ_THROUGHPUT", 1e-3),
        Quantity::PcieSent => ("XPUM_STATS_PCIE_WRITE_THROUGHPUT", 1e-3),
        Quantity::FanSpeed => return None,
    })
}

/// A device over the last minutes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Statistics {
    /// When the oldest sample that is remembered was taken, at the earliest.
    pub begin: String,
    /// When the last sample was taken.
    pub end: String,
    /// The device.
    pub device_id: u32,
    /// What is known of the device as a whole.
    pub device_level: Vec<Statistic>,
}

impl Statistics {
    /// The statistics of a report.
    pub fn of(report: &Report, interval: std::time::Duration) -> Self {
        let device_level = Quantity::ALL.into_iter().filter_map(|quantity| {
            let (name, scale) = xpum_name(quantity)?;
            let summary = report.history.summary(quantity)?;
            let gauge = (quantity != Quantity::Energy).then_some(summary);
            Some(Statistic {
                metrics_type: name.to_owned(),
                value: summary.value * scale,
                avg: gauge.map(|summary| summary.avg * scale),
                min: gauge.map(|summary| summary.min * scale),
                max: gauge.map(|summary| summary.max * scale),
            })
        });
        let remembered = interval * u32::try_from(report.history.len()).unwrap_or(0);
        let begin = report.sample.taken.checked_sub(remembered).unwrap_or(report.since).max(report.since);
        Statistics {
            begin: minka_access::time::text(begin),
            end: minka_access::time::text(report.sample.taken),
            device_id: report.sample.identity.device_id,
            device_level: device_level.collect(),
        }
    }
}

/// A threshold to set: −1, as anything below 0, takes it away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomThreshold {
    /// In the unit of the check.
    #[schema(minimum = -1, maximum = 100000)]
    pub custom_threshold: f64,
}

/// How often devices are sampled.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSettings {
    /// Milliseconds between two samples: 100, 200, 500 or 1000.
    pub sample_interval: SampleInterval,
}

/// Milliseconds between two samples.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "u64")]
pub struct SampleInterval(pub u64);

impl TryFrom<f64> for SampleInterval {
    type Error = &'static str;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        let right = [100, 200, 500, 1000].into_iter().find(|choice| *choice as f64 == value);
        right.map(SampleInterval).ok_or("the interval is not 100, 200, 500 or 1000 ms")
    }
}

impl From<SampleInterval> for u64 {
    fn from(interval: SampleInterval) -> u64 {
        interval.0
    }
}

impl utoipa::PartialSchema for SampleInterval {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::Integer)
            .enum_values(Some([100, 200, 500, 1000]))
            .description(Some("Milliseconds between two samples."))
            .into()
    }
}

impl ToSchema for SampleInterval {}
