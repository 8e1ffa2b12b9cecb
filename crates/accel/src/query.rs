//! Fields of a device by name, as those ask who know `nvidia-smi --query-gpu`.

use std::borrow::Cow;

use crate::device::{CLOCK_PLACES, CORE_PLACES, POWER_PLACES, Sample};
use crate::dump;
use crate::metric::Metric;
use crate::statistics::Quantity;

const MEBIBYTE: f64 = 1_048_576.0;

/// A field that can be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// The unit of its numbers; empty for none.
    pub unit: &'static str,
    read: Read,
}

/// How a field's value is found.
#[derive(Debug, Clone, Copy)]
enum Read {
    Text(fn(&Sample) -> Option<Cow<'_, str>>),
    /// What another table has in this column ([`dump`]).
    Column(usize),
    /// Nothing that a kernel tells.
    Untold,
    /// A quantity and how many of the field's units its unit is; digits behind the point.
    Quantity(Quantity, f64, usize),
    /// A metric at the first of these places where it is known; digits behind the point.
    Metric(Metric, &'static [&'static str], usize),
}

const WHOLE: &[&str] = &[""];
const MEMORY: &[&str] = &["vram"];
const MEDIA: &[&str] = &["tile0/gt1", "gt0 media", "video"];

macro_rules! fields {
    ($($name:literal $unit:literal $read:expr;)*) => {
        /// All fields.
        pub const FIELDS: &[Field] = &[$(Field { name: $name, unit: $unit, read: $read },)*];
    };
}

