//! `minka xpu` as people call it, on recordings of real cards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use minka_accel::fixture::{Recording, plant_machine};
use serde_json::{Value, json};

fn minka(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
    command.arg("xpu").args(arguments).env("LC_ALL", "C").env("XDG_CONFIG_HOME", home).output().unwrap()
}

#[test]
fn health_knows_configured_limits_and_refuses_those_that_make_no_sense() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("machine");
    Recording::named("vangogh").unwrap().plant(&root).unwrap();
    let file = directory.path().join("limits.toml");
    let (root, limits) = (root.to_str().unwrap(), file.to_str().unwrap());
    let health = || minka(directory.path(), &["--root", root, "health", "--limits", limits, "-j"]);

    let missing = health();
    let text = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(text.starts_with("minka: failed to read the file of limits "), "{text}");

    fs::write(&file, "[[limits]]\ncore_temperature = { warning = 90, critical = 80 }\n").unwrap();
    let text = String::from_utf8(health().stderr).unwrap();
    assert!(text.contains("above its critical limit"), "{text}");

    fs::write(&file, "[[limits]]\ncore_temperature = { warning = 40, critical = 60 }\n").unwrap();
    let answer: Value = serde_json::from_slice(&health().stdout).unwrap();
    let text = answer.to_string();
    assert!(text.contains(&json!({"value": 40.0, "origin": "configured"}).to_string()), "{text}");
    assert!(text.contains("critical from 60 °C (configured)"), "{text}");
}

#[test]
fn groups_and_settings_are_kept_between_calls() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("machine");
    plant_machine(&root, 3).unwrap();
    let file = directory.path().join("state/xpu.toml");
    let run = |arguments: &[&str]| {
        let mut all =
            vec!["--root", root.to_str().unwrap(), arguments[0], "--state", file.to_str().unwrap(), "-j"];
        all.extend(&arguments[1..]);
        let output = minka(directory.path(), &all);
        let answer = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), answer)
    };
    let group = |id: u32, devices: Value| {
        let count = devices.as_array().unwrap().len();
        json!({"group_id": id, "group_name": "arc", "device_count": count, "device_id_list": devices, "absent": []})
    };
    let one = |devices| json!({"groups": [group(1, devices)]});
    assert_eq!(run(&["group", "-c", "-n", "arc"]), (0, one(json!([]))));
    assert_eq!(run(&["group", "-a", "-g", "1", "-d", "2,0"]), (0, one(json!([0, 2]))));
    assert_eq!(run(&["group", "-r", "-g", "1", "-d", "0000:01:00.0"]), (0, one(json!([2]))));
    assert_eq!(run(&["group", "-l"]), (0, one(json!([2]))));
    assert_eq!(run(&["group", "-a", "-g", "1", "-d", "9"]).0, 4);
    assert_eq!(run(&["group", "-l", "-g", "7"]).0, 4);
    assert_eq!(run(&["group", "-c"]).0, 2);
    assert_eq!(run(&["group", "-D", "-g", "1"]).0, 0);
    assert_eq!(run(&["group"]), (0, json!({"groups": []})));
    assert_eq!(run(&["agentset"]), (0, json!({"sample_interval": 1000})));
    assert_eq!(run(&["agentset", "-t", "300"]).0, 2);
    assert_eq!(run(&["agentset", "-t", "200"]), (0, json!({"sample_interval": 200})));
    assert_eq!(run(&["agentset", "-l"]), (0, json!({"sample_interval": 200})));
}

