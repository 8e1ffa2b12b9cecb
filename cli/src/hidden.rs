//! The programs that Minka starts of itself, chosen by the first argument before anything else is read.

use std::process::ExitCode;

use crate::commands;

/// Runs the hidden program that the first argument names; `None` when it names none.
pub(crate) fn route() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next()?.to_str()? {
        "__deputy" => Some(logged(minka_deputy::main)),
        "__host" => Some(logged(minka_host::main)),
        minka_lab::INTERNAL_COMMAND => Some(minka_lab::internal_main(arguments)),
        commands::wait::NAME => Some(commands::wait::main()),
        _ => None,
    }
}

/// Runs a program of the daemon's, which logs where the daemon does.
fn logged(program: impl FnOnce() -> ExitCode) -> ExitCode {
    commands::node::log_to_stderr();
    program()
}
