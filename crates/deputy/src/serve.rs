//! The threads that serve a guest's calls.

use crate::agents::{Agent, Busy};
use crate::ahead;
use crate::behind;
use crate::early::Early;
use crate::eligible;
use crate::fault::{Fault, Result};
use crate::offer;
use crate::part;
use crate::procself;
use crate::reach::{self, Area};
use crate::resumable::Resumable;
use crate::session::{Shared, lock};
use crate::shorten::shortens;
use crate::timed::Timed;
use crate::writebehind;
use minka_image::restart::{self, RESTART_SYSCALL};
use minka_kernel::faultpoint::{self, Point};
use minka_link::Channel;
use minka_syscalls::marshal::{self, Placed, Read, Started};
use minka_wire::frame::Header;
use minka_wire::message::{self, BEHIND, CUT, FORETELLS, HOLD, NOT_EXACT, ProcFile, RESTART, Special, kind};
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a thread polls its socket before it sleeps. A polled round trip costs a fraction of a blocking one;
/// polling longer than a call takes only burns a processor.
pub(crate) const SPIN: Duration = Duration::from_micros(50);

/// How much longer it polls at most after a call that brought long data.
const SPIN_FOR_DATA: Duration = Duration::from_micros(300);

/// −ERESTARTNOINTR: the call has not been begun; make it again (see [`minka_image::restart`]).
const ERESTARTNOINTR: i64 = -513;
/// −ERESTARTNOHAND: make it again, unless a handler has run.
const ERESTARTNOHAND: i64 = -514;
const EINTR: i64 = -4;
const EPERM: i64 = -1;

/// Performs forwarded calls, one at a time, in the order in which they come.
pub(crate) fn calls(shared: &Arc<Shared>, mut channel: Channel) -> Result<()> {
    let mut body = Vec::new();
    let mut next: Option<Header> = None;
    loop {
        let mut early = Early::default();
        // Long data mostly come one after the other: the next are gathered in about this time.
        let spin = SPIN + Duration::from_nanos(body.len() as u64 / 4).min(SPIN_FOR_DATA);
        let header = match next.take() {
            Some(header) => header,
            None => channel
                .recv_with(&mut body, spin, |header, begin| early.arrived(&shared.agents, header, begin))?,
        };
        let is_behind = header.kind == kind::CALL && header.flags & BEHIND != 0;
        let Some(agent) = shared.agents.caller(&header) else {
            // It has been killed here, and its guest will be.
            if is_behind || header.kind == kind::DATA {
                continue;
            }
            answer(&mut channel, &header, ERESTARTNOINTR)?;
            continue;
        };
        let busy = agent.begin_call();
        lock(&shared.ahead).heard(&header);
        let outcome = match header.kind {
            kind::CALL if is_behind => {
                let written = writebehind::perform(shared, &agent, &mut channel, header, &mut body);
                drop(busy);
                written.map(|following| next = following)
            }
            kind::CALL => perform(shared, &agent, busy, &mut channel, &header, &body, &early),
            kind::SPECIAL => special(shared, &agent, busy, &mut channel, &header, &body),
            found => Err(message::MessageError::Kind { found, expected: "a call" }.into()),
        };
        match outcome {
            Ok(()) => {}
            // The process has ended, and nobody waits for an answer.
            Err(Fault::ThreadOver) if is_behind => {}
            Err(Fault::Over) if is_behind && shared.is_dying.load(Ordering::SeqCst) => {}
            // It is about to end, but what it has written is still to come: its guest stands still for that.
            Err(Fault::Over) if shared.is_dying.load(Ordering::SeqCst) => hold(&mut channel, &header)?,
            // The process ended, replaced its image or goes on at home: the main thread has seen it.
            Err(Fault::Over) => return Ok(()),
            // It has done what it was asked for, and so may its guest.
            Err(Fault::ThreadOver) => answer(&mut channel, &header, 0)?,
            Err(error) => return Err(error),
        }
    }
}

