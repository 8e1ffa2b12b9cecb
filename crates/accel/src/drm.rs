//! What Intel's drivers answer about a device's memory and engines when its device file is asked.
//!
//! ```text
//!   Inquiry ── is the device awake? ── no ──► not asked: the question alone would wake it
//!      │ yes
//!      ▼ Ask::ask(question)                   the device file, opened for this and closed again: whoever has it
//!   bytes ──► i915 | xe ──► Region, Engine    open counts as a user of the device
//!      ▼
//!   readings
//! ```
//!
//! How much memory there is everybody may know. How much is in use the kernel tells only with CAP_PERFMON; without it
//! i915 says that all is free and xe that nothing is used, and neither is believed.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use minka_kernel::drm::{self as kernel, Question};

use crate::device::{Instrument, Moment};
use crate::identity::Identity;
use crate::metric::Metric;
use crate::root::Root;
use crate::value::{Reading, Reason, Value};

mod i915;
mod xe;

/// No device has more regions or engines.
const RECORDS_MAX: usize = 256;

/// Whoever answers questions about a device.
pub trait Ask: Send + fmt::Debug {
    /// The bytes of the answer.
    fn ask(&mut self, question: Question) -> io::Result<Vec<u8>>;

    /// Whatever was opened for a row of questions is not needed any more.
    fn rest(&mut self) {}
}

/// The device file itself.
#[derive(Debug)]
struct DeviceFile {
    path: String,
    file: Option<File>,
}

impl Ask for DeviceFile {
    fn ask(&mut self, question: Question) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            self.file = Some(File::open(&self.path)?);
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        kernel::ask(file.as_fd(), question)
    }

    fn rest(&mut self) {
        self.file = None;
    }
}

/// Memory that a device can use.
#[derive(Debug, Clone, PartialEq)]
struct Region {
    /// The device's own, and not the host's.
    own: bool,
    size: u64,
    used: Result<u64, Reason>,
    /// The part that the host sees, and what of that is used; `None` where the driver does not tell.
    seen: Option<(u64, Result<u64, Reason>)>,
}

impl Region {
    /// The same when nobody may be asked how much of it is used.
    fn hidden(&self, reason: &Reason) -> Self {
        let seen = self.seen.as_ref().map(|(size, _)| (*size, Err(reason.clone())));
        Region { used: Err(reason.clone()), seen, ..*self }
    }
}

/// An engine of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Engine {
    /// The part that it is in, if the driver tells.
    part: Option<u16>,
    class: u16,
    instance: u16,
}

impl Engine {
    /// Its name, as the drivers write it.
    fn name(self) -> String {
        let class = match self.class {
            0 => "rcs",
            1 => "bcs",
            2 => "vcs",
            3 => "vecs",
            4 => "ccs",
            _ => "other",
        };
        format!("{class}{}", self.instance)
    }
}

/// A device's driver under questions.
#[derive(Debug)]
pub struct Inquiry {
    ask: Box<dyn Ask>,
    driver: Driver,
    source: Arc<str>,
    sleep: Option<(Root, String)>,
    known: Option<Vec<Region>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    I915,
    Xe,
}

impl Inquiry {
    /// Questions to a device's file; `None` where its driver takes none of them.
    pub fn of(root: &Root, identity: &Identity) -> Option<Self> {
        let path = identity.device_file.clone().unwrap_or_else(|| "/dev/dri/renderD*".to_owned());
        let mut inquiry = Inquiry::with(&identity.driver, Box::new(DeviceFile { path, file: None }))?;
        inquiry.source = identity.device_file.as_deref().unwrap_or_default().trim_start_matches('/').into();
        inquiry.sleep = Some((root.clone(), format!("{}/power/runtime_status", identity.path)));
        Some(inquiry)
    }

