//! What XPU Manager's users ask for besides: on recordings of real cards, and of a service that runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use minka_accel::fixture::{Recording, plant_machine};
use serde_json::{Value, json};

fn minka(root: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
    command.args(["xpu", "--root"]).arg(root).args(arguments).env("LC_ALL", "C");
    let output = command.env("HOME", root).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn plant(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    Recording::named(name).unwrap().plant(directory.path()).unwrap();
    directory
}

#[test]
fn devices_are_listed_by_what_they_are() {
    let directory = plant("b580_6_16");
    let lines = |arguments: &[&str]| {
        let (code, text, error) = minka(directory.path(), arguments);
        assert_eq!(code, Some(0), "{error}");
        text
    };
    let text = lines(&["discovery", "--dump", "1,3,11"]);
    assert_eq!(text, "Device ID,Vendor Name,PCI BDF Address\n0,Intel,0000:0b:00.0\n");
    assert_eq!(lines(&["discovery", "--dump", "-1"]).lines().next().unwrap().matches(',').count(), 20);
    assert_eq!(minka(directory.path(), &["discovery", "--dump", "22"]).0, Some(2));
    let count = |option: &str| {
        let answer: Value = serde_json::from_str(&lines(&["discovery", option, "-j"])).unwrap();
        answer["devices"].as_array().unwrap().len()
    };
    assert_eq!((count("--pf"), count("--vf")), (1, 0));
    let folder = directory.path().join("sys/class/drm/card1/device/physfn");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("uevent"), "").unwrap();
    assert_eq!((count("--pf"), count("--vf")), (0, 1));
}

#[test]
fn values_of_a_tile_and_how_devices_are_joined() {
    let directory = plant("a380_xe");
    let dump = |tile: &str| minka(directory.path(), &["dump", "-d", "0", "-t", tile, "-m", "2,1", "-n", "1"]);
    let (code, text, _) = dump("0");
    let cells: Vec<&str> = text.lines().nth(1).unwrap().split(", ").collect();
    // The clock is the tile's, the power the card's.
    assert!(code == Some(0) && cells[2].parse::<f64>().is_ok() && cells[3] == "N/A", "{text}");
    assert_eq!(dump("1").0, Some(4));
    // Who has no tiles has one.
    let amd = plant("rx580");
    assert_eq!(minka(amd.path(), &["dump", "-d", "0", "-t", "0", "-m", "1", "-n", "1"]).0, Some(0));

    let machine = tempfile::tempdir().unwrap();
    plant_machine(machine.path(), 3).unwrap();
    let near = |card: u32, processors: &str| {
        let file = machine.path().join(format!("sys/class/drm/card{card}/device/local_cpulist"));
        fs::write(file, processors).unwrap();
    };
    near(0, "0-7\n");
    near(1, "8-15\n");
    near(2, "8-15\n");
    let (code, text, error) = minka(machine.path(), &["topology", "-m", "-j"]);
    assert_eq!(code, Some(0), "{error}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let link = |one: u32, other: u32| {
        let pairs = answer["topo_list"].as_array().unwrap().iter();
        let mut found = pairs.filter(|pair| {
            (&pair["local_device_id"], &pair["remote_device_id"]) == (&json!(one), &json!(other))
        });
        found.next().unwrap()["link_type"].clone()
    };
    assert_eq!([link(0, 0), link(0, 1), link(1, 2), link(2, 1)], ["S", "SYS", "NODE", "NODE"]);
    let (_, text, _) = minka(machine.path(), &["topology", "-m"]);
    assert!(text.contains("NODE") && text.contains("8-15"), "{text}");
}

#[test]
fn a_threshold_of_ones_own_holds_for_the_answer() {
    let directory = plant("b580_6_16");
    let state = |arguments: &[&str]| {
        let all = [&["health", "-d", "0", "-j"], arguments].concat();
        let (code, text, error) = minka(directory.path(), &all);
        assert_eq!(code, Some(0), "{error}");
        text
    };
    let warned = |text: &str| text.contains("\"warning\"") || text.contains("Warning");
    assert!(!warned(&state(&["-c", "1"])));
    assert!(warned(&state(&["-c", "1", "--threshold", "40"])));
    assert!(!warned(&state(&["-c", "1", "--threshold", "-1"])));
    assert_eq!(minka(directory.path(), &["health", "-c", "5", "--threshold", "1"]).0, Some(5));
    assert_eq!(minka(directory.path(), &["health", "--threshold", "1"]).0, Some(2));
}

