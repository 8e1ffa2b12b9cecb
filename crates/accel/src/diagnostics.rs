//! Whether a device can be worked with, as XPU Manager's diagnostics ask on three levels.
//!
//! Environment, libraries, rights, other users and sensors take no library. What computes on the device is done where
//! CUDA's driver or OpenCL knows it ([`compute`](crate::compute)); otherwise each such test says why not, and its result
//! is unknown, never passed. What was measured is shown without a judgement: there is no reference.

use std::path::Path;

use rustix::fs::Access;
use serde::Serialize;

use crate::compute::{Bench, Ended, Figure, Found, Task, Trial};
use crate::device::Sample;
use crate::health::{Health, State};
use crate::identity::Identity;
use crate::metric::Metric;
use crate::process;
use crate::root::Root;

/// How a test came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It was not done.
    #[serde(rename = "Unknown")]
    Unknown,
    /// All is well.
    #[serde(rename = "Pass")]
    Pass,
    /// Something is not.
    #[serde(rename = "Fail")]
    Fail,
}

/// A test and how it came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Component {
    /// XPU Manager's name of the test.
    #[serde(rename = "component_type")]
    pub name: &'static str,
    /// How it came out.
    pub result: Outcome,
    /// In words: what was found, or what the test lacks.
    pub message: String,
    /// What was measured.
    pub figures: Vec<Figure>,
}

/// The tests of each level, besides those before it.
const LEVELS: [&[&str]; 3] = [
    &[
        "XPUM_DIAG_SOFTWARE_ENV_VARIABLES",
        "XPUM_DIAG_SOFTWARE_LIBRARY",
        "XPUM_DIAG_SOFTWARE_PERMISSION",
        "XPUM_DIAG_SOFTWARE_EXCLUSIVE",
        "XPUM_DIAG_LIGHT_COMPUTATION",
    ],
    &["XPUM_DIAG_HARDWARE_SYSMAN", "XPUM_DIAG_INTEGRATION_PCIE", "XPUM_DIAG_MEDIA_CODEC"],
    &[
        "XPUM_DIAG_PERFORMANCE_COMPUTATION",
        "XPUM_DIAG_PERFORMANCE_POWER",
        "XPUM_DIAG_PERFORMANCE_MEMORY_BANDWIDTH",
        "XPUM_DIAG_PERFORMANCE_MEMORY_ALLOCATION",
        "XPUM_DIAG_MEMORY_ERROR",
        "XPUM_DIAG_XE_LINK_THROUGHPUT",
    ],
];

/// XPU Manager's tests by number.
const SINGLES: [&str; 9] = [
    "XPUM_DIAG_PERFORMANCE_COMPUTATION",
    "XPUM_DIAG_MEMORY_ERROR",
    "XPUM_DIAG_PERFORMANCE_MEMORY_BANDWIDTH",
    "XPUM_DIAG_MEDIA_CODEC",
    "XPUM_DIAG_INTEGRATION_PCIE",
    "XPUM_DIAG_PERFORMANCE_POWER",
    "XPUM_DIAG_LIGHT_COMPUTATION",
    "XPUM_DIAG_LIGHT_CODEC",
    "XPUM_DIAG_XE_LINK_THROUGHPUT",
];

/// For so long a device is kept busy while its power is watched.
const POWER_SECONDS: f64 = 6.0;

/// The tests of a level from 1 to 3, and of those before it.
pub fn of_level(level: u8) -> Vec<&'static str> {
    LEVELS.iter().take(level.into()).flat_map(|level| level.iter().copied()).collect()
}

/// The test of a number from 1 to 9.
pub fn of_number(number: u8) -> Option<&'static str> {
    SINGLES.get(usize::from(number).checked_sub(1)?).copied()
}

/// Variables that hide devices from programs, or change what those are told.
const VARIABLES: &[&str] = &[
    "ZE_AFFINITY_MASK",
    "ONEAPI_DEVICE_SELECTOR",
    "SYCL_DEVICE_FILTER",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
];

