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

/// Where to run what.
pub(super) struct Placement<'a> {
    /// A node's name or `best`; `None` for here, without asking anybody.
    pub(super) to: Option<&'a str>,
    /// Fail rather than run it here.
    pub(super) strict: bool,
    /// The command and its arguments.
    pub(super) command: &'a [OsString],
    /// Variables that it gets, and those that are taken away.
    pub(super) environment: &'a [(&'a str, Option<&'a str>)],
}

pub(super) fn run(arguments: &Run, output: &mut Output) -> Result<ExitCode, Failure> {
    if let Some(gpu) = arguments.gpu {
        return super::gpu::run(gpu, &arguments.command);
    }
    let to = Some(arguments.on.as_deref().unwrap_or("best"));
    let placement = Placement { to, strict: arguments.strict, command: &arguments.command, environment: &[] };
    place(&placement, output)
}

/// Runs a command where it should be; returns its exit status.
pub(super) fn place(placement: &Placement<'_>, output: &mut Output) -> Result<ExitCode, Failure> {
    let foreground = Foreground::hand_over().map_err(Failure::Prepare)?;
    let (reader, mut writer) = pipe().map_err(Failure::Prepare)?;
    let mut child = start_waiting(&reader, placement)?;
    foreground.watch_over(child.id());
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let placed = match placement.to {
        Some(to) => client().and_then(|mut client| Ok(client.migrate(pid, to, true).map(drop)?)),
        None => Ok(()),
    };
    if let Err(failure) = placed {
        if placement.strict {
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
fn start_waiting(pipe: &PipeReader, placement: &Placement<'_>) -> Result<Child, Failure> {
    let path = format!("/proc/{}/fd/{}", std::process::id(), pipe.as_raw_fd());
    let program = PathBuf::from("/proc/self/exe");
    let mut waiting = Command::new(&program);
    waiting.arg(wait::NAME).arg(path).args(placement.command);
    for (name, value) in placement.environment {
        match value {
            Some(value) => waiting.env(name, value),
            None => waiting.env_remove(name),
        };
    }
    waiting.spawn().map_err(|source| Failure::Start { program, source })
}
