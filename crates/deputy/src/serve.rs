//! The threads that serve a guest: its calls, its missing pages, and the stream behind them.

use crate::agents::Agent;
use crate::eligible;
use crate::fault::{Fault, Result};
use crate::homecoming;
use crate::kept::Kept;
use crate::procself;
use crate::session::{Event, Shared, lock};
use crate::timed::Timed;
use minka_image::PAGE;
use minka_image::TASK_SIZE;
use minka_image::ranges::Ranges;
use minka_image::restart::{self, RESTART_SYSCALL};
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::pagemap::{Pagemap, Want};
use minka_kernel::process::Bell;
use minka_kernel::ring::Slot;
use minka_link::{Channel, Receiver, Sender};
use minka_syscalls::marshal::{self, Placed};
use minka_wire::frame::Header;
use minka_wire::message::{
    self, CONTINUED, FETCH_MAX, Fetch, HOLD, NOT_EXACT, ProcFile, RESTART, Special, kind,
};
use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long a thread polls its socket before it sleeps. A polled round trip costs a fraction of a blocking one;
/// polling longer than a call takes only burns a processor.
const SPIN: Duration = Duration::from_micros(50);

/// Bytes of pages per frame of the background stream: long enough to be quick, short enough that a demanded page
/// that comes meanwhile is not kept waiting at the host.
const STREAM_FRAME: u64 = 256 << 10;

/// What the stream's thread is nicer than others: it gets a third of what they get on the same processor.
const STREAM_NICE: i32 = 5;

/// −ERESTARTSYS: make the call again (see [`minka_image::restart`]).
const ERESTARTSYS: i64 = -512;
const EINTR: i64 = -4;

/// Performs forwarded calls, one at a time, in the order in which they come.
pub(crate) fn calls(shared: &Arc<Shared>, mut channel: Channel) -> Result<()> {
    let mut body = Vec::new();
    loop {
        let header = channel.recv(&mut body, SPIN)?;
        let Some(agent) = shared.agents.of(header.correlation as i32) else {
            // It has been killed here, and its guest will be.
            answer(&mut channel, &header, ERESTARTSYS)?;
            continue;
        };
        agent.busy.store(true, Ordering::SeqCst);
        let outcome = match header.kind {
            kind::CALL => perform(shared, &agent, &mut channel, &header, &body),
            kind::SPECIAL => special(shared, &agent, &mut channel, &header, &body),
            found => Err(message::MessageError::Kind { found, expected: "a call" }.into()),
        };
        agent.busy.store(false, Ordering::SeqCst);
        match outcome {
            Ok(()) => {}
            // The process ended, replaced its image or goes on at home: the main thread has seen it.
            Err(Fault::Over) => return Ok(()),
            // It has done what it was asked for, and so may its guest.
            Err(Fault::ThreadOver) => answer(&mut channel, &header, 0)?,
            Err(error) => return Err(error),
        }
    }
}

