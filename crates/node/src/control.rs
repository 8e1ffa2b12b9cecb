//! The control socket: what the tools of this node's users ask.
//!
//! Anybody may connect; who they are is what the kernel says of the peer. What they may do is said in [`crate::ask`]. A
//! client has a limit on its lines, its pauses and its number.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

// Not rustix's: that has no value for a peer outside of this PID namespace, whose PID reads 0.
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::{RecvFlags, recv};
use tracing::{debug, warn};

use crate::ask::{Caller, Next};
use crate::daemon::Daemon;
use crate::lines::{LineError, Lines};
use crate::places::Places;
use crate::protocol::{Answer, DeviceKind, Event, Message, NODES_MAX, Refusal, Request, VERSION};
use crate::start;

/// Most clients at a time, and most of one user who is not root.
const CLIENTS_MAX: usize = 64;
const CLIENTS_OF_ONE_MAX: usize = 16;

/// How long a client may be silent between two requests, take for one line, and for reading one answer.
const IDLE: Duration = Duration::from_secs(60);
const LINE: Duration = Duration::from_secs(5);

/// How long a client that is turned away may take to read why.
const BRIEFLY: Duration = Duration::from_millis(10);

/// How often a follower that has nothing to read is looked at, to see whether it has gone.
const LOOK: Duration = Duration::from_secs(1);

impl Daemon {
    /// Serves the control socket. Never returns.
    pub(crate) fn serve_control(self: &Arc<Self>, listener: &UnixListener) {
        let places = Places::new(CLIENTS_MAX, CLIENTS_OF_ONE_MAX);
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "failed to accept a client");
                    // Mostly for want of descriptors, which takes a while to mend.
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let (uid, pid) = match getsockopt(&stream, PeerCredentials) {
                Ok(peer) => (peer.uid(), peer.pid()),
                Err(error) => {
                    warn!(%error, "failed to find out who a client is");
                    continue;
                }
            };
            let Some(place) = places.take(uid) else {
                // It has room for a line, so this does not keep the others waiting.
                let _ = Lines::new(stream).write(&Answer::Refused(Refusal::TooManyClients), BRIEFLY);
                continue;
            };
            let daemon = Arc::clone(self);
            std::thread::spawn(move || {
                let _place = place;
                let error =
                    Client { daemon, lines: Lines::new(stream), caller: Caller::new(uid), pid }.serve();
                debug!(uid, %error, "a client has gone");
            });
        }
    }
}

/// A connected tool.
struct Client {
    daemon: Arc<Daemon>,
    lines: Lines,
    caller: Caller,
    pid: i32,
}

impl Client {
    /// Answers requests until the client goes or breaks the rules; returns why.
    fn serve(mut self) -> LineError {
        loop {
            if let Err(error) = self.serve_one() {
                let detail = match &error {
                    LineError::NotUnderstood(cause) => cause.to_string(),
                    LineError::TooLong | LineError::TooSlow => error.to_string(),
                    _ => return error,
                };
                let _ = self.refuse(Refusal::BadRequest { detail });
                return error;
            }
        }
    }

    fn serve_one(&mut self) -> Result<(), LineError> {
        // The version is read by itself first: another version's body may look quite different.
        let line = self.lines.read_line(IDLE, LINE)?;
        let message: Message<serde_json::Value> =
            serde_json::from_slice(&line).map_err(LineError::NotUnderstood)?;
        if message.version != VERSION {
            return self.refuse(Refusal::Version { version: message.version, supported: VERSION });
        }
        let request = serde_json::from_value(message.body).map_err(LineError::NotUnderstood)?;
        self.answer(self.caller, request)
    }

