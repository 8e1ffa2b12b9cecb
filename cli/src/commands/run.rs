//! `minka run`: starts a command as a child of its own, placed on another node.

use std::ffi::OsString;
use std::io::{PipeReader, Write, pipe};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

use super::client;
use super::foreground::Foreground;
use super::wait;
use crate::args::Run;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(arguments: &Run, output: &mut Output) -> Result<ExitCode, Failure> {
    let foreground = Foreground::hand_over().map_err(Failure::Prepare)?;
    let (reader, mut writer) = pipe().map_err(Failure::Prepare)?;
    let mut child = start_waiting(&reader, &arguments.command)?;
    foreground.watch_over(child.id());
    let to = arguments.on.as_deref().unwrap_or("best");
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let placed = client().and_then(|mut client| Ok(client.migrate(pid, to, true)?));
    if let Err(failure) = placed {
        if arguments.strict {
            // It has not begun, so nothing is lost with it.
            let _ = child.kill();
            child.wait().map_err(Failure::Wait)?;
            return Err(failure);
        }
        let first = failure.lines(&output.text).join(": ");
        output.remark(&output.text.with("run-at-home", &[("reason", first.into())]));
    }
    writer.write_all(&[1]).map_err(Failure::Prepare)?;
    let status = child.wait().map_err(Failure::Wait)?;
    // Not before: the waiting program may not have opened the pipe yet when the byte is written.
    drop((reader, writer, foreground));
    Ok(ExitCode::from(minka_lab::shell_code(status)))
}

/// Starts the program that becomes the command when a byte comes through the pipe.
fn start_waiting(pipe: &PipeReader, command: &[OsString]) -> Result<Child, Failure> {
    let path = format!("/proc/{}/fd/{}", std::process::id(), pipe.as_raw_fd());
    let program = PathBuf::from("/proc/self/exe");
    let mut waiting = Command::new(&program);
    waiting.arg(wait::NAME).arg(path).args(command);
    waiting.spawn().map_err(|source| Failure::Start { program, source })
}
