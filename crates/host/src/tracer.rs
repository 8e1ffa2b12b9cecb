//! The host's main thread: it traces the guest, puts signals into it, and lets it go.

use crate::fault::{Fault, Result, chain};
use crate::guest::{Adoption, Guest, Job, Request, lock};
use crate::leave;
use crate::orders::Daemon;
use crate::prepare;
use crate::queued::Queued;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::inject::InjectError;
use minka_kernel::procfs::Status;
use minka_kernel::ptrace::{Running, Stop, Stopped, Waited};
use minka_kernel::shell::Shell;
use minka_kernel::spawn::{SignalQueue, wait_readable};
use minka_link::Sender;
use minka_wire::frame::Header;
use minka_wire::local::{HostOrder, HostReport};
use minka_wire::message::{self, FromHome, FromHost, kind};
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Signal numbers that are treated by name.
mod signal {
    pub(super) const ILL: i32 = 4;
    pub(super) const SYNCHRONOUS: [i32; 6] = [4, 5, 7, 8, 11, 31];
}

/// How long a goodbye may take longer than the end of the lanes after it.
const FAREWELL: Duration = Duration::from_millis(250);

/// Where the guest is.
#[derive(Debug)]
enum Task {
    Running(Running),
    Stopped(Stopped),
}

/// A guest under our tracing.
#[derive(Debug)]
pub(crate) struct Tracer {
    pub(crate) guest: Arc<Guest>,
    task: Option<Task>,
    requests: mpsc::Receiver<Request>,
    control: Sender,
    stream: Arc<Mutex<Sender>>,
    pub(crate) queued: Queued,
    recalled: bool,
    /// The node daemon has ended.
    orphaned: bool,
    /// What is to be done for the guest when it stops.
    job: Option<Job>,
    _shell: Shell,
}

/// How a guest's stay ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The home needs it no more, or has it back.
    Done,
    /// A fault: what it computed here is lost.
    Lost(String),
}

impl Tracer {
    #[allow(clippy::too_many_arguments, reason = "all of it is made in one place and kept here")]
    pub(crate) fn new(
        guest: Arc<Guest>,
        task: Running,
        requests: mpsc::Receiver<Request>,
        control: Sender,
        stream: Sender,
        shell: Shell,
        queued: Queued,
    ) -> Self {
        Self {
            guest,
            task: Some(Task::Running(task)),
            requests,
            control,
            stream: Arc::new(Mutex::new(stream)),
            queued,
            recalled: false,
            orphaned: false,
            job: None,
            _shell: shell,
        }
    }

    /// Serves the guest until it is gone.
    pub(crate) fn serve(mut self, news: &SignalQueue, daemon: &Daemon) -> Outcome {
        loop {
            match self.wait(news, daemon) {
                Ok(None) => {}
                Ok(Some(outcome)) => return outcome,
                Err(error) => {
                    let reason = self.why_gone(&error).unwrap_or_else(|| chain(&error));
                    // If the home cannot be told, the cut connection tells it.
                    let _ = self.say(&FromHost::Failed { reason: reason.clone() });
                    return Outcome::Lost(reason);
                }
            }
        }
    }

    /// Why the guest was ended, if it was one of our own threads that ended it.
    fn why_gone(&self, error: &Fault) -> Option<String> {
        let ours = matches!(error, Fault::Gone(_) | Fault::Inject(InjectError::Gone(_)));
        self.requests.try_iter().filter(|_| ours).find_map(|request| match request {
            Request::Lost(reason) => Some(reason),
            _ => None,
        })
    }

