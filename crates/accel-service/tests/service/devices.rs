//! Changing devices, and how they are watched.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use minka_accel_service::state::Store;
use minka_access::{self as auth, Role};
use serde_json::{Value, json};

use crate::support::Service;

#[test]
fn changing_takes_a_role_and_is_written_down() {
    let service = Service::start(1, |_| {});
    let reader = auth::add(&service.tokens(), "reader", Role::Read).unwrap();
    let operator = auth::add(&service.tokens(), "operator", Role::Operate).unwrap();
    let path = "/rest/v1/devices/0/health/coreTemperature";
    let put = |token: &str, body: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        service.ask("PUT", path, &headers, body)
    };
    let body = r#"{"custom_threshold": 50}"#;
    assert_eq!(put("reader.guess", body).status, 401);
    assert_eq!(put(&reader, body).status, 403);
    let answer = put(&operator, body);
    assert_eq!((answer.status, answer.json()["status"].clone()), (200, json!("Warning")));
    assert_eq!(put(&operator, r#"{"custom_threshold": -5}"#).status, 422);
    assert_eq!(put(&operator, r#"{"custom_threshold": "#).status, 400);
    assert_eq!(put(&operator, r#"{"threshold": 5}"#).status, 422);
    assert_eq!(put(&operator, r#"{"custom_threshold": -1}"#).json()["custom_threshold"], -1.0);
    let log = std::fs::read_to_string(service.directory.path().join("audit.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses: Vec<u64> = lines.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [401, 403, 200, 422, 400, 422, 200]);
    assert_eq!((&lines[2]["token"], &lines[0]["token"]), (&json!("operator"), &json!("-")));
    assert!(!log.contains(operator.split_once('.').unwrap().1));
}

#[test]
fn groups_and_settings_last_until_they_are_changed() {
    let service = Service::start(3, |_| {});
    let token = format!("Bearer {}", auth::add(&service.tokens(), "ana", Role::Admin).unwrap());
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    let made = service.ask("POST", "/rest/v1/groups", &headers, r#"{"group_name": "arc"}"#);
    assert_eq!((made.status, made.json()["group_id"].clone()), (201, json!(1)));
    let set = service.ask("POST", "/rest/v1/groups/1", &headers, r#"{"device_id_list": [2, 0, 2]}"#);
    assert_eq!(set.json()["device_id_list"], json!([0, 2]));
    assert_eq!(service.ask("POST", "/rest/v1/groups/1", &headers, r#"{"device_id_list": [9]}"#).status, 409);
    let health = service.get("/rest/v1/groups/1/health").json();
    assert_eq!(health["devices"][1]["core_temperature"]["status"], "OK");
    assert_eq!(service.get("/rest/v1/groups/1/stats").json()["datas"].as_array().unwrap().len(), 2);

    let state = service.directory.path().join("state/xpu.toml");
    let settings = |body| service.ask("POST", "/rest/v1/agentSettings", &headers, body);
    assert_eq!(settings(r#"{"sample_interval": 500}"#).status, 200);
    let again = Service::start(3, |options| (options.state, options.interval) = (state.clone(), None));
    assert_eq!(again.get("/rest/v1/groups/1").json()["device_id_list"], json!([0, 2]));
    assert_eq!(again.get("/rest/v1/agentSettings").json()["sample_interval"], 500);
    // Both follow what is written, whoever writes it.
    Store::at(state).change(|state| state.set_sample_interval(200)).unwrap();
    for each in [&service, &again] {
        let until = Instant::now() + Duration::from_secs(10);
        while each.get("/rest/v1/agentSettings").json()["sample_interval"] != 200 {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    assert_eq!(service.ask("DELETE", "/rest/v1/groups/1", &headers, "").status, 204);
    assert_eq!(service.get("/rest/v1/groups/1").status, 404);
    assert_eq!(again.get("/rest/v1/groups/1").status, 404);
}

#[test]
fn devices_are_set_by_admins_within_their_limits_and_put_back() {
    let service = Service::start(3, |_| {});
    let role = |name: &str, role| format!("Bearer {}", auth::add(&service.tokens(), name, role).unwrap());
    let (operator, admin) = (role("operator", Role::Operate), role("admin", Role::Admin));
    let ask = |method: &str, token: &str, path: &str, body: &str| {
        let headers = [("Authorization", token), ("Content-Type", "application/json")];
        service.ask(method, &format!("/rest/v1/devices/{path}"), &headers, body)
    };
    let put = |path: &str, body: &str| ask("PUT", &admin, path, body);
    let range = r#"{"min_frequency": 1000, "max_frequency": 2000.0, "tile_id": 0}"#;
    assert_eq!(ask("PUT", &operator, "2/frequencyrange", range).status, 403);
    let file = service.directory.path().join("sys/class/drm/card2/device/tile0/gt0/freq0/max_freq");
    let held = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!((put("2/frequencyrange", range).status, held()), (200, "2000".to_owned()));
    let config = service.get("/rest/v1/devices/2/config").json();
    assert_eq!(
        (&config["tileConfigData"][0]["max_frequency"], &config["changed"][0]["before"]),
        (&json!(2000), &json!("400"))
    );
    assert_eq!(config["tileConfigData"][0]["scheduler_mode"], "timeslice");
    let refused = put("2/frequencyrange", r#"{"min_frequency": 1, "max_frequency": 2000}"#);
    assert_eq!(refused.status, 409);
    assert!(refused.json()["detail"].as_str().unwrap().contains("this device takes 400 to 2850 MHz"));
    assert_eq!(put("2/frequencyrange", r#"{"min_frequency": 400.5, "max_frequency": 2000}"#).status, 422);
    assert_eq!(put("0/powerlimit", r#"{"power_limit": 40}"#).status, 200);
    assert_eq!(put("0/powerlimit", r#"{"power_limit": 56}"#).status, 409);
    let conflicts = [
        ("2/scheduler", r#"{"scheduler_mode": "exclusive"}"#),
        ("2/memoryecc", r#"{"enabled": 1}"#),
        ("2/portenabled", r#"{"port": 1, "enabled": 1}"#),
        ("2/portbeaconing", r#"{"port": 1, "beaconing": 0}"#),
        ("2/performancefactor", r#"{"engine": "compute", "factor": 50}"#),
        ("2/standby", r#"{"standby_mode": "never"}"#),
    ];
    for (path, body) in conflicts {
        let answer = put(path, body);
        assert_eq!(answer.status, 409, "{path} {}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().starts_with("failed to set "), "{}", answer.body);
    }
    assert_eq!(put("2/scheduler", r#"{"scheduler_mode": "timeslice"}"#).status, 409);
    assert_eq!(ask("POST", &admin, "2/reset", "{}").status, 409);
    assert_eq!(ask("POST", &admin, "2/ppr", "{}").status, 409);
    assert_eq!(put("9/powerlimit", r#"{"power_limit": 40}"#).status, 404);
    assert_eq!(ask("DELETE", &admin, "2/config", "").json()["settings"].as_array().unwrap().len(), 2);
    assert_eq!(held(), "2850");
    assert_eq!(service.get("/rest/v1/devices/2/config").json()["changed"], json!([]));
}

/// One question that a webhook's owner is asked; answered with 204.
fn receive(listener: &std::net::TcpListener) -> Value {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut text, mut piece) = (String::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut piece).unwrap();
        text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let wanted = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        if body.len() == wanted.parse::<usize>().unwrap() {
            stream.write_all(b"HTTP/1.0 204 No Content\r\n\r\n").unwrap();
            return serde_json::from_str(body).unwrap();
        }
    }
}

#[test]
fn a_policy_throttles_drains_tells_and_puts_back() {
    let service = Service::start(3, |_| {});
    let role = |name: &str, role| format!("Bearer {}", auth::add(&service.tokens(), name, role).unwrap());
    let (operator, admin) = (role("operator", Role::Operate), role("admin", Role::Admin));
    let path = "/rest/v1/devices/2/policy";
    let ask = |method: &str, token: &str, body: &Value| {
        let headers = [("Authorization", token), ("Content-Type", "application/json")];
        service.ask(method, path, &headers, &body.to_string()).status
    };
    let hook = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", hook.local_addr().unwrap());
    let policy = |kind: &str, action: Value| {
        json!({
            "type": format!("XPUM_POLICY_TYPE_{kind}"), "action": action, "notify_callback_url": url,
            "condition": {"type": "XPUM_POLICY_CONDITION_TYPE_GREATER", "threshold": 70},
        })
    };
    let throttle = json!({
        "type": "XPUM_POLICY_ACTION_TYPE_THROTTLE_DEVICE",
        "throttle_device_frequency_min": 500, "throttle_device_frequency_max": 800,
    });
    let throttle = policy("GPU_TEMPERATURE", throttle);
    let drain = json!({"type": "MINKA_POLICY_ACTION_TYPE_DRAIN"});
    let mut drain = policy("GPU_MEMORY_TEMPERATURE", drain);
    drain["notify_callback_url"] = Value::Null;
    assert_eq!(ask("POST", &operator, &throttle), 403);
    assert_eq!(ask("POST", &admin, &throttle), 200);
    assert_eq!(ask("POST", &admin, &drain), 200);

    let device = service.directory.path().join("sys/class/drm/card2/device");
    let clocks = || {
        ["min_freq", "max_freq"].map(|name| {
            let text = std::fs::read_to_string(device.join("tile0/gt0/freq0").join(name)).unwrap();
            text.trim().parse::<u32>().unwrap_or_default()
        })
    };
    let heat = |celsius: u32| {
        for sensor in ["temp2_input", "temp3_input"] {
            std::fs::write(device.join("hwmon/hwmon4").join(sensor), format!("{celsius}000\n")).unwrap();
        }
    };
    let store = Store::at(service.directory.path().join("state/xpu.toml"));
    let drained = || store.read().unwrap().drained().map(|(device, _)| device.to_owned()).collect::<Vec<_>>();
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        let until = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < until, "{what}: {:?} {:?}", clocks(), drained());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let before = clocks();
    heat(75);
    let told = receive(&hook);
    assert_eq!(
        (&told["state"], &told["device_id"], &told["value"], &told["policy_type"]),
        (&json!("raised"), &json!(2), &json!(75.0), &json!("gpu_temperature"))
    );
    assert_eq!(clocks(), [500, 800]);
    wait("drained", &|| drained() == ["0000:03:00.0"]);
    let listed = service.get(path).json();
    assert!(listed["policy_list"][0]["raised_since"].is_string(), "{listed}");
    assert_eq!(listed["policy_list"][0]["action"]["throttle_device_frequency_max"], 800);

    heat(50);
    assert_eq!(receive(&hook)["state"], "cleared");
    assert_eq!(clocks(), before);
    wait("not drained", &|| drained().is_empty());

    // What a policy has changed goes with it.
    heat(80);
    assert_eq!(receive(&hook)["state"], "raised");
    assert_eq!((clocks(), ask("DELETE", &operator, &json!({"type": throttle["type"]}))), ([500, 800], 200));
    assert_eq!(clocks(), before);
    assert_eq!(ask("DELETE", &operator, &json!({"type": throttle["type"]})), 404);
    assert_eq!(service.get("/rest/v1/policy").json()[2]["policy_list"].as_array().unwrap().len(), 1);
    let mut wrong = throttle.clone();
    wrong["condition"] = json!({"type": "XPUM_POLICY_CONDITION_TYPE_WHEN_OCCUR"});
    assert_eq!(ask("POST", &admin, &wrong), 409);
    wrong = throttle.clone();
    wrong["notify_callback_url"] = json!("ftp://example.org");
    assert_eq!(ask("POST", &admin, &wrong), 409);
    wrong["type"] = json!("GpuPower");
    assert_eq!(ask("POST", &admin, &wrong), 422);
}

#[test]
fn devices_are_examined_divided_and_written_down() {
    let service = Service::start(3, |_| {});
    let token = format!("Bearer {}", auth::add(&service.tokens(), "ana", Role::Admin).unwrap());
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    let ask = |method: &str, path: &str, body: &str| {
        service.ask(method, &format!("/rest/v1/{path}"), &headers, body)
    };
    assert_eq!(service.get("/rest/v1/devices/2/diagnostics").status, 404);
    assert_eq!(ask("POST", "devices/2/diagnostics", r#"{"level": 4}"#).status, 422);
    assert_eq!(ask("POST", "devices/2/diagnostics", r#"{"level": 3}"#).status, 201);
    let found = service.get("/rest/v1/devices/2/diagnostics").json();
    assert_eq!((&found["component_count"], &found["finished"]), (&json!(14), &json!(true)));
    let component = |name: &str| {
        let list = found["component_list"].as_array().unwrap();
        list.iter().find(|one| one["component_type"] == name).unwrap().clone()
    };
    assert_eq!(component("XPUM_DIAG_HARDWARE_SYSMAN")["result"], "Pass");
    let light = component("XPUM_DIAG_LIGHT_COMPUTATION");
    assert_eq!(light["result"], "Unknown");
    assert!(light["message"].as_str().unwrap().contains("a recorded device computes nothing"));
    ask("POST", "groups", r#"{"group_name": "two", "device_id_list": [0, 2]}"#);
    assert_eq!(ask("POST", "groups/1/diagnostics", r#"{"level": 1}"#).status, 201);
    assert_eq!(service.get("/rest/v1/groups/1/diagnostics").json()["device_list"][1]["level"], 1);
    let health = ask("PUT", "groups/1/health/coreTemperature", r#"{"custom_threshold": 40}"#).json();
    assert_eq!(health["devices"][1]["custom_threshold"], 40.0);
    assert_eq!(service.get("/rest/v1/groups/1/health/coreTemperature").json(), health);

    let device = service.directory.path().join("sys/class/drm/card2/device");
    assert_eq!(ask("POST", "vgpu/createvf", r#"{"device_id": 2, "num_vfs": 2}"#).status, 409);
    std::fs::write(device.join("sriov_totalvfs"), "8\n").unwrap();
    std::fs::write(device.join("sriov_numvfs"), "0\n").unwrap();
    assert_eq!(
        ask("POST", "vgpu/createvf", r#"{"device_id": 2, "num_vfs": 2, "lmem_per_vf": 9}"#).status,
        409
    );
    assert_eq!(ask("POST", "vgpu/createvf", r#"{"device_id": 2, "num_vfs": 2}"#).json()["total"], 8);
    assert_eq!(std::fs::read_to_string(device.join("sriov_numvfs")).unwrap(), "2");
    assert_eq!(ask("POST", "vgpu/removevf", r#"{"device_id": 2}"#).status, 200);
    assert_eq!(service.get("/rest/v1/vgpu/precheck").json()["sriov_status"], "Pass");

    let wanted =
        r#"{"device_id": 2, "metrics_type_list": ["XPUM_DUMP_GPU_FREQUENCY", "XPUM_DUMP_EU_ACTIVE"]}"#;
    let begun = ask("POST", "dump", wanted).json();
    assert_eq!(service.get("/rest/v1/dump").json()["dump_task_ids"], json!([1]));
    let path = begun["dump_file_path"].as_str().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let text = loop {
        let text = std::fs::read_to_string(path).unwrap();
        if text.lines().count() >= 3 {
            break text;
        }
        assert!(Instant::now() < until, "{text}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("Timestamp, DeviceId, GPU Frequency (MHz), GPU EU Array Active (%)"));
    assert!(lines.next().unwrap().ends_with(", 2, 400.00, N/A"), "{text}");
    assert_eq!(ask("DELETE", "dump/1", "").json()["dump_file_path"], path);
    assert_eq!(ask("DELETE", "dump/1", "").status, 404);

    let image = r#"{"file": "/dev/null", "firmware_name": "GFX"}"#;
    let refused = ask("POST", "devices/2/updatefw", image);
    assert!(refused.status == 409 && refused.body.contains("fwupd"), "{}", refused.body);
    let document = service.get("/rest/v1/topology").json();
    assert!(document["xmlstring"].as_str().unwrap().contains("pci=\"0000:03:00.0\""), "{document}");
    assert_eq!(service.get("/healtz").json()["status"], "ok");
}
