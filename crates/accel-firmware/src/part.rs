//! What fwupd says of parts and files, read from the dictionaries of its D-Bus interface.

use std::collections::HashMap;

use serde::Serialize;
use zbus::OwnedVariant;

/// `FWUPD_DEVICE_FLAG_UPDATABLE`.
const UPDATABLE: u64 = 1 << 1;

/// `FWUPD_RELEASE_FLAG_TRUSTED_PAYLOAD`.
const TRUSTED_PAYLOAD: u64 = 1 << 0;

/// No text of a daemon's is longer; what is beyond is cut off.
const TEXT_MAX: usize = 400;

/// No list of a daemon's is longer.
pub(crate) const LIST_MAX: usize = 1024;

/// A dictionary as the daemon sends it.
pub(crate) type Dictionary = HashMap<String, OwnedVariant>;

/// Something that has firmware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The daemon's name for it.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The daemon's plug-in that looks after it.
    pub plugin: String,
    /// The version that it runs, if it tells.
    pub version: Option<String>,
    /// What it is, as `PCI\VEN_8086&DEV_E20B&PART_FWCODE`.
    pub instances: Vec<String>,
    /// What it is, for those who compare.
    pub guids: Vec<String>,
    /// Whether its firmware can be updated.
    pub updatable: bool,
    /// Why it cannot, if the daemon tells.
    pub hindrance: Option<String>,
}

/// A file, as far as one part is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// What the part is, for those who compare.
    pub guids: Vec<String>,
    /// The version in the file.
    pub version: Option<String>,
    /// Whether the daemon trusts whoever signed it.
    pub signed: bool,
}

/// How far an update is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What is being done, in one word.
    pub status: &'static str,
    /// Hundredths of it, if they are known.
    pub percent: Option<u32>,
}

impl Default for Progress {
    fn default() -> Self {
        Progress { status: status(0), percent: None }
    }
}

impl Part {
    pub(crate) fn read(entry: &Dictionary) -> Option<Self> {
        let flags = number(entry, "Flags").unwrap_or(0);
        Some(Part {
            id: text(entry, "DeviceId")?,
            name: text(entry, "Name").unwrap_or_default(),
            plugin: text(entry, "Plugin").unwrap_or_default(),
            version: text(entry, "Version"),
            instances: texts(entry, "InstanceIds"),
            guids: texts(entry, "Guid"),
            updatable: flags & UPDATABLE != 0,
            hindrance: text(entry, "UpdateError"),
        })
    }

    /// Whether it belongs to devices of this kind.
    pub fn is_of(&self, vendor: u16, product: u16) -> bool {
        let kind = format!("PCI\\VEN_{vendor:04X}&DEV_{product:04X}");
        self.instances.iter().any(|instance| {
            let rest = instance.to_ascii_uppercase();
            rest.strip_prefix(&kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('&'))
        })
    }

    /// Which part of the device it is, as Intel's are called: `FWCODE`, `FWDATA`, `OPROMCODE`, `OPROMDATA`.
    pub fn kind(&self) -> Option<&str> {
        self.instances.iter().find_map(|instance| {
            let (_, rest) = instance.split_once("&PART_")?;
            rest.split('&').next()
        })
    }
}

impl Detail {
    pub(crate) fn read(entry: &Dictionary) -> Self {
        let release = releases(entry).into_iter().next().unwrap_or_default();
        Detail {
            guids: texts(entry, "Guid"),
            version: text(&release, "Version"),
            signed: number(&release, "TrustFlags").unwrap_or(0) & TRUSTED_PAYLOAD != 0,
        }
    }
}

/// A word for what the daemon does, of its `FwupdStatus`.
pub(crate) fn status(number: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "unknown",
        "idle",
        "loading",
        "decompressing",
        "restarting",
        "writing",
        "verifying",
        "scheduling",
        "downloading",
        "reading",
        "erasing",
        "waiting",
        "busy",
        "shutdown",
    ];
    NAMES.get(number as usize).copied().unwrap_or("waiting")
}

fn text(entry: &Dictionary, key: &str) -> Option<String> {
    let text: &str = entry.get(key)?.downcast_ref().ok()?;
    let plain: String = text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect();
    (!plain.is_empty()).then_some(plain)
}

fn texts(entry: &Dictionary, key: &str) -> Vec<String> {
    let list: Option<Vec<String>> =
        entry.get(key).and_then(|value| value.try_clone().ok()).and_then(|value| value.try_into().ok());
    let mut list = list.unwrap_or_default();
    list.truncate(LIST_MAX);
    list
}

fn number(entry: &Dictionary, key: &str) -> Option<u64> {
    entry.get(key)?.downcast_ref().ok()
}

/// The releases in an entry; old daemons sent one without a list.
fn releases(entry: &Dictionary) -> Vec<Dictionary> {
    let value = entry.get("Release").and_then(|value| value.try_clone().ok());
    let list: Option<Vec<Dictionary>> = value.and_then(|value| value.try_into().ok());
    list.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(instances: &[&str]) -> Part {
        Part {
            id: "0".to_owned(),
            name: String::new(),
            plugin: "intel_gsc".to_owned(),
            version: None,
            instances: instances.iter().map(|text| (*text).to_owned()).collect(),
            guids: Vec::new(),
            updatable: true,
            hindrance: None,
        }
    }

    #[test]
    fn parts_are_of_devices_of_their_kind() {
        let code = part(&["PCI\\VEN_8086&DEV_E20B&PART_FWCODE"]);
        assert!(code.is_of(0x8086, 0xe20b) && !code.is_of(0x8086, 0xe20c) && !code.is_of(0x8086, 0xe20));
        assert_eq!(code.kind(), Some("FWCODE"));
        let option = part(&["PCI\\VEN_8086&DEV_E20B&SUBSYS_1849600&PART_OPROMCODE&X_1"]);
        assert_eq!((option.kind(), option.is_of(0x8086, 0xe20b)), (Some("OPROMCODE"), true));
        let other = part(&["USB\\VID_046D&PID_C52B"]);
        assert_eq!((other.kind(), other.is_of(0x046d, 0xc52b)), (None, false));
    }

    #[test]
    fn entries_without_what_they_need_are_left_out() {
        assert_eq!(Part::read(&Dictionary::new()), None);
        let entry = Dictionary::from([("DeviceId".to_owned(), OwnedVariant::from(7_u32))]);
        assert_eq!(Part::read(&entry), None);
        assert_eq!(Detail::read(&entry), Detail { guids: vec![], version: None, signed: false });
    }
}
