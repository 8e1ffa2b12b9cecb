//! The last minutes of a device's most asked-for values: least, greatest, mean and a course for small charts.

use std::collections::VecDeque;

use serde::Serialize;

use crate::device::Sample;
use crate::metric::Metric;

/// So many samples are remembered.
pub const SAMPLES: usize = 120;

/// A value of which a history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Hundredths of the time in which the device was busy.
    Utilization,
    /// Watts.
    Power,
    /// Joules since the counter began.
    Energy,
    /// Megahertz.
    Frequency,
    /// Megahertz that the driver asked for.
    FrequencyRequested,
    /// Megahertz of the media engines.
    MediaFrequency,
    /// Degrees Celsius of the processor.
    CoreTemperature,
    /// Degrees Celsius of the memory.
    MemoryTemperature,
    /// Bytes.
    MemoryUsed,
    /// Hundredths of the memory.
    MemoryUtilization,
    /// Hundredths of the time in which memory was busy.
    MemoryBandwidth,
    /// 1 while the clocks are held back.
    Throttled,
    /// Revolutions per minute of the first fan that turns.
    FanSpeed,
    /// Bytes per second.
    PcieReceived,
    /// Bytes per second.
    PcieSent,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Quantity; 15] = [
        Quantity::Utilization,
        Quantity::Power,
        Quantity::Energy,
        Quantity::Frequency,
        Quantity::FrequencyRequested,
        Quantity::MediaFrequency,
        Quantity::CoreTemperature,
        Quantity::MemoryTemperature,
        Quantity::MemoryUsed,
        Quantity::MemoryUtilization,
        Quantity::MemoryBandwidth,
        Quantity::Throttled,
        Quantity::FanSpeed,
        Quantity::PcieReceived,
        Quantity::PcieSent,
    ];

    /// Its value in a sample.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Quantity::Utilization => sample.utilization(),
            Quantity::Power => sample.power(),
            Quantity::Energy => {
                let totals = sample.totals.iter().filter(|(metric, ..)| *metric == Metric::Energy);
                let mut totals = totals.map(|(_, place, total)| (place, *total));
                let places = crate::device::POWER_PLACES;
                let widest = totals.clone().find(|(place, _)| ***place == *places[0]);
                widest.or_else(|| totals.next()).map(|(_, total)| total)
            }
            Quantity::Frequency => sample.frequency(),
            Quantity::FrequencyRequested => {
                sample.number(Metric::FrequencyRequested, crate::device::CLOCK_PLACES)
            }
            Quantity::MediaFrequency => {
                // A media part has a name that ends so; NVIDIA's library calls its clock that of video.
                let media = sample.readings.iter().find_map(|reading| {
                    let named = reading.metric == Metric::Property && reading.location.ends_with(" name");
                    let media = matches!(&reading.value, Ok(value) if value.to_string().ends_with("-mc"));
                    (named && media).then(|| reading.location.trim_end_matches(" name"))
                });
                sample.number(Metric::Frequency, &[media.unwrap_or("video")])
            }
            Quantity::CoreTemperature => sample.core_temperature(),
            Quantity::MemoryTemperature => sample.memory_temperature(),
            Quantity::MemoryUsed => sample.memory_used(),
            Quantity::MemoryUtilization => {
                let total = sample.memory_total().filter(|total| *total > 0.0)?;
                Some((sample.memory_used()? / total * 100.0).clamp(0.0, 100.0))
            }
            Quantity::MemoryBandwidth => sample.number(Metric::MemoryBandwidthUtilization, &[""]),
            Quantity::Throttled => {
                let flags = sample.readings.iter().filter(|reading| reading.metric == Metric::Throttled);
                flags.filter_map(crate::Reading::number).max_by(f64::total_cmp)
            }
            Quantity::FanSpeed => {
                let fans = sample.readings.iter().filter(|reading| reading.metric == Metric::FanSpeed);
                fans.filter_map(crate::Reading::number).max_by(f64::total_cmp)
            }
            Quantity::PcieReceived => sample.number(Metric::PcieReceived, &[""]),
            Quantity::PcieSent => sample.number(Metric::PcieSent, &[""]),
        }
    }
}

/// Least, greatest, mean and last of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// The last value.
    pub value: f64,
    /// The mean.
    pub avg: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// The remembered samples, oldest first.
#[derive(Debug, Clone, Default)]
pub struct History {
    rows: VecDeque<[f64; Quantity::ALL.len()]>,
}

impl History {
    /// Remembers a sample; the oldest is forgotten.
    pub fn add(&mut self, sample: &Sample) {
        if self.rows.len() == SAMPLES {
            self.rows.pop_front();
        }
        self.rows.push_back(Quantity::ALL.map(|quantity| quantity.of(sample).unwrap_or(f64::NAN)));
    }

    /// The values of a quantity that are known, oldest first.
    pub fn course(&self, quantity: Quantity) -> impl Iterator<Item = f64> {
        let values = self.rows.iter().map(move |row| row[quantity as usize]);
        values.filter(|value| !value.is_nan())
    }

    /// How many samples are remembered.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What the values of a quantity come to; `None` when none is known.
    pub fn summary(&self, quantity: Quantity) -> Option<Summary> {
        let mut values = self.course(quantity);
        let first = values.next()?;
        let start = (Summary { value: first, avg: first, min: first, max: first }, 1.0);
        let (mut summary, count) = values.fold(start, |(summary, count), value| {
            let summary = Summary {
                value,
                avg: summary.avg + value,
                min: summary.min.min(value),
                max: summary.max.max(value),
            };
            (summary, count + 1.0)
        });
        summary.avg /= count;
        Some(summary)
    }
}
