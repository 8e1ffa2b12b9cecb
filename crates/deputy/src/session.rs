//! A session with one host: its channels, and the threads that serve them.

mod opening;

use crate::agents::Agents;
use crate::ahead::Ahead;
use crate::eligible::Lease;
use crate::fault::{Fault, Result, chain};
use crate::giveback::Gate;
use crate::kept::Kept;
use crate::kin::Kin;
use crate::lanes::Closers;
use crate::lent::Lent;
use crate::orders::Daemon;
use crate::pages;
use crate::parked::{self, Parked};
use crate::readahead::{Promises, ReadAhead};
use crate::record::Record;
use crate::sole::Sole;
use crate::writebehind::WriteBehind;
use minka_identity::Digests;
use minka_image::family::Fate;
use minka_image::ranges::Ranges;
use minka_kernel::crew::{self, Started};
use minka_kernel::memory::Memory;
use minka_kernel::process::Bell;
use minka_link::{Receiver, Sender};
use minka_wire::frame::Header;
use minka_wire::message::{self, FromHome, FromHost, kind};
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use opening::{Offered, Opened, Prepared};

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
    /// What it writes.
    pub(crate) write_behind: WriteBehind,
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
    threads: Vec<Started<()>>,
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
) -> Started<()> {
    let (shared, events, bell) = (Arc::clone(shared), events.clone(), Arc::clone(bell));
    crew::start(move || {
        if let Err(error) = body(&shared, with) {
            // The main thread has gone if nobody receives it.
            let _ = events.send(Event::Lost(format!("{name}: {}", chain(&error))));
            bell.ring();
        }
    })
}

/// Locks, whoever panicked before: the data are plain ranges.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
