//! NVIDIA's library, read and told: against a stand-in that is compiled here (`fake_nvml.c`). It shows that this program
//! calls the library rightly, and nothing about a real device.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use minka_accel::config::{Change, ConfigError, Content, Desk, Span, Write};
use minka_accel::nvidia::Library;
use minka_accel::query::Field;
use minka_accel::{Identity, Metric, Moment, Root, Sample, discovery, process};

/// Compiles the stand-in in a mode of its own and starts it.
fn library(mode: u32) -> (tempfile::TempDir, Library) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("libnvidia-ml.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_nvml.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", &format!("-DMODE={mode}"), "-o"]).arg(&file).arg(source);
    assert!(compiler.status().unwrap().success());
    let library = Library::start_file(&file).unwrap();
    (directory, library)
}

/// The only device of a machine that has nothing but that library, sampled.
fn sample(library: &Library) -> (Arc<Identity>, Sample) {
    let empty = tempfile::tempdir().unwrap();
    let found = discovery::discover_with(&Root::at(empty.path()), &Ok(library.clone()));
    let mut devices = found.devices;
    assert_eq!(devices.len(), 1);
    let device = &mut devices[0];
    device.sample(Moment(0.0));
    (Arc::clone(device.identity()), device.sample(Moment(1.0)))
}

fn reason(sample: &Sample, metric: Metric) -> String {
    sample.reason(metric).map(ToString::to_string).unwrap_or_default()
}

#[test]
fn what_the_library_tells_is_shown_and_what_it_lacks_is_null() {
    let (_directory, library) = library(0);
    let (identity, sample) = sample(&library);
    let address = identity.pci.as_ref().map(|pci| pci.address.as_str());
    assert_eq!((identity.device_name.as_str(), address), ("NVIDIA Stand-in", Some("0000:41:00.0")));
    let check = |metric, place: &str, expected: f64| {
        assert_eq!(sample.at(metric, place).unwrap().number(), Some(expected), "{metric:?} {place}");
    };
    check(Metric::Utilization, "", 37.0);
    check(Metric::MemoryUsed, "vram", f64::from(3) * f64::from(1 << 30));
    check(Metric::Temperature, "gpu", 61.0);
    check(Metric::Temperature, "memory", 47.0);
    check(Metric::MemoryReserved, "vram", f64::from(1 << 29));
    check(Metric::Power, "card", 123.4);
    check(Metric::Energy, "card", 5.0);
    check(Metric::Frequency, "graphics", 1000.0);
    check(Metric::PowerLimit, "card", 300.0);
    check(Metric::PowerLimitMaximum, "card", 700.0);
    check(Metric::Errors, "corrected", 3.0);
    check(Metric::Errors, "uncorrected since the start", 2.0);
    // Functions that are not in the library.
    assert_eq!(reason(&sample, Metric::EngineUtilization), "the library is too old for it");
}

#[test]
fn fields_and_processes_are_as_nvidia_smi_tells_them() {
    let (_directory, library) = library(0);
    let (identity, sample) = sample(&library);
    let check = |name: &str, expected: Option<&str>| {
        assert_eq!(Field::named(name).unwrap().value(&sample, true).as_deref(), expected, "{name}");
    };
    check("memory.free", Some("4608 MiB"));
    check("memory.reserved", Some("512 MiB"));
    check("temperature.memory", Some("47"));
    check("pstate", Some("P2"));
    check("ecc.mode.current", Some("Enabled"));
    check("ecc.mode.pending", Some("Enabled"));
    check("clocks.max.sm", Some("1980 MHz"));
    check("power.min_limit", Some("200.00 W"));
    // Functions that are not in the library.
    check("persistence_mode", None);
    check("ecc.errors.corrected.volatile.total", Some("2"));

    let machine = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(machine.path().join("proc/4242")).unwrap();
    std::fs::write(machine.path().join("proc/4242/comm"), "trainer\n").unwrap();
    let root = Root::at(machine.path()).with_library(Some(library));
    let (processes, _) = process::list(&root);
    let told: Vec<_> = processes.iter().map(|one| (one.process_id, one.memory_bytes)).collect();
    assert_eq!(told, [(4242, Some(5 << 20)), (4243, None)]);
    assert_eq!(processes[0].process_name, "trainer");
    assert_eq!(Some(&processes[0].pci_address), identity.pci.as_ref().map(|pci| &pci.address));
}

#[test]
fn a_device_of_the_library_is_where_the_bus_says() {
    let (_directory, library) = library(0);
    let machine = tempfile::tempdir().unwrap();
    let folder = machine.path().join("sys/bus/pci/devices/0000:41:00.0");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("local_cpulist"), "0-15\n").unwrap();
    let mut devices = discovery::discover_with(&Root::at(machine.path()), &Ok(library)).devices;
    assert_eq!(devices.len(), 1);
    for moment in [0.0, 1.0] {
        let sample = devices[0].sample(Moment(moment));
        let near = sample.at(Metric::Property, "processors of the host nearby").unwrap();
        assert_eq!(near.value.as_ref().unwrap().to_string(), "0-15");
    }
}

#[test]
fn a_library_that_lies_is_not_believed() {
    let (_directory, library) = library(3);
    let (_, sample) = sample(&library);
    for metric in [Metric::Utilization, Metric::Temperature, Metric::Power] {
        assert!(reason(&sample, metric).starts_with("not believed"), "{metric:?} {sample:?}");
    }
    assert!(sample.readings.len() < 200);
}

