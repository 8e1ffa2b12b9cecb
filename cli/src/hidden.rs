//! The programs that Minka starts of itself, chosen by the first argument before anything else is read.

use std::ffi::CStr;
use std::process::ExitCode;

use crate::commands;
use crate::zygote;

/// Runs the hidden program that the first argument names; `None` when it names none.
pub(crate) fn route() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next()?.to_str()? {
        "__deputy" => Some(helper(minka_deputy::NAME, minka_deputy::main)),
        "__hpc" => Some(helper(minka_hpc::NAME, || minka_hpc::main(arguments))),
        "__host" => Some(helper(HOST, || host(false))),
        "__xpu" => Some(helper(commands::xpu::resident::NAME, commands::xpu::resident::main)),
        minka_accel::compute::COMMAND => Some(minka_accel::compute::main(arguments)),
        minka_accel::sysman::COMMAND => Some(minka_accel::sysman::main(arguments)),
        zygote::NAME => Some(helper(c"minka-zygote", zygote::main)),
        minka_bench::PROBE_COMMAND => Some(minka_bench::probe_main(arguments)),
        minka_lab::INTERNAL_COMMAND => Some(minka_lab::internal_main(arguments)),
        _ => None,
    }
}

/// What the kernel shows as the command name of a host program.
pub(crate) const HOST: &CStr = minka_host::NAME;

/// A guest is as nice as its host program, and so not the daemon's child in that.
pub(crate) fn host(in_empty_network: bool) -> ExitCode {
    // Everybody may become nicer.
    let _ = rustix::process::setpriority_process(None, 0);
    minka_host::main(in_empty_network)
}

/// Runs a program of the daemon's: under its own name, and with its log where the daemon's is.
fn helper(name: &CStr, program: impl FnOnce() -> ExitCode) -> ExitCode {
    // Only for those who look at a list of processes.
    let _ = rustix::thread::set_name(name);
    commands::node::log_to_stderr();
    program()
}
