//! Level Zero's helper: the program itself with stand-ins for the library that work, crash, hang and lie, compiled here
//! (`fake_sysman.c`), beside a recorded card. Whatever the library does, the card's other values are as without it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use minka_accel::fixture::Recording;
use minka_accel::sysman::{COMMAND, Helper};
use minka_accel::{Limits, Metric, Root, Sample, Station};

fn library(directory: &Path, mode: u32) -> PathBuf {
    let file = directory.join(format!("libze_{mode}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_sysman.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-w", "-shared", "-fPIC", &format!("-DMODE={mode}"), "-o"]).arg(&file).arg(source);
    assert!(compiler.status().unwrap().success());
    file
}

struct Machine {
    directory: tempfile::TempDir,
    helper: Helper,
    station: Station,
}

impl Machine {
    /// A recorded card with a stand-in for the library.
    fn new(mode: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Recording::named("b580_6_16").unwrap().plant(&directory.path().join("machine")).unwrap();
        let library = library(directory.path(), mode);
        let helper = Helper::start_with(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
            command.arg(COMMAND).arg(&library);
            command
        });
        let root = Root::at(&directory.path().join("machine")).with_helper(Some(helper.clone()));
        let station = Station::start_with(root, Duration::from_millis(100), Limits::default());
        station.settle(Duration::from_secs(20));
        Machine { directory, helper, station }
    }

    fn sample(&self) -> Sample {
        Sample::clone(&self.station.reports()[0].sample)
    }

    /// Waits until a sample is as wanted.
    fn wait(&self, wanted: impl Fn(&Sample) -> bool) -> Sample {
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            let sample = self.sample();
            if wanted(&sample) {
                return sample;
            }
            assert!(Instant::now() < until, "{}", why(&sample));
            sleep(Duration::from_millis(50));
        }
    }

    /// What the card's own files tell is told, whatever the library does.
    fn others_are_well(&self) {
        let sample = self.sample();
        assert_eq!(sample.core_temperature(), Some(46.0));
        assert!(!sample.gone && self.directory.path().exists());
    }
}

fn why(sample: &Sample) -> String {
    let readings = sample.readings.iter().filter(|reading| &*reading.location == "Level Zero");
    readings.filter_map(|reading| reading.value.as_ref().err()).map(ToString::to_string).collect()
}

#[test]
fn a_library_that_works_adds_what_the_kernel_does_not_tell() {
    let machine = Machine::new(0);
    let known = |sample: &Sample| sample.number(Metric::MemoryBandwidthUtilization, &["memory 0"]).is_some();
    let sample = machine.wait(known);
    let check = |metric, place: &str, expected: f64| {
        assert_eq!(sample.at(metric, place).unwrap().number(), Some(expected), "{metric:?}");
    };
    check(Metric::MemoryRead, "memory 0", 30e9);
    check(Metric::MemoryWritten, "memory 0", 20e9);
    check(Metric::MemoryBandwidthUtilization, "memory 0", 50.0);
    check(Metric::EngineUtilization, "all engines", 25.0);
    check(Metric::Errors, "uncorrected resets", 3.0);
    check(Metric::Errors, "uncorrected cache", 0.0);
    machine.others_are_well();
    assert_eq!(machine.helper.restarts(), 0);
}

#[test]
fn a_library_that_crashes_costs_its_own_values_and_is_begun_again() {
    for mode in [1, 2] {
        let machine = Machine::new(mode);
        let sample = machine.wait(|sample| why(sample).contains("its program ended"));
        assert!(why(&sample).contains("SIG"), "{}", why(&sample));
        machine.others_are_well();
        let until = Instant::now() + Duration::from_secs(30);
        while machine.helper.restarts() < 2 {
            assert!(Instant::now() < until, "begun again {} times", machine.helper.restarts());
            sleep(Duration::from_millis(50));
        }
        machine.others_are_well();
    }
}

#[test]
fn a_library_that_hangs_or_floods_is_ended() {
    for (mode, words) in [(3, "no answer within"), (5, "an answer without end")] {
        let machine = Machine::new(mode);
        machine.wait(|sample| why(sample).contains(words));
        machine.others_are_well();
    }
}

#[test]
fn a_library_that_lies_is_not_believed() {
    let machine = Machine::new(4);
    let engines = |sample: &Sample| {
        let reading = sample.at(Metric::EngineUtilization, "all engines").cloned();
        reading.and_then(|reading| reading.value.err()).map(|reason| reason.to_string()).unwrap_or_default()
    };
    let sample = machine.wait(|sample| engines(sample).contains("jumped"));
    let errors = sample.at(Metric::Errors, "uncorrected resets").unwrap();
    assert!(
        errors.value.as_ref().is_err_and(|reason| reason.to_string().contains("not believed")),
        "{errors:?}"
    );
    assert_eq!(sample.number(Metric::MemoryBandwidthUtilization, &["memory 0"]), None);
    assert!(sample.readings.len() < 200);
    machine.others_are_well();
}

#[test]
fn a_machine_without_the_library_says_so() {
    let directory = tempfile::tempdir().unwrap();
    Recording::named("b580_6_16").unwrap().plant(directory.path()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
    command.args(["xpu", "--level-zero=/nowhere/libze_loader.so.1", "--root"]).arg(directory.path());
    let output = command.args(["readings"]).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Level Zero") && text.contains("46"), "{text}");
}
