//! The way to a session: the host hears of it, prepares itself, and gets the process.

use super::{EVENTS_MAX, Event, NONE, Session, Shared, lock, start};
use crate::fault::{Fault, Result};
use crate::first;
use crate::giveback::Gate;
use crate::kin::Kin;
use crate::lanes::{self, Closers, Lanes, Opener};
use crate::lent::Lent;
use crate::little;
use crate::offer::Offer;
use crate::orders::Daemon;
use crate::pages;
use crate::parked::Parked;
use crate::readahead::Promises;
use crate::record::Record;
use crate::serve;
use crate::writebehind::WriteBehind;
use minka_image::PAGE;
use minka_image::family::Stage;
use minka_image::process::Source;
use minka_image::ranges::Ranges;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::process::Bell;
use minka_link::{Channel, Credentials, NodeConfig, Receiver};
use minka_wire::message::{self, FromHome, FromHost, kind};
use minka_wire::preamble::{Lane, SessionId, SessionSecret};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a host may take to build a guest where all memory has to be there first.
const EAGER_PATIENCE: Duration = Duration::from_secs(300);

/// A session of which the host has heard, and nothing more.
#[derive(Debug)]
pub(crate) struct Opened {
    opener: Opener,
    control: Channel,
    secret: SessionSecret,
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
        let (session, secret) = (SessionId(random()?), SessionSecret(random()?));
        let (opener, control) = Opener::begin(node, address, (session, &secret), config, credentials)?;
        Ok(Self { opener, control, secret, when: Instant::now() })
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
        let Self { opened: Opened { opener, mut control, secret, .. }, offer, patience } = self;
        send(&mut control, &FromHome::Hello(Box::new(offer.hello.clone()), secret))?;
        // The other lanes are opened meanwhile, and the host takes them when it is ready. One of a family is asked for the
        // family's memory first.
        let open = || opener.open([Lane::Calls, Lane::Faults, Lane::Stream]);
        let opened = offer.hello.family.is_none().then(open);
        let (accepted, eager, same_machine, states) = match receive(&mut control, patience.0)? {
            FromHost::Prepared { files, eager, same_machine, states } => (files, eager, same_machine, states),
            FromHost::Refused { reason } => return Err(Fault::refused(&opener.node, &reason)),
            other => {
                return Err(Fault::Said(format!("{} answered {} to an offer", opener.node, other.name())));
            }
        };
        let [calls, faults, stream] = opened.unwrap_or_else(open)?;
        Ok(Prepared {
            node: opener.node.clone(),
            offer,
            accepted,
            eager,
            same_machine,
            states,
            patience,
            control,
            calls,
            faults,
            stream,
            opener,
        })
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
            write_behind: WriteBehind::default(),
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
    for (header, part) in message::frames(kind::FROM_HOME, &message::encode(message)) {
        channel.send(header, &[IoSlice::new(part)])?;
    }
    Ok(())
}

fn receive(channel: &mut Channel, limit: Duration) -> Result<FromHost> {
    let mut body = Vec::new();
    let header = channel
        .recv_timeout(&mut body, Duration::from_micros(200), limit)?
        .ok_or_else(|| Fault::Said(format!("the host did not answer within {limit:?}")))?;
    Ok(message::decode(&header, &body, kind::FROM_HOST, "an answer of the host")?)
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    minka_kernel::process::random(&mut bytes).map_err(|error| Fault::Io("make a session's name", error))?;
    Ok(bytes)
}
