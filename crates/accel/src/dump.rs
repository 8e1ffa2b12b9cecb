//! XPU Manager's numbered columns, for tables that are written line by line.

use crate::device::Sample;
use crate::metric::Metric;
use crate::query;
use crate::statistics::Quantity;

/// Headings by number. Those that no kernel tells are always `N/A`.
pub const HEADINGS: [&str; 37] = [
    "GPU Utilization (%)",
    "GPU Power (W)",
    "GPU Frequency (MHz)",
    "GPU Core Temperature (Celsius Degree)",
    "GPU Memory Temperature (Celsius Degree)",
    "GPU Memory Utilization (%)",
    "GPU Memory Read (kB/s)",
    "GPU Memory Write (kB/s)",
    "GPU Energy Consumed (J)",
    "GPU EU Array Active (%)",
    "GPU EU Array Stall (%)",
    "GPU EU Array Idle (%)",
    "Reset Counter",
    "Programming Errors",
    "Driver Errors",
    "Cache Errors Correctable",
    "Cache Errors Uncorrectable",
    "GPU Memory Bandwidth Utilization (%)",
    "GPU Memory Used (MiB)",
    "PCIe Read (kB/s)",
    "PCIe Write (kB/s)",
    "Xe Link Throughput (kB/s)",
    "Compute Engine (%)",
    "Render Engine (%)",
    "Decoder Engine (%)",
    "Encoder Engine (%)",
    "Copy Engine (%)",
    "Media Enhancement Engine (%)",
    "3D Engine (%)",
    "GPU Memory Errors Correctable",
    "GPU Memory Errors Uncorrectable",
    "Compute Engine Group (%)",
    "Render Engine Group (%)",
    "Media Engine Group (%)",
    "Copy Engine Group (%)",
    "Throttle Reason",
    "Media Engine Frequency (MHz)",
];

/// Names by number, as in XPU Manager's interface for programs.
pub const NAMES: [&str; 37] = [
    "XPUM_DUMP_GPU_UTILIZATION",
    "XPUM_DUMP_POWER",
    "XPUM_DUMP_GPU_FREQUENCY",
    "XPUM_DUMP_GPU_CORE_TEMPERATURE",
    "XPUM_DUMP_MEMORY_TEMPERATURE",
    "XPUM_DUMP_MEMORY_UTILIZATION",
    "XPUM_DUMP_MEMORY_READ_THROUGHPUT",
    "XPUM_DUMP_MEMORY_WRITE_THROUGHPUT",
    "XPUM_DUMP_ENERGY",
    "XPUM_DUMP_EU_ACTIVE",
    "XPUM_DUMP_EU_STALL",
    "XPUM_DUMP_EU_IDLE",
    "XPUM_DUMP_RAS_ERROR_CAT_RESET",
    "XPUM_DUMP_RAS_ERROR_CAT_PROGRAMMING_ERRORS",
    "XPUM_DUMP_RAS_ERROR_CAT_DRIVER_ERRORS",
    "XPUM_DUMP_RAS_ERROR_CAT_CACHE_ERRORS_CORRECTABLE",
    "XPUM_DUMP_RAS_ERROR_CAT_CACHE_ERRORS_UNCORRECTABLE",
    "XPUM_DUMP_MEMORY_BANDWIDTH",
    "XPUM_DUMP_MEMORY_USED",
    "XPUM_DUMP_PCIE_READ_THROUGHPUT",
    "XPUM_DUMP_PCIE_WRITE_THROUGHPUT",
    "XPUM_DUMP_COMPUTE_XE_LINK_THROUGHPUT",
    "XPUM_DUMP_COMPUTE_ENGINE_UTILIZATION",
    "XPUM_DUMP_RENDER_ENGINE_UTILIZATION",
    "XPUM_DUMP_DECODE_ENGINE_UTILIZATION",
    "XPUM_DUMP_ENCODE_ENGINE_UTILIZATION",
    "XPUM_DUMP_COPY_ENGINE_UTILIZATION",
    "XPUM_DUMP_MEDIA_ENHANCEMENT_ENGINE_UTILIZATION",
    "XPUM_DUMP_3D_ENGINE_UTILIZATION",
    "XPUM_DUMP_RAS_ERROR_CAT_NON_COMPUTE_ERRORS_CORRECTABLE",
    "XPUM_DUMP_RAS_ERROR_CAT_NON_COMPUTE_ERRORS_UNCORRECTABLE",
    "XPUM_DUMP_COMPUTE_ENGINE_GROUP_UTILIZATION",
    "XPUM_DUMP_RENDER_ENGINE_GROUP_UTILIZATION",
    "XPUM_DUMP_MEDIA_ENGINE_GROUP_UTILIZATION",
    "XPUM_DUMP_COPY_ENGINE_GROUP_UTILIZATION",
    "XPUM_DUMP_FREQUENCY_THROTTLE_REASON_GPU",
    "XPUM_DUMP_MEDIA_ENGINE_FREQUENCY",
];

