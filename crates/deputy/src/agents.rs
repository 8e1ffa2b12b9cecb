//! The agents of a parked process, one per thread, as everybody reaches them who has a thread make a call at home.

use minka_image::timed::Waiting;
use minka_kernel::ring::{Ended, Leave, Ring, Slot};
use minka_wire::frame::Header;
use minka_wire::message::{INTERRUPTED, SIGNALS_SHIFT};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// One thread's agent.
#[derive(Debug)]
pub(crate) struct Agent {
    /// The thread's id.
    pub(crate) tid: i32,
    /// Which of the ring's slots it works for.
    pub(crate) index: usize,
    /// Forwarded calls that it is in. Two at most for a moment: the next may come before the thread that has served
    /// the last one gets round to anything else.
    calls: AtomicU32,
    /// The call under way sets a signal mask for its own time only.
    pub(crate) temporary_mask: AtomicBool,
    signals: Mutex<Signals>,
    /// The call that the thread is going to make again, if its time-out counts from the first time.
    waiting: Mutex<Option<Waiting>>,
    /// The thread is on its way out, and only to be waited for.
    ending: AtomicBool,
    slot: Mutex<Slot>,
    leave: Leave,
}

impl Agent {
    /// Whether it is in a forwarded call.
    pub(crate) fn is_busy(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > 0
    }

    /// It is in a forwarded call, until this is dropped.
    pub(crate) fn begin_call(self: &Arc<Self>) -> Busy {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }

    /// The call that the thread is going to make again, if its time-out counts from the first time.
    pub(crate) fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        lock(&self.waiting)
    }

    /// The thread gets a signal, whose handler runs before anything else.
    pub(crate) fn signal(&self) {
        lock(&self.signals).during_call = true;
        *self.waiting() = None;
    }

    /// The guest's thread has got the signal.
    pub(crate) fn has_got_signal(&self) {
        let mut signals = lock(&self.signals);
        signals.handed_over = signals.handed_over.wrapping_add(1);
        (signals.during_call, signals.is_to_end) = (true, true);
    }

    /// A call arrives that the guest's thread may have made before it got its last signal, or before it was recalled.
    pub(crate) fn heed_signals(&self, frame: &Header, recalling: bool) {
        let mut signals = lock(&self.signals);
        let known = (frame.flags >> SIGNALS_SHIFT) as u16;
        signals.during_call = frame.flags & INTERRUPTED != 0 || known != signals.handed_over;
        signals.is_to_end = signals.during_call || recalling;
        signals.is_ended = false;
    }

    /// Whether the guest's thread has got a signal since it made the call under way.
    pub(crate) fn is_signalled(&self) -> bool {
        lock(&self.signals).during_call
    }

    /// Whether it has been told to make a call that may wait.
    pub(crate) fn is_calling(&self) -> bool {
        lock(&self.signals).is_ordered
    }

    /// Whether it has been told to make a call that never waits, and that has not been begun as long as it is ahead.
    pub(crate) fn is_calling_at_once(&self) -> bool {
        lock(&self.signals).is_ordered_at_once
    }

    /// Makes a call that never waits.
    pub(crate) fn call_at_once(
        &self,
        slot: &mut Slot,
        number: u64,
        arguments: [u64; 6],
    ) -> Result<i64, Ended> {
        self.order_at_once(slot, number, arguments);
        self.result_at_once(slot)
    }

    /// Has such a call made, whose result is waited for later ([`Agent::result_at_once`]).
    pub(crate) fn order_at_once(&self, slot: &mut Slot, number: u64, arguments: [u64; 6]) {
        let mut signals = lock(&self.signals);
        slot.order(number, arguments);
        signals.is_ordered_at_once = true;
    }

    /// Waits for its result.
    pub(crate) fn result_at_once(&self, slot: &mut Slot) -> Result<i64, Ended> {
        let result = slot.result();
        lock(&self.signals).is_ordered_at_once = false;
        result
    }

    /// Whether the call under way is to end as soon as it would wait.
    pub(crate) fn is_to_end_call(&self) -> bool {
        let signals = lock(&self.signals);
        signals.is_ordered && signals.is_to_end
    }

    /// Makes the call under way, or one that waits in its place. If it is to end at once already, `late` has to see to it;
    /// later on that is known to whoever hands a signal over, or recalls the guest.
    pub(crate) fn call(
        &self,
        slot: &mut Slot,
        number: u64,
        arguments: [u64; 6],
        late: impl FnOnce(),
    ) -> Result<i64, Ended> {
        let mut signals = lock(&self.signals);
        slot.order(number, arguments);
        signals.is_ordered = true;
        let is_late = signals.is_to_end;
        drop(signals);
        if is_late {
            late();
        }
        let result = slot.result();
        lock(&self.signals).is_ordered = false;
        result
    }

    /// Has the call under way end as soon as it would wait, whoever interrupts it. False if there is none that may wait.
    pub(crate) fn end_call(&self) -> bool {
        let mut signals = lock(&self.signals);
        signals.is_to_end |= signals.is_ordered;
        // Who asks again when it has ended finds none; this one has been ended all the same.
        signals.is_ended |= signals.is_ordered;
        signals.is_ordered
    }

    /// Whether nothing but [`Agent::end_call`] has ended the call under way.
    pub(crate) fn is_call_ended(&self) -> bool {
        lock(&self.signals).is_ended
    }

    /// Has the thread end, some time.
    pub(crate) fn end(&self) {
        const EXIT: u64 = 60;
        if !self.ending.swap(true, Ordering::SeqCst) {
            self.slot().order(EXIT, [0; 6]);
        }
    }

    /// Whether the thread has been told to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// The slot, for one call.
    pub(crate) fn slot(&self) -> MutexGuard<'_, Slot> {
        lock(&self.slot)
    }

    /// The slot, if nobody has it.
    pub(crate) fn try_slot(&self) -> Option<MutexGuard<'_, Slot>> {
        self.slot.try_lock().ok()
    }
}

