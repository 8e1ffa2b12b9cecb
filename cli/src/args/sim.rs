//! What can be said after `minka sim`.

use clap::Subcommand;

/// What is simulated.
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    Balance(Balance),
    Gossip(Gossip),
    Cluster(Cluster),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Balance {
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) scenarios: u64,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) memory: u8,
    #[arg(long, value_name = "SECONDS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(crate) duration: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Gossip {
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) nodes: Option<u32>,
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32), requires = "nodes")]
    pub(crate) window: Option<u32>,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = percent(), requires = "nodes")]
    pub(crate) loss: u8,
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = percent(), requires = "nodes")]
    pub(crate) dead: u8,
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = percent(), requires = "nodes")]
    pub(crate) slow: u8,
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3600), requires = "nodes")]
    pub(crate) partition: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cluster {
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(2..=i64::from(minka_sim::cluster::NODES_MAX)))]
    pub(crate) nodes: u32,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = percent())]
    pub(crate) loss: u8,
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = percent())]
    pub(crate) dead: u8,
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = percent())]
    pub(crate) slow: u8,
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) partition: u64,
}

fn percent() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(0..=90)
}
