//! Stopping a process where it can be moved from: with no thread of it inside the vDSO.

use crate::fault::{Fault, Result};
use crate::park::let_go;
use crate::tracee;
use minka_image::maps::Mapping;
use minka_kernel::memory::Memory;
use minka_kernel::procfs;
use minka_kernel::ptrace::Stopped;
use minka_kernel::vdso;
use std::time::{Duration, Instant};

/// A halted process, all threads outside of the vDSO, and what is known of its memory.
pub(crate) struct Surroundings {
    /// The main thread first.
    pub(crate) tasks: Vec<Stopped>,
    pub(crate) maps: Vec<Mapping>,
    pub(crate) memory: Memory,
    pub(crate) vdso: (u64, u64),
}

/// A thread that was stopped inside the vDSO is let run on and stopped again: single steps, which get it out in any
/// case, are deadly for it if we die between two of them.
pub(crate) fn surroundings(pid: i32, halted: Vec<Stopped>) -> Result<Surroundings> {
    const TRIES: usize = 20;
    // Not sooner: where a try takes long, so does each of some dozens of single steps.
    const LIMIT: Duration = Duration::from_secs(1);
    let (mut tasks, mut tries, mut time, began) = (halted, 0, RUN_FIRST, Instant::now());
    loop {
        let (maps, memory, vdso) = match tracee::halt_others(pid, &mut tasks).and_then(|()| look_round(pid)) {
            Ok(found) => found,
            Err(error) => {
                let_go(tasks)?;
                return Err(error);
            }
        };
        let mut out = Vec::with_capacity(tasks.len());
        let mut inside = Vec::new();
        for task in tasks {
            let holds = vdso::holds(&task, vdso).map_err(Fault::Trace)?;
            if holds { &mut inside } else { &mut out }.push(task);
        }
        if inside.is_empty() {
            return Ok(Surroundings { tasks: out, maps, memory, vdso });
        }
        if tries == TRIES || began.elapsed() > LIMIT {
            for task in inside {
                out.push(vdso::step_out(task, vdso, &memory).map_err(Fault::Trace)?);
            }
            out.sort_by_key(|task| (task.tid() != pid, task.tid()));
            return Ok(Surroundings { tasks: out, maps, memory, vdso });
        }
        let mut all_have_run = true;
        for task in inside {
            let (task, has_run) = run_on(task, time)?;
            all_have_run &= has_run;
            out.push(task);
        }
        (tries, time) =
            if all_have_run { (tries + 1, RUN_FIRST) } else { (tries, (time * 8).min(RUN_LONGEST)) };
        tasks = out;
    }
}

/// How long a thread is let run on at first: longer than any function of the vDSO takes.
const RUN_FIRST: Duration = Duration::from_micros(2);

/// How long it is let run on at most, if it does not get a processor sooner.
const RUN_LONGEST: Duration = Duration::from_millis(4);

/// Lets a thread run on for a while. Says whether it has executed anything: one that did not get a processor in that
/// time stands where it stood.
fn run_on(task: Stopped, time: Duration) -> Result<(Stopped, bool)> {
    let before = task.registers().map_err(Fault::Trace)?;
    let running = task.resume(0).map_err(Fault::Trace)?;
    if time < RUN_LONGEST / 64 {
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    } else {
        std::thread::sleep(time);
    }
    let task = tracee::halt_program(running)?;
    let has_run = task.registers().map_err(Fault::Trace)? != before;
    Ok((task, has_run))
}

fn look_round(pid: i32) -> Result<(Vec<Mapping>, Memory, (u64, u64))> {
    let io = |what| move |error| Fault::Io(what, error);
    let maps = procfs::maps(pid).map_err(io("read its maps"))?;
    let vdso = vdso::code_range(&maps).ok_or_else(|| Fault::Said("the process has no vDSO".to_owned()))?;
    Ok((maps, Memory::open(pid).map_err(io("open its memory"))?, vdso))
}
