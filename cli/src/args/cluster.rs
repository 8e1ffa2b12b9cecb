//! `minka cluster`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Where nodes listen unless they are told otherwise.
const PORT: u16 = 4660;

#[derive(Debug, Args)]
pub(crate) struct Cluster {
    #[arg(long, value_name = "DIR", default_value = "minka-cluster", global = true)]
    pub(crate) dir: PathBuf,
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    Init,
    Add(Add),
    Remove(Remove),
    List,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[arg(value_name = "ADDRESS", value_parser = address)]
    pub(crate) address: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// An address of a machine, with a port or without.
fn address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(|address| (address, PORT).into()))
        .map_err(|_| "expected an address of the machine, as 192.168.1.10 or [fd00::1]:4660".to_owned())?;
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
        return Err("other machines cannot reach it there".to_owned());
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_go_without_a_port() {
        assert_eq!(address("10.0.0.1"), Ok(([10, 0, 0, 1], 4660).into()));
        assert_eq!(address("10.0.0.1:5000"), Ok(([10, 0, 0, 1], 5000).into()));
        assert_eq!(address("fd00::1").unwrap().port(), 4660);
        assert_eq!(address("[fd00::1]:7").unwrap().port(), 7);
        for wrong in ["", "here", "0.0.0.0", "::", "224.0.0.1", "10.0.0.1:0", "10.0.0.256"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
