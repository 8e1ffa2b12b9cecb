//! The program that the tests move: computes steps until SIGUSR1, then says what came out.
//!
//! `minka-faults-subject quiet|chatty KIB FILE`: a quiet one makes no system call while it computes, so it has no
//! effect wherever it is; a chatty one writes a line per step. Every line goes to FILE in one call: `ready`, then
//! `STEP RESULT` for each step (chatty), and at last `end STEP RESULT DIGEST`.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minka_faults_tests::machine::Machine;

/// Time between two steps.
const PACE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, kib, file] = &arguments[..] else {
        eprintln!("usage: minka-faults-subject quiet|chatty KIB FILE");
        return ExitCode::FAILURE;
    };
    match compute(mode == "chatty", kib.parse().unwrap_or(1024), file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minka-faults-subject: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compute(chatty: bool, kib: usize, file: &str) -> io::Result<()> {
    let end = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&end))?;
    let mut machine = Machine::new(kib);
    let mut file = File::options().append(true).create(true).open(file)?;
    file.write_all(b"ready\n")?;
    loop {
        let (step, result) = machine.step();
        if chatty {
            file.write_all(format!("{step} {result}\n").as_bytes())?;
            std::thread::sleep(PACE);
        } else {
            // The clock is read without a system call.
            let next = Instant::now() + PACE;
            while Instant::now() < next && !end.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        }
        if end.load(Ordering::Relaxed) {
            let digest = machine.digest();
            return file.write_all(format!("end {step} {result} {digest}\n").as_bytes());
        }
    }
}
