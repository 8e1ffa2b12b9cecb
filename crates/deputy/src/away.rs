//! A process that is away: what its signals, its host and its own calls make of it.
//!
//! Everything here is a step: the deputy's main loop asks what is due, hands in what has happened, and gets told how
//! the process goes on. An error means that the host is lost; what that means is the main loop's to say.

use crate::ends;
use crate::fault::{Fault, Result};
use crate::giveback::Memory;
use crate::parked::Parked;
use crate::session::{Event, Prepared, Session};
use crate::signals::{self, Fate};
use crate::tracee::{self, Tasks};
use minka_image::family::{How, Stage};
use minka_kernel::process::Bell;
use minka_kernel::ptrace::{Stop, Stopped, Waited};
use minka_wire::local::DeputyReport;
use minka_wire::message::FromHost;
use minka_wire::tidy;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The original process in the agent, and the session with the host where its guest is.
#[derive(Debug)]
pub(crate) struct Away {
    pub(crate) parked: Parked,
    /// None once the process has ended, or replaced its image.
    tasks: Tasks,
    pub(crate) session: Session,
    /// Where it is going, while the pages that it changed are sent ahead.
    pub(crate) bound: Option<Bound>,
    /// Since when it waits for others to go home with.
    waits_since: Option<Instant>,
    /// What has become of its memory here.
    pub(crate) memory: Memory,
}

/// Where a process is going that is still computing.
#[derive(Debug)]
pub(crate) enum Bound {
    Home,
    Node(Box<Prepared>),
}

/// How the process goes on.
#[derive(Debug)]
pub(crate) enum Step {
    /// As before.
    Stay,
    /// Home, for this reason (none: somebody asked for it).
    Home(Option<String>),
    /// To another node, which is ready.
    Elsewhere(Box<Prepared>),
    /// With a new image.
    Replaced(Stopped),
    /// Not at all: it has ended.
    Over,
}

impl Away {
    pub(crate) fn new(parked: Parked, tasks: Tasks, session: Session) -> Self {
        Self { parked, tasks, session, bound: None, waits_since: None, memory: Memory::Kept }
    }

    /// The session with the host.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// The process, to be brought home. It has no tasks if it has ended meanwhile.
    pub(crate) fn into_parts(mut self) -> (Parked, Tasks, Session) {
        self.keep();
        (self.parked, self.tasks, self.session)
    }

    /// What follows from how it is with those with whom it moves.
    pub(crate) fn with_kin(&mut self, bell: &Arc<Bell>) -> Result<Step> {
        let Some(kin) = self.session.shared.kin.clone() else { return Ok(Step::Stay) };
        if !kin.fate().is_open() {
            return Err(kin.why());
        }
        let Some(call) = kin.called() else {
            // What has been sent ahead for a call that was refused was sent in vain.
            (self.bound, self.waits_since) = (None, None);
            return Ok(Step::Stay);
        };
        if call.how != How::Ordered {
            return Ok(Step::Home(kin.reason(call)));
        }
        if self.bound.is_none() {
            self.set_out(Bound::Home, bell)?;
        }
        if !self.session.has_stream() {
            return Ok(Step::Stay);
        }
        let since = *self.waits_since.get_or_insert_with(|| {
            kin.arrive(Stage::Bound);
            Instant::now()
        });
        let is_time = kin.have_all(Stage::Bound) || since.elapsed() > self.session.shared.patience;
        Ok(if is_time { Step::Home(None) } else { Step::Stay })
    }

    /// How long the main thread may wait for something to happen.
    pub(crate) fn pause(&self) -> Option<Duration> {
        /// How often it is looked whether others have been waited for long enough.
        const LOOK: Duration = Duration::from_millis(100);
        self.pause_of_memory().or_else(|| self.waits_since.map(|_| LOOK))
    }

    /// What can be done without waiting for anything.
    pub(crate) fn due(&mut self) -> Step {
        if self.session.has_stream()
            && self.session.shared.kin.is_none()
            && let Some(bound) = self.bound.take()
        {
            // What could be sent ahead has been.
            return match bound {
                Bound::Node(prepared) => Step::Elsewhere(prepared),
                Bound::Home => Step::Home(None),
            };
        }
        // It may be on its way to another node; then it passes its home anyway.
        match self.session.postponed.take_if(|_| self.bound.is_none()) {
            Some(reason) => Step::Home(Some(reason)),
            None => Step::Stay,
        }
    }

    /// Sends the process somewhere: what it has changed goes ahead while it computes on.
    pub(crate) fn set_out(&mut self, bound: Bound, bell: &Arc<Bell>) -> Result<()> {
        // It may be on its way already; then it is going there now.
        self.keep();
        self.session.precopy(bell)?;
        self.bound = Some(bound);
        Ok(())
    }

