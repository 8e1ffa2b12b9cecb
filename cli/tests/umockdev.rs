//! The program as it is installed, without `--root`, on machines that umockdev puts in the place of `/sys`: it has to
//! read of them what it reads of the recordings themselves, and to change them.
//!
//! Without umockdev nothing is tried; `tests/install-packages` installs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use minka_accel::fixture::Recording;
use serde_json::Value;

/// Those whose card is all that is recorded of the machine.
const RECORDINGS: [&str; 5] = ["a380_i915", "a380_xe", "b580_6_16", "rx580", "rx7900xtx"];

/// The recording's card, behind a port of its own, in umockdev's words.
fn described(recording: &Recording) -> String {
    let (mut uevent, mut of_device, mut of_card) = (String::new(), String::new(), String::new());
    for (path, content) in recording.files() {
        let Some((number, file)) =
            path.strip_prefix("sys/class/drm/card").and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        let Ok(content) = String::from_utf8(content) else { continue };
        // Attributes are lines: the zero bytes with which drivers pad are taken off, and other devices' own
        // descriptions are left out.
        let content = content.trim_end_matches('\0');
        let line = content.replace('\\', "\\\\").replace('\n', "\\n");
        match file.strip_prefix("device/") {
            _ if content.contains('\0') => {}
            Some("uevent") => uevent = content.to_owned(),
            Some(file) if !file.ends_with("uevent") => writeln!(of_device, "A: {file}={line}").unwrap(),
            None if file == "dev" => writeln!(of_card, "N: dri/card{number}\nA: dev={line}").unwrap(),
            None if file != "uevent" => writeln!(of_card, "A: {file}={line}").unwrap(),
            _ => {}
        }
    }
    let properties: String = uevent.lines().map(|line| format!("E: {line}\n")).collect();
    let slot = uevent.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME=")).unwrap();
    let port = "/devices/pci0000:00/0000:00:01.0";
    format!(
        "P: {port}/{slot}\nE: SUBSYSTEM=pci\n{properties}{of_device}\n\
         P: {port}/{slot}/drm/card0\nE: SUBSYSTEM=drm\nE: DEVTYPE=drm_minor\n{of_card}L: device=../../../{slot}\n\n\
         P: {port}\nE: SUBSYSTEM=pci\nE: DRIVER=pcieport\nE: PCI_ID=8086:1901\nE: PCI_SLOT_NAME=0000:00:01.0\n\
         A: class=0x060400\n"
    )
}