/// Folders in which libraries lie.
const FOLDERS: &[&str] = &[
    "usr/lib/x86_64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "lib/x86_64-linux-gnu",
    "usr/local/lib",
    "usr/local/lib/x86_64-linux-gnu",
    "usr/local/cuda/lib64",
    "opt/rocm/lib",
];

/// Libraries by which programs compute, by the vendor's number.
const LIBRARIES: &[(u16, &[&str])] = &[
    (0x8086, &["libze_loader.so.1", "libze_intel_gpu.so.1"]),
    (0x1002, &["libhsa-runtime64.so.1", "libamdhip64.so"]),
    (0x10de, &["libcuda.so.1", "libnvidia-ml.so.1"]),
];

/// What is known of a device that is to be diagnosed.
#[derive(Debug)]
pub struct Patient<'a> {
    /// The tree that it is in.
    pub root: &'a Root,
    /// Its last sample.
    pub sample: &'a Sample,
    /// How it is.
    pub health: &'a Health,
    /// The value of an environment variable.
    pub variable: fn(&str) -> Option<String>,
    /// What computes on it; nothing where it is a recording.
    pub clinic: Option<Clinic<'a>>,
}

/// What it takes to compute on a device.
#[derive(Clone, Copy)]
pub struct Clinic<'a> {
    /// Who does it.
    pub bench: &'a Bench,
    /// The device's power at the moment, in watts.
    pub watts: &'a dyn Fn() -> Option<f64>,
}

impl std::fmt::Debug for Clinic<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Clinic").field("bench", &self.bench).finish_non_exhaustive()
    }
}

/// Told which test is being done and how much of it has been, of 1; says whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(&'static str, f64) -> bool;

/// Does tests.
pub fn run(patient: &Patient<'_>, tests: &[&'static str], watch: Watch<'_>) -> Vec<Component> {
    let mut components = Vec::new();
    for name in tests {
        if !watch(name, 0.0) {
            break;
        }
        components.push(match trial(name) {
            Some(trial) => compute(patient, name, trial, watch),
            None => {
                let (result, message) = test(patient, name);
                Component { name, result, message, figures: Vec::new() }
            }
        });
    }
    components
}

/// Whether a test computes on the device.
pub fn computes(name: &str) -> bool {
    trial(name).is_some()
}

/// What a test computes, if it does.
fn trial(name: &str) -> Option<Trial> {
    match name {
        "XPUM_DIAG_LIGHT_COMPUTATION" => Some(Trial::Function),
        "XPUM_DIAG_INTEGRATION_PCIE" => Some(Trial::Link),
        "XPUM_DIAG_PERFORMANCE_COMPUTATION" => Some(Trial::Computation),
        "XPUM_DIAG_PERFORMANCE_POWER" => Some(Trial::Stress),
        "XPUM_DIAG_PERFORMANCE_MEMORY_BANDWIDTH" => Some(Trial::Bandwidth),
        "XPUM_DIAG_PERFORMANCE_MEMORY_ALLOCATION" => Some(Trial::Allocation),
        "XPUM_DIAG_MEMORY_ERROR" => Some(Trial::Errors),
        _ => None,
    }
}

