//! A session with one host: its channels, and the threads that serve them.

use crate::agents::Agents;
use crate::ahead::Ahead;
use crate::eligible::Lease;
use crate::fault::{Fault, Result, chain};
use crate::first;
use crate::giveback::Gate;
use crate::kept::Kept;
use crate::kin::Kin;
use crate::lanes::{self, Closers, Lanes, Opener};
use crate::lent::Lent;
use crate::little;
use crate::offer::Offer;
use crate::orders::Daemon;
use crate::pages;
use crate::parked::{self, Parked};
use crate::readahead::{Promises, ReadAhead};
use crate::record::Record;
use crate::serve;
use crate::sole::Sole;
use minka_identity::Digests;
use minka_image::PAGE;
use minka_image::family::{Fate, Stage};
use minka_image::process::Source;
use minka_image::ranges::Ranges;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::memory::Memory;
use minka_kernel::process::Bell;
use minka_link::{Channel, Credentials, NodeConfig, Receiver, Sender};
use minka_wire::frame::Header;
use minka_wire::message::{self, FromHome, FromHost, kind};
use minka_wire::preamble::{Lane, Purpose, SessionId};
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a host may take to build a guest where all memory has to be there first.
const EAGER_PATIENCE: Duration = Duration::from_secs(300);

/// How much may be told before it is heard. A host that says more has to wait.
const EVENTS_MAX: usize = 64;

/// What the threads of a session tell the deputy's main thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// The host said something.
    Said(FromHost),
    /// The pages that the guest had changed are at home; what it changes from now on comes when it is stopped.
    Precopied(Receiver),
    /// The next host has prepared itself, or not.
    Ready(Box<Result<Prepared>>),
    /// The process cannot be served away from home any more, but nothing is lost.
    Homeward(String),
    /// A call of this thread's has begun that is to end at once.
    Late(i32),
    /// The host is lost, or broke the rules.
    Lost(String),
}

/// What all threads of a session share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pid: i32,
    pub(crate) agents: Arc<Agents>,
    /// Held while a thread is made: there is a slot for it.
    pub(crate) making_threads: Mutex<()>,
    /// Who opens lanes for calls, and how many there are to be.
    lanes: Mutex<Option<mpsc::Sender<usize>>>,
    pub(crate) kept: Kept,
    /// What it looks up, and is going to.
    pub(crate) ahead: Mutex<Ahead>,
    /// What it is going to read.
    pub(crate) read_ahead: Mutex<ReadAhead>,
    /// The leases for that. Nobody waits for anybody else who holds them.
    pub(crate) promises: Promises,
    /// What the call under way uses of its memory.
    pub(crate) lent: Lent,
    pub(crate) memory: Arc<Memory>,
    /// Files that the process maps shared and that nobody may write to.
    pub(crate) leases: Arc<Mutex<Vec<Lease>>>,
    /// Shared memory that is away with the process.
    pub(crate) sole: Arc<Sole>,
    /// Those with whom the process moves, if it shares memory.
    pub(crate) kin: Option<Arc<Kin>>,
    pub(crate) daemon: Daemon,
    pub(crate) record: Arc<Record>,
    pub(crate) tracing: Arc<AtomicBool>,
    /// No call is to be made any more: the guest is on its way home.
    pub(crate) recalling: AtomicBool,
    /// The process is about to end, and what its guest has written is still to come.
    pub(crate) is_dying: AtomicBool,
    /// Threads whose calls began too late, and the bell that tells of them.
    late: Mutex<BTreeSet<i32>>,
    /// Why the process has to be at home for a call that has not been made.
    needed: Mutex<Option<String>>,
    bell: Arc<Bell>,
    /// Whether the guest has had effects, or never will: changed under the lock only.
    effects: AtomicU8,
    deciding: Mutex<()>,
    /// Where the guest's memory comes from, page by page.
    pub(crate) areas: Vec<(u64, u64)>,
    /// Pages that exist at home and have not been sent.
    pub(crate) unsent: Mutex<Ranges<()>>,
    /// Memory at home that is gone, as the host has it.
    pub(crate) given_back: Mutex<Ranges<()>>,
    /// Where calls wait meanwhile that have not begun.
    pub(crate) gate: Gate,
    /// Areas that are mapped from files: a page that nobody has touched yet has content all the same.
    pub(crate) from_files: Ranges<()>,
    /// What is known of files' contents.
    pub(crate) digests: Mutex<Digests>,
    /// Where the guest last missed a page: the stream goes on from there.
    pub(crate) near: AtomicU64,
    /// How long the host may take for its next step.
    pub(crate) patience: Duration,
}