#[test]
fn a_device_that_was_pulled_out_is_gone() {
    let (_directory, library) = library(2);
    let (_, sample) = sample(&library);
    assert_eq!(reason(&sample, Metric::Temperature), "the device is gone");
    assert_eq!(sample.power(), None);
}

#[test]
fn a_machine_without_the_library_says_so() {
    let missing = Library::start_file(Path::new("/nowhere/libnvidia-ml.so.1")).unwrap_err();
    assert!(missing.to_string().contains("is not there"), "{missing}");
    // A library, but of something else.
    let directory = tempfile::tempdir().unwrap();
    let (source, file) = (directory.path().join("x.c"), directory.path().join("x.so"));
    std::fs::write(&source, "int x;").unwrap();
    let compiled = Command::new("cc").args(["-shared", "-o"]).arg(&file).arg(&source).status().unwrap();
    assert!(compiled.success() && Library::start_file(&file).is_err());
}

struct Bench {
    _directory: tempfile::TempDir,
    root: Root,
    identity: Arc<Identity>,
    library: Library,
    remembered: Vec<Content>,
}

impl Bench {
    fn new(mode: u32) -> Self {
        let (directory, library) = library(mode);
        let root = Root::at(directory.path()).with_library(Some(library.clone()));
        let identity = sample(&library).0;
        Bench { _directory: directory, root, identity, library, remembered: Vec::new() }
    }

    fn desk(&self) -> Desk<'_> {
        Desk::of(&self.root, &self.identity, &self.remembered)
    }

    fn change(&mut self, change: &Change) -> Result<Vec<Content>, ConfigError> {
        let plan = self.desk().plan(change, None)?;
        for before in plan.iter().filter_map(Write::before) {
            if !self.remembered.iter().any(|known| known.file == before.file) {
                self.remembered.push(before);
            }
        }
        self.desk().apply(&plan)
    }

    /// The clocks that the stand-in was told to keep to.
    fn locked(&self) -> f64 {
        sample(&self.library).1.number(Metric::PcieReplays, &[]).unwrap()
    }
}

#[test]
fn limits_clocks_and_correction_are_set_and_put_back() {
    let mut bench = Bench::new(0);
    let held = bench.change(&Change::PowerLimit { watts: 250, span: Span::Sustain }).unwrap();
    assert_eq!(held[0].value, "250000");
    bench.change(&Change::FrequencyRange { least: 400, greatest: 1500 }).unwrap();
    assert_eq!(bench.locked(), 4_001_500.0);
    assert_eq!(bench.change(&Change::MemoryEcc(false)).unwrap()[0].value, "0");
    let current = bench.desk().current();
    assert_eq!((current.power_limit, current.power_range), (Some(250), Some((200, 700))));
    assert_eq!(current.tiles[0].frequency_options, [345, 1200, 1980]);
    let changed: Vec<&str> = current.changed.iter().map(|(file, ..)| file.as_str()).collect();
    assert_eq!(changed, ["nvml:power_limit", "nvml:locked_clocks", "nvml:memory_ecc"]);
    bench.desk().put_back(&bench.remembered).unwrap();
    assert_eq!((bench.locked(), bench.desk().current().power_limit), (0.0, Some(300)));
    bench.remembered.clear();
    assert_eq!(bench.change(&Change::MemoryEcc(true)).unwrap()[0].value, "1");
}

#[test]
fn errors_are_forgotten_as_far_as_the_card_forgets_them() {
    let bench = Bench::new(0);
    let count = |place: &str| sample(&bench.library).1.at(Metric::Errors, place).unwrap().number();
    assert_eq!(count("corrected since the start"), Some(2.0));
    assert_eq!(bench.desk().clear_errors().unwrap(), "nvml:errors");
    assert_eq!((count("corrected since the start"), count("corrected")), (Some(0.0), Some(3.0)));
    let denied = Bench::new(1).desk().clear_errors().unwrap_err();
    assert!(matches!(denied, ConfigError::Write { .. }), "{denied:?}");
}

#[test]
fn what_the_device_does_not_take_is_refused() {
    let mut bench = Bench::new(0);
    let mut check = |change: Change, part: &str| {
        let text = bench.change(&change).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    };
    check(Change::PowerLimit { watts: 199, span: Span::Sustain }, "takes 200 to 700 W");
    check(Change::PowerLimit { watts: 300, span: Span::Burst }, "a sustained limit only");
    check(Change::FrequencyRange { least: 300, greatest: 900 }, "takes 345 to 1980 MHz");
    check(Change::FrequencyRange { least: 900, greatest: 400 }, "above the greatest");
    check(Change::Standby(true), "not among what is set");
}

#[test]
fn who_may_not_set_is_told_so_and_nothing_is_changed() {
    let mut bench = Bench::new(1);
    let error = bench.change(&Change::PowerLimit { watts: 250, span: Span::Sustain }).unwrap_err();
    let denied = |error: &ConfigError| match error {
        ConfigError::Write { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
        _ => false,
    };
    assert!(denied(&error), "{error:?}");
    assert_eq!(bench.desk().current().power_limit, Some(300));
    let mut gone = Bench::new(2);
    let error = gone.change(&Change::PowerLimit { watts: 250, span: Span::Sustain }).unwrap_err();
    assert!(error.to_string().contains("the device is gone"), "{error}");
}