#[test]
fn a_card_is_set_shown_and_put_back_and_refusals_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("machine");
    plant_machine(&root, 3).unwrap();
    let file = directory.path().join("state/xpu.toml");
    let run = |arguments: &[&str]| {
        let mut all = vec!["--root", root.to_str().unwrap(), "config", "--state", file.to_str().unwrap()];
        all.extend(arguments);
        let output = minka(directory.path(), &all);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let limit =
        || fs::read_to_string(root.join("sys/class/drm/card2/device/tile0/gt0/freq0/max_freq")).unwrap();
    let (code, text, _) = run(&["-d", "2", "--frequencyrange", "500,1500"]);
    assert_eq!((code, limit().as_str()), (0, "1500"));
    assert!(text.contains("/freq0/max_freq: 1500\n"), "{text}");
    let (_, text, _) = run(&["-d", "2"]);
    assert!(text.contains("500 to 1500 MHz") && text.contains("is 1500, it was 2850"), "{text}");
    let (code, _, text) = run(&["-d", "2", "--frequencyrange", "500,9000"]);
    assert!(code == 2 && text.contains("this device takes 400 to 2850 MHz"), "{code} {text}");
    let (code, _, text) = run(&["-d", "2", "--memoryecc", "1"]);
    assert!(code == 5 && text.contains("the card's firmware keeps it"), "{code} {text}");
    assert_eq!(run(&["-d", "2", "--powerlimit", "20", "--restore"]).0, 2);
    assert_eq!(run(&["-d", "7"]).0, 4);
    assert_eq!((run(&["-d", "2", "--restore"]).0, limit().trim()), (0, "2850"));
}

#[test]
fn statistics_and_health_of_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("machine");
    plant_machine(&root, 3).unwrap();
    let file = directory.path().join("xpu.toml");
    let run = |command: &str, arguments: &[&str]| {
        let state = file.to_str().unwrap();
        let mut all = vec!["--root", root.to_str().unwrap(), command, "--state", state, "-j"];
        all.extend(arguments);
        let output = minka(directory.path(), &all);
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default())
    };
    run("group", &["-c", "-n", "two"]);
    run("group", &["-a", "-g", "1", "-d", "0,2"]);
    let ids = |answer: &Value, list: &str| {
        let list = answer[list].as_array().unwrap().iter().map(|entry| entry["device_id"].clone());
        list.collect::<Vec<_>>()
    };
    assert_eq!(ids(&run("health", &["-g", "1"]).1, "devices"), [json!(0), json!(2)]);
    assert_eq!(ids(&run("stats", &["-g", "1"]).1, "datas"), [json!(0), json!(2)]);
    assert_eq!(run("stats", &["-g", "2"]).0, 4);
    assert_eq!(run("health", &["-g", "1", "-d", "0"]).0, 2);
}

#[test]
fn policies_are_made_listed_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("machine");
    plant_machine(&root, 2).unwrap();
    let file = directory.path().join("xpu.toml");
    let run = |arguments: &[&str]| {
        let state = file.to_str().unwrap();
        let mut all = vec!["--root", root.to_str().unwrap(), "-j", "policy", "--state", state];
        all.extend(arguments);
        let output = minka(directory.path(), &all);
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default())
    };
    let hot = ["--type", "gpu_temperature", "--condition", "greater", "--threshold", "90"];
    let make = |more: &[&str]| run(&[&["-c"], &hot[..], more].concat());
    let (code, all) =
        make(&["--throttle", "300,600", "--notify", "http://127.0.0.1:1/", "--", "logger", "hot"]);
    assert_eq!(code, 0);
    let policies = all["policies"].as_array().unwrap();
    assert_eq!(policies.len(), 2);
    for (policies, device) in policies.iter().zip([0, 1]) {
        let policy = &policies["policy_list"][0];
        assert_eq!((&policies["device_id"], &policy["device_id"]), (&json!(device), &json!(device)));
        assert_eq!(policy["type"], "XPUM_POLICY_TYPE_GPU_TEMPERATURE");
        assert_eq!(policy["action"]["throttle_device_frequency_max"], 600);
        assert_eq!((&policy["command"], &policy["raised_since"]), (&json!(["logger", "hot"]), &Value::Null));
    }
    assert_eq!(run(&["-c", "-d", "0", "--type", "8", "--condition", "when-occur", "--drain"]).0, 0);
    assert_eq!(run(&["-l", "-d", "0"]).1["policies"][0]["policy_list"].as_array().unwrap().len(), 2);
    assert_eq!(run(&["-r", "-d", "0", "--type", "0"]).0, 0);
    assert_eq!(run(&["-r", "-d", "0", "--type", "0"]).0, 4);
    assert_eq!(run(&["-c", "--type", "gpu_missing", "--condition", "greater", "--threshold", "1"]).0, 2);
    assert_eq!(run(&["-c", "--type", "10", "--condition", "greater"]).0, 2);
    assert_eq!(make(&["--notify", "ftp://example.org"]).0, 2);
    assert_eq!(run(&["--listalltypes"]).1["types"].as_array().unwrap().len(), 10);
}

