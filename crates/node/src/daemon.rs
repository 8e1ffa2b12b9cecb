//! The daemon: carries out what the [`Book`] decides.
//!
//! ```text
//!                 control.rs            incoming.rs
//!  tools ──lines──► a thread per client   a thread per fresh connection ◄──TCP── other nodes
//!                          │                      │
//!                          ▼                      ▼
//!                    ┌──────────── Daemon ────────────┐
//!                    │ one lock: Book, sockets, waiters│◄── a thread that keeps the time
//!                    └───▲─────────────────────▲──────┘◄── a thread that looks after the other nodes
//!                        │ a thread per child  │
//!                   deputy programs       host programs
//! ```
//!
//! A further thread takes part in the cluster ([`crate::cluster`]) under a lock of its own.
//!
//! Everything that happens is told to the book under the one lock, and its effects are carried out under
//! the same lock, so that they happen in the order in which they were decided. None of them waits.

use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use minka_wire::local::{DeputyOrder, DeputyReport, HostOrder};
use tracing::{debug, info, warn};

use crate::accelerators;
use crate::book::{Book, DeputyId, Effect, HostId, Ticket};
use crate::child::PacketSocket;
use crate::cluster::{Arrival, Cluster};
use crate::families::Families;
use crate::processes::Processes;
use crate::protocol::{Answer, Event};
use crate::roster::Charter;
use crate::settings::Settings;
use crate::spare::Spares;
use crate::zygote::Zygote;

/// How often processes that no deputy watches are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a child may take to end after it said so, or closed its socket.
const CHILD_GRACE: Duration = Duration::from_secs(5);

/// Tells why a process cannot move: an empty list when it can.
pub type Eligibility = Box<dyn Fn(i32) -> Vec<String> + Send + Sync>;

/// Tells with whom a process would have to move, itself among them.
pub(crate) type Relatives = fn(i32) -> Vec<i32>;

/// A node daemon.
pub struct Daemon {
    pub(crate) settings: Settings,
    pub(crate) processes: Box<dyn Processes>,
    pub(crate) eligibility: Eligibility,
    /// Nobody has any where nothing is known of them.
    relatives: OnceLock<Relatives>,
    /// The memory that the guests of families have here.
    pub(crate) families: Families,
    pub(crate) started: Instant,
    pub(crate) zygote: Zygote,
    pub(crate) spares: Spares,
    /// This node's part in the cluster, if it takes one; there from the start of serving.
    pub(crate) cluster: OnceLock<Arc<Cluster>>,
    /// What is known of this node's accelerators.
    pub(crate) accelerators: Mutex<accelerators::Known>,
    /// The list of the cluster's nodes.
    pub(crate) charter: Charter,
    state: Mutex<State>,
    /// The next alarm is sooner than the one that the timekeeper waits for.
    sooner: Condvar,
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) book: Book,
    pub(crate) hosts: HashMap<HostId, Arc<PacketSocket>>,
    pub(crate) waiters: HashMap<Ticket, SyncSender<Answer>>,
    pub(crate) followers: HashMap<i32, Vec<Follower>>,
    deputies: HashMap<DeputyId, Arc<PacketSocket>>,
    /// Where the other nodes were when this daemon was started.
    configured: HashMap<String, String>,
    /// When processes that no deputy watches were last looked at.
    looked: Instant,
    /// What the timekeeper waits for.
    alarm: Option<Instant>,
}

impl State {
    /// When the timekeeper next has something to do.
    fn next_alarm(&self) -> Option<Instant> {
        let look = self.book.has_unwatched().then_some(self.looked + LOOK_INTERVAL);
        self.book.next_due().into_iter().chain(look).min()
    }
}

/// Somebody who traces a process.
pub(crate) struct Follower {
    pub(crate) events: SyncSender<Event>,
    pub(crate) lost: u64,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Daemon").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Daemon {
    /// A daemon that has not begun to serve.
    pub fn new(settings: Settings, processes: Box<dyn Processes>, eligibility: Eligibility) -> Arc<Self> {
        let own_pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let book = Book::new(&settings.node, &settings.config.to_string_lossy(), own_pid, &settings.peers);
        let state = State {
            book,
            hosts: HashMap::new(),
            waiters: HashMap::new(),
            followers: HashMap::new(),
            deputies: HashMap::new(),
            configured: settings.peers.iter().cloned().collect(),
            looked: Instant::now(),
            alarm: None,
        };
        Arc::new(Daemon {
            zygote: Zygote::new(&settings.zygote),
            spares: Spares::default(),
            settings,
            processes,
            eligibility,
            relatives: OnceLock::new(),
            families: Families::default(),
            started: Instant::now(),
            cluster: OnceLock::new(),
            accelerators: Mutex::default(),
            charter: Charter::default(),
            state: Mutex::new(state),
            sooner: Condvar::new(),
        })
    }

