//! The user's side: a node is found that starts the program, and then everything is passed on.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use minka_link::{Channel, ChannelError};
use minka_wire::frame::Header;
use minka_wire::preamble::{Preamble, Purpose};
use minka_wire::start::{INPUT, ORDER, Order, PROGRAM, SIGNAL, Unstarted, VERDICT, Verdict, decode, encode};
use nix::unistd::{Uid, User};
use tracing::{debug, info};

use super::{read_frame, write_frame};
use crate::ask::Caller;
use crate::daemon::{Daemon, chain};
use crate::protocol::{DeviceKind, FreeDevice, Refusal};

/// So many nodes are asked.
const NODES_MAX: usize = 8;

/// How long a node may take for its verdict.
const VERDICT_TIME: Duration = Duration::from_secs(10);

impl Daemon {
    /// Finds a node that starts a program for somebody, with a device of a kind if that matters.
    pub(crate) fn find_start(
        &self,
        caller: Caller,
        kind: Option<DeviceKind>,
    ) -> Result<(String, FreeDevice, Channel), Refusal> {
        let mut refused = Vec::new();
        let nodes = self.nodes_with_device(kind);
        let user = caller.user().filter(|uid| *uid != 0).map(Uid::from_raw);
        let user = user.and_then(|uid| User::from_uid(uid).ok().flatten()).map(|user| user.name);
        let Some(user) = user else {
            refused.extend(nodes.into_iter().map(|node| (node, Unstarted::Root)));
            return Err(Refusal::NotStarted { nodes: refused });
        };
        let order = Order { user, kind };
        for node in nodes.into_iter().take(NODES_MAX) {
            match self.order_start(&node, &order) {
                Ok((Verdict::Granted(device), channel)) => {
                    info!(node, user = order.user, address = device.address, "a program is started there");
                    return Ok((node, device, channel));
                }
                Ok((Verdict::Refused(why), _)) => refused.push((node, why)),
                Err(error) => {
                    debug!(node, error = %chain(&error), "failed to ask a node to start a program");
                    refused.push((node, Unstarted::Silent));
                }
            }
        }
        Err(Refusal::NotStarted { nodes: refused })
    }

    fn order_start(&self, node: &str, order: &Order) -> Result<(Verdict, Channel), ChannelError> {
        let cluster = self.cluster().ok_or(ChannelError::Closed)?;
        let address = cluster.directory.named(node).ok_or(ChannelError::Closed)?.address;
        let preamble = Preamble::without_session(Purpose::Start);
        let credentials = cluster.keyring.credentials();
        let mut channel = minka_link::connect(&credentials, address, node, &preamble, &self.settings.tuning)?;
        channel.send(Header::new(ORDER, 0), &[IoSlice::new(&encode(order))])?;
        let mut body = Vec::new();
        match channel.recv_timeout(&mut body, Duration::ZERO, VERDICT_TIME)? {
            Some(header) if header.kind == VERDICT => {
                let verdict = decode(&body).ok_or(ChannelError::Protocol("a verdict that is none"))?;
                Ok((verdict, channel))
            }
            Some(_) => Err(ChannelError::Protocol("something else than a verdict")),
            None => Err(ChannelError::Slow { limit: VERDICT_TIME }),
        }
    }
}

/// Passes on what tool and node say to each other, until either has gone.
pub(crate) fn relay(mut stream: UnixStream, channel: Channel) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    let closer = channel.closer();
    let (mut sender, mut receiver) = channel.split();
    let mut back = stream.try_clone()?;
    let other = std::thread::spawn(move || {
        let mut body = Vec::new();
        while let Ok(header) = receiver.recv(&mut body, Duration::ZERO) {
            if write_frame(&mut back, header.kind, &body).is_err() {
                break;
            }
        }
        // Fails only if the tool has gone.
        let _ = back.shutdown(Shutdown::Both);
    });
    let outcome = loop {
        match read_frame(&mut stream) {
            Ok(Some((kind @ (PROGRAM | INPUT | SIGNAL), body))) => {
                if sender.send(Header::new(kind, 0), &[IoSlice::new(&body)]).is_err() {
                    break Ok(());
                }
            }
            Ok(Some(_)) => break Err(io::ErrorKind::InvalidData.into()),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    closer.shutdown();
    let _ = stream.shutdown(Shutdown::Both);
    // It ends, as both of its ends are closed.
    let _ = other.join();
    outcome
}
