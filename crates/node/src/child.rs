//! The daemon's children and the packets exchanged with them.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use minka_wire::local::{CHILD_SOCKET, PACKET_MAX};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socketpair, sockopt,
};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::time::Timespec;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What can go wrong between the daemon and a child.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error("make a socket pair")]
    Pair(#[source] io::Error),
    #[error("start {program:?}")]
    Start {
        program: OsString,
        #[source]
        source: io::Error,
    },
    #[error("find a descriptor for the child")]
    Descriptor(#[from] command_fds::FdMappingCollision),
    #[error("send a packet")]
    Send(#[source] io::Error),
    #[error("send a packet of {0} bytes: the limit is {PACKET_MAX}")]
    TooLarge(usize),
    #[error("receive a packet")]
    Receive(#[source] io::Error),
    #[error("receive a packet: longer than {PACKET_MAX} bytes")]
    TooLong,
    #[error("understand a packet")]
    NotUnderstood(#[source] serde_json::Error),
    #[error("make a program by the zygote: {0}")]
    NotMade(String),
    #[error("hold a program that the zygote has made")]
    Hold(#[source] io::Error),
}

impl ChildError {
    /// Whether the child has closed its end.
    pub(crate) fn is_gone(&self) -> bool {
        let (ChildError::Send(error) | ChildError::Receive(error)) = self else { return false };
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
    }
}

/// The daemon's end of the socket to a child.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Sends a value, with a descriptor when one is given. Never waits: a child that does not read its
    /// orders must not hold the daemon.
    pub(crate) fn send<T: Serialize>(
        &self,
        value: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), ChildError> {
        let bytes = serde_json::to_vec(value).map_err(ChildError::NotUnderstood)?;
        if bytes.len() > PACKET_MAX {
            return Err(ChildError::TooLarge(bytes.len()));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, flags)
            .map(drop)
            .map_err(|error| ChildError::Send(error.into()))
    }

    /// Receives a value; `None` when the child has closed its end.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> Result<Option<T>, ChildError> {
        let mut buffer = vec![0; PACKET_MAX + 1];
        let (count, _) = loop {
            match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok(counts) => break counts,
                // A child that ends without having read its last order resets the connection. That is said once and
                // before its last reports, which are still there.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                Err(error) => return Err(ChildError::Receive(error.into())),
            }
        };
        match count {
            0 => Ok(None),
            count if count > PACKET_MAX => Err(ChildError::TooLong),
            count => serde_json::from_slice(&buffer[..count]).map(Some).map_err(ChildError::NotUnderstood),
        }
    }

    /// Whether the child still has its end, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        let nothing = recv(&self.0, &mut [0; 1][..], RecvFlags::DONTWAIT | RecvFlags::PEEK);
        matches!(nothing, Err(rustix::io::Errno::AGAIN))
    }

    /// Ends it in both directions, also for those who wait for something to come.
    pub(crate) fn close(&self) {
        // Fails only if it has ended already.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }

    /// Limits how long [`PacketSocket::receive`] waits; `None` for ever.
    pub(crate) fn limit_waiting(&self, limit: Option<Duration>) -> Result<(), ChildError> {
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, limit)
            .map_err(|error| ChildError::Receive(error.into()))
    }
}

/// A helper program, until it has ended.
#[derive(Debug)]
pub(crate) enum Helper {
    /// A child of the daemon's.
    Child(Child),
    /// One that the zygote has made, held by a pidfd; the kernel takes its status.
    Made { pid: i32, handle: OwnedFd },
}

impl Helper {
    /// Its PID.
    pub(crate) fn pid(&self) -> i32 {
        match self {
            Helper::Child(child) => i32::try_from(child.id()).unwrap_or(i32::MAX),
            Helper::Made { pid, .. } => *pid,
        }
    }

    /// Waits for its end, and makes one after `grace`.
    pub(crate) fn reap(&mut self, grace: Duration) {
        match self {
            Helper::Child(child) => reap(child, grace),
            Helper::Made { handle, .. } => {
                let mut ended = [PollFd::new(handle, PollFlags::IN)];
                let limit = Timespec::try_from(grace).ok();
                if !matches!(poll(&mut ended, limit.as_ref()), Ok(1)) {
                    // Fails only when it is gone already, which is what is wanted.
                    let _ = pidfd_send_signal(&*handle, Signal::KILL);
                    let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], None);
                }
            }
        }
    }
}

/// Two ends of a new socket for packets: the daemon's, and what a program finds at [`CHILD_SOCKET`].
pub(crate) fn socket_pair() -> Result<(PacketSocket, OwnedFd), ChildError> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (near, far) = pair.map_err(|error| ChildError::Pair(error.into()))?;
    Ok((PacketSocket(near), far))
}

/// Starts a child program with one end of a new socket pair at [`CHILD_SOCKET`].
pub(crate) fn spawn(program: &[OsString]) -> Result<(Child, PacketSocket), ChildError> {
    let (near, far) = socket_pair()?;
    let mut words = program.iter();
    let name = words.next().cloned().unwrap_or_default();
    let mut command = Command::new(&name);
    // A group of its own: an interrupt typed at the daemon's terminal is the daemon's to handle.
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    command.fd_mappings(vec![FdMapping { parent_fd: far, child_fd: CHILD_SOCKET }])?;
    let child = command.spawn().map_err(|source| ChildError::Start { program: name, source })?;
    Ok((child, near))
}

/// Waits for a child's end, and makes one after `grace`.
fn reap(child: &mut Child, grace: Duration) {
    let deadline = Instant::now() + grace;
    let mut pause = Duration::from_millis(1);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= deadline {
            // Both fail only when the child is gone already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
