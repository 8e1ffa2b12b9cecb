//! A conversation with an interactive program on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How long a program may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one types to interrupt.
pub const CTRL_C: &str = "\x03";
/// What one types to stop.
pub const CTRL_Z: &str = "\x1a";
/// What one types at the end.
pub const CTRL_D: &str = "\x04";

/// A program on a terminal.
#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    child: Child,
    seen: String,
    /// How much of it has been waited for.
    read: usize,
}

impl Terminal {
    /// Starts a program whose controlling terminal is a new one.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    pub fn start(command: &Command) -> Self {
        let near =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("open a pty");
        grantpt(&near).expect("grant the pty");
        unlockpt(&near).expect("unlock the pty");
        let name = ptsname(&near, Vec::new()).expect("name the pty");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let far = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("open the terminal");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&far, size).expect("give the terminal a size");
        let far = || far.try_clone().expect("duplicate a descriptor");
        let mut owner = Command::new("setsid");
        owner.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        owner.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        owner.env("TERM", "dumb").env("LC_ALL", "C").stdin(far()).stdout(far()).stderr(far());
        let child = owner.spawn().expect("start setsid");
        let (sender, screen) = channel();
        let mut output = File::from(near.try_clone().expect("duplicate a descriptor"));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The terminal's other side is closed when this fails.
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { keyboard: File::from(near), screen, child, seen: String::new(), read: 0 }
    }

    /// Types something.
    pub fn say(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("type something");
    }

    /// Waits until the program shows this, after what was waited for before.
    ///
    /// # Panics
    /// When it does not.
    pub fn expect(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            match self.screen.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {text:?} was shown, but:\n{}", self.seen),
            }
        }
    }

    /// Types a line and waits for an answer.
    pub fn ask(&mut self, line: &str, answer: &str) {
        self.say(&format!("{line}\n"));
        self.expect(answer);
    }

    /// Waits for the program's end; its status as a shell gives it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(mut self) -> i32 {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("wait for a child") {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it did not end, but showed:\n{}", self.seen);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Closing the terminal hangs up on whoever is left; the program itself is made sure of.
        if let (Ok(None), Some(group)) = (self.child.try_wait(), Pid::from_raw(self.child.id() as i32)) {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
