//! `omdiscd`: openMosix's daemon that finds nodes by multicast. It announces this node, hears the others, and tells this
//! node's daemon, which looks for them there.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use minka_link::config::DiscoveryConfig;
use minka_link::{Announcer, NodeConfig};
use minka_node::RUN_DIR_VARIABLE;
use minka_node::client::Client;
use minka_node::discovery::{Discovery, Heard};
use serde_json::json;

use crate::args::openmosix::Omdiscd;
use crate::failure::Failure;
use crate::output::Output;

/// After so many waits the files are read anew: another certificate may have come.
const WAITS: usize = 64;

pub(super) fn omdiscd(arguments: &Omdiscd, output: &mut Output) -> Result<(), Failure> {
    let settings = DiscoveryConfig {
        multicast: true,
        interfaces: arguments.interfaces.clone(),
        ttl: arguments.multicast_ttl,
    };
    // Also where it is going to be done by another process: what is wrong is said here.
    let mut discovery = Discovery::open(&settings)?;
    let config = NodeConfig::read(&arguments.config)?;
    Announcer::new(&config.read_keys()?)?;
    if !arguments.nodaemon {
        drop(discovery);
        return detach();
    }
    let run_dir = std::env::var_os(RUN_DIR_VARIABLE).filter(|value| !value.is_empty());
    let run_dir = run_dir.map_or_else(|| config.run_dir.clone(), PathBuf::from);
    loop {
        let config = NodeConfig::read(&arguments.config)?;
        let (announcer, credentials) = (Announcer::new(&config.read_keys()?)?, config.credentials()?);
        for _ in 0..WAITS {
            let heard = discovery.next(&announcer, &credentials, config.version, config.listen.port());
            let Some(Heard { name, address }) = heard else { continue };
            if output.is_json() {
                output.json(&json!({"node": name, "address": address}))?;
            } else {
                let told = [("node", name.clone().into()), ("address", address.to_string().into())];
                let line = output.text.with("omdiscd-heard", &told);
                output.line(&line)?;
            }
            // A daemon that does not run now will be told the next time.
            if let Err(error) = Client::connect(&run_dir).and_then(|mut client| client.found(&name, address))
            {
                output.remark(&error.to_string());
            }
        }
    }
}

/// Does the same in a process of its own, with nobody's terminal.
fn detach() -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::Prepare)?;
    let words = std::env::args_os().skip(1);
    let is_named = std::env::args_os().next().is_some_and(|name| name.to_string_lossy().ends_with("omdiscd"));
    let mut command = Command::new(program);
    if is_named {
        command.arg("omdiscd");
    }
    command.args(words).arg("--nodaemon").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop).map_err(Failure::Prepare)
}