    fn wait(&mut self, news: &SignalQueue, daemon: &Daemon) -> Result<Option<Outcome>> {
        let mut watched = vec![news.as_fd(), self.guest.bell.as_fd()];
        watched.extend((!self.orphaned).then(|| daemon.as_fd()));
        let readable = wait_readable(&watched, None).map_err(|error| Fault::Io("wait", error))?;
        if readable[0] {
            while news.next_arrived().is_some() {}
            self.look()?;
        }
        if readable[1] {
            self.guest.bell.quiet();
            while let Ok(request) = self.requests.try_recv() {
                if let Some(outcome) = self.obey(request, daemon)? {
                    return Ok(Some(outcome));
                }
            }
        }
        if readable.get(2) == Some(&true) {
            match daemon.order() {
                Some((HostOrder::Expel, _)) => self.say_homeward("this node wants no guests")?,
                Some(_) => {}
                None => {
                    // The guest is none the worse for it, so there is time to go.
                    self.orphaned = true;
                    self.say_homeward("the daemon of its host has ended")?;
                }
            }
        }
        Ok(None)
    }

    fn obey(&mut self, request: Request, daemon: &Daemon) -> Result<Option<Outcome>> {
        match request {
            Request::Interrupt(done, job) => {
                self.job = job.or(self.job);
                self.interrupt()?;
                // The worker waits for this; if it has gone, nobody does.
                let _ = done.send(());
            }
            Request::Homeward(reason) => self.say_homeward(&reason)?,
            Request::Said(FromHome::Signal { signal, info, .. }) => {
                self.queued.put(self.guest.pid, signal, info)?;
                self.say(&FromHost::SignalTaken)?;
            }
            Request::Said(FromHome::Precopy) => {
                if self.guest.precopying.swap(true, Ordering::SeqCst) {
                    return Err(Fault::Said("the home asked twice for the same pages".to_owned()));
                }
                let stream = Arc::clone(&self.stream);
                crate::arrive::run(&self.guest, "precopy", move |guest| {
                    leave::precopy(guest, &mut lock(&stream))
                });
            }
            Request::Said(FromHome::Recall) => {
                faultpoint::reach(Point::HostRecalled);
                self.recalled = true;
                match self.task.take() {
                    Some(Task::Stopped(task)) => leave::leave(self, task)?,
                    running => {
                        self.task = running;
                        self.interrupt()?;
                    }
                }
            }
            Request::Said(FromHome::Bye) => return Ok(Some(Outcome::Done)),
            Request::Said(other) => return Err(Fault::Said(format!("the home said {}", other.name()))),
            Request::Complete(memory) => daemon.report(&HostReport::Memory(memory)),
            Request::Lost(reason) => return Ok(Some(self.farewell(reason))),
        }
        Ok(None)
    }

