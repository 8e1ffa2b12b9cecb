//! Changing recorded cards: which file gets which content, what is refused, and what is put back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use minka_accel::config::{Change, ConfigError, Content, Desk, Drive, Scheduler, Span, Write};
use minka_accel::fixture::Recording;
use minka_accel::{Identity, Root, discovery};

/// A recorded card, with a few files that the recording lacks.
struct Card {
    directory: tempfile::TempDir,
    root: Root,
    identity: Arc<Identity>,
    remembered: Vec<Content>,
}

impl Card {
    fn new(name: &str, more: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Recording::named(name).unwrap().plant(directory.path()).unwrap();
        let root = Root::at(directory.path());
        let devices = discovery::discover(&root).devices;
        let identity = Arc::clone(devices[0].identity());
        let card = Card { directory, root, identity, remembered: Vec::new() };
        for (file, content) in more {
            let path = card.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        card
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(self.identity.path.strip_suffix("/device").unwrap()).join(file)
    }

    fn now(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap().trim().to_owned()
    }

    fn desk(&self) -> Desk<'_> {
        Desk::of(&self.root, &self.identity, &self.remembered)
    }

    fn plan(&self, change: &Change) -> Result<Vec<Write>, ConfigError> {
        self.desk().plan(change, None)
    }

    /// Plans and applies; remembers what was there first.
    fn change(&mut self, change: &Change) {
        let plan = self.plan(change).unwrap();
        for before in plan.iter().filter_map(Write::before) {
            if !self.remembered.iter().any(|known| known.file == before.file) {
                self.remembered.push(before);
            }
        }
        self.desk().apply(&plan).unwrap();
    }
}

fn refusal(plan: Result<Vec<Write>, ConfigError>) -> String {
    plan.unwrap_err().to_string()
}

fn range(least: u32, greatest: u32) -> Change {
    Change::FrequencyRange { least, greatest }
}

fn power(watts: u32, span: Span) -> Change {
    Change::PowerLimit { watts, span }
}

#[test]
fn clocks_of_xe_are_those_of_the_parts_that_compute() {
    let mut card = Card::new("b580_6_16", &[]);
    card.change(&range(1000, 2000));
    let clock = |gt: u32, name: &str| card.now(&format!("device/tile0/gt{gt}/freq0/{name}"));
    assert_eq!((clock(0, "min_freq"), clock(0, "max_freq")), ("1000".into(), "2000".into()));
    assert_eq!((clock(1, "min_freq"), clock(1, "max_freq")), ("1200".into(), "1500".into()));
    let current = card.desk().current();
    assert_eq!(current.tiles[0].frequency, Some((1000, 2000)));
    assert_eq!(current.changed.len(), 2);
    card.desk().put_back(&card.remembered).unwrap();
    assert_eq!(card.desk().current().tiles[0].frequency, Some((400, 2850)));
    assert!(card.desk().current().changed.is_empty());
}

#[test]
fn at_no_time_is_the_least_clock_above_the_greatest() {
    let mut card = Card::new("a380_i915", &[]);
    let order = |card: &Card, change: &Change| {
        let plan = card.plan(change).unwrap();
        plan.into_iter().map(|write| format!("{} {}", write.file, write.value)).collect::<Vec<_>>()
    };
    let (low, high) = ("gt/gt0/rps_min_freq_mhz", "gt/gt0/rps_max_freq_mhz");
    assert_eq!(order(&card, &range(300, 600)), [format!("{low} 300"), format!("{high} 600")]);
    card.change(&range(300, 600));
    assert_eq!(order(&card, &range(900, 1200)), [format!("{high} 1200"), format!("{low} 900")]);
}

#[test]
fn numbers_that_the_hardware_does_not_take_are_refused() {
    let card = Card::new("b580_6_16", &[]);
    assert_eq!(
        refusal(card.plan(&range(100, 2000))),
        "set the frequency range to 100: this device takes 400 to 2850 MHz"
    );
    assert!(refusal(card.plan(&range(2000, 1000))).contains("above the greatest"));
    assert!(refusal(card.desk().plan(&range(400, 1000), Some(3))).contains("no such tile"));
}

