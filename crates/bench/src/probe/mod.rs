//! The programs that are measured: they read orders, a line each, and answer with lines of numbers.
//!
//! While it carries out an order a probe makes no system call that the order does not name: the clock is read through
//! the vDSO, and what it works on is there before it says that it is ready. Times are in microseconds.

mod memory;
mod peer;
mod spawn;
mod work;

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

/// What an order comes to: numbers to answer with.
type Answer = io::Result<Vec<f64>>;

/// Runs the probe that the arguments name; they are those after [`crate::PROBE_COMMAND`].
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["work", mebibytes] => {
            work::Worker::new(mebibytes).and_then(|mut worker| obey(|words| worker.obey(words)))
        }
        ["tcp-serve", port] => peer::serve(port),
        ["tcp-ask", address, port] => {
            peer::Asker::connect(address, port).and_then(|mut asker| obey(|words| asker.obey(words)))
        }
        ["spawn", program, node] => obey(|words| spawn::obey(words, program, node)),
        _ => Err(unknown(&words)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minka probe: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says that it is ready, and carries out orders until there are no more.
fn obey(mut carry_out: impl FnMut(&[&str]) -> Answer) -> io::Result<()> {
    answer(&[])?;
    let mut line = String::new();
    let mut stdin = io::stdin().lock();
    while stdin.read_line(&mut line)? > 0 {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        answer(&carry_out(&words)?)?;
        line.clear();
    }
    Ok(())
}

fn answer(numbers: &[f64]) -> io::Result<()> {
    let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", numbers.join(" "))?;
    stdout.flush()
}

fn unknown(words: &[&str]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("no probe understands {words:?}"))
}

/// A number of an order.
fn number<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{word:?} is no number"));
    word.parse().map_err(|_| wrong())
}

/// Microseconds since then.
fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}
