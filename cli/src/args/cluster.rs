//! `minka cluster`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

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
    Token(Token),
    Serve(Serve),
    Join(Join),
    Add(Add),
    Remove(Remove),
    List,
    Rotate(Rotate),
    RotateAuthority(RotateAuthority),
    Leave(Leave),
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = life)]
    pub(crate) ttl: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], minka_enroll::PORT)))]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    #[arg(value_name = "ADDRESS", value_parser = service)]
    pub(crate) address: SocketAddr,
    #[arg(long, value_name = "TOKEN", env = "MINKA_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[arg(long, value_name = "ADDRESS", value_parser = own)]
    pub(crate) reached_at: Vec<IpAddr>,
    #[arg(long, value_name = "PORT", default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,
}

/// The node of this machine, and where its authority takes requests.
#[derive(Debug, Args)]
pub(crate) struct Own {
    #[arg(long, value_name = "FILE", default_value = "/etc/minka/node.toml")]
    pub(crate) config: PathBuf,
    #[arg(long, value_name = "ADDRESS", value_parser = service)]
    pub(crate) service: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) own: Own,
    #[arg(long)]
    pub(crate) refuse_old: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RotateAuthority {
    #[arg(long)]
    pub(crate) refuse_old: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Leave {
    #[command(flatten)]
    pub(crate) own: Own,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[arg(value_name = "ADDRESS", value_parser = address)]
    pub(crate) address: SocketAddr,
    #[arg(value_name = "OTHER", value_parser = own)]
    pub(crate) others: Vec<IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// An address of a node, with a port or without.
fn address(text: &str) -> Result<SocketAddr, String> {
    address_with(text, PORT)
}

/// An address of a node in a network, without a port.
fn own(text: &str) -> Result<IpAddr, String> {
    let expected = || "expected an address of the machine without a port, as 192.168.1.10".to_owned();
    let ip: IpAddr = text.parse().map_err(|_| expected())?;
    address_with(text, PORT).map(|_| ip)
}

/// The address of an authority's service or the name of its machine, with a port or without.
fn service(text: &str) -> Result<SocketAddr, String> {
    let by_name = || {
        let found = text.to_socket_addrs().or_else(|_| (text, minka_enroll::PORT).to_socket_addrs());
        let found = found.ok()?.next()?;
        address_with(&found.to_string(), minka_enroll::PORT).ok()
    };
    address_with(text, minka_enroll::PORT).or_else(|error| by_name().ok_or(error))
}

/// How long a token is good: seconds, minutes, hours or days.
fn life(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time as 15m, 12h or 2d, of 30 days at most".to_owned();
    let (number, seconds) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    let life = number.checked_mul(seconds).map(Duration::from_secs);
    life.filter(|life| !life.is_zero() && *life <= minka_enroll::token::LIFE_MAX).ok_or_else(expected)
}

fn address_with(text: &str, port: u16) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(|address| (address, port).into()))
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
    fn tokens_live_for_a_while() {
        let check = |text: &str, seconds| assert_eq!(life(text), Ok(Duration::from_secs(seconds)), "{text}");
        check("90s", 90);
        check("15m", 900);
        check("12h", 43_200);
        check("30d", 2_592_000);
        for wrong in ["", "15", "m", "0m", "31d", "-1m", "1.5h", "99999999999999999d", "1é"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_may_go_without_a_port() {
        assert_eq!(address("10.0.0.1"), Ok(([10, 0, 0, 1], 4660).into()));
        assert_eq!(address("10.0.0.1:5000"), Ok(([10, 0, 0, 1], 5000).into()));
        assert_eq!(address("fd00::1").unwrap().port(), 4660);
        assert_eq!(address("[fd00::1]:7").unwrap().port(), 7);
        assert!(service("localhost").is_ok_and(|it| it.ip().is_loopback() && it.port() == 4662));
        assert!(service("localhost:7").is_ok_and(|it| it.port() == 7) && service("0.0.0.0").is_err());
        assert_eq!(own("10.0.0.1"), Ok([10, 0, 0, 1].into()));
        assert!(["10.0.0.1:1", "0.0.0.0", "", "224.0.0.1"].iter().all(|wrong| own(wrong).is_err()));
        for wrong in ["", "here", "0.0.0.0", "::", "224.0.0.1", "10.0.0.1:0", "10.0.0.256"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
