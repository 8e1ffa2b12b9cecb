//! Where limits come from, and when a state ends, on recordings of real cards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::time::Duration;

use minka_accel::fixture::Recording;
use minka_accel::health::{Check, Judge, Kind, Origin, State};
use minka_accel::{Limits, Moment, Root, Station, discovery};

/// What a check of a recorded card finds under a file of limits.
fn judged(recording: &str, limits: &str, kind: Kind) -> Check {
    let directory = tempfile::tempdir().unwrap();
    Recording::named(recording).unwrap().plant(directory.path()).unwrap();
    let file = directory.path().join("limits.toml");
    fs::write(&file, limits).unwrap();
    let limits = Limits::read(&file).unwrap();
    let station = Station::start_with(Root::at(directory.path()), Duration::from_millis(30), limits);
    station.settle(Duration::from_secs(10));
    let health = station.reports().remove(0).health;
    health.checks.into_iter().find(|check| check.kind == kind).unwrap()
}

#[test]
fn the_hardware_s_limits_come_first_the_configured_second_the_default_last() {
    let check = |recording, limits: &str, kind, expected: [Option<(f64, Origin)>; 2], state| {
        let check = judged(recording, limits, kind);
        let found = [check.throttle, check.shutdown].map(|limit| Some((limit?.value, limit?.origin)));
        assert_eq!((found, check.state), (expected, state), "{recording} {limits} {}", check.description);
    };
    let heat = Kind::CoreTemperature;
    let low = "[[limits]]\ncore_temperature = { warning = 40, critical = 60 }\n";
    let hard = |value| Some((value, Origin::Hardware));
    let set = |value| Some((value, Origin::Configured));
    let common = |value| Some((value, Origin::Default));
    // This card tells a limit of 94 °C, and is at 44; the other tells none, and is at 56.
    check("rx580", low, heat, [hard(84.0), hard(94.0)], State::Ok);
    check("vangogh", "", heat, [common(95.0), common(105.0)], State::Ok);
    check("vangogh", low, heat, [set(40.0), set(60.0)], State::Warning);
    let only = |text: &str| format!("[[limits]]\ndevice = \"1002:163f\"\ncore_temperature = {{ {text} }}\n");
    check("vangogh", &only("critical = 55"), heat, [set(45.0), set(55.0)], State::Critical);
    check("vangogh", &only("warning = 60"), heat, [set(60.0), common(105.0)], State::Ok);
    check("vangogh", &only("warning = 110"), heat, [set(110.0), None], State::Ok);
    check(
        "vangogh",
        &only("warning = 40").replace("163f", "73bf"),
        heat,
        [common(95.0), common(105.0)],
        State::Ok,
    );
    let power = "[[limits]]\npower = { warning = 30, critical = 300 }\n";
    check("rx580", power, Kind::Power, [hard(155.0 * 1.1), set(300.0)], State::Ok);
    assert!(judged("vangogh", low, heat).description.ends_with("critical from 60 °C (configured)"));
}

#[test]
fn a_configured_limit_is_left_only_after_a_margin_and_three_samples() {
    let directory = tempfile::tempdir().unwrap();
    Recording::named("vangogh").unwrap().plant(directory.path()).unwrap();
    let mut device = discovery::discover(&Root::at(directory.path())).devices.remove(0);
    let sensor = directory.path().join("sys/class/drm/card0/device/hwmon/hwmon4/temp1_input");
    let file = directory.path().join("limits.toml");
    fs::write(&file, "[[limits]]\ncore_temperature = { warning = 70, critical = 80 }\n").unwrap();
    let mut judge = Judge::new(Limits::read(&file).unwrap().of(device.identity()));
    let course = [69, 70, 68, 68, 68, 68, 81, 66, 66, 66, 66];
    let states: Vec<State> = course
        .iter()
        .enumerate()
        .map(|(second, degrees)| {
            fs::write(&sensor, format!("{degrees}000\n")).unwrap();
            judge.judge(&device.sample(Moment(second as f64))).checks[0].state
        })
        .collect();
    use State::{Critical, Ok, Warning};
    // 68 °C is below the limit, but not by the margin of 3 °C; 66 °C is below by more.
    let expected = [Ok, Warning, Warning, Warning, Warning, Warning, Critical, Critical, Critical, Ok, Ok];
    assert_eq!(states, expected);
}
