//! Trials that compute on a device, done by a process of its own for each.
//!
//! ```text
//!   Bench ──► minka __compute TASK ──► the vendor's library ──► the device
//!     ▲            │ begun, progress …, found or unable: lines of JSON
//!     └────────────┘ a crash, a hang or nonsense ends that process, and is that trial's result
//! ```
//!
//! CUDA's driver and OpenCL are looked for; which of their devices is meant says its PCI address, and nothing else. There
//! is no reference for what a device should reach: a trial is passed or failed by whether results are right, and
//! figures are told without a judgement.

use std::fmt;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use minka_kernel::compute::{Card, ComputeError, Facts, cuda, opencl};
use serde::{Deserialize, Serialize};

use crate::helper::{self, Conversation};
use crate::identity::Identity;

mod trial;

pub use trial::{Figure, Found};

/// The hidden program's name.
pub const COMMAND: &str = "__compute";

/// The program says something at least so often. To load a library and build programs may take longer.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// Beyond the time that a trial is given it takes no longer.
const EXTRA: Duration = Duration::from_secs(150);

/// How often is looked whether somebody wants a trial to end.
const STEP: Duration = Duration::from_millis(100);

/// A way to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// CUDA's driver.
    Cuda,
    /// OpenCL.
    OpenCl,
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    /// Whether it computes at all.
    Function,
    /// How fast it computes.
    Computation,
    /// How fast its memory is.
    Bandwidth,
    /// Whether its memory can be had.
    Allocation,
    /// Whether its memory keeps what is written.
    Errors,
    /// How fast the machine's memory is reached.
    Link,
    /// To be busy for a time.
    Stress,
}

/// A trial that is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Ways to compute, the first that knows the device is taken, and where their libraries are.
    pub runtimes: Vec<(Runtime, String)>,
    /// The device's PCI address; without one it is the machine's processor, which is no accelerator.
    pub address: Option<String>,
    /// What is tried.
    pub trial: Trial,
    /// For how long, where that is a question.
    pub seconds: f64,
    /// No more memory is taken than this.
    pub bytes_max: u64,
    /// Bytes of the device's memory that are in use, where somebody else knows.
    pub used_bytes: u64,
    /// Whether others use the device, so that not nearly all of its memory is to be taken.
    pub is_shared: bool,
}

impl Task {
    /// A trial of a device; `None` for one that is not on a PCI bus.
    pub fn of(identity: &Identity, trial: Trial, seconds: f64, used_bytes: u64) -> Option<Self> {
        const NVIDIA: u16 = 0x10de;
        let pci = identity.pci.as_ref()?;
        let cuda = (pci.vendor_id == NVIDIA).then(|| (Runtime::Cuda, cuda::LIBRARY.to_owned()));
        let opencl = (Runtime::OpenCl, opencl::LIBRARY.to_owned());
        let runtimes = cuda.into_iter().chain([opencl]).collect();
        let address = Some(pci.address.clone());
        Some(Task { runtimes, address, trial, seconds, bytes_max: u64::MAX, used_bytes, is_shared: false })
    }
}

/// What the hidden program says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The device was found.
    Begun(String),
    /// How much has been done, of 1, and how many mistakes there were.
    Progress(f64, u64),
    Found(Found),
    /// Nothing was tried, and why.
    Unable(String),
    /// What failed while it was tried.
    Failed(String),
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It was not done, and why.
    NotDone(String),
    /// It broke off, and why.
    Broken(String),
    /// It was done.
    Found(Found),
    /// Somebody wanted it to end; so many mistakes had there been.
    Stopped(u64),
}

/// Does trials.
#[derive(Clone)]
pub struct Bench {
    program: Arc<dyn Fn() -> Command + Send + Sync>,
    silence: Duration,
}

impl fmt::Debug for Bench {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bench").field("silence", &self.silence).finish_non_exhaustive()
    }
}

impl Default for Bench {
    /// By this program's own hidden one.
    fn default() -> Self {
        Bench::with(|| Command::new("/proc/self/exe"), SILENCE_MAX)
    }
}

impl Bench {
    /// By a program that may be silent for so long.
    pub fn with(program: impl Fn() -> Command + Send + Sync + 'static, silence: Duration) -> Self {
        Bench { program: Arc::new(program), silence }
    }