#[test]
fn amd_chooses_among_the_levels_of_its_table() {
    let level = "device/power_dpm_force_performance_level";
    let mut card = Card::new("vangogh", &[(level, "auto\n")]);
    card.change(&range(1000, 1600));
    assert_eq!((card.now(level), card.now("device/pp_dpm_sclk")), ("manual".into(), "1 2".into()));
    assert_eq!(card.remembered, [Content { file: level.to_owned(), value: "auto".to_owned() }]);
    let card = Card::new("vangogh", &[(level, "manual\n")]);
    assert!(refusal(card.plan(&range(300, 900))).contains("no clock in this range"));
    assert!(refusal(card.plan(&range(1700, 1800))).contains("takes 200 to 1600 MHz"));
    let plan = card.plan(&range(1600, 1600)).unwrap();
    assert_eq!(plan[0].before.as_deref(), Some("auto"), "what was chosen by hand is not told");
    let card = Card::new("vangogh", &[]);
    assert!(refusal(card.plan(&range(200, 1600))).contains("does not offer to choose"));
}

#[test]
fn power_limits_are_those_of_the_widest_channel() {
    let mut card = Card::new("vangogh", &[]);
    let of = |number: u32| format!("device/hwmon/hwmon4/power{number}_cap");
    card.change(&power(10, Span::Sustain));
    card.change(&power(30, Span::Peak));
    assert_eq!((card.now(&of(1)), card.now(&of(2))), ("10000000".into(), "30000000".into()));
    assert_eq!(
        refusal(card.plan(&power(30, Span::Sustain))),
        "set the power limit to 30: this device takes 1 to 29 W"
    );
    assert!(refusal(card.plan(&power(0, Span::Sustain))).contains("takes 1 to 29 W"));
    assert!(refusal(card.plan(&power(20, Span::Burst))).contains("does not offer this limit"));
}

#[test]
fn where_no_greatest_limit_is_told_the_first_one_is_it() {
    let mut card = Card::new("a380_i915", &[]);
    let file = "device/hwmon/hwmon1/power1_max";
    assert!(refusal(card.plan(&power(56, Span::Sustain))).contains("takes 1 to 55 W"));
    card.change(&power(40, Span::Sustain));
    assert_eq!(card.now(file), "40000000");
    card.change(&power(55, Span::Sustain));
    assert_eq!(card.now(file), "55000000");
}

#[test]
fn turns_of_engines_are_set_on_all_of_them() {
    let mut card = Card::new("b580_6_16", &[]);
    card.change(&Change::Scheduler(Scheduler::Timeslice { interval: 20_000, yield_timeout: 500_000 }));
    for engine in ["gt0/engines/rcs", "gt0/engines/ccs", "gt1/engines/vcs"] {
        let time = |name: &str| card.now(&format!("device/tile0/{engine}/{name}"));
        assert_eq!(
            (time("timeslice_duration_us"), time("preempt_timeout_us")),
            ("20000".into(), "500000".into())
        );
    }
    let refused = |scheduler| refusal(card.plan(&Change::Scheduler(scheduler)));
    assert!(refused(Scheduler::Exclusive).contains("its time slice cannot be 0"));
    assert!(refused(Scheduler::Timeout(4999)).contains("takes 5000 to 100000000 µs"));
    let long = Scheduler::Timeslice { interval: 20_000_000, yield_timeout: 5_000 };
    assert!(refused(long).contains("takes 1 to 10000000 µs"));
}

#[test]
fn i915_takes_all_three_ways_to_divide_time() {
    let engine = [
        ("engine/rcs0/timeslice_duration_ms", "1\n"),
        ("engine/rcs0/preempt_timeout_ms", "640\n"),
        ("engine/rcs0/heartbeat_interval_ms", "2500\n"),
        ("engine/rcs0/.defaults/heartbeat_interval_ms", "2500\n"),
    ];
    let mut card = Card::new("a380_i915", &engine);
    let times = |card: &Card| [0, 1, 2].map(|number: usize| card.now(engine[number].0));
    card.change(&Change::Scheduler(Scheduler::Exclusive));
    assert_eq!(times(&card), ["0", "0", "0"]);
    assert_eq!(card.desk().current().tiles[0].scheduler, Some(Scheduler::Exclusive));
    card.change(&Change::Scheduler(Scheduler::Timeout(7_500_000)));
    assert_eq!(times(&card), ["0", "7500", "7500"]);
    card.change(&Change::Scheduler(Scheduler::Timeslice { interval: 5_500, yield_timeout: 640_000 }));
    assert_eq!(times(&card), ["6", "640", "2500"]);
    card.desk().put_back(&card.remembered).unwrap();
    assert_eq!(times(&card), ["1", "640", "2500"]);
}

