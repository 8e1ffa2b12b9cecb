//! A server that is moved about, and a client on its node that stays there.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{Program, scratch};
use crate::shaken::{Tally, TestLab, read_tally};

/// How long a server may take until it answers, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether it does.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Command lines of the shell, all in one directory.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Makes what the server needs; not measured.
    pub prepare: &'static str,
    /// The server; it has to stay in the foreground.
    pub server: &'static str,
    /// Succeeds when the server answers.
    pub ready: &'static str,
    /// Puts it under load, and prints what has to be the same each time.
    pub client: &'static str,
}

/// What came of it.
#[derive(Debug)]
pub struct Served {
    /// Of the client and of the server, as a shell gives them.
    pub status: (i32, i32),
    /// What the client printed.
    pub answers: Vec<u8>,
    /// How long the client took.
    pub time: Duration,
    /// The moves.
    pub tally: Tally,
    /// What the nodes logged.
    pub logs: String,
}

impl Service {
    /// Runs server and client on a node; with an interval the server is moved meanwhile.
    pub fn run(&self, interval: Option<Duration>) -> Served {
        let (lab, directory) = (TestLab::up(), scratch());
        let at = directory.path();
        let prepared = Command::new("/bin/sh").args(["-c", self.prepare]).current_dir(at).output();
        let prepared = prepared.expect("start a shell");
        assert!(prepared.status.success(), "prepare: {}", String::from_utf8_lossy(&prepared.stderr));
        let report = at.join("report.json");
        let server = Program::shell(self.server).every(interval.unwrap_or_default());
        let mut command = match interval {
            Some(_) => lab.command(&server, &report),
            None => lab.still(&server),
        };
        let log = File::create(at.join("server-log")).expect("make a file");
        let mut server = command
            .current_dir(at)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share a file"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("start a server");
        let until = Instant::now() + PATIENCE;
        while !lab.on_first(self.ready, at).output().is_ok_and(|output| output.status.success()) {
            assert!(Instant::now() < until, "it never answers:\n{}", read(&at.join("server-log")));
            std::thread::sleep(LOOK_INTERVAL);
        }
        let start = Instant::now();
        let client = lab.on_first(self.client, at).output().expect("start a client");
        let time = start.elapsed();
        let status = (client.status.code().unwrap_or(-1), end(&mut server));
        let logs = format!("{}\n{}", read(&at.join("server-log")), lab.logs());
        Served {
            status,
            answers: [client.stdout, client.stderr].concat(),
            time,
            tally: read_tally(&report),
            logs,
        }
    }
}

/// Has a server end as an administrator does.
fn end(server: &mut Child) -> i32 {
    let pid = Pid::from_raw(server.id().cast_signed()).expect("a child has a PID");
    // It may have ended already, which its status tells.
    let _ = kill_process(pid, Signal::TERM);
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = server.try_wait().expect("wait for a server") {
            return status.code().unwrap_or(-1);
        }
        if Instant::now() > until {
            let _ = kill_process(pid, Signal::KILL);
            let _ = server.wait();
            return -1;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
