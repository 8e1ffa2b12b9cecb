//! The host's main thread: it traces the guest's threads, puts signals into them, and lets them go.

mod signals;
mod threads;
mod work;

use crate::ending;
use crate::fault::{Fault, Result, chain};
use crate::guest::{Guest, GuestThread, Job, Made, Request, lock};
use crate::joining::Joining;
use crate::leave;
use crate::orders::Daemon;
use crate::queued::Queued;
use minka_kernel::courtesy;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::inject::InjectError;
use minka_kernel::procfs::{self, Stat, Status};
use minka_kernel::ptrace::{Running, Stop, Stopped, Waited};
use minka_kernel::shell::Shell;
use minka_kernel::spawn::{SignalQueue, wait_readable};
use minka_kernel::uffd::Tracking;
use minka_link::Sender;
use minka_wire::frame::Header;
use minka_wire::local::{HostOrder, HostReport};
use minka_wire::message::{self, FromHome, FromHost, kind};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const ESRCH: i32 = 3;
const SIGKILL: i32 = 9;

/// How long a goodbye may take longer than the end of the lanes after it.
const FAREWELL: Duration = Duration::from_millis(250);

/// A thread of the guest.
#[derive(Debug)]
struct Member {
    /// Nothing while it is being dealt with.
    task: Option<Task>,
    /// What is to be done for it when it stops.
    job: Option<Job>,
    /// The guest is about to be recalled: this thread stays in its next stop.
    held: bool,
}

#[derive(Debug)]
enum Task {
    Running(Running),
    Stopped(Stopped),
}

/// A thread that is about to be made.
#[derive(Debug)]
struct Making {
    thread: Box<GuestThread>,
    maker: i32,
    made: mpsc::SyncSender<Made>,
}

