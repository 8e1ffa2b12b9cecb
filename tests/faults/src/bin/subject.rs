//! The program that the tests move: computes steps until SIGUSR1, then says what came out.
//!
//! `minka-faults-subject quiet|chatty|crowd|[disk-|memory-]sharing|[open-|disk-|memory-]family|quiet-family|[open-]heirs KIB FILE`: a quiet one makes no system call while it computes, so it has no
//! effect wherever it is; a chatty one writes a line per step; a crowd does so too, and each of its threads computes a
//! part of every step; a sharing one is chatty, and its memory is mapped as shared. A family
//! are several processes that take turns in one such memory, with a line each, or quietly; heirs have it under a robust lock; open ones have descriptors of
//! it, and those on a disk or in memory share it by files that have names. Every line goes to FILE in one call: `ready`, then `STEP RESULT` for each step (but for a quiet
//! one), and at last `end STEP RESULT DIGEST`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use minka_faults_tests::heirs::Estate;
use minka_faults_tests::machine::{self, Machine};
use minka_kernel::spawn::{Forked, fork_alone};

/// Time between two steps.
const PACE: Duration = Duration::from_millis(1);

/// How long those sleep that sleep between two steps. Seldom enough that kernels up to 6.18.44 do not starve everybody else
/// (ARCHITECTURE.md, "Tests").
const NAP: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, kib, file] = &arguments[..] else {
        eprintln!(
            "usage: minka-faults-subject quiet|chatty|crowd|[disk-|memory-]sharing|[open-|disk-|memory-]family|quiet-family|[open-]heirs KIB FILE"
        );
        return ExitCode::FAILURE;
    };
    match compute(mode, kib.parse().unwrap_or(1024), file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minka-faults-subject: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compute(mode: &str, kib: usize, file: &str) -> io::Result<()> {
    let end = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&end))?;
    let mode = match mode.split_once('-') {
        Some(("open", mode)) => {
            machine::share_by_files();
            mode
        }
        Some((place @ ("disk" | "memory"), mode)) => {
            machine::share_by_names(machine::prefix(place == "memory", Path::new(file)));
            mode
        }
        _ => mode,
    };
    if mode == "family" || mode == "quiet-family" {
        return in_turns(mode == "quiet-family", kib, file, &end);
    }
    if mode == "heirs" {
        return by_lock(file, &end);
    }
    let others = if mode == "crowd" { machine::CROWD - 1 } else { 0 };
    let mut machine = if mode == "sharing" { Machine::shared(kib, 0) } else { Machine::new(kib, 0) };
    let crowd = Crowd::start(kib, others);
    let mut file = File::options().append(true).create(true).open(file)?;
    file.write_all(b"ready\n")?;
    loop {
        crowd.begin();
        let (step, own) = machine.step();
        let result = own.wrapping_add(crowd.finish());
        if mode == "quiet" {
            // The clock is read without a system call.
            let next = Instant::now() + PACE;
            while Instant::now() < next && !end.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        } else {
            file.write_all(format!("{step} {result}\n").as_bytes())?;
            std::thread::sleep(NAP);
        }
        if end.load(Ordering::Relaxed) {
            let digest = machine.digest().wrapping_add(crowd.end());
            return file.write_all(format!("end {step} {result} {digest}\n").as_bytes());
        }
    }
}

/// What a family shares beside the machine's memory. A word each.
struct Table(&'static [AtomicU64]);

impl Table {
    /// How far the machine has come.
    const SUM: usize = 0;
    const STEP: usize = 1;
    /// All are to end.
    const END: usize = 2;
    /// Whose turn it is: who waits for that sleeps on the lower half of this word.
    const TURN: usize = 8;

    #[allow(unsafe_code, reason = "words that processes share are atomic")]
    fn new() -> Self {
        let words: &'static mut [u64] = machine::map_shared(4);
        // SAFETY: of the same size and aligned alike, and nobody has them otherwise.
        Self(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) })
    }

    #[allow(unsafe_code, reason = "the kernel waits on half a word")]
    fn turn(&self) -> &AtomicU32 {
        // SAFETY: inside the word, aligned, and only used atomically.
        unsafe { AtomicU32::from_ptr(self.0[Self::TURN].as_ptr().cast()) }
    }

    /// Waits for a member's turn.
    fn wait(&self, member: u64) {
        loop {
            let turn = self.turn().load(Ordering::SeqCst);
            if u64::from(turn) % machine::FAMILY == member {
                return;
            }
            minka_kernel::futex::wait(self.turn(), turn, None);
        }
    }

    fn pass(&self) {
        self.turn().fetch_add(1, Ordering::SeqCst);
        minka_kernel::futex::wake_all(self.turn());
    }
}

