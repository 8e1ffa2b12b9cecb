//! Tokens of those who may ask over the network: `minka token`, `minka xpu token`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use minka_access::Role;

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    Add(TokenAdd),
    List(TokenFile),
    Remove(TokenRemove),
}

#[derive(Debug, Args)]
pub(crate) struct TokenFile {
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenAdd {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[arg(long, value_name = "ROLE", default_value = "read")]
    pub(crate) role: Role,
    #[command(flatten)]
    pub(crate) file: TokenFile,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRemove {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) file: TokenFile,
}