fn compute(patient: &Patient<'_>, name: &'static str, trial: Trial, watch: Watch<'_>) -> Component {
    let component = |result, message, figures| Component { name, result, message, figures };
    let not_done = |why: &str| component(Outcome::Unknown, format!("not done: {why}"), Vec::new());
    let Some(clinic) = patient.clinic else {
        return not_done("a recorded device computes nothing");
    };
    let used = patient.sample.memory_used().unwrap_or(0.0) as u64;
    let Some(mut task) = Task::of(&patient.sample.identity, trial, POWER_SECONDS, used) else {
        return not_done("the device is not on a PCI bus");
    };
    if matches!(trial, Trial::Allocation | Trial::Errors) {
        let users = process::list(patient.root).0;
        task.is_shared = users.iter().any(|user| Some(&user.pci_address) == task.address.as_ref());
    }
    let mut watts: Option<f64> = None;
    let ended = clinic.bench.run(&task, &mut |done| {
        if trial == Trial::Stress {
            watts = watts.into_iter().chain((clinic.watts)()).reduce(f64::max);
        }
        watch(name, done)
    });
    match ended {
        Ended::NotDone(why) => not_done(&why),
        Ended::Stopped(_) => not_done("it was stopped"),
        Ended::Broken(why) => component(Outcome::Fail, why, Vec::new()),
        Ended::Found(Found { right: false, words, figures }) => component(Outcome::Fail, words, figures),
        Ended::Found(Found { words, mut figures, .. }) => {
            let (result, words) = match trial {
                Trial::Link => (Outcome::Pass, words + &link(patient.sample)),
                Trial::Stress => match watts {
                    Some(watts) => {
                        let unit = "W".to_owned();
                        figures.push(Figure { name: "greatest power".to_owned(), value: watts, unit });
                        (Outcome::Pass, format!("at most {watts:.0} W; no reference; {words}"))
                    }
                    None => (Outcome::Unknown, format!("not done: it tells no power; {words}")),
                },
                _ => (Outcome::Pass, words),
            };
            component(result, words, figures)
        }
    }
}

/// What the link carries at most, where it is known: each lane's transfers are bits, of which 128 of 130 (before
/// 8 GT/s 8 of 10) are content.
fn link(sample: &Sample) -> String {
    let speed = sample.number(Metric::LinkSpeed, &[""]);
    let Some((speed, width)) = speed.zip(sample.number(Metric::LinkWidth, &[""])) else {
        return String::new();
    };
    let share = if speed < 8.0 { 0.8 } else { 128.0 / 130.0 };
    format!("; its link carries {:.1} GB/s at most", speed * width * share / 8.0)
}

/// How all tests together came out: failed if one did, unknown if one was not done.
pub fn verdict(components: &[Component]) -> Outcome {
    let any = |outcome| components.iter().any(|component| component.result == outcome);
    if any(Outcome::Fail) {
        Outcome::Fail
    } else if any(Outcome::Unknown) {
        Outcome::Unknown
    } else {
        Outcome::Pass
    }
}

fn test(patient: &Patient<'_>, name: &str) -> (Outcome, String) {
    match name {
        "XPUM_DIAG_SOFTWARE_ENV_VARIABLES" => environment(patient.variable),
        "XPUM_DIAG_SOFTWARE_LIBRARY" => libraries(patient.root, &patient.sample.identity),
        "XPUM_DIAG_SOFTWARE_PERMISSION" => permission(patient.root, &patient.sample.identity),
        "XPUM_DIAG_SOFTWARE_EXCLUSIVE" => exclusive(patient.root, &patient.sample.identity),
        "XPUM_DIAG_HARDWARE_SYSMAN" => sensors(patient.sample, patient.health),
        "XPUM_DIAG_XE_LINK_THROUGHPUT" => {
            (Outcome::Unknown, "not done: the kernel shows no links between cards of this device".to_owned())
        }
        _ => (
            Outcome::Unknown,
            "not done: it takes a media runtime, which this program does not use".to_owned(),
        ),
    }
}

fn environment(variable: fn(&str) -> Option<String>) -> (Outcome, String) {
    let set: Vec<String> =
        VARIABLES.iter().filter_map(|name| Some(format!("{name}={}", variable(name)?))).collect();
    if set.is_empty() {
        (Outcome::Pass, "no variable hides devices from programs".to_owned())
    } else {
        (Outcome::Fail, format!("devices may be hidden from programs by {}", set.join(", ")))
    }
}

