//! The service over real connections: the contract's five calls, changes of devices, hostile callers, many scrapers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod devices;
mod firmware;
mod strangers;
mod support;
mod towards;

use minka_accel_service::http::Url;
use minka_access::{self as auth, Role};
use serde_json::{Value, json};
use support::Service;

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
    assert!(metrics["reasons"]["memory_used"].as_str().unwrap().contains("device file is asked"));
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
fn another_service_is_shown_the_token_that_a_file_has() {
    let devices = Service::start(2, |options| options.require_token = true);
    let token = auth::add(&devices.tokens(), "reader", Role::Read).unwrap();
    let url = format!("http://{}", devices.address);
    let file = devices.directory.path().join("token");
    let available = |file: Option<std::path::PathBuf>| {
        let analytics = Service::start(0, |options| {
            (options.manager_url, options.manager_token) = (Some(url.clone()), file);
        });
        analytics.get("/api/v1/analytics/gpu/status").json()["xpu_manager"].clone()
    };
    let found = available(None);
    assert!(found["reason"].as_str().unwrap().contains("401"), "{found}");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let found = available(Some(file.clone()));
    assert_eq!((&found["available"], found["gpus"].as_array().unwrap().len()), (&true.into(), 2), "{found}");
    // Nobody hears it in the clear but this machine, and it is not shown.
    let elsewhere = Url::parse("http://192.0.2.1:12788").unwrap().with_token_of(&file).unwrap_err();
    assert!(elsewhere.contains("over TLS only"), "{elsewhere}");
    let url = Url::parse("https://192.0.2.1").unwrap().with_token_of(&file).unwrap();
    assert!(!format!("{url:?}").contains(&token));
    std::fs::write(&file, "two words\r\nX: y").unwrap();
    assert!(Url::parse("https://a").unwrap().with_token_of(&file).is_err());
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

#[test]
fn the_dashboard_and_the_rules_ask_for_what_is_told() {
    let service = Service::start(6, |_| {});
    let told = service.get("/metrics").body;
    let told: Vec<&str> =
        told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let labels = ["hw_id", "hw_id_location", "hw_name", "hw_state"];
    for file in ["grafana-dashboard.json", "prometheus-rules.yml"] {
        let path = format!("{}/../../packaging/xpu/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
        let asked: Vec<&str> =
            words.filter(|word| word.starts_with("hw_") && !labels.contains(word)).collect();
        assert!(asked.len() > 5, "{file}: {asked:?}");
        for name in asked {
            assert!(told.contains(&name), "{file} asks for {name}, which is not among {told:?}");
        }
    }
}
