//! `minka run`: starts a command as a child of its own, placed on another node.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use minka_image::cpu::{Features, mask};
use minka_kernel::spawn::wait_at_gate;
use minka_node::protocol::Advice;

use super::client;
use super::foreground::Foreground;
use crate::args::Run;
use crate::failure::Failure;
use crate::output::Output;

/// Exit statuses of a command that cannot be started, as shells have them.
pub(super) const NOT_STARTED: u8 = 126;
pub(super) const NOT_FOUND: u8 = 127;

/// Where to run what.
pub(super) struct Placement<'a> {
    /// A node's name or `best`; `None` for here, without asking anybody.
    pub(super) to: Option<&'a str>,
    /// Fail rather than run it here.
    pub(super) strict: bool,
    /// The command and its arguments.
    pub(super) command: &'a [OsString],
    /// Its arguments begin at argument 0, which is otherwise the command's own name.
    pub(super) zero: bool,
    /// What is said of it besides, if there is a daemon to hear it.
    pub(super) advice: &'a [Advice],
    /// Variables that it gets, and those that are taken away.
    pub(super) environment: &'a [(&'a str, Option<&'a str>)],
}

pub(super) fn run(arguments: &Run, output: &mut Output) -> Result<ExitCode, Failure> {
    if let Some(gpu) = arguments.gpu {
        return super::gpu::run(gpu, &arguments.command, output);
    }
    let to = match &arguments.on {
        Some(node) => Some(node.as_str()),
        None if arguments.cpus_like.is_empty() => Some("best"),
        // So that it may go there later.
        None => None,
    };
    let variables = variables(&arguments.cpus_like)?;
    let environment: Vec<_> = variables.iter().map(|(name, value)| (*name, Some(value.as_str()))).collect();
    let placement = Placement {
        to,
        strict: arguments.strict,
        command: &arguments.command,
        zero: false,
        advice: &[],
        environment: &environment,
    };
    place(&placement, output)
}

/// What has a program use no features of this processor that those of other nodes lack. Whoever starts it may have been
/// started so, too.
fn variables(nodes: &[String]) -> Result<Vec<(&'static str, String)>, Failure> {
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let (own, common) = client()?.processors(nodes)?;
    let present = |name: &str| std::env::var(name).ok();
    let allowed = match present(mask::MARK).and_then(|mark| Features::of_mark(&mark)) {
        Some(before) => common.common(&before),
        None => common,
    };
    Ok(mask::environment(&own, &allowed, present))
}

/// Runs a command where it should be; returns its exit status.
pub(super) fn place(placement: &Placement<'_>, output: &mut Output) -> Result<ExitCode, Failure> {
    let foreground = Foreground::hand_over().map_err(Failure::Prepare)?;
    let Some((program, arguments)) = placement.command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut command = Command::new(program);
    let (zero, arguments) = match arguments.split_first() {
        Some((zero, rest)) if placement.zero => (zero, rest),
        _ => (program, arguments),
    };
    command.arg0(zero).args(arguments);
    for (name, value) in placement.environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // It has to be there before the command begins, which is when it is placed.
    let mut gate = wait_at_gate(&mut command).map_err(Failure::Prepare)?;
    let starting = std::thread::spawn(move || command.spawn());
    if let Ok(pid) = gate.waiting() {
        foreground.watch_over(pid);
        let pid = i32::try_from(pid).unwrap_or(i32::MAX);
        if !placement.advice.is_empty() {
            // It is in the environment, too; only what was said before of whoever starts it would count more.
            let told = client()
                .map(|mut client| placement.advice.iter().try_for_each(|advice| client.advise(pid, *advice)));
            drop(told);
        }
        let placed = match placement.to {
            Some(to) => client().and_then(|mut client| Ok(client.migrate(pid, to, true).map(drop)?)),
            None => Ok(()),
        };
        match placed {
            Err(failure) if placement.strict => {
                // It has not begun, so nothing is lost with it.
                drop(gate);
                drop(starting.join());
                return Err(failure);
            }
            Err(failure) => {
                let first = failure.lines(&output.text).join(": ");
                output.remark(&output.text.with("run-at-home", &[("reason", first.into())]));
            }
            Ok(()) => {}
        }
        gate.open().map_err(Failure::Prepare)?;
    }
    let started =
        starting.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")));
    match started {
        Ok(mut child) => {
            let status = child.wait().map_err(Failure::Wait)?;
            drop(foreground);
            Ok(ExitCode::from(minka_lab::shell_code(status)))
        }
        Err(error) => Ok(not_started(program, &error)),
    }
}

/// Becomes a command; returns only if that cannot be.
pub(super) fn become_command(command: &mut Command) -> ExitCode {
    let error = command.exec();
    not_started(command.get_program(), &error)
}

fn not_started(program: &OsStr, error: &io::Error) -> ExitCode {
    eprintln!("minka: {}: {error}", program.display());
    let found = error.kind() != io::ErrorKind::NotFound;
    ExitCode::from(if found { NOT_STARTED } else { NOT_FOUND })
}