#[test]
fn trouble_is_found_in_the_log_and_bundled_for_those_who_help() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("machine");
    plant_machine(&root, 3).unwrap();
    let write = |file: &str, text: &str| {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let run = |arguments: &[&str]| {
        let output = minka(directory.path(), &[&["--root", root.to_str().unwrap()], arguments].concat());
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default())
    };
    let unread = run(&["diag", "--precheck", "-j"]).1;
    assert_eq!((&unread["log"], &unread["component_list"]), (&Value::Null, &json!([])));
    assert!(unread["reason"].as_str().unwrap().contains("dev/kmsg"), "{unread}");
    write(
        "dev/kmsg",
        "3,1,1000000,-;xe 0000:03:00.0: [drm] GT0: Timedout job: seqno=1\n SUBSYSTEM=pci\n\
                       3,2,9000000,-;i915 0000:01:00.0: [drm] *ERROR* GuC initialization failed -5\n\
                       6,3,9500000,-;usb 1-1: new device\n",
    );
    write("proc/uptime", "10.00 5.00\n");
    let found = run(&["diag", "--precheck", "-j"]).1;
    let ids = |found: &Value| {
        let list = found["component_list"].as_array().unwrap().iter();
        list.map(|finding| finding["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&found), [3, 8]);
    assert_eq!(ids(&run(&["diag", "--precheck", "--since", "-5s", "-j"]).1), [3]);
    assert_eq!(
        run(&["diag", "--precheck", "--listtypes", "-j"]).1["error_type_list"].as_array().unwrap().len(),
        19
    );
    let examined = run(&["diag", "-d", "2", "-l", "2", "-j"]).1;
    assert_eq!(examined["device_list"][0]["component_count"], 8);
    assert_eq!(run(&["vgpu", "-l", "-d", "2", "-j"]).1, json!({"vf_list": [], "total": null}));
    assert_eq!(run(&["vgpu", "-c", "-d", "2", "-n", "2"]).0, 5);

    let archive = directory.path().join("xpu.tar.gz");
    let state = directory.path().join("xpu.toml");
    fs::write(
        &state,
        "[[policy]]\ndevice = \"0000:03:00.0\"\n[policy.policy]\nkind = \"gpu_missing\"\n\
                       condition = \"when_occur\"\naction = \"notify\"\nnotify = \"http://h/?secret\"\n",
    )
    .unwrap();
    let (archive, state) = (archive.to_str().unwrap(), state.to_str().unwrap());
    assert_eq!(run(&["log", "-f", archive, "--state", state]).0, 0);
    let tar = |arguments: &[&str]| {
        let output = std::process::Command::new("tar").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let names = tar(&["-tzf", archive]);
    assert_eq!(names.lines().count(), 11, "{names}");
    let log = tar(&["-xOzf", archive, "minka-xpu/kernel-log.txt"]);
    assert!(log.contains("[    1.000000] xe 0000:03:00.0") && !log.contains("usb"), "{log}");
    let all = tar(&["-xOzf", archive]);
    assert!(all.contains("gpu_missing") && !all.contains("secret"));
}

#[test]
fn top_shows_who_keeps_a_device_busy_first() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("machine");
    plant_machine(&root, 1).unwrap();
    let run = |arguments: &[&str]| {
        let mut all = vec!["--root", root.to_str().unwrap()];
        all.extend(arguments);
        minka(directory.path(), &all)
    };
    let found: Value = serde_json::from_slice(&run(&["discovery", "-j"]).stdout).unwrap();
    let address =
        found["devices"][0]["pci_bdf_address"].as_str().unwrap_or_else(|| panic!("{found}")).to_owned();
    let plant = |pid: u32, name: &str, memory: &str, engine: &str| {
        let folder = root.join(format!("proc/{pid}"));
        fs::create_dir_all(folder.join("fdinfo")).unwrap();
        fs::write(folder.join("comm"), name).unwrap();
        let text = format!(
            "drm-driver:\ti915\ndrm-client-id:\t{pid}\ndrm-pdev:\t{address}\ndrm-resident-local0:\t{memory}\n{engine}"
        );
        fs::write(folder.join("fdinfo/next"), text).unwrap();
        // In one step, as the kernel tells it.
        fs::rename(folder.join("fdinfo/next"), folder.join("fdinfo/3")).unwrap();
    };
    plant(41, "large", "900 MiB", "");
    let ended = std::sync::atomic::AtomicBool::new(false);
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            let start = std::time::Instant::now();
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let engine = format!("drm-engine-render:\t{} ns\n", start.elapsed().as_nanos() / 2);
                plant(42, "busy", "3 MiB", &engine);
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        let answer = run(&["top", "-j"]);
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        answer
    });
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let names = answer["processes"].as_array().unwrap().iter();
    let names: Vec<&str> = names.filter_map(|row| row["process"]["process_name"].as_str()).collect();
    assert_eq!(names, ["busy", "large"], "{answer}");
    let percent = answer["processes"][0]["percent"].as_f64().unwrap();
    assert!(percent > 0.0 && percent <= 100.0, "{answer}");
    assert_eq!(answer["processes"][1]["percent"], Value::Null);
    assert_eq!(answer["devices"].as_array().unwrap().len(), 1);

    let text = String::from_utf8(run(&["top", "--once"]).stdout).unwrap();
    let line = text.lines().find(|line| line.contains("large")).unwrap();
    assert!(line.contains("900 MiB") && line.contains('–'), "{text}");
    // Without a terminal it is shown once, too.
    assert!(run(&["top"]).status.success());
}