fn libraries(root: &Root, identity: &Identity) -> (Outcome, String) {
    let vendor = identity.pci.as_ref().map(|pci| pci.vendor_id);
    let Some((_, wanted)) = LIBRARIES.iter().find(|(of, _)| Some(*of) == vendor) else {
        return (Outcome::Unknown, "not done: the libraries of this vendor are not known".to_owned());
    };
    let there = |name: &&&str| FOLDERS.iter().any(|folder| root.has(&format!("{folder}/{name}")));
    let missing: Vec<&str> = wanted.iter().filter(|name| !there(name)).copied().collect();
    if missing.is_empty() {
        (Outcome::Pass, format!("found {}", wanted.join(", ")))
    } else {
        (Outcome::Fail, format!("programs that compute do not find {}", missing.join(", ")))
    }
}

fn permission(root: &Root, identity: &Identity) -> (Outcome, String) {
    let Some(file) = identity.device_file.as_deref() else {
        return (Outcome::Unknown, "not done: the device has no file for programs that compute".to_owned());
    };
    let path = root.locate(file.trim_start_matches('/'));
    let Some(path) = path.filter(|path| path.exists()) else {
        return (Outcome::Fail, format!("{file} is not there"));
    };
    match rustix::fs::access(Path::new(&path), Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => (Outcome::Pass, format!("{file} may be read and written")),
        Err(error) => (Outcome::Fail, format!("{file} may not be read and written: {error}")),
    }
}

fn exclusive(root: &Root, identity: &Identity) -> (Outcome, String) {
    let Some(pci) = &identity.pci else {
        return (Outcome::Unknown, "not done: the device is not on a PCI bus".to_owned());
    };
    let (processes, hidden) = process::list(root);
    let users = processes.iter().filter(|process| process.pci_address == pci.address);
    let users: Vec<String> =
        users.map(|process| format!("{} ({})", process.process_id, process.process_name)).collect();
    if !users.is_empty() {
        return (Outcome::Fail, format!("it is used by {}", users.join(", ")));
    }
    // Of its own devices NVIDIA's library knows all users.
    let all_known = identity.driver == "nvidia" && root.library().is_some();
    if hidden > 0 && !all_known {
        let message =
            format!("{hidden} processes of others could not be looked into: that takes CAP_SYS_PTRACE");
        return (Outcome::Unknown, message);
    }
    (Outcome::Pass, "no process uses it".to_owned())
}