/// Performs a call. The agent is no longer in it when the answer goes out, for the next one may follow at once, and be
/// served by another thread.
fn perform(
    shared: &Shared,
    agent: &Arc<Agent>,
    busy: Busy,
    channel: &mut Channel,
    header: &Header,
    body: &[u8],
    early: &Early,
) -> Result<()> {
    shared.gate.pass();
    let recalling = shared.recalling.load(Ordering::SeqCst);
    shared.write_behind.before(body);
    let busy = match read_ahead(shared, agent, busy, channel, header, body)? {
        Some(busy) => busy,
        None => return Ok(()),
    };
    let failed = shared.write_behind.error_for(shared.pid, body);
    if let Some(error) = failed.filter(|_| !writebehind::closes(body)) {
        shared.write_behind.has_told(body);
        drop(busy);
        return answer(channel, header, error);
    }
    let mut slot = agent.slot();
    let address = slot.data_address();
    let started = early.valid(agent, &slot);
    let placed = place(body, slot.data(), address, started).map_err(Fault::Malformed)?;
    let call = u64::from(placed.number());
    let may_wait = placed.spec().resolve(placed.arguments()).marks.blocks;
    if recalling && !may_wait {
        // Signals are blocked that the program does not block: it would be wrong to tell it of them, or to drop them.
        drop((slot, busy));
        return answer(channel, header, ERESTARTNOINTR);
    }
    let area = Area { address, bytes: slot.data() };
    let reached = if !shared.sole.is_empty() && reaches(shared, agent.tid, &placed, area) {
        Some("its shared memory")
    } else {
        shortens(shared.pid, agent.tid, &placed, area).then_some("a file that it maps")
    };
    if let Some(what) = reached {
        drop((slot, busy));
        shared.needs_home(format!("{} of {what}", placed.spec().name));
        return hold(channel, header);
    }
    if !shared.commit() {
        return Err(Fault::Over);
    }
    let mut arguments = *placed.arguments();
    shared.daemon.count_call();
    agent.heed_signals(header, recalling);
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
        Some(timed) => timed.shorten(&mut arguments, &mut slot, |slot, number, arguments| {
            agent.call(slot, number, arguments, || shared.call_is_late(agent.tid))
        })?,
        None => None,
    };
    let (number, arguments) = if again { (RESTART_SYSCALL, [0; 6]) } else { (call, arguments) };
    let turned_away = shared.sole.turned_away();
    faultpoint::reach(Point::DeputyCall);
    let mut result = match waited {
        Some(result) => result,
        // A signal that is pending comes before it, as natively.
        None if !may_wait => agent.call_at_once(&mut slot, number, arguments)?,
        None => agent.call(&mut slot, number, arguments, || shared.call_is_late(agent.tid))?,
    };
    faultpoint::reach(Point::DeputyCalled);
    agent.temporary_mask.store(false, Ordering::SeqCst);
    if let (Some(error), 0..) = (failed, result) {
        // The descriptor is closed all the same.
        result = error;
        shared.write_behind.has_told(body);
    }
    if result == EPERM && shared.sole.turned_away() != turned_away {
        // Nothing has been done. (Nor by a call of another thread, if that was it.)
        drop((slot, busy));
        shared.needs_home(format!("{} opens its shared memory", placed.spec().name));
        return hold(channel, header);
    }
    if let (Some(resumable), true) = (&resumable, at_home) {
        resumable.bring_back(shared, &mut slot);
    }
    if result == EINTR && restart::is_never_restarted(call, &arguments) && !agent.is_signalled() {
        // Our tracing interrupted it, or a signal that the program ignores: natively nothing would have.
        result = ERESTARTNOHAND;
    }
    if let (Some(timed), -514..=-512, false) = (timed, result, agent.is_signalled()) {
        timed.interrupted(agent);
    }
    let cut =
        (shared.recalling.load(Ordering::SeqCst) || agent.is_call_ended()) && !agent.is_signalled() && {
            let area = &*slot.data();
            is_cut_short(shared.pid, &placed, result, (address, area))
        };
    let data = slot.data();
    if shared.tracing.load(Ordering::Relaxed) {
        let line = minka_syscalls::render::call(placed.spec(), body, &placed, result, data);
        shared.daemon.trace(line);
    }
    if (-511..0).contains(&result) {
        // What a call writes that fails is of no length to speak of.
        let mut parts = Vec::new();
        marshal::collect(&placed, result, data).append_to(&mut parts);
        let foretold = ahead::foretell(shared, agent, &mut slot, body, result)?;
        let granted = grants(shared, agent, body, result);
        drop(busy);
        let mut header = result_header(shared, header);
        header.flags |= granted;
        if foretold.is_empty() {
            return Ok(channel.send(header, &[IoSlice::new(&parts)])?);
        }
        let length = (foretold.len() as u32).to_le_bytes();
        let parts = [&parts[..], &foretold, &length].map(IoSlice::new);
        return Ok(channel.send(Header { flags: header.flags | FORETELLS, ..header }, &parts)?);
    }
    lock(&shared.ahead).done(body, result);
    lock(&shared.read_ahead).after(body, result);
    let granted = grants(shared, agent, body, result);
    let reply = marshal::collect(&placed, result, data);
    drop(busy);
    let parts: Vec<IoSlice<'_>> = reply.parts().map(IoSlice::new).collect();
    let mut header = result_header(shared, header);
    header.flags |= granted;
    channel.send_awaited(Header { flags: header.flags | if cut { CUT } else { 0 }, ..header }, &parts)?;
    drop(parts);
    drop(reply);
    drop(slot);
    if reads_ahead(shared, agent) {
        lock(&shared.read_ahead).go_on(shared.pid, body, &shared.promises);
    }
    Ok(())
}

