//! What Level Zero's Sysman adds to what the kernel tells, asked by a process of its own.
//!
//! ```text
//!   Helper ── a thread ── "\n" ──► minka __sysman LIBRARY ── calls ──► the library
//!      │                  ◄── a line of JSON, 64 KiB at most, within two seconds ──┘
//!      │                       anything else: the process is ended, and begun again after 1, 2, 4 … 300 s
//!      └─ told(): the last line ──► Reader, one for each device, which never waits
//! ```
//!
//! The library has been seen to crash, to hang and to tell nonsense; all of that costs its own values only. It tells what
//! no file does: traffic of memory, use of groups of engines, counters of errors.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use minka_kernel::sysman::Sysman;
use serde::{Deserialize, Serialize};

use crate::counter::{Meter, Step};
use crate::device::{Instrument, Moment};
use crate::helper::{self, Conversation};
use crate::metric::Metric;
use crate::value::{Reading, Reason, Value};

/// The hidden program's name.
pub const COMMAND: &str = "__sysman";

/// The library's usual name.
pub const LIBRARY: &str = "libze_loader.so.1";

/// An answer takes no longer; the first one loads the library, and may take so much more.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PATIENCE: Duration = Duration::from_secs(10);

/// Between two questions. The library's makers advise not to ask more often than every 100 ms.
const PACE: Duration = Duration::from_secs(1);

/// Between a process that failed and the next; doubled each time.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(300);

/// After so many answers in a row a process counts as sound.
const ANSWERS_SOUND: u32 = 10;

/// What was told is old after this.
const AGE_MAX: Duration = Duration::from_secs(5);

/// No memory is faster, in bytes per second, and no clock of the library's runs faster against ours.
const TRAFFIC_MAX: f64 = 1e14;

/// What the library tells of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    address: String,
    /// Health, and bytes read and written, greatest bytes per second, time in µs.
    memories: Vec<(u32, Option<[u64; 4]>)>,
    /// Kind, and µs of work, time in µs.
    engines: Vec<(u32, [u64; 2])>,
    /// Kind, and counts.
    errors: Vec<(u32, [u64; 7])>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Devices(Vec<Device>),
    Unable(String),
}

/// The hidden program: asked by lines, it answers by lines.
pub fn main(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    helper::prepare();
    let path =
        arguments.next().and_then(|path| path.into_string().ok()).unwrap_or_else(|| LIBRARY.to_owned());
    let library = Sysman::open(&path);
    for line in io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        let told = library.as_ref().map_err(Clone::clone).and_then(Sysman::devices);
        let answer = match told {
            Ok(devices) => Answer::Devices(devices.into_iter().map(Device::from).collect()),
            Err(error) => Answer::Unable(error.to_string()),
        };
        let Ok(mut line) = serde_json::to_vec(&answer) else { break };
        line.push(b'\n');
        if io::stdout().write_all(&line).and_then(|()| io::stdout().flush()).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

impl From<minka_kernel::sysman::Device> for Device {
    fn from(device: minka_kernel::sysman::Device) -> Self {
        Device {
            address: device.address,
            memories: device.memories.into_iter().map(|memory| (memory.health, memory.traffic)).collect(),
            engines: device.engines.into_iter().map(|engines| (engines.kind, engines.active)).collect(),
            errors: device.errors.into_iter().map(|errors| (errors.kind, errors.counts)).collect(),
        }
    }
}

/// Whoever asks the hidden program, and what was told last.
#[derive(Debug, Clone)]
pub struct Helper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    what: Result<Arc<Vec<Device>>, Reason>,
    restarts: u32,
}

impl Helper {
    /// Has a library asked by this program's own hidden one.
    pub fn start(library: &Path) -> Self {
        let library = library.to_owned();
        Helper::start_with(move || {
            let mut command = Command::new("/proc/self/exe");
            command.arg(COMMAND).arg(&library);
            command
        })
    }

    /// The same with a program of somebody else's.
    pub fn start_with(program: impl Fn() -> Command + Send + 'static) -> Self {
        let what = Err(Reason::Unknown("Level Zero has not answered yet"));
        let shared = Arc::new(Shared { told: Mutex::new(Told { at: Instant::now(), what, restarts: 0 }) });
        let watched = Arc::downgrade(&shared);
        let started = std::thread::Builder::new()
            .name("xpu-sysman".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || keep_asking(&watched, &program));
        if let Err(error) = started {
            tracing::error!(%error, "a thread for Level Zero could not be started");
        }
        Helper { shared }
    }

