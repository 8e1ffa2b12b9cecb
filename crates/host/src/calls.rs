//! The guest's calls: received as notifications, carried home, answered.
//!
//! ```text
//!  guest ──notification──► worker ──gather──► Call ──► home
//!  guest ◄────answer────── worker ◄─scatter── Result ◄─┘
//! ```

use crate::early::Early;
use crate::fault::{Fault, Result};
use crate::granted::Grants;
use crate::guest::{Buffers, Guest, GuestThread, Job, Request, Work, lock};
use crate::mapping;
use crate::own;
use crate::procself;
use minka_image::process::Unfinished;
use minka_image::restart::RESTART_SYSCALL;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::ring::DATA_PER_SLOT;
use minka_kernel::seccomp::{ARCH_X86_64, Listener, Notification, Received};
use minka_link::Channel;
use minka_syscalls::filter::lends_priority;
use minka_syscalls::foretell;
use minka_syscalls::marshal::{self, Refusal, Write};
use minka_syscalls::spec::{Direction, Kind};
use minka_syscalls::{Place, Spec};
use minka_wire::frame::Header;
use minka_wire::message::{
    self, CUT, FORETELLS, FileOffer, HOLD, MessageError, RESTART, Special, TRUE_SHIFT, kind,
};
use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long to poll for a result before sleeping, at least.
const SPIN: Duration = Duration::from_micros(50);
/// How much longer at most, for a call with long data: one nanosecond for a byte is what their way takes. A thread that
/// sleeps meanwhile lets its processor sleep too, and waking that costs a third of the time. The guest is in its call,
/// so this takes no more than the guest itself leaves idle.
const SPIN_FOR_DATA: Duration = Duration::from_millis(1);
/// Set in the number of calls made through the x32 interface.
const X32_BIT: u64 = 0x4000_0000;

/// What a call comes to.
pub(crate) enum Answer {
    /// Its result.
    Result(i64),
    /// Let it run natively in the guest.
    Native,
    /// It has been answered already.
    Passed,
    /// Only home can do it.
    Homeward(String),
}

/// A worker: one connection, reused buffers.
pub(crate) struct Worker<'a> {
    pub(crate) guest: &'a Guest,
    /// Whose call it is that is being served.
    thread: Option<Arc<GuestThread>>,
    pub(crate) listener: &'a Listener,
    pub(crate) channel: Channel,
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
    /// Flags of all that is asked for on behalf of the call: what signals the thread had got when it made it.
    pub(crate) signals: u32,
    /// With the result came the word that the guest is about to be recalled.
    hold: bool,
    /// And that this has cut the call short.
    cut: bool,
    /// Writes that need not be waited for.
    pub(crate) grants: Grants,
    /// The flags of the last result.
    flags: u32,
}

/// Serves calls of whichever thread makes one, until the guest has ended or the channel is closed. There are as many
/// workers as threads, so one is always free.
pub(crate) fn serve(guest: &Guest, channel: Channel) -> Result<()> {
    let listener =
        guest.listener.get().ok_or_else(|| Fault::Said("the guest has no filter yet".to_owned()))?;
    let mut worker = Worker {
        guest,
        thread: None,
        listener,
        channel,
        request: Vec::new(),
        reply: Vec::new(),
        signals: 0,
        hold: false,
        cut: false,
        grants: Grants::default(),
        flags: 0,
    };
    guest.lanes.fetch_add(1, Ordering::SeqCst);
    loop {
        let turn = lock(&guest.turn);
        faultpoint::reach(Point::HostListening);
        let received = listener.receive();
        drop(turn);
        match received.map_err(|error| Fault::Io("receive a call", error))? {
            Received::Call(call) => {
                worker.thread = guest.thread(call.tid);
                worker.serve(&call)?;
            }
            Received::Nothing => {}
            Received::Closed => return Ok(()),
        }
    }
}