fields! {
    "timestamp" "" Read::Text(|_| None);
    "index" "" Read::Text(|sample| Some(sample.identity.device_id.to_string().into()));
    "name" "" Read::Text(|sample| Some(sample.identity.device_name.as_str().into()));
    "uuid" "" Read::Text(|sample| Some(sample.identity.uuid.as_str().into()));
    "serial" "" Read::Text(|sample| text(sample, Metric::Property, &["serial number"]));
    "driver_version" "" Read::Text(driver);
    "vbios_version" "" Read::Text(|sample| text(sample, Metric::Firmware, &["vbios", "gsc"]));
    "pci.bus_id" "" Read::Text(|sample| Some(sample.identity.pci.as_ref()?.address.as_str().into()));
    "pci.device_id" "" Read::Text(|sample| {
        let pci = sample.identity.pci.as_ref()?;
        Some(format!("0x{:04X}{:04X}", pci.product_id, pci.vendor_id).into())
    });
    "temperature.gpu" "" Read::Quantity(Quantity::CoreTemperature, 1.0, 0);
    "temperature.memory" "" Read::Quantity(Quantity::MemoryTemperature, 1.0, 0);
    "power.draw" "W" Read::Quantity(Quantity::Power, 1.0, 2);
    "power.draw.gpu" "W" Read::Quantity(Quantity::Power, 1.0, 2);
    "power.limit" "W" Read::Metric(Metric::PowerLimit, POWER_PLACES, 2);
    "enforced.power.limit" "W" Read::Metric(Metric::PowerLimit, POWER_PLACES, 2);
    "power.default_limit" "W" Read::Metric(Metric::PowerLimitDefault, POWER_PLACES, 2);
    "power.min_limit" "W" Read::Metric(Metric::PowerLimitMinimum, POWER_PLACES, 2);
    "power.max_limit" "W" Read::Metric(Metric::PowerLimitMaximum, POWER_PLACES, 2);
    "energy.consumed" "J" Read::Quantity(Quantity::Energy, 1.0, 3);
    "utilization.gpu" "%" Read::Quantity(Quantity::Utilization, 1.0, 0);
    "utilization.memory" "%" Read::Quantity(Quantity::MemoryBandwidth, 1.0, 0);
    "utilization.compute" "%" Read::Column(31);
    "utilization.render" "%" Read::Column(32);
    "utilization.media" "%" Read::Column(33);
    "utilization.copy" "%" Read::Column(34);
    "utilization.encoder" "%" Read::Metric(Metric::EngineUtilization, &["video encoder"], 0);
    "utilization.decoder" "%" Read::Metric(Metric::EngineUtilization, &["video decoder"], 0);
    "memory.total" "MiB" Read::Text(|sample| mebibytes(sample, Metric::MemoryTotal));
    "memory.used" "MiB" Read::Text(|sample| mebibytes(sample, Metric::MemoryUsed));
    "memory.free" "MiB" Read::Text(|sample| {
        let reserved = sample.number(Metric::MemoryReserved, MEMORY).unwrap_or(0.0);
        let free = sample.memory_total()? - sample.memory_used()? - reserved;
        Some(format!("{:.0}", free.max(0.0) / MEBIBYTE).into())
    });
    "memory.reserved" "MiB" Read::Text(|sample| mebibytes(sample, Metric::MemoryReserved));
    "memory.read.bandwidth" "kB/s" Read::Column(6);
    "memory.write.bandwidth" "kB/s" Read::Column(7);
    "memory.bandwidth.utilization" "%" Read::Quantity(Quantity::MemoryBandwidth, 1.0, 0);
    "clocks.current.graphics" "MHz" Read::Metric(Metric::Frequency, CLOCK_PLACES, 0);
    "clocks.current.sm" "MHz" Read::Metric(Metric::Frequency, &["sm", "tile0/gt0", "gt0", "sclk"], 0);
    "clocks.current.memory" "MHz" Read::Metric(Metric::Frequency, &["mclk", "memory"], 0);
    "clocks.current.media" "MHz" Read::Metric(Metric::Frequency, MEDIA, 0);
    "clocks.current.video" "MHz" Read::Metric(Metric::Frequency, MEDIA, 0);
    "clocks.max.graphics" "MHz" Read::Metric(Metric::FrequencyHighest, CLOCK_PLACES, 0);
    "clocks.max.sm" "MHz" Read::Metric(Metric::FrequencyHighest, &["sm", "tile0/gt0", "gt0", "sclk"], 0);
    "clocks.max.memory" "MHz" Read::Metric(Metric::FrequencyHighest, &["mclk", "memory"], 0);
    "clocks.max.media" "MHz" Read::Metric(Metric::FrequencyHighest, MEDIA, 0);
    "clocks.throttle.reason" "" Read::Text(throttle);
    "pcie.link.gen.current" "" Read::Text(|sample| generation(sample, Metric::LinkSpeed));
    "pcie.link.gen.max" "" Read::Text(|sample| generation(sample, Metric::LinkSpeedMaximum));
    "pcie.link.width.current" "" Read::Metric(Metric::LinkWidth, WHOLE, 0);
    "pcie.link.width.max" "" Read::Metric(Metric::LinkWidthMaximum, WHOLE, 0);
    "pcie.rx.throughput" "kB/s" Read::Quantity(Quantity::PcieReceived, 1e-3, 0);
    "pcie.tx.throughput" "kB/s" Read::Quantity(Quantity::PcieSent, 1e-3, 0);
    "pcie.replay.counter" "" Read::Metric(Metric::PcieReplays, WHOLE, 0);
    "ecc.mode.current" "" Read::Text(|sample| enabled(sample, "memory ecc"));
    "ecc.mode.pending" "" Read::Text(|sample| enabled(sample, "memory ecc from the next start"));
    "ecc.errors.corrected.volatile.total" "" Read::Metric(Metric::Errors, &["corrected since the start"], 0);
    "ecc.errors.uncorrected.volatile.total" "" Read::Metric(Metric::Errors, &["uncorrected since the start"], 0);
    "ecc.errors.corrected.aggregate.total" "" Read::Metric(Metric::Errors, &["corrected"], 0);
    "ecc.errors.uncorrected.aggregate.total" "" Read::Metric(Metric::Errors, &["uncorrected"], 0);
    "pstate" "" Read::Text(|sample| text(sample, Metric::State, &["performance"]));
    "persistence_mode" "" Read::Text(|sample| enabled(sample, "persistence mode"));
    "compute_cap" "" Read::Text(|sample| text(sample, Metric::Property, &["compute capability"]));
    "eu.active" "%" Read::Untold;
    "eu.stall" "%" Read::Untold;
    "eu.idle" "%" Read::Untold;
    "fan.speed" "RPM" Read::Quantity(Quantity::FanSpeed, 1.0, 0);
    "temperature.gpu.critical" "" Read::Metric(Metric::TemperatureCritical, CORE_PLACES, 0);
    "memory.size.gtt" "B" Read::Metric(Metric::MemoryTotal, &["gtt"], 0);
    "memory.size" "B" Read::Metric(Metric::MemoryTotal, MEMORY, 0);
}

impl Field {
    /// The field of a name; the names of older `nvidia-smi` are understood too.
    pub fn named(name: &str) -> Option<Field> {
        let name = match name.trim() {
            "gpu_name" => "name",
            "gpu_uuid" => "uuid",
            "gpu_serial" => "serial",
            "gpu_bus_id" => "pci.bus_id",
            "clocks.gr" | "clocks.current.gr" => "clocks.current.graphics",
            "clocks.sm" => "clocks.current.sm",
            "clocks.mem" => "clocks.current.memory",
            "clocks.max.mem" => "clocks.max.memory",
            "clocks.video" => "clocks.current.video",
            "pcie.link.gen.gpucurrent" => "pcie.link.gen.current",
            "clocks.max.gr" => "clocks.max.graphics",
            "pcie.rx.throughput.kbs" => "pcie.rx.throughput",
            "pcie.tx.throughput.kbs" => "pcie.tx.throughput",
            name => name,
        };
        FIELDS.iter().find(|field| field.name == name).copied()
    }