    /// Questions to somebody else, as that driver takes them.
    pub fn with(driver: &str, ask: Box<dyn Ask>) -> Option<Self> {
        let driver = match driver {
            "i915" => Driver::I915,
            "xe" => Driver::Xe,
            _ => return None,
        };
        Some(Inquiry { ask, driver, source: "device file".into(), sleep: None, known: None })
    }

    fn sleeps(&self) -> bool {
        let state = self.sleep.as_ref().and_then(|(root, path)| root.text(path));
        state.is_some_and(|state| state == "suspended")
    }

    fn put(&mut self, question: Question) -> Result<Vec<u8>, Reason> {
        self.ask.ask(question).map_err(|error| Reason::of(&self.source, &error))
    }

    fn memory(&mut self) -> Result<Vec<Region>, Reason> {
        match self.driver {
            Driver::I915 => i915::regions(&self.put(Question::I915(i915::MEMORY_REGIONS))?),
            Driver::Xe => xe::regions(&self.put(Question::Xe(xe::MEMORY_REGIONS))?),
        }
    }

    fn engines(&mut self) -> Result<Vec<Engine>, Reason> {
        match self.driver {
            Driver::I915 => i915::engines(&self.put(Question::I915(i915::ENGINE_INFO))?),
            Driver::Xe => xe::engines(&self.put(Question::Xe(xe::ENGINES))?),
        }
    }

    fn reading(&self, metric: Metric, location: &str, value: Result<Value, Reason>) -> Reading {
        Reading { metric, location: location.into(), value, source: Arc::clone(&self.source) }
    }

    fn amount(&self, metric: Metric, location: &str, value: Result<u64, Reason>) -> Reading {
        self.reading(metric, location, value.map(|bytes| Value::Number(bytes as f64)))
    }

    fn property(&self, location: &str, value: Result<String, Reason>) -> Reading {
        self.reading(Metric::Property, location, value.map(|text| Value::Text(text.into())))
    }

    fn show_memory(&self, regions: &[Region], readings: &mut Vec<Reading>) {
        let own: Vec<&Region> = regions.iter().filter(|region| region.own).collect();
        if own.is_empty() {
            let none = Reason::NotOffered("the device has no memory of its own");
            readings.push(self.amount(Metric::MemoryTotal, "vram", Err(none.clone())));
            readings.push(self.amount(Metric::MemoryUsed, "vram", Err(none)));
        } else {
            let size = own.iter().map(|region| region.size).fold(0, u64::saturating_add);
            readings.push(self.amount(Metric::MemoryTotal, "vram", Ok(size)));
            let used = sum(own.iter().map(|region| region.used.clone()));
            readings.push(self.amount(Metric::MemoryUsed, "vram", used));
        }
        for (number, region) in own.iter().enumerate().filter(|_| own.len() > 1) {
            let name = format!("vram{number}");
            readings.push(self.amount(Metric::MemoryTotal, &name, Ok(region.size)));
            readings.push(self.amount(Metric::MemoryUsed, &name, region.used.clone()));
        }
        let seen: Option<Vec<_>> = own.iter().map(|region| region.seen.clone()).collect();
        if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
            let size = seen.iter().map(|(size, _)| *size).fold(0, u64::saturating_add);
            let place = "vram seen by the host";
            readings.push(self.amount(Metric::MemoryTotal, place, Ok(size)));
            let used = sum(seen.into_iter().map(|(_, used)| used));
            readings.push(self.amount(Metric::MemoryUsed, place, used));
        }
        for region in regions.iter().filter(|region| !region.own) {
            readings.push(self.amount(Metric::MemoryTotal, "system", Ok(region.size)));
            readings.push(self.amount(Metric::MemoryUsed, "system", region.used.clone()));
        }
    }

    fn show_engines(&mut self, readings: &mut Vec<Reading>) {
        let parts = match self.driver {
            Driver::Xe => self.put(Question::Xe(xe::GT_LIST)).and_then(|answer| xe::parts(&answer)),
            Driver::I915 => Ok(Vec::new()),
        };
        let parts = parts.unwrap_or_default();
        for part in &parts {
            let name = part.name();
            readings.push(self.property(&format!("{name} kind"), Ok(part.kind().to_owned())));
            readings.push(self.property(&format!("{name} clock of its timestamps"), part.clock()));
            readings.extend(part.version().map(|text| self.property(&format!("{name} version"), Ok(text))));
        }
        let engines = match self.engines() {
            Ok(engines) => engines,
            Err(reason) => return readings.push(self.property("engines", Err(reason))),
        };
        let mut places: Vec<Option<u16>> = engines.iter().map(|engine| engine.part).collect();
        places.dedup();
        for place in places {
            let part = parts.iter().find(|part| Some(part.id) == place);
            let location = match (part, place) {
                (Some(part), _) => format!("{} engines", part.name()),
                (None, Some(id)) => format!("gt{id} engines"),
                (None, None) => "engines".to_owned(),
            };
            let names = engines.iter().filter(|engine| engine.part == place).map(|engine| engine.name());
            readings.push(self.property(&location, Ok(names.collect::<Vec<_>>().join(" "))));
        }
    }

    fn show_configuration(&mut self, readings: &mut Vec<Reading>) {
        if self.driver != Driver::Xe {
            return;
        }
        match self.put(Question::Xe(xe::CONFIG)).and_then(|answer| xe::configuration(&answer)) {
            Ok(facts) => {
                readings.extend(facts.into_iter().map(|(name, text)| self.property(name, Ok(text))));
            }
            Err(reason) => readings.push(self.property("configuration", Err(reason))),
        }
    }
}

