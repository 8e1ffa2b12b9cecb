//! Workspace tasks: `cargo xtask help`.

mod check;
mod command;
mod farm;
mod generated;
mod manifests;
mod openmosix;
mod package;
mod pages;
mod prose;
mod scripts;
mod source;
mod test;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

test          everything a change has to pass: packages, format, lints, rules, documentation, tests
check         the rules of the workspace that no compiler knows
docs          make the documentation that is made from code
farm [DIR]    get a package in C for `minka bench farm`, in target/farm or DIR
package [DIR [RELEASE]]
              make packages for Debian's and Fedora's families, in target/package or DIR
openmosix     try openMosix's tools in a lab, as root, and write docs/openmosix.md
pages [DIR]   make the manual pages and shell completions, in target/pages or DIR
help          show this";

/// Any failure: its text reads well after "failed to".
type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let task = arguments.next().unwrap_or_default();
    let outcome = match task.to_str() {
        Some("test") => test::run(&root()),
        Some("check") => check::run(&root()),
        Some("docs") => generated::write(&root()),
        Some("package") => {
            let directory = arguments.next().map(Into::into);
            release(arguments.next()).and_then(|release| package::make(&root(), directory, release))
        }
        Some("farm") => farm::make(&root(), arguments.next().map(Into::into)),
        Some("openmosix") => openmosix::make(&root()),
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

/// A number that tells packages of one version apart.
fn release(said: Option<std::ffi::OsString>) -> Result<Option<u32>, Failure> {
    let number = |said: std::ffi::OsString| said.to_str().and_then(|text| text.parse().ok());
    said.map(|said| number(said).ok_or_else(|| "understand the release: it is a number".into())).transpose()
}

/// The root of the workspace: the directory above this package's.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}
