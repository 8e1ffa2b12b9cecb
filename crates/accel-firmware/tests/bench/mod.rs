//! A real fwupd daemon for a test, with the devices that it brings for that.

use std::path::{Path, PathBuf};
use std::process::Command;

const DIRECTORY: &str = "MINKA_FWUPD_DIRECTORY";

/// From any package's directory.
const SCRIPT: &str = "../accel-firmware/tests/fwupd.sh";

/// What fwupd calls its test device: a camera that is not there.
pub(crate) const CAMERA: &str = "08d460be0f1f9f128413f816022a6439e0078018";

/// Runs a test again, with a daemon of its own for the system's; `None` when it runs there already.
pub(crate) fn alone(test: &str, only_trusted: bool) -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return Some(directory.into());
    }
    let needed = [
        "/usr/libexec/fwupd/fwupd",
        "/usr/share/installed-tests/fwupd/fakedevice124.bin",
        "/usr/lib/polkit-1/polkitd",
        "/usr/bin/dbus-daemon",
        "/usr/bin/openssl",
        "/usr/bin/python3",
    ];
    if let Some(missing) = needed.into_iter().find(|path| !Path::new(path).exists()) {
        eprintln!("not tried: {missing} is not there");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT);
    let mut command = Command::new("sh");
    command.arg(script).arg(directory.path()).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(DIRECTORY, directory.path());
    command.env("ONLY_TRUSTED", only_trusted.to_string()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let status = command.status().unwrap();
    if status.code() == Some(77) {
        eprintln!("not tried: fwupd's daemon does not start here");
        return None;
    }
    assert!(status.success(), "{status}");
    None
}