    /// From now on it is asked who shares memory with whom. The first one counts.
    pub fn know_relatives(&self, relatives: fn(i32) -> Vec<i32>) {
        let _ = self.relatives.set(relatives);
    }

    /// With whom a process would have to move, itself among them.
    pub(crate) fn relatives(&self, pid: i32) -> Vec<i32> {
        self.relatives.get().map_or_else(|| vec![pid], |relatives| relatives(pid))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's part in the cluster.
    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.get().map(Arc::clone)
    }

    /// Tells the book something and carries out what follows.
    pub(crate) fn tell<T>(self: &Arc<Self>, what: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let outcome = what(&mut state);
        loop {
            let effects = state.book.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(&mut state, effect);
            }
        }
        // Nothing is earlier than never.
        if state.next_alarm().is_some_and(|next| state.alarm.is_none_or(|alarm| next < alarm)) {
            self.sooner.notify_all();
        }
        outcome
    }

    fn carry_out(self: &Arc<Self>, state: &mut State, effect: Effect) {
        match effect {
            Effect::Spawn(id) => self.spawn_deputy(state, id),
            Effect::Order(id, order) => give_order(state, id, &order),
            Effect::Kill(identity, reason) => {
                warn!(pid = identity.pid, command = identity.command, reason, "given up and killed");
                if let Err(error) = self.processes.kill(&identity) {
                    warn!(pid = identity.pid, %error, "failed to kill");
                }
            }
            Effect::Answer(ticket, answer) => {
                if let Some(waiter) = state.waiters.remove(&ticket) {
                    // Fails only when the client has gone.
                    let _ = waiter.try_send(answer);
                }
            }
            Effect::Publish(pid, event) => publish(state, pid, event),
            Effect::Gather(identity, target) => {
                let daemon = Arc::clone(self);
                std::thread::spawn(move || daemon.gather(identity, target));
            }
            Effect::Expel(id) => {
                if let Some(Err(error)) =
                    state.hosts.get(&id).map(|socket| socket.send(&HostOrder::Expel, None))
                {
                    warn!(?id, %error, "failed to send a guest home");
                }
            }
        }
    }

    fn spawn_deputy(self: &Arc<Self>, state: &mut State, id: DeputyId) {
        let pid = state.book.process_of(id).map_or(0, |identity| identity.pid);
        let (mut process, socket) = match self.next_deputy() {
            Ok((process, socket)) => (process, Arc::new(socket)),
            Err(error) => {
                warn!(pid, error = %chain(&error), "failed to start a deputy program");
                state.book.spawn_failed(Instant::now(), id, &format!("failed to {}", chain(&error)));
                return;
            }
        };
        state.deputies.insert(id, Arc::clone(&socket));
        let helper = process.pid();
        state.book.helper_started(helper);
        let daemon = Arc::clone(self);
        std::thread::spawn(move || {
            let calls = daemon.follow_deputy(id, pid, &socket);
            daemon.deputy_ended(pid, calls);
            process.reap(CHILD_GRACE);
            daemon.deputy_gone(id, helper);
        });
    }

    /// Takes a deputy's reports until it ends. Returns how many calls it has forwarded at last.
    fn follow_deputy(self: &Arc<Self>, id: DeputyId, pid: i32, socket: &PacketSocket) -> u64 {
        loop {
            let report: DeputyReport = match socket.receive() {
                Ok(Some(report)) => report,
                Ok(None) => return 0,
                Err(error) => {
                    warn!(pid, error = %chain(&error), "failed to hear a deputy program");
                    return 0;
                }
            };
            log_report(pid, &report);
            let last = match report {
                DeputyReport::Ended { calls, .. } => Some(calls),
                _ => None,
            };
            // A process that was placed at its execve has another name now.
            let arrived = matches!(report, DeputyReport::Arrived { .. });
            if let DeputyReport::Arrived { at, reason, calls, .. } = &report {
                self.keep_spares();
                let by_itself = reason.is_some();
                let arrival = at.as_deref().map_or(Arrival::Home { by_itself }, Arrival::At);
                self.process_arrived(pid, arrival, *calls);
            }
            if let Some(identity) = arrived.then(|| self.processes.look(pid)).flatten() {
                self.tell(|state| state.book.renamed(identity));
            }
            self.tell(|state| state.book.report(Instant::now(), id, report));
            if let Some(calls) = last {
                return calls;
            }
        }
    }

    fn deputy_gone(self: &Arc<Self>, id: DeputyId, helper: i32) {
        let identity = self.lock().book.process_of(id);
        let alive = identity.is_some_and(|identity| self.processes.is_alive(&identity));
        self.tell(|state| {
            state.deputies.remove(&id);
            state.book.helper_gone(helper);
            state.book.deputy_gone(Instant::now(), id, alive);
        });
    }

    /// Lets processes leave again when their time has come, and notices the end of those that no deputy
    /// watches. Never returns.
    pub(crate) fn keep_time(self: &Arc<Self>) {
        loop {
            let unwatched = self.tell(|state| {
                state.book.leave_again(Instant::now());
                state.book.rescue_again(Instant::now());
                let due = state.looked.elapsed() >= LOOK_INTERVAL;
                due.then(|| {
                    state.looked = Instant::now();
                    state.book.unwatched()
                })
            });
            for identity in unwatched.unwrap_or_default() {
                if !self.processes.is_alive(&identity) {
                    self.tell(|state| state.book.process_over(&identity));
                }
            }
            let mut state = self.lock();
            state.alarm = state.next_alarm();
            match state.alarm.map(|alarm| alarm.saturating_duration_since(Instant::now())) {
                Some(wait) => drop(self.sooner.wait_timeout(state, wait)),
                None => drop(self.sooner.wait(state)),
            }
        }
    }
}

