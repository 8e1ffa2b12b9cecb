//! Devices whose counters and files misbehave, through the whole reader.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minka_accel::fixture::{Recording, plant_machine};
use minka_accel::health::{Kind, State};
use minka_accel::{Device, Metric, Moment, Reason, Root, Station, discovery};
use proptest::prelude::*;

const HWMON: &str = "sys/class/drm/card1/device/hwmon/hwmon1";

fn a380() -> (tempfile::TempDir, Device) {
    let directory = tempfile::tempdir().unwrap();
    Recording::named("a380_i915").unwrap().plant(directory.path()).unwrap();
    let device = discovery::discover(&Root::at(directory.path())).devices.remove(0);
    (directory, device)
}

fn put(root: &Path, file: &str, value: impl ToString) {
    fs::write(root.join(file), value.to_string()).unwrap();
}

#[test]
fn a_fallen_energy_counter_makes_no_spike() {
    let (directory, mut device) = a380();
    let joules = [22.0e6, 22.000_05e6, 200.0, 22.000_15e6, 22.000_2e6];
    let mut watts = Vec::new();
    for (joules, second) in joules.into_iter().zip(0_u32..) {
        put(directory.path(), &format!("{HWMON}/energy1_input"), (joules * 1e6) as u64);
        let sample = device.sample(Moment(second.into()));
        watts.push(sample.at(Metric::Power, "pkg").unwrap().number());
        let total = sample.totals.iter().find(|(metric, ..)| *metric == Metric::Energy).unwrap().2;
        assert!((22.0e6..22.001e6).contains(&total), "{total}");
    }
    assert_eq!(watts, [None, Some(50.0), None, Some(50.0), Some(50.0)]);
}

#[test]
fn sleep_tells_how_busy_a_part_was() {
    let (directory, mut device) = a380();
    device.sample(Moment(0.0));
    put(directory.path(), "sys/class/drm/card1/gt/gt0/rc6_residency_ms", 6534 + 750);
    put(directory.path(), &format!("{HWMON}/energy1_input"), 25_637_161_804_u64 + 20_000_000);
    let sample = device.sample(Moment(1.0));
    assert_eq!((sample.utilization(), sample.power()), (Some(25.0), Some(20.0)));
}

#[test]
fn a_device_that_was_pulled_out_is_gone_and_comes_back() {
    let (directory, mut device) = a380();
    assert!(!device.sample(Moment(0.0)).gone);
    let card = directory.path().join("sys/class/drm/card1");
    let aside = directory.path().join("aside");
    fs::rename(&card, &aside).unwrap();
    let sample = device.sample(Moment(1.0));
    assert!(sample.gone && sample.readings.iter().all(|reading| reading.value.is_err()));
    let health = minka_accel::health::Judge::default().judge(&sample);
    assert!(health.checks.iter().all(|check| check.state == State::Unknown));
    fs::rename(&aside, &card).unwrap();
    assert!(!device.sample(Moment(2.0)).gone);
}

#[test]
fn what_may_not_be_read_or_fails_costs_its_own_value_only() {
    let (directory, mut device) = a380();
    let temperature = directory.path().join(HWMON).join("temp1_input");
    fs::remove_file(&temperature).unwrap();
    // A directory in its place answers reads with an error.
    fs::create_dir(&temperature).unwrap();
    let sample = device.sample(Moment(0.0));
    assert!(matches!(sample.at(Metric::Temperature, "pkg").unwrap().value, Err(Reason::Failed(_))));
    assert_eq!(sample.number(Metric::PowerLimit, &["pkg"]), Some(55.0));
    if !rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        let limit = directory.path().join(HWMON).join("power1_max");
        fs::set_permissions(&limit, fs::Permissions::from_mode(0o0)).unwrap();
        let (mut fresh, path) = (discovery::discover(&Root::at(directory.path())).devices, HWMON);
        let sample = fresh[0].sample(Moment(0.0));
        let reading = sample.at(Metric::PowerLimit, "pkg").unwrap();
        assert_eq!(reading.value, Err(Reason::Denied(format!("{path}/power1_max").into())));
    }
}