/// Whether calls may be answered without having been made. Whoever looks at calls is to see all of them.
fn reads_ahead(shared: &Shared, agent: &Agent) -> bool {
    shared.agents.count() == 1
        && shared.kin.is_none()
        && !shared.recalling.load(Ordering::SeqCst)
        && !shared.tracing.load(Ordering::Relaxed)
        && !agent.is_signalled()
}

/// Whether writes may be taken for made before they are.
pub(crate) fn grants_writes(shared: &Shared, agent: &Agent) -> bool {
    reads_ahead(shared, agent) && shared.sole.is_empty()
}

/// What the flags of an answer say of writes that need not be waited for.
fn grants(shared: &Shared, agent: &Agent, body: &[u8], result: i64) -> u32 {
    if grants_writes(shared, agent) {
        return shared.write_behind.after(shared.pid, body, result);
    }
    shared.write_behind.forget();
    0
}

/// Answers a call that finds its data read; gives `busy` back for any other.
fn read_ahead(
    shared: &Shared,
    agent: &Arc<Agent>,
    busy: Busy,
    channel: &mut Channel,
    header: &Header,
    body: &[u8],
) -> Result<Option<Busy>> {
    let mut ahead = lock(&shared.read_ahead);
    if shared.agents.count() > 1 {
        ahead.forget();
    } else {
        ahead.before(body);
    }
    agent.heed_signals(header, shared.recalling.load(Ordering::SeqCst));
    if header.flags & RESTART != 0 || !reads_ahead(shared, agent) || !shared.commit() {
        return Ok(Some(busy));
    }
    let Some(data) = ahead.read(shared.pid, body) else { return Ok(Some(busy)) };
    shared.daemon.count_call();
    drop(busy);
    let result = data.len() as u32;
    let head = Read::reply_head(result);
    let parts = [&head[..], data].map(IoSlice::new);
    let mut header = result_header(shared, header);
    header.flags |= grants(shared, agent, body, i64::from(result));
    channel.send_awaited(header, &parts)?;
    lock(&shared.ahead).done(body, i64::from(result));
    ahead.after(body, i64::from(result));
    ahead.go_on(shared.pid, body, &shared.promises);
    Ok(None)
}

