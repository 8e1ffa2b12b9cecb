//! The smallest deputy and host programs: they take the daemon's orders and move nothing.
//!
//! The tests of the daemon start it in the place of the real ones. As a deputy it does what the name of the
//! target node says: `refuses`, `dies` (before it answers), `deaf` (it never answers), `brief` (comes home by
//! itself at once), `lost` (arrives and dies), `talks` (forwards calls); any other node is arrived at.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Duration;

use minka_kernel::spawn::adopt_descriptor;
use minka_wire::local::{CHILD_SOCKET, DeputyOrder, DeputyReport, HostOrder, HostReport, PACKET_MAX};
use rustix::fd::OwnedFd;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn main() -> ExitCode {
    let number = CHILD_SOCKET.to_string();
    let Ok(socket) = adopt_descriptor(OsStr::new(&number)) else { return ExitCode::FAILURE };
    match std::env::args().nth(1).as_deref() {
        Some("deputy") => deputy(&socket),
        Some("host") => host(&socket),
        _ => None,
    }
    .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn deputy(socket: &OwnedFd) -> Option<()> {
    let (pid, rescued) = match receive(socket)? {
        DeputyOrder::Start { pid, .. } => (pid, false),
        DeputyOrder::Rescue { pid, .. } => (pid, true),
        _ => return None,
    };
    if rescued {
        return tell(socket, &DeputyReport::Ended { reason: None, calls: 0 });
    }
    loop {
        match receive(socket)? {
            DeputyOrder::Move { to, at_exec, .. } => {
                if at_exec {
                    tell(socket, &DeputyReport::Armed)?;
                }
                move_to(socket, &to, pid)?;
            }
            DeputyOrder::Home => {
                tell(socket, &DeputyReport::Arrived { at: None, reason: None, freeze_us: 30, calls: 0 })?;
                return tell(socket, &DeputyReport::Ended { reason: None, calls: 0 });
            }
            DeputyOrder::Trace { .. } | DeputyOrder::Address { .. } | DeputyOrder::GiveBack => {}
            DeputyOrder::Ready { .. } | DeputyOrder::Start { .. } | DeputyOrder::Rescue { .. } => {
                return None;
            }
        }
    }
}

fn move_to(socket: &OwnedFd, to: &str, pid: i32) -> Option<()> {
    let arrived = DeputyReport::Arrived { at: Some(to.to_owned()), reason: None, freeze_us: 20, calls: 0 };
    match to {
        "refuses" => tell(socket, &DeputyReport::Refused { reason: "no room".to_owned(), shares: false }),
        "dies" => None,
        "deaf" => Some(()),
        "inattentive" => {
            tell(socket, &arrived)?;
            // Time for an order that is never read.
            std::thread::sleep(Duration::from_millis(300));
            let reason = Some("fork".to_owned());
            tell(socket, &DeputyReport::Arrived { at: None, reason, freeze_us: 10, calls: 0 })?;
            tell(socket, &DeputyReport::Ended { reason: None, calls: 0 })?;
            None
        }
        "brief" => {
            tell(socket, &arrived)?;
            let reason = Some("fork".to_owned());
            tell(socket, &DeputyReport::Arrived { at: None, reason, freeze_us: 10, calls: 0 })
        }
        "lost" => {
            tell(socket, &arrived)?;
            None
        }
        "talks" => {
            tell(socket, &arrived)?;
            // Time for a tracer to come.
            std::thread::sleep(Duration::from_millis(300));
            (0..10).try_for_each(|call| {
                let line = format!("getppid() = {pid} # {call}");
                tell(socket, &DeputyReport::Trace { line })
            })
        }
        _ => tell(socket, &arrived),
    }
}

fn host(socket: &OwnedFd) -> Option<()> {
    let HostOrder::Start { .. } = receive(socket)? else { return None };
    let HostOrder::Channel { preamble } = receive(socket)? else { return None };
    // The session's first byte says what happens: 0 nothing, 1 a guest, 2 a death.
    match preamble.get(8) {
        Some(1) => {
            let local_pid = i32::try_from(std::process::id()).ok()?;
            let (home, command) = ("b".to_owned(), "work".to_owned());
            tell(socket, &HostReport::Guest { home, pid: 40, local_pid, command })?;
        }
        Some(2) => return None,
        _ => {}
    }
    loop {
        match receive(socket)? {
            HostOrder::Expel => return tell(socket, &HostReport::Ended { reason: None }),
            HostOrder::Channel { .. } | HostOrder::Objects => {}
            HostOrder::Start { .. } => return None,
        }
    }
}

fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> Option<T> {
    let mut packet = vec![0; PACKET_MAX];
    let (count, _) = recv(socket, &mut packet[..], RecvFlags::empty()).ok()?;
    serde_json::from_slice(&packet[..count]).ok()
}

fn tell<T: Serialize>(socket: &OwnedFd, report: &T) -> Option<()> {
    let packet = serde_json::to_vec(report).ok()?;
    send(socket, &packet, SendFlags::empty()).ok().map(drop)
}
