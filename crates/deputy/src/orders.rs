//! The socket to the node daemon.

use minka_wire::local::{CHILD_SOCKET, DeputyOrder, DeputyReport, PACKET_MAX};
use rustix::net::{RecvFlags, SendFlags};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Both directions; shared by the deputy's threads.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    socket: Arc<OwnedFd>,
    lost: Arc<AtomicU64>,
    /// Where nodes are that are not, or no more, where the configuration says.
    addresses: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
    calls: Arc<AtomicU64>,
}

impl Daemon {
    /// The socket that this program was started with.
    pub(crate) fn inherited() -> Option<Self> {
        let socket = minka_kernel::process::inherited(CHILD_SOCKET)?;
        Some(Self {
            socket: Arc::new(socket),
            lost: Arc::default(),
            addresses: Arc::default(),
            calls: Arc::default(),
        })
    }

    /// The next order; `None` when the daemon has gone.
    pub(crate) fn order(&self) -> Option<DeputyOrder> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            match rustix::net::recv(&self.socket, packet.as_mut_slice(), RecvFlags::empty()) {
                Ok((0, _)) => return None,
                Ok((length, _)) => match serde_json::from_slice(&packet[..length]) {
                    Ok(DeputyOrder::Address { node, address }) => {
                        self.addresses().insert(node, address);
                    }
                    Ok(order) => return Some(order),
                    Err(error) => tracing::error!(%error, "the daemon sent an order that is not understood"),
                },
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Where a node is, if the daemon has said so.
    pub(crate) fn address(&self, node: &str) -> Option<SocketAddr> {
        self.addresses().get(node).copied()
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, SocketAddr>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the daemon something. If it has gone there is nobody to tell.
    pub(crate) fn report(&self, report: &DeputyReport) {
        self.send(report, SendFlags::NOSIGNAL);
    }

    /// A call was forwarded.
    pub(crate) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells that the process has arrived at a node, or at home, and how many calls were forwarded before that.
    pub(crate) fn report_arrival(&self, at: Option<String>, reason: Option<String>, freeze_us: u64) {
        self.report(&DeputyReport::Arrived { at, reason, freeze_us, calls: self.take_calls() });
    }

    /// Tells that the process has ended, or is at home for good.
    pub(crate) fn report_end(&self, reason: Option<String>) {
        self.report(&DeputyReport::Ended { reason, calls: self.take_calls() });
    }

    /// How many calls were forwarded since this was last asked.
    fn take_calls(&self) -> u64 {
        self.calls.swap(0, Ordering::Relaxed)
    }

    /// Tells the daemon of a forwarded call; never waits for it, but counts what was left out.
    pub(crate) fn trace(&self, line: String) {
        let now = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let told = lost == 0 || self.send(&DeputyReport::TraceLost { lines: lost }, now);
        if !(told && self.send(&DeputyReport::Trace { line }, now)) {
            self.lost.fetch_add(1 + if told { 0 } else { lost }, Ordering::Relaxed);
        }
    }

    fn send(&self, report: &DeputyReport, flags: SendFlags) -> bool {
        let Ok(packet) = serde_json::to_vec(report) else { return false };
        packet.len() <= PACKET_MAX && rustix::net::send(&self.socket, &packet, flags).is_ok()
    }
}

impl AsFd for Daemon {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
