//! Updating firmware through a real fwupd daemon, of the devices that it brings for tests: nothing here stands in for
//! the daemon, its signatures or its message bus.
//!
//! Needs root, fwupd with its tests' data, and what `tests/install-packages` installs besides; without it nothing is
//! tried, which is said.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;

use std::fs::File;
use std::path::Path;
use std::process::Command;

use bench::{CAMERA, alone};
use minka_accel_firmware::{Daemon, FirmwareError, Part, Progress};

fn camera(daemon: &Daemon) -> Part {
    let parts = daemon.parts().unwrap();
    parts.iter().find(|part| part.id == CAMERA).unwrap_or_else(|| panic!("{parts:#?}")).clone()
}

fn install(daemon: &Daemon, file: &Path, force: bool) -> (Result<(), FirmwareError>, Vec<Progress>) {
    let mut seen = Vec::new();
    let image = File::open(file).unwrap();
    let outcome = daemon.install(&camera(daemon), &image, force, &mut |progress| seen.push(progress.clone()));
    (outcome, seen)
}

#[test]
fn signed_firmware_is_installed_and_its_progress_is_told() {
    let Some(directory) = alone("signed_firmware_is_installed_and_its_progress_is_told", true) else {
        return;
    };
    let daemon = Daemon::connect().unwrap();
    let before = camera(&daemon);
    assert!(before.updatable && before.plugin == "test", "{before:?}");
    assert_eq!((before.version.as_deref(), before.kind()), (Some("1.2.2"), None));
    let signed = directory.join("signed.cab");
    let details = daemon.details(&File::open(&signed).unwrap()).unwrap();
    assert!(details.len() == 1 && details[0].signed, "{details:?}");
    assert_eq!(details[0].version.as_deref(), Some("1.2.4"));
    let (outcome, seen) = install(&daemon, &signed, false);
    outcome.unwrap();
    assert_eq!(camera(&daemon).version.as_deref(), Some("1.2.4"));
    let writing: Vec<u32> =
        seen.iter().filter(|it| it.status == "writing").filter_map(|it| it.percent).collect();
    assert!(writing.len() > 2 && writing.is_sorted() && writing.iter().all(|it| *it <= 100), "{seen:?}");
    // The same once more only if that is wanted expressly.
    let refused = install(&daemon, &signed, false).0.unwrap_err();
    assert!(matches!(&refused, FirmwareError::Refused { .. }), "{refused}");
    install(&daemon, &signed, true).0.unwrap();
}

#[test]
fn what_nobody_trusted_has_signed_is_refused_also_by_a_daemon_that_would_take_it() {
    let name = "what_nobody_trusted_has_signed_is_refused_also_by_a_daemon_that_would_take_it";
    let Some(directory) = alone(name, false) else { return };
    let daemon = Daemon::connect().unwrap();
    for file in ["stranger.cab", "bent.cab", "unsigned.cab"].map(|name| directory.join(name)) {
        let (outcome, seen) = install(&daemon, &file, true);
        let refused = outcome.unwrap_err();
        assert!(matches!(&refused, FirmwareError::Unsigned), "{}: {refused}", file.display());
        assert!(seen.is_empty(), "{seen:?}");
    }
    assert_eq!(camera(&daemon).version.as_deref(), Some("1.2.2"));
    // What is no firmware at all, and what is for something else.
    let nothing = directory.join("nothing.cab");
    for content in [&b""[..], b"MSCF", &[0x5a; 4096]] {
        std::fs::write(&nothing, content).unwrap();
        let refused = install(&daemon, &nothing, false).0.unwrap_err();
        assert!(matches!(&refused, FirmwareError::Image(_) | FirmwareError::Refused { .. }), "{refused:?}");
    }
    let mut other = camera(&daemon);
    other.guids = vec!["00000000-0000-0000-0000-000000000000".to_owned()];
    let image = File::open(directory.join("signed.cab")).unwrap();
    let refused = daemon.install(&other, &image, false, &mut |_| ()).unwrap_err();
    assert!(matches!(&refused, FirmwareError::OfOthers), "{refused}");
    other.updatable = false;
    let refused = daemon.install(&other, &image, false, &mut |_| ()).unwrap_err();
    assert!(matches!(&refused, FirmwareError::NotUpdatable(_)), "{refused}");
}

#[test]
fn a_machine_without_fwupd_says_so() {
    const BUS: &str = "MINKA_FWUPD_NOWHERE";
    if std::env::var_os(BUS).is_some() {
        let error = Daemon::connect().and_then(|daemon| daemon.parts()).unwrap_err();
        assert!(matches!(&error, FirmwareError::Bus(_)), "{error:?}");
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_machine_without_fwupd_says_so"]).env(BUS, "1");
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
    assert!(command.status().unwrap().success());
}