/// The guest has had no effect: it can be forgotten, and the process goes on from where it was stopped.
const NONE: u8 = 0;
/// It has had some: what was computed since the move is only at the host.
const SOME: u8 = 1;
/// It has been forgotten: it must have none any more.
const FORGOTTEN: u8 = 2;

impl Shared {
    /// A call that blocks keeps its lane, so there are to be as many as threads.
    pub(crate) fn want_lanes(&self, count: usize) {
        if let Some(lanes) = &*lock(&self.lanes) {
            // Whoever opens them has gone only when the session is over.
            let _ = lanes.send(count);
        }
    }

    /// A thread has got a signal, or was recalled, before its call began at home, where it is to end as soon as it would
    /// wait: whoever traces the thread has to see to that.
    pub(crate) fn call_is_late(&self, tid: i32) {
        lock(&self.late).insert(tid);
        self.bell.ring();
    }

    /// The process has to be at home for a call, which is made there again.
    pub(crate) fn needs_home(&self, reason: String) {
        *lock(&self.needed) = Some(reason);
        self.bell.ring();
    }

    /// The reason of which [`Shared::needs_home`] has told.
    pub(crate) fn why_home(&self) -> Option<String> {
        lock(&self.needed).take()
    }

    /// A thread of which [`Shared::call_is_late`] has told.
    pub(crate) fn next_late_call(&self) -> Option<i32> {
        lock(&self.late).pop_first()
    }

    /// To be asked before the first effect, and any other. False if the guest has been forgotten.
    pub(crate) fn commit(&self) -> bool {
        if self.effects.load(Ordering::SeqCst) == SOME {
            return true;
        }
        let _deciding = lock(&self.deciding);
        if self.effects.load(Ordering::SeqCst) == NONE {
            if self.kin.as_ref().is_some_and(|kin| !kin.commit()) {
                return false;
            }
            // Before anybody goes on: a rescue must not find less than what has happened.
            self.record.committed();
            self.effects.store(SOME, Ordering::SeqCst);
        }
        self.effects.load(Ordering::SeqCst) == SOME
    }

    /// Forgets the guest, if it has had no effect. Says whether it has been forgotten.
    pub(crate) fn forget(&self, why: &Fault) -> bool {
        let _deciding = lock(&self.deciding);
        if let Some(kin) = &self.kin {
            return kin.give_up(&chain(why)) == Fate::Forgotten;
        }
        if self.effects.load(Ordering::SeqCst) == NONE {
            self.effects.store(FORGOTTEN, Ordering::SeqCst);
        }
        self.effects.load(Ordering::SeqCst) == FORGOTTEN
    }
}

/// A host that has prepared itself.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) node: String,
    offer: Offer,
    accepted: Vec<bool>,
    /// The host cannot serve missing pages: all of them go before the guest runs.
    eager: bool,
    same_machine: bool,
    /// The components of extended state that the host keeps.
    states: u64,
    /// How long it may take for its next step, and to build the guest.
    patience: (Duration, Duration),
    opener: Opener,
    control: Channel,
    calls: Channel,
    faults: Channel,
    stream: Channel,
}

/// A guest that runs at a host.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) node: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: mpsc::Receiver<Event>,
    /// The guest asked to go home while something else was being waited for.
    pub(crate) postponed: Option<String>,
    /// What else happened meanwhile.
    pub(crate) later: Vec<Event>,
    control: Sender,
    pub(crate) events_in: mpsc::SyncSender<Event>,
    stream_in: Option<Receiver>,
    closers: Arc<Closers>,
    threads: Vec<JoinHandle<()>>,
}

