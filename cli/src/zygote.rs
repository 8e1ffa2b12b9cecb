//! The hidden program that becomes deputies and hosts by forking itself, as the node daemon orders.
//!
//! It reads nothing and keeps nothing of the node's: what a deputy or host needs it reads for itself, when it has been
//! made. It has one thread, for only such a program can be forked and go on with what it has.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use minka_kernel::namespace::{empty_network, enter_network};
use minka_kernel::spawn::{Forked, fork_alone, leave_children_to_kernel, put_at};
use minka_wire::local::{CHILD_SOCKET, ZygoteOrder, ZygoteReport};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use tracing::{error, info};

use crate::hidden;

/// The first argument that chooses this program.
pub(crate) const NAME: &str = "__zygote";

/// More than any order needs, in bytes.
const PACKET_BYTES: usize = 256;

/// Takes orders until the daemon has gone, in the zygote; in what it makes, does that program's work.
pub(crate) fn main() -> ExitCode {
    let Some(daemon) = minka_kernel::process::inherited(CHILD_SOCKET) else {
        error!("the zygote is started by the node daemon, not by hand");
        return ExitCode::FAILURE;
    };
    if let Err(error) = leave_children_to_kernel() {
        error!(%error, "failed to leave the status of children to the kernel");
        return ExitCode::FAILURE;
    }
    minka_host::learn_of_machine();
    minka_link::learn_of_processor();
    // Without the right to make one, each guest gets a network namespace with its other ones.
    let network =
        empty_network().inspect_err(|error| info!(%error, "no empty network for guests to share")).ok();
    loop {
        let (order, socket) = match next(&daemon) {
            Ok(Some(order)) => order,
            Ok(None) => return ExitCode::SUCCESS,
            Err(error) => {
                error!(%error, "an order that is not understood");
                return ExitCode::FAILURE;
            }
        };
        let report = match fork_alone() {
            Ok(Forked::Child) => return become_helper(order, (daemon, socket), network),
            Ok(Forked::Parent(pid)) => ZygoteReport::Made { pid: i32::try_from(pid).unwrap_or(i32::MAX) },
            Err(error) => ZygoteReport::Failed { reason: error.to_string() },
        };
        drop(socket);
        let packet = serde_json::to_vec(&report).unwrap_or_default();
        if send(&daemon, &packet, SendFlags::NOSIGNAL).is_err() {
            return ExitCode::SUCCESS;
        }
    }
}

/// The next order, and the socket of the program to be; none when the daemon has gone.
fn next(daemon: &OwnedFd) -> io::Result<Option<(ZygoteOrder, OwnedFd)>> {
    let mut packet = [0; PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let into = &mut [IoSliceMut::new(&mut packet)];
        match recvmsg(daemon, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let socket = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let socket = socket.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((serde_json::from_slice(&packet[..received.bytes])?, socket)))
}

/// The new process: as if it had been started anew, with its socket where it looks for it.
fn become_helper(
    order: ZygoteOrder,
    (daemon, socket): (OwnedFd, OwnedFd),
    network: Option<OwnedFd>,
) -> ExitCode {
    let name = match order {
        ZygoteOrder::Deputy => minka_deputy::NAME,
        ZygoteOrder::Host => hidden::HOST,
    };
    // Only for those who look at a list of processes.
    let _ = rustix::thread::set_name(name);
    // What is typed at the daemon's terminal is not for it. It has just been made, so it leads no group yet.
    let _ = rustix::process::setpgid(None, None);
    // The socket takes the place of the daemon's.
    std::mem::forget(daemon);
    if let Err(error) = put_at(socket, CHILD_SOCKET) {
        error!(%error, "failed to put a socket in its place");
        return ExitCode::FAILURE;
    }
    match order {
        ZygoteOrder::Deputy => minka_deputy::main(),
        ZygoteOrder::Host => {
            let entered = network.is_some_and(|network| enter_network(network.as_fd()).is_ok());
            hidden::host(entered)
        }
    }
}
