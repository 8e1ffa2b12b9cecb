//! From the first connection to a running guest.

use crate::build::{self, Parts};
use crate::common::CommonFiles;
use crate::extended::Exchange;
use crate::fault::{Fault, Result, chain};
use crate::guest::{Calls, Guest, GuestThread, Present, Request, lock};
use crate::joining::{self, Joining};
use crate::orders::Daemon;
use crate::prepare::{self, Empty};
use crate::queued::Queued;
use crate::tracer::Tracer;
use crate::{calls, pages};
use minka_identity::Digests;
use minka_image::process::{Action, Image};
use minka_image::ranges::Ranges;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::pagemap::Pagemap;
use minka_kernel::process::Bell;
use minka_kernel::procfs;
use minka_kernel::ptrace::Stopped;
use minka_kernel::shell::Shell;
use minka_kernel::spawn::wait_readable;
use minka_kernel::uffd::Mode;
use minka_kernel::{courtesy, crew};
use minka_link::{Channel, Credentials, NodeConfig, Receiver, Sender, SessionKeys};
use minka_wire::frame::Header;
use minka_wire::local::{FamilyId, HostOrder, HostReport};
use minka_wire::message::{self, FromHome, FromHost, Hello, Unfinished, kind};
use minka_wire::preamble::Lane;
use minka_wire::tidy;
use std::io::IoSlice;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// How much may be asked of the tracer before it is dealt with. A home that says more has to wait.
const REQUESTS_MAX: usize = 64;

/// How long the home mostly takes to stop the process and describe it.
const PARKING: Duration = Duration::from_millis(2);

/// How long to poll for the home's next word: the process that it is about to stop may need this very processor to stop.
fn parking() -> Duration {
    if courtesy::processors_to_spare() { PARKING } else { Duration::ZERO }
}

/// Everything that is known when a session begins.
pub(crate) struct Arrival<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) config: &'a NodeConfig,
    pub(crate) credentials: &'a Credentials,
    pub(crate) in_empty_network: bool,
}

const NO_LANES: &str = "the home did not open the session's lanes in time";

/// The lanes that follow the first.
#[derive(Default)]
struct Lanes {
    calls: Option<Channel>,
    faults: Option<Channel>,
    stream: Option<Channel>,
}

impl Lanes {
    fn of(&mut self, lane: Lane) -> Result<&mut Option<Channel>> {
        match lane {
            Lane::Calls => Ok(&mut self.calls),
            Lane::Faults => Ok(&mut self.faults),
            Lane::Stream => Ok(&mut self.stream),
            Lane::Control => Err(Fault::Said("a session has one control lane".to_owned())),
        }
    }

    fn are_there(&self) -> bool {
        self.calls.is_some() && self.faults.is_some() && self.stream.is_some()
    }

    fn take(&mut self, lane: Lane) -> Result<Channel> {
        self.of(lane)?.take().ok_or_else(|| Fault::Said(format!("the {lane:?} lane is not there")))
    }
}