/// A session of which the host has heard, and nothing more.
#[derive(Debug)]
pub(crate) struct Opened {
    opener: Opener,
    control: Channel,
    when: Instant,
}

/// How long a host that has heard of a session is relied on to wait for what it is about.
const OPENED_FOR: Duration = Duration::from_secs(2);

impl Opened {
    /// Opens one: the host starts a program for it.
    pub(crate) fn new(
        node: &str,
        address: Option<SocketAddr>,
        config: &NodeConfig,
        credentials: &Credentials,
    ) -> Result<Self> {
        let address = address.or_else(|| config.peers.get(node).copied());
        let address = address.ok_or_else(|| Fault::Said(format!("no node {node} is known here")))?;
        let opener = Opener::new(node, address, SessionId(random()?), config, credentials);
        let control = opener.open(Purpose::Open, Lane::Control)?;
        Ok(Self { opener, control, when: Instant::now() })
    }

    /// Whether it is with this node, and the host still waits.
    fn is_fresh(&self, node: &str) -> bool {
        self.opener.node == node && self.when.elapsed() < OPENED_FOR
    }
}

/// What a host is about to be told of a process, and the way to it.
#[derive(Debug)]
pub(crate) struct Offered {
    opened: Opened,
    offer: Offer,
    /// How long the host may take for its next step, and to build the guest.
    patience: (Duration, Duration),
}

impl Offered {
    /// Finds the host of a process that runs, or that stands still and has nothing of ours in it yet. A session that has just
    /// been `opened` with it is used.
    pub(crate) fn new(
        offer: Offer,
        node: &str,
        address: Option<SocketAddr>,
        config: &NodeConfig,
        credentials: &Credentials,
        opened: Option<Opened>,
    ) -> Result<Self> {
        let opened = match opened.filter(|opened| opened.is_fresh(node)) {
            Some(opened) => opened,
            None => Opened::new(node, address, config, credentials)?,
        };
        Ok(Self { opened, offer, patience: (config.link.answer(), config.link.freeze()) })
    }

    /// Lets the host prepare. Needs nothing of the process.
    pub(crate) fn prepare(self) -> Result<Prepared> {
        let Self { opened: Opened { opener, mut control, .. }, offer, patience } = self;
        send(&mut control, &FromHome::Hello(Box::new(offer.hello.clone())))?;
        // The other lanes are opened meanwhile, and the host takes them when it is ready; it may take as long as for its answer.
        // One of a family is asked for the family's memory first.
        let early = offer.hello.family.is_none();
        let patient = opener.with_patience(patience.0);
        std::thread::scope(|scope| {
            let open = || {
                let lanes = [Lane::Calls, Lane::Faults, Lane::Stream];
                lanes.map(|lane| {
                    let patient = &patient;
                    scope.spawn(move || patient.open(Purpose::Join, lane))
                })
            };
            let opening = early.then(open);
            let (accepted, eager, same_machine, states) = match receive(&mut control, patience.0)? {
                FromHost::Prepared { files, eager, same_machine, states } => {
                    (files, eager, same_machine, states)
                }
                FromHost::Refused { reason } => return Err(Fault::refused(&opener.node, &reason)),
                other => {
                    return Err(Fault::Said(format!(
                        "{} answered {} to an offer",
                        opener.node,
                        other.name()
                    )));
                }
            };
            let [calls, faults, stream] = opening.unwrap_or_else(open).map(|opening| {
                opening
                    .join()
                    .unwrap_or_else(|_| Err(Fault::Said("a thread that opened a lane panicked".to_owned())))
            });
            Ok(Prepared {
                node: opener.node.clone(),
                offer,
                accepted,
                eager,
                same_machine,
                states,
                patience,
                control,
                calls: calls?,
                faults: faults?,
                stream: stream?,
                opener,
            })
        })
    }
}

