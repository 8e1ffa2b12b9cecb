//! Connections from other nodes: each is handed, undecrypted, to the host program of its session.
//!
//! Anybody on the network may connect, so nothing that is read here is believed: the preamble only says
//! which program gets the connection, and that program demands the peer's certificate. The daemon itself takes those
//! that bring keys for datagrams, those that compare lists of nodes, and those that bring a new certificate.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use minka_link::read_preamble;
use minka_wire::local::{HostOrder, HostReport};
use minka_wire::preamble::{Preamble, Purpose, SessionId};
use tracing::{debug, info, warn};

use crate::book::HostId;
use crate::child::PacketSocket;
use crate::daemon::{Daemon, chain};
use crate::pending::Pending;

/// How long a host program may take until it says which guest it is for.
const REPORT: Duration = Duration::from_secs(30);

/// How long a host program may take to end after it said so, or closed its socket.
const CHILD_GRACE: Duration = Duration::from_secs(5);

impl Daemon {
    /// Accepts other nodes' connections. Never returns.
    pub(crate) fn serve_nodes(self: &Arc<Self>, listener: &TcpListener) {
        let pending = Arc::new(Pending::default());
        loop {
            let (stream, address) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "failed to accept a connection");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let number = match pending.add(&stream) {
                Ok(number) => number,
                Err(error) => {
                    warn!(%error, "failed to take a connection");
                    continue;
                }
            };
            let (daemon, pending) = (Arc::clone(self), Arc::clone(&pending));
            std::thread::spawn(move || {
                let preamble = read_preamble(&stream, &daemon.settings.tuning);
                let kept = pending.remove(number);
                match preamble {
                    _ if !kept => debug!(%address, "closed a connection that had said nothing: others wait"),
                    Ok(preamble) if preamble.purpose == Purpose::Keys => {
                        daemon.answer_keys(stream, &preamble)
                    }
                    Ok(preamble) if preamble.purpose == Purpose::Roster => {
                        daemon.answer_roster(stream, &preamble)
                    }
                    Ok(preamble) if preamble.purpose == Purpose::Start => {
                        daemon.answer_start(stream, &preamble)
                    }
                    Ok(preamble) if preamble.purpose == Purpose::Renew => {
                        daemon.answer_renewal(stream, &preamble)
                    }
                    Ok(preamble) if preamble.purpose == Purpose::Processor => {
                        daemon.answer_processor(stream, &preamble)
                    }
                    Ok(preamble) => daemon.pass_on(&stream, &preamble),
                    // Mostly another daemon that looked whether this node can be reached.
                    Err(error) => debug!(%address, error = %chain(&error), "closed a connection"),
                }
            });
        }
    }

    fn pass_on(self: &Arc<Self>, stream: &TcpStream, preamble: &Preamble) {
        let session = preamble.session;
        let socket = match preamble.purpose {
            Purpose::Open => self.open(preamble),
            Purpose::Join => self.host_socket(preamble),
            Purpose::Keys | Purpose::Roster | Purpose::Start | Purpose::Renew | Purpose::Processor => None,
        };
        let Some(socket) = socket else {
            debug!(%session, purpose = ?preamble.purpose, "closed a connection: no place for it");
            return;
        };
        let channel = HostOrder::Channel { preamble: preamble.encode().to_vec() };
        if let Err(error) = socket.send(&channel, Some(stream.as_fd())) {
            debug!(%session, error = %chain(&error), "failed to pass a connection on");
        }
    }

    fn host_socket(&self, preamble: &Preamble) -> Option<Arc<PacketSocket>> {
        let state = self.lock();
        let id = state.book.host_of_session(preamble.session)?;
        state.hosts.get(&id).cloned()
    }

    /// Starts a host program for a new session.
    fn open(self: &Arc<Self>, preamble: &Preamble) -> Option<Arc<PacketSocket>> {
        self.tell(|state| {
            let id = state.book.admit(preamble.session)?;
            let (mut process, socket) = match self.next_host() {
                Ok((process, socket)) => (process, Arc::new(socket)),
                Err(error) => {
                    warn!(error = %chain(&error), "failed to start a host program");
                    state.book.host_gone(id);
                    return None;
                }
            };
            let session = preamble.session;
            state.hosts.insert(id, Arc::clone(&socket));
            let helper = process.pid();
            state.book.helper_started(helper);
            let (daemon, kept) = (Arc::clone(self), Arc::clone(&socket));
            std::thread::spawn(move || {
                daemon.follow_host(id, session, &kept);
                process.reap(CHILD_GRACE);
                daemon.families.take_back(id);
                let guest = daemon.tell(|state| {
                    state.hosts.remove(&id);
                    state.book.helper_gone(helper);
                    state.book.host_gone(id)
                });
                if let Some((home, pid)) = guest {
                    daemon.guest_left(&home, pid);
                }
            });
            Some(socket)
        })
    }

    /// Takes a host program's reports until it ends.
    fn follow_host(self: &Arc<Self>, id: HostId, session: SessionId, socket: &PacketSocket) {
        if let Err(error) = socket.limit_waiting(Some(REPORT)) {
            warn!(error = %chain(&error), "failed to limit the wait for a host program");
        }
        loop {
            let report: HostReport = match socket.receive() {
                Ok(Some(report)) => report,
                Ok(None) => {
                    warn!(%session, "a host program died");
                    return;
                }
                Err(error) => {
                    warn!(%session, error = %chain(&error), "failed to hear a host program");
                    return;
                }
            };
            let last = matches!(report, HostReport::Ended { .. });
            match &report {
                HostReport::Guest { home, pid, local_pid, command } => {
                    info!(home, pid, local_pid, command, "a guest computes here");
                    self.guest_arrived(home, *pid);
                    self.keep_spares();
                }
                HostReport::Family { home, family } => {
                    if let Err(error) = self.families.give(id, home, *family, socket) {
                        warn!(%session, error = %chain(&error), "failed to give a family its memory");
                    }
                }
                HostReport::Memory(memory) => info!(%session, ?memory, "all of a guest's memory is here"),
                HostReport::Calls(_) => {}
                HostReport::Ended { reason: Some(reason) } => warn!(%session, reason, "a guest ended"),
                HostReport::Ended { reason: None } => debug!(%session, "a guest has left"),
            }
            if matches!(report, HostReport::Family { .. }) {
                continue;
            }
            let reported = self.tell(|state| {
                state.book.host_report(id, report);
                state.book.has_guest(id)
            });
            if last {
                return;
            }
            if reported && let Err(error) = socket.limit_waiting(None) {
                warn!(error = %chain(&error), "failed to lift the limit on a host program");
            }
        }
    }
}
