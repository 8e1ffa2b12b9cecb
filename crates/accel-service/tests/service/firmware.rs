//! Firmware that is updated when a client asks, by a real fwupd daemon with its test devices.

#[path = "../../../accel-firmware/tests/bench/mod.rs"]
mod bench;

use std::time::{Duration, Instant};

use minka_access::{self as auth, Role};
use serde_json::{Value, json};

use crate::support::Service;
use bench::{CAMERA, alone};

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn firmware_is_updated_through_fwupd_and_only_with_a_trusted_signature() {
    let name = "firmware::firmware_is_updated_through_fwupd_and_only_with_a_trusted_signature";
    let Some(directory) = alone(name, false) else { return };
    let service = Service::start(1, |_| {});
    let token = auth::add(&service.tokens(), "ana", Role::Admin).unwrap();
    let operator = auth::add(&service.tokens(), "luis", Role::Operate).unwrap();
    let ask = |token: &str, image: &Value| {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let answer = service.ask("POST", "/rest/v1/devices/0/updatefw", &headers, &image.to_string());
        (answer.status, answer.json())
    };
    let state = || service.get("/rest/v1/devices/0/firmware").json();
    let image = |file: &str, part: Option<&str>| json!({"file": directory.join(file), "firmware_name": "GFX", "part": part});
    // Follows an update to its end; what it said meanwhile.
    let follow = |image: &Value| {
        let (status, begun) = ask(&token, image);
        assert_eq!(
            (status, &begun["result"], &begun["part"]),
            (202, &json!("ONGOING"), &json!(CAMERA)),
            "{begun}"
        );
        let (until, mut seen) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let now = state();
            seen.push((now["status"].clone(), now["percentage"].clone()));
            if now["result"] != "ONGOING" {
                return (now, seen);
            }
            assert!(Instant::now() < until, "{now}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    assert_eq!((&state()["result"], &state()["device_id"]), (&Value::Null, &json!(0)));

    // The recorded card has no part there, and what is sent has to make sense.
    let (status, told) = ask(&token, &image("signed.cab", None));
    assert!(
        status == 409 && told["detail"].as_str().unwrap().contains("no such part of this device"),
        "{told}"
    );
    assert_eq!(ask(&operator, &image("signed.cab", Some(CAMERA))).0, 403);
    assert_eq!(ask(&token, &json!({"file": "signed.cab", "firmware_name": "GFX"})).0, 422);
    assert_eq!(ask(&token, &image("none.cab", Some(CAMERA))).0, 409);
    let (status, told) = ask(&token, &json!({"file": "/dev/null", "firmware_name": "AMC"}));
    assert!(status == 409 && told["detail"].as_str().unwrap().contains("network interface"), "{told}");

    for file in ["stranger.cab", "bent.cab", "unsigned.cab"] {
        let (ended, _) = follow(&image(file, Some(CAMERA)));
        assert_eq!(ended["result"], "FAILED", "{file}: {ended}");
        assert!(ended["error"].as_str().unwrap().contains("nobody whom this machine trusts"), "{ended}");
    }
    let (ended, seen) = follow(&image("signed.cab", Some(CAMERA)));
    assert_eq!((&ended["result"], &ended["error"]), (&json!("OK"), &Value::Null), "{ended}");
    assert!(seen.iter().any(|(_, percent)| percent.as_u64().is_some_and(|it| it > 0)), "{seen:?}");
    // It runs what was installed: the same once more only if that is wanted expressly.
    let (ended, _) = follow(&image("signed.cab", Some(CAMERA)));
    assert_eq!(ended["result"], "FAILED", "{ended}");
    let mut again = image("signed.cab", Some(CAMERA));
    again["force"] = json!(true);
    // While it is installed there is no other, and the service answers all the same.
    assert_eq!(ask(&token, &again).0, 202);
    let (status, told) = ask(&token, &again);
    assert!(status == 409 && told["detail"].as_str().unwrap().contains("goes on already"), "{told}");
    let begun = Instant::now();
    assert_eq!(service.get("/api/v1/health").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(2));
    let until = Instant::now() + PATIENCE;
    while state()["result"] == "ONGOING" {
        assert!(Instant::now() < until, "{}", state());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(state()["result"], "OK", "{}", state());
    let log = std::fs::read_to_string(service.directory.path().join("audit.log")).unwrap();
    assert!(log.contains("ana") && log.contains("/rest/v1/devices/0/updatefw"), "{log}");
}