fn perform(
    shared: &Shared,
    agent: &Agent,
    channel: &mut Channel,
    header: &Header,
    body: &[u8],
) -> Result<()> {
    if shared.recalling.load(Ordering::SeqCst) && !is_rest_of_file_transfer(shared, header, body) {
        return answer(channel, header, ERESTARTSYS);
    }
    let mut slot = agent.slot();
    let address = slot.data_address();
    let placed = place(body, slot.data(), address).map_err(Fault::Malformed)?;
    if !shared.commit() {
        return Err(Fault::Over);
    }
    let call = u64::from(placed.number());
    let mut arguments = *placed.arguments();
    agent.signalled.store(false, Ordering::SeqCst);
    agent.temporary_mask.store(has_temporary_mask(&placed), Ordering::SeqCst);
    let resumable = Resumable::of(agent.tid, &placed, body, address, &shared.kept);
    let again = header.flags & RESTART != 0;
    let at_home = match &resumable {
        // Also if it is gone on with: what came home early in between may be older than the call.
        Some(resumable) => resumable.move_home(&mut arguments, shared, &mut slot)? || again,
        None => false,
    };
    let timed = Timed::of(agent, &placed, body, &mut slot);
    let waited = match &timed {
        Some(timed) => timed.shorten(&mut arguments, &mut slot)?,
        None => None,
    };
    let (number, arguments) = if again { (RESTART_SYSCALL, [0; 6]) } else { (call, arguments) };
    faultpoint::reach(Point::DeputyCall);
    let mut result = match waited {
        Some(result) => result,
        None => slot.call(number, arguments, Duration::ZERO)?,
    };
    faultpoint::reach(Point::DeputyCalled);
    agent.temporary_mask.store(false, Ordering::SeqCst);
    if let (Some(resumable), true) = (&resumable, at_home) {
        resumable.bring_back(shared, &mut slot);
    }
    if result == EINTR && restart::is_never_restarted(call) && !agent.signalled.load(Ordering::SeqCst) {
        // Our tracing interrupted it, or a signal that the program ignores: natively nothing would have.
        result = ERESTARTSYS;
    }
    if let (Some(timed), -514..=-512, false) = (timed, result, agent.signalled.load(Ordering::SeqCst)) {
        timed.interrupted(agent);
    }
    let data = slot.data();
    if shared.tracing.load(Ordering::Relaxed) {
        let line = minka_syscalls::render::call(placed.spec(), body, &placed, result, data);
        shared.daemon.trace(line);
    }
    // The result is known: from here on nothing waits in the kernel.
    agent.busy.store(false, Ordering::SeqCst);
    let reply = marshal::collect(&placed, result, data);
    let parts: Vec<IoSlice<'_>> = reply.parts().map(IoSlice::new).collect();
    Ok(channel.send(result_header(shared, header), &parts)?)
}

/// A call may have raised a signal for its own process, which natively would be taken before the call returns. Once
/// signals are blocked, in order to recall the guest, such a signal waits for it at home.
fn result_header(shared: &Shared, call: &Header) -> Header {
    let flags = if shared.recalling.load(Ordering::SeqCst) { HOLD } else { 0 };
    Header { flags, ..Header::new(kind::RESULT, call.correlation) }
}

/// Natively a transfer to or from a regular file is never cut short, so its parts stay together.
fn is_rest_of_file_transfer(shared: &Shared, header: &Header, body: &[u8]) -> bool {
    if header.flags & CONTINUED == 0 {
        return false;
    }
    // The first argument, behind the call's number.
    let Some(descriptor) = body.get(8..16).and_then(|bytes| bytes.first_chunk()) else { return false };
    let path = format!("/proc/{}/fd/{}", shared.pid, i32::from_le_bytes(*descriptor));
    std::fs::metadata(path).is_ok_and(|data| data.is_file())
}

/// A call that the kernel can go on with after an interruption, and for which it then remembers where one of the
/// program's buffers is: poll, nanosleep, clock_nanosleep. That must be the program's own address and not one in
/// the ring, because the call may be gone on with after the ring has gone.
#[derive(Debug)]
struct Resumable {
    /// Whose call it is.
    tid: i32,
    argument: usize,
    /// The program's buffer.
    own: u64,
    /// The same in the slot's data.
    offset: usize,
    length: usize,
}

impl Resumable {
    fn of(tid: i32, placed: &Placed, body: &[u8], area: u64, kept: &Kept) -> Option<Self> {
        const TIMESPEC: usize = 16;
        const POLLFD: u64 = 8;
        let (argument, length) = match placed.number() {
            7 => (0, placed.arguments()[1].checked_mul(POLLFD)? as usize),
            35 => (1, TIMESPEC),
            230 => (3, TIMESPEC),
            _ => return None,
        };
        let at = 8 + argument * 8;
        let own = u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?);
        let offset = usize::try_from(placed.arguments()[argument].checked_sub(area)?).ok()?;
        let inside = offset.checked_add(length)? <= minka_kernel::ring::DATA_PER_SLOT;
        (kept.allows(own, length as u64) && inside).then_some(Self { tid, argument, own, offset, length })
    }

    /// Has the call use the program's own buffer at home, if it can be had. Its content there is not needed: the
    /// guest has the page.
    fn move_home(&self, arguments: &mut [u64; 6], shared: &Shared, slot: &mut Slot) -> Result<bool> {
        let content = slot.data()[self.offset..self.offset + self.length].to_vec();
        shared.lent.lend(self.tid, self.own, self.length as u64);
        if shared.memory.write(self.own, &content) < content.len() {
            // New memory of the guest's that home does not have yet; on the way home it is mapped properly.
            const PRIVATE_ANONYMOUS_FIXED_NOREPLACE: u64 = 0x02 | 0x20 | 0x10_0000;
            const READ_WRITE: u64 = 3;
            let start = self.own & !(PAGE - 1);
            let length = (self.own + self.length as u64).next_multiple_of(PAGE) - start;
            let map = [start, length, READ_WRITE, PRIVATE_ANONYMOUS_FIXED_NOREPLACE, u64::MAX, 0];
            slot.call(crate::parked::call::MMAP, map, Duration::ZERO)?;
            if shared.memory.write(self.own, &content) < content.len() {
                shared.lent.take_back(self.tid);
                return Ok(false);
            }
        }
        arguments[self.argument] = self.own;
        Ok(true)
    }

    fn bring_back(&self, shared: &Shared, slot: &mut Slot) {
        shared.memory.read(self.own, &mut slot.data()[self.offset..self.offset + self.length]);
        shared.lent.take_back(self.tid);
    }
}

