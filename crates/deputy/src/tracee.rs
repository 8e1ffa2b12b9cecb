//! The original process under our tracing, as the deputy's main thread handles it.

use crate::eligible::{self, Reason};
use crate::fault::{Fault, Result};
use minka_image::registers::NO_SYSCALL;
use minka_kernel::procfs::{self, Stat, Status};
use minka_kernel::ptrace::{Options, Running, Stop, Stopped, Waited};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Every signal but SIGTRAP, with which single steps end: blocked, the kernel would reset its handler.
pub(crate) const BLOCK_ALL: u64 = !(1 << (libc_signal::TRAP - 1));

/// Signal numbers of x86-64 that are treated by name.
pub(crate) mod libc_signal {
    pub(crate) const QUIT: i32 = 3;
    pub(crate) const ILL: i32 = 4;
    pub(crate) const TRAP: i32 = 5;
    pub(crate) const ABRT: i32 = 6;
    pub(crate) const BUS: i32 = 7;
    pub(crate) const FPE: i32 = 8;
    pub(crate) const KILL: i32 = 9;
    pub(crate) const SEGV: i32 = 11;
    pub(crate) const CHLD: i32 = 17;
    pub(crate) const CONT: i32 = 18;
    pub(crate) const STOP: i32 = 19;
    pub(crate) const TSTP: i32 = 20;
    pub(crate) const TTIN: i32 = 21;
    pub(crate) const TTOU: i32 = 22;
    pub(crate) const URG: i32 = 23;
    pub(crate) const XCPU: i32 = 24;
    pub(crate) const XFSZ: i32 = 25;
    pub(crate) const WINCH: i32 = 28;
    pub(crate) const SYS: i32 = 31;
}

/// How long a process may take to stop. It cannot while it waits in the kernel uninterruptibly (a `vfork` whose
/// child has not called `execve` yet, a disk that does not answer).
const STOP_LIMIT: Duration = Duration::from_millis(1500);

/// The same of one that is ready to run: it stops as soon as it gets a processor, and where many want one that takes its
/// time. Some kernels keep one waiting for half a minute, and where its guest has had an effect it would be lost.
const STARVED_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether one has stopped that takes that long.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// How long it is polled for its stop, which mostly takes less.
const POLLED: Duration = Duration::from_micros(50);

/// What its tracer is told of a process that runs its program.
pub(crate) const OPTIONS: Options = Options::TRACE_EXEC.and(Options::SYSTEM_CALLS_APART);

/// The same of one in the agent, whose threads are made at our order.
pub(crate) const OPTIONS_IN_AGENT: Options = OPTIONS.and(Options::TRACE_CLONE);

/// The same of one that shares memory with others: its guest is to be no more before any of them sees its end.
pub(crate) const OPTIONS_IN_AGENT_TO_THE_END: Options = OPTIONS_IN_AGENT.and(Options::TRACE_EXIT);

/// Attaches to a thread of a process without stopping it.
pub(crate) fn seize(tid: i32) -> Result<Running> {
    Running::seize(tid, OPTIONS).map_err(|error| match eligible::untraceable(tid) {
        Some(reason) => reason.into(),
        None => Fault::Trace(error),
    })
}

/// The threads of a process, by their ids, while they run (or may have stopped without our having looked).
#[derive(Debug, Default)]
pub(crate) struct Tasks(BTreeMap<i32, Running>);

impl Tasks {
    /// Adds one, or puts one back.
    pub(crate) fn put(&mut self, task: Running) {
        self.0.insert(task.tid(), task);
    }

    /// Takes one out, to do something with it.
    pub(crate) fn take(&mut self, tid: i32) -> Option<Running> {
        self.0.remove(&tid)
    }

    /// Their ids, that of the main thread (`pid`) last: the kernel says nothing of its end before all others have been
    /// waited for.
    pub(crate) fn ids(&self, pid: i32) -> Vec<i32> {
        let others = self.0.keys().copied().filter(|tid| *tid != pid);
        others.chain(self.0.contains_key(&pid).then_some(pid)).collect()
    }

