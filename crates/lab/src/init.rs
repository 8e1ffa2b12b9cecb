//! The first process of a node.
//!
//! It furnishes the node's namespaces, starts the daemon, and then does what only a PID 1 can do: it inherits
//! orphans and takes the status of those that end. It starts nothing again: a node whose daemon died is a
//! node whose daemon died. When it is killed, the kernel kills everything else in the node.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use minka_kernel::spawn::{SignalQueue, adopt_descriptor, reap_any, set_program_name, wait_readable};
use minka_kernel::{mountpoint, namespace};

use crate::channel::Channel;
use crate::error::{LabError, chain};
use crate::message::{Go, NodeEvent, NodePlan};
use crate::network::NodeNetwork;
use crate::options::OWN_PROGRAM;
use crate::supervisor::{TREE, TREE_SOURCE};

/// The argument that makes a program a node's init; a descriptor follows: the supervisor's channel.
pub(crate) const ROLE: &str = "init";

/// Runs a node's init until it is killed.
pub(crate) fn main(mut arguments: impl Iterator<Item = OsString>) -> Result<(), LabError> {
    set_program_name(c"minka-init");
    let number = arguments.next().unwrap_or_default();
    let supervisor = adopt_descriptor(&number).map_err(LabError::system("take over a descriptor"))?;
    let supervisor = Channel::from(supervisor);
    let result = start(&supervisor).and_then(|(signals, daemon)| look_after(&supervisor, &signals, daemon));
    if let Err(error) = &result {
        // If it is gone too, the log has it.
        let _ = supervisor.send(&NodeEvent::Failed(chain(error)));
    }
    result
}

/// Furnishes the node and starts its daemon; returns the daemon's PID.
fn start(supervisor: &Channel) -> Result<(SignalQueue, u32), LabError> {
    let plan: NodePlan = next(supervisor)?;
    namespace::keep_mounts_inside().map_err(LabError::system("separate the node's mounts"))?;
    // A daemon that is none of a lab's may show its tree on this machine.
    let tree = mountpoint::leave_outside(Path::new(TREE), TREE_SOURCE);
    tree.map_err(LabError::system("leave the machine's tree outside"))?;
    namespace::mount_proc().map_err(LabError::system("mount /proc"))?;
    namespace::set_host_name(&plan.name).map_err(LabError::system("set the host name"))?;
    let mut network = NodeNetwork::create()?;
    // Before there are children, so that the end of none is missed.
    let signals = SignalQueue::new(&[libc::SIGCHLD]).map_err(LabError::system("queue signals"))?;
    let Go = next(supervisor)?;
    network.join(plan.number)?;
    let sent = supervisor.send(&NodeEvent::Joined);
    sent.map_err(LabError::system("report to the supervisor"))?;
    // Whoever asks for a neighbour that is not there yet asks again only after a second.
    let Go = next(supervisor)?;
    let (program, arguments) =
        plan.command.split_first().ok_or(LabError::Internal("find the node daemon's command line"))?;
    let mut daemon = Command::new(program);
    daemon
        .arg0(if program == OWN_PROGRAM { "minka" } else { program })
        .args(arguments)
        .env("MINKA_DIR", &plan.run_directory)
        .stdin(Stdio::null());
    signals.unblock_in(&mut daemon);
    let daemon = daemon.spawn().map_err(LabError::file("execute", program))?.id();
    let sent = supervisor.send(&NodeEvent::Started(daemon));
    sent.map_err(LabError::system("report to the supervisor"))?;
    Ok((signals, daemon))
}

fn next<T: serde::de::DeserializeOwned>(supervisor: &Channel) -> Result<T, LabError> {
    let message = supervisor.receive().map_err(LabError::system("understand the supervisor"))?;
    message.ok_or(LabError::Silence { operation: "read the node's plan" })
}

/// Until the supervisor is gone, which in practice the kernel makes known by killing this process.
fn look_after(supervisor: &Channel, signals: &SignalQueue, daemon: u32) -> Result<(), LabError> {
    loop {
        let ready = wait_readable(&[signals.as_fd(), supervisor.as_fd()], None);
        let ready = ready.map_err(LabError::system("wait for events"))?;
        if ready[1] {
            return Ok(());
        }
        while signals.next_arrived().is_some() {}
        while let Some((pid, status)) = reap_any() {
            if pid == daemon {
                let sent = supervisor.send(&NodeEvent::Ended(status.into_raw()));
                sent.map_err(LabError::system("report to the supervisor"))?;
            }
        }
    }
}