#[test]
fn fans_sleep_and_media_engines() {
    let mut card = Card::new("rx580", &[("device/power/control", "auto\n")]);
    let monitor = fs::read_dir(card.path("device/hwmon")).unwrap().next().unwrap().unwrap().file_name();
    let pwm = format!("device/hwmon/{}/pwm1", monitor.to_str().unwrap());
    fs::write(card.path(&format!("{pwm}_enable")), "2\n").unwrap();
    fs::write(card.path(&pwm), "61\n").unwrap();
    card.change(&Change::Fan { fan: 1, drive: Drive::Steady(50) });
    assert_eq!((card.now(&format!("{pwm}_enable")), card.now(&pwm)), ("1".into(), "128".into()));
    card.change(&Change::Fan { fan: 1, drive: Drive::Automatic });
    assert_eq!(card.now(&format!("{pwm}_enable")), "2");
    let refused = |change| refusal(card.plan(&change));
    assert!(refused(Change::Fan { fan: 1, drive: Drive::Steady(101) }).contains("takes 0 to 100 %"));
    assert!(
        refused(Change::Fan { fan: 1, drive: Drive::Curve(vec![(40, 30)]) })
            .contains("does not take a curve")
    );
    assert!(refused(Change::Fan { fan: 9, drive: Drive::Automatic }).contains("does not offer"));
    assert!(refused(Change::MediaFactor(50)).contains("does not offer"));
    assert!(refused(Change::MemoryEcc(true)).contains("ras_enable"));
    assert!(refused(Change::LinkPort).contains("no links"));
    card.change(&Change::Standby(false));
    assert_eq!((card.now("device/power/control"), card.desk().current().standby), ("on".into(), Some(false)));

    let mut card = Card::new("a380_i915", &[]);
    assert!(refusal(card.plan(&Change::Standby(true))).contains("does not say"));
    assert!(refusal(card.plan(&Change::MediaFactor(75))).contains("50 or 100 %"));
    card.change(&Change::MediaFactor(100));
    assert_eq!(card.now("gt/gt0/media_freq_factor"), "256");
}

#[test]
fn a_curve_rises_and_its_last_point_holds_for_the_rest() {
    let pwm = "device/hwmon/hwmon4/pwm1";
    let mut files = vec![(format!("{pwm}_enable"), "2")];
    for number in 1..=3 {
        files.push((format!("{pwm}_auto_point{number}_temp"), "0"));
        files.push((format!("{pwm}_auto_point{number}_pwm"), "0"));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(file, content)| (file.as_str(), *content)).collect();
    let mut card = Card::new("b580_6_16", &files);
    let curve = |points: &[(u8, u8)]| Change::Fan { fan: 1, drive: Drive::Curve(points.to_vec()) };
    card.change(&curve(&[(40, 20), (80, 100)]));
    let points: Vec<String> = (1..=3)
        .map(|number| {
            let of = |what: &str| card.now(&format!("{pwm}_auto_point{number}_{what}"));
            format!("{} {}", of("temp"), of("pwm"))
        })
        .collect();
    assert_eq!(points, ["40000 51", "80000 255", "80000 255"]);
    for wrong in [&[(80, 20), (40, 100)][..], &[(40, 80), (80, 20)], &[], &[(1, 1), (2, 2), (3, 3), (4, 4)]] {
        assert!(card.plan(&curve(wrong)).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_device_as_it_was() {
    let card = Card::new("b580_6_16", &[]);
    let plan = card.plan(&range(1000, 2000)).unwrap();
    // Whoever runs this may be root, whom no mode of a file keeps out: a folder does.
    let high = card.path("device/tile0/gt0/freq0/max_freq");
    fs::remove_file(&high).unwrap();
    fs::create_dir(&high).unwrap();
    let error = card.desk().apply(&plan).unwrap_err();
    assert!(matches!(&error, ConfigError::Write { file, .. } if file.ends_with("max_freq")), "{error}");
    assert_eq!(card.now("device/tile0/gt0/freq0/min_freq"), "400");
    assert!(refusal(card.plan(&range(1000, 2000))).contains("before changing it"));
}

#[test]
fn a_device_is_reset_by_its_bus_and_keeps_its_driver() {
    let card = Card::new("b580_6_16", &[]);
    let write = |file: &str| {
        let path = card.directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    };
    let address = &card.identity.pci.as_ref().unwrap().address;
    let reset = format!("sys/bus/pci/devices/{address}/reset");
    assert_eq!(
        card.desk().reset().unwrap_err().to_string(),
        "reset the device: the bus has no way to reset it"
    );
    write(&reset);
    assert!(card.desk().reset().unwrap_err().to_string().contains("let go of it"));
    write("sys/bus/pci/drivers/xe/unbind");
    write("sys/bus/pci/drivers/xe/bind");
    card.desk().reset().unwrap();
    let now = |file: &str| fs::read_to_string(card.directory.path().join(file)).unwrap();
    assert_eq!((now(&reset), now("sys/bus/pci/drivers/xe/bind")), ("1".to_owned(), address.clone()));
}
