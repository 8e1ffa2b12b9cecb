use std::path::Path;

use super::*;
use crate::identity::{DeviceType, Pci};

fn write(directory: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{content}\n")).unwrap();
    }
}

/// As Linux 6.16 describes the counters of a card under xe with two parts.
fn xe_machine(directory: &Path) {
    let pmu = directory.join("sys/bus/event_source/devices/xe_0000_0b_00.0");
    write(
        &pmu,
        &[
            ("type", "37"),
            ("cpumask", "1"),
            ("format/event", "config:0-11"),
            ("format/engine_instance", "config:12-19"),
            ("format/engine_class", "config:20-27"),
            ("format/gt", "config:60-63"),
            ("events/gt-c6-residency", "event=0x01"),
            ("events/gt-c6-residency.unit", "ms"),
            ("events/engine-active-ticks", "event=0x02"),
            ("events/engine-total-ticks", "event=0x03"),
            ("events/gt-actual-frequency", "event=0x04"),
        ],
    );
    let device = directory.join("sys/class/drm/card0/device");
    write(&device, &[("tile0/gt0/gtidle/name", "gt0-rc"), ("tile0/gt1/gtidle/name", "gt1-mc")]);
}

/// As Linux 6.1 describes those of a processor's own graphics under i915.
fn i915_machine(directory: &Path) {
    let pmu = directory.join("sys/bus/event_source/devices/i915");
    write(
        &pmu,
        &[
            ("type", "22"),
            ("cpumask", "0"),
            ("format/i915_eventid", "config:0-20"),
            ("events/actual-frequency", "config=0x100000"),
            ("events/actual-frequency.unit", "M"),
            ("events/rc6-residency", "config=0x100003"),
            ("events/rc6-residency.unit", "ns"),
            ("events/rcs0-busy", "config=0x0"),
            ("events/rcs0-busy.unit", "ns"),
            ("events/rcs0-sema", "config=0x2"),
            ("events/vcs0-busy", "config=0x2000"),
        ],
    );
}

fn identity(driver: &str, address: &str) -> Identity {
    let pci = Pci { address: address.to_owned(), vendor_id: 0x8086, product_id: 1, subsystem: None };
    Identity {
        device_id: 0,
        device_name: String::new(),
        device_type: DeviceType::Gpu,
        vendor_name: String::new(),
        uuid: String::new(),
        driver: driver.to_owned(),
        device_file: None,
        path: "sys/class/drm/card0/device".into(),
        pci: Some(pci),
    }
}

/// Counts as told: after each reading every event has grown by what `grown` says of it, and a second has passed.
#[derive(Debug)]
struct Fake {
    grown: fn(u64) -> io::Result<u64>,
    configs: Vec<u64>,
    readings: u64,
}

impl Count for Fake {
    fn add(&mut self, config: u64) -> io::Result<()> {
        (self.grown)(config).map(|_| self.configs.push(config))
    }

    fn read(&mut self) -> io::Result<Tally> {
        let values = self.configs.iter().map(|config| Ok((self.grown)(*config)? * self.readings));
        let values = values.collect::<io::Result<Vec<u64>>>()?;
        self.readings += 1;
        let enabled_ns = self.readings * 1_000_000_000;
        Ok(Tally { enabled_ns, running_ns: enabled_ns, values })
    }
}

fn fake(grown: fn(u64) -> io::Result<u64>) -> Box<dyn Count> {
    Box::new(Fake { grown, configs: Vec::new(), readings: 0 })
}

/// What two readings a second apart say in the end.
fn told(machine: fn(&Path), identity: &Identity, make: MakeGroup) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    machine(directory.path());
    let mut counters = Counters::with(&Root::at(directory.path()), identity, make).unwrap();
    let first = counters.read(true, Moment(0.0));
    assert!(first.iter().all(|reading| reading.value.is_err()), "{first:?}");
    let second = counters.read(false, Moment(1.0));
    let line = |reading: &Reading| {
        let value = match &reading.value {
            Ok(value) => value.to_string(),
            Err(reason) => format!("— ({reason})"),
        };
        format!("{} [{}] = {value}", reading.metric.name(), reading.location)
    };
    second.iter().map(line).collect()
}