/// A guest under our tracing.
#[derive(Debug)]
pub(crate) struct Tracer {
    pub(crate) guest: Arc<Guest>,
    /// Its threads, by their ids as this node counts.
    members: BTreeMap<i32, Member>,
    making: Option<Making>,
    /// Threads that the home has made and the guest, which is leaving, has not.
    pub(crate) unmade: Vec<i32>,
    requests: mpsc::Receiver<Request>,
    control: Sender,
    stream: Arc<Mutex<Sender>>,
    pub(crate) queued: Queued,
    recalled: bool,
    /// The threads of a guest that shares memory, which stand still until those of all others do.
    still: Option<Vec<Stopped>>,
    /// The node daemon has ended.
    orphaned: bool,
    shell: Shell,
    joining: Arc<Joining>,
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
        tasks: Vec<Running>,
        requests: mpsc::Receiver<Request>,
        control: Sender,
        stream: Sender,
        shell: Shell,
        queued: Queued,
        joining: Arc<Joining>,
    ) -> Self {
        let member =
            |task: Running| (task.tid(), Member { task: Some(Task::Running(task)), job: None, held: false });
        Self {
            guest,
            members: tasks.into_iter().map(member).collect(),
            making: None,
            unmade: Vec::new(),
            requests,
            control,
            stream: Arc::new(Mutex::new(stream)),
            queued,
            recalled: false,
            still: None,
            orphaned: false,
            shell,
            joining,
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
                Some((HostOrder::Channel { preamble }, Some(stream))) => self.join(preamble, stream.into()),
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
            Request::Interrupt(tid, done, job) => {
                if let Some(member) = self.members.get_mut(&tid) {
                    member.job = job.or_else(|| member.job.take());
                }
                self.interrupt(tid)?;
                // The worker waits for this; if it has gone, nobody does.
                let _ = done.send(());
            }
            Request::Hold(tid, done) => {
                if let Some(member) = self.members.get_mut(&tid) {
                    member.held = true;
                }
                self.interrupt(tid)?;
                let _ = done.send(());
            }
            Request::Heard(tid, done) => {
                self.queued.send_put_off(self.guest.pid, tid)?;
                if self.stays(tid) {
                    self.interrupt(tid)?;
                }
                // The worker waits for this; if it has gone, nobody does.
                let _ = done.send(());
            }
            Request::Make { call, thread, maker, made } => self.make(call, Making { thread, maker, made })?,
            Request::NotMade => self.making = None,
            Request::Homeward(reason) => self.say_homeward(&reason)?,
            Request::Said(FromHome::Signal { tid, signal, info }) => {
                // A thread that has ended meanwhile leaves it to the main one.
                let thread = self.guest.thread_of_home(tid);
                let taker = thread.clone().or_else(|| self.guest.thread(self.guest.pid));
                if let Some(taker) = taker {
                    self.queued.put(self.guest.pid, &taker, signal, info)?;
                }
                if let Some(thread) = thread {
                    // Only now: a call that is begun with this number was begun after it.
                    thread.signals.fetch_add(1, Ordering::SeqCst);
                }
                self.say(&FromHost::SignalTaken)?;
            }
            Request::Said(FromHome::Precopy) => {
                if self.guest.precopying.swap(true, Ordering::SeqCst) {
                    return Err(Fault::Said("the home asked twice for the same pages".to_owned()));
                }
                self.guest.bound.store(true, Ordering::SeqCst);
                let stream = Arc::clone(&self.stream);
                let (taken, has_taken) = mpsc::sync_channel(1);
                crate::arrive::run(&self.guest, "precopy", move |guest| {
                    let mut stream = lock(&stream);
                    // Whoever asked waits for this; if it has gone, so has the guest.
                    let _ = taken.send(());
                    leave::precopy(guest, &mut stream)
                });
                // A recall that follows at once must not get hold of the lane first.
                let _ = has_taken.recv();
            }
            Request::Said(FromHome::GetAll) => {
                // Where all marks of writes can only be cleared at once, they cannot be set for a range either.
                if self.guest.uffd.tracking() != Tracking::BySoftDirty {
                    self.guest.gets_all.store(true, Ordering::SeqCst);
                    self.guest.fault_bell.ring();
                }
            }
            Request::HasAll => self.say(&FromHost::HasAll)?,
            Request::Said(FromHome::Recall) => {
                faultpoint::reach(Point::HostRecalled);
                self.recalled = true;
                let tids: Vec<i32> = self.members.keys().copied().collect();
                tids.into_iter().try_for_each(|tid| self.interrupt(tid))?;
                self.leave_if_stopped()?;
            }
            Request::Said(FromHome::GoOn) => self.let_go()?,
            Request::Said(FromHome::Collect { all }) => {
                let tasks = self.still.take();
                let tasks = tasks.ok_or_else(|| Fault::Said("the home collects too early".to_owned()))?;
                self.guest.all_shared.store(all, Ordering::SeqCst);
                leave::leave(self, tasks)?;
            }
            Request::Said(FromHome::End) => {
                // Others may wait for its robust locks.
                // Not with the lock of the threads, which whoever fetches the pages may want.
                let threads: Vec<_> = lock(&self.guest.threads).values().cloned().collect();
                threads.iter().for_each(|thread| drop(ending::fetch(&self.guest, thread)));
                self.part();
                return Ok(Some(Outcome::Done));
            }
            Request::Said(FromHome::Bye) => {
                courtesy::nothing_is_left_to_do();
                self.part();
                return Ok(Some(Outcome::Done));
            }
            Request::Said(other) => return Err(Fault::Said(format!("the home said {}", other.name()))),
            Request::Complete(memory) => daemon.report(&HostReport::Memory(memory)),
            Request::Calls(count) => daemon.report(&HostReport::Calls(count)),
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

    fn interrupt(&mut self, tid: i32) -> Result<()> {
        match self.members.get(&tid).and_then(|member| member.task.as_ref()) {
            Some(Task::Running(task)) => {
                // One that is just ending is not there to be interrupted.
                match task.interrupt() {
                    Err(error) if error.raw_os_error() != Some(ESRCH) => {
                        Err(Fault::Io("interrupt the guest", error))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The guest is not recalled after all.
    fn let_go(&mut self) -> Result<()> {
        for member in self.members.values_mut().filter(|member| member.held) {
            member.held = false;
            member.task = match member.task.take() {
                Some(Task::Stopped(task)) => {
                    let running = task.resume(0).map_err(|error| Fault::Io("let the guest go on", error))?;
                    Some(Task::Running(running))
                }
                running => running,
            };
        }
        Ok(())
    }

    pub(crate) fn say(&mut self, message: &FromHost) -> Result<()> {
        Ok(self.control.send(Header::new(kind::FROM_HOST, 0), &[IoSlice::new(&message::encode(message))])?)
    }

    fn say_homeward(&mut self, reason: &str) -> Result<()> {
        self.say(&FromHost::Homeward { reason: reason.to_owned() })
    }

    /// Looks whether threads of the guest have stopped or ended.
    fn look(&mut self) -> Result<()> {
        let tids: Vec<i32> = self.members.keys().copied().collect();
        tids.into_iter().try_for_each(|tid| self.look_at(tid))?;
        self.leave_if_stopped()
    }

    /// A recalled guest leaves as soon as all its threads stand still.
    fn leave_if_stopped(&mut self) -> Result<()> {
        let is_stopped = |member: &Member| matches!(member.task, Some(Task::Stopped(_)));
        if !self.recalled || self.members.is_empty() || !self.members.values().all(is_stopped) {
            return Ok(());
        }
        let mut tasks: Vec<Stopped> = std::mem::take(&mut self.members)
            .into_values()
            .filter_map(|member| match member.task {
                Some(Task::Stopped(task)) => Some(task),
                _ => None,
            })
            .collect();
        tasks.sort_by_key(|task| task.tid() != self.guest.pid);
        if self.guest.family.is_none() {
            return leave::leave(self, tasks);
        }
        self.still = Some(tasks);
        let still = message::encode(&FromHost::Still);
        Ok(lock(&self.stream).send(Header::new(kind::FROM_HOST, 0), &[IoSlice::new(&still)])?)
    }

    /// The home has no use for the guest any more. If others share its memory they are to see nothing of it from now on.
    fn part(&mut self) {
        const LIMIT: Duration = Duration::from_secs(5);
        if self.guest.family.is_none() {
            return;
        }
        // It may have ended by itself.
        let _ = self.guest.handle.signal(SIGKILL);
        let until = Instant::now() + LIMIT;
        let executes = |tid: &i32| !Stat::read(*tid).is_ok_and(|stat| matches!(stat.state, 'Z' | 'X'));
        while procfs::tasks(self.guest.pid).is_ok_and(|tasks| tasks.iter().any(executes)) {
            if Instant::now() > until {
                tracing::error!(guest = self.guest.pid, "the guest does not end");
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        // If nobody hears it, the home takes the guest for lost.
        let _ = self.say(&FromHost::Gone);
    }

    fn put(&mut self, task: Task) {
        let tid = match &task {
            Task::Running(task) => task.tid(),
            Task::Stopped(task) => task.tid(),
        };
        if let Some(member) = self.members.get_mut(&tid) {
            member.task = Some(task);
        }
    }

    fn look_at(&mut self, tid: i32) -> Result<()> {
        let io = |error| Fault::Io("trace the guest", error);
        loop {
            let task = match self.members.get_mut(&tid).and_then(|member| member.task.take()) {
                Some(Task::Running(task)) => task,
                Some(stopped) => {
                    self.put(stopped);
                    return Ok(());
                }
                None => return Ok(()),
            };
            let has_job = self.members.get(&tid).is_some_and(|member| member.job.is_some());
            let stays = self.stays(tid);
            let waited = task.try_wait().map_err(io)?;
            if !matches!(waited, Waited::Still(_) | Waited::Stopped(_, Stop::Clone)) {
                self.not_made(tid);
            }
            match waited {
                Waited::Still(task) => {
                    self.put(Task::Running(task));
                    return Ok(());
                }
                Waited::Stopped(task, stop @ (Stop::Signal(_) | Stop::Clone)) => {
                    match stop {
                        Stop::Signal(signal) => self.signalled(task, signal)?,
                        _ => {
                            let task = self.made(task)?;
                            self.put(Task::Running(task));
                        }
                    }
                    // That stop answered an interrupt that may have been asked for.
                    if stays || has_job {
                        self.interrupt(tid)?;
                    }
                }
                Waited::Stopped(task, Stop::Interrupt)
                    if Status::read(tid).is_ok_and(|status| status.has_raised_a_fault()) =>
                {
                    self.put(Task::Running(task.resume(0).map_err(io)?));
                }
                Waited::Stopped(task, Stop::Interrupt) if has_job => {
                    let task = self.work(task)?;
                    self.put(if stays {
                        Task::Stopped(task)
                    } else {
                        Task::Running(task.resume(0).map_err(io)?)
                    });
                }
                Waited::Stopped(task, Stop::Interrupt) if stays && self.is_to_be_heard(&task)? => {
                    self.put(Task::Running(task.resume(0).map_err(io)?));
                }
                Waited::Stopped(task, _) if stays => self.put(Task::Stopped(task)),
                Waited::Stopped(task, _) => self.put(Task::Running(task.resume(0).map_err(io)?)),
                Waited::Gone(end) if tid == self.guest.pid => return Err(Fault::Gone(end)),
                Waited::Gone(_) => {
                    self.members.remove(&tid);
                    lock(&self.guest.threads).remove(&tid);
                    return Ok(());
                }
            }
        }
    }
}