impl Prepared {
    /// Sends the image and serves the guest. On failure the process is still parked, with nothing lost; or it has
    /// ended, because its guest had effects already ([`Fault::Lost`]).
    pub(crate) fn enter(
        mut self,
        parked: &Parked,
        daemon: &Daemon,
        record: &Arc<Record>,
        tracing: &Arc<AtomicBool>,
        bell: &Arc<Bell>,
        kin: Option<&Arc<Kin>>,
    ) -> Result<Session> {
        if kin.is_some() && self.eager {
            let reason = "it cannot tell who writes to memory that several share";
            return Err(Fault::refused(&self.node, reason));
        }
        if let Some(state) = self.offer.has_no_place(parked, self.states) {
            let reason = format!("its processor does not keep the {state} that the program has");
            return Err(Fault::refused(&self.node, &reason));
        }
        let image = self.offer.image(parked, &self.accepted, self.same_machine)?;
        let mut unsent = Ranges::new();
        let mut from_files = Ranges::new();
        let mut areas = Vec::with_capacity(image.areas.len());
        for area in image.areas.iter().filter(|area| area.source == Source::Home) {
            if !parked.sole.is_streamed_by_others(area.start, area.end) {
                unsent.set(area.start, area.end, ());
            }
            areas.push((area.start, area.end));
            if area.file {
                from_files.set(area.start, area.end, ());
            }
        }
        let shared = Arc::new(Shared {
            pid: parked.pid,
            agents: Arc::clone(&parked.agents),
            making_threads: Mutex::default(),
            lanes: Mutex::default(),
            kept: parked.kept.clone(),
            ahead: Mutex::default(),
            read_ahead: Mutex::default(),
            promises: Promises::default(),
            lent: Lent::default(),
            memory: Arc::clone(&parked.memory),
            leases: Arc::clone(&parked.leases),
            sole: Arc::clone(&parked.sole),
            kin: kin.cloned(),
            daemon: daemon.clone(),
            record: Arc::clone(record),
            tracing: Arc::clone(tracing),
            recalling: AtomicBool::new(false),
            is_dying: AtomicBool::new(false),
            late: Mutex::default(),
            needed: Mutex::default(),
            bell: Arc::clone(bell),
            effects: AtomicU8::new(NONE),
            deciding: Mutex::default(),
            areas,
            unsent: Mutex::new(unsent),
            given_back: Mutex::new(Ranges::new()),
            gate: Gate::default(),
            from_files,
            digests: Mutex::new(self.offer.digests),
            near: AtomicU64::new(image.threads.first().map_or(0, |main| main.registers.rsp) & !(PAGE - 1)),
            patience: self.patience.0,
        });
        let first = if self.eager {
            Vec::new()
        } else {
            let likely = || first::pages(&image, |at, into| _ = shared.memory.peek(at, into));
            little::pages(&image, parked.pid).unwrap_or_else(likely)
        };
        let (mut stream_out, stream_in) = self.stream.split();
        send(&mut self.control, &FromHome::Enter { image: Box::new(image), first: first.len() as u32 })?;
        let sent = first::send(&shared, &first, &mut stream_out);
        faultpoint::reach(Point::DeputySent);
        let mut closers = vec![stream_out.closer()];
        closers.extend([&self.control, &self.calls, &self.faults].map(Channel::closer));
        let closers = Arc::new(Closers::new(closers));
        shared.agents.begin_session();
        let (sender, events) = mpsc::sync_channel(EVENTS_MAX);
        let mut threads = vec![
            start("faults", &shared, &sender, bell, self.faults, pages::faults),
            start("calls", &shared, &sender, bell, self.calls, serve::calls),
        ];
        let mut stream_out = Some(stream_out);
        if self.eager
            && let Some(stream_out) = stream_out.take()
        {
            threads.push(start("stream", &shared, &sender, bell, (stream_out, parked.pid), pages::stream));
        }
        let limit = if self.eager { EAGER_PATIENCE } else { self.patience.1 };
        let built = sent.and_then(|()| receive(&mut self.control, limit));
        let began = match (built, kin) {
            (Ok(FromHost::Built), Some(kin)) => kin
                .meet(Stage::Built, self.patience.1)
                .and_then(|()| send(&mut self.control, &FromHome::Run))
                .and_then(|()| receive(&mut self.control, limit)),
            (built, _) => built,
        };
        let running = match began {
            Ok(FromHost::Running) => Ok(()),
            Ok(FromHost::Failed { reason }) => Err(Fault::refused(&self.node, &reason)),
            Ok(other) => Err(Fault::Said(format!("{} answered {} to an image", self.node, other.name()))),
            Err(error) => Err(error),
        };
        let (control, control_in) = self.control.split();
        if running.is_ok() {
            if let Some(stream_out) = stream_out {
                threads.push(start(
                    "stream",
                    &shared,
                    &sender,
                    bell,
                    (stream_out, parked.pid),
                    pages::stream,
                ));
            }
            let (want, wanted) = mpsc::channel();
            *lock(&shared.lanes) = Some(want);
            shared.want_lanes(shared.agents.count());
            let lanes = Lanes {
                opener: self.opener,
                closers: Arc::clone(&closers),
                wanted,
                events: sender.clone(),
                bell: Arc::clone(bell),
            };
            threads.push(start("lanes", &shared, &sender, bell, lanes, lanes::open));
            threads.push(start(
                "control",
                &shared,
                &sender,
                bell,
                (control_in, sender.clone(), Arc::clone(bell)),
                listen,
            ));
        }
        let session = Session {
            node: self.node,
            shared,
            events,
            postponed: None,
            later: Vec::new(),
            events_in: sender,
            control,
            stream_in: Some(stream_in),
            closers,
            threads,
        };
        match running {
            Ok(()) => Ok(session),
            Err(error) if session.shared.forget(&error) => {
                session.close();
                Err(error)
            }
            Err(error) => Err(session.end(parked, &error)),
        }
    }
}

