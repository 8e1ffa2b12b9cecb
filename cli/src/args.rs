//! What can be said on the command line. The words that explain it are in `locales/`, under the names that
//! [`crate::help`] makes from the commands' and arguments' own.

pub(crate) mod cluster;
pub(crate) mod mon;
pub(crate) mod openmosix;
pub(crate) mod sim;
pub(crate) mod token;
pub(crate) mod xpu;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

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
    Mosctl(openmosix::Mosctl),
    Mosrun(openmosix::Mosrun),
    Showmap,
    Mon(mon::Mon),
    Mtop(mon::Mtop),
    Setpe(openmosix::Setpe),
    Omdiscd(openmosix::Omdiscd),
    Tune(openmosix::Tune),
    Doctor(Doctor),
    Cluster(cluster::Cluster),
    Install(Install),
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    Lab(Lab),
    Bench(Bench),
    #[command(subcommand)]
    Sim(sim::Sim),
    Xpu(Box<xpu::Xpu>),
    #[command(subcommand)]
    Node(Node),
    Completions(Completions),
    Man(Man),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    #[arg(long, value_name = "NODE")]
    pub(crate) on: Option<String>,
    #[arg(long)]
    pub(crate) strict: bool,
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub(crate) cpus_like: Vec<String>,
    #[arg(
        long,
        value_name = "KIND",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "any",
        conflicts_with_all = ["on", "cpus_like"]
    )]
    pub(crate) gpu: Option<Gpu>,
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// A kind of accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Gpu {
    Any,
    Intel,
    Nvidia,
    Amd,
    Mic,
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
pub(crate) enum Lab {
    Demo,
    Up(LabUp),
    Down(LabDown),
    Status(LabStatus),
    Exec(LabExec),
    Run(LabRun),
}

/// Name of the lab when none is given.
pub(crate) const LAB: &str = "lab";

#[derive(Debug, clap::Args)]
pub(crate) struct LabUp {
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = nodes())]
    pub(crate) nodes: u32,
    #[arg(long, value_name = "NAME", default_value = LAB)]
    pub(crate) name: String,
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    pub(crate) cpus: Vec<f64>,
    #[arg(long, value_name = "MIB", value_delimiter = ',')]
    pub(crate) memory: Vec<u32>,
    #[arg(long, value_name = "MODE", value_enum, default_value = "none")]
    pub(crate) balance: Balance,
}

/// Which processes the nodes of a lab move by themselves.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Balance {
    All,
    Started,
    None,
}

impl From<Balance> for minka_lab::BalanceMode {
    fn from(balance: Balance) -> Self {
        match balance {
            Balance::All => minka_lab::BalanceMode::All,
            Balance::Started => minka_lab::BalanceMode::Started,
            Balance::None => minka_lab::BalanceMode::None,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct LabDown {
    #[arg(long, value_name = "NAME", default_value = LAB)]
    pub(crate) name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LabStatus {
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LabExec {
    #[arg(long, value_name = "NAME", default_value = LAB)]
    pub(crate) name: String,
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LabRun {
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = nodes(), conflicts_with = "lab")]
    pub(crate) nodes: u32,
    #[arg(long, value_name = "NAME")]
    pub(crate) lab: Option<String>,
    #[arg(long, value_name = "TIME", value_parser = interval)]
    pub(crate) shake: Option<Duration>,
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    #[arg(long)]
    pub(crate) quick: bool,
    #[command(subcommand)]
    pub(crate) what: What,
}

/// What `minka bench` measures.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum What {
    Freeze,
    Pages,
    Touch,
    Syscall,
    Compute,
    Read,
    Write,
    Exec,
    Home,
    Balance,
    Usher,
    Idle,
    Many,
    Farm {
        #[arg(long, value_name = "DIR")]
        source: PathBuf,
    },
    Accel,
    All,
}

fn nodes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(minka_lab::NODES_MAX))
}

/// A length of time such as `200ms`, `2s` or `1.5s`; at least a millisecond, at most an hour.
fn interval(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err("expected a number with ms, s or min, as in 200ms".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| "the number cannot be read".to_owned())?;
    let interval = Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())?;
    if (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&interval) {
        Ok(interval)
    } else {
        Err("it is not between a millisecond and an hour".to_owned())
    }
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
pub(crate) struct Doctor {
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Install {
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_with_their_units() {
        let check = |text, expected| assert_eq!(interval(text).ok(), expected, "{text}");
        check("200ms", Some(Duration::from_millis(200)));
        check("1.5s", Some(Duration::from_millis(1500)));
        check("2min", Some(Duration::from_secs(120)));
        for wrong in ["", "200", "ms", "-1s", "0s", "2h", "1e99s", "nans", "infs", "61min", "1 s"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_command_s_own_options_are_left_to_it() {
        let words = ["minka", "run", "--on", "b", "ls", "-l", "--json"];
        let Command::Run(run) = Arguments::try_parse_from(words).unwrap().command else { panic!("not run") };
        assert_eq!(run.command, ["ls", "-l", "--json"]);
        let words = ["minka", "lab", "exec", "node2", "--", "sh", "-c", "exit 3"];
        let Command::Lab(Lab::Exec(exec)) = Arguments::try_parse_from(words).unwrap().command else {
            panic!("not lab exec")
        };
        assert_eq!((exec.node.as_str(), exec.command.len()), ("node2", 3));
    }
}
