//! The service over real connections: the contract's five calls, hostile callers, many scrapers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use minka_accel::{Limits, Root, fixture};
use minka_accel_service::auth::{self, Role};
use minka_accel_service::server::{self, App, Options};
use minka_accel_service::state::Store;
use serde_json::{Value, json};

/// A service over a recorded machine.
struct Service {
    address: SocketAddr,
    directory: tempfile::TempDir,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Service {
    fn start(cards: usize, change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fixture::plant_machine(directory.path(), cards).unwrap();
        let mut options = Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            root: Root::at(directory.path()),
            interval: Some(Duration::from_millis(100)),
            state: directory.path().join("state/xpu.toml"),
            dumps: directory.path().join("state/dumps"),
            limits: Limits::default(),
            tokens: directory.path().join("tokens.toml"),
            require_token: false,
            audit: Some(directory.path().join("audit.log")),
            python: "/nonexistent/python".into(),
            manager_url: None,
        };
        change(&mut options);
        let app = Arc::new(App::new(&options).unwrap());
        app.station.settle(Duration::from_secs(20));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(options.listen)).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = server::run(app, listener) => {}
                    _ = ended => {}
                }
            });
        });
        Service { address, directory, end: Some(end), thread: Some(thread) }
    }

    fn tokens(&self) -> PathBuf {
        self.directory.path().join("tokens.toml")
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.end.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[test]
fn the_contract_s_calls_are_answered() {
    let service = Service::start(6, |_| {});
    let answer = service.get("/api/v1/health");
    assert_eq!((answer.status, answer.json()["status"].clone()), (200, json!("ok")));
    let devices = service.get("/api/v1/xpum/device").json();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 6);
    assert_eq!(devices["devices"][0]["device_id"], 0);
    assert_eq!(devices["devices"][0]["device_name"], "Intel Arc A380");
    let health = service.get("/api/v1/xpum/device/3/health").json();
    assert_eq!(
        (&health["status"], &health["temperature"], &health["power_usage"]),
        (&json!("healthy"), &json!(44.0), &json!(41.045))
    );
    let metrics = service.get("/api/v1/xpum/device/3/metrics").json();
    let expected = json!({"gpu_utilization": 11.0, "memory_used": 512.0, "memory_total": 4096.0, "temperature": 44.0, "power_usage": 41.045});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&metrics[name], value, "{name}");
    }
    let status = service.get("/api/v1/analytics/gpu/status").json();
    assert_eq!(status["pytorch_gpu"]["available"], false);
    assert_eq!(status["xpu_manager"]["gpus"].as_array().unwrap().len(), 6);
    let both = service.get("/api/v1/analytics/gpu/metrics?device_id=3").json();
    assert_eq!((&both["device_id"], &both["metrics"]["memory_total"]), (&json!(3), &json!(4096.0)));
}

#[test]
fn what_is_not_known_is_null_with_a_reason() {
    let service = Service::start(1, |_| {});
    let metrics = service.get("/api/v1/xpum/device/0/metrics").json();
    assert_eq!(metrics["memory_used"], Value::Null);
    assert!(metrics["reasons"]["memory_used"].as_str().unwrap().contains("CAP_PERFMON"));
    assert_eq!(metrics["power_usage"], Value::Null, "the recording stands still");
}

#[test]
fn mistakes_are_problems_of_their_own_kind() {
    let service = Service::start(1, |_| {});
    let check = |method: &str, path: &str, status: u16| {
        let answer = service.ask(method, path, &[], "");
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
        assert_eq!(answer.json()["status"], status);
    };
    check("GET", "/api/v1/xpum/device/7/health", 404);
    check("GET", "/api/v1/xpum/device/x/health", 404);
    check("GET", "/api/v1/xpum/device/-1/health", 404);
    check("GET", "/api/v1/analytics/gpu/metrics?device_id=x", 400);
    check("GET", "/nowhere", 404);
    check("DELETE", "/api/v1/health", 405);
    check("POST", "/rest/v1/groups", 401);
    check("GET", "/rest/v1/devices/0/health/nothing", 404);
}

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
    wrong["notify_callback_url"] = json!("https://example.org");
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
    assert!(light["message"].as_str().unwrap().contains("takes a compute runtime"));
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

    let image = r#"{"file": "/tmp/image.bin", "firmware_name": "GFX"}"#;
    let refused = ask("POST", "devices/2/updatefw", image);
    assert!(refused.status == 409 && refused.body.contains("fwupd"), "{}", refused.body);
    let document = service.get("/rest/v1/topology").json();
    assert!(document["xmlstring"].as_str().unwrap().contains("pci=\"0000:03:00.0\""), "{document}");
    assert_eq!(service.get("/healtz").json()["status"], "ok");
}