impl Worker<'_> {
    fn serve(&mut self, call: &Notification) -> Result<()> {
        self.hold = false;
        if let Some(count) = self.guest.calls.count(self.guest.began.elapsed().as_millis() as u64) {
            self.guest.ask(Request::Calls(count));
        }
        let thread = self.thread()?;
        if thread.is_awaited.swap(false, Ordering::SeqCst) {
            self.guest.heard(call.tid)?;
        }
        self.signals = thread.signals_before_call();
        *lock(&thread.interrupted) = None;
        let answer = self.answer(call)?;
        if self.hold {
            self.guest.hold(call.tid)?;
        }
        if !matches!(answer, Answer::Homeward(_) | Answer::Result(RESTART_THE_CALL)) {
            *lock(&self.thread()?.begins) = None;
        }
        let answered = match answer {
            Answer::Native => self.listener.pass(call.id),
            Answer::Result(result @ -516..=-512) => {
                // Such a result may be seen only by the kernel: the thread must be about to stop or take a signal.
                let interrupted = Unfinished { call: call.call, arguments: call.arguments };
                if result == -516 && call.call != RESTART_SYSCALL {
                    *lock(&self.thread()?.unfinished) = Some(interrupted);
                }
                *lock(&self.thread()?.interrupted) = Some(interrupted);
                self.guest.interrupt(call.tid, None)?;
                self.listener.answer(call.id, result)
            }
            Answer::Result(result) => self.listener.answer(call.id, result),
            Answer::Passed => Ok(true),
            Answer::Homeward(reason) => {
                // Until it is recalled, or is not after all: it would ask again and again.
                self.guest.hold(call.tid)?;
                self.guest.ask(Request::Homeward(reason));
                self.listener.answer(call.id, RESTART_THE_CALL)
            }
        };
        // A caller that is gone has been killed; the tracer sees it.
        answered.map(drop).map_err(|error| Fault::Io("answer a call", error))
    }

    fn answer(&mut self, call: &Notification) -> Result<Answer> {
        if call.arch != ARCH_X86_64 || call.call & X32_BIT != 0 {
            return Ok(Answer::Homeward(format!("call {} of the 32-bit interface", call.call)));
        }
        let Some(spec) = minka_syscalls::lookup(call.call) else {
            return Ok(Answer::Homeward(format!("call {} is not known here", call.call)));
        };
        if call.call == RESTART_SYSCALL {
            return self.restart(call);
        }
        let thread = self.thread()?;
        // A handler ran in between, so the program has seen EINTR: nobody goes on with that call any more.
        *lock(&thread.unfinished) = None;
        let done = thread.take_part(Unfinished { call: call.call, arguments: call.arguments });
        let (spec, place) = spec.settle(&call.arguments);
        if mapping::touches_shared(self.guest, call) {
            return Ok(Answer::Homeward(format!("{} of its shared memory", spec.name)));
        }
        match place {
            Place::Here if self.guest.family.is_some() && lends_priority(call.call, &call.arguments) => {
                Ok(Answer::Homeward("futex that lends its priority".to_owned()))
            }
            Place::Here => Ok(Answer::Native),
            Place::Both => own::both(self, call, spec),
            Place::Home if let Some(answer) = procself::open(self, call)? => Ok(answer),
            Place::Cached | Place::Home => {
                if done == 0 && self.write_behind(call)? {
                    return Ok(Answer::Passed);
                }
                let answer = self.forward_after(done, spec, &call.arguments, 0)?;
                own::adopt_limit(self.guest, call, &answer);
                Ok(answer)
            }
            Place::Own => own::answer(self, call, spec),
            Place::Homeward => Ok(Answer::Homeward(spec.name.to_owned())),
        }
    }

    /// Goes on with the call that was interrupted: at home if the home's kernel holds it, here otherwise.
    fn restart(&mut self, call: &Notification) -> Result<Answer> {
        // The registers still hold the arguments of the call that was interrupted; others mean a local one.
        let same = |unfinished: &Unfinished| unfinished.arguments == call.arguments;
        let thread = self.thread()?;
        let Some(unfinished) = lock(&thread.unfinished).take().filter(same) else {
            return Ok(Answer::Native);
        };
        let Some(spec) = minka_syscalls::lookup(unfinished.call) else {
            return Ok(Answer::Homeward("restart_syscall".to_owned()));
        };
        let answer = self.forward(spec, &unfinished.arguments, RESTART)?;
        if let Answer::Result(-516..=-512) = answer {
            *lock(&thread.unfinished) = Some(unfinished);
        }
        Ok(answer)
    }

    /// Has the call made at home. Data that one request does not hold goes in several.
    pub(crate) fn forward(
        &mut self,
        spec: &'static Spec,
        arguments: &[u64; 6],
        flags: u32,
    ) -> Result<Answer> {
        self.forward_after(0, spec, arguments, flags)
    }

    /// The same of a call of which so many bytes have been carried.
    fn forward_after(
        &mut self,
        done: u64,
        spec: &'static Spec,
        arguments: &[u64; 6],
        flags: u32,
    ) -> Result<Answer> {
        let mut total = done;
        // Whether a transfer that one request does not hold is carried on: a write is; a read only from a regular file.
        let mut goes_on = sends_data(spec).then_some(true);
        loop {
            let memory = Buffers(&self.guest.memory);
            self.request.clear();
            let gathered =
                match marshal::gather_after(spec, arguments, total, &memory, AREA, &mut self.request) {
                    Ok(gathered) => gathered,
                    Err(Refusal::Errno(error)) => {
                        return Ok(Answer::Result(partly(total, -i64::from(error))));
                    }
                    Err(Refusal::Homeward(reason)) if total == 0 => {
                        return Ok(Answer::Homeward(reason.to_string()));
                    }
                    Err(Refusal::Homeward(_)) => return Ok(Answer::Result(total as i64)),
                };
            if gathered.capped.is_some() && goes_on.is_none() {
                match self.reads_file(arguments[0])? {
                    Ok(answer) => goes_on = Some(answer),
                    Err(interrupted) => return Ok(Answer::Result(interrupted)),
                }
                // The question has taken the request's place.
                continue;
            }
            if let Some(result) = self.foretold(flags)? {
                return Ok(Answer::Result(result));
            }
            let guest = self.guest;
            let mut memory = Early::new(guest, u64::from(spec.number), arguments, total);
            self.exchange_with(kind::CALL, flags, memory.room(), |reply| memory.arrived(reply))?;
            let writing = lock(&guest.writing);
            let result = marshal::scatter_after(spec, arguments, total, &self.reply, &mut memory)?;
            drop(writing);
            if let Some(write) = Write::of(&self.request) {
                self.grants.hear_of_write(self.flags, write.descriptor, Instant::now());
            }
            match gathered.capped {
                Some(capped) if result == capped.covered as i64 && goes_on == Some(true) => {
                    total += capped.covered;
                }
                _ if self.cut && partly(total, result) > 0 => {
                    let call = Unfinished { call: u64::from(spec.number), arguments: *arguments };
                    let done = partly(total, result) as u64;
                    *lock(&self.thread()?.part) = Some((call, done));
                    return Ok(Answer::Result(RESTART_THE_CALL));
                }
                _ => return Ok(Answer::Result(partly(total, result))),
            }
        }
    }

    /// What the home has foretold of the call that is about to be made.
    fn foretold(&mut self, flags: u32) -> Result<Option<i64>> {
        if flags != 0 || self.guest.thread_count() > 1 || self.guest.family.is_some() {
            return Ok(None);
        }
        Ok(lock(&self.thread()?.foretold).result(&self.request, self.signals))
    }

    /// Takes what is foretold off a reply.
    fn hear_foretold(&mut self) -> Result<()> {
        let other = || Fault::Said("the home foretold something else than lookups".to_owned());
        let (rest, length) = self.reply.split_last_chunk::<4>().ok_or_else(other)?;
        let told = rest.len().checked_sub(u32::from_le_bytes(*length) as usize).ok_or_else(other)?;
        let foretold = foretell::decode(&rest[told..]).ok_or_else(other)?;
        self.reply.truncate(told);
        lock(&self.thread()?.foretold).hear(foretold, self.signals);
        Ok(())
    }

    /// Whether a descriptor is of a regular file, where a read cannot wait for more. The home answers no such question
    /// while it recalls the guest, so it is asked before the transfer begins; the error is what the call ends with then.
    fn reads_file(&mut self, descriptor: u64) -> Result<std::result::Result<bool, i64>> {
        let fstat = minka_syscalls::lookup(FSTAT)
            .ok_or_else(|| Fault::Said("fstat is not in the table".to_owned()))?;
        self.request.clear();
        let mut scratch = Scratch { bytes: vec![0; STAT_BYTES] };
        let question = [descriptor, SCRATCH, 0, 0, 0, 0];
        if marshal::gather(fstat, &question, &scratch, AREA, &mut self.request).is_err() {
            return Ok(Ok(false));
        }
        self.exchange(kind::CALL, 0)?;
        let result = marshal::scatter(fstat, &question, &self.reply, &mut scratch)?;
        if let -516..=-512 = result {
            return Ok(Err(result));
        }
        // struct stat { st_dev: u64, st_ino: u64, st_nlink: u64, st_mode: u32, … }
        let mode = u32::from_le_bytes(scratch.bytes[24..28].try_into().expect("four bytes"));
        Ok(Ok(result == 0 && mode & 0o170_000 == 0o100_000))
    }

    /// Sends `self.request` and waits for `self.reply`.
    fn exchange(&mut self, kind_of_call: u16, flags: u32) -> Result<()> {
        self.exchange_with(kind_of_call, flags, 0, |_| ())
    }

    /// As [`Worker::exchange`], and shows what is there of the reply, of some `expected` bytes, while the rest is on its
    /// way.
    fn exchange_with(
        &mut self,
        kind_of_call: u16,
        flags: u32,
        expected: u64,
        mut arrived: impl FnMut(&[u8]),
    ) -> Result<()> {
        let came_true = lock(&self.thread()?.foretold).end();
        let flags = flags | self.signals | came_true << TRUE_SHIFT;
        let header = Header { flags, ..Header::new(kind_of_call, self.thread()?.home_tid as u64) };
        let spin = SPIN + Duration::from_nanos(self.request.len() as u64 + expected).min(SPIN_FOR_DATA);
        faultpoint::reach(Point::HostCall);
        self.channel.send(header, &[IoSlice::new(&self.request)])?;
        while self.grants.owed() > 0 {
            self.hear_of_asked()?;
        }
        let answer = self.channel.recv_with(&mut self.reply, spin, |_, reply| arrived(reply))?;
        faultpoint::reach(Point::HostResult);
        if answer.kind != kind::RESULT {
            return Err(MessageError::Kind { found: answer.kind, expected: "the result of a call" }.into());
        }
        self.flags = answer.flags;
        self.grants.hear(answer.flags);
        self.grants.all_are_made();
        self.hold |= answer.flags & HOLD != 0;
        self.cut = answer.flags & CUT != 0;
        if answer.flags & FORETELLS != 0 { self.hear_foretold() } else { Ok(()) }
    }

    /// Has the home do something that is no system call.
    pub(crate) fn special(&mut self, special: &Special) -> Result<i64> {
        Ok(self.special_with(special)?.0)
    }

    /// The same, with the file of which the home says that it may be here too.
    pub(crate) fn special_with(&mut self, special: &Special) -> Result<(i64, Option<FileOffer>)> {
        self.request = message::encode(special);
        self.exchange(kind::SPECIAL, 0)?;
        let half = || Fault::Said("the home sent half a result".to_owned());
        let (head, offer) = self.reply.split_at_checked(marshal::REPLY_HEAD).ok_or_else(half)?;
        let result = i64::from_le_bytes(*head.first_chunk::<8>().ok_or_else(half)?);
        let offer = if offer.is_empty() { None } else { Some(message::decode_part(offer)?) };
        Ok((result, offer))
    }

    /// Answers a call, and returns when what is to be done has been done, before the guest's thread goes on.
    pub(crate) fn answer_after(&mut self, call: &Notification, work: Work, result: i64) -> Result<Answer> {
        let (done, worked) = mpsc::sync_channel(1);
        self.guest.interrupt(call.tid, Some(Job { work, done }))?;
        // A caller that is gone has been killed; the tracer sees it.
        let answered = self.listener.answer(call.id, result);
        answered.map_err(|error| Fault::Io("answer a call", error))?;
        // If nobody can say so any more, the guest has ended.
        let _ = worked.recv();
        Ok(Answer::Passed)
    }

    /// Answers a call whose result its thread gets by what is to be done before it goes on.
    pub(crate) fn answer_before(&mut self, call: &Notification, work: Work) -> Result<Answer> {
        let (done, _) = mpsc::sync_channel(1);
        self.guest.interrupt(call.tid, Some(Job { work, done }))?;
        // A caller that is gone has been killed; the tracer sees it.
        self.listener.answer(call.id, 0).map_err(|error| Fault::Io("answer a call", error))?;
        Ok(Answer::Passed)
    }

    /// Whose call it is.
    pub(crate) fn thread(&self) -> Result<Arc<GuestThread>> {
        let thread = self.thread.clone();
        thread.ok_or_else(|| Fault::Said("a thread made a call that nobody knows".to_owned()))
    }
}