#[test]
fn firmware_that_nobody_can_update_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("machine");
    Recording::named("b580_6_16").unwrap().plant(&root).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
        command.args(["xpu", "--root"]).arg(&root).arg("updatefw").args(arguments);
        // A bus where nobody is.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus").env("LC_ALL", "C");
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&["-d", "0", "-t", "AMC", "-f", "/dev/null", "-y"]);
    assert!(code == 5 && text.contains("a network interface of its own"), "{code} {text}");
    for arguments in [&["-d", "0"][..], &["-d", "0", "-t", "GFX", "-f", "/dev/null", "-y"]] {
        let (code, text) = run(arguments);
        assert!(code == 1 && text.contains("message bus"), "{code} {text}");
    }
    let (code, _) = run(&["-d", "0", "-t", "GPU", "-f", "/dev/null"]);
    assert_eq!(code, 2);
}

#[test]
fn sensors_single_checks_and_fields_that_people_know() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("machine");
    Recording::named("b580_6_16").unwrap().plant(&root).unwrap();
    let run = |arguments: &[&str]| {
        let output = minka(&root, &[&["--root", root.to_str().unwrap()], arguments].concat());
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&run(arguments).1).unwrap() };
    let sensors = json(&["sensor", "-j"])["devices"][0]["readings"].as_array().unwrap().clone();
    let metrics: std::collections::BTreeSet<_> =
        sensors.iter().map(|it| it["metric"].as_str().unwrap()).collect();
    assert!(
        metrics.contains("temperature") && metrics.contains("fan_speed") && !metrics.contains("frequency"),
        "{metrics:?}"
    );
    let one = json(&["health", "-d", "0", "-c", "2", "-j"]);
    let checks = one["devices"][0]["checks"].as_array().unwrap();
    assert_eq!((checks.len(), &checks[0]["kind"]), (1, &json!("memory_temperature")), "{one}");
    assert_eq!(run(&["health", "-l", "-c", "7"]).0, 2);
    assert_eq!(run(&["amcsensor"]).0, 5);
    let (code, text) =
        run(&["--query-gpu=utilization.render,eu.active,pcie.tx.throughput.kbs", "--format=csv,noheader"]);
    assert_eq!((code, text.as_str()), (0, "[N/A], [N/A], [N/A]\n"));
}