/// Gives a deputy an order; one that takes none is as good as a refusal.
fn give_order(state: &mut State, id: DeputyId, order: &DeputyOrder) {
    let Some(socket) = state.deputies.get(&id) else { return };
    // The node may have come after the deputy was started, or be somewhere else by now than the configuration says, which
    // the deputy has read.
    if let DeputyOrder::Move { to, .. } = order
        && let Some(address) = state.book.address_of(to)
        && state.configured.get(to).is_none_or(|configured| configured != address)
        && let Ok(address) = address.parse()
    {
        // Whoever does not take this does not take what follows either.
        let _ = socket.send(&DeputyOrder::Address { node: to.clone(), address }, None);
    }
    let Err(error) = socket.send(order, None) else { return };
    // A deputy that is gone is noticed by the thread that hears it.
    if !error.is_gone() {
        warn!(?id, error = %chain(&error), "failed to give a deputy program an order");
        if matches!(order, DeputyOrder::Move { .. } | DeputyOrder::Home) {
            let reason = "deputy program takes no orders".to_owned();
            state.book.report(Instant::now(), id, DeputyReport::Refused { reason, shares: false });
        }
    }
}

/// Tells those who trace a process, leaving out what slow ones cannot take.
fn publish(state: &mut State, pid: i32, event: Event) {
    let Some(followers) = state.followers.get_mut(&pid) else { return };
    followers.retain_mut(|follower| {
        if follower.lost > 0 {
            match follower.events.try_send(Event::Lost { lines: follower.lost }) {
                Ok(()) => follower.lost = 0,
                Err(TrySendError::Full(_)) => {}
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        match follower.events.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                follower.lost += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    });
    if followers.is_empty() {
        state.followers.remove(&pid);
    }
}

fn log_report(pid: i32, report: &DeputyReport) {
    match report {
        DeputyReport::Arrived { at, reason, freeze_us, calls: _ } => {
            info!(pid, at = at.as_deref().unwrap_or("home"), reason, freeze_us, "arrived");
        }
        DeputyReport::Refused { reason, shares: _ } => info!(pid, reason, "did not move"),
        DeputyReport::Ended { reason: Some(reason), .. } => warn!(pid, reason, "ended"),
        DeputyReport::Ended { .. } | DeputyReport::Armed => debug!(pid, ?report, "deputy"),
        DeputyReport::NeedsAll => info!(pid, "used what its host's processor lacks"),
        DeputyReport::Trace { .. } | DeputyReport::TraceLost { .. } => {}
    }
}

pub(crate) use minka_wire::chain;
