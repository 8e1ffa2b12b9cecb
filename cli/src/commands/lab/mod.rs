//! `minka lab`: a whole cluster on this machine.

mod demo;
mod exec;
mod family;
mod manage;
mod run;
mod shake;

use std::process::ExitCode;

use minka_lab::Lab;

use crate::args;
use crate::failure::Failure;
use crate::output::Output;

/// Does what the command line asks for; returns the exit status.
pub(super) fn lab(command: &args::Lab, output: &mut Output) -> Result<ExitCode, Failure> {
    match command {
        args::Lab::Demo => return demo::demo(output),
        args::Lab::Exec(arguments) => return exec::exec(arguments),
        args::Lab::Run(arguments) => return run::run(arguments, output),
        args::Lab::Up(arguments) => manage::up(arguments, output)?,
        args::Lab::Down(arguments) => manage::down(arguments, output)?,
        args::Lab::Status(arguments) => manage::status(arguments, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The number of a node that is given by its name or its number.
fn node_number(lab: &Lab, node: &str) -> Result<u32, Failure> {
    let nodes = &lab.description().nodes;
    let found = nodes.iter().find(|known| known.name == node || known.number.to_string() == node);
    found.map(|node| node.number).ok_or_else(|| Failure::NoSuchLabNode { node: node.to_owned() })
}