/// A line of chosen columns: when, which device, and each value or `N/A`.
pub fn row(time: &str, sample: &Sample, columns: &[usize]) -> String {
    let known = [time.to_owned(), sample.identity.device_id.to_string()];
    let cells = columns.iter().map(|column| cell(sample, *column).unwrap_or_else(|| "N/A".to_owned()));
    known.into_iter().chain(cells).collect::<Vec<_>>().join(", ")
}

/// A device's readings of one tile, as if it were the first. A device without tiles has one, and that is all of it;
/// `None` when there is no such tile.
pub fn of_tile(sample: &Sample, tile: u32) -> Option<Sample> {
    let has_tiles = sample.readings.iter().any(|reading| reading.location.starts_with("tile"));
    if !has_tiles {
        return (tile == 0).then(|| sample.clone());
    }
    let prefix = format!("tile{tile}/");
    let mut part = sample.clone();
    part.totals.clear();
    part.readings.retain_mut(|reading| match reading.location.strip_prefix(&prefix) {
        Some(rest) => {
            reading.location = format!("tile0/{rest}").into();
            true
        }
        None => false,
    });
    (!part.readings.is_empty()).then_some(part)
}

/// The line above such lines.
pub fn heading(columns: &[usize]) -> String {
    let headings = columns.iter().filter_map(|column| HEADINGS.get(*column).copied());
    ["Timestamp", "DeviceId"].into_iter().chain(headings).collect::<Vec<_>>().join(", ")
}

/// A column of a sample; `None` when it is not known.
pub fn cell(sample: &Sample, column: usize) -> Option<String> {
    let quantity = |quantity: Quantity, scale: f64| Some(format!("{:.2}", quantity.of(sample)? * scale));
    let metric = |metric, place: &str| Some(format!("{:.0}", sample.number(metric, &[place])?));
    match column {
        0 => quantity(Quantity::Utilization, 1.0),
        1 => quantity(Quantity::Power, 1.0),
        2 => quantity(Quantity::Frequency, 1.0),
        3 => quantity(Quantity::CoreTemperature, 1.0),
        4 => quantity(Quantity::MemoryTemperature, 1.0),
        5 => quantity(Quantity::MemoryUtilization, 1.0),
        8 => quantity(Quantity::Energy, 1.0),
        17 => quantity(Quantity::MemoryBandwidth, 1.0),
        18 => quantity(Quantity::MemoryUsed, 1.0 / 1_048_576.0),
        19 => quantity(Quantity::PcieReceived, 1e-3),
        20 => quantity(Quantity::PcieSent, 1e-3),
        24 => metric(Metric::EngineUtilization, "video decoder"),
        25 => metric(Metric::EngineUtilization, "video encoder"),
        29 => metric(Metric::Errors, "corrected"),
        30 => metric(Metric::Errors, "uncorrected"),
        35 => query::throttle(sample).map(std::borrow::Cow::into_owned),
        36 => quantity(Quantity::MediaFrequency, 1.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Recording;
    use crate::{Moment, Root, discovery};

    #[test]
    fn columns_of_a_recorded_card() {
        let directory = tempfile::tempdir().unwrap();
        Recording::named("b580_6_16").unwrap().plant(directory.path()).unwrap();
        let mut device = discovery::discover(&Root::at(directory.path())).devices.remove(0);
        let sample = device.sample(Moment(0.0));
        let cells: Vec<_> = (0..HEADINGS.len()).map(|column| cell(&sample, column)).collect();
        let known: Vec<(usize, &str)> =
            cells.iter().enumerate().filter_map(|(column, cell)| Some((column, cell.as_deref()?))).collect();
        assert_eq!(
            known,
            [(2, "400.00"), (3, "46.00"), (4, "48.00"), (8, "29523.75"), (35, "none"), (36, "0.00"),]
        );
    }
}
