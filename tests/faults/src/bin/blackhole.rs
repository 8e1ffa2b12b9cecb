//! Has all be lost that the node sends to an address in which it runs: `blackhole lose|deliver ADDRESS`.

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use minka_kernel::netlink::Netlink;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, address] = &arguments[..] else { return ExitCode::from(2) };
    match set(what == "lose", address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blackhole: {error}");
            ExitCode::FAILURE
        }
    }
}

fn set(lost: bool, address: &str) -> Result<(), Box<dyn Error>> {
    let address: Ipv4Addr = address.parse()?;
    Ok(Netlink::open()?.set_blackhole(address, lost)?)
}