    /// Whether there are none: the process has ended, or replaced its image.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Stops all threads of a process that are not among `halted` yet. A thread can make others until it is stopped, so it
/// is looked for new ones until there are none.
pub(crate) fn halt_others(pid: i32, halted: &mut Vec<Stopped>) -> Result<()> {
    let until = Instant::now() + STOP_LIMIT;
    loop {
        let tasks = procfs::tasks(pid).map_err(|error| Fault::Io("list its threads", error))?;
        let mut new: Vec<i32> =
            tasks.into_iter().filter(|tid| halted.iter().all(|task| task.tid() != *tid)).collect();
        new.sort_by_key(|tid| *tid == pid);
        if new.is_empty() {
            halted.sort_by_key(|task| (task.tid() != pid, task.tid()));
            return Ok(());
        }
        let mut running = Vec::new();
        for tid in new {
            match seize(tid) {
                Ok(task) => {
                    interrupt(&task)?;
                    running.push(task);
                }
                Err(Fault::CannotMove(reason)) if tid != pid && has_ended(&reason) => {}
                Err(error) => return Err(error),
            }
        }
        for task in running {
            let tid = task.tid();
            match program_halted(task, true) {
                Ok(task) => halted.push(task),
                Err(Fault::Gone(_)) if tid != pid => {}
                Err(error) => return Err(error),
            }
        }
        if Instant::now() > until {
            return Err(Fault::CannotStop);
        }
    }
}

/// Whether a thread cannot be traced because it is none any more.
fn has_ended(reason: &Reason) -> bool {
    matches!(reason, Reason::Gone | Reason::Ending | Reason::MainThreadEnded)
}

/// Stops a process that runs its program. A signal that arrives first is delivered: then the program stands at the
/// start of its handler, and queued signals keep their order. The same holds for a fault of the program's own making,
/// which the kernel would deliver at the next step, blocked or not.
pub(crate) fn halt_program(task: Running) -> Result<Stopped> {
    program_halted(task, false)
}

/// Waits for such a process to stop; `told` says whether it has been told to.
pub(crate) fn program_halted(task: Running, told: bool) -> Result<Stopped> {
    let deliver = |task: Stopped, stop| task.resume(signal_of(stop)).map_err(Fault::Trace);
    let mut task = wait_for_stop(task, told, deliver)?.map_err(|_| Fault::CannotStop)?;
    while Status::read(task.tid()).is_ok_and(|status| status.has_raised_a_fault()) {
        // Nothing comes before the signal now, and its stop is answered by another interrupt.
        let running = task.resume(0).map_err(Fault::Trace)?;
        task = wait_for_stop(running, true, deliver)?.map_err(|_| Fault::CannotStop)?;
    }
    Ok(task)
}

/// Stops the task; signals that arrive first stay pending. SIGSTOP cannot be made pending again; it goes to `held`.
pub(crate) fn halt(task: Running, held: &mut Vec<i32>) -> Result<Stopped> {
    halt_in_time(task, held)?.map_err(|_| Fault::CannotStop)
}

/// The same; gives back a task that does not stop in time.
pub(crate) fn halt_in_time(
    task: Running,
    held: &mut Vec<i32>,
) -> Result<std::result::Result<Stopped, Running>> {
    let mut mask = None;
    let postponed = |task: Stopped, stop| {
        if mask.is_none() {
            mask = Some(task.mask().map_err(Fault::Trace)?);
        }
        postpone(task, signal_of(stop), held)
    };
    let halted = try_halt(task, postponed)?;
    if let (Ok(task), Some(mask)) = (&halted, mask) {
        task.set_mask(mask).map_err(Fault::Trace)?;
    }
    Ok(halted)
}

/// Stops the task, and has `arrived` go on with it when a signal arrives first, or it has made a thread. Gives back a
/// task that does not stop in time.
pub(crate) fn try_halt(
    task: Running,
    arrived: impl FnMut(Stopped, Stop) -> Result<Running>,
) -> Result<std::result::Result<Stopped, Running>> {
    wait_for_stop(task, false, arrived)
}

/// Asks a task to stop. One that is just ending is there to be waited for, but not to be stopped.
fn interrupt(task: &Running) -> Result<()> {
    const ESRCH: i32 = 3;
    match task.interrupt() {
        Err(error) if error.raw_os_error() != Some(ESRCH) => Err(Fault::Trace(error)),
        _ => Ok(()),
    }
}

/// The signal that a task is stopped for, or none.
fn signal_of(stop: Stop) -> i32 {
    match stop {
        Stop::Signal(signal) => signal,
        _ => 0,
    }
}

/// A task that is told to stop while it is stopped already stops once more before it does anything: so it is told only
/// when it is seen to run (`told`: it has been).
fn wait_for_stop(
    task: Running,
    mut told: bool,
    mut arrived: impl FnMut(Stopped, Stop) -> Result<Running>,
) -> Result<std::result::Result<Stopped, Running>> {
    let began = Instant::now();
    let mut task = task;
    loop {
        task = match task.try_wait().map_err(Fault::Trace)? {
            Waited::Still(task) if !told => {
                interrupt(&task)?;
                told = true;
                task
            }
            Waited::Still(task) => {
                let waited = began.elapsed();
                if waited > STOP_LIMIT {
                    if waited > STARVED_LIMIT || !is_ready_to_run(task.tid()) {
                        return Ok(Err(task));
                    }
                    std::thread::sleep(LOOK_INTERVAL);
                }
                // It may need this very processor. Whoever yields it, instead of sleeping, gives up its turn for
                // milliseconds on a busy machine, and the program stands still meanwhile.
                if waited > POLLED {
                    std::thread::sleep(POLLED);
                }
                task
            }
            Waited::Stopped(task, Stop::Interrupt) => return Ok(Ok(task)),
            Waited::Stopped(task, Stop::Exit) => {
                told = false;
                resume_ending(task)?
            }
            Waited::Stopped(task, stop @ (Stop::Signal(_) | Stop::Clone)) => {
                // Every stop answers what it was told before.
                told = false;
                arrived(task, stop)?
            }
            Waited::Stopped(task, Stop::Group(signal)) => {
                task.detach(0).map_err(Fault::Trace)?;
                return Err(Fault::Said(format!("the process is stopped (signal {signal})")));
            }
            Waited::Stopped(task, _) => task.resume(0).map_err(Fault::Trace)?,
            Waited::Gone(end) => return Err(Fault::Gone(end)),
        }
    }
}

/// Lets a thread end that is about to, but for the main one: the end of the process is for its deputy to see to.
fn resume_ending(task: Stopped) -> Result<Running> {
    let tid = task.tid();
    if Status::read(tid).is_ok_and(|status| status.process == tid) {
        task.leave_ending();
        return Err(Fault::Ending);
    }
    task.resume(0).map_err(Fault::Trace)
}

/// Whoever has a process go on cancels a SIGSTOP that has not stopped it yet.
pub(crate) fn forget_stop(arrived: i32, held: &mut Vec<i32>) {
    if arrived == libc_signal::CONT {
        held.retain(|signal| *signal != libc_signal::STOP);
    }
}

fn is_ready_to_run(tid: i32) -> bool {
    Stat::read(tid).is_ok_and(|stat| stat.state == 'R')
}

/// Takes a task that is about to get a signal on without it: the signal is pending again, with all its information.
pub(crate) fn postpone(task: Stopped, signal: i32, held: &mut Vec<i32>) -> Result<Running> {
    if signal == 0 {
        return task.resume(0).map_err(Fault::Trace);
    }
    task.set_mask(BLOCK_ALL).map_err(Fault::Trace)?;
    forget_stop(signal, held);
    if signal == libc_signal::STOP {
        held.push(signal);
        return task.resume(0).map_err(Fault::Trace);
    }
    task.resume(signal).map_err(Fault::Trace)
}

/// Takes a task in the agent into the call that it is about to make, with an interruption waiting: if the call would
/// wait it ends instead, as when a signal comes. Afterwards the task is stopped behind the call (`after_call`). Signals
/// that could not be blocked before go to `held`.
pub(crate) fn interrupt_in_call(task: Stopped, after_call: u64, held: &mut Vec<i32>) -> Result<Stopped> {
    const ENOSYS: i64 = -38;
    let mask = task.mask().map_err(Fault::Trace)?;
    task.set_mask(BLOCK_ALL).map_err(Fault::Trace)?;
    let mut running = task.resume_to_syscall().map_err(Fault::Trace)?;
    let entered = loop {
        let (task, stop) = stop_of(running)?;
        match stop {
            Stop::Syscall => {
                let registers = task.registers().map_err(Fault::Trace)?;
                // What the kernel has there until the call has a result.
                if registers.rip == after_call && registers.rax as i64 == ENOSYS {
                    break task;
                }
            }
            Stop::Signal(signal) => held.push(signal),
            Stop::Exit => {
                task.leave_ending();
                return Err(Fault::Ending);
            }
            _ => {}
        }
        running = task.resume_to_syscall().map_err(Fault::Trace)?;
    };
    // Before the call, which may have a mask of its own.
    entered.set_mask(mask).map_err(Fault::Trace)?;
    let mut running = entered.resume_to_stop().map_err(Fault::Trace)?;
    loop {
        match stop_of(running)? {
            (task, Stop::Interrupt) => return Ok(task),
            (task, Stop::Exit) => {
                task.leave_ending();
                return Err(Fault::Ending);
            }
            (task, _) => running = task.resume_to_stop().map_err(Fault::Trace)?,
        }
    }
}

/// The next stop of a task.
pub(crate) fn stop_of(task: Running) -> Result<(Stopped, Stop)> {
    match task.wait().map_err(Fault::Trace)? {
        Waited::Stopped(task, stop) => Ok((task, stop)),
        Waited::Gone(end) => Err(Fault::Gone(end)),
        Waited::Still(_) => unreachable!("a blocking wait returns only with news"),
    }
}

/// If the task was interrupted in a forwarded call of the agent (its instruction pointer is `after_call`), makes
/// the call return its restart code to the agent instead of starting again.
pub(crate) fn end_forwarded_call(task: &Stopped, after_call: u64) -> Result<bool> {
    let registers = task.registers().map_err(Fault::Trace)?;
    let interrupted = registers.rip == after_call
        && registers.syscall().is_some()
        && matches!(registers.rax as i64, -516..=-512);
    if interrupted {
        let returned = minka_image::registers::Registers { orig_rax: NO_SYSCALL, ..registers };
        task.set_registers(&returned).map_err(Fault::Trace)?;
    }
    Ok(interrupted)
}

/// What Linux does with a signal that the program neither catches nor ignores (`signal(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Default {
    Ignore,
    Terminate,
    Core,
    Stop,
}