    /// Something that a thread of the session told.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let session = &mut self.session;
        let late = || session.shared.next_late_call().map(Event::Late);
        let needed = || session.shared.why_home().map(Event::Homeward);
        session.later.pop().or_else(late).or_else(needed).or_else(|| session.events.try_recv().ok())
    }

    /// Has a thread stop for a moment, in which the call that it is in is ended ([`signals::end_call`]).
    pub(crate) fn interrupt(&mut self, tid: i32) -> Step {
        if let Some(task) = self.tasks.take(tid) {
            // If it has ended, that is news by itself.
            let _ = task.interrupt();
            self.tasks.put(task);
        }
        Step::Stay
    }

    /// Whether somebody wants memory that is away with the process, and it has to be at home for that. Says what for.
    pub(crate) fn memory_is_wanted(&self) -> Option<&'static str> {
        let sole = &self.parked.sole;
        sole.is_wanted().then(|| match sole.has_changed() {
            true => "somebody has changed the size of a file that it maps",
            false => "somebody opens memory that it shares",
        })
    }

    /// Lets those go on who want to write to a file that is read ahead.
    pub(crate) fn yield_to_writers(&self) {
        self.session.shared.promises.yield_to_writers();
    }

    /// Whether somebody wants to write to a file that the process maps shared.
    pub(crate) fn a_lease_is_breaking(&self) -> bool {
        self.parked.a_lease_is_breaking()
    }

    /// Looks whether threads of the original process have stopped or ended.
    pub(crate) fn look(&mut self) -> Result<Step> {
        let mut outcome = Step::Stay;
        for tid in self.tasks.ids(self.parked.pid) {
            match self.look_at(tid)? {
                Step::Stay => {}
                step @ (Step::Replaced(_) | Step::Over) => return Ok(step),
                // The others have news too, of which nobody would be told again.
                step => outcome = step,
            }
        }
        Ok(outcome)
    }

    pub(crate) fn look_at(&mut self, tid: i32) -> Result<Step> {
        let Some(task) = self.tasks.take(tid) else { return Ok(Step::Stay) };
        match task.try_wait() {
            Ok(Waited::Still(task)) => {
                self.tasks.put(task);
                Ok(Step::Stay)
            }
            Ok(Waited::Stopped(task, Stop::Signal(signal))) => self.signalled(task, signal),
            Ok(Waited::Stopped(task, Stop::Exec)) => {
                self.parked.agents.ring().end();
                Ok(Step::Replaced(task))
            }
            Ok(Waited::Stopped(task, Stop::Clone)) => {
                let (maker, made) = self.parked.adopt(task)?;
                [Some(maker), made].into_iter().flatten().for_each(|task| self.tasks.put(task));
                Ok(Step::Stay)
            }
            Ok(Waited::Stopped(task, Stop::Interrupt)) => {
                match signals::end_call(&self.parked, &mut self.session, task) {
                    Ok(task) => {
                        self.tasks.put(task);
                        Ok(Step::Stay)
                    }
                    Err(_) => Ok(self.over()),
                }
            }
            Ok(Waited::Stopped(task, Stop::Exit)) if tid == self.parked.pid => {
                task.leave_ending();
                Ok(self.over())
            }
            Ok(Waited::Stopped(task, _)) => Ok(self.resume(task, 0)),
            Ok(Waited::Gone(end)) => Ok(match self.parked.thread_ended(tid, end) {
                Ok(()) => Step::Stay,
                Err(_) => self.over(),
            }),
            Err(error) => {
                // Cannot happen to a process that we trace; if it does, it is not ours any more.
                tracing::error!(tid, %error, "failed to wait for the process");
                Ok(self.over())
            }
        }
    }

    /// The process has ended, or is about to. If others share its memory its guest ends before, and then it is seen out: what
    /// becomes of the lanes meanwhile is no loss.
    fn over(&mut self) -> Step {
        if self.session.shared.kin.is_some() || self.parked.sole.outlives() {
            ends::early(&self.parked, &mut self.session);
        }
        self.parked.agents.ring().end();
        self.tasks = Tasks::default();
        Step::Over
    }

    /// Lets a task go on; if it cannot, it has been killed under our hands, and is waited for.
    fn resume(&mut self, task: Stopped, signal: i32) -> Step {
        let tid = task.tid();
        match task.resume(signal) {
            Ok(task) => {
                self.tasks.put(task);
                Step::Stay
            }
            Err(_) if tid != self.parked.pid => {
                self.parked.agents.remove(tid);
                Step::Stay
            }
            Err(_) => self.over(),
        }
    }

    fn signalled(&mut self, task: Stopped, signal: i32) -> Result<Step> {
        self.parked.forget_stop(signal);
        match signals::fate(&self.parked, task.tid(), signal) {
            Fate::Native => Ok(self.resume(task, signal)),
            Fate::Ignored => Ok(self.resume(task, 0)),
            Fate::Homeward => match tracee::postpone(task, signal, &mut self.parked.held) {
                Ok(task) => {
                    self.tasks.put(task);
                    Ok(Step::Home(Some(format!("signal {signal}"))))
                }
                Err(_) => Ok(self.over()),
            },
            Fate::Guest => match signals::to_guest(&self.parked, &mut self.session, task, signal) {
                Ok((task, handed_over)) => {
                    self.tasks.put(task);
                    handed_over.map(|()| Step::Stay)
                }
                Err(_) => Ok(self.over()),
            },
        }
    }

    /// Deals with what the host said.
    pub(crate) fn heard(&mut self, said: FromHost) -> Result<Step> {
        match said {
            FromHost::Homeward { reason } => {
                self.session.postponed = Some(tidy(&reason));
                Ok(Step::Stay)
            }
            FromHost::UnknownInstruction => {
                self.session.shared.daemon.report(&DeputyReport::NeedsAll);
                Ok(Step::Stay)
            }
            FromHost::SignalTaken => Ok(Step::Stay),
            FromHost::HasAll => self.host_has_all(),
            other => Err(Fault::Said(format!("the host said {}", other.name()))),
        }
    }

    /// The pages that could be sent ahead are here.
    pub(crate) fn precopied(&mut self, stream: minka_link::Receiver) {
        self.session.restore_stream(stream);
    }
}
