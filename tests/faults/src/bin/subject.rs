//! The program that the tests move: computes steps until SIGUSR1, then says what came out.
//!
//! `minka-faults-subject quiet|chatty|crowd|sharing KIB FILE`: a quiet one makes no system call while it computes, so it has no
//! effect wherever it is; a chatty one writes a line per step; a crowd does so too, and each of its threads computes a
//! part of every step; a sharing one is chatty, and its memory is mapped as shared. Every line goes to FILE in one call: `ready`, then `STEP RESULT` for each step (but for a quiet
//! one), and at last `end STEP RESULT DIGEST`.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use minka_faults_tests::machine::{self, Machine};

/// Time between two steps.
const PACE: Duration = Duration::from_millis(1);

/// How long those sleep that sleep between two steps. Seldom enough that kernels up to 6.18.44 do not starve everybody else
/// (ARCHITECTURE.md, "Tests").
const NAP: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, kib, file] = &arguments[..] else {
        eprintln!("usage: minka-faults-subject quiet|chatty|crowd|sharing KIB FILE");
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
