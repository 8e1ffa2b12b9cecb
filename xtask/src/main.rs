//! Workspace tasks: `cargo xtask help`.

mod pages;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

pages [DIR]   make the manual pages and shell completions, in target/pages or DIR
help          show this";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let task = arguments.next().unwrap_or_default();
    let outcome = match task.to_str() {
        Some("pages") => pages::make(arguments.next().map(Into::into)),
        Some("help") | Some("") => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(format!("know the task {task:?}; see `cargo xtask help`").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: failed to {error}");
            ExitCode::FAILURE
        }
    }
}
