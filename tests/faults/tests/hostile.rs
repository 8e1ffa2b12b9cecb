//! Peers with the right certificate that lie, at any point of a session: whoever is lied to ends it in bounded time
//! and says why, the process is unharmed or has ended, and the next one is served as if nothing had been.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use minka_faults_tests::cluster::Cluster;
use minka_faults_tests::journey::{May, Outcome, settle};
use minka_faults_tests::liar::{Lie, To, lies};
use minka_faults_tests::subject::{Fate, Manner, Subject};
use minka_faults_tests::{SOON, eventually};
use minka_lab::{Program, Running, node_address};
use minka_node::protocol::State;
use rustix::process::{Pid, Signal, kill_process};

/// Where liars listen.
const PORT: u16 = 4777;

/// The longest that one lie may keep anybody busy: a few times the patience that these clusters have.
const BOUND: Duration = Duration::from_secs(8);

/// After so many lies nothing must be left of them.
const QUIET_EVERY: usize = 8;

fn cluster() -> Cluster {
    Cluster::up(2, env!("CARGO_BIN_EXE_minka-faults-subject"))
}

/// A liar in node 2, until it is dropped.
struct Liar {
    running: Running,
    said: PathBuf,
}

impl Liar {
    fn start(cluster: &Cluster, lie: &str) -> Self {
        let (said, address) = (cluster.new_file(), node_address(2));
        let program = Program::new(env!("CARGO_BIN_EXE_minka-faults-liar"))
            .arguments([format!("{address}:{PORT}"), format!("{address}:{}", minka_lab::NODE_PORT)])
            .arguments([cluster.keys(1), cluster.keys(2)])
            .arguments([lie])
            .stdin(Stdio::null())
            .stdout(File::create(&said).expect("make a file"));
        let running = cluster.lab().start(2, program).expect("start a liar");
        let liar = Self { running, said };
        eventually(SOON, "the liar listens", || liar.has_said("ready").then_some(()));
        cluster.divert(PORT);
        liar
    }

    /// Has one deputy, which `act` makes its node start, come to the liar. Whoever moves a process later finds the
    /// host itself.
    fn misleads<T: Send>(&self, cluster: &Cluster, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let acting = scope.spawn(act);
            eventually(SOON, "a deputy comes to the liar", || self.has_said("met").then_some(()));
            cluster.heal();
            acting.join().expect("act")
        })
    }

    fn has_said(&self, word: &str) -> bool {
        read(&self.said).lines().any(|line| line == word)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.running.pid() as i32) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.running.wait_timeout(SOON);
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Waits until something is so, or not so for that long.
fn wait(patience: Duration, done: impl Fn() -> bool) {
    let until = Instant::now() + patience;
    while Instant::now() < until && !done() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a subject out and home again through a liar.
fn travel(cluster: &Cluster, manner: Manner, lie: &Lie) -> Outcome {
    let subject = Subject::start(cluster, manner);
    let liar = Liar::start(cluster, &lie.name);
    let start = Instant::now();
    let out = liar.misleads(cluster, || subject.migrate("node2"));
    if out.is_ok() {
        // Most lies of the way home are told on the way only, the others while the process is away, and end that.
        if !lie.is_told_on_the_way_home() {
            wait(SOON, || liar.has_said("lied"));
        }
        if !lie.is_told_on_the_way_home() && !lie.harmless {
            wait(BOUND / 2, || subject.shown().is_none_or(|process| process.state != State::Away));
        }
    }
    let home = subject.migrate("home");
    let took = start.elapsed();
    let what = format!("{} {manner:?}: {out:?} {home:?}", lie.name);
    assert!(took < BOUND, "{what}: took {took:?}\n{}", cluster.logs());
    eventually(SOON, &format!("the lie is told: {what}\n{}", cluster.logs()), || {
        liar.has_said("lied").then_some(())
    });
    let outcome = settle(cluster, subject, &what);
    drop(liar);
    println!("{what}: {outcome:?} after {took:?}");
    outcome
}

/// Tells some of the lies, each to the programs behind one process.
fn tell(chosen: impl Fn(&Lie) -> bool) {
    let cluster = cluster();
    let mut wrong = Vec::new();
    for (number, lie) in lies().iter().filter(|lie| chosen(lie)).enumerate() {
        if (lie.quiet, lie.chatty) == (May::NotBe, May::NotBe) {
            continue;
        }
        // One manner has to do where both are possible: each lie takes a moment.
        let quiet = lie.chatty == May::NotBe || lie.quiet != May::NotBe && number % 2 == 0;
        let (manner, may) = if quiet { (Manner::Quiet, lie.quiet) } else { (Manner::Chatty, lie.chatty) };
        let outcome = travel(&cluster, manner, lie);
        if may != May::BeEither && may != May::Be(outcome) {
            wrong.push(format!("{} {manner:?}: {outcome:?}", lie.name));
        }
        // A host program waits a moment for a goodbye that may be on its way.
        if number % QUIET_EVERY == 0 {
            cluster.is_quiet();
        }
    }
    cluster.is_quiet();
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", cluster.logs());
}

#[test]
fn a_deputy_stands_broken_frames() {
    tell(|lie| lie.to == To::Home && !lie.name.starts_with("host:"));
}

#[test]
fn a_host_program_stands_broken_frames() {
    tell(|lie| lie.to == To::Host && !lie.name.starts_with("home:"));
}

#[test]
fn a_deputy_stands_a_lying_host() {
    tell(|lie| lie.name.starts_with("host:"));
}

#[test]
fn a_host_program_stands_a_lying_home() {
    tell(|lie| lie.name.starts_with("home:"));
}

#[test]
fn both_stand_any_lie() {
    let cluster = cluster();
    for seed in 0..16u64 {
        let manner = if seed % 3 == 0 { Manner::Quiet } else { Manner::Chatty };
        let mut subject = Subject::start(&cluster, manner);
        let liar = Liar::start(&cluster, &format!("fuzz:{seed}"));
        let start = Instant::now();
        let out = liar.misleads(&cluster, || subject.migrate("node2").is_ok());
        let moved = (out, subject.migrate("home").is_ok());
        assert!(start.elapsed() < 2 * BOUND, "seed {seed} took {:?}\n{}", start.elapsed(), cluster.logs());
        drop(liar);
        // What it computed after all that is nobody's guess; but it is whole, or gone.
        eventually(SOON, &format!("the outcome of seed {seed}\n{}", cluster.logs()), || {
            (subject.fate() != Fate::Lives
                || subject.migrate("home").is_ok() && subject.is_ordinary().is_ok())
            .then_some(())
        });
        println!("seed {seed} {manner:?}: {moved:?} {:?}", subject.fate());
        if subject.fate() == Fate::Lives {
            subject.signal(Signal::KILL);
            eventually(SOON, "it ends", || (subject.fate() != Fate::Lives).then_some(()));
        }
        cluster.is_quiet();
    }
    Subject::start(&cluster, Manner::Chatty).travels_and_finishes();
}