/// Whether the device tells how it is, and is well.
fn sensors(sample: &Sample, health: &Health) -> (Outcome, String) {
    if sample.gone {
        return (Outcome::Fail, "the device is gone".to_owned());
    }
    let known =
        |metric| sample.readings.iter().any(|reading| reading.metric == metric && reading.number().is_some());
    let metrics = [Metric::Temperature, Metric::Frequency, Metric::Power];
    let told: Vec<&str> =
        metrics.iter().filter(|metric| known(**metric)).map(|metric| metric.name()).collect();
    match health.state {
        _ if told.is_empty() => {
            (Outcome::Fail, "it tells neither temperature nor clock nor power".to_owned())
        }
        State::Critical => {
            let bad = health.checks.iter().filter(|check| check.state == State::Critical);
            let bad: Vec<&str> = bad.map(|check| check.description.as_str()).collect();
            (Outcome::Fail, bad.join("; "))
        }
        _ => (Outcome::Pass, format!("it tells {}", told.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Recording;
    use crate::health::Judge;
    use crate::{Moment, discovery};

    fn plant(name: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        Recording::named(name).unwrap().plant(directory.path()).unwrap();
        directory
    }

    fn examine(
        directory: &tempfile::TempDir,
        level: u8,
        variable: fn(&str) -> Option<String>,
    ) -> Vec<Component> {
        let root = Root::at(directory.path());
        let mut device = discovery::discover(&root).devices.remove(0);
        let sample = device.sample(Moment(0.0));
        let health = Judge::default().judge(&sample);
        let patient = Patient { root: &root, sample: &sample, health: &health, variable, clinic: None };
        run(&patient, &of_level(level), &mut |_, _| true)
    }

    fn of<'a>(components: &'a [Component], name: &str) -> (Outcome, &'a str) {
        let component = components.iter().find(|component| component.name.ends_with(name)).unwrap();
        (component.result, component.message.as_str())
    }

    #[test]
    fn what_is_not_done_never_passes() {
        let directory = plant("b580_6_16");
        for (level, count) in [(1, 5), (2, 8), (3, 14)] {
            let components = examine(&directory, level, |_| None);
            assert_eq!(components.len(), count);
            for component in components.iter().filter(|component| component.message.starts_with("not done")) {
                assert_eq!(component.result, Outcome::Unknown, "{component:?}");
            }
            assert_ne!(verdict(&components), Outcome::Pass);
        }
        assert_eq!(of(&examine(&directory, 2, |_| None), "SYSMAN").0, Outcome::Pass);
    }

    #[test]
    fn tests_have_numbers_and_end_when_somebody_wants_it() {
        assert_eq!(of_number(7), Some("XPUM_DIAG_LIGHT_COMPUTATION"));
        assert_eq!((of_number(0), of_number(10)), (None, None));
        let directory = plant("b580_6_16");
        let root = Root::at(directory.path());
        let sample = discovery::discover(&root).devices.remove(0).sample(Moment(0.0));
        let health = Judge::default().judge(&sample);
        let patient =
            Patient { root: &root, sample: &sample, health: &health, variable: |_| None, clinic: None };
        let mut left = 2;
        let components = run(&patient, &of_level(3), &mut |_, _| {
            left -= 1;
            left >= 0
        });
        assert_eq!(components.len(), 2);
    }

    #[test]
    fn a_link_carries_what_its_lanes_do() {
        let directory = plant("b580_6_16");
        let root = Root::at(directory.path());
        let mut sample = discovery::discover(&root).devices.remove(0).sample(Moment(0.0));
        let mut check = |speed: f64, expected: &str| {
            for (metric, value) in [(Metric::LinkSpeed, speed), (Metric::LinkWidth, 16.0)] {
                sample.readings.retain(|reading| reading.metric != metric);
                let value = Ok(crate::Value::Number(value));
                sample.readings.push(crate::Reading {
                    metric,
                    location: "".into(),
                    value,
                    source: "".into(),
                });
            }
            assert_eq!(link(&sample), expected);
        };
        check(32.0, "; its link carries 63.0 GB/s at most");
        check(2.5, "; its link carries 4.0 GB/s at most");
    }

    #[test]
    fn libraries_rights_and_variables() {
        let directory = plant("b580_6_16");
        let write = |file: &str, content: &str| {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let before = examine(&directory, 1, |name| (name == "ZE_AFFINITY_MASK").then(|| "1".to_owned()));
        assert_eq!(
            of(&before, "LIBRARY"),
            (Outcome::Fail, "programs that compute do not find libze_loader.so.1, libze_intel_gpu.so.1")
        );
        assert!(of(&before, "ENV_VARIABLES").1.ends_with("ZE_AFFINITY_MASK=1"));
        for library in ["libze_loader.so.1", "libze_intel_gpu.so.1"] {
            write(&format!("usr/lib/x86_64-linux-gnu/{library}"), "");
        }
        write("sys/class/drm/card1/device/drm/renderD128/uevent", "");
        assert!(of(&examine(&directory, 1, |_| None), "PERMISSION").1.ends_with("is not there"));
        write("dev/dri/renderD128", "");
        write("proc/77/comm", "trainer\n");
        write("proc/77/fdinfo/5", "drm-driver:\txe\ndrm-pdev:\t0000:0b:00.0\ndrm-client-id:\t7\n");
        let after = examine(&directory, 1, |_| None);
        for name in ["LIBRARY", "ENV_VARIABLES", "PERMISSION"] {
            assert_eq!(of(&after, name).0, Outcome::Pass, "{after:?}");
        }
        assert_eq!(of(&after, "EXCLUSIVE"), (Outcome::Fail, "it is used by 77 (trainer)"));
    }
}