impl Session {
    /// Says something to the host.
    pub(crate) fn say(&mut self, message: &FromHome) -> Result<()> {
        let header = Header::new(kind::FROM_HOME, 0);
        Ok(self.control.send(header, &[IoSlice::new(&message::encode(message))])?)
    }

    /// Begins the way home while the guest runs on; [`Event::Precopied`] follows. False if it has begun already.
    pub(crate) fn precopy(&mut self, bell: &Arc<Bell>) -> Result<bool> {
        let Some(stream) = self.stream_in.take() else { return Ok(false) };
        self.say(&FromHome::Precopy)?;
        let with = (stream, self.events_in.clone(), Arc::clone(bell));
        self.threads.push(start("precopy", &self.shared, &self.events_in, bell, with, pages::precopied));
        Ok(true)
    }

    /// Whether nobody is using the lane on which pages come home.
    pub(crate) fn has_stream(&self) -> bool {
        self.stream_in.is_some()
    }

    /// Gives back the lane that precopying had.
    pub(crate) fn restore_stream(&mut self, stream: Receiver) {
        self.stream_in = Some(stream);
    }

    /// The lane on which pages come home. If some are coming early at this moment, waits for the last of these.
    pub(crate) fn take_stream(&mut self) -> Result<Receiver> {
        loop {
            if let Some(stream) = self.stream_in.take() {
                return Ok(stream);
            }
            // The thread that takes them in waits for none of them longer than it should.
            match self.events.recv() {
                Ok(Event::Precopied(stream)) => return Ok(stream),
                Ok(Event::Lost(reason)) => return Err(Fault::Said(reason)),
                Ok(Event::Said(_) | Event::Ready(_) | Event::Homeward(_) | Event::Late(_)) => {}
                Err(_) => return Err(Fault::Said(format!("{} sends no pages any more", self.node))),
            }
        }
    }

    /// From now on the guest cannot be forgotten.
    pub(crate) fn commit(&self) -> Result<()> {
        if self.shared.commit() { Ok(()) } else { Err(Fault::Over) }
    }

