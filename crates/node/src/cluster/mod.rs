//! This node's part in the cluster: it hears of the others' load, tells its own, and moves processes by itself.
//!
//! What to do is decided in [`minka_cluster::node`], a state machine. Here is what that has not got:
//!
//! ```text
//!    /proc ──► look.rs ──Sample──►┌────────────┐──Send──► keyring.rs ──► UDP, sealed
//!                                 │  Node      │──Move──► act.rs ──► the book, as if a user had asked
//!    UDP ──► keyring.rs ─────────►│  (one lock)│──Place─► who waits in `minka run`
//!                                 └────────────┘
//!                                        └──► view.rs ──► `minka nodes`
//! ```
//!
//! One thread receives, keeps the time and looks at the machine once a second. Nothing that it does waits for another
//! node: keys are agreed on in threads of their own, and moves are the deputies' work.
//!
//! The lock of the cluster is never held while that of the daemon is waited for.

mod act;
mod advice;
mod begin;
mod directory;
mod fates;
mod keyring;
mod look;
mod pool;
mod steer;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use minka_cluster::NodeId;
use minka_cluster::balance::{Exclusions, Mode, Pool, Presence, ProcessId};
use minka_cluster::gossip::Millis;
use minka_cluster::load::{Decay, Speed};
use minka_cluster::membership::Peer;
use minka_cluster::node::{Config, Node};
use minka_link::config::{BalanceConfig, BalanceMode};
use minka_link::{KeyId, Opened, PoolConfig, SealError};
use minka_sample::{MemoryGroup, Sampler, Scope, Watch};
use tracing::{debug, warn};

pub use directory::{ClusterError, ClusterSettings};
use directory::{Directory, Member};
pub use fates::{DECAY_VARIABLE, JOB_VARIABLE, LOCKED_VARIABLE, STARTED_VARIABLE};

use crate::daemon::{Daemon, chain};
use crate::protocol::Answer;
pub(crate) use begin::Arrival;
use begin::Begin;
use fates::Looks;
use keyring::Keyring;

/// How often the node looks at itself, tells somebody and thinks about moves.
const STEP_MS: Millis = 1_000;

/// Longest datagram that is taken from the network, in bytes; those of nodes are shorter.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// The pause after the network has failed, so that a lasting failure costs little.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// When less than this part of the memory is left, processes that only have memory are looked at, too: those with so many
/// MiB at least.
const TIGHT_PART: u32 = 2;
const RESTING_MIB: f64 = 8.0;

/// How long a program that begins may wait until it is said where; a node that is asked and is gone takes this long.
const PLACE_LIMIT: Duration = Duration::from_millis(1_500);

/// A node's part in the cluster.
pub(crate) struct Cluster {
    pub(crate) directory: Directory,
    /// Where the others reach this node, if it listens at all of its addresses.
    pub(crate) reached_at: Option<SocketAddr>,
    balance: BalanceConfig,
    /// Control groups that limit what guests may have.
    groups: Vec<PathBuf>,
    socket: UdpSocket,
    pub(crate) keyring: Keyring,
    state: Mutex<State>,
}

/// What the lock guards.
struct State {
    node: Node,
    /// How fast what is known of processes is forgotten.
    decay: Decay,
    /// In whose loads this node tells loads.
    yard: Speed,
    /// Programs that wait to be told where to begin.
    places: BTreeMap<ProcessId, SyncSender<Option<NodeId>>>,
    /// Own processes that are on their way.
    moves: Vec<Move>,
    /// What is known of processes from one look to the next.
    looks: Looks,
    /// What is known of programs that begin.
    begin: Begin,
    /// Who uses the machine, and what time it is, where that matters.
    presence: Presence,
}

/// An own process on its way.
#[derive(Debug)]
struct Move {
    process: ProcessId,
    pid: i32,
    answer: Receiver<Answer>,
}