/// Whether a call would find at home, old, the shared memory that is away.
fn reaches(shared: &Shared, tid: i32, placed: &Placed, area: Area<'_>) -> bool {
    struct Of<'a>(&'a Shared, i32);
    impl reach::Descriptors for Of<'_> {
        fn is_behind(&self, descriptor: i32) -> bool {
            self.0.sole.is_behind(self.1, descriptor)
        }
        fn leads_there(&self, descriptor: i32) -> bool {
            let link = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", self.1));
            link.is_ok_and(|target| target.starts_with("/proc"))
        }
        fn outlives(&self) -> bool {
            self.0.sole.outlives()
        }
        fn is_on_disk(&self) -> bool {
            self.0.sole.is_on_disk()
        }
        fn is_last_thread(&self) -> bool {
            self.0.agents.count() == 1
        }
    }
    reach::reaches(placed, area, &Of(shared, tid))
}

/// Whether a call that sends data would have gone on but for the recall. `area` is where its data are, and their address.
fn is_cut_short(pid: i32, placed: &Placed, result: i64, (address, area): (u64, &[u8])) -> bool {
    let read = |at: u64, into: &mut [u8]| {
        let from = at.checked_sub(address).and_then(|at| area.get(at as usize..)?.get(..into.len()));
        from.map(|from| into.copy_from_slice(from)).is_some()
    };
    let (call, arguments) = (u64::from(placed.number()), placed.arguments());
    match (result, part::wanted(call, arguments, read)) {
        (-516..=-512, Some(_)) => true,
        (1.., Some(wanted)) => result.unsigned_abs() < wanted && part::waits_for_room(pid, call, arguments),
        _ => false,
    }
}

/// A call may have raised a signal for its own process, which natively would be taken before the call returns. Once
/// signals are blocked, in order to recall the guest, such a signal waits for it at home.
fn result_header(shared: &Shared, call: &Header) -> Header {
    // And what may have been done before its file was cut short it must not do afterwards.
    let is_held = shared.recalling.load(Ordering::SeqCst) || shared.sole.has_changed();
    let flags = if is_held { HOLD } else { 0 };
    Header { flags, ..Header::new(kind::RESULT, call.correlation) }
}

