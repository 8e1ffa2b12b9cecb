//! Limits that whoever runs the machine sets, for what the hardware tells no limit of.
//!
//! ```toml
//! [[limits]]                                      # for every device
//! core_temperature = { warning = 85, critical = 95 }
//!
//! [[limits]]
//! device = "8086:56a1"                            # every card of this kind
//! power = { warning = 225 }
//! ```
//!
//! A device is meant by its PCI address, its UUID, its kind as `vendor:product`, or its name. What names the
//! device more closely holds over what names it less closely, for each check by itself.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::health::Kind;
use crate::identity::Identity;

/// No file of limits is larger.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A limit is at most so many °C or W.
const LIMIT_MAX: f64 = 100_000.0;

/// Where a state begins. What is not told is found in other ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// From here on a warning, in the unit of the check.
    pub warning: Option<f64>,
    /// From here on critical, in the unit of the check.
    pub critical: Option<f64>,
}

/// The configured limits of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DeviceLimits {
    core_temperature: Option<Bounds>,
    memory_temperature: Option<Bounds>,
    power: Option<Bounds>,
}

impl DeviceLimits {
    /// The limits of a check; none where nothing is configured, or the check has no limits.
    pub fn of(&self, kind: Kind) -> Bounds {
        let bounds = match kind {
            Kind::CoreTemperature => self.core_temperature,
            Kind::MemoryTemperature => self.memory_temperature,
            Kind::Power => self.power,
            Kind::Memory | Kind::XeLinkPort | Kind::Frequency => None,
        };
        bounds.unwrap_or_default()
    }
}

/// One entry of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    device: Option<String>,
    core_temperature: Option<Bounds>,
    memory_temperature: Option<Bounds>,
    power: Option<Bounds>,
}

impl Rule {
    /// How closely the rule names a device, the closest last; `None` when it means another one.
    fn closeness(&self, identity: &Identity) -> Option<u8> {
        let Some(wanted) = &self.device else { return Some(0) };
        let is = |name: &str| name.eq_ignore_ascii_case(wanted.trim());
        let pci = identity.pci.as_ref();
        let kind = pci.map(|pci| format!("{:04x}:{:04x}", pci.vendor_id, pci.product_id));
        if is(&identity.uuid) || pci.is_some_and(|pci| is(&pci.address)) {
            Some(2)
        } else {
            (is(&identity.device_name) || kind.is_some_and(|kind| is(&kind))).then_some(1)
        }
    }

    fn fault(&self) -> Option<String> {
        let checks = [
            (Kind::CoreTemperature, self.core_temperature),
            (Kind::MemoryTemperature, self.memory_temperature),
            (Kind::Power, self.power),
        ];
        checks.into_iter().find_map(|(kind, bounds)| {
            let Bounds { warning, critical } = bounds?;
            let wrong = |limit: f64| !(limit > 0.0 && limit <= LIMIT_MAX);
            let name = kind.name();
            if let Some(limit) = [warning, critical].into_iter().flatten().find(|limit| wrong(*limit)) {
                return Some(format!("{name} is {limit}; a limit is above 0 and at most {LIMIT_MAX}"));
            }
            let (warning, critical) = (warning?, critical?);
            (warning > critical)
                .then(|| format!("the warning of {name} at {warning} is above its critical limit {critical}"))
        })
    }
}

/// The file as a whole.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(default)]
    limits: Vec<Rule>,
}

/// The configured limits of all devices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    rules: Vec<Rule>,
}

