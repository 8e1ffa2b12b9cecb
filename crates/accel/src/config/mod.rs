//! Changing a device's settings, through the files in which its driver offers them.
//!
//! ```text
//!   Change ──► Desk::plan ──► writes, each with what is there now ──► remember ──► apply ──► what holds then
//!                  │                                                                 │
//!                  └─► not offered, out of range: refused, with the reason           └─► one fails: all put back
//! ```
//!
//! Nothing is written before the whole plan stands: every file was there, and every number in the range that the
//! device itself tells. What a driver makes of a number is read again afterwards, for some round it.
//!
//! Files are named from the card's own folder, so that what is remembered of them holds as long as the machine
//! runs.

mod clocks;
mod current;
mod engines;
mod fans;
mod nvidia;
mod power;
mod reset;

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use current::{Current, TileSettings};
pub use engines::Scheduler;
pub use fans::Drive;
pub use power::Span;

use crate::identity::Identity;
use crate::nvidia::Library;
use crate::nvidia::settings::DEFAULT as DEFAULT_CLOCKS;
use crate::root::Root;
use crate::value::Reason;

/// Something about a device that can be set.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Least and greatest clock of the processor, in MHz.
    FrequencyRange {
        /// The least.
        least: u32,
        /// The greatest.
        greatest: u32,
    },
    /// Power that the device may draw, in W.
    PowerLimit {
        /// How much.
        watts: u32,
        /// Over which time.
        span: Span,
    },
    /// How the engines divide their time among programs.
    Scheduler(Scheduler),
    /// Whether the device may sleep when nobody uses it.
    Standby(bool),
    /// Whether the memory corrects its errors.
    MemoryEcc(bool),
    /// How fast the media engines run, in % of the processor's clock: 50 or 100; 0 leaves it to the device.
    MediaFactor(u8),
    /// How a fan is driven.
    Fan {
        /// Its number, from 1.
        fan: u32,
        /// How.
        drive: Drive,
    },
    /// Whether a link to another card is used.
    LinkPort,
}

impl Change {
    fn setting(&self) -> Setting {
        match self {
            Change::FrequencyRange { .. } => Setting::FrequencyRange,
            Change::PowerLimit { .. } => Setting::PowerLimit,
            Change::Scheduler(_) => Setting::Scheduler,
            Change::Standby(_) => Setting::Standby,
            Change::MemoryEcc(_) => Setting::MemoryEcc,
            Change::MediaFactor(_) => Setting::MediaFactor,
            Change::Fan { .. } => Setting::Fan,
            Change::LinkPort => Setting::LinkPort,
        }
    }
}

/// The name of something that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// [`Change::FrequencyRange`].
    FrequencyRange,
    /// [`Change::PowerLimit`].
    PowerLimit,
    /// [`Change::Scheduler`].
    Scheduler,
    /// [`Change::Standby`].
    Standby,
    /// [`Change::MemoryEcc`].
    MemoryEcc,
    /// [`Change::MediaFactor`].
    MediaFactor,
    /// [`Change::Fan`].
    Fan,
    /// [`Change::LinkPort`].
    LinkPort,
}

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Setting::FrequencyRange => "the frequency range",
            Setting::PowerLimit => "the power limit",
            Setting::Scheduler => "the scheduler",
            Setting::Standby => "standby",
            Setting::MemoryEcc => "the memory's error correction",
            Setting::MediaFactor => "the performance factor",
            Setting::Fan => "the fan",
            Setting::LinkPort => "a link between cards",
        })
    }
}

/// A file and its content: what was there before a change, or what is there after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The file, from the card's folder.
    pub file: String,
    /// What is in it.
    pub value: String,
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The file, from the card's folder.
    pub file: String,
    /// What is to be in it.
    pub value: String,
    /// What puts it back; `None` where another write of the plan does.
    pub before: Option<String>,
}

