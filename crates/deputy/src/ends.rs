//! The end of a process that moves with others: its own doing, or somebody's who kills it.
//!
//! It may come at any moment, and costs the others nothing. The process stays in the stop at the beginning of its end until
//! nothing is to be had of it any more:
//!
//! ```text
//!  before its guest stands still      the guest is ended, its host says so, the process ends
//!  after that, until all are at home  what the guest wrote of their common memory comes home ──► all have Written
//!                                     ──► the locks that it held are marked ──► the process ends
//!  after that                         it is an ordinary one
//! ```
//!
//! In the second case the others may have begun to read their pages in the belief that this guest tells of its own. The
//! process can make no calls, so its memory is not rearranged; but what it shares with others lies where it always did, and can
//! be written in that stop.

use crate::fault::{Fault, Result, chain};
use crate::homecoming::{Way, receive, write_pages};
use crate::kin::Kin;
use crate::parked::Parked;
use crate::session::Session;
use minka_image::family::Stage;
use minka_image::robust;
use minka_kernel::procfs::{self, Status};
use minka_kernel::ptrace::{self, End};
use minka_wire::message::{self, FromHome, FromHost, Leaving, MessageError, kind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const ESRCH: i32 = 3;
const SIGKILL: i32 = 9;

/// Whether the process is about to end, or has.
pub(crate) fn is_ending(pid: i32) -> bool {
    ptrace::is_ending(pid)
}

/// Whether something failed because the process is about to end, or has. What has been decided for its family may be why, too.
pub(crate) fn is_its_end(pid: i32, error: &Fault, kin: Option<&Kin>) -> bool {
    /// How long a process that has been killed may take to come to its end.
    const LIMIT: Duration = Duration::from_secs(5);
    let may_be = match error {
        Fault::Ending | Fault::Gone(_) => return true,
        Fault::Over | Fault::ThreadOver | Fault::Inject(_) => true,
        Fault::Trace(error) => error.raw_os_error() == Some(ESRCH),
        // Of one that is no more nothing can be read or written, either.
        _ => return is_ending(pid),
    };
    let until = Instant::now() + LIMIT;
    while may_be && Instant::now() < until {
        if is_ending(pid) {
            return true;
        }
        if kin.is_some_and(|kin| !kin.fate().is_open()) {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    false
}

/// Something failed in the middle of what cannot be left so: the process has been killed, which is most likely why, or is
/// ended now.
pub(crate) fn ended(pid: i32, error: &Fault) -> Fault {
    if is_its_end(pid, error, None) {
        see_out(pid);
        Fault::Gone(End::Killed(SIGKILL))
    } else {
        crate::parked::end(pid, error)
    }
}

/// Lets a process end that is about to, and takes notice of it.
pub(crate) fn see_out(pid: i32) {
    let is_ours = || Status::read(pid).is_ok_and(|status| status.tracer != 0);
    loop {
        // Each of its threads stops on its way out, in its own time.
        let others = procfs::tasks(pid).unwrap_or_default().into_iter().filter(|tid| *tid != pid);
        others.for_each(|tid| drop(ptrace::go_on(tid)));
        if ptrace::go_on(pid).is_err() || !is_ours() {
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// A process is about to end whose guest runs. Says so when that is over.
pub(crate) fn early(parked: &Parked, session: &mut Session) {
    if parked.sole.outlives() {
        if let Err(error) = bring_what_outlives(parked, session, Way::default()) {
            let (error, lost) = (chain(&error), parked.sole.what_is_lost());
            tracing::error!(pid = parked.pid, "it ended while it was at {}: {error}{lost}", session.node);
        }
    } else {
        session.end_guest_of_kin();
    }
    see_out(parked.pid);
}

/// A process has ended, or is about to, on its way home. Says so when that is over.
pub(crate) fn on_the_way(parked: &Parked, session: &mut Session, way: Way) -> Fault {
    let kin = session.shared.kin.clone();
    let outcome = match kin {
        Some(kin) if way.is_still => bring_what_is_shared(parked, session, &kin, way),
        _ if parked.sole.outlives() => bring_what_outlives(parked, session, way),
        _ => {
            session.end_guest_of_kin();
            Ok(())
        }
    };
    see_out(parked.pid);
    outcome.err().unwrap_or(Fault::Gone(End::Killed(SIGKILL)))
}

/// Brings home what others will find of it, if nobody else will.
fn bring_what_outlives(parked: &Parked, session: &mut Session, way: Way) -> Result<()> {
    let mut way = way;
    if let Err(error) = stop_guest(parked, session, &mut way) {
        session.end_guest_of_kin();
        return Err(error);
    }
    let patience = session.shared.patience;
    let Some(kin) = session.shared.kin.clone() else {
        return receive_what_is_shared(parked, session, &mut way, patience);
    };
    if !kin.is_ending() {
        session.end_guest_of_kin();
        return Ok(());
    }
    // Those of whom others have heard are ended first, and mark the locks that they held.
    kin.arrive(Stage::Still);
    kin.wait_for(Stage::Still, patience)?;
    session.say(&FromHome::Collect { all: true })?;
    write_for_all(parked, session, &kin, way)
}

/// Has the guest of a process stand still that makes no call any more.
fn stop_guest(parked: &Parked, session: &mut Session, way: &mut Way) -> Result<()> {
    session.shared.recalling.store(true, Ordering::SeqCst);
    session.shared.is_dying.store(true, Ordering::SeqCst);
    parked.agents.ring().end();
    if way.stream.is_none() {
        session.say(&FromHome::Recall)?;
        way.stream = Some(session.take_stream()?);
    }
    if session.shared.kin.is_none() || way.is_still {
        return Ok(());
    }
    let mut body = Vec::new();
    let header = receive(way.stream.as_mut().ok_or(Fault::Over)?, &mut body, session.shared.patience)?;
    match message::decode(&header, &body, kind::FROM_HOST, "the guest's state")? {
        FromHost::Still => way.is_still = true,
        other => return Err(Fault::Said(format!("the host sent {} before the pages", other.name()))),
    }
    Ok(())
}

/// Brings home what the guest wrote of the memory that others have, too, with the marks of its end.
fn bring_what_is_shared(parked: &Parked, session: &mut Session, kin: &Kin, way: Way) -> Result<()> {
    if !way.has_collected {
        kin.wait_for(Stage::Still, session.shared.patience)?;
        session.collect(kin)?;
    }
    write_for_all(parked, session, kin, way)
}

/// Writes what comes of the memory that others have, too, and then, as no older page can follow, the marks of its end.
fn write_for_all(parked: &Parked, session: &Session, kin: &Kin, way: Way) -> Result<()> {
    let mut way = way;
    let patience = session.shared.patience;
    receive_what_is_shared(parked, session, &mut way, patience)?;
    kin.meet(Stage::Written, patience)?;
    if let Some(leaving) = &way.leaving {
        mark(parked, leaving);
    }
    kin.arrive(Stage::Returned);
    Ok(())
}

/// Writes the pages that come home, as far as others have them or will find them.
fn receive_what_is_shared(
    parked: &Parked,
    session: &Session,
    way: &mut Way,
    patience: Duration,
) -> Result<()> {
    let mut body = Vec::new();
    while !way.has_all {
        let header = receive(way.stream.as_mut().ok_or(Fault::Over)?, &mut body, patience)?;
        match header.kind {
            kind::PAGES => {
                session.commit()?;
                for (start, end) in parked.sole.within(header.correlation, body.len() as u64) {
                    let from = (start - header.correlation) as usize..(end - header.correlation) as usize;
                    write_pages(parked, start, &body[from])?;
                }
            }
            kind::FROM_HOST => match way.said(&header, &body)? {
                None => {}
                Some(FromHost::Leaving(found)) => way.leaving = Some(found),
                Some(other) => {
                    return Err(Fault::Said(format!("the host sent {} with the pages", other.name())));
                }
            },
            kind::END => way.has_all = true,
            found => return Err(MessageError::Kind { found, expected: "pages" }.into()),
        }
    }
    Ok(())
}

/// Marks the locks that its threads held, as the kernel does when they end: the others find that their owner has died. They
/// do not run, so nobody waits there.
fn mark(parked: &Parked, leaving: &Leaving) {
    for (tid, address) in &leaving.locks {
        let is_shared = parked.sole.within(*address, 4) == [(*address, address.saturating_add(4))];
        let mut word = [0; 4];
        if !is_shared || parked.memory.peek(*address, &mut word) != word.len() {
            continue;
        }
        if let Some(marked) = robust::owner_died(u32::from_le_bytes(word), *tid) {
            // What could be read can be written.
            let _ = parked.memory.poke(*address, &marked.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minka_kernel::ptrace::{Options, Running};
    use std::process::{Command, Stdio};

    #[test]
    #[ignore = "it is what the other test sees out"]
    fn sleeps_in_a_thread() {
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn all_threads_are_let_go_whenever_they_come_to_their_end() {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command.args(["--ignored", "--exact", "ends::tests::sleeps_in_a_thread", "--test-threads=2"]);
        let mut child = command.stdout(Stdio::null()).spawn().expect("start ourselves");
        let pid = child.id().cast_signed();
        while procfs::tasks(pid).is_ok_and(|tasks| tasks.len() < 2) {
            std::thread::yield_now();
        }
        let (traced, is_traced) = std::sync::mpsc::channel();
        let tracer = std::thread::spawn(move || {
            let tasks = procfs::tasks(pid).expect("list the threads");
            let seize = |tid| Running::seize(tid, Options::TRACE_EXIT).expect("seize");
            let _running: Vec<Running> = tasks.into_iter().map(seize).collect();
            traced.send(()).expect("somebody waits");
            assert!(!is_ending(pid) && !is_its_end(pid, &Fault::CannotStop, None));
            // It begins while none of them has stopped.
            see_out(pid);
            assert!(is_its_end(pid, &Fault::Over, None));
        });
        is_traced.recv().expect("the tracer");
        std::thread::sleep(Duration::from_millis(50));
        child.kill().expect("kill");
        tracer.join().expect("it is seen out");
        // Its tracer may have waited for it already.
        let _ = child.wait();
        assert!(procfs::tasks(pid).is_err());
    }
}
