//! `minka run`: becomes a command, placed on another node.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use minka_image::cpu::{Features, mask};
use minka_node::protocol::Advice;

use super::client;
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

/// Has this very process moved when it executes the command, and then does that: there is nobody in between whom signals
/// and exit statuses would have to pass. Returns only if that cannot be.
pub(super) fn place(placement: &Placement<'_>, output: &mut Output) -> Result<ExitCode, Failure> {
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
    match ask(placement) {
        // It has not begun, so nothing is lost with it.
        Err(failure) if placement.strict => return Err(failure),
        Err(failure) => {
            let first = failure.lines(&output.text).join(": ");
            output.remark(&output.text.with("run-at-home", &[("reason", first.into())]));
        }
        Ok(()) => {}
    }
    Ok(become_command(&mut command))
}

/// Says what there is to be said of this process, and has it placed.
fn ask(placement: &Placement<'_>) -> Result<(), Failure> {
    let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    if !placement.advice.is_empty() {
        // It is in the environment, too; only what was said before of whoever starts it would count more.
        let told = client()
            .map(|mut client| placement.advice.iter().try_for_each(|advice| client.advise(pid, *advice)));
        drop(told);
    }
    match placement.to {
        Some(to) => Ok(client()?.migrate(pid, to, true).map(drop)?),
        None => Ok(()),
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
