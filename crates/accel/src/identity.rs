//! Who a device is.

use std::sync::Arc;

use serde::Serialize;

use crate::names;
use crate::root::Root;

/// What never changes about a device while it is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identity {
    /// Its number among the devices of this machine, from 0 in the order of their addresses.
    pub device_id: u32,
    /// Its name.
    pub device_name: String,
    /// `GPU` or `coprocessor`.
    pub device_type: DeviceType,
    /// The vendor's name.
    pub vendor_name: String,
    /// Made from its PCI numbers, or given by the vendor's library.
    pub uuid: String,
    /// The kernel driver; empty when none is bound.
    pub driver: String,
    /// What the PCI bus says.
    pub pci: Option<Pci>,
    /// The device file for those who compute, as `/dev/dri/renderD128`.
    pub device_file: Option<String>,
    /// The path of its directory below the root.
    pub path: Arc<str>,
}

/// What kind of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum DeviceType {
    /// A graphics processor.
    #[serde(rename = "GPU")]
    Gpu,
    /// A card that runs its own system.
    #[serde(rename = "coprocessor")]
    Coprocessor,
}

/// What the PCI bus says of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pci {
    /// Domain, bus, slot and function, as `0000:0b:00.0`.
    pub address: String,
    /// The vendor's number.
    pub vendor_id: u16,
    /// The device's number.
    pub product_id: u16,
    /// The vendor and number of the card, if they are told.
    pub subsystem: Option<(u16, u16)>,
}

impl Pci {
    /// What a `uevent` file says.
    pub fn from_uevent(uevent: &str) -> Option<(Self, String)> {
        let field = |name: &str| uevent.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let pair = |text: &str| {
            let (vendor, device) = text.split_once(':')?;
            Some((u16::from_str_radix(vendor, 16).ok()?, u16::from_str_radix(device, 16).ok()?))
        };
        let (vendor_id, product_id) = pair(field("PCI_ID")?)?;
        let address = field("PCI_SLOT_NAME")?;
        let plain = address.len() <= 16 && address.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c));
        let pci = Pci {
            address: address.to_ascii_lowercase(),
            vendor_id,
            product_id,
            subsystem: field("PCI_SUBSYS_ID").and_then(pair),
        };
        plain.then(|| (pci, field("DRIVER").unwrap_or_default().to_owned()))
    }

    /// An identifier of the device in this place.
    pub fn uuid(&self) -> String {
        let place: String = self.address.chars().filter(char::is_ascii_hexdigit).collect();
        let (domain, rest) = place.split_at(place.len().saturating_sub(5));
        let (card, maker) = self.subsystem.unwrap_or_default();
        format!(
            "{domain:0>8}-{card:04x}-{maker:04x}-{:04x}-{:04x}{:0>8}",
            self.vendor_id, self.product_id, rest
        )
    }
}

impl Identity {
    /// A graphics processor of the bus.
    pub fn of_gpu(root: &Root, path: &str, pci: Pci, driver: String) -> Self {
        let product = root.text(&format!("{path}/product_name"));
        let device_name = match product {
            Some(name) if name.len() < 100 => format!("{} {name}", names::vendor(pci.vendor_id)),
            _ => names::device(root, pci.vendor_id, pci.product_id),
        };
        let render = root.list(&format!("{path}/drm")).into_iter().find(|name| name.starts_with("renderD"));
        Identity {
            device_id: 0,
            device_name,
            device_type: DeviceType::Gpu,
            vendor_name: names::vendor(pci.vendor_id).to_owned(),
            uuid: pci.uuid(),
            driver,
            device_file: render.map(|name| format!("/dev/dri/{name}")),
            pci: Some(pci),
            path: path.into(),
        }
    }

    /// What tells it from all others on this machine, also after it was taken out and put in again.
    pub fn key(&self) -> String {
        self.pci.as_ref().map_or_else(|| self.path.to_string(), |pci| pci.address.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uevent_tells_the_bus_s_view() {
        let uevent = "DRIVER=xe\nPCI_CLASS=30000\nPCI_ID=8086:56A5\nPCI_SUBSYS_ID=1849:6004\n\
                      PCI_SLOT_NAME=0000:08:00.0\n";
        let (pci, driver) = Pci::from_uevent(uevent).unwrap();
        assert_eq!((driver.as_str(), pci.address.as_str(), pci.product_id), ("xe", "0000:08:00.0", 0x56a5));
        assert_eq!(pci.uuid(), "00000000-1849-6004-8086-56a500008000");
        assert!(Pci::from_uevent("DRIVER=xe\nPCI_ID=8086:56A5\nPCI_SLOT_NAME=../../etc\n").is_none());
        assert!(Pci::from_uevent("").is_none());
    }

    #[test]
    fn devices_in_different_places_have_different_identifiers() {
        let at = |address: &str| {
            Pci { address: address.into(), vendor_id: 1, product_id: 2, subsystem: None }.uuid()
        };
        assert_ne!(at("0000:08:00.0"), at("0000:08:00.1"));
        assert_ne!(at("0000:08:00.0"), at("0001:08:00.0"));
        assert_eq!(at("0000:08:00.0").len(), 36);
    }
}
