//! Who is in the cluster and who is up, by the SWIM engine [`foca`] (licence MPL-2.0, used as it is).
//!
//! Every two seconds a node asks another one, chosen at random, whether it is there. If no answer comes, some others are
//! asked to ask; if none of them has one, the node is suspected, which it may deny, and at last called down. All this
//! travels with the questions and answers themselves, so a node's cost does not depend on how many there are.
//!
//! A node that is called down although it is there (it slept, or was cut off) hears of it and comes back under the
//! next [`Peer::epoch`]. So does one that has another address now.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Codec, Foca, NoCustomBroadcast, Notification, PeriodicParams, PostcardCodec, Runtime, Timer};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::gossip::Millis;

/// Largest datagram of the membership.
pub const MEMBERSHIP_BYTES_MAX: usize = 1200;

/// Timers that a node can have outstanding; far more than one for each other node.
const TIMERS_MAX: usize = 1 << 18;

/// A node as the others know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its number.
    pub node: NodeId,
    /// Where datagrams reach it.
    pub address: SocketAddr,
    /// Which of its lives this is; the larger one counts. The time of its start in milliseconds will do.
    pub epoch: u64,
}

impl foca::Identity for Peer {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { epoch: self.epoch.saturating_add(1), ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.epoch > adversary.epoch
    }
}

/// Why a datagram was of no use.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// It says to come from somebody else than the channel does.
    #[error("believe who sent a datagram of the membership")]
    Sender,
    /// It cannot be read, or is not meant for this node.
    #[error("understand a datagram of the membership")]
    Engine(#[source] foca::Error),
    /// It cannot be read.
    #[error("read a datagram of the membership")]
    Header,
}

/// What follows from something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a datagram.
    Send(Peer, Vec<u8>),
    /// A node is up, or has another address now.
    Up(Peer),
    /// A node is down.
    Down(NodeId),
}

/// The membership as one node sees it.
pub struct Membership {
    engine: Foca<Peer, PostcardCodec, Xoshiro256PlusPlus, NoCustomBroadcast>,
    timers: BTreeMap<(Millis, u64), Timer<Peer>>,
    timer_count: u64,
    up: Vec<Peer>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Membership")
            .field("own", self.engine.identity())
            .field("up", &self.up)
            .finish()
    }
}

/// Gathers what the engine wants.
struct Gathered {
    now: Millis,
    effects: Vec<Effect>,
    timers: Vec<(Millis, Timer<Peer>)>,
}

impl Runtime<Peer> for Gathered {
    fn notify(&mut self, notification: Notification<'_, Peer>) {
        match notification {
            Notification::MemberUp(peer) | Notification::Rename(_, peer) => {
                self.effects.push(Effect::Up(*peer))
            }
            Notification::MemberDown(peer) => self.effects.push(Effect::Down(peer.node)),
            _ => {}
        }
    }