impl Arrival<'_> {
    /// Takes in one process. Returns its tracer, with the guest running; `None` if it was refused.
    pub(crate) fn take_in(&self) -> Result<Option<Tracer>> {
        let (preamble, stream) = self.next_connection()?;
        let preamble = joining::parse(preamble)?;
        if preamble.lane != Lane::Control {
            return Err(Fault::Said("a session began with another lane than control".to_owned()));
        }
        let mut control = minka_link::accept(self.credentials, stream, &preamble, &self.config.link)?;
        let home = control.peer().to_owned();
        let FromHome::Hello(hello, secret) = receive(&mut control, self.config.link.answer())? else {
            return Err(Fault::Said(format!("{home} did not begin with an offer")));
        };
        faultpoint::concerns(hello.pid);
        faultpoint::reach(Point::HostOffered);
        let judged = prepare::own_features(self.config)
            .and_then(|features| Ok((features, prepare::judge(&hello, &features, self.config)?)));
        let (features, stand_in) = match judged {
            Ok(judged) => judged,
            Err(reason) => {
                say(&mut control, &FromHost::Refused { reason })?;
                return Ok(None);
            }
        };
        let shared = match &hello.family {
            Some(family) => Some(self.shared_memory(&home, *family)?),
            None => None,
        };
        let mut common = CommonFiles::new(Digests::open(&self.config.run_dir));
        let files: Vec<_> = hello.files.iter().map(|offer| common.open(offer)).collect();
        let empty = match prepare::empty_guest(&hello, &files, stand_in, self.in_empty_network) {
            Ok(empty) => empty,
            Err(error) => {
                say(&mut control, &FromHost::Refused { reason: chain(&error) })?;
                return Err(error);
            }
        };
        let prepared = FromHost::Prepared {
            files: files.iter().map(Option::is_some).collect(),
            eager: empty.uffd.mode() == Mode::Track,
            same_machine: procfs::boot_id().is_ok_and(|boot| boot == hello.boot_id),
            states: features.states(),
        };
        faultpoint::reach(Point::HostPrepared);
        say(&mut control, &prepared)?;
        drop(files);
        let keys = SessionKeys::new(&control, &secret);
        let joining = Joining::new(preamble.session, keys, &self.config.link);
        let lanes = self.other_lanes(&joining)?;
        let patience = self.config.link.answer();
        let FromHome::Enter { image, first } = receive_within(&mut control, parking(), patience)? else {
            return Err(Fault::Said(format!("{home} did not send an image")));
        };
        faultpoint::reach(Point::HostEntering);
        let exchange = Exchange::new(&hello, &features, &image);
        let made = (empty, common, exchange);
        self.enter(&home, &hello, made, (&image, first, shared), control, (lanes, joining)).map(Some)
    }

    /// The memory in which the members of a family have what they share. To be had before the guest is made, which gets a
    /// descriptor of it with all others of this program.
    fn shared_memory(&self, home: &str, family: FamilyId) -> Result<OwnedFd> {
        self.daemon.report(&HostReport::Family { home: home.to_owned(), family });
        let until = Instant::now() + self.config.link.answer();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let readable = wait_readable(&[self.daemon.as_fd()], Some(left));
            if !readable.map_err(|error| Fault::Io("wait", error))?[0] {
                return Err(Fault::Said("the daemon did not give the family's memory in time".to_owned()));
            }
            match self.daemon.order() {
                Some((HostOrder::Objects, Some(memory))) => return Ok(memory),
                Some((HostOrder::Expel, _)) | None => {
                    return Err(Fault::Said("this node does not take guests any more".to_owned()));
                }
                Some(_) => {}
            }
        }
    }

    /// The lanes that follow the first. Whoever cannot prove to be the home keeps the others waiting for a moment, and no more.
    fn other_lanes(&self, joining: &Joining) -> Result<Lanes> {
        let mut lanes = Lanes::default();
        let until = Instant::now() + self.config.link.answer();
        while !lanes.are_there() {
            if Instant::now() > until {
                return Err(Fault::Said(NO_LANES.to_owned()));
            }
            let (preamble, stream) = self.next_connection()?;
            match joining.accept(preamble, stream) {
                Ok((lane, channel)) => *lanes.of(lane)? = Some(channel),
                Err(error) => tracing::warn!(error = %chain(&error), "refused a lane"),
            }
        }
        Ok(lanes)
    }

    /// Waits for the daemon to pass on a connection.
    fn next_connection(&self) -> Result<(Vec<u8>, TcpStream)> {
        loop {
            let readable = wait_readable(&[self.daemon.as_fd()], Some(self.config.link.answer()));
            if !readable.map_err(|error| Fault::Io("wait", error))?[0] {
                return Err(Fault::Said(NO_LANES.to_owned()));
            }
            match self.daemon.order() {
                Some((HostOrder::Channel { preamble }, Some(stream))) => {
                    return Ok((preamble, stream.into()));
                }
                Some((HostOrder::Expel, _)) | None => {
                    return Err(Fault::Said("this node does not take guests any more".to_owned()));
                }
                Some(_) => {}
            }
        }
    }

    fn enter(
        &self,
        home: &str,
        hello: &Hello,
        empty: (Empty, CommonFiles, Option<Exchange>),
        (image, first, shared): (&Image, u32, Option<OwnedFd>),
        mut control: Channel,
        (mut lanes, joining): (Lanes, Joining),
    ) -> Result<Tracer> {
        match build_guest(hello, empty, (image, first, shared), &mut lanes) {
            Ok(Ready { tasks, guest, requests, shell, calls, stream }) => {
                faultpoint::reach(Point::HostBuilt);
                let confined = self.config.guests.confine(guest.pid);
                confined.map_err(|error| Fault::Io("put the guest into its control group", error))?;
                let mut queued = Queued::default();
                for (task, thread) in tasks.iter().zip(&image.threads) {
                    let Some(taker) = guest.thread(task.tid()) else { continue };
                    for (signal, info) in &thread.pending {
                        queued.put(guest.pid, &taker, *signal, info.clone())?;
                    }
                }
                if guest.family.is_some() {
                    say(&mut control, &FromHost::Built)?;
                    let FromHome::Run = receive_within(&mut control, parking(), self.config.link.answer())?
                    else {
                        return Err(Fault::Said(format!("{home} did not let the guest run")));
                    };
                }
                let tasks = tasks.into_iter().map(|task| task.resume(0)).collect::<std::io::Result<Vec<_>>>();
                let tasks = tasks.map_err(|error| Fault::Io("let the guest run", error))?;
                faultpoint::reach(Point::HostResumed);
                run(&guest, "calls", move |guest| calls::serve(guest, calls));
                say(&mut control, &FromHost::Running)?;
                faultpoint::reach(Point::HostRunning);
                let (control, control_in) = control.split();
                let (stream_out, mut stream_in) = stream;
                run(&guest, "control", move |guest| listen(guest, control_in));
                if guest.uffd.mode() == Mode::Serve {
                    run(&guest, "stream", move |guest| pages::stream(guest, &mut stream_in));
                }
                self.daemon.report(&HostReport::Guest {
                    home: home.to_owned(),
                    pid: hello.pid,
                    local_pid: guest.pid,
                    command: tidy(&hello.command),
                });
                let joining = Arc::new(joining);
                Ok(Tracer::new(guest, tasks, requests, control, stream_out, shell, queued, joining))
            }
            Err(error) => {
                say(&mut control, &FromHost::Failed { reason: chain(&error) })?;
                Err(error)
            }
        }
    }
}