    /// Does a trial. `watch` is told how much of it has been done, several times a second, and says whether it is to go
    /// on.
    pub fn run(&self, task: &Task, watch: &mut dyn FnMut(f64) -> bool) -> Ended {
        let mut command = (self.program)();
        let Ok(text) = serde_json::to_string(task) else {
            return Ended::NotDone("the trial cannot be told".to_owned());
        };
        // Nothing is to be left in somebody's home.
        command.arg(COMMAND).arg(text).env("CUDA_CACHE_DISABLE", "1");
        let mut conversation = match Conversation::begin(command) {
            Ok(conversation) => conversation,
            Err(error) => return Ended::NotDone(format!("its program does not start: {error}")),
        };
        let until = Instant::now() + Duration::from_secs_f64(task.seconds.clamp(0.0, 86_400.0)) + EXTRA;
        let mut last = Instant::now();
        let (mut begun, mut done, mut mistakes) = (false, 0.0, 0);
        // Before the device was found it is the library that does not do, and not the device.
        let failed = |begun, text: String| if begun { Ended::Broken(text) } else { Ended::NotDone(text) };
        loop {
            if !watch(done) {
                return Ended::Stopped(mistakes);
            }
            let line = match conversation.hear(STEP) {
                Ok(Some(line)) => line,
                Ok(None) if last.elapsed() > self.silence || Instant::now() > until => {
                    let text = format!("no answer within {} s", last.elapsed().as_secs());
                    return failed(begun, text);
                }
                Ok(None) => continue,
                Err(text) => return failed(begun, text),
            };
            last = Instant::now();
            match serde_json::from_slice(&line) {
                Ok(Line::Begun(_)) => begun = true,
                Ok(Line::Progress(share, count)) => (done, mistakes) = (share.clamp(0.0, 1.0), count),
                Ok(Line::Found(found)) => return Ended::Found(found),
                Ok(Line::Unable(text)) => return Ended::NotDone(text.chars().take(400).collect()),
                Ok(Line::Failed(text)) => return Ended::Broken(text.chars().take(400).collect()),
                Err(_) => return failed(begun, "an answer that makes no sense".to_owned()),
            }
        }
    }
}

/// The hidden program: does one trial, and tells how it goes.
pub fn main(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    helper::prepare();
    let task = arguments.next().and_then(|text| serde_json::from_str::<Task>(text.to_str()?).ok());
    let Some(task) = task else { return ExitCode::FAILURE };
    let last = match open(&task) {
        Ok(mut card) => {
            let facts = card.facts();
            say(&Line::Begun(format!("{} ({})", facts.name, facts.runtime)));
            match trial::run(&mut card, &task, &mut |share, count| say(&Line::Progress(share, count))) {
                Ok(found) => Line::Found(found),
                Err(error) if is_lack(&error) => Line::Unable(format!("too little memory is free: {error}")),
                Err(error) => Line::Failed(error.to_string()),
            }
        }
        Err(text) => Line::Unable(text),
    };
    say(&last);
    ExitCode::SUCCESS
}

/// Says a line. When nobody hears any more there is nothing to do.
fn say(line: &Line) {
    let Ok(mut text) = serde_json::to_vec(line) else { return };
    text.push(b'\n');
    let mut stdout = io::stdout().lock();
    if stdout.write_all(&text).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Whether there was not enough memory: `CUDA_ERROR_OUT_OF_MEMORY`, and four that OpenCL has for it.
fn is_lack(error: &ComputeError) -> bool {
    match error {
        ComputeError::Failed(name, number) if name.starts_with("cu") => *number == 2,
        ComputeError::Failed(_, number) => [-4, -5, -6, -61].contains(number),
        _ => false,
    }
}

/// Finds the device, by the first library that knows it.
fn open(task: &Task) -> Result<Card, String> {
    let wanted = |facts: &Facts| match &task.address {
        Some(address) => facts.place.is_some_and(|place| trial::is_at(place, address)),
        None => facts.is_processor,
    };
    let mut reasons = Vec::new();
    for (runtime, library) in &task.runtimes {
        let found = match runtime {
            Runtime::Cuda => cuda::open(library, &wanted),
            Runtime::OpenCl => opencl::open(library, &wanted),
        };
        match found {
            Ok((_, Some(card))) => return Ok(card),
            Ok((count, None)) => reasons.push(format!("{library} knows {count} devices and not this one")),
            Err(ComputeError::NoLibrary(_)) => reasons.push(format!("{library} is not there")),
            Err(error) => reasons.push(format!("{library}: {error}")),
        }
    }
    Err(format!("no compute runtime: {}", reasons.join("; ")))
}