/// The default action of a signal.
pub(crate) fn default_action(signal: i32) -> Default {
    use libc_signal::*;
    match signal {
        CHLD | CONT | URG | WINCH => Default::Ignore,
        QUIT | ILL | TRAP | ABRT | BUS | FPE | SEGV | XCPU | XFSZ | SYS => Default::Core,
        STOP | TSTP | TTIN | TTOU => Default::Stop,
        KILL => Default::Terminate,
        _ => Default::Terminate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn one_that_has_stopped_already_runs_when_it_is_resumed() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("start");
        let pid = child.id().cast_signed();
        let reach = |wanted: char| {
            let until = Instant::now() + Duration::from_secs(5);
            while Stat::read(pid).expect("its state").state != wanted {
                assert!(Instant::now() < until, "it is never in state {wanted}");
                std::thread::sleep(POLLED);
            }
        };
        reach('S');
        let running = seize(pid).expect("seize");
        running.interrupt().expect("interrupt");
        reach('t');
        let halted = halt(running, &mut Vec::new()).expect("halt");
        let _running = halted.resume(0).expect("resume");
        reach('S');
        child.kill().expect("kill");
        child.wait().expect("reap");
    }

    #[test]
    fn who_cannot_be_traced_is_told_apart() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("start");
        let pid = child.id().cast_signed();
        let reason = || match seize(pid) {
            Err(Fault::CannotMove(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let tracer = rustix::thread::gettid().as_raw_nonzero().get();
        let traced = std::thread::scope(|scope| {
            // Seized by this thread, it is not there for another one.
            let _running = seize(pid).expect("seize");
            scope.spawn(reason).join().expect("another thread")
        });
        assert_eq!(traced, Reason::Traced(tracer));
        child.kill().expect("kill");
        let ended = || Stat::read(pid).is_ok_and(|stat| stat.state == 'Z');
        while !ended() {
            std::thread::yield_now();
        }
        assert_eq!(reason(), Reason::Ending);
        child.wait().expect("reap");
        assert_eq!(reason(), Reason::Gone);
    }
}