/// The engines of a B580, by class and instance, and what they do in a second.
fn b580(config: u64) -> io::Result<u64> {
    let (gt, class, instance) = (config >> 60, config >> 20 & 0xff, config >> 12 & 0xff);
    let there = matches!((gt, class, instance), (0, 0 | 1 | 4, 0) | (1, 2, 0 | 2) | (1, 3, 0));
    match config & 0xfff {
        1 => Ok(250),
        _ if !there => Err(io::ErrorKind::NotFound.into()),
        2 if class == 0 => Ok(4_800_000),
        2 if class == 4 => Ok(19_200_000),
        2 => Ok(0),
        3 => Ok(19_200_000),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[test]
fn the_engines_of_a_card_under_xe_show_themselves_in_trying() {
    let lines = told(xe_machine, &identity("xe", "0000:0b:00.0"), |kind, processor| {
        assert_eq!((kind, processor), (37, 1));
        fake(b580)
    });
    let expected = [
        "sleep [tile0/gt0] = 25",
        "engine_utilization [tile0/gt0/rcs0] = 25",
        "engine_utilization [tile0/gt0/bcs0] = 0",
        "engine_utilization [tile0/gt0/ccs0] = 100",
        "sleep [tile0/gt1] = 25",
        "engine_utilization [tile0/gt1/vcs0] = 0",
        "engine_utilization [tile0/gt1/vcs2] = 0",
        "engine_utilization [tile0/gt1/vecs0] = 0",
        "utilization [] = 100",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn i915_counts_nanoseconds() {
    let lines = told(i915_machine, &identity("i915", "0000:00:02.0"), |kind, processor| {
        assert_eq!((kind, processor), (22, 0));
        fake(|config| match config {
            0 => Ok(300_000_000),
            0x2000 => Ok(0),
            0x10_0000 => Ok(1450),
            0x10_0003 => Ok(600_000_000),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    });
    let expected = [
        "frequency_mean [gt0] = 1450",
        "sleep [gt0] = 60",
        "engine_utilization [rcs0] = 30",
        "engine_utilization [vcs0] = 0",
        "utilization [] = 30",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn who_may_not_count_is_told_what_it_takes() {
    let lines = told(xe_machine, &identity("xe", "0000:0b:00.0"), |_, _| {
        fake(|_| Err(io::ErrorKind::PermissionDenied.into()))
    });
    assert_eq!(lines, ["engine_utilization [] = — (the driver's counters could not be opened)"]);
    let directory = tempfile::tempdir().unwrap();
    xe_machine(directory.path());
    let make: MakeGroup = |_, _| fake(|_| Err(io::ErrorKind::PermissionDenied.into()));
    let xe = identity("xe", "0000:0b:00.0");
    let mut counters = Counters::with(&Root::at(directory.path()), &xe, make).unwrap();
    let reason = counters.read(true, Moment(0.0))[0].value.clone().unwrap_err().to_string();
    assert!(reason.contains("CAP_PERFMON"), "{reason}");
}

#[test]
fn a_machine_without_such_counters_says_so() {
    let directory = tempfile::tempdir().unwrap();
    i915_machine(directory.path());
    let check = |identity: &Identity| {
        let make: MakeGroup = |_, _| fake(b580);
        let mut counters = Counters::with(&Root::at(directory.path()), identity, make).unwrap();
        let readings = counters.read(true, Moment(0.0));
        assert!(matches!(readings[0].value, Err(Reason::NotOffered(_))), "{readings:?}");
    };
    // The counters there are those of the processor's own graphics, and of no card.
    check(&identity("i915", "0000:03:00.0"));
    check(&identity("xe", "0000:0b:00.0"));
}

#[test]
fn counters_that_lie_are_left_out() {
    let tally =
        |enabled_ns, values: &[u64]| Tally { enabled_ns, running_ns: enabled_ns, values: values.to_vec() };
    let gauge = |whole| Gauge {
        metric: Metric::EngineUtilization,
        location: "rcs0".into(),
        source: "".into(),
        counter: 0,
        whole,
    };
    let check = |whole, last: &Tally, now: &Tally, right: bool| {
        let outcome = gauge(whole).conclude(last, now);
        assert_eq!(outcome.is_ok(), right, "{outcome:?}");
        assert!(outcome.is_err() || outcome.is_ok_and(|share| (0.0..=100.0).contains(&share)));
    };
    let time = Whole::Time { unit_ns: 1 };
    let second = 1_000_000_000;
    check(time, &tally(0, &[0]), &tally(second, &[second]), true);
    check(time, &tally(0, &[0]), &tally(second, &[second + second / 50]), true);
    check(time, &tally(0, &[0]), &tally(second, &[2 * second]), false);
    check(time, &tally(0, &[5]), &tally(second, &[4]), false);
    check(time, &tally(second, &[5]), &tally(second, &[5]), false);
    check(time, &tally(0, &[0]), &tally(second, &[]), false);
    let other = Whole::Counter(1);
    check(other, &tally(0, &[0, 0]), &tally(second, &[5, 10]), true);
    check(other, &tally(0, &[0, 9]), &tally(second, &[5, 9]), false);
    check(other, &tally(0, &[0, 9]), &tally(second, &[5]), false);
    let shared = Tally { running_ns: second / 2, ..tally(second, &[5]) };
    check(time, &tally(0, &[0]), &shared, false);
}

#[test]
fn counters_whose_device_is_gone_cost_only_themselves() {
    #[derive(Debug)]
    struct Gone;
    impl Count for Gone {
        fn add(&mut self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn read(&mut self) -> io::Result<Tally> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    xe_machine(directory.path());
    let xe = identity("xe", "0000:0b:00.0");
    let mut counters = Counters::with(&Root::at(directory.path()), &xe, |_, _| Box::new(Gone)).unwrap();
    for settings in [true, false, true] {
        let readings = counters.read(settings, Moment(0.0));
        assert!(readings.len() == 1 && readings[0].value.is_err(), "{readings:?}");
    }
}