/// Why limits cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The file cannot be read.
    #[error("read the file of limits {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not as it should be.
    #[error("understand the file of limits {}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Limits {
    /// Reads a file of limits.
    pub fn read(path: &Path) -> Result<Self, LimitsError> {
        let text = File::open(path).and_then(|file| {
            let mut text = String::new();
            file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
            Ok(text)
        });
        let text = text.map_err(|source| LimitsError::Read { path: path.to_owned(), source })?;
        let format = |source| LimitsError::Format { path: path.to_owned(), source };
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format("it is larger than 64 KiB".into()));
        }
        Limits::parse(&text).map_err(format)
    }

    /// Understands the text of such a file.
    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let rules: Rules = toml::from_str(text)?;
        match rules.limits.iter().find_map(Rule::fault) {
            Some(fault) => Err(fault.into()),
            None => Ok(Limits { rules: rules.limits }),
        }
    }

    /// The limits of one device. Of two entries that name it equally closely the later holds.
    pub fn of(&self, identity: &Identity) -> DeviceLimits {
        let mut rules: Vec<(u8, &Rule)> =
            self.rules.iter().filter_map(|rule| Some((rule.closeness(identity)?, rule))).collect();
        rules.sort_by_key(|(closeness, _)| *closeness);
        rules.into_iter().fold(DeviceLimits::default(), |limits, (_, rule)| DeviceLimits {
            core_temperature: rule.core_temperature.or(limits.core_temperature),
            memory_temperature: rule.memory_temperature.or(limits.memory_temperature),
            power: rule.power.or(limits.power),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{DeviceType, Pci};

    fn arc() -> Identity {
        let pci = Pci {
            address: "0000:0b:00.0".to_owned(),
            vendor_id: 0x8086,
            product_id: 0x56a1,
            subsystem: None,
        };
        Identity {
            device_id: 0,
            device_name: "Intel Arc A750".to_owned(),
            device_type: DeviceType::Gpu,
            vendor_name: "Intel".to_owned(),
            uuid: pci.uuid(),
            driver: "xe".to_owned(),
            pci: Some(pci),
            device_file: None,
            path: "sys/class/drm/card0/device".into(),
        }
    }

    #[test]
    fn what_names_a_device_more_closely_holds() {
        let check = |text: &str, warning: Option<f64>| {
            let limits = Limits::parse(text).unwrap().of(&arc());
            assert_eq!(limits.of(Kind::CoreTemperature).warning, warning, "{text}");
        };
        let entry = |device: &str, warning: u32| {
            format!("[[limits]]\ndevice = \"{device}\"\ncore_temperature = {{ warning = {warning} }}\n")
        };
        let all = "[[limits]]\ncore_temperature = { warning = 60 }\n";
        check("", None);
        check(all, Some(60.0));
        for name in ["8086:56A1", "intel arc a750", "0000:0B:00.0", &arc().uuid] {
            check(&entry(name, 70), Some(70.0));
            check(&(entry(name, 70) + all), Some(70.0));
        }
        check(&entry("8086:56a5", 70), None);
        check(&(entry("0000:0b:00.0", 80) + &entry("8086:56a1", 70)), Some(80.0));
        check(&(entry("8086:56a1", 70) + &entry("Intel Arc A750", 75)), Some(75.0));
    }

    #[test]
    fn each_check_is_found_by_itself() {
        let text = "[[limits]]\npower = { warning = 75, critical = 90.5 }\n\
                    [[limits]]\ndevice = \"8086:56a1\"\nmemory_temperature = { critical = 100 }\n";
        let limits = Limits::parse(text).unwrap().of(&arc());
        assert_eq!(limits.of(Kind::Power), Bounds { warning: Some(75.0), critical: Some(90.5) });
        assert_eq!(limits.of(Kind::MemoryTemperature), Bounds { warning: None, critical: Some(100.0) });
        assert_eq!(limits.of(Kind::CoreTemperature), Bounds::default());
        assert_eq!(limits.of(Kind::Frequency), Bounds::default());
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        let check = |text: &str, expected: &str| {
            let error = Limits::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("[[limits]]\npower = { warning = 0 }", "above 0");
        check("[[limits]]\npower = { critical = -3 }", "above 0");
        check("[[limits]]\npower = { warning = nan }", "above 0");
        check("[[limits]]\npower = { warning = inf }", "above 0");
        check("[[limits]]\ncore_temperature = { warning = 90, critical = 80 }", "above its critical limit");
        check("[[limits]]\nfrequency = { warning = 1 }", "unknown field");
        check("[[limits]]\npower = { warnings = 1 }", "unknown field");
        check("[[limit]]\n", "unknown field");
        check("[[limits]]\npower = \"hot\"", "power");
    }

    #[test]
    fn a_file_that_is_missing_or_endless_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("limits.toml");
        let error = Limits::read(&path).unwrap_err();
        assert!(matches!(error, LimitsError::Read { .. }) && error.to_string().contains("limits.toml"));
        std::fs::write(&path, "#".repeat(70_000)).unwrap();
        assert!(matches!(Limits::read(&path), Err(LimitsError::Format { .. })));
        std::fs::write(&path, "[[limits]]\npower = { warning = 75 }\n").unwrap();
        let limits = Limits::read(&path).unwrap().of(&arc());
        assert_eq!(limits.of(Kind::Power).warning, Some(75.0));
    }
}