    /// What a device's reader asks.
    pub fn reader(&self, address: &str) -> Reader {
        Reader { helper: self.clone(), address: address.to_owned(), meters: Vec::new(), last: None }
    }

    /// How often the program had to be begun again.
    pub fn restarts(&self) -> u32 {
        self.shared.told.lock().unwrap_or_else(PoisonError::into_inner).restarts
    }

    fn told(&self) -> Result<(Instant, Arc<Vec<Device>>), Reason> {
        let told = self.shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        let devices = told.what.clone()?;
        if told.at.elapsed() > AGE_MAX {
            return Err(Reason::Silent(told.at.elapsed().as_secs()));
        }
        Ok((told.at, devices))
    }
}

fn keep_asking(shared: &Weak<Shared>, program: &dyn Fn() -> Command) {
    let mut rest = REST;
    let tell = |what: Result<Arc<Vec<Device>>, Reason>, restarts: u32| match shared.upgrade() {
        Some(shared) => {
            let mut told = shared.told.lock().unwrap_or_else(PoisonError::into_inner);
            (told.at, told.what) = (Instant::now(), what);
            told.restarts = told.restarts.saturating_add(restarts);
            true
        }
        None => false,
    };
    loop {
        let mut answers = 0;
        let failure = match Conversation::begin(program()) {
            Ok(mut conversation) => loop {
                match ask(&mut conversation, if answers == 0 { FIRST_PATIENCE } else { PATIENCE }) {
                    Ok(Answer::Devices(devices)) => {
                        answers += 1;
                        if !tell(Ok(Arc::new(devices)), 0) {
                            return;
                        }
                        std::thread::sleep(PACE);
                    }
                    Ok(Answer::Unable(text)) => break text.chars().take(200).collect(),
                    Err(text) => break text,
                }
            },
            Err(error) => format!("its program does not start: {error}"),
        };
        if answers >= ANSWERS_SOUND {
            rest = REST;
        }
        tracing::debug!(failure, "Level Zero");
        let until = Instant::now() + rest;
        if !tell(Err(Reason::Failed(format!("Level Zero: {failure}").into())), 1) {
            return;
        }
        while Instant::now() < until {
            if shared.strong_count() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(100).min(rest));
        }
        rest = (rest * 2).min(REST_MAX);
    }
}

/// Asks what the library tells now.
fn ask(conversation: &mut Conversation, patience: Duration) -> Result<Answer, String> {
    conversation.say("")?;
    let line = conversation.hear(patience)?;
    let line = line.ok_or_else(|| format!("no answer within {} s", patience.as_secs()))?;
    serde_json::from_slice(&line).map_err(|_| "an answer that makes no sense".to_owned())
}

/// A device's part of what is told.
#[derive(Debug)]
pub struct Reader {
    helper: Helper,
    address: String,
    meters: Vec<((Metric, String), Meter)>,
    /// The last readings and when they were told, for samples that come more often.
    last: Option<(Instant, Vec<Reading>)>,
}

impl Reader {
    /// The rate of a counter, by a time of its own in µs.
    fn rate(
        &mut self,
        metric: Metric,
        place: &str,
        value: u64,
        at_us: u64,
        most: f64,
    ) -> Result<f64, Reason> {
        let key = (metric, place.to_owned());
        if !self.meters.iter().any(|(known, _)| *known == key) {
            self.meters.push((key.clone(), Meter::default()));
        }
        let meter = self.meters.iter_mut().find(|(known, _)| *known == key);
        let step = meter.map(|(_, meter)| meter.observe(value as f64, at_us as f64 / 1e6, most));
        match step {
            Some(Step::Rate(rate)) => Ok(rate),
            Some(Step::Back) => Err(Reason::LeftOut("the counter stepped back")),
            Some(Step::Jump) => Err(Reason::LeftOut("the counter jumped")),
            _ => Err(Reason::NeedsSecondSample),
        }
    }

