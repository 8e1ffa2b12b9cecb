//! XPU Manager's numbered columns of what a device is, which do not change while one looks.

use crate::device::Sample;
use crate::metric::Metric;
use crate::query::Field;

/// How a column is found.
enum Column {
    /// As a field of this name.
    Field(&'static str),
    /// A text that the driver tells, of this part.
    Told(Metric, &'static str),
    /// The vendor's name.
    Vendor,
    /// Nothing that a kernel tells.
    Untold,
}

use Column::{Field as Of, Told, Untold, Vendor};

/// Headings by number, from 1.
const COLUMNS: [(&str, Column); 21] = [
    ("Device ID", Of("index")),
    ("Device Name", Of("name")),
    ("Vendor Name", Vendor),
    ("SOC UUID", Of("uuid")),
    ("Serial Number", Of("serial")),
    ("Core Clock Rate", Of("clocks.max.graphics")),
    ("Stepping", Told(Metric::Property, "revision")),
    ("Driver Version", Of("driver_version")),
    ("GFX Firmware Version", Told(Metric::Firmware, "gsc")),
    ("GFX Data Firmware Version", Untold),
    ("PCI BDF Address", Of("pci.bus_id")),
    ("PCI Slot", Untold),
    ("PCIe Generation", Of("pcie.link.gen.max")),
    ("PCIe Max Link Width", Of("pcie.link.width.max")),
    ("OAM Socket ID", Untold),
    ("Memory Physical Size", Of("memory.total")),
    ("Number of Memory Channels", Untold),
    ("Memory Bus Width", Untold),
    ("Number of EUs", Untold),
    ("Number of Media Engines", Untold),
    ("Number of Media Enhancement Engines", Untold),
];

/// How many there are.
pub const COUNT: u8 = COLUMNS.len() as u8;

/// The line above lines of these columns.
pub fn heading(columns: &[u8]) -> String {
    let headings = columns.iter().filter_map(|number| Some(column(*number)?.0));
    headings.collect::<Vec<_>>().join(",")
}

/// A device's line of these columns; what is not known is empty.
pub fn row(sample: &Sample, columns: &[u8]) -> String {
    let cell = |number: &u8| {
        let value = match &column(*number)?.1 {
            Of(name) => Field::named(name)?.value(sample, true)?,
            Told(metric, place) => sample.at(*metric, place)?.value.as_ref().ok()?.to_string(),
            Vendor => sample.identity.vendor_name.clone(),
            Untold => return None,
        };
        Some(quoted(&value))
    };
    columns.iter().map(|number| cell(number).unwrap_or_default()).collect::<Vec<_>>().join(",")
}

fn column(number: u8) -> Option<&'static (&'static str, Column)> {
    COLUMNS.get(usize::from(number).checked_sub(1)?)
}

/// A value as tables separated by commas have it.
fn quoted(value: &str) -> String {
    if value.contains([',', '"']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value.to_owned() }
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
        let sample = discovery::discover(&Root::at(directory.path())).devices.remove(0).sample(Moment(0.0));
        assert_eq!(heading(&[1, 11, 16]), "Device ID,PCI BDF Address,Memory Physical Size");
        assert_eq!(row(&sample, &[1, 3, 11, 12]), "0,Intel,0000:0b:00.0,");
        let all: Vec<u8> = (1..=COUNT).collect();
        assert_eq!(heading(&all).matches(',').count(), 20);
        assert_eq!((heading(&[0, 22]), row(&sample, &[0])), (String::new(), String::new()));
    }

    #[test]
    fn names_with_commas_stay_in_their_columns() {
        assert_eq!(quoted("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(quoted("a b"), "a b");
    }
}
