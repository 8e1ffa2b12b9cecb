//! Lines that are said, byte by byte.

use serde::de::DeserializeOwned;

use super::*;

/// What is said, and the line that says it, in both directions.
fn pinned<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: T, line: &str) {
    let message = Message { version: VERSION, body };
    assert_eq!(serde_json::to_string(&message).unwrap(), line);
    assert_eq!(serde_json::from_str::<Message<T>>(line).unwrap(), message);
}

#[test]
fn requests_are_pinned() {
    pinned(Request::Status, r#"{"version":1,"body":"status"}"#);
    pinned(Request::Ps { all: true }, r#"{"version":1,"body":{"ps":{"all":true}}}"#);
    pinned(
        Request::Migrate { pid: 7, to: "b".into(), at_exec: false },
        r#"{"version":1,"body":{"migrate":{"pid":7,"to":"b","at_exec":false}}}"#,
    );
    pinned(Request::Trace { pid: 7 }, r#"{"version":1,"body":{"trace":{"pid":7}}}"#);
    pinned(Request::Nodes, r#"{"version":1,"body":"nodes"}"#);
    pinned(
        Request::Start { kind: Some(DeviceKind::Amd) },
        r#"{"version":1,"body":{"start":{"kind":"amd"}}}"#,
    );
    pinned(
        Request::Steer { what: Steering::Stay { on: true } },
        r#"{"version":1,"body":{"steer":{"what":{"stay":{"on":true}}}}}"#,
    );
    pinned(Request::Steer { what: Steering::Bring }, r#"{"version":1,"body":{"steer":{"what":"bring"}}}"#);
    pinned(
        Request::Device { kind: Some(DeviceKind::Amd) },
        r#"{"version":1,"body":{"device":{"kind":"amd"}}}"#,
    );
    pinned(
        Request::Found { node: "a".to_owned(), address: "10.0.0.1:1".parse().unwrap() },
        r#"{"version":1,"body":{"found":{"node":"a","address":"10.0.0.1:1"}}}"#,
    );
    pinned(Request::Reasons { pid: 7 }, r#"{"version":1,"body":{"reasons":{"pid":7}}}"#);
    pinned(Request::Process { pid: 7 }, r#"{"version":1,"body":{"process":{"pid":7}}}"#);
    let request = Request::Advise { pid: 7, advice: Advice::Lock { on: true } };
    pinned(
        Request::For { uid: 9, request: Box::new(request) },
        r#"{"version":1,"body":{"for":{"uid":9,"request":{"advise":{"pid":7,"advice":{"lock":{"on":true}}}}}}}"#,
    );
    pinned(
        Request::Advise { pid: 7, advice: Advice::Job { kind: Job::Cpu } },
        r#"{"version":1,"body":{"advise":{"pid":7,"advice":{"job":{"kind":"cpu"}}}}}"#,
    );
}

#[test]
fn answers_are_pinned() {
    pinned(Answer::End, r#"{"version":1,"body":"end"}"#);
    pinned(Answer::Armed, r#"{"version":1,"body":"armed"}"#);
    let device = FreeDevice { kind: DeviceKind::Amd, address: "0".into(), uuid: "u".into() };
    let line =
        r#"{"version":1,"body":{"starting":{"node":"b","device":{"kind":"amd","address":"0","uuid":"u"}}}}"#;
    pinned(Answer::Starting { node: "b".into(), device }, line);
    let refused = Refusal::NotStarted { nodes: vec![("b".into(), Unstarted::NotOffered)] };
    let line = r#"{"version":1,"body":{"refused":{"not_started":{"nodes":[["b","not_offered"]]}}}}"#;
    pinned(Answer::Refused(refused), line);
    let migrated = Migrated { pid: 7, at: "b".into(), moved: true, freeze_us: 2310, with: Vec::new() };
    let line = r#"{"version":1,"body":{"migrated":{"pid":7,"at":"b","moved":true,"freeze_us":2310}}}"#;
    pinned(Answer::Migrated(migrated), line);
    let event = Event::Arrived { at: "a".into(), home: true, reason: Some("fork".into()), freeze_us: 9 };
    let line =
        r#"{"version":1,"body":{"event":{"arrived":{"at":"a","home":true,"reason":"fork","freeze_us":9}}}}"#;
    pinned(Answer::Event(event), line);
    let line = r#"{"version":1,"body":{"event":{"call":{"line":"getppid() = 1"}}}}"#;
    pinned(Answer::Event(Event::Call { line: "getppid() = 1".into() }), line);
    let refusal = Refusal::NotMoved { pid: 7, at: "a".into(), reason: "no room".into() };
    let line = r#"{"version":1,"body":{"refused":{"not_moved":{"pid":7,"at":"a","reason":"no room"}}}}"#;
    pinned(Answer::Refused(refusal), line);
    let device =
        FreeDevice { kind: DeviceKind::Nvidia, address: "0000:01:00.0".into(), uuid: "GPU-7".into() };
    let line = r#"{"version":1,"body":{"device":{"kind":"nvidia","address":"0000:01:00.0","uuid":"GPU-7"}}}"#;
    pinned(Answer::Device(device), line);
    let refusal = Refusal::NoDevice { kind: None, why: NoDevice::InUse, elsewhere: vec!["b".into()] };
    let line =
        r#"{"version":1,"body":{"refused":{"no_device":{"kind":null,"why":"in_use","elsewhere":["b"]}}}}"#;
    pinned(Answer::Refused(refusal), line);
    pinned(Answer::Reasons(vec!["x".into()]), r#"{"version":1,"body":{"reasons":["x"]}}"#);
    let node = Node {
        number: None,
        member: false,
        figures: None,
        name: "a".into(),
        address: "a:1".into(),
        this: true,
        reachable: true,
        guests: 0,
    };
    let line = r#"{"version":1,"body":{"node":{"name":"a","address":"a:1","this":true,"reachable":true,"guests":0}}}"#;
    pinned(Answer::Node(node), line);
}

#[test]
fn a_request_with_more_than_is_known_is_refused() {
    let more = r#"{"version":1,"body":{"migrate":{"pid":7,"to":"b","at_exec":false,"force":true}}}"#;
    assert!(serde_json::from_str::<Message<Request>>(more).is_err());
}