/// Forwarded calls, and those that the host handles by itself but that end at home.
fn place(body: &[u8], area: &mut [u8], address: u64) -> std::result::Result<Placed, marshal::Malformed> {
    match marshal::place(body, area, address) {
        Err(marshal::Malformed::NotForwarded(name)) if OWN_AT_HOME.contains(&name) => {
            marshal::place_own(body, area, address)
        }
        other => other,
    }
}

/// Calls with code of their own at the host that are performed at home in the end.
const OWN_AT_HOME: &[&str] =
    &["execve", "execveat", "exit", "exit_group", "restart_syscall", "getrusage", "times", "clock_gettime"];

fn has_temporary_mask(placed: &Placed) -> bool {
    placed.spec().temporary_mask().is_some_and(|argument| placed.arguments()[argument] != 0)
}

fn special(
    shared: &Shared,
    agent: &Agent,
    channel: &mut Channel,
    header: &Header,
    body: &[u8],
) -> Result<()> {
    if shared.recalling.load(Ordering::SeqCst) {
        return answer(channel, header, ERESTARTSYS);
    }
    let special = message::decode(header, body, kind::SPECIAL, "a special call")?;
    if !shared.commit() {
        return Err(Fault::Over);
    }
    let result = match special {
        Special::Mask { mask } => set_mask(agent, mask)?,
        Special::MapFile { arguments } => map_file(shared, agent, arguments)?,
        Special::Proc { file, flags } => snapshot(agent, proc_file(shared, &file).as_bytes(), flags)?,
        Special::MakeThread => make_thread(shared, agent)?,
        Special::EndThread { tid } => end_thread(shared, tid),
    };
    agent.busy.store(false, Ordering::SeqCst);
    reply(channel, result_header(shared, header), result)
}

/// Maps a file where the guest is going to have it too: privately, or shared for reading if nobody writes to it.
fn map_file(shared: &Shared, agent: &Agent, arguments: [u64; 6]) -> Result<i64> {
    const TYPE: u64 = 0x0f;
    const SHARED: u64 = 0x01;
    const PRIVATE: u64 = 0x02;
    const WRITE: u64 = 2;
    let [start, length, protection, flags, ..] = arguments;
    let kind = flags & TYPE;
    // Whoever wants its file over the vDSO, say, has to be at home for it.
    if !shared.kept.allows(start, length) || !(kind == PRIVATE || kind == SHARED && protection & WRITE == 0) {
        return Ok(NOT_EXACT);
    }
    let mut slot = agent.slot();
    let mut call = |number, arguments| slot.call(number, arguments, Duration::ZERO);
    let result = call(crate::parked::call::MMAP, arguments)?;
    if kind == SHARED && result as u64 == start {
        match eligible::lease_at(shared.pid, start) {
            Some(lease) => lock(&shared.leases).push(lease),
            None => {
                call(crate::parked::call::MUNMAP, [start, length, 0, 0, 0, 0])?;
                return Ok(NOT_EXACT);
            }
        }
    }
    Ok(result)
}

const SIG_SETMASK: u64 = 2;

