//! The hidden program that becomes a command when it is told to.
//!
//! `minka run` must have the process before the command begins, to place it at its `execve`. So it starts
//! this program, which waits until its parent has written a byte into a pipe, and then becomes the command.
//! The pipe is named, not inherited: nothing of it reaches the command.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The first argument that chooses this program; the pipe's path and the command follow it.
pub(crate) const NAME: &str = "__wait";

/// Exit statuses of a command that cannot be started, as shells have them.
const NOT_STARTED: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Waits and becomes the command.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(2);
    let (Some(pipe), Some(program)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(NOT_STARTED);
    };
    let mut byte = [0];
    let told = File::open(&pipe).and_then(|mut pipe| pipe.read(&mut byte));
    // End of file means that the parent has gone, and with it whoever wanted the command.
    if !matches!(told, Ok(1)) {
        return ExitCode::from(NOT_STARTED);
    }
    start(program, arguments)
}

fn start(program: OsString, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    become_command(Command::new(program).args(arguments))
}

/// Becomes a command; returns only if that cannot be.
pub(super) fn become_command(command: &mut Command) -> ExitCode {
    let error = command.exec();
    let program = command.get_program();
    eprintln!("minka: {}: {error}", program.display());
    let found = error.kind() != std::io::ErrorKind::NotFound;
    ExitCode::from(if found { NOT_STARTED } else { NOT_FOUND })
}
