//! What nodes tell each other of their processors, for programs that are to be able to go from one to the other.

use std::io::IoSlice;
use std::net::TcpStream;
use std::time::Duration;

use minka_image::cpu::Features;
use minka_kernel::cpu;
use minka_link::{ChannelError, NodeConfig};
use minka_wire::frame::Header;
use minka_wire::preamble::{Preamble, Purpose};
use minka_wire::start::{decode, encode};
use tracing::{debug, warn};

use crate::daemon::{Daemon, chain};
use crate::protocol::Refusal;

/// The answer, without a question but the connection itself: [`Features`].
const FEATURES: u16 = 0x0900;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Daemon {
    /// What this node's processor can do, and what of that the processors of all these nodes can do, too.
    pub(crate) fn processors(&self, nodes: &[String]) -> Result<(Features, Features), Refusal> {
        let own = self.features();
        let mut common = own;
        for node in nodes.iter().filter(|node| *node != &self.settings.node) {
            let no_such = || Refusal::NoSuchNode { name: node.clone() };
            let address = self.cluster().and_then(|cluster| cluster.directory.named(node));
            let address = address.ok_or_else(no_such)?.address;
            let theirs = self.ask_processor(node, address).map_err(|error| {
                debug!(node, error = %chain(&error), "failed to ask a node what its processor can do");
                Refusal::Silent { node: node.clone() }
            })?;
            common = common.common(&theirs);
        }
        Ok((own, common))
    }

    /// As the configuration has it now, which deputies and hosts go by.
    fn features(&self) -> Features {
        let all = cpu::features();
        let without = NodeConfig::read(&self.settings.config).map(|config| config.without_cpu);
        all.without(&without.unwrap_or_default()).unwrap_or_else(|name| {
            warn!(name, "the configuration names a processor feature that is not known");
            all
        })
    }

    fn ask_processor(&self, node: &str, address: std::net::SocketAddr) -> Result<Features, ChannelError> {
        let cluster = self.cluster().ok_or(ChannelError::Closed)?;
        let preamble = Preamble::without_session(Purpose::Processor);
        let credentials = cluster.keyring.credentials();
        let mut channel = minka_link::connect(&credentials, address, node, &preamble, &self.settings.tuning)?;
        let mut body = Vec::new();
        match channel.recv_timeout(&mut body, Duration::ZERO, PATIENCE)? {
            Some(header) if header.kind == FEATURES => {
                decode(&body).ok_or(ChannelError::Protocol("features that are none"))
            }
            Some(_) => Err(ChannelError::Protocol("something else than features")),
            None => Err(ChannelError::Slow { limit: PATIENCE }),
        }
    }

    /// Another node wants to know what this one's processor can do.
    pub(crate) fn answer_processor(&self, stream: TcpStream, preamble: &Preamble) {
        let Some(cluster) = self.cluster() else { return };
        let credentials = cluster.keyring.credentials();
        let features = encode(&self.features());
        let outcome = minka_link::accept(&credentials, stream, preamble, &self.settings.tuning).and_then(
            |mut channel| {
                channel.send(Header::new(FEATURES, 0), &[IoSlice::new(&features)])?;
                // The other end closes when it has the answer.
                channel.recv_timeout(&mut Vec::new(), Duration::ZERO, PATIENCE).map(drop)
            },
        );
        if let Err(error) = outcome {
            debug!(error = %chain(&error), "a node that asked about the processor has gone");
        }
    }
}
