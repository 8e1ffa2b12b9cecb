//! Programs of our own that call a vendor's library, and may crash, hang or talk nonsense in it: what is said with them,
//! line by line.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, Signal};

/// No line is longer.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What such a program does first: whoever asked may be gone while the library hangs, and nobody wants its core.
pub(crate) fn prepare() {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Such a program, which ends when this does.
#[derive(Debug)]
pub(crate) struct Conversation {
    child: Child,
    questions: ChildStdin,
    answers: ChildStdout,
    heard: Vec<u8>,
}

impl Conversation {
    /// Starts the program. What is typed at the terminal to end this one does not reach it.
    pub(crate) fn begin(mut program: Command) -> io::Result<Self> {
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = program.spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(questions), Some(answers)) => {
                Ok(Conversation { child, questions, answers, heard: Vec::new() })
            }
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), String> {
        let said = self.questions.write_all(line.as_bytes()).and_then(|()| self.questions.write_all(b"\n"));
        said.and_then(|()| self.questions.flush()).map_err(|_| self.ended())
    }

    /// Hears the next line; nothing if none is said within a time.
    pub(crate) fn hear(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, String> {
        let until = Instant::now() + patience;
        let mut piece = [0; 4096];
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let rest = self.heard.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.heard, rest)));
            }
            if self.heard.len() > LINE_BYTES_MAX {
                return Err("an answer without end".to_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            let time = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let mut watched = [PollFd::new(&self.answers, PollFlags::IN)];
            match poll(&mut watched, Some(&time)) {
                Ok(0) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.to_string()),
                Ok(_) => {}
            }
            match self.answers.read(&mut piece) {
                Ok(0) => return Err(self.ended()),
                Ok(length) => self.heard.extend_from_slice(&piece[..length]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// How it ended, in words.
    fn ended(&mut self) -> String {
        // Its end is noticed a moment after its pipe's.
        std::thread::sleep(Duration::from_millis(20));
        match self.child.try_wait() {
            Ok(Some(status)) => format!("its program ended: {status}"),
            _ => "its program has closed its mouth".to_owned(),
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // It may hang in the library.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