    /// What the guest computed is lost, so the process ends, as by SIGKILL.
    pub(crate) fn end(self, parked: &Parked, error: &Fault) -> Fault {
        // Of a family it is told what has happened first.
        let reason = match &self.shared.kin {
            Some(kin) => format!("lost while it was at {}: {}", self.node, kin.why()),
            None => format!("lost while it was at {}: {}", self.node, chain(error)),
        };
        let reason = reason + &parked.sole.what_is_lost();
        parked.agents.ring().end();
        let lost = parked::end(parked.pid, &Fault::Said(reason));
        self.close();
        lost
    }

    /// Has the guest of a process end that is about to, and that shares memory: nobody is to see the one's end, and after
    /// that what the other does. If it cannot be known whether it has ended, all others end with it.
    pub(crate) fn end_guest_of_kin(&mut self) {
        /// How much later than the end of another lane the last word may come.
        const LAST_WORD: Duration = Duration::from_millis(500);
        let Some(kin) = self.shared.kin.clone() else { return };
        // If it cannot be said, nothing will be heard.
        let _ = self.say(&FromHome::End);
        let mut until = Instant::now() + self.shared.patience;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Said(FromHost::Gone)) => return kin.ended(),
                Ok(Event::Lost(_)) => until = until.min(Instant::now() + LAST_WORD),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        kin.give_up(&format!("it ended, and {} did not say whether its guest had", self.node));
    }

    /// The guests of all stand still: this one's pages can be read.
    pub(crate) fn collect(&mut self, kin: &Kin) -> Result<()> {
        self.say(&FromHome::Collect { all: kin.is_untold() })
    }

    /// Ends the session: the host kills its guest when it hears this, or when the connection is cut.
    pub(crate) fn close(mut self) {
        // If it cannot be said, the cut says it.
        let _ = self.say(&FromHome::Bye);
        self.closers.shutdown();
        // Nobody wants another lane.
        lock(&self.shared.lanes).take();
        // Nobody waits any more to be heard.
        drop(self.events);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the session with {} panicked", self.node);
            }
        }
    }
}

/// Runs one of a session's threads; its failure is an event unless the session is being closed anyway.
pub(crate) fn start<T: Send + 'static>(
    name: &'static str,
    shared: &Arc<Shared>,
    events: &mpsc::SyncSender<Event>,
    bell: &Arc<Bell>,
    with: T,
    body: fn(&Arc<Shared>, T) -> Result<()>,
) -> JoinHandle<()> {
    let (shared, events, bell) = (Arc::clone(shared), events.clone(), Arc::clone(bell));
    std::thread::spawn(move || {
        if let Err(error) = body(&shared, with) {
            // The main thread has gone if nobody receives it.
            let _ = events.send(Event::Lost(format!("{name}: {}", chain(&error))));
            bell.ring();
        }
    })
}

fn listen(
    _: &Arc<Shared>,
    (mut receiver, events, bell): (Receiver, mpsc::SyncSender<Event>, Arc<Bell>),
) -> Result<()> {
    let mut body = Vec::new();
    loop {
        let header = receiver.recv(&mut body, Duration::ZERO)?;
        let said = message::decode(&header, &body, kind::FROM_HOST, "a message of the host")?;
        // The main thread has gone if nobody receives it.
        let _ = events.send(Event::Said(said));
        bell.ring();
    }
}

fn send(channel: &mut Channel, message: &FromHome) -> Result<()> {
    Ok(channel.send(Header::new(kind::FROM_HOME, 0), &[IoSlice::new(&message::encode(message))])?)
}

fn receive(channel: &mut Channel, limit: Duration) -> Result<FromHost> {
    let mut body = Vec::new();
    let header = channel
        .recv_timeout(&mut body, Duration::from_micros(200), limit)?
        .ok_or_else(|| Fault::Said(format!("the host did not answer within {limit:?}")))?;
    Ok(message::decode(&header, &body, kind::FROM_HOST, "an answer of the host")?)
}

fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    minka_kernel::process::random(&mut bytes).map_err(|error| Fault::Io("make a session's name", error))?;
    Ok(bytes)
}

/// Locks, whoever panicked before: the data are plain ranges.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