/// −ERESTARTNOINTR: the call has not been begun, and will be made where the thread goes on.
const RESTART_THE_CALL: i64 = -513;

/// What one call may carry, bytes: the home's area, less the room for alignment that the marshaller may need.
const AREA: usize = DATA_PER_SLOT;

const FSTAT: u64 = 5;
const STAT_BYTES: usize = 144;
/// Where a call of our own has its one buffer.
const SCRATCH: u64 = 0x1000;

/// What a transfer in several parts comes to: the first failure counts only if nothing went before it.
fn partly(total: u64, result: i64) -> i64 {
    if total == 0 { result } else { total as i64 + result.max(0) }
}

/// Whether the call's data go to the kernel, as in a write.
fn sends_data(spec: &Spec) -> bool {
    spec.arguments.iter().any(|argument| match argument.kind {
        Kind::Data(data) => data.direction == Direction::In,
        Kind::Vector(direction, _) | Kind::Message(direction) | Kind::Messages(direction, _) => {
            direction == Direction::In
        }
        _ => false,
    })
}

/// The memory of a call that is made on our own behalf.
struct Scratch {
    bytes: Vec<u8>,
}

impl Scratch {
    fn range(&self, address: u64, length: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(address.checked_sub(SCRATCH)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.bytes.len()).then_some(start..end)
    }
}

impl marshal::Memory for Scratch {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let Some(range) = self.range(address, into.len()) else { return 0 };
        into.copy_from_slice(&self.bytes[range]);
        into.len()
    }

    fn write(&mut self, address: u64, from: &[u8]) -> usize {
        let Some(range) = self.range(address, from.len()) else { return 0 };
        self.bytes[range].copy_from_slice(from);
        from.len()
    }
}