impl Instrument for Inquiry {
    fn read(&mut self, settings: bool, _: Moment) -> Vec<Reading> {
        let mut readings = Vec::new();
        let sleep = Reason::Unknown("the device sleeps, and a question would wake it");
        let asleep = self.sleeps();
        let memory = match (asleep, &self.known) {
            (true, Some(known)) => Ok(known.iter().map(|region| region.hidden(&sleep)).collect()),
            (true, None) => Err(sleep),
            (false, _) => self.memory(),
        };
        match memory {
            Ok(regions) => {
                self.show_memory(&regions, &mut readings);
                self.known = Some(regions);
            }
            Err(reason) => {
                readings.push(self.amount(Metric::MemoryTotal, "", Err(reason.clone())));
                readings.push(self.amount(Metric::MemoryUsed, "", Err(reason)));
                self.ask.rest();
                return readings;
            }
        }
        if settings && !asleep {
            self.show_engines(&mut readings);
            self.show_configuration(&mut readings);
        }
        self.ask.rest();
        readings
    }
}

/// The sum of numbers that are all known.
fn sum(numbers: impl Iterator<Item = Result<u64, Reason>>) -> Result<u64, Reason> {
    numbers.into_iter().try_fold(0_u64, |sum, number| Ok(sum.saturating_add(number?)))
}

/// The records of an answer: their number stands first, then, after a header, they themselves.
fn records(answer: &[u8], header: usize, size: usize) -> Result<Vec<&[u8]>, Reason> {
    let malformed = || Reason::Malformed(format!("an answer of {} bytes", answer.len()).into());
    let count = u32_at(answer, 0).ok_or_else(malformed)? as usize;
    if count > RECORDS_MAX {
        return Err(malformed());
    }
    let records = answer.get(header..header + count * size).ok_or_else(malformed)?;
    Ok(records.chunks_exact(size).collect())
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes_at(bytes, offset).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes_at(bytes, offset).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes_at(bytes, offset).map(u64::from_ne_bytes)
}

/// Why the use of memory is not known although the driver wrote a number.
fn unprivileged() -> Reason {
    Reason::NotOffered("the kernel tells it only with CAP_PERFMON")
}

#[cfg(test)]
mod tests;