/// An agent that is in a forwarded call.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Agent>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a thread's call has to do with its signals.
#[derive(Debug, Default)]
struct Signals {
    /// How many have been handed to the guest's thread in this session.
    handed_over: u16,
    /// One was when the call under way had been made there.
    during_call: bool,
    /// The call under way is to end as soon as it would wait, for that reason or because the guest is recalled.
    is_to_end: bool,
    /// It has been ended to have the agent do something else.
    is_ended: bool,
    /// The agent has been told to make it.
    is_ordered: bool,
    /// The same of one that never waits.
    is_ordered_at_once: bool,
}

/// All agents of a process.
#[derive(Debug)]
pub(crate) struct Agents {
    ring: Ring,
    by_tid: Mutex<BTreeMap<i32, Arc<Agent>>>,
    /// Who has each slot. It is free when nobody can reach its last user any more.
    slots: Mutex<Vec<Weak<Agent>>>,
}

impl Agents {
    /// None yet.
    pub(crate) fn new(ring: Ring) -> Self {
        let slots = Mutex::new((0..ring.slots()).map(|_| Weak::new()).collect());
        Self { ring, by_tid: Mutex::default(), slots }
    }

    /// The ring in which they work.
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// An agent for one more thread; none if the ring has no slot left.
    pub(crate) fn add(&self, tid: i32) -> Option<Arc<Agent>> {
        let mut slots = lock(&self.slots);
        let index = slots.iter().position(|user| user.strong_count() == 0)?;
        let slot = self.ring.slot(index);
        let agent = Arc::new(Agent {
            tid,
            index,
            calls: AtomicU32::new(0),
            temporary_mask: AtomicBool::new(false),
            signals: Mutex::default(),
            waiting: Mutex::default(),
            ending: AtomicBool::new(false),
            leave: slot.leave(),
            slot: Mutex::new(slot),
        });
        slots[index] = Arc::downgrade(&agent);
        lock(&self.by_tid).insert(tid, Arc::clone(&agent));
        Some(agent)
    }

    /// Whether one more thread would find a slot.
    pub(crate) fn have_room(&self) -> bool {
        lock(&self.slots).iter().any(|user| user.strong_count() == 0)
    }

    /// A session begins: its host has got no signal yet.
    pub(crate) fn begin_session(&self) {
        lock(&self.by_tid).values().for_each(|agent| lock(&agent.signals).handed_over = 0);
    }

    /// The agent of a thread.
    pub(crate) fn of(&self, tid: i32) -> Option<Arc<Agent>> {
        lock(&self.by_tid).get(&tid).cloned()
    }

    /// The agent of the thread whose call a frame is.
    pub(crate) fn caller(&self, frame: &Header) -> Option<Arc<Agent>> {
        i32::try_from(frame.correlation).ok().and_then(|tid| self.of(tid))
    }

    /// All of them, in the order of their threads' ids.
    pub(crate) fn all(&self) -> Vec<Arc<Agent>> {
        lock(&self.by_tid).values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.by_tid).len()
    }

    /// A thread has ended: whoever waits for a call of its gets to know.
    pub(crate) fn remove(&self, tid: i32) {
        if let Some(agent) = lock(&self.by_tid).remove(&tid) {
            agent.leave.end();
        }
    }

    /// Whether any is in a forwarded call.
    pub(crate) fn any_busy(&self) -> bool {
        lock(&self.by_tid).values().any(|agent| agent.is_busy())
    }
}

/// Locks, whoever panicked before: the data are plain values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_slot_is_used_again_when_nobody_can_reach_its_last_user() {
        let memfd = minka_kernel::shared::memfd(c"ring", 0).expect("a memfd");
        let agents = Agents::new(Ring::create(memfd.as_fd(), 0, 2).expect("a ring"));
        let first = agents.add(10).expect("a slot");
        let second = agents.add(11).expect("a slot");
        assert_eq!((first.index, second.index, agents.count()), (0, 1, 2));
        assert!(agents.add(12).is_none() && !agents.have_room());
        agents.remove(10);
        assert!(agents.of(10).is_none() && !agents.have_room(), "somebody still has it");
        drop(first);
        assert_eq!(agents.add(12).map(|agent| agent.index), Some(0));
    }

    #[test]
    fn a_call_that_has_been_ended_stays_so_until_the_next() {
        let memfd = minka_kernel::shared::memfd(c"ring", 0).expect("a memfd");
        let agents = Agents::new(Ring::create(memfd.as_fd(), 0, 1).expect("a ring"));
        let agent = agents.add(10).expect("a slot");
        lock(&agent.signals).is_ordered = true;
        assert!(agent.end_call());
        // It is over, but nobody has looked at its result yet.
        lock(&agent.signals).is_ordered = false;
        assert!(!agent.end_call() && agent.is_call_ended());
        agent.heed_signals(&Header::new(minka_wire::message::kind::CALL, 1), false);
        assert!(!agent.is_call_ended());
    }

    #[test]
    fn an_agent_is_busy_until_the_last_of_its_calls_has_ended() {
        let memfd = minka_kernel::shared::memfd(c"ring", 0).expect("a memfd");
        let agents = Agents::new(Ring::create(memfd.as_fd(), 0, 1).expect("a ring"));
        let agent = agents.add(10).expect("a slot");
        let answered = agent.begin_call();
        let next = agent.begin_call();
        drop(answered);
        assert!(
            agents.any_busy(),
            "the thread that served the first call has only now got round to saying so"
        );
        drop(next);
        assert!(!agent.is_busy());
    }
}
