//! Which part is meant, by XPU Manager's name for it or by fwupd's.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::daemon::FirmwareError;
use crate::part::Part;

/// What XPU Manager calls a part, and what fwupd does.
const KINDS: [(&str, &str); 4] =
    [("GFX", "FWCODE"), ("GFX_DATA", "FWDATA"), ("OPROM_CODE", "OPROMCODE"), ("OPROM_DATA", "OPROMDATA")];

/// XPU Manager's name of a card's management controller.
const CONTROLLER: &str = "AMC";

/// What somebody says of the part that they mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// XPU Manager's name for it.
    pub kind: Option<&'a str>,
    /// fwupd's name for it; then nothing else counts.
    pub id: Option<&'a str>,
}

impl Wanted<'_> {
    /// Whether it can be there at all.
    pub fn check(&self) -> Result<(), FirmwareError> {
        match self.kind {
            Some(CONTROLLER) => Err(FirmwareError::Controller),
            Some(kind) if KINDS.iter().all(|(name, _)| *name != kind) => {
                Err(FirmwareError::NotUpdatable(format!("fwupd knows no part of the kind {kind}")))
            }
            _ => Ok(()),
        }
    }

    /// The part, of those of devices with these vendors and products. Cards of one kind cannot be told apart by what fwupd
    /// says of them.
    pub fn choose<'a>(&self, parts: &'a [Part], devices: &[(u16, u16)]) -> Result<&'a Part, FirmwareError> {
        self.check()?;
        let refuse = |reason: String| Err(FirmwareError::NotUpdatable(reason));
        if let Some(id) = self.id {
            let part = parts.iter().find(|part| part.id == *id);
            return part.map_or_else(|| refuse(format!("fwupd knows no part {id}")), Ok);
        }
        let kind = KINDS.iter().find(|(name, _)| Some(*name) == self.kind).map(|(_, kind)| *kind);
        let meant: Vec<&Part> = parts
            .iter()
            .filter(|part| devices.iter().any(|(vendor, product)| part.is_of(*vendor, *product)))
            .filter(|part| kind.is_none() || part.kind() == kind)
            .collect();
        match meant.as_slice() {
            [part] => Ok(part),
            [] => {
                let others =
                    "fwupd knows no such part of this device (to others than root it does not show them)";
                refuse(others.to_owned())
            }
            several => {
                let ids: Vec<&str> = several.iter().map(|part| part.id.as_str()).collect();
                refuse(format!("fwupd has several such parts; name one of them: {}", ids.join(" ")))
            }
        }
    }
}

/// Opens a file with firmware; one that is none does not keep anybody waiting.
pub fn open(path: &Path) -> Result<File, FirmwareError> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(|source| FirmwareError::Open { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: &str, instance: &str) -> Part {
        Part {
            id: id.to_owned(),
            name: String::new(),
            plugin: "intel_gsc".to_owned(),
            version: None,
            instances: vec![instance.to_owned()],
            guids: Vec::new(),
            updatable: true,
            hindrance: None,
        }
    }

    #[test]
    fn the_part_is_the_one_that_fits_or_none() {
        let parts = [
            part("a", "PCI\\VEN_8086&DEV_E20B&PART_FWCODE"),
            part("b", "PCI\\VEN_8086&DEV_E20B&PART_OPROMCODE"),
            part("c", "PCI\\VEN_8086&DEV_56A5&PART_FWCODE"),
            part("d", "PCI\\VEN_8086&DEV_56A5&PART_FWCODE"),
        ];
        let b580 = [(0x8086, 0xe20b)];
        let check = |kind, id, devices: &[(u16, u16)], expected: Result<&str, &str>| {
            let wanted = Wanted { kind, id };
            match (wanted.choose(&parts, devices), expected) {
                (Ok(part), Ok(id)) => assert_eq!(part.id, id),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, _) => panic!("{found:?} {expected:?}"),
            }
        };
        check(Some("GFX"), None, &b580, Ok("a"));
        check(Some("OPROM_CODE"), None, &b580, Ok("b"));
        check(None, Some("d"), &b580, Ok("d"));
        check(None, None, &b580, Err("several such parts"));
        check(Some("GFX_DATA"), None, &b580, Err("knows no such part"));
        check(Some("GFX"), None, &[(0x8086, 0x56a5)], Err("name one of them: c d"));
        check(Some("GFX"), None, &[], Err("knows no such part"));
        check(None, Some("x"), &b580, Err("knows no part x"));
        check(Some("AMC"), Some("a"), &b580, Err("network interface of its own"));
        check(Some("FAN_TABLE"), None, &b580, Err("no part of the kind FAN_TABLE"));
    }

    #[test]
    fn a_pipe_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let begun = std::time::Instant::now();
        drop(open(&pipe).unwrap());
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
        assert!(matches!(open(&directory.path().join("nothing")), Err(FirmwareError::Open { .. })));
    }
}