/// Why a setting is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The device or its driver does not offer it.
    #[error("set {setting}: {reason}")]
    NotOffered {
        /// What was to be set.
        setting: Setting,
        /// Why not.
        reason: &'static str,
    },
    /// The number is none that the device takes.
    #[error("set {setting} to {wanted}: this device takes {least} to {greatest} {unit}")]
    OutOfRange {
        /// What was to be set.
        setting: Setting,
        /// The number.
        wanted: u64,
        /// The least that it takes.
        least: u64,
        /// The greatest that it takes.
        greatest: u64,
        /// Their unit.
        unit: &'static str,
    },
    /// What was said makes no sense for any device.
    #[error("set {setting}: {reason}")]
    Senseless {
        /// What was to be set.
        setting: Setting,
        /// Why not.
        reason: &'static str,
    },
    /// NVIDIA's library does not do it.
    #[error("set {setting} by NVIDIA's library: {reason}")]
    Library {
        /// What was to be set.
        setting: Setting,
        /// Why not.
        reason: Reason,
    },
    /// What is there now cannot be read, so it could not be put back.
    #[error("read {file} before changing it: {reason}")]
    Before {
        /// The file.
        file: String,
        /// Why not.
        reason: Reason,
    },
    /// A file cannot be written. What was written before it was put back.
    #[error("write {value:?} to {file}")]
    Write {
        /// The file.
        file: String,
        /// What was to be in it.
        value: String,
        /// Why not.
        source: io::Error,
    },
    /// The device cannot be divided.
    #[error("divide the device into virtual functions: {0}")]
    Vgpu(&'static str),
    /// Errors that were counted cannot be forgotten.
    #[error("clear the errors that were counted: {0}")]
    ClearErrors(String),
    /// The device cannot be reset.
    #[error("reset the device: {0}")]
    Reset(&'static str),
}

/// A device's settings.
#[derive(Debug, Clone)]
pub struct Desk<'a> {
    root: &'a Root,
    identity: Arc<Identity>,
    card: String,
    remembered: &'a [Content],
}

impl<'a> Desk<'a> {
    /// The settings of a device; `remembered` is what was there before anybody changed it.
    pub fn of(root: &'a Root, identity: &Arc<Identity>, remembered: &'a [Content]) -> Self {
        let path = &*identity.path;
        let card = path.strip_suffix("/device").unwrap_or(path).to_owned();
        Desk { root, identity: Arc::clone(identity), card, remembered }
    }

    /// What has to be written for a change, on one tile or on all.
    pub fn plan(&self, change: &Change, tile: Option<u32>) -> Result<Vec<Write>, ConfigError> {
        let refuse = |reason| ConfigError::NotOffered { setting: change.setting(), reason };
        if self.is_nvidia() {
            return match change {
                Change::FrequencyRange { least, greatest } if least > greatest => {
                    let reason = "the least clock is above the greatest";
                    Err(ConfigError::Senseless { setting: change.setting(), reason })
                }
                Change::FrequencyRange { least, greatest } => {
                    self.nvidia_clock_range(*least, *greatest, tile)
                }
                Change::PowerLimit { watts, span } => self.nvidia_power_limit(*watts, *span),
                Change::MemoryEcc(on) => self.nvidia_ecc(*on),
                _ => Err(refuse("it is not among what is set by NVIDIA's library here")),
            };
        }
        if self.identity.driver.is_empty() {
            return Err(refuse("no kernel driver serves the device"));
        }
        match change {
            Change::FrequencyRange { least, greatest } => self.frequency_range(*least, *greatest, tile),
            Change::PowerLimit { watts, span } => self.power_limit(*watts, *span),
            Change::Scheduler(scheduler) => self.scheduler(*scheduler, tile),
            Change::Standby(allowed) => self.standby(*allowed),
            Change::MediaFactor(percent) => self.media_factor(*percent),
            Change::Fan { fan, drive } => self.fan(*fan, drive),
            Change::MemoryEcc(_) => Err(refuse(match self.identity.driver.as_str() {
                "amdgpu" => "the driver takes it only when it starts, by its parameter ras_enable",
                _ => "the kernel does not offer it; the card's firmware keeps it",
            })),
            Change::LinkPort => Err(refuse("the kernel shows no links between cards of this device")),
        }
    }

    /// Writes a plan, and tells what the files hold then. When one cannot be written, those before it are put back.
    pub fn apply(&self, plan: &[Write]) -> Result<Vec<Content>, ConfigError> {
        for (number, write) in plan.iter().enumerate() {
            if let Err(source) = self.put(&write.file, &write.value) {
                let before = plan[..number].iter().filter_map(Write::before).collect::<Vec<_>>();
                // What fails here is told by what the device shows afterwards.
                let _ = self.put_back(&before);
                return Err(ConfigError::Write {
                    file: self.path(&write.file),
                    value: write.value.clone(),
                    source,
                });
            }
        }
        let held = |write: &Write| Content { file: self.path(&write.file), value: self.now(&write.file) };
        Ok(plan.iter().map(held).collect())
    }

