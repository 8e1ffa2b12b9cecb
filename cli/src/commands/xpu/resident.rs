//! The daemon's program for accelerators: what `minka xpu serve` does, in a process of its own, so that a vendor's library
//! that fails takes nothing with it but what was known of its devices.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use minka_accel::limits::LimitsError;
use minka_accel::{Limits, Root};
use minka_accel_service::Options;
use minka_accel_service::usage::{Count, Kind, Usage};
use minka_link::NodeConfig;
use minka_link::config::XpuConfig;
use minka_wire::local::{
    Accelerators, CHILD_SOCKET, DeviceCount, DeviceKind, FREE_DEVICES_MAX, FreeDevice, PACKET_MAX, XpuOrder,
    XpuReport,
};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::failure::Failure;

/// What the kernel shows as the program's command name.
pub(crate) const NAME: &std::ffi::CStr = c"minka-xpu";

/// Where memory is short this goes before anything that somebody waits for.
const OOM_SCORE: &str = "300";

/// Runs until the daemon has gone.
pub(crate) fn main() -> ExitCode {
    let Some(socket) = minka_kernel::process::inherited(CHILD_SOCKET) else {
        tracing::error!("this program is started by the node daemon, not by hand");
        return ExitCode::FAILURE;
    };
    // Everybody may become nicer, and an easier victim.
    let _ = rustix::process::setpriority_process(None, 0);
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let mut packet = vec![0; PACKET_MAX];
    let length = recv(&socket, packet.as_mut_slice(), RecvFlags::empty()).map_or(0, |(length, _)| length);
    let Ok(XpuOrder::Start { config }) = serde_json::from_slice(&packet[..length]) else {
        return ExitCode::FAILURE;
    };
    let Ok(listener) = socket.try_clone() else { return ExitCode::FAILURE };
    std::thread::spawn(move || {
        let mut packet = [0; 1];
        // There are no other orders; the end of the socket is the end of the daemon.
        while recv(&listener, packet.as_mut_slice(), RecvFlags::empty()).is_ok_and(|(length, _)| length > 0) {
        }
        std::process::exit(0);
    });
    let tell = move |usage: &Usage| {
        let packet = serde_json::to_vec(&report(usage)).unwrap_or_default();
        send(&socket, &packet, SendFlags::NOSIGNAL).is_ok()
    };
    match reside(&config, tell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(error = %minka_wire::chain(&failure), "accelerators are not looked after");
            ExitCode::FAILURE
        }
    }
}

fn reside(config: &str, tell: impl FnMut(&Usage) -> bool + Send + 'static) -> Result<(), Failure> {
    let config = NodeConfig::read(config.as_ref())?.xpu;
    let listens = config.listen.is_some();
    let options = options(config)?;
    Ok(minka_accel_service::reside(&options, listens, tell)?)
}

/// What the service is told of what the node's configuration says.
fn options(config: XpuConfig) -> Result<Options, Failure> {
    let limits = match Limits::read(&config.limits) {
        Err(LimitsError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Limits::default(),
        limits => limits?,
    };
    Ok(Options {
        // Without an address nobody listens.
        listen: config.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
        root: if config.root == Path::new("/") { Root::machine() } else { Root::at(&config.root) },
        interval: config.interval_ms.map(|interval| Duration::from_millis(interval.into())),
        limits,
        state: config.state,
        dumps: config.dumps,
        tokens: config.tokens,
        require_token: config.require_token,
        audit: config.audit,
        python: config.python,
        tls: config.tls.map(|tls| (tls.certificate, tls.key)),
        manager_url: super::manager_url(),
        manager_token: super::manager_token(),
    })
}

fn report(usage: &Usage) -> XpuReport {
    let free = usage.free.iter().filter_map(|identity| {
        let kind = match Kind::of(identity)? {
            Kind::Intel => DeviceKind::Intel,
            Kind::Nvidia => DeviceKind::Nvidia,
            Kind::Amd => DeviceKind::Amd,
            Kind::Mic => DeviceKind::Mic,
        };
        Some(FreeDevice { kind, address: identity.key(), uuid: identity.uuid.clone() })
    });
    XpuReport::Devices { counts: accelerators(usage.counts), free: free.take(FREE_DEVICES_MAX).collect() }
}

fn accelerators(counts: [Count; 4]) -> Accelerators {
    let [intel, nvidia, amd, mic] =
        counts.map(|count| DeviceCount { total: count.total, free: count.free, drained: count.drained });
    Accelerators { intel, nvidia, amd, mic }
}
