//! Runs the programs of the survey and writes `docs/programs.md`.
//!
//! ```text
//! programs [--list] [NAME …]    only those whose names contain one of these, or are `=NAME`
//! ```

use std::path::Path;
use std::process::ExitCode;

use minka_programs_tests::survey::{list, table};

const INTRODUCTION: &str = include_str!("../survey/introduction.md");

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let entries = list::entries();
    if wanted.iter().any(|word| word == "--list") {
        entries.iter().for_each(|entry| println!("{}", entry.name));
        return ExitCode::SUCCESS;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/programs.md");
    let is_meant = |name: &str, part: &str| {
        part.strip_prefix('=').map_or_else(|| name.contains(part), |all| name == all)
    };
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| is_meant(name, part));
    let mut all_equal = true;
    for entry in entries.iter().filter(|entry| is_wanted(entry.name)) {
        let Some(version) = entry.version() else {
            println!("{}: not installed here", entry.name);
            continue;
        };
        let row = match entry.run(&version) {
            Ok(row) => row,
            Err(status) => {
                println!("{}: fails without Minka, too: status {status}", entry.name);
                all_equal = false;
                continue;
            }
        };
        print!("{}", row.line());
        all_equal &= row.line().contains(" | equal | ");
        // After each, so that nothing is lost that has been run.
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if let Err(error) = std::fs::write(&path, table::page(&before, &[row], INTRODUCTION)) {
            eprintln!("failed to write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if all_equal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