/// Forwarded calls, and those that the host handles by itself but that end at home.
fn place(
    body: &[u8],
    area: &mut [u8],
    address: u64,
    started: Started,
) -> std::result::Result<Placed, marshal::Malformed> {
    match marshal::place_started(body, area, address, started) {
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
    busy: Busy,
    channel: &mut Channel,
    header: &Header,
    body: &[u8],
) -> Result<()> {
    let special = message::decode(header, body, kind::SPECIAL, "a special call")?;
    shared.gate.pass();
    if shared.recalling.load(Ordering::SeqCst) && !matches!(special, Special::EndThread { .. }) {
        drop(busy);
        return answer(channel, header, ERESTARTNOINTR);
    }
    if !shared.commit() {
        return Err(Fault::Over);
    }
    shared.write_behind.forget();
    let mut common = None;
    let result = match special {
        Special::Mask { mask } => set_mask(agent, mask)?,
        Special::MapFile { arguments } => {
            let result = map_file(shared, agent, arguments)?;
            lock(&shared.given_back).clear(arguments[0], arguments[0].saturating_add(arguments[1]));
            if result as u64 == arguments[0] && looks_like_a_loaders(&arguments) {
                common = offer::open_file(shared.pid, arguments[4] as i32, &mut lock(&shared.digests));
            }
            result
        }
        Special::Proc { file, flags } => snapshot(agent, proc_file(shared, &file).as_bytes(), flags)?,
        Special::MakeThread => make_thread(shared, agent)?,
        Special::EndThread { tid } => end_thread(shared, tid),
    };
    drop(busy);
    let header = result_header(shared, header);
    match common {
        Some(file) => {
            let head = result_head(result);
            Ok(channel.send(header, &[IoSlice::new(&head), IoSlice::new(&message::encode(&file))])?)
        }
        None => reply(channel, header, result),
    }
}

/// Whether a file is mapped as loaders do it. Such files are mostly there on other nodes too, and worth being compared.
fn looks_like_a_loaders([_, _, protection, flags, ..]: &[u64; 6]) -> bool {
    const PRIVATE: u64 = 0x02;
    const TYPE: u64 = 0x0f;
    const DENYWRITE: u64 = 0x800;
    const EXEC: u64 = 4;
    flags & TYPE == PRIVATE && (flags & DENYWRITE != 0 || protection & EXEC != 0)
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
    if behind::would_reach_behind(shared.pid, arguments) {
        return Ok(NOT_EXACT);
    }
    if shared.sole.is_behind(agent.tid, arguments[4] as i32) {
        return Ok(NOT_EXACT);
    }
    let mut slot = agent.slot();
    let mut call = |number, arguments| slot.call(number, arguments);
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
    Ok(slot.call(crate::parked::call::RT_SIGPROCMASK, [SIG_SETMASK, data, 0, 8, 0, 0])?)
}

/// Makes a thread, which the main thread of the deputy takes into the agent before the call returns.
fn make_thread(shared: &Shared, agent: &Agent) -> Result<i64> {
    lock(&shared.read_ahead).forget();
    /// `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM`. The words that tell a
    /// program of its threads are in its memory, so its guest's kernel writes those.
    const THREAD: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;
    let _making = lock(&shared.making_threads);
    if !shared.agents.have_room() {
        return Ok(NOT_EXACT);
    }
    let tid = agent.slot().call(crate::parked::call::CLONE, [THREAD, 0, 0, 0, 0, 0])?;
    if tid > 0 {
        shared.want_lanes(shared.agents.count());
    }
    Ok(tid)
}

/// Ends a thread that could not be made on the host.
fn end_thread(shared: &Shared, tid: i32) -> i64 {
    const ESRCH: i64 = -3;
    let Some(agent) = shared.agents.of(tid).filter(|_| tid != shared.pid) else { return ESRCH };
    agent.end();
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
    let mut make = |number, arguments| slot.call(number, arguments);
    let fd = make(call::MEMFD_CREATE, [data, cloexec, 0, 0, 0, 0])?;
    if fd < 0 {
        return Ok(fd);
    }
    let length = content.len().min(minka_kernel::ring::DATA_PER_SLOT);
    slot.data()[..length].copy_from_slice(&content[..length]);
    let mut make = |number, arguments| slot.call(number, arguments);
    make(call::WRITE, [fd as u64, data, length as u64, 0, 0, 0])?;
    make(call::LSEEK, [fd as u64, 0, 0, 0, 0, 0])?;
    Ok(fd)
}

/// A call that is made again when the process is at home; until then its thread stands still.
fn hold(channel: &mut Channel, call: &Header) -> Result<()> {
    let held = Header { flags: HOLD, ..Header::new(kind::RESULT, call.correlation) };
    reply(channel, held, ERESTARTNOINTR)
}

fn answer(channel: &mut Channel, call: &Header, result: i64) -> Result<()> {
    reply(channel, Header::new(kind::RESULT, call.correlation), result)
}

fn reply(channel: &mut Channel, header: Header, result: i64) -> Result<()> {
    Ok(channel.send(header, &[IoSlice::new(&result_head(result))])?)
}

fn result_head(result: i64) -> [u8; marshal::REPLY_HEAD] {
    let mut head = [0; marshal::REPLY_HEAD];
    head[..8].copy_from_slice(&result.to_le_bytes());
    head
}
