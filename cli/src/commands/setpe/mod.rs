//! `setpe`: openMosix's maps. Here the nodes of a cluster are those that have its certificates (`minka cluster`), so a map
//! says where they are, but does not make a node of a machine.

mod map;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use minka_node::protocol::{Node, Steering};
use serde_json::json;

use super::client;
use crate::args::openmosix::Setpe;
use crate::failure::Failure;
use crate::output::Output;
pub(crate) use map::MapError;

/// Where maps are looked for, in this order.
const MAPS: [&str; 3] = ["/etc/openmosix.map", "/etc/mosix.map", "/etc/hpc.map"];

/// How long nodes may take to prove that they are where a map says, and how often it is looked whether they have.
const FOUND_LIMIT: Duration = Duration::from_secs(5);
const FOUND_LOOK: Duration = Duration::from_millis(100);

/// No map is near as long, in bytes.
const BYTES_MAX: u64 = 1 << 20;

pub(super) fn setpe(arguments: &Setpe, output: &mut Output) -> Result<(), Failure> {
    if arguments.off {
        client()?.steer(Steering::Expel)?;
        client()?.steer(Steering::Bring)?;
        return if output.is_json() { output.json(&json!({"done": true})) } else { Ok(()) };
    }
    if arguments.read {
        return read(arguments.file.as_deref(), output);
    }
    let (path, text) = load(arguments.file.as_deref())?;
    let resolve = |name: &str| Some((name, 0).to_socket_addrs().ok()?.next()?.ip());
    let nodes = map::parse(&text, resolve).map_err(|source| Failure::Map { path: path.clone(), source })?;
    if !arguments.check {
        let differences = take(&nodes, output)?;
        if !differences.is_empty() {
            return Err(Failure::OtherMap { path, differences });
        }
    }
    if output.is_json() {
        return output.json(&json!({"nodes": nodes.len()}));
    }
    let line = output.text.with("setpe-sound", &[("nodes", nodes.len().into())]);
    output.line(&line)
}

/// Has nodes looked for where a map says that they are. Returns what is otherwise all the same.
fn take(map: &BTreeMap<u16, Vec<IpAddr>>, output: &Output) -> Result<Vec<String>, Failure> {
    let mut client = client()?;
    let known = client.nodes()?;
    let elsewhere = elsewhere(map, &known);
    if elsewhere.is_empty() || known.iter().any(|node| node.number.is_none_or(|it| !map.contains_key(&it))) {
        return Ok(differences(map, &known, output));
    }
    for (name, address) in elsewhere {
        // Who is there has to prove it, so this is no more than a hint.
        client.found(&name, address)?;
    }
    let deadline = Instant::now() + FOUND_LIMIT;
    loop {
        let differences = differences(map, &client.nodes()?, output);
        if differences.is_empty() || Instant::now() > deadline {
            return Ok(differences);
        }
        std::thread::sleep(FOUND_LOOK);
    }
}

/// Where other nodes are looked for that are not where the map says, each at all the addresses that it has there.
fn elsewhere(map: &BTreeMap<u16, Vec<IpAddr>>, known: &[Node]) -> Vec<(String, SocketAddr)> {
    let mut elsewhere = Vec::new();
    for node in known.iter().filter(|node| !node.this) {
        let addresses = node.number.and_then(|number| map.get(&number));
        let (Some(addresses), Ok(address)) = (addresses, node.address.parse::<SocketAddr>()) else {
            continue;
        };
        if !addresses.contains(&address.ip()) {
            let places = addresses.iter().map(|it| SocketAddr::new(*it, address.port()));
            elsewhere.extend(places.map(|place| (node.name.clone(), place)));
        }
    }
    elsewhere
}

/// Writes the map of the running cluster.
fn read(file: Option<&Path>, output: &mut Output) -> Result<(), Failure> {
    let nodes = client()?.nodes()?;
    let known: BTreeMap<u16, IpAddr> =
        nodes.iter().filter_map(|node| Some((node.number?, host(node)?))).collect();
    let text = map::write(&known);
    let Some(file) = file.filter(|file| *file != Path::new("-")) else {
        if output.is_json() {
            return output.json(&json!({"map": known}));
        }
        return io::stdout().write_all(text.as_bytes()).map_err(Failure::Output);
    };
    fs::write(file, text).map_err(|source| Failure::WriteMap { path: file.to_owned(), source })
}

/// The map's name and what is in it.
fn load(file: Option<&Path>) -> Result<(PathBuf, String), Failure> {
    let usual =
        || MAPS.iter().map(Path::new).find(|path| path.exists()).unwrap_or_else(|| Path::new(MAPS[0]));
    let path = file.unwrap_or_else(usual);
    let mut text = String::new();
    let outcome = if path == Path::new("-") {
        io::stdin().take(BYTES_MAX).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
    };
    outcome.map_err(|source| Failure::ReadMap { path: path.to_owned(), source })?;
    Ok((path.to_owned(), text))
}

fn host(node: &Node) -> Option<IpAddr> {
    node.address.parse::<SocketAddr>().ok().map(|address| address.ip())
}

/// What a map says that the cluster is not like, and the other way round.
fn differences(map: &BTreeMap<u16, Vec<IpAddr>>, nodes: &[Node], output: &Output) -> Vec<String> {
    let mut differences = Vec::new();
    let mut tell = |id: &str, number: u16, address: String| {
        let number = u32::from(number);
        differences.push(output.text.with(id, &[("number", number.into()), ("address", address.into())]));
    };
    for (number, addresses) in map {
        let known = nodes.iter().find(|node| node.number == Some(*number));
        // A node that listens at all of its addresses may have that one.
        let is_there = |address: IpAddr| address.is_unspecified() || addresses.contains(&address);
        let is_own = |node: &Node| node.this && addresses.iter().any(|it| UdpSocket::bind((*it, 0)).is_ok());
        if !known.is_some_and(|node| host(node).is_some_and(is_there) || is_own(node)) {
            let address = addresses.first().map(ToString::to_string).unwrap_or_default();
            tell("setpe-unknown", *number, address);
        }
    }
    for node in nodes {
        if let Some(number) = node.number.filter(|number| !map.contains_key(number)) {
            tell("setpe-missing", number, node.address.clone());
        }
    }
    differences
}
