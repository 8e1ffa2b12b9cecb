//! The socket to the node daemon, over which connections arrive too.

use minka_wire::local::{CHILD_SOCKET, HostOrder, HostReport, PACKET_MAX};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Both directions.
#[derive(Debug)]
pub(crate) struct Daemon {
    socket: OwnedFd,
}

impl Daemon {
    /// The socket that this program was started with.
    pub(crate) fn inherited() -> Option<Self> {
        Some(Self { socket: minka_kernel::process::inherited(CHILD_SOCKET)? })
    }

    /// The next order, with the descriptor that came with it; `None` when the daemon has gone.
    pub(crate) fn order(&self) -> Option<(HostOrder, Option<OwnedFd>)> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut packet)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            );
            let length = match received {
                Ok(received) if received.bytes == 0 => return None,
                Ok(received) => received.bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return None,
            };
            let mut descriptor = None;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    // One comes at a time; any other is closed here.
                    descriptor = descriptors.last();
                }
            }
            match serde_json::from_slice(&packet[..length]) {
                Ok(order) => return Some((order, descriptor)),
                Err(error) => tracing::error!(%error, "the daemon sent an order that is not understood"),
            }
        }
    }

    /// Tells the daemon something. If it has gone there is nobody to tell.
    pub(crate) fn report(&self, report: &HostReport) {
        let Ok(packet) = serde_json::to_vec(report) else { return };
        let _ = rustix::net::send(&self.socket, &packet, SendFlags::NOSIGNAL);
    }
}

impl AsFd for Daemon {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
