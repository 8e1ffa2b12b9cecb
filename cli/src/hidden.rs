//! The programs that Minka starts of itself, chosen by the first argument before anything else is read.

use std::process::ExitCode;

use crate::commands;

/// Runs the hidden program that the first argument names; `None` when it names none.
pub(crate) fn route() -> Option<ExitCode> {
    let first = std::env::args_os().nth(1)?;
    match first.to_str()? {
        "__deputy" => Some(minka_deputy::main()),
        "__host" => Some(minka_host::main()),
        commands::wait::NAME => Some(commands::wait::main()),
        _ => None,
    }
}
