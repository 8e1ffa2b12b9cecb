//! What can be said on the command line. The words that explain it are in `locales/`, under the names that
//! [`crate::help`] makes from the commands' and arguments' own.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

#[derive(Debug, Parser)]
#[command(name = "minka", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Migrate(Migrate),
    Ps(Ps),
    Trace(Trace),
    Nodes,
    Status,
    #[command(subcommand)]
    Node(Node),
    Completions(Completions),
    Man,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    #[arg(long, value_name = "NODE")]
    pub(crate) on: Option<String>,
    #[arg(long)]
    pub(crate) strict: bool,
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
    #[arg(value_name = "NODE")]
    pub(crate) to: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ps {
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Trace {
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}