/// The processes of a family: each does a step when it is its turn, in the same memory.
fn in_turns(quiet: bool, kib: usize, file: &str, end: &AtomicBool) -> io::Result<()> {
    let (mut machine, table) = (Machine::shared(kib, 0), Table::new());
    table.0[Table::SUM].store(1, Ordering::SeqCst);
    let mut file = File::options().append(true).create(true).open(file)?;
    let (mut member, mut children) = (0, Vec::new());
    while member == 0 && (children.len() as u64) < machine::FAMILY - 1 {
        match fork_alone()? {
            Forked::Child => member = children.len() as u64 + 1,
            Forked::Parent(pid) => children.push(pid),
        }
    }
    if member == 0 {
        file.write_all(b"ready\n")?;
    }
    loop {
        table.wait(member);
        if table.0[Table::END].load(Ordering::SeqCst) != 0 {
            table.pass();
            break;
        }
        machine
            .resume(table.0[Table::SUM].load(Ordering::SeqCst), table.0[Table::STEP].load(Ordering::SeqCst));
        let (step, result) = machine.step();
        table.0[Table::SUM].store(result, Ordering::SeqCst);
        table.0[Table::STEP].store(step, Ordering::SeqCst);
        if quiet {
            // Seldom, too: each turn wakes the others.
            let next = Instant::now() + 2 * NAP;
            while Instant::now() < next && !end.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        } else {
            file.write_all(format!("{step} {result}\n").as_bytes())?;
            std::thread::sleep(NAP);
        }
        if member == 0 && end.load(Ordering::Relaxed) {
            // The others end first.
            table.0[Table::END].store(1, Ordering::SeqCst);
        }
        table.pass();
    }
    if member > 0 {
        return Ok(());
    }
    for pid in children {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed());
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
    }
    let (sum, step) =
        (table.0[Table::SUM].load(Ordering::SeqCst), table.0[Table::STEP].load(Ordering::SeqCst));
    machine.resume(sum, step);
    file.write_all(format!("end {step} {sum} {}\n", machine.digest()).as_bytes())
}

/// The processes that share memory under a robust lock. All but the main one hold it for most of the time, and make no call.
fn by_lock(file: &str, end: &AtomicBool) -> io::Result<()> {
    const LONG: Duration = Duration::from_millis(6);
    let estate = Estate::make();
    let mut file = File::options().append(true).create(true).open(file)?;
    let mut children = Vec::new();
    while (children.len() as u64) < machine::FAMILY - 1 {
        match fork_alone()? {
            Forked::Child => {
                while !estate.is_broken() && estate.round(LONG).map_err(io::Error::other)? {
                    nap();
                }
                return Ok(());
            }
            Forked::Parent(pid) => children.push(pid),
        }
    }
    file.write_all(b"ready\n")?;
    let (mut rounds, mut seen) = (0u64, 0);
    loop {
        if end.load(Ordering::Relaxed) {
            estate.end();
        }
        let goes_on = estate.round(PACE).map_err(io::Error::other)?;
        if estate.is_broken() || estate.count() < seen {
            return Err(io::Error::other(format!("after round {seen}: {}", estate.count())));
        }
        seen = estate.count();
        if !goes_on {
            break;
        }
        rounds += 1;
        file.write_all(format!("{rounds}\n").as_bytes())?;
        std::thread::sleep(NAP);
    }
    for pid in children {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed());
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty())?;
    }
    file.write_all(format!("end {rounds}\n").as_bytes())
}

/// As a sleep, but for who looks for system calls that go home.
fn nap() {
    minka_kernel::futex::wait(&AtomicU32::new(0), 0, Some(NAP / 2));
}

/// The other threads, each with a machine of its own. All of them do the same step at a time.
struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<u64>>,
}

struct Shared {
    /// Everybody waits here before a step and after it.
    meeting: Barrier,
    ended: AtomicBool,
    /// The sum of the step's results.
    sum: AtomicU64,
}

impl Crowd {
    fn start(kib: usize, size: u64) -> Self {
        let meeting = Barrier::new(size as usize + 1);
        let shared = Arc::new(Shared { meeting, ended: AtomicBool::default(), sum: AtomicU64::default() });
        let compute = |number| {
            let (shared, mut machine) = (Arc::clone(&shared), Machine::new(kib, number));
            move || loop {
                shared.meeting.wait();
                if shared.ended.load(Ordering::Relaxed) {
                    return machine.digest();
                }
                shared.sum.fetch_add(machine.step().1, Ordering::Relaxed);
                shared.meeting.wait();
            }
        };
        let threads = (1..=size).map(|number| std::thread::spawn(compute(number))).collect();
        Self { shared, threads }
    }

    /// Lets the others do a step.
    fn begin(&self) {
        if !self.threads.is_empty() {
            self.shared.meeting.wait();
        }
    }

    /// Waits until they have done it: the sum of their results.
    fn finish(&self) -> u64 {
        if !self.threads.is_empty() {
            self.shared.meeting.wait();
        }
        self.shared.sum.swap(0, Ordering::Relaxed)
    }

    /// Ends the others: the sum over the digests of their memory.
    fn end(self) -> u64 {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.begin();
        let digests = self.threads.into_iter().map(|thread| thread.join().expect("a thread's digest"));
        digests.fold(0, u64::wrapping_add)
    }
}
