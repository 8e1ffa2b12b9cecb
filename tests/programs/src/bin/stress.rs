//! Runs stress-ng's stressors while they are moved about, and writes `docs/stress.md`.
//!
//! ```text
//! stress [SECONDS] [STRESSOR …]    each for so many seconds, 60 if nothing is said
//! ```

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use minka_programs_tests::stress::{self, STRESSORS, table};

const INTRODUCTION: &str = include_str!("../stress/introduction.md");

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let seconds = words.first().and_then(|word| word.parse().ok());
    if seconds.is_some() {
        words.remove(0);
    }
    if let Some(word) = words.iter().find(|word| !STRESSORS.contains(&word.as_str())) {
        eprintln!("{word} is none of the stressors: {}", STRESSORS.join(" "));
        return ExitCode::from(2);
    }
    let version =
        Command::new("stress-ng").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        eprintln!("stress-ng is not installed: tests/install-packages survey");
        return ExitCode::FAILURE;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/stress.md");
    let (start, mut failed) = (Instant::now(), Vec::new());
    for stressor in STRESSORS.into_iter().filter(|name| words.is_empty() || words.iter().any(|w| w == name)) {
        let outcome = stress::run(stressor, Duration::from_secs(seconds.unwrap_or(60)));
        let row = table::row(stressor, &outcome);
        print!("{row}");
        if outcome.difference().is_some() {
            eprintln!("--- {stressor}, moved\n{}\n{}", outcome.output(), outcome.logs);
            failed.push(stressor);
        }
        // After each, so that nothing is lost that has been run.
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if let Err(error) = std::fs::write(&path, table::page(&before, stressor, &row, INTRODUCTION)) {
            eprintln!("failed to write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    println!(
        "{} minutes; failed: {}",
        start.elapsed().as_secs() / 60,
        if failed.is_empty() { "none".to_owned() } else { failed.join(" ") }
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