fn output(mut command: Command) -> String {
    let output = command.env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is known of the only device: metric, part, and value.
fn values(text: &str) -> Vec<(String, String, Value)> {
    let answer: Value = serde_json::from_str(text).unwrap();
    assert_eq!(answer["devices"].as_array().unwrap().len(), 1);
    let readings = answer["devices"][0]["readings"].as_array().unwrap().iter();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let value =
        |reading: &Value| (word(&reading["metric"]), word(&reading["location"]), reading["value"].clone());
    readings.map(value).collect()
}

fn mocked(description: &Path) -> Command {
    let mut command = Command::new("umockdev-run");
    command.arg("-d").arg(description).arg("--");
    command
}

/// Answers xe's questions in the place of a driver that is not here: an A380's memory, of which whoever is not trusted
/// hears that nothing is used, and its engines.
const DRIVER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
struct question { uint64_t extensions; uint32_t query, size; uint64_t data, reserved[2]; };
static void memory(char *to) {
    uint64_t used = getenv("TRUSTED") ? 1 << 30 : 0, size = 6ull << 30;
    memset(to, 0, 96);
    *(uint32_t *)to = 1;
    *(uint16_t *)(to + 8) = 1;
    memcpy(to + 16, &size, 8);
    memcpy(to + 24, &used, 8);
}
static void engines(char *to) {
    memset(to, 0, 72);
    *(uint32_t *)to = 2;
    *(uint16_t *)(to + 40) = 4;
}
int ioctl(int file, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (request != 0xc0286440) {
        int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
        return next(file, request, argument);
    }
    struct question *asked = argument;
    uint32_t size = asked->query == 1 ? 96 : asked->query == 0 ? 72 : 0;
    if (!size || (asked->size && asked->size != size)) { errno = EINVAL; return -1; }
    if (asked->size) (asked->query ? memory : engines)((char *)(uintptr_t)asked->data);
    asked->size = size;
    return 0;
}
"#;

#[test]
fn the_device_file_is_asked_for_memory_and_engines() {
    if Command::new("umockdev-run").arg("--version").output().is_err() {
        eprintln!("not tried: umockdev-run is not there");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (source, driver) = (directory.path().join("driver.c"), directory.path().join("driver.so"));
    std::fs::write(&source, DRIVER).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&driver).arg(&source);
    output(compiler);
    let card = described(Recording::named("a380_xe").unwrap());
    let slot = card.lines().next().unwrap();
    let render = format!("{slot}/drm/renderD128\nN: dri/renderD128\nE: SUBSYSTEM=drm\nA: dev=226:128\n\n");
    let description = directory.path().join("machine.umockdev");
    std::fs::write(&description, format!("{card}\n{render}")).unwrap();
    let asked = |trusted: &str| {
        let mut mock = mocked(&description);
        let script = "LD_PRELOAD=\"$1:$LD_PRELOAD\" exec \"$2\" xpu readings -j";
        mock.args(["sh", "-c", script, "sh"]).arg(&driver).arg(env!("CARGO_BIN_EXE_minka"));
        if !trusted.is_empty() {
            mock.env("TRUSTED", trusted);
        }
        let values = values(&output(mock));
        move |metric: &str, place: &str| {
            let found = values.iter().find(|(m, p, _)| (m.as_str(), p.as_str()) == (metric, place));
            found.map(|(.., value)| value.clone())
        }
    };
    let (plain, trusted) = (asked(""), asked("1"));
    assert_eq!(plain("memory_total", "vram"), Some((6.0 * f64::from(1 << 30)).into()));
    assert_eq!(plain("memory_used", "vram"), Some(Value::Null));
    assert_eq!(trusted("memory_used", "vram"), Some(f64::from(1 << 30).into()));
    assert_eq!(plain("property", "gt0 engines"), Some("rcs0 ccs0".into()));
}

/// A stand-in for OpenCL's library that knows the card and computes nothing, so that whatever is tried fails.
#[test]
fn the_card_at_the_address_is_computed_on_and_let_be_by_an_interrupt() {
    if Command::new("umockdev-run").arg("--version").output().is_err() {
        eprintln!("not tried: umockdev-run is not there");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_opencl.c");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-w", "-shared", "-fPIC", "-DBUS=0x0b", "-o"])
        .arg(directory.path().join("libOpenCL.so.1"));
    compiler.arg(source);
    output(compiler);
    let description = directory.path().join("machine.umockdev");
    std::fs::write(&description, described(Recording::named("b580_6_16").unwrap())).unwrap();
    let pid = directory.path().join("pid");
    let begin = |arguments: &[&str]| {
        let script = "echo $$ >\"$1\"; shift; exec \"$@\"";
        let mut mock = mocked(&description);
        mock.args(["sh", "-c", script, "sh"]).arg(&pid).args([env!("CARGO_BIN_EXE_minka"), "xpu", "diag"]);
        mock.args(arguments).env("LD_LIBRARY_PATH", directory.path()).env("LC_ALL", "C");
        mock.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let found = begin(&["-d", "0", "--singletest", "3,7", "-j"]).wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&found.stdout).unwrap();
    for test in answer["device_list"][0]["component_list"].as_array().unwrap() {
        let message = test["message"].as_str().unwrap();
        assert!(test["result"] == "Fail" && message.ends_with("by Stand-in 1.0 of Stand-in"), "{test}");
    }

    let _ = std::fs::remove_file(&pid);
    let busy = begin(&["--stress", "--stresstime", "5", "-j"]);
    let of_helper = || {
        let own = |entry: &std::fs::DirEntry| {
            let read = |file| std::fs::read(entry.path().join(file)).unwrap_or_default();
            let has = |bytes: Vec<u8>, text: &str| String::from_utf8_lossy(&bytes).contains(text);
            has(read("cmdline"), "__compute") && has(read("environ"), directory.path().to_str().unwrap())
        };
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| own(&entry))
    };
    let until = Instant::now() + Duration::from_secs(60);
    while !of_helper() {
        assert!(Instant::now() < until, "nothing computes");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(2));
    let pid = std::fs::read_to_string(&pid).unwrap();
    assert!(Command::new("kill").args(["-INT", pid.trim()]).status().unwrap().success());
    let ended = busy.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let strain = &answer["device_list"][0];
    assert_eq!(strain["result"], "fail", "{answer}");
    assert!(strain["message"].as_str().unwrap().starts_with("stopped; "), "{answer}");
    assert!(strain["seconds"].as_f64().unwrap() < 60.0, "{answer}");
    assert!(!of_helper());
}

#[test]
fn the_program_reads_and_changes_a_machine_of_umockdev_s() {
    if Command::new("umockdev-run").arg("--version").output().is_err() {
        eprintln!("not tried: umockdev-run is not there");
        return;
    }
    let minka = env!("CARGO_BIN_EXE_minka");
    for name in RECORDINGS {
        let directory = tempfile::tempdir().unwrap();
        let recording = Recording::named(name).unwrap();
        recording.plant(&directory.path().join("machine")).unwrap();
        let description = directory.path().join("machine.umockdev");
        std::fs::write(&description, described(recording)).unwrap();
        let mut planted = Command::new(minka);
        planted.args(["xpu", "--root"]).arg(directory.path().join("machine")).args(["readings", "-j"]);
        let mut mock = mocked(&description);
        mock.args([minka, "xpu", "readings", "-j"]);
        let (planted, mock) = (values(&output(planted)), values(&output(mock)));
        assert!(planted.len() > 40, "{name}: {}", planted.len());
        assert_eq!(mock, planted, "{name}");
    }
    let directory = tempfile::tempdir().unwrap();
    let description = directory.path().join("machine.umockdev");
    std::fs::write(&description, described(Recording::named("b580_6_16").unwrap())).unwrap();
    let script = "\"$1\" xpu config -d 0 --state \"$2\" --frequencyrange 500,1500 >/dev/null && \
                  cat /sys/class/drm/card*/device/tile0/gt0/freq0/m??_freq";
    let mut changed = mocked(&description);
    changed.args(["sh", "-c", script, "sh", minka]).arg(directory.path().join("xpu.toml"));
    let text = output(changed);
    assert_eq!(text.split_whitespace().collect::<String>(), "1500500", "{text}");
}
