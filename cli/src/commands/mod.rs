//! The commands, one file each.

mod bench;
mod cluster;
mod doctor;
mod foreground;
mod gpu;
mod install;
mod lab;
mod migrate;
mod mon;
mod mtop;
pub(crate) mod node;
mod omdiscd;
mod openmosix;
mod ps;
mod run;
mod screen;
mod setpe;
mod shell;
mod sim;
mod status;
mod token;
mod trace;
mod tune;
pub(crate) mod xpu;

use std::process::ExitCode;

use crate::args::{Command, Node};
use crate::failure::Failure;
use crate::output::Output;

/// Does what the command line asks for; returns the exit status.
pub(crate) fn perform(command: Command, output: &mut Output) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(arguments) => return run::run(&arguments, output),
        Command::Mosrun(arguments) => return openmosix::mosrun(&arguments, output),
        Command::Mosctl(arguments) => return openmosix::mosctl(&arguments, output),
        Command::Showmap => openmosix::showmap(output)?,
        Command::Mon(arguments) => mon::mon(&arguments, output)?,
        Command::Mtop(arguments) => mtop::mtop(&arguments, output)?,
        Command::Setpe(arguments) => setpe::setpe(&arguments, output)?,
        Command::Omdiscd(arguments) => omdiscd::omdiscd(&arguments, output)?,
        Command::Tune(arguments) => tune::tune(&arguments, output)?,
        Command::Lab(command) => return lab::lab(&command, output),
        Command::Bench(arguments) => bench::bench(&arguments, output)?,
        Command::Sim(command) => sim::sim(&command, output)?,
        Command::Xpu(arguments) => xpu::xpu(&arguments, output)?,
        Command::Migrate(arguments) => migrate::migrate(&arguments, output)?,
        Command::Ps(arguments) => ps::ps(&arguments, output)?,
        Command::Trace(arguments) => trace::trace(&arguments, output)?,
        Command::Doctor(arguments) => return doctor::doctor(&arguments, output),
        Command::Install(arguments) => install::install(&arguments, output)?,
        Command::Cluster(arguments) => cluster::cluster(&arguments, output)?,
        Command::Token(command) => token::of_node(&command, output)?,
        Command::Nodes => status::nodes(output)?,
        Command::Status => status::status(output)?,
        Command::Node(Node::Serve(arguments)) => node::serve(&arguments)?,
        Command::Completions(arguments) => shell::completions(&arguments, output)?,
        Command::Man(arguments) => shell::man(&arguments, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) use setpe::MapError;

/// A connection to the daemon of this node.
fn client() -> Result<minka_node::client::Client, Failure> {
    Ok(minka_node::client::Client::connect(&minka_node::run_dir())?)
}