    fn send_to(&mut self, to: Peer, data: &[u8]) {
        self.effects.push(Effect::Send(to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Peer>, after: Duration) {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.timers.push((self.now.saturating_add(after), event));
    }
}

/// Asked about at most so often.
const PROBE_PERIOD: Duration = Duration::from_secs(2);

/// How long a node is suspected before it is called down: time enough for the suspicion to reach it and its denial to
/// reach all, which grows with the logarithm of their number.
fn suspicion(nodes: usize) -> Duration {
    PROBE_PERIOD.mul_f64(2.0 * (nodes.max(10) as f64).log10()) + PROBE_PERIOD
}

fn config(nodes: usize) -> foca::Config {
    const ONE: NonZeroUsize = NonZeroUsize::MIN;
    let params =
        |seconds, num_members| Some(PeriodicParams { frequency: Duration::from_secs(seconds), num_members });
    foca::Config {
        // A node may take two thirds of a second to answer, and still there is time to ask others.
        probe_period: PROBE_PERIOD,
        probe_rtt: Duration::from_millis(900),
        num_indirect_probes: NonZeroUsize::new(3).unwrap_or(ONE),
        // Enough for ten thousand nodes: news reach all after some four times the logarithm of their number.
        max_transmissions: NonZeroU8::new(16).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: suspicion(nodes),
        remove_down_after: Some(Duration::from_secs(3600)),
        max_packet_size: NonZeroUsize::new(MEMBERSHIP_BYTES_MAX).unwrap_or(ONE),
        notify_down_members: true,
        periodic_announce: params(30, ONE),
        // Two parts of a cluster that were cut off from each other meet again like this.
        periodic_announce_to_down_members: params(5, NonZeroUsize::new(2).unwrap_or(ONE)),
        periodic_gossip: params(1, NonZeroUsize::new(2).unwrap_or(ONE)),
    }
}

impl Membership {
    /// A node that knows nobody yet. All chance comes from `seed`.
    pub fn new(own: Peer, seed: u64) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let engine = Foca::new(own, config(1), random, PostcardCodec);
        Self { engine, timers: BTreeMap::new(), timer_count: 0, up: Vec::new() }
    }

    /// This node, as the others know it.
    pub fn own(&self) -> &Peer {
        self.engine.identity()
    }

    /// The others that are up, by their numbers.
    pub fn up(&self) -> &[Peer] {
        &self.up
    }

    /// The others that are up, by number.
    pub fn find(&self, node: NodeId) -> Option<&Peer> {
        let position = self.up.binary_search_by_key(&node, |peer| peer.node).ok()?;
        self.up.get(position)
    }

    /// When [`Self::on_time`] has something to do next.
    pub fn deadline(&self) -> Option<Millis> {
        self.timers.keys().next().map(|(due, _)| *due)
    }

    /// Asks a node to be taken in; it answers with some of those that it knows.
    pub fn join(&mut self, now: Millis, peer: Peer) -> Vec<Effect> {
        // The only failure is a datagram that is too large, and this one is almost empty.
        self.drive(now, |engine, gathered| engine.announce(peer, gathered)).0
    }

    /// Tells the others that this node leaves.
    pub fn leave(&mut self, now: Millis) -> Vec<Effect> {
        self.drive(now, |engine, gathered| engine.leave_cluster(gathered)).0
    }

    /// This node is somewhere else now, or wants to be known anew.
    pub fn move_to(&mut self, now: Millis, address: SocketAddr) -> Vec<Effect> {
        let own = Peer { address, epoch: self.own().epoch.saturating_add(1), ..*self.own() };
        self.drive(now, |engine, gathered| engine.change_identity(own, gathered)).0
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Millis) -> Vec<Effect> {
        let later = self.timers.split_off(&(now.saturating_add(1), 0));
        let due = std::mem::replace(&mut self.timers, later);
        let mut effects = Vec::new();
        for (_, timer) in due {
            // A timer that comes late, because the machine slept, is refused by the engine, which then begins anew.
            effects.extend(self.drive(now, |engine, gathered| engine.handle_timer(timer, gathered)).0);
        }
        effects
    }

    /// Takes in a datagram that a channel says to be from `from`.
    pub fn on_datagram(
        &mut self,
        now: Millis,
        from: NodeId,
        bytes: &[u8],
    ) -> Result<Vec<Effect>, MembershipError> {
        let header = PostcardCodec.decode_header(bytes);
        let header: foca::Header<Peer> = header.map_err(|_| MembershipError::Header)?;
        if header.src.node != from {
            return Err(MembershipError::Sender);
        }
        let (effects, outcome) = self.drive(now, |engine, gathered| engine.handle_data(bytes, gathered));
        // What happened before the engine stopped has happened.
        match outcome {
            Err(error) if effects.is_empty() => Err(MembershipError::Engine(error)),
            _ => Ok(effects),
        }
    }

    fn drive<T>(
        &mut self,
        now: Millis,
        action: impl FnOnce(
            &mut Foca<Peer, PostcardCodec, Xoshiro256PlusPlus, NoCustomBroadcast>,
            &mut Gathered,
        ) -> T,
    ) -> (Vec<Effect>, T) {
        let mut gathered = Gathered { now, effects: Vec::new(), timers: Vec::new() };
        let outcome = action(&mut self.engine, &mut gathered);
        for (due, timer) in gathered.timers {
            self.timer_count += 1;
            if self.timers.len() < TIMERS_MAX {
                self.timers.insert((due, self.timer_count), timer);
            }
        }
        for effect in &gathered.effects {
            match effect {
                Effect::Up(peer) => match self.up.binary_search_by_key(&peer.node, |other| other.node) {
                    Ok(position) => self.up[position] = *peer,
                    Err(position) => self.up.insert(position, *peer),
                },
                Effect::Down(node) => {
                    if let Ok(position) = self.up.binary_search_by_key(node, |other| other.node) {
                        self.up.remove(position);
                    }
                }
                Effect::Send(..) => {}
            }
        }
        if gathered.effects.iter().any(|effect| !matches!(effect, Effect::Send(..))) {
            // Only what may be changed while it runs differs.
            let _ = self.engine.set_config(config(1 + self.up.len()));
        }
        (gathered.effects, outcome)
    }
}