/// A guest that is ready to run, and what belongs to it.
struct Ready {
    /// Its threads, in the image's order.
    tasks: Vec<Stopped>,
    guest: Arc<Guest>,
    requests: mpsc::Receiver<Request>,
    shell: Shell,
    calls: Channel,
    stream: (Sender, Receiver),
}

/// The freeze, as this side sees it.
fn build_guest(
    hello: &Hello,
    (empty, common, exchange): (Empty, CommonFiles, Option<Exchange>),
    (image, first, shared_memory): (&Image, u32, Option<OwnedFd>),
    lanes: &mut Lanes,
) -> Result<Ready> {
    let began = Instant::now();
    let Empty { task, bench, uffd, memory, pidfd, files, stand_in, site, filter, mut shell } = empty;
    let (sender, requests) = mpsc::sync_channel(REQUESTS_MAX);
    let (adoptions, adopted) = mpsc::channel();
    let guest = Arc::new(Guest {
        home_pid: hello.pid,
        pid: shell.guest(),
        handle: pidfd,
        site,
        memory,
        pagemap: Pagemap::tracked(shell.guest(), uffd.tracking())
            .map_err(|error| Fault::Io("open the guest's page table", error))?,
        uffd,
        origins: Mutex::default(),
        reserved: image.reserved,
        stand_in,
        exchange,
        files_at_home: Mutex::new(files_at_home(image)),
        shared: shared(image),
        locked: locked(image),
        family: shared_memory,
        adopted: Mutex::default(),
        mapping: Mutex::new(common),
        bound: AtomicBool::new(false),
        adoptions,
        fault_bell: Bell::new().map_err(|error| Fault::Io("make a bell", error))?,
        present: Mutex::new(Present::default()),
        threads: Mutex::default(),
        listener: OnceLock::new(),
        turn: Mutex::default(),
        making: Mutex::default(),
        leaving: AtomicBool::new(false),
        gets_all: AtomicBool::new(false),
        streamed: AtomicBool::new(false),
        all_shared: AtomicBool::new(false),
        precopying: AtomicBool::new(false),
        requests: sender,
        bell: Arc::new(Bell::new().map_err(|error| Fault::Io("make a bell", error))?),
        faults: AtomicU64::new(0),
        fetched: AtomicU64::new(0),
        began,
        used_once: used_once(&image.actions),
        writing: Mutex::default(),
        cpu_before: image.cpu_us,
        calls: Calls::default(),
        behind: AtomicU64::default(),
        lanes: AtomicUsize::default(),
    });
    let mut parts = Parts {
        bench: &bench,
        uffd: &guest.uffd,
        pidfd: &guest.handle,
        files: &files,
        family: guest.family.as_ref().map(AsFd::as_fd),
        site,
        filter: &filter,
        shell: &mut shell,
        command: &hello.command,
        exchange: guest.exchange.as_ref(),
    };
    let (calls, faults) = (lanes.take(Lane::Calls)?, lanes.take(Lane::Faults)?);
    let (stream_out, mut stream_in) = lanes.take(Lane::Stream)?.split();
    let (tasks, listener) = build::build(&mut parts, image, task, |origins| {
        *lock(&guest.origins) = origins;
        run(&guest, "faults", move |guest| pages::faults(guest, faults, &adopted));
        match guest.uffd.mode() {
            Mode::Track => pages::fill(&guest, &mut stream_in, image),
            Mode::Serve => pages::first(&guest, &mut stream_in, first),
        }
    })?;
    for (resource, soft) in &image.limits {
        let limited = minka_kernel::process::set_soft_limit(guest.pid, *resource, *soft);
        limited.map_err(|error| Fault::Io("set the guest's limits", error))?;
    }
    // Nobody has set it before.
    let _ = guest.listener.set(listener);
    let threads = tasks.iter().zip(&image.threads);
    let threads = threads.map(|(task, thread)| (task.tid(), Arc::new(GuestThread::new(task.tid(), thread))));
    lock(&guest.threads).extend(threads);
    Ok(Ready { tasks, guest, requests, shell, calls, stream: (stream_out, stream_in) })
}