    /// A lane was cut. When the home has said goodbye before, that may only be on its way through another one.
    fn farewell(&self, reason: String) -> Outcome {
        let until = Instant::now() + FAREWELL;
        loop {
            match self.requests.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Request::Said(FromHome::Bye)) => return Outcome::Done,
                Ok(_) => {}
                Err(_) => return Outcome::Lost(reason),
            }
        }
    }

    /// The lane for pages on the way home.
    pub(crate) fn stream(&self) -> Arc<Mutex<Sender>> {
        Arc::clone(&self.stream)
    }

    fn interrupt(&mut self) -> Result<()> {
        match &self.task {
            Some(Task::Running(task)) => {
                task.interrupt().map_err(|error| Fault::Io("interrupt the guest", error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn say(&mut self, message: &FromHost) -> Result<()> {
        Ok(self.control.send(Header::new(kind::FROM_HOST, 0), &[IoSlice::new(&message::encode(message))])?)
    }

    fn say_homeward(&mut self, reason: &str) -> Result<()> {
        self.say(&FromHost::Homeward { reason: reason.to_owned() })
    }

    /// Looks whether the guest has stopped or ended.
    fn look(&mut self) -> Result<()> {
        let io = |error| Fault::Io("trace the guest", error);
        loop {
            let task = match self.task.take() {
                Some(Task::Running(task)) => task,
                stopped => {
                    self.task = stopped;
                    return Ok(());
                }
            };
            match task.try_wait().map_err(io)? {
                Waited::Still(task) => {
                    self.task = Some(Task::Running(task));
                    return Ok(());
                }
                Waited::Stopped(task, Stop::Signal(signal)) => {
                    self.signalled(task, signal)?;
                    // That stop answered an interrupt that may have been asked for.
                    if self.recalled || self.job.is_some() {
                        self.interrupt()?;
                    }
                }
                Waited::Stopped(task, Stop::Interrupt)
                    if Status::read(self.guest.pid).is_ok_and(|status| status.has_raised_a_fault()) =>
                {
                    self.task = Some(Task::Running(task.resume(0).map_err(io)?));
                }
                Waited::Stopped(task, Stop::Interrupt) if self.job.is_some() => {
                    let task = self.work(task)?;
                    if self.recalled {
                        return leave::leave(self, task);
                    }
                    self.task = Some(Task::Running(task.resume(0).map_err(io)?));
                }
                Waited::Stopped(task, _) if self.recalled => return leave::leave(self, task),
                Waited::Stopped(task, _) => self.task = Some(Task::Running(task.resume(0).map_err(io)?)),
                Waited::Gone(end) => return Err(Fault::Gone(end)),
            }
        }
    }

    /// Gives the guest the memory that it has been promised, and has it served.
    fn work(&mut self, task: Stopped) -> Result<Stopped> {
        const PRIVATE_ANONYMOUS_FIXED_NORESERVE: u64 = 0x02 | 0x20 | 0x10 | 0x4000;
        let Some(job) = self.job.take() else { return Ok(task) };
        let site = self.guest.site;
        let flags = PRIVATE_ANONYMOUS_FIXED_NORESERVE;
        let arguments = [job.start, job.end - job.start, job.protection, flags, u64::MAX, 0];
        // Signals that are pending must not be taken meanwhile.
        let io = |error| Fault::Io("set the guest's signal mask", error);
        let mask = task.mask().map_err(io)?;
        task.set_mask(!0).map_err(io)?;
        let (task, result) = prepare::lone(task, site, prepare::call::MMAP, arguments)?;
        task.set_mask(mask).map_err(io)?;
        if result as u64 != job.start {
            return Err(Fault::Build { what: format!("mmap at {:#x}", job.start), result });
        }
        let (done, adopted) = mpsc::sync_channel(1);
        // If the fault thread has gone, so has the home.
        let _ = self.guest.adoptions.send(Adoption { job, done });
        self.guest.fault_bell.ring();
        let adopted = adopted.recv().map_err(|_| Fault::Said("the fault thread has ended".to_owned()))?;
        adopted.map_err(|error| Fault::Io("serve new memory", error))?;
        Ok(task)
    }

    fn signalled(&mut self, task: Stopped, signal: i32) -> Result<()> {
        let io = |error| Fault::Io("deliver a signal in the guest", error);
        let info = task.signal_info().map_err(io)?;
        if let Some(original) = self.queued.take(&info) {
            task.set_signal_info(&original).map_err(io)?;
            self.task = Some(Task::Running(task.resume(signal).map_err(io)?));
            return Ok(());
        }
        let synchronous = signal::SYNCHRONOUS.contains(&signal);
        let caught = Status::read(self.guest.pid).is_ok_and(|status| status.caught >> (signal - 1) & 1 == 1);
        let once = self.guest.used_once >> (signal - 1) & 1 == 1;
        if synchronous && (!caught || once || signal == signal::ILL) {
            let address = u64::from_le_bytes(info[16..24].try_into().expect("eight bytes"));
            tracing::debug!(signal, address, registers = ?task.registers(), "the guest raised a signal itself");
            // The instruction has not been executed: at home it is tried again, and Linux does the rest.
            if self.recalled {
                return leave::leave(self, task);
            }
            self.task = Some(Task::Stopped(task));
            return self.say_homeward(&format!("signal {signal} that it raised itself"));
        }
        // Nobody on this node has a say over the guest: only its home's signals count.
        let deliver = if synchronous { signal } else { 0 };
        self.task = Some(Task::Running(task.resume(deliver).map_err(io)?));
        Ok(())
    }
}
