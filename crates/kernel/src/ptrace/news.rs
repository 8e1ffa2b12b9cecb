//! What this thread's tasks have to tell, and nobody has asked for yet.
//!
//! The kernel says nothing of the end of a process's main thread before its tracer has taken notice of the end of all
//! others. Whoever waits for the main thread alone, of a process that is killed meanwhile, would wait for ever. So
//! waiting takes whatever news there are, and keeps those of other tasks for whoever asks for them.

use crate::check;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;

thread_local! {
    /// Statuses as `waitpid` gives them, by task, the oldest first. A task is its tracer's, which is a thread.
    static KEPT: RefCell<BTreeMap<i32, VecDeque<i32>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Any task that this thread traces, but no child that it does not.
const TRACED_BY_THIS_THREAD: i32 = libc::__WCLONE | libc::__WNOTHREAD;

/// The next news of a task; waits for them.
pub(super) fn wait(tid: i32) -> io::Result<i32> {
    loop {
        // Fails if there is no such task.
        if let Some(status) = look(tid)? {
            return Ok(status);
        }
        take(0)?;
    }
}

/// The next news of a task, if there are any.
pub(super) fn look(tid: i32) -> io::Result<Option<i32>> {
    match kept(tid) {
        Some(status) => Ok(Some(status)),
        None => Ok(waitpid(tid, libc::WNOHANG | libc::__WALL)?.map(|(_, status)| status)),
    }
}

/// Takes notice of all that there is to tell, and says what that is of a task; it is kept.
pub(super) fn peek(tid: i32) -> io::Result<Option<i32>> {
    while take(libc::WNOHANG)? {}
    KEPT.with_borrow(|kept| Ok(kept.get(&tid).and_then(|news| news.front().copied())))
}

/// Takes notice of all that there is to tell, and says whether any of that is of a kind, of a task; it is kept.
pub(super) fn any(tid: i32, is_meant: impl Fn(i32) -> bool) -> io::Result<bool> {
    while take(libc::WNOHANG)? {}
    Ok(KEPT
        .with_borrow(|kept| kept.get(&tid).is_some_and(|news| news.iter().any(|status| is_meant(*status)))))
}

/// Has something told again, before anything else of that task.
pub(super) fn tell_again(tid: i32, status: i32) {
    KEPT.with_borrow_mut(|kept| kept.entry(tid).or_default().push_front(status));
}

/// A task is another one from now on than what was told under its number before.
pub(super) fn forget(tid: i32) {
    KEPT.with_borrow_mut(|kept| kept.remove(&tid));
}

fn kept(tid: i32) -> Option<i32> {
    KEPT.with_borrow_mut(|kept| {
        let news = kept.get_mut(&tid)?;
        let status = news.pop_front();
        if news.is_empty() {
            kept.remove(&tid);
        }
        status
    })
}

/// Keeps the next news of any task. False if there are none.
fn take(flags: i32) -> io::Result<bool> {
    let news = waitpid(-1, flags | TRACED_BY_THIS_THREAD)?;
    if let Some((tid, status)) = news {
        KEPT.with_borrow_mut(|kept| kept.entry(tid).or_default().push_back(status));
    }
    Ok(news.is_some())
}

fn waitpid(tid: i32, flags: i32) -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` lives over the call.
        match check(i64::from(unsafe { libc::waitpid(tid, &raw mut status, flags) })) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) => return Ok(None),
            found => return Ok(Some((found? as i32, status))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::procfs;
    use crate::ptrace::{self, End, Options, Running, Stop, Waited};
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    #[ignore = "it is what the other test waits for"]
    fn sleeps_in_a_thread() {
        std::thread::sleep(Duration::from_secs(60));
    }

    #[test]
    fn one_that_is_about_to_end_stays_until_it_is_let_go() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("start");
        let tid = child.id().cast_signed();
        let running = Running::seize(tid, Options::TRACE_EXIT).expect("seize");
        running.interrupt().expect("interrupt");
        let Waited::Stopped(stopped, Stop::Interrupt) = running.wait().expect("wait") else {
            panic!("no stop")
        };
        assert!(!ptrace::is_ending(tid));
        // Killed in its stop, it goes on to the next by itself.
        child.kill().expect("kill");
        while !ptrace::is_ending(tid) {
            std::thread::yield_now();
        }
        let running = stopped.resume(0).expect("it is seen where it is");
        for _ in 0..3 {
            assert!(ptrace::keep_going(tid).is_err());
        }
        let Waited::Stopped(stopped, Stop::Exit) = running.wait().expect("wait") else { panic!("no stop") };
        stopped.leave_ending();
        assert!(ptrace::is_ending(tid) && std::fs::metadata(format!("/proc/{tid}/mem")).is_ok());
        while ptrace::go_on(tid).is_ok() {
            std::thread::yield_now();
        }
        // Its tracer has waited for it already.
        let _ = child.wait();
    }

    #[test]
    fn the_end_of_a_main_thread_is_heard_of_by_whoever_waits_for_nothing_else() {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command.args(["--ignored", "--exact", "ptrace::news::tests::sleeps_in_a_thread", "--test-threads=2"]);
        let mut child = command.stdout(Stdio::null()).spawn().expect("start ourselves");
        let pid = child.id().cast_signed();
        while procfs::tasks(pid).is_ok_and(|tasks| tasks.len() < 2) {
            std::thread::yield_now();
        }
        let (told, tells) = mpsc::channel();
        let (traced, is_traced) = mpsc::channel();
        std::thread::spawn(move || {
            let mut tasks = procfs::tasks(pid).expect("list the threads");
            tasks.sort_unstable();
            let tasks = tasks.into_iter().map(|tid| Running::seize(tid, Options::NONE).expect("seize"));
            let mut tasks: Vec<Running> = tasks.collect();
            traced.send(()).expect("somebody waits");
            let main = tasks.remove(0).wait().expect("wait for the main thread");
            let others = tasks.into_iter().map(|task| task.try_wait().expect("look after another"));
            told.send((main, others.collect::<Vec<Waited>>())).expect("somebody waits");
        });
        is_traced.recv().expect("the tracer");
        child.kill().expect("kill");
        let (main, others) = tells.recv_timeout(Duration::from_secs(10)).expect("the end is heard of");
        assert!(matches!(main, Waited::Gone(End::Killed(libc::SIGKILL))), "{main:?}");
        assert!(others.iter().all(|other| matches!(other, Waited::Gone(_))), "{others:?}");
        // Its tracer has waited for it already.
        let _ = child.wait();
    }
}