fn files_at_home(image: &Image) -> Ranges<()> {
    let mut ranges = Ranges::new();
    image.areas.iter().filter(|area| area.file).for_each(|area| ranges.set(area.start, area.end, ()));
    ranges
}

fn shared(image: &Image) -> Ranges<()> {
    let mut ranges = Ranges::new();
    image.areas.iter().filter(|area| area.shared).for_each(|area| ranges.set(area.start, area.end, ()));
    ranges
}

fn locked(image: &Image) -> Ranges<()> {
    let mut ranges = Ranges::new();
    image
        .locked
        .iter()
        .filter(|(start, end)| start < end)
        .for_each(|(start, end)| ranges.set(*start, *end, ()));
    ranges
}

/// The signals whose handlers are used once, bit `n - 1` for signal `n`.
fn used_once(actions: &[Action]) -> u64 {
    let once = actions.iter().filter(|action| action.is_used_once() && action.signal > 0);
    once.fold(0, |set, action| set | 1u64.wrapping_shl(u32::from(action.signal) - 1))
}

/// Runs one of the guest's threads; its failure is the guest's end.
pub(crate) fn run(
    guest: &Arc<Guest>,
    name: &'static str,
    body: impl FnOnce(&Guest) -> Result<()> + Send + 'static,
) {
    let guest = Arc::clone(guest);
    crew::start(move || {
        if let Err(error) = body(&guest) {
            guest.give_up(format!("{name}: {}", chain(&error)));
        }
    });
}

fn listen(guest: &Guest, mut receiver: Receiver) -> Result<()> {
    let mut body = Vec::new();
    loop {
        let header = receiver.recv(&mut body, Duration::ZERO)?;
        guest.ask(Request::Said(message::decode(&header, &body, kind::FROM_HOME, "a message of the home")?));
    }
}

fn receive(channel: &mut Channel, patience: Duration) -> Result<FromHome> {
    receive_within(channel, Duration::from_micros(200), patience)
}

/// Waits for what is expected within a time: so long the channel is polled.
fn receive_within(channel: &mut Channel, expected: Duration, patience: Duration) -> Result<FromHome> {
    let (mut body, mut unfinished) = (Vec::new(), Unfinished::default());
    loop {
        let header = channel
            .recv_timeout(&mut body, expected, patience)?
            .ok_or_else(|| Fault::Said(format!("the home said nothing for {patience:?}")))?;
        if let Some(whole) = unfinished.add(&header, &body)? {
            return Ok(message::decode(&header, &whole, kind::FROM_HOME, "a message of the home")?);
        }
    }
}

fn say(channel: &mut Channel, message: &FromHost) -> Result<()> {
    Ok(channel.send(Header::new(kind::FROM_HOST, 0), &[IoSlice::new(&message::encode(message))])?)
}