#[test]
fn a_part_that_is_held_back_says_why_and_stops_saying_it() {
    let (directory, mut device) = a380();
    let gt = "sys/class/drm/card1/gt/gt0";
    let mut judge = minka_accel::health::Judge::default();
    let mut state = |moment: f64, device: &mut Device| {
        let health = judge.judge(&device.sample(Moment(moment)));
        let check = health.checks.into_iter().find(|check| check.kind == Kind::Frequency).unwrap();
        (check.state, check.description)
    };
    assert_eq!(state(0.0, &mut device).0, State::Ok);
    put(directory.path(), &format!("{gt}/throttle_reason_status"), 1);
    put(directory.path(), &format!("{gt}/throttle_reason_pl1"), 1);
    assert_eq!(state(1.0, &mut device), (State::Warning, "the clocks are held back by gt0 pl1".to_owned()));
    put(directory.path(), &format!("{gt}/throttle_reason_status"), 0);
    put(directory.path(), &format!("{gt}/throttle_reason_pl1"), 0);
    let after: Vec<State> = (2..6_u32).map(|second| state(second.into(), &mut device).0).collect();
    assert_eq!(after, [State::Warning, State::Warning, State::Ok, State::Ok]);
}

#[test]
fn one_broken_device_stops_no_other() {
    let directory = tempfile::tempdir().unwrap();
    plant_machine(directory.path(), 6).unwrap();
    let broken = directory.path().join("sys/class/drm/card0/device/hwmon");
    let inputs = walk(&broken).into_iter().filter(|path| path.to_string_lossy().ends_with("_input"));
    for path in inputs {
        fs::write(path, [0xff, 0xfe, b'\n', 0, b'-']).unwrap();
    }
    let station = Station::start(Root::at(directory.path()), Duration::from_millis(30));
    station.settle(Duration::from_secs(10));
    let reports = station.reports();
    assert_eq!(reports.len(), 6);
    assert!(reports.iter().skip(1).all(|report| report.sample.core_temperature().is_some()));
    assert_eq!(reports[0].sample.core_temperature(), None);
    assert!(station.set_custom(1, Kind::CoreTemperature, Some(10.0)));
    let health = station.report(1).unwrap().health;
    assert_eq!((health.checks[0].state, health.checks[0].custom), (State::Warning, Some(10.0)));
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_content_of_a_file_makes_power_or_heat_beyond_belief(
        contents in prop::collection::vec(prop_oneof![
            any::<u64>().prop_map(|number| number.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            "\\PC{0,20}".prop_map(|text| text),
        ], 2..12)
    ) {
        let (directory, mut device) = a380();
        for (content, second) in contents.iter().zip(0_u32..) {
            for file in ["energy1_input", "temp1_input", "fan1_input"] {
                put(directory.path(), &format!("{HWMON}/{file}"), content);
            }
            let sample = device.sample(Moment(second.into()));
            prop_assert!(sample.power().is_none_or(|watts| (0.0..=220.0).contains(&watts)));
            prop_assert!(sample.core_temperature().is_none_or(|degrees| (-100.0..=200.0).contains(&degrees)));
        }
    }
}

#[test]
fn a_device_that_is_pulled_out_while_it_is_being_read_costs_itself_only() {
    let directory = tempfile::tempdir().unwrap();
    plant_machine(directory.path(), 2).unwrap();
    let station = Station::start(Root::at(directory.path()), Duration::from_millis(1));
    station.settle(Duration::from_secs(10));
    let card = directory.path().join("sys/class/drm/card0");
    let aside = directory.path().join("aside");
    let pulled = std::thread::spawn(move || {
        for _ in 0..150 {
            fs::rename(&card, &aside).unwrap();
            std::thread::sleep(Duration::from_micros(700));
            fs::rename(&aside, &card).unwrap();
            std::thread::sleep(Duration::from_micros(1300));
        }
    });
    // No report is half a lie: what is told of a device that is there is what its files hold.
    let (mut there, mut gone) = (0, 0);
    while !pulled.is_finished() || there == 0 {
        for report in station.reports() {
            let known = |reading: &minka_accel::Reading| reading.value.is_ok();
            match (report.sample.identity.device_id, report.sample.gone) {
                (0, true) => {
                    gone += 1;
                    assert!(!report.sample.readings.iter().any(known), "{:?}", report.sample);
                }
                (0, false) => {
                    there += 1;
                    let limit = report.sample.number(Metric::PowerLimit, &["pkg"]);
                    assert!(matches!(limit, None | Some(55.0)), "{limit:?}");
                }
                _ => assert!(!report.sample.gone && report.sample.readings.iter().any(known)),
            }
        }
    }
    pulled.join().unwrap();
    assert!(there > 0 && gone > 0, "{there} {gone}");
}
