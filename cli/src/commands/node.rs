//! `minka node serve`: the node daemon.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use minka_api::Remote;
use minka_link::NodeConfig;
use minka_link::keys::{NODE_CERTIFICATE, NODE_KEY};
use minka_node::processes::ProcFs;
use minka_node::tree::Tree;
use minka_node::{ClusterSettings, Daemon, RUN_DIR_VARIABLE, Settings};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::args::Serve;
use crate::failure::Failure;
use crate::zygote;

/// How long the processes may take to come home when the daemon ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// How nice the daemon and its deputies are, which hardly compute themselves.
const NICE: i32 = -10;

/// Words that mean a place of their own where a node's name may stand.
pub(super) const RESERVED: [&str; 3] = ["home", "best", minka_link::AUTHORITY_NAME];

pub(super) fn serve(arguments: &Serve) -> Result<(), Failure> {
    log_to_stderr();
    // Only for those who look at a list of processes.
    let _ = rustix::thread::set_name(c"minkad");
    // Where many compute the daemon and its deputies would have to wait as long as everybody else, and all that is moved
    // with them. Without the right to it, they do.
    let _ = rustix::process::setpriority_process(None, NICE);
    let (settings, remote) = settings(arguments)?;
    // Before the daemon starts: from then on a signal to end means to bring everybody home first.
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(Failure::Prepare)?;
    let socket = settings.api_socket();
    let daemon = Daemon::new(settings, Box::new(ProcFs), Box::new(eligibility));
    daemon.know_relatives(minka_deputy::eligible::family);
    daemon.start()?;
    let service = minka_api::serve(Arc::clone(&daemon), &socket)?;
    let remote = remote.map(|remote| minka_api::serve_remote(Arc::clone(&daemon), &remote)).transpose()?;
    if let Some(address) = remote.as_ref().and_then(minka_api::Service::address) {
        info!(%address, "other machines may ask over TLS");
    }
    signals.forever().next();
    drop((service, remote));
    if !daemon.end(PATIENCE) {
        warn!("not everybody got home in time");
    }
    Ok(())
}

/// Why a process cannot move, for people.
fn eligibility(pid: i32) -> Vec<String> {
    minka_deputy::eligible::reasons(pid).iter().map(ToString::to_string).collect()
}

/// What the daemon is told, and where other machines may ask if they may.
fn settings(arguments: &Serve) -> Result<(Settings, Option<Remote>), Failure> {
    // The children that read the file for themselves may have another working directory.
    let path = std::path::absolute(&arguments.config).unwrap_or_else(|_| arguments.config.clone());
    let config = NodeConfig::read(&path)?;
    if let Some(name) =
        config.peers.keys().chain([&config.name]).find(|name| RESERVED.contains(&name.as_str()))
    {
        return Err(Failure::ReservedName { name: name.clone() });
    }
    let cluster = ClusterSettings::new(&config)?;
    let run_dir = std::env::var_os(RUN_DIR_VARIABLE).filter(|value| !value.is_empty());
    let program = |name: &str| vec![OsString::from("/proc/self/exe"), OsString::from(name)];
    let remote = config.api.as_ref().map(|api| Remote {
        listen: api.listen,
        tokens: api.tokens.clone(),
        certificate: api.certificate.clone().unwrap_or_else(|| config.keys.join(NODE_CERTIFICATE)),
        key: api.key.clone().unwrap_or_else(|| config.keys.join(NODE_KEY)),
        audit: api.audit.clone(),
    });
    let settings = Settings {
        node: config.name,
        listen: config.listen.to_string(),
        peers: config.peers.into_iter().map(|(name, address)| (name, address.to_string())).collect(),
        tuning: config.link,
        cluster: Some(cluster),
        config: path,
        run_dir: run_dir.map_or(config.run_dir, Into::into),
        tree: (!config.hpc.as_os_str().is_empty())
            .then(|| Tree { point: config.hpc, program: program("__hpc") }),
        deputy: program("__deputy"),
        host: program("__host"),
        xpu: if config.xpu.watch { program("__xpu") } else { Vec::new() },
        start: config.xpu.start,
        zygote: program(zygote::NAME),
    };
    Ok((settings, remote))
}

/// Sends the log to standard error, as much of it as `MINKA_LOG` asks for.
pub(crate) fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("MINKA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Fails only when a log has been set up already.
    let _ = log.try_init();
}
