//! `minka lab exec`: runs a program in a node of a lab.

use std::ffi::OsString;
use std::process::ExitCode;

use minka_lab::{Lab, Program, shell_code};

use super::node_number;
use crate::args::LabExec;
use crate::commands::foreground::Foreground;
use crate::failure::Failure;

pub(super) fn exec(arguments: &LabExec) -> Result<ExitCode, Failure> {
    let lab = Lab::open(&arguments.name)?;
    let node = node_number(&lab, &arguments.node)?;
    let foreground = Foreground::hand_over().map_err(Failure::Prepare)?;
    let running = lab.start(node, program(&arguments.command))?;
    foreground.watch_over(running.pid());
    Ok(ExitCode::from(shell_code(running.wait()?)))
}

/// The program of a command line.
pub(super) fn program(command: &[OsString]) -> Program {
    let mut words = command.iter().cloned();
    Program::new(words.next().unwrap_or_default()).arguments(words)
}
