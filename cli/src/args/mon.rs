//! `minka mon`, and `mtop`.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Mon {
    #[arg(long, value_name = "WHAT", value_enum, default_value = "load")]
    pub(crate) show: Show,
    #[arg(long, value_name = "HOW", value_enum, default_value = "auto")]
    pub(crate) columns: Columns,
    #[arg(long)]
    pub(crate) dead: bool,
    #[arg(long)]
    pub(crate) total: bool,
    #[arg(long)]
    pub(crate) once: bool,
}

/// What of each node is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Show {
    Load,
    LogLoad,
    Speed,
    Memory,
    RawMemory,
    Use,
}

/// How the nodes' numbers stand below their bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Columns {
    Wide,
    Vertical,
    Tight,
    Auto,
}

#[derive(Debug, Args)]
pub(crate) struct Mtop {
    #[arg(long)]
    pub(crate) once: bool,
}
