//! What a machine does about its own membership: joins, gets a new certificate, leaves.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use minka_enroll::client;
use minka_enroll::token::Token;
use minka_link::NodeConfig;
use minka_link::roster::{self, KEYS, List, NODE_FILE, NODES_FILE};
use minka_node::client::Client;
use minka_node::protocol::Steering;
use serde_json::json;

use super::check_name;
use crate::args::cluster::{Join, Leave, Own, Rotate};
use crate::failure::Failure;
use crate::output::Output;

/// No file with a token is longer, in bytes.
const TOKEN_BYTES_MAX: u64 = 4096;

/// How long those who are away, and guests, may take to get home before the node leaves.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn join(join: &Join, output: &mut Output) -> Result<(), Failure> {
    let token = token(join)?;
    let name = join.name.clone().unwrap_or_else(host_name);
    check_name(&name)?;
    minka_link::keys::check_name(&name)?;
    let directory = join.into.clone().unwrap_or_else(|| PathBuf::from(&name));
    // Before the token is used up.
    let keys = directory.join(KEYS);
    let is_new = !directory.exists();
    make(&keys)?;
    let joined = client::join(join.address, &token, &name, &join.reached_at, join.port);
    if joined.is_err() && is_new {
        // Nothing is left of what came to nothing; what is not empty is somebody else's.
        let _ = std::fs::remove_dir(&keys);
        let _ = std::fs::remove_dir(&directory);
    }
    let enrolled = joined?;
    enrolled.keys.write(&keys)?;
    roster::replace(&directory.join(NODES_FILE), &enrolled.list)?;
    // At all addresses: the machine may have another one tomorrow.
    let any: std::net::IpAddr = match join.address {
        SocketAddr::V4(_) => [0, 0, 0, 0].into(),
        SocketAddr::V6(_) => [0_u16; 8].into(),
    };
    let config = directory.join(NODE_FILE);
    let text = roster::node_file(&name, SocketAddr::new(any, join.port), Some(join.address));
    roster::replace(&config, &text)?;
    if output.is_json() {
        return output.json(&json!({"name": name, "directory": directory, "config": config}));
    }
    let variables = [("name", name.into()), ("directory", directory.display().to_string().into())];
    let lines = output.text.with("cluster-joined", &variables);
    output.line(&lines)
}

/// The directory of a node that is about to be; there must be none in it.
fn make(keys: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::Install { path: keys.to_owned(), source };
    if keys.join(minka_link::keys::NODE_KEY).exists() {
        return Err(Failure::OtherNode { path: keys.to_owned() });
    }
    DirBuilder::new().recursive(true).mode(0o700).create(keys).map_err(failed)
}

/// The token, from wherever it was said to be.
fn token(join: &Join) -> Result<Token, Failure> {
    let read = |path: &Path| {
        let mut text = String::new();
        let outcome = if path == Path::new("-") {
            io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text)
        } else {
            File::open(path).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
        };
        outcome.map(|_| text).map_err(|source| Failure::ReadToken { path: path.to_owned(), source })
    };
    let text = match (&join.token, &join.token_file) {
        (_, Some(path)) => read(path)?,
        (Some(token), None) => token.clone(),
        (None, None) => return Err(Failure::NoToken),
    };
    Ok(Token::parse(&text)?)
}

/// What this machine is called, up to the first dot.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    name.split('.').next().unwrap_or_default().to_owned()
}

pub(super) fn rotate(rotate: &Rotate, output: &mut Output) -> Result<(), Failure> {
    let (config, service) = own(&rotate.own)?;
    let enrolled = client::renew(service, &config.read_keys()?, rotate.refuse_old)?;
    enrolled.keys.replace(&config.keys)?;
    // If that cannot be shown, the authority will ask.
    if let Err(error) = client::confirm(service, &enrolled.keys) {
        output.remark(&crate::failure::chain(&error));
    }
    take_list(&config, &enrolled.list)?;
    if output.is_json() {
        return output.json(&json!({"name": config.name, "keys": config.keys}));
    }
    let line = output.text.with("cluster-rotated", &[("name", config.name.into())]);
    output.line(&line)
}

pub(super) fn leave(leave: &Leave, output: &mut Output) -> Result<(), Failure> {
    let (config, service) = own(&leave.own)?;
    let run_dir = std::env::var_os(minka_node::RUN_DIR_VARIABLE).filter(|value| !value.is_empty());
    empty(&run_dir.map_or_else(|| config.run_dir.clone(), PathBuf::from))?;
    client::leave(service, &config.read_keys()?)?;
    if output.is_json() {
        return output.json(&json!({"name": config.name, "left": true}));
    }
    let lines = output.text.with("cluster-left", &[("name", config.name.into())]);
    output.line(&lines)
}

/// Everybody goes home first, if the daemon runs.
fn empty(run_dir: &Path) -> Result<(), Failure> {
    let Ok(mut client) = Client::connect(run_dir) else { return Ok(()) };
    client.steer(Steering::Expel)?;
    Client::connect(run_dir)?.steer(Steering::Bring)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = Client::connect(run_dir)?.status()?;
        if status.away == 0 && status.guests == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::NotEmpty { away: status.away, guests: status.guests });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The node of this machine, and where its authority takes requests.
fn own(own: &Own) -> Result<(NodeConfig, SocketAddr), Failure> {
    let config = NodeConfig::read(&own.config)?;
    let service = own.service.or(config.authority).ok_or(Failure::NoService)?;
    Ok((config, service))
}

/// Keeps a list if it is newer than the one that is there.
fn take_list(config: &NodeConfig, text: &str) -> Result<(), Failure> {
    let Some(map) = &config.map else { return Ok(()) };
    let list = List::verify(text, &config.credentials()?)?;
    if list.version > config.version {
        roster::replace(map, text)?;
    }
    Ok(())
}