impl Cluster {
    /// Opens the socket for datagrams, at the address where the node listens.
    pub(crate) fn open(settings: ClusterSettings) -> io::Result<Self> {
        let socket = UdpSocket::bind(settings.own.address)?;
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let epoch = u64::try_from(epoch.as_millis()).unwrap_or(u64::MAX);
        let own = Peer { node: settings.own.number, address: settings.own.address, epoch };
        let mut node = Node::new(node_config(own, &settings.balance, &settings.pool));
        settings.others.iter().for_each(|other| node.expect(other.contact()));
        let keyring = Keyring::new(settings.credentials);
        let directory = Directory::new(settings.own, settings.others);
        let state = State {
            node,
            decay: Decay::default(),
            yard: Speed::STANDARD,
            places: BTreeMap::new(),
            moves: Vec::new(),
            looks: Looks::default(),
            begin: Begin::default(),
            presence: pool::UNSEEN,
        };
        Ok(Cluster {
            directory,
            reached_at: settings.reached_at,
            balance: settings.balance,
            groups: settings.groups,
            socket,
            keyring,
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes have joined, or are somewhere else now.
    pub(crate) fn expect(&self, members: &[Member]) {
        let state = &mut *self.lock();
        members.iter().for_each(|member| state.node.expect(member.contact()));
    }

    /// Nodes are of the cluster no more.
    pub(crate) fn forget(&self, members: &[Member]) {
        let state = &mut *self.lock();
        for member in members {
            state.node.unexpect(member.number);
            self.keyring.forget(member.number);
        }
    }

    /// Whether a node is up, as far as is known here.
    pub(crate) fn is_up(&self, name: &str) -> bool {
        let Some(number) = self.directory.number(name) else { return false };
        self.lock().node.membership().find(number).is_some()
    }

    pub(crate) fn up_count(&self) -> usize {
        self.lock().node.membership().up().len()
    }

    /// One of the nodes that are up, each in its turn.
    pub(crate) fn up_in_turn(&self, turn: usize) -> Option<NodeId> {
        let state = self.lock();
        let up = state.node.membership().up();
        up.get(turn.checked_rem(up.len())?).map(|peer| peer.node)
    }

    /// Whether processes are moved and programs placed here without being asked for.
    pub(crate) fn balances(&self) -> bool {
        self.lock().node.config().settings.mode != Mode::None
    }
}

/// The time since the machine was started, its sleep included, by which processes' starts are told too.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn node_config(own: Peer, balance: &BalanceConfig, pool: &PoolConfig) -> Config {
    let seed = own.epoch ^ (u64::from(own.node.get()) << 48);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let measured = minka_sample::measure_speed;
    let mut config = Config::new(own, seed);
    config.cpus = balance.cpus.map_or_else(|| u16::try_from(processors).unwrap_or(u16::MAX), u16::from);
    config.speed = balance.speed.and_then(|speed| Speed::new(speed.get())).unwrap_or_else(measured);
    config.pool = pool::pool(pool);
    config.reserve_mib = balance.reserve_mib;
    config.settings.mode = match balance.mode {
        BalanceMode::All => Mode::All,
        BalanceMode::Started => Mode::Started,
        BalanceMode::None => Mode::None,
    };
    config.settings.uid_min = balance.uid_min;
    config.settings.exclusions = Exclusions {
        uids: balance.exclude_uids.clone(),
        programs: balance.exclude_programs.clone(),
        cgroups: balance.exclude_cgroups.clone(),
    };
    config
}

impl Daemon {
    /// Takes part in the cluster. Never returns.
    pub(crate) fn take_part(self: &Arc<Self>, cluster: &Arc<Cluster>) {
        let scope = if cluster.balance.visible_only { Scope::Visible } else { Scope::Machine };
        let mut sampler = Sampler::new(Path::new("/proc"), scope);
        sampler.limit_memory(MemoryGroup::among(&cluster.groups));
        let is_adaptive = matches!(cluster.lock().node.config().pool, Pool::Adaptive { .. });
        let mut watch = is_adaptive.then(|| Watch::new(Path::new("/dev")));
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let mut next_step = 0;
        loop {
            let time = now();
            if millis(time) >= next_step {
                next_step = millis(time) + STEP_MS;
                if let Some(watch) = &mut watch {
                    self.note_presence(cluster, watch.look());
                }
                self.step(cluster, &mut sampler, time);
                continue;
            }
            let deadline = cluster.lock().node.deadline();
            if deadline.is_some_and(|deadline| deadline <= millis(time)) {
                let actions = cluster.lock().node.on_time(millis(time));
                self.act(cluster, actions);
                continue;
            }
            self.settle_moves(cluster);
            let wait_ms = deadline.map_or(next_step, |deadline| deadline.min(next_step)) - millis(time);
            self.receive(cluster, &mut buffer, Duration::from_millis(wait_ms));
        }
    }

    fn step(self: &Arc<Self>, cluster: &Arc<Cluster>, sampler: &mut Sampler, time: Duration) {
        let sample = match sampler.sample(time) {
            Ok(sample) => sample,
            Err(error) => {
                warn!(error = %chain(&error), "failed to look at this machine");
                return;
            }
        };
        let [memory_mib, _, available_mib] = sample.memory_mib;
        let is_tight = available_mib < memory_mib / TIGHT_PART;
        let resting = if is_tight { sampler.resting(RESTING_MIB) } else { Vec::new() };
        let sample = self.look(cluster, millis(time), sample, &resting);
        self.listen(cluster);
        debug!(load = sample.load.tasks(), candidates = sample.candidates.len(), "looked at this machine");
        let actions = cluster.lock().node.on_step(millis(time), &sample);
        self.act(cluster, actions);
        self.tell_version(cluster, millis(time) / STEP_MS);
    }

    /// Takes one datagram, if one comes before the time is over.
    fn receive(self: &Arc<Self>, cluster: &Arc<Cluster>, buffer: &mut [u8], wait: Duration) {
        // Fails only for a wait of no time.
        let _ = cluster.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))));
        let (count, sender) = match cluster.socket.recv_from(buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return;
            }
            Err(error) => {
                debug!(%error, "failed to receive a datagram");
                std::thread::sleep(FAILURE_PAUSE);
                return;
            }
        };
        let Some(datagram) = buffer.get_mut(..count) else { return };
        match Opened::look(datagram) {
            Ok(Opened::Sealed(key)) => match cluster.keyring.open(key, datagram) {
                Ok(Some((from, content))) => {
                    if cluster.directory.see(from, sender) {
                        self.seen_elsewhere(cluster, from, sender);
                    }
                    self.hear(cluster, from, content);
                }
                Ok(None) => {
                    // Whoever gets this may believe it or not; it is shorter than what it answers.
                    let _ = cluster.socket.send_to(&minka_link::unknown_key(key), sender);
                }
                Err(error) => report_seal(key, error),
            },
            Ok(Opened::Unknown(key)) => self.agree_anew(cluster, key),
            Err(error) => debug!(%sender, %error, "threw a datagram away"),
        }
    }

    fn hear(self: &Arc<Self>, cluster: &Arc<Cluster>, from: NodeId, content: &[u8]) {
        if let Some(request) = act::Request::read(content) {
            return self.move_on(cluster, from, &request);
        }
        if let Some(version) = crate::roster::read_version(content) {
            return self.hear_version(cluster, from, version);
        }
        let actions = cluster.lock().node.on_datagram(millis(now()), from, content);
        match actions {
            Ok(actions) => self.act(cluster, actions),
            Err(error) => debug!(%from, error = %chain(&error), "a datagram was of no use"),
        }
    }

    /// Tells the others that this node goes.
    pub(crate) fn leave_cluster(self: &Arc<Self>) {
        let Some(cluster) = self.cluster() else { return };
        let actions = cluster.lock().node.leave(millis(now()));
        self.act(&cluster, actions);
    }

    /// Where a program that begins, or a process, should compute: another node's name, or `None` for here. How much
    /// memory it wants is said if it is known.
    pub(crate) fn place(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        pid: i32,
        memory_mib: Option<f64>,
    ) -> Option<String> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let process = cluster.directory.process(cluster.directory.own.number, pid);
        let actions = {
            let state = &mut *cluster.lock();
            state.places.insert(process, sender);
            state.node.place(millis(now()), process, memory_mib)
        };
        self.act(cluster, actions);
        let place = receiver.recv_timeout(PLACE_LIMIT);
        cluster.lock().places.remove(&process);
        place.ok().flatten().and_then(|node| cluster.directory.name(node)).map(|name| name.to_string())
    }
}

/// Says what is odd about a datagram, but not with a line of the log for each that anybody may send.
fn report_seal(key: KeyId, error: SealError) {
    debug!(%key, %error, "threw a datagram away");
}
