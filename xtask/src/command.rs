//! Other programs, run where and how all tasks run them.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failure;

/// A program in the root of the workspace, without input.
pub(crate) fn program(name: impl Into<OsString>, root: &Path) -> Command {
    let mut command = Command::new(name.into());
    command.current_dir(root).stdin(Stdio::null());
    command
}

/// The cargo that runs this task.
pub(crate) fn cargo(root: &Path) -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), root)
}

/// Runs a command to its end, and fails as it does.
pub(crate) fn succeed(command: &mut Command) -> Result<(), Failure> {
    let line = line(command);
    println!("\n== {line}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("run `{line}`: {status}").into()),
        Err(error) => Err(format!("run `{line}`: {error}").into()),
    }
}

/// Whether this cargo has a subcommand, which comes with a component or a package of its own.
pub(crate) fn has_subcommand(name: &str, root: &Path) -> bool {
    let asked = cargo(root).args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// The command as somebody would type it.
fn line(command: &Command) -> String {
    let path = command.get_program();
    let program = Path::new(path).file_name().unwrap_or(path);
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