    fn conclude(&mut self, device: &Device) -> Vec<Reading> {
        let mut readings = Vec::new();
        let mut add = |metric, location: &str, source: &str, value: Result<Value, Reason>| {
            readings.push(Reading { metric, location: location.into(), value, source: source.into() });
        };
        for (number, (health, traffic)) in device.memories.iter().enumerate() {
            let place = format!("memory {number}");
            let health = match health {
                1 => Ok("ok"),
                2 => Ok("degraded"),
                3 => Ok("critical"),
                4 => Ok("to be replaced"),
                _ => Err(Reason::Unknown("the library does not know")),
            };
            let health = health.map(|text| Value::Text(text.into()));
            add(Metric::Property, &format!("{place} health"), "zesMemoryGetState", health);
            let Some([read, written, most, at]) = *traffic else { continue };
            let read = self.rate(Metric::MemoryRead, &place, read, at, TRAFFIC_MAX);
            let written = self.rate(Metric::MemoryWritten, &place, written, at, TRAFFIC_MAX);
            let share = read.clone().and_then(|read| {
                let (share, most) = (read + written.clone()?, most as f64);
                let sensible = most > 0.0 && share <= most * 1.05;
                let doubt = || Reason::Implausible(format!("{share:.0} of {most:.0} B/s").into());
                if sensible { Ok((share * 100.0 / most).min(100.0)) } else { Err(doubt()) }
            });
            let source = "zesMemoryGetBandwidth";
            add(Metric::MemoryRead, &place, source, read.map(Value::Number));
            add(Metric::MemoryWritten, &place, source, written.map(Value::Number));
            add(Metric::MemoryBandwidthUtilization, &place, source, share.map(Value::Number));
        }
        let mut seen = Vec::new();
        for (kind, [active, at]) in &device.engines {
            let name = match kind {
                0 => "all engines",
                1 => "all compute engines",
                2 => "all media engines",
                3 => "all copy engines",
                // Single engines the kernel counts itself.
                _ => continue,
            };
            let again = seen.iter().filter(|known| *known == kind).count();
            seen.push(*kind);
            let place = if again == 0 { name.to_owned() } else { format!("{name} {again}") };
            // µs of work per second.
            let share = self.rate(Metric::EngineUtilization, &place, *active, *at, 1.05e6);
            let share = share.map(|rate| Value::Number((rate / 1e4).min(100.0)));
            add(Metric::EngineUtilization, &place, "zesEngineGetActivity", share);
        }
        for (kind, counts) in &device.errors {
            let word = if *kind == 0 { "corrected" } else { "uncorrected" };
            let names =
                ["resets", "programming", "driver", "compute", "non-compute", "cache", "display"].iter();
            for (name, count) in names.zip(counts) {
                // What an unsigned number says of something below nothing.
                let sensible = *count < 1 << 48;
                let doubt = || Reason::Implausible(count.to_string().into());
                let value = if sensible { Ok(Value::Number(*count as f64)) } else { Err(doubt()) };
                add(Metric::Errors, &format!("{word} {name}"), "zesRasGetState", value);
            }
        }
        readings
    }
}

impl Instrument for Reader {
    fn read(&mut self, _: bool, _: Moment) -> Vec<Reading> {
        let told = self.helper.told();
        let device = told.and_then(|(at, devices)| {
            let device = devices.iter().find(|device| device.address == self.address).cloned();
            Ok((at, device.ok_or(Reason::NotOffered("Level Zero does not know this device"))?))
        });
        match device {
            Ok((at, _)) if self.last.as_ref().is_some_and(|(last, _)| *last == at) => {
                self.last.as_ref().map(|(_, readings)| readings.clone()).unwrap_or_default()
            }
            Ok((at, device)) => {
                let readings = self.conclude(&device);
                self.last = Some((at, readings.clone()));
                readings
            }
            Err(reason) => {
                self.last = None;
                let (location, source) = ("Level Zero".into(), "".into());
                vec![Reading {
                    metric: Metric::MemoryBandwidthUtilization,
                    location,
                    value: Err(reason),
                    source,
                }]
            }
        }
    }
}

/// The library that somebody named, or the usual one.
pub fn library(path: Option<PathBuf>) -> PathBuf {
    path.unwrap_or_else(|| LIBRARY.into())
}
