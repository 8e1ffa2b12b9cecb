//! What can be said to `minka xpu`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;
use minka_accel_service::auth::Role;

#[derive(Debug, clap::Args)]
pub(crate) struct Xpu {
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) root: Option<PathBuf>,
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) limits: Option<PathBuf>,
    #[arg(short, id = "j", global = true)]
    pub(crate) json: bool,
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub(crate) query_gpu: Option<Vec<String>>,
    #[arg(long, value_name = "FORMAT", value_delimiter = ',', requires = "query_gpu")]
    pub(crate) format: Vec<String>,
    #[arg(short = 'L', long, conflicts_with = "query_gpu")]
    pub(crate) list_gpus: bool,
    #[arg(short = 'l', long = "loop", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) repeat: Option<u64>,
    #[arg(long, value_name = "MS", conflicts_with = "repeat", value_parser = clap::value_parser!(u64).range(20..=86_400_000))]
    pub(crate) loop_ms: Option<u64>,
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(subcommand)]
    pub(crate) command: Option<XpuCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum XpuCommand {
    Discovery(OneDevice),
    Topology(OneDevice),
    Stats(OneDevice),
    Health(OneDevice),
    Readings(OneDevice),
    Dump(Dump),
    Ps(OneDevice),
    Group(XpuGroup),
    #[command(name = "agentset")]
    AgentSet(AgentSet),
    Serve(XpuServe),
    #[command(subcommand)]
    Token(Token),
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneDevice {
    #[arg(short, long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dump {
    #[arg(short, long, value_name = "DEVICE", value_delimiter = ',')]
    pub(crate) device: Vec<String>,
    #[arg(short, long, value_name = "COLUMNS", value_delimiter = ',', default_value = "0,1,2,3,18",
          value_parser = clap::value_parser!(u64).range(0..37))]
    pub(crate) metrics: Vec<u64>,
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) interval: u64,
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) number: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("action"))]
pub(crate) struct XpuGroup {
    #[arg(short, long, group = "action", requires = "name")]
    pub(crate) create: bool,
    #[arg(short, long, group = "action", requires = "group", requires = "device")]
    pub(crate) add: bool,
    #[arg(short, long, group = "action", requires = "group", requires = "device")]
    pub(crate) remove: bool,
    #[arg(short = 'D', long, group = "action", requires = "group")]
    pub(crate) delete: bool,
    #[arg(short, long, group = "action")]
    pub(crate) list: bool,
    #[arg(short, long, value_name = "NAME", requires = "create")]
    pub(crate) name: Option<String>,
    #[arg(short, long, value_name = "GROUP")]
    pub(crate) group: Option<u32>,
    #[arg(short, long, value_name = "DEVICE", value_delimiter = ',')]
    pub(crate) device: Vec<String>,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AgentSet {
    #[arg(short, long, conflicts_with = "time")]
    pub(crate) list: bool,
    #[arg(short, long, value_name = "MS")]
    pub(crate) time: Option<u64>,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct XpuServe {
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:12788")]
    pub(crate) listen: SocketAddr,
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub(crate) interval: Option<u64>,
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    #[arg(long)]
    pub(crate) require_token: bool,
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Option<PathBuf>,
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    Add(TokenAdd),
    List(TokenFile),
    Remove(TokenRemove),
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenFile {
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenAdd {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[arg(long, value_name = "ROLE", default_value = "read")]
    pub(crate) role: Role,
    #[command(flatten)]
    pub(crate) file: TokenFile,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenRemove {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) file: TokenFile,
}