#[test]
fn ten_guessers_do_not_delay_a_right_token() {
    let service = Service::start(1, |_| {});
    let token = auth::add(&service.tokens(), "ana", Role::Operate).unwrap();
    let ask = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let begun = Instant::now();
        let status =
            service.ask("POST", "/rest/v1/agentSettings", &headers, r#"{"sample_interval": 100}"#).status;
        (status, begun.elapsed())
    };
    assert_eq!(ask(&token).0, 200);
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let alone = median(&mut (0..50).map(|_| ask(&token).1).collect());
    let (gate, stop) = (Barrier::new(11), std::sync::atomic::AtomicBool::new(false));
    let order = std::sync::atomic::Ordering::Relaxed;
    let (mut crowded, mut limited) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let guessers: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    gate.wait();
                    let mut limited = 0;
                    for guess in 0.. {
                        if guess >= 3 && stop.load(order) {
                            break;
                        }
                        let (status, time) = ask("ana.0123456789abcdef");
                        assert!(status == 401 && time < Duration::from_secs(5), "{status} {time:?}");
                        limited += usize::from(time > Duration::from_secs(1));
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    limited
                })
            })
            .collect();
        gate.wait();
        crowded.extend((0..50).map(|_| ask(&token)));
        stop.store(true, order);
        limited = guessers.into_iter().map(|guesser| guesser.join().unwrap()).sum();
    });
    assert!(limited > 0 && crowded.iter().all(|(status, _)| *status == 200));
    let crowded = median(&mut crowded.into_iter().map(|(_, time)| time).collect());
    assert!(crowded < alone + Duration::from_millis(100), "{alone:?} alone, {crowded:?} among guessers");
}

#[test]
fn sixty_four_scrapers_are_served() {
    let service = Service::start(8, |_| {});
    std::thread::scope(|scope| {
        for number in 0..64 {
            let service = &service;
            scope.spawn(move || {
                let open = number % 2 == 0;
                let accept = if open { "application/openmetrics-text; version=1.0.0" } else { "text/plain" };
                for _ in 0..5 {
                    let answer = service.ask("GET", "/metrics", &[("Accept", accept)], "");
                    assert_eq!(answer.status, 200);
                    assert_eq!(answer.body.matches("hw_gpu_info{").count(), 8);
                    assert_eq!(answer.body.ends_with("# EOF\n"), open);
                    assert!(answer.head.contains(accept.split(';').next().unwrap()), "{}", answer.head);
                }
            });
        }
    });
}

#[test]
fn the_analytics_can_be_on_another_host_than_the_devices() {
    let devices = Service::start(2, |_| {});
    let url = format!("http://{}", devices.address);
    let analytics = Service::start(0, |options| options.manager_url = Some(url.clone()));
    let status = analytics.get("/api/v1/analytics/gpu/status").json();
    assert_eq!(status["xpu_manager"]["xpu_manager_url"], url);
    assert_eq!(status["xpu_manager"]["gpus"][1]["metrics"]["temperature"], 56.0);
    assert_eq!(
        analytics.get("/api/v1/analytics/gpu/metrics?device_id=1").json()["health"]["status"],
        "healthy"
    );
    drop(devices);
    let status = analytics.get("/api/v1/analytics/gpu/status").json();
    assert_eq!(status["xpu_manager"]["available"], false);
    assert_eq!(analytics.get("/api/v1/analytics/gpu/metrics").status, 502);
}

#[test]
fn nothing_is_told_without_a_token_where_one_is_required() {
    let service = Service::start(1, |options| options.require_token = true);
    let token = auth::add(&service.tokens(), "ana", Role::Read).unwrap();
    assert_eq!(service.get("/api/v1/health").status, 200);
    assert_eq!(service.get("/metrics").status, 401);
    assert_eq!(
        service.ask("GET", "/metrics", &[("Authorization", &format!("Bearer {token}"))], "").status,
        200
    );
}

#[test]
fn broken_requests_end_only_their_own_connection() {
    let service = Service::start(1, |_| {});
    let hostile: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /rest/v1/groups HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /%00%ff/../../etc/passwd HTTP/1.0\r\n\r\n",
        b"POST /rest/v1/groups HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ];
    for bytes in hostile {
        let mut stream = TcpStream::connect(service.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200") && !answer.starts_with(b"HTTP/1.0 200"));
    }
    let large = "x".repeat(70_000);
    let token = auth::add(&service.tokens(), "ana", Role::Admin).unwrap();
    let headers = [("Authorization", &*format!("Bearer {token}")), ("Content-Type", "application/json")];
    assert_eq!(service.ask("POST", "/rest/v1/groups", &headers, &large).status, 413);
    assert_eq!(service.get("/api/v1/health").status, 200);
}

#[test]
fn a_client_in_python_gets_what_it_needs() {
    let service = Service::start(6, |options| options.python = "python3".into());
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract_client.py");
    let url = format!("http://{}", service.address);
    let output = std::process::Command::new("python3").args([client, &url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "6\n");
}
