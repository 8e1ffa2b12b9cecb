//! Names of devices: from the machine's PCI data base if it has one, else from a short table.

use std::fs::File;
use std::io::{BufRead, BufReader};

use crate::root::Root;

/// Vendor, device, name: the cards that schools have and the data base of an older system may lack.
const TABLE: &[(u16, u16, &str)] = &[
    (0x8086, 0x56a0, "Intel Arc A770"),
    (0x8086, 0x56a1, "Intel Arc A750"),
    (0x8086, 0x56a2, "Intel Arc A580"),
    (0x8086, 0x56a5, "Intel Arc A380"),
    (0x8086, 0x56a6, "Intel Arc A310"),
    (0x8086, 0x5690, "Intel Arc A770M"),
    (0x8086, 0x5691, "Intel Arc A730M"),
    (0x8086, 0x5692, "Intel Arc A550M"),
    (0x8086, 0x5693, "Intel Arc A370M"),
    (0x8086, 0x5694, "Intel Arc A350M"),
    (0x8086, 0x56c0, "Intel Data Center GPU Flex 170"),
    (0x8086, 0x56c1, "Intel Data Center GPU Flex 140"),
    (0x8086, 0x0bd5, "Intel Data Center GPU Max 1550"),
    (0x8086, 0x0bda, "Intel Data Center GPU Max 1100"),
    (0x8086, 0xe20b, "Intel Arc B580"),
    (0x8086, 0xe20c, "Intel Arc B570"),
    (0x8086, 0x2250, "Intel Xeon Phi 5100 series"),
    (0x8086, 0x225c, "Intel Xeon Phi SE10/7120 series"),
    (0x8086, 0x225d, "Intel Xeon Phi 3120 series"),
    (0x1002, 0x67df, "AMD Radeon RX 470/480/570/580/590"),
    (0x1002, 0x744c, "AMD Radeon RX 7900 XT/XTX"),
    (0x1002, 0x163f, "AMD Van Gogh"),
];

/// Where systems keep the PCI data base.
const DATA_BASES: &[&str] = &["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"];

/// No line of the data base beyond this one is looked at.
const LINES_MAX: usize = 100_000;

/// The vendor's name.
pub fn vendor(vendor: u16) -> &'static str {
    match vendor {
        0x8086 => "Intel",
        0x1002 | 0x1022 => "AMD",
        0x10de => "NVIDIA",
        _ => "unknown vendor",
    }
}

/// The device's name.
pub fn device(root: &Root, vendor_id: u16, device_id: u16) -> String {
    let known = TABLE.iter().find(|(vendor, device, _)| (*vendor, *device) == (vendor_id, device_id));
    if let Some((.., name)) = known {
        return (*name).to_owned();
    }
    let files = DATA_BASES.iter().filter_map(|path| File::open(root.locate(path)?).ok());
    let mut found = files.filter_map(|file| look_up(BufReader::new(file), vendor_id, device_id));
    match found.next() {
        Some(name) => format!("{} {name}", vendor(vendor_id)),
        None => format!("{} device {vendor_id:04x}:{device_id:04x}", vendor(vendor_id)),
    }
}

/// Vendors stand at the beginning of a line, their devices behind one tab.
fn look_up(data_base: impl BufRead, vendor: u16, device: u16) -> Option<String> {
    let (vendor, device) = (format!("{vendor:04x}  "), format!("\t{device:04x}  "));
    let mut lines = data_base.lines().take(LINES_MAX).map_while(Result::ok);
    lines.find(|line| line.starts_with(&vendor))?;
    let mut devices = lines.take_while(|line| line.starts_with(['\t', '#']));
    devices.find_map(|line| Some(line.strip_prefix(&device)?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_base_is_searched_below_the_vendor_only() {
        let text =
            "10de  NVIDIA\n\t1b06  GP102\n8086  Intel\n\t1b06  Wrong one\n\t9bc5  UHD 630\n\t\t1b06  sub\n";
        assert_eq!(look_up(text.as_bytes(), 0x10de, 0x1b06).as_deref(), Some("GP102"));
        assert_eq!(look_up(text.as_bytes(), 0x8086, 0x9bc5).as_deref(), Some("UHD 630"));
        assert_eq!(look_up(text.as_bytes(), 0x10de, 0x9bc5), None);
    }
}