fn set_mask(agent: &Agent, mask: u64) -> Result<i64> {
    let mut slot = agent.slot();
    slot.data()[..8].copy_from_slice(&mask.to_le_bytes());
    let data = slot.data_address();
    Ok(slot.call(crate::parked::call::RT_SIGPROCMASK, [SIG_SETMASK, data, 0, 8, 0, 0], Duration::ZERO)?)
}

/// Makes a thread, which the main thread of the deputy takes into the agent before the call returns.
fn make_thread(shared: &Shared, agent: &Agent) -> Result<i64> {
    /// `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM`. The words that tell a
    /// program of its threads are in its memory, so its guest's kernel writes those.
    const THREAD: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;
    let _making = lock(&shared.making_threads);
    if !shared.agents.have_room() {
        return Ok(NOT_EXACT);
    }
    let tid = agent.slot().call(crate::parked::call::CLONE, [THREAD, 0, 0, 0, 0, 0], Duration::ZERO)?;
    if tid > 0 {
        shared.want_lanes(shared.agents.count());
    }
    Ok(tid)
}

/// Ends a thread that could not be made on the host.
fn end_thread(shared: &Shared, tid: i32) -> i64 {
    const ESRCH: i64 = -3;
    let Some(agent) = shared.agents.of(tid).filter(|_| tid != shared.pid) else { return ESRCH };
    // The call never returns, whatever becomes of it.
    let _ = agent.slot().call(crate::parked::call::EXIT, [0; 6], Duration::ZERO);
    0
}

/// The text of a `/proc/self` file. What cannot be read at home is left as the guest has it.
fn proc_file(shared: &Shared, file: &ProcFile) -> String {
    let name = match file {
        ProcFile::Status { .. } => "status",
        ProcFile::Stat { .. } => "stat",
        ProcFile::Maps { .. } | ProcFile::Whole { .. } => "",
    };
    let home = if name.is_empty() {
        String::new()
    } else {
        std::fs::read_to_string(format!("/proc/{}/{name}", shared.pid)).unwrap_or_default()
    };
    let maps = minka_kernel::procfs::maps(shared.pid).unwrap_or_default();
    procself::merge(file, &home, &maps, shared.agents.ring().range())
}

/// A descriptor of the process that reads as `content`.
fn snapshot(agent: &Agent, content: &[u8], flags: u32) -> Result<i64> {
    const O_CLOEXEC: u32 = 0o2_000_000;
    const MFD_CLOEXEC: u64 = 1;
    use crate::parked::call;
    let mut slot = agent.slot();
    let data = slot.data_address();
    let name = b"proc\0";
    slot.data()[..name.len()].copy_from_slice(name);
    let cloexec = if flags & O_CLOEXEC != 0 { MFD_CLOEXEC } else { 0 };
    let mut make = |number, arguments| slot.call(number, arguments, Duration::ZERO);
    let fd = make(call::MEMFD_CREATE, [data, cloexec, 0, 0, 0, 0])?;
    if fd < 0 {
        return Ok(fd);
    }
    let length = content.len().min(minka_kernel::ring::DATA_PER_SLOT);
    slot.data()[..length].copy_from_slice(&content[..length]);
    let mut make = |number, arguments| slot.call(number, arguments, Duration::ZERO);
    make(call::WRITE, [fd as u64, data, length as u64, 0, 0, 0])?;
    make(call::LSEEK, [fd as u64, 0, 0, 0, 0, 0])?;
    Ok(fd)
}

fn answer(channel: &mut Channel, call: &Header, result: i64) -> Result<()> {
    reply(channel, Header::new(kind::RESULT, call.correlation), result)
}

fn reply(channel: &mut Channel, header: Header, result: i64) -> Result<()> {
    let mut body = [0; marshal::REPLY_HEAD];
    body[..8].copy_from_slice(&result.to_le_bytes());
    Ok(channel.send(header, &[IoSlice::new(&body)])?)
}

