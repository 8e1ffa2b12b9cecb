//! Programs that are asked something: they have a time limit, their output is bounded, and nothing of them stays.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No output is longer; what is beyond is not read.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub output: String,
}

/// Runs a program with a few kilobytes of input, and waits for it, but not longer than it may take. What it started
/// ends with it.
pub fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<Ended, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever does not read its input does not need it.
        let _ = stdin.write_all(input);
    }
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = output.map(|output| output.take(OUTPUT_BYTES_MAX).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let until = Instant::now() + limit;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) => break Err(format!("{program} took longer than {} s", limit.as_secs())),
            Err(error) => break Err(error.to_string()),
        }
    };
    if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    if ended.is_err() {
        let _ = child.wait();
    }
    let output = reader.join().unwrap_or_default();
    ended.map(|status| Ended { status, output })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_gets_its_input_and_has_its_time() {
        let limit = Duration::from_secs(30);
        let ended = run(shell("cat; exit 3"), b"hello", limit).unwrap();
        assert_eq!((ended.output.as_str(), ended.status.code()), ("hello", Some(3)));
        assert!(run(Command::new("/nonexistent"), b"", limit).unwrap_err().contains("cannot be started"));
        let begun = Instant::now();
        let slow = run(shell("sleep 100 & sleep 100"), b"", Duration::from_millis(200));
        assert!(slow.unwrap_err().contains("took longer") && begun.elapsed() < Duration::from_secs(20));
        let left = run(shell("sleep 100 & echo done"), b"", limit).unwrap();
        assert!(left.output == "done\n" && begun.elapsed() < Duration::from_secs(25));
    }
}