#[test]
fn errors_are_cleared_where_the_driver_lets_them_be() {
    let i915 = plant("a380_i915");
    let cards = fs::read_dir(i915.path().join("sys/class/drm")).unwrap();
    let card = cards.map(|entry| entry.unwrap().path()).find(|path| path.join("device").exists()).unwrap();
    fs::write(card.join("error"), "GPU HANG: ecode 12:1:85dffffb\n").unwrap();
    let (code, _, error) = minka(i915.path(), &["config", "-d", "0", "--clear-ras-errors"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(fs::read_to_string(card.join("error")).unwrap().trim(), "0");
    let (code, _, error) = minka(plant("b580_6_16").path(), &["config", "-d", "0", "--clear-ras-errors"]);
    assert!(code != Some(0) && error.contains("counts no errors that can be cleared"), "{error}");
}

#[test]
fn what_no_kernel_offers_is_refused_with_the_reason() {
    let directory = plant("b580_6_16");
    let check = |arguments: &[&str], reason: &str| {
        let (code, _, error) = minka(directory.path(), arguments);
        assert!(code == Some(5) && error.contains(reason), "{arguments:?}: {code:?} {error}");
    };
    check(&["discovery", "--listamcversions"], "no kernel shows cards' management controllers");
    check(&["stats", "--xelink", "--utils"], "no kernel shows links between cards");
    check(&["vgpu", "--addkernelparam"], "intel_iommu=on");
    check(&["vgpu", "-s", "-d", "0"], "do not tell that to the host");
    check(&["vgpu", "-c", "-d", "0", "-n", "2", "--lmem", "4096"], "divide it evenly");
    check(&["config", "-d", "0", "--fancurve-rpm", "40:1000"], "no speed");
    check(&["config", "-d", "0", "--pciedowngrade", "1"], "no kernel driver offers it");
    assert_eq!(minka(directory.path(), &["stats", "--utils"]).0, Some(2));
    assert_eq!(minka(directory.path(), &["diag", "--precheck", "--gpu", "-j"]).0, Some(0));
}

/// A service that ends with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_writes_values_for_whoever_shows_a_token() {
    let directory = tempfile::tempdir().unwrap();
    let (root, tokens) = (directory.path().join("machine"), directory.path().join("tokens.toml"));
    plant_machine(&root, 2).unwrap();
    let tokens = tokens.to_str().unwrap();
    let (code, token, error) =
        minka(&root, &["token", "add", "ana", "--role", "operate", "--tokens", tokens]);
    assert_eq!(code, Some(0), "{error}");
    let file = directory.path().join("token");
    fs::write(&file, token.split_whitespace().last().unwrap()).unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
    command.args(["xpu", "--root"]).arg(&root).args(["serve", "--listen", "127.0.0.1:0", "--tokens", tokens]);
    command.arg("--state").arg(directory.path().join("xpu.toml")).env("LC_ALL", "C");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _service = Service(child);
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();

    let raw = |arguments: &[&str], token: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
        command.args(["xpu", "dump", "--rawdata", "-j"]).args(arguments);
        command.env("XPU_MANAGER_URL", &url).env("LC_ALL", "C").env_remove("XPU_MANAGER_TOKEN_FILE");
        token.map(|file| command.env("XPU_MANAGER_TOKEN_FILE", file));
        let output = command.output().unwrap();
        let answer = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
        (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
    };
    let (code, _, error) = raw(&["--start", "-d", "1", "-m", "0,1"], None);
    assert!(code == Some(1) && error.contains("401"), "{code:?} {error}");
    let (code, answer, error) = raw(&["--start", "-d", "1", "-m", "0,1"], Some(&file));
    assert_eq!(code, Some(0), "{error}");
    let path = answer["dump_file_path"].as_str().unwrap().to_owned();
    let task = answer["task_id"].clone();
    assert_eq!(raw(&["--list"], None).1["dump_task_ids"], json!([task]));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(raw(&["--stop", &task.to_string()], Some(&file)).0, Some(0));
    assert_eq!(raw(&["--list"], None).1["dump_task_ids"], json!([]));
    let text = fs::read_to_string(path).unwrap();
    assert!(text.starts_with("Timestamp, DeviceId, GPU Utilization (%), GPU Power (W)\n"), "{text}");
    assert_eq!(raw(&[], None).0, Some(2));
    fs::write(&file, "\n").unwrap();
    let (code, _, error) = raw(&["--list"], Some(&file));
    assert!(code == Some(1) && error.contains("has no token"), "{error}");
}
