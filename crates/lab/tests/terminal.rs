//! Programs in a node on a terminal, below a real shell with job control.
#![allow(clippy::unwrap_used, reason = "clippy does not see that helpers of tests are tests")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use minka_lab::Lab;
use rustix::pty;
use support::{Place, eventually, fixture};

/// An interactive shell on a terminal of its own, and somebody who types.
struct Shell {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    /// How much of the screen has been looked at.
    seen: usize,
    process: Child,
}

impl Shell {
    fn start() -> Self {
        let mut shell = Self::start_with(&["sh", "-i"]);
        shell.expect("ready> ");
        shell
    }

    /// Starts something else than a shell on the terminal, with no shell above it.
    fn start_with(program: &[&str]) -> Self {
        let flags = pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY | pty::OpenptFlags::CLOEXEC;
        let keyboard: OwnedFd = pty::openpt(flags).unwrap();
        pty::unlockpt(&keyboard).unwrap();
        let path = pty::ptsname(&keyboard, Vec::new()).unwrap();
        let process = Command::new(fixture())
            .args(["terminal", path.to_str().unwrap()])
            .args(program)
            .env("PS1", "ready> ")
            .env_remove("ENV")
            .spawn()
            .unwrap();
        let keyboard = File::from(keyboard);
        let mut output = keyboard.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Ends with an error when nobody has the terminal open any more.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Self { keyboard, screen, seen: 0, process }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Presses keys again and again until this comes on the screen.
    fn press_until(&mut self, keys: &str, text: &str) {
        let screen = Arc::clone(&self.screen);
        let start = self.seen;
        eventually(text, || {
            self.press(keys);
            std::thread::sleep(Duration::from_millis(50));
            screen.lock().unwrap()[start..].contains(text)
        });
        self.expect(text);
    }

    /// Types a line, and waits until the terminal has echoed it.
    fn enter(&mut self, line: &str) {
        self.press(&format!("{line}\n"));
        self.expect(&format!("{line}\r\n"));
    }

    /// Waits until this comes on the screen, after what was expected before.
    fn expect(&mut self, text: &str) {
        let mut seen = None;
        let screen = Arc::clone(&self.screen);
        let start = self.seen;
        let what = format!("{text:?} on the screen");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&what, || {
                let screen = screen.lock().unwrap();
                seen = screen[start..].find(text).map(|position| start + position + text.len());
                seen.is_some()
            });
        }));
        if result.is_err() {
            panic!("never: {what}; it shows {:?}", self.screen.lock().unwrap());
        }
        self.seen = seen.unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command that runs `program` in the first node.
fn in_node(place: &Place, program: &str) -> String {
    format!("{} exec {} 1 -- {program}", fixture(), place.directory().display())
}

#[test]
fn a_stopped_program_stops_its_caller_and_both_go_on() {
    let place = Place::new();
    let _lab = Lab::up(&place.options()).unwrap();
    let mut shell = Shell::start();
    shell.enter(&in_node(&place, "cat"));
    shell.enter("one");
    shell.expect("one\r\n");
    shell.press("\x1a");
    shell.expect("Stopped");
    shell.expect("ready> ");
    shell.enter("echo the shell has the $((2 * 21)) keys");
    shell.expect("the shell has the 42 keys\r\n");
    shell.enter("fg");
    shell.enter("two");
    shell.expect("two\r\n");
    shell.press("\x03");
    shell.expect("ready> ");
    shell.enter("echo status $?");
    shell.expect("status 130\r\n");
}

#[test]
fn a_program_in_the_background_waits_for_the_terminal() {
    let place = Place::new();
    let _lab = Lab::up(&place.options()).unwrap();
    let mut shell = Shell::start();
    // Started in the background, it finds that it may not read.
    shell.enter(&format!("{} &", in_node(&place, "sh -c 'read word; echo got $word'")));
    // The shell tells when it is asked for something next.
    shell.press_until("\n", "Stopped");
    shell.enter("fg");
    shell.enter("bread");
    shell.expect("got bread\r\n");
    shell.expect("ready> ");

    // Started in the foreground, stopped, gone on in the background, fetched back while it runs.
    shell.enter(&in_node(&place, &format!("{} dawdle", fixture())));
    shell.expect("begun\r\n");
    shell.press("\x1a");
    shell.expect("Stopped");
    shell.enter("bg");
    shell.enter("fg");
    shell.enter("butter");
    shell.expect("got butter\r\n");
    shell.expect("ready> ");
}

#[test]
fn a_shell_in_a_node_controls_jobs_of_its_own() {
    let place = Place::new();
    let _lab = Lab::up(&place.options()).unwrap();
    let mut shell = Shell::start();
    shell.enter(&in_node(&place, "env PS1='inside> ' sh -i"));
    shell.expect("inside> ");
    shell.enter("sh -c 'trap \"echo on\" CONT; echo begun; while :; do read word; done'");
    shell.expect("begun\r\n");
    shell.press("\x1a");
    shell.expect("Stopped");
    shell.expect("inside> ");
    shell.enter("fg");
    shell.expect("on\r\n");
    shell.press("\x03");
    shell.expect("inside> ");
    shell.enter("echo status $? on $(hostname)");
    shell.expect("status 130 on node1\r\n");
    shell.enter("exit 5");
    shell.expect("ready> ");
    shell.enter("echo status $?");
    shell.expect("status 5\r\n");
}

#[test]
fn a_program_that_cannot_be_started_leaves_the_terminal_to_the_caller() {
    let place = Place::new();
    let _lab = Lab::up(&place.options()).unwrap();
    let mut shell = Shell::start();
    shell.enter(&in_node(&place, "no-such-program"));
    shell.expect("fixture: start a program in node 1: execute no-such-program\r\n");
    shell.expect("ready> ");
    shell.enter(&in_node(&place, "cat"));
    shell.enter("still here");
    shell.expect("still here\r\n");
    shell.press("\x04");
    shell.expect("ready> ");
    shell.enter("echo status $?");
    shell.expect("status 0\r\n");
}

#[test]
fn without_a_shell_above_nothing_stays_stopped() {
    let place = Place::new();
    let _lab = Lab::up(&place.options()).unwrap();
    let directory = place.directory().display().to_string();
    let mut terminal = Shell::start_with(&[&fixture(), "exec", &directory, "1", "--", "cat"]);
    terminal.enter("one");
    terminal.expect("one\r\n");
    // Nobody could ever continue it, so it must not stop.
    terminal.press("\x1a");
    terminal.enter("two");
    terminal.expect("two\r\n");
    terminal.press("\x04");
    assert!(terminal.process.wait().unwrap().success());
}

#[test]
fn a_lab_ends_though_a_caller_is_stopped() {
    let place = Place::new();
    let lab = Lab::up(&place.options()).unwrap();
    let mut shell = Shell::start();
    shell.enter(&in_node(&place, "cat"));
    shell.enter("one");
    shell.expect("one\r\n");
    shell.press("\x1a");
    shell.expect("Stopped");
    lab.down().unwrap();
    assert!(!place.directory().exists());
    shell.enter("fg");
    shell.expect("ready> ");
    shell.enter("echo status $?");
    shell.expect("status 137\r\n");
}