/// Sends the pages that a guest misses.
pub(crate) fn faults(shared: &Arc<Shared>, mut channel: Channel) -> Result<()> {
    let mut body = Vec::new();
    let mut pages = Vec::new();
    loop {
        let header = channel.recv(&mut body, SPIN)?;
        let Fetch { address, length } = message::decode(&header, &body, kind::FETCH, "a request for pages")?;
        let end = address.checked_add(u64::from(length)).filter(|end| *end <= TASK_SIZE);
        let whole = address.is_multiple_of(PAGE) && u64::from(length).is_multiple_of(PAGE);
        let (Some(end), true, 1..=FETCH_MAX) = (end, whole, length) else {
            return Err(Fault::Said(format!("the host asked for {length} bytes at {address:#x}")));
        };
        pages.resize(length as usize, 0);
        shared.memory.peek(address, &mut pages);
        lock(&shared.unsent).clear(address, end);
        shared.near.store(end, Ordering::Relaxed);
        faultpoint::reach(Point::DeputyFault);
        channel.send(Header::new(kind::PAGES, address), &[IoSlice::new(&pages)])?;
    }
}

/// Takes in the pages that come early, on the way home.
pub(crate) fn precopied(
    shared: &Arc<Shared>,
    (mut stream, events, bell): (Receiver, mpsc::SyncSender<Event>, Arc<Bell>),
) -> Result<()> {
    homecoming::write_early_pages(shared, &mut stream)?;
    // The main thread has gone if nobody receives it.
    let _ = events.send(Event::Precopied(stream));
    bell.ring();
    Ok(())
}

/// Tells the host which pages exist, then sends all of them that it has not asked for.
pub(crate) fn stream(shared: &Arc<Shared>, (mut sender, pid): (Sender, i32)) -> Result<()> {
    // Nobody waits for these pages, so they are not to take a processor from those who serve calls and faults, or from
    // other programs. Refused, it takes its turn.
    let _ = rustix::process::nice(STREAM_NICE);
    let present = scan(shared, pid)?;
    for batch in present.chunks(4096) {
        let words: Vec<u8> = batch
            .iter()
            .flat_map(|(start, end)| [start.to_le_bytes(), end.to_le_bytes()])
            .flatten()
            .collect();
        sender.send(Header::new(kind::PRESENT, 0), &[IoSlice::new(&words)])?;
    }
    sender.send(Header::new(kind::PRESENT_END, 0), &[])?;
    let mut pages = vec![0; STREAM_FRAME as usize];
    while !shared.recalling.load(Ordering::SeqCst) {
        let Some((start, end)) = take_next(shared) else { break };
        let content = &mut pages[..(end - start) as usize];
        shared.memory.peek(start, content);
        sender.send(Header::new(kind::PAGES, start), &[IoSlice::new(content)])?;
        faultpoint::reach(Point::DeputyStreamed);
    }
    Ok(sender.send(Header::new(kind::END, 0), &[])?)
}

/// The ranges of the image's areas that have content; what is left unsent is cut to them. Pages that are missing
/// from anonymous memory read as zeros.
fn scan(shared: &Shared, pid: i32) -> Result<Vec<(u64, u64)>> {
    let io = |error| Fault::Io("scan its page table", error);
    let pagemap = Pagemap::open(pid).map_err(io)?;
    let areas: Vec<(u64, u64)> = lock(&shared.unsent).iter().map(|(start, end, ())| (start, end)).collect();
    let mut present = Vec::new();
    for (start, end) in areas {
        for (start, end, from_file) in shared.from_files.pieces(start, end) {
            if from_file.is_some() {
                present.push((start, end));
            } else {
                pagemap.scan(start, end, Want::Present, |a, b| present.push((a, b))).map_err(io)?;
            }
        }
    }
    let mut unsent = lock(&shared.unsent);
    let mut left = Ranges::new();
    for (start, end) in &present {
        for (a, b, ()) in unsent.within(*start, *end) {
            left.set(a, b, ());
        }
    }
    *unsent = left;
    drop(unsent);
    Ok(present)
}

/// Takes the next piece to send: near the guest's last miss first, then round from there.
fn take_next(shared: &Shared) -> Option<(u64, u64)> {
    let mut unsent = lock(&shared.unsent);
    let near = shared.near.load(Ordering::Relaxed);
    let (start, end) = unsent.next_from(near).or_else(|| unsent.next_from(0))?;
    let end = end.min(start + STREAM_FRAME);
    unsent.clear(start, end);
    Some((start, end))
}