    /// Puts back what was there before, the last change first. Some files take a value only once another one has
    /// been put back, so all are tried again as long as that helps.
    pub fn put_back(&self, before: &[Content]) -> Result<(), ConfigError> {
        let mut left: Vec<&Content> = before.iter().rev().collect();
        loop {
            let (mut failed, mut last) = (Vec::new(), None);
            for content in &left {
                if let Err(source) = self.put(&content.file, &content.value) {
                    let (file, value) = (self.path(&content.file), content.value.clone());
                    last = Some(ConfigError::Write { file, value, source });
                    failed.push(*content);
                }
            }
            match last {
                None => return Ok(()),
                Some(error) if failed.len() == left.len() => return Err(error),
                Some(_) => left = failed,
            }
        }
    }

    /// What tells this start of the machine from others: a driver that starts anew forgets what was set.
    pub fn boot(root: &Root) -> String {
        root.text("proc/sys/kernel/random/boot_id").unwrap_or_default()
    }

    fn standby(&self, allowed: bool) -> Result<Vec<Write>, ConfigError> {
        let file = "device/power/control";
        if !self.has(file) {
            let reason = "the bus does not say whether the device may sleep";
            return Err(ConfigError::NotOffered { setting: Setting::Standby, reason });
        }
        Ok(vec![self.write(file.to_owned(), if allowed { "auto" } else { "on" })?])
    }

    fn is_nvidia(&self) -> bool {
        self.identity.driver == "nvidia"
    }

    /// NVIDIA's library, and the device's number in it.
    fn library(&self) -> Result<(&Library, u32), Reason> {
        let index = self.identity.path.strip_prefix("nvml/").and_then(|index| index.parse().ok());
        let library = self.root.library().zip(index);
        library.ok_or(Reason::NotOffered("NVIDIA's library is not there"))
    }

    /// What is in a file, or under a name of the library's.
    fn get(&self, file: &str) -> Result<String, Reason> {
        if file.starts_with("nvml:") {
            let (library, index) = self.library()?;
            return library.setting(index, file);
        }
        self.root.read(&self.path(file))
    }

    fn put(&self, file: &str, value: &str) -> io::Result<()> {
        if file.starts_with("nvml:") {
            let (library, index) = self.library().map_err(|reason| io::Error::other(reason.to_string()))?;
            return library.set(index, file, value);
        }
        self.root.write(&self.path(file), value)
    }

    fn path(&self, file: &str) -> String {
        if file.starts_with("nvml:") {
            return file.to_owned();
        }
        format!("{}/{file}", self.card)
    }

    fn has(&self, file: &str) -> bool {
        self.root.has(&self.path(file))
    }

    fn list(&self, folder: &str) -> Vec<String> {
        self.root.list(&self.path(folder))
    }

    fn now(&self, file: &str) -> String {
        self.get(file).unwrap_or_default()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.get(file).ok()?.parse().ok()
    }

    /// What a number was before anybody changed it.
    fn first(&self, file: &str) -> Option<u64> {
        let remembered = self.remembered.iter().find(|content| content.file == file);
        remembered.map_or_else(|| self.number(file), |content| content.value.parse().ok())
    }

    fn write(&self, file: String, value: impl ToString) -> Result<Write, ConfigError> {
        let before = self.get(&file);
        let before = before.map_err(|reason| ConfigError::Before { file: self.path(&file), reason })?;
        Ok(Write { file, value: value.to_string(), before: Some(before) })
    }
}

impl Write {
    /// What puts it back, if it needs that.
    pub fn before(&self) -> Option<Content> {
        Some(Content { file: self.file.clone(), value: self.before.clone()? })
    }
}

/// Whether a number is in a range.
fn within(
    setting: Setting,
    wanted: u64,
    (least, greatest): (u64, u64),
    unit: &'static str,
) -> Result<u64, ConfigError> {
    if (least..=greatest).contains(&wanted) {
        Ok(wanted)
    } else {
        Err(ConfigError::OutOfRange { setting, wanted, least, greatest, unit })
    }
}

/// The entries of a folder that are a word and a number, with the number.
fn numbered(names: Vec<String>, word: &str) -> impl Iterator<Item = (u32, String)> {
    names.into_iter().filter_map(move |name| Some((name.strip_prefix(word)?.parse().ok()?, name)))
}
