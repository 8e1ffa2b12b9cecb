//! `minka xpu` as people call it, on recordings of real cards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use minka_accel::fixture::Recording;
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