    fn answer(&mut self, caller: Caller, request: Request) -> Result<(), LineError> {
        match request {
            Request::For { uid, request } => match *request {
                Request::For { .. } => {
                    self.refuse(Refusal::BadRequest { detail: "it is for somebody twice".to_owned() })
                }
                request if caller.is_root() => self.answer(Caller::new(uid), request),
                _ => self.refuse(Refusal::NotRoot),
            },
            Request::Process { pid } => {
                let process = self.daemon.process(pid);
                self.send(&process.map_or_else(Answer::Refused, Answer::Process))
            }
            Request::Advise { pid, advice } => {
                let advised = self.daemon.advise(caller, pid, advice);
                self.send(&advised.map_or_else(Answer::Refused, |()| Answer::Done))
            }
            Request::Status => {
                let status = self.daemon.status();
                self.send(&Answer::Status(status))
            }
            Request::Ps { all } => {
                let processes = self.daemon.processes_for(caller, all);
                self.list(processes.into_iter().map(Answer::Process))
            }
            Request::Migrate { pid, to, at_exec } => {
                let answer = self.daemon.migrate(caller, pid, &to, at_exec);
                self.send(&answer.unwrap_or_else(Answer::Refused))
            }
            Request::Trace { pid } => self.trace(caller, pid),
            Request::Nodes => {
                let nodes = self.daemon.nodes();
                self.list(nodes.into_iter().map(Answer::Node))
            }
            Request::Steer { what } => {
                let steered = self.daemon.steer_for(caller, what);
                self.send(&steered.map_or_else(Answer::Refused, |()| Answer::Done))
            }
            Request::Device { kind } => {
                let device = self.daemon.promise_device(self.pid, kind);
                self.send(&device.map_or_else(Answer::Refused, Answer::Device))
            }
            Request::Start { kind } => self.start(caller, kind),
            Request::Processors { nodes } if nodes.len() > NODES_MAX => {
                self.refuse(Refusal::BadRequest { detail: format!("more than {NODES_MAX} nodes") })
            }
            Request::Processors { nodes } => {
                let processors = self.daemon.processors(&nodes);
                let answer = processors.map(|(own, common)| Answer::Processors { own, common });
                self.send(&answer.unwrap_or_else(Answer::Refused))
            }
            Request::Found { node, address } => {
                let told = self.daemon.found_for(self.caller, &node, address);
                self.send(&told.map_or_else(Answer::Refused, |()| Answer::Done))
            }
            Request::Reasons { pid } => {
                let reasons = self.daemon.reasons(caller, pid);
                self.send(&reasons.map_or_else(Answer::Refused, Answer::Reasons))
            }
        }
    }

    /// From here on the connection is the program's; it is closed with it.
    fn start(&mut self, caller: Caller, kind: Option<DeviceKind>) -> Result<(), LineError> {
        let (node, device, channel) = match self.daemon.find_start(caller, kind) {
            Ok(found) => found,
            Err(refusal) => return self.refuse(refusal),
        };
        self.send(&Answer::Starting { node, device })?;
        let stream = self.lines.stream().try_clone().map_err(LineError::Socket)?;
        let relayed = start::relay(stream, channel);
        Err(relayed.map_or_else(LineError::Socket, |()| LineError::Closed))
    }

    fn list(&mut self, mut items: impl Iterator<Item = Answer>) -> Result<(), LineError> {
        items.try_for_each(|item| self.send(&item))?;
        self.send(&Answer::End)
    }

    fn send(&mut self, answer: &Answer) -> Result<(), LineError> {
        self.lines.write(answer, LINE)
    }

    fn refuse(&mut self, refusal: Refusal) -> Result<(), LineError> {
        self.send(&Answer::Refused(refusal))
    }

    fn trace(&mut self, caller: Caller, pid: i32) -> Result<(), LineError> {
        let following = match self.daemon.follow(caller, pid) {
            Ok(following) => following,
            Err(refusal) => return self.refuse(refusal),
        };
        loop {
            match following.next(LOOK) {
                Next::Event(event) => {
                    let last = matches!(event, Event::Ended { .. });
                    self.send(&Answer::Event(event))?;
                    if last {
                        return self.send(&Answer::End);
                    }
                }
                Next::Nothing if has_gone(self.lines.stream()) => return Err(LineError::Closed),
                Next::Nothing => {}
                Next::Over => return self.send(&Answer::End),
            }
        }
    }
}

/// Whether the peer has closed its end.
fn has_gone(stream: &UnixStream) -> bool {
    let mut byte = [0u8; 1];
    match recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((count, _)) => count == 0,
        Err(error) => io::Error::from(error).kind() != io::ErrorKind::WouldBlock,
    }
}