    /// The heading of its column, as `power.draw [W]`.
    pub fn heading(&self, units: bool) -> String {
        if units && !self.unit.is_empty() {
            format!("{} [{}]", self.name, self.unit)
        } else {
            self.name.to_owned()
        }
    }

    /// Its value in a sample, as `120.50 W`; `None` when it is not known.
    pub fn value(&self, sample: &Sample, units: bool) -> Option<String> {
        let value: String = match self.read {
            Read::Text(read) => read(sample)?.into_owned(),
            Read::Column(column) => dump::cell(sample, column)?,
            Read::Untold => return None,
            Read::Quantity(quantity, scale, digits) => format!("{:.digits$}", quantity.of(sample)? * scale),
            Read::Metric(metric, places, digits) => format!("{:.digits$}", sample.number(metric, places)?),
        };
        Some(if units && !self.unit.is_empty() { format!("{value} {}", self.unit) } else { value })
    }
}

fn text<'a>(sample: &'a Sample, metric: Metric, places: &[&str]) -> Option<Cow<'a, str>> {
    let mut found = places.iter().filter_map(|place| sample.at(metric, place)?.value.as_ref().ok());
    found.next().map(|value| value.to_string().into())
}

/// Whether something is on, in the words of `nvidia-smi`.
fn enabled<'a>(sample: &'a Sample, place: &str) -> Option<Cow<'a, str>> {
    match text(sample, Metric::Property, &[place])?.as_ref() {
        "on" => Some("Enabled".into()),
        "off" => Some("Disabled".into()),
        other => Some(other.to_owned().into()),
    }
}

fn driver(sample: &Sample) -> Option<Cow<'_, str>> {
    let version = text(sample, Metric::Property, &["driver version"]);
    version.or_else(|| (!sample.identity.driver.is_empty()).then(|| sample.identity.driver.as_str().into()))
}

fn mebibytes(sample: &Sample, metric: Metric) -> Option<Cow<'_, str>> {
    Some(format!("{:.0}", sample.number(metric, MEMORY)? / MEBIBYTE).into())
}

/// What holds the clocks back; `none` when nothing does.
pub fn throttle(sample: &Sample) -> Option<Cow<'_, str>> {
    let held = Quantity::Throttled.of(sample)?;
    if held == 0.0 {
        return Some("none".into());
    }
    let causes = sample.readings.iter().filter(|reading| {
        reading.metric == Metric::ThrottleCause && reading.number().is_some_and(|flag| flag != 0.0)
    });
    let causes: Vec<&str> =
        causes.map(|reading| reading.location.rsplit(' ').next().unwrap_or_default()).collect();
    if causes.is_empty() {
        return text(sample, Metric::ThrottleCauses, &["tile0/gt0", "gpu"])
            .or_else(|| Some("unknown".into()));
    }
    Some(causes.join(" ").into())
}

/// The generation of PCI Express that has such a speed.
fn generation(sample: &Sample, metric: Metric) -> Option<Cow<'_, str>> {
    let speeds = [2.5, 5.0, 8.0, 16.0, 32.0, 64.0];
    let speed = sample.number(metric, WHOLE)?;
    let generation = speeds.iter().position(|known| (known - speed).abs() < 0.1)?;
    Some((generation + 1).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Recording;
    use crate::{Moment, Root, discovery};

    #[test]
    fn fields_of_a_recorded_card() {
        let directory = tempfile::tempdir().unwrap();
        Recording::named("rx580").unwrap().plant(directory.path()).unwrap();
        let mut device = discovery::discover(&Root::at(directory.path())).devices.remove(0);
        let sample = device.sample(Moment(0.0));
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(Field::named(name).unwrap().value(&sample, true).as_deref(), expected, "{name}");
        };
        check("index", Some("0"));
        check("temperature.gpu", Some("44"));
        check("power.draw", Some("41.05 W"));
        check("memory.used", Some("512 MiB"));
        check("memory.free", Some("3584 MiB"));
        check("pcie.link.gen.current", Some("3"));
        check("pci.device_id", Some("0x67DF1002"));
        check("clocks.gr", Some("798 MHz"));
        check("energy.consumed", None);
        check("utilization.render", None);
        check("eu.active", None);
        check("pcie.tx.throughput.kbs", Some("647 kB/s"));
        assert!(Field::named("warp.speed").is_none());
        assert_eq!(Field::named("power.draw").unwrap().heading(true), "power.draw [W]");
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = FIELDS.iter().map(|field| field.name).collect();
        assert_eq!(names.len(), FIELDS.len());
    }
}
