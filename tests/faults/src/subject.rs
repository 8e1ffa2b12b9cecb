//! The program that is moved, as a test holds it.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use minka_lab::{Program, Running};
use minka_node::client::{ClientError, Outcome};
use minka_node::protocol::{Process, Refusal, State};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Cluster, children};
use crate::machine::{self, Machine};
use crate::{SOON, eventually};

/// Memory of a subject.
const KIB: usize = 4096;

/// What a subject does while it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// No system call at all.
    Quiet,
    /// A line per step, and a nap.
    Chatty,
    /// The same, with several threads that compute a part of each step.
    Crowd,
    /// As a chatty one, in shared memory that nobody else has.
    Sharing,
    /// Several processes that take turns in memory that they share, each with a line for each of its steps.
    Family,
    /// The same without a system call.
    QuietFamily,
    /// The same as a chatty family, in memory of which all of them have descriptors.
    OpenFamily,
    /// As a sharing one, in a file that has a name.
    NamedSharing {
        /// It does not lie on a disk.
        is_in_memory: bool,
    },
    /// As a family, likewise.
    NamedFamily {
        /// It does not lie on a disk.
        is_in_memory: bool,
    },
    /// Several processes that share memory under a robust lock, of which the main one tells of its rounds.
    Heirs,
    /// The same, in memory of which all of them have descriptors.
    OpenHeirs,
}

impl Manner {
    /// What a subject is told of it.
    fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Chatty => "chatty",
            Self::Crowd => "crowd",
            Self::Sharing => "sharing",
            Self::Family => "family",
            Self::QuietFamily => "quiet-family",
            Self::OpenFamily => "open-family",
            Self::Heirs => "heirs",
            Self::OpenHeirs => "open-heirs",
            Self::NamedSharing { is_in_memory: false } => "disk-sharing",
            Self::NamedSharing { is_in_memory: true } => "memory-sharing",
            Self::NamedFamily { is_in_memory: false } => "disk-family",
            Self::NamedFamily { is_in_memory: true } => "memory-family",
        }
    }

    /// Whether it tells of nothing before its end.
    fn is_quiet(self) -> bool {
        matches!(self, Self::Quiet | Self::QuietFamily)
    }

    /// Whether its processes share memory under a lock.
    fn is_of_heirs(self) -> bool {
        matches!(self, Self::Heirs | Self::OpenHeirs)
    }

    /// Processes that it has beside the main one.
    fn others(self) -> usize {
        let is_family =
            matches!(self, Self::Family | Self::QuietFamily | Self::OpenFamily | Self::NamedFamily { .. });
        if is_family || self.is_of_heirs() { machine::FAMILY as usize - 1 } else { 0 }
    }

    /// Threads that compute.
    fn threads(self) -> u64 {
        if self == Self::Crowd { machine::CROWD } else { 1 }
    }

    /// Memory of each of them.
    fn kib(self) -> usize {
        KIB / self.threads() as usize
    }
}

/// A subject on the first node.
#[derive(Debug)]
pub struct Subject<'a> {
    cluster: &'a Cluster,
    manner: Manner,
    running: Running,
    ended: Option<Fate>,
    file: PathBuf,
    /// Its PID as the tests count.
    pid: i32,
    /// Its PID as its node counts.
    pub pid_in_node: i32,
    /// The other processes of a family, as the tests count.
    others: Vec<i32>,
    descriptors: BTreeSet<String>,
}

/// How a subject fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It computes.
    Lives,
    /// It ended by this signal.
    Killed(i32),
    /// It ended with this status.
    Exited(i32),
}

impl<'a> Subject<'a> {
    /// Starts one and waits until it computes.
    pub fn start(cluster: &'a Cluster, manner: Manner) -> Self {
        let file = cluster.new_file();
        let program = Program::new(cluster.subject())
            .arguments([manner.name(), &manner.kib().to_string()])
            .arguments([&file])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let running = cluster.lab().start(1, program).expect("start the subject");
        eventually(SOON, "the subject is ready", || read(&file).starts_with("ready\n").then_some(()));
        let (pid, pid_in_node) = (running.pid() as i32, running.pid_in_node() as i32);
        let descriptors = descriptors(pid);
        let others: Vec<i32> = children(pid as u32).into_iter().map(|pid| pid as i32).collect();
        assert_eq!(others.len(), manner.others());
        Self { cluster, manner, running, ended: None, file, pid, pid_in_node, others, descriptors }
    }

    /// Asks its node to move it.
    pub fn migrate(&self, to: &str) -> Result<Outcome, ClientError> {
        self.cluster.client(1).migrate(self.pid_in_node, to, false)
    }

    /// Memory that is its own alone, at home, in KiB; none if it has ended.
    pub fn own_kib(&self) -> Option<u64> {
        let status = read(Path::new(&format!("/proc/{}/status", self.pid)));
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }

    /// The PID of one of its other processes, as its node counts.
    pub fn other_in_node(&self) -> Option<i32> {
        let status = read(Path::new(&format!("/proc/{}/status", self.others.last()?)));
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        pids.split_ascii_whitespace().next_back()?.parse().ok()
    }

    /// Whether that process has ended.
    pub fn has_lost_other(&self) -> bool {
        self.others.last().is_none_or(|pid| is_zombie(*pid))
    }

    /// Sends a signal to one of its other processes, at home.
    pub fn signal_other(&self, signal: Signal) {
        let pid = self.others.last().copied().and_then(Pid::from_raw).expect("another process");
        kill_process(pid, signal).expect("signal another process");
    }

    /// Sends it a signal, at home.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid).expect("a PID");
        kill_process(pid, signal).expect("signal the subject");
    }

    /// Whether job control has stopped it.
    pub fn is_stopped(&self) -> bool {
        read(Path::new(&format!("/proc/{}/status", self.pid))).contains("\nState:\tT (stopped)")
    }

    /// How it fares at this moment.
    pub fn fate(&mut self) -> Fate {
        if self.ended.is_none() {
            let status = self.running.wait_timeout(Duration::ZERO).expect("look after the subject");
            self.ended = status.map(|status| match status.signal() {
                Some(signal) => Fate::Killed(signal),
                None => Fate::Exited(status.code().unwrap_or(-1)),
            });
        }
        self.ended.unwrap_or(Fate::Lives)
    }

    /// Steps of which it has told; all of them are checked.
    pub fn told(&self) -> u64 {
        check(&self.file, self.manner)
    }

    /// Waits until it has told of some more steps.
    pub fn goes_on(&mut self) {
        if !self.manner.is_quiet() {
            let before = self.told();
            let until = Instant::now() + SOON;
            while self.told() <= before + 5 {
                assert_eq!(self.fate(), Fate::Lives, "{}", self.cluster.logs());
                if Instant::now() > until {
                    let status = read(Path::new(&format!("/proc/{}/status", self.pid)));
                    panic!("it does not go on within {SOON:?}\n{status}\n{}", self.cluster.logs());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// The same of its main process alone.
    pub fn is_main_ordinary(&self) -> Result<(), String> {
        is_ordinary_thread(&read(Path::new(&format!("/proc/{}/status", self.pid))))
    }

    /// Nothing of Minka is in it: it is as it was started.
    pub fn is_ordinary(&self) -> Result<(), String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let statuses: Vec<String> = tasks.map(|task| read(&task.path().join("status"))).collect();
        if statuses.len() as u64 != self.manner.threads() {
            return Err(format!("{} threads", statuses.len()));
        }
        statuses.iter().try_for_each(|status| is_ordinary_thread(status))?;
        for other in &self.others {
            is_ordinary_thread(&read(Path::new(&format!("/proc/{other}/status"))))
                .map_err(|why| format!("its process {other}: {why}"))?;
        }
        let of_all = self.others.iter().chain([&self.pid]);
        let maps: String = of_all.map(|pid| read(Path::new(&format!("/proc/{pid}/maps")))).collect();
        let foreign = maps.lines().find(|line| line.contains("/memfd:") || line.contains("rwxs"));
        let now = descriptors(self.pid);
        match () {
            () if foreign.is_some() => Err(format!("maps {foreign:?}")),
            () if now != self.descriptors => Err(format!("has {now:?}, not {:?}", self.descriptors)),
            () => Ok(()),
        }
    }

    /// What its node says of it, ended or not.
    pub fn shown(&self) -> Option<Process> {
        let all = self.cluster.client(1).ps(true).expect("list the processes");
        all.into_iter().rfind(|process| process.pid == self.pid_in_node && process.home == "node1")
    }

    /// Why it is where it is, as its node says.
    pub fn reason(&self) -> String {
        eventually(SOON, "its node says why", || self.shown().and_then(|process| process.reason))
    }

    /// It can be brought home, at the latest when a busy disk has let it go.
    fn comes_home(&self) {
        eventually(SOON, "it comes home", || match self.migrate("home") {
            Ok(_) => Some(()),
            Err(ClientError::Refused(Refusal::NotMoved { reason, .. }))
                if reason.contains("cannot be interrupted") =>
            {
                None
            }
            Err(error) => panic!("{error}\n{}", self.cluster.logs()),
        });
    }

    /// Nobody wants it elsewhere any more.
    pub fn stays_at_home(&self) {
        // It may just be leaving again.
        eventually(SOON, "it stays at home", || self.migrate("home").ok());
    }

    /// It is at home, ordinary, and goes on.
    pub fn is_unharmed(&mut self) {
        let until = std::time::Instant::now() + SOON;
        loop {
            assert_eq!(self.fate(), Fate::Lives, "{}", self.cluster.logs());
            let Err(why) = self.is_ordinary() else { break };
            assert!(std::time::Instant::now() < until, "not ordinary: {why}\n{}", self.cluster.logs());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.goes_on();
    }

    /// It has ended as by SIGKILL, and its node says why: returns the reason.
    pub fn is_ended(&mut self) -> String {
        let mut fate = Fate::Lives;
        eventually(SOON, "the subject ends", || {
            fate = self.fate();
            (fate != Fate::Lives).then_some(())
        });
        assert_eq!(fate, Fate::Killed(9), "{}", self.cluster.logs());
        self.told();
        // None of a family is left, either.
        let is_there = |pid: &i32| Path::new(&format!("/proc/{pid}/maps")).exists() && !is_zombie(*pid);
        eventually(SOON, "all of its processes end", || (!self.others.iter().any(is_there)).then_some(()));
        let reason = eventually(SOON, "its end is told", || {
            self.shown().filter(|process| process.state == State::Ended).map(|process| process.reason)
        });
        let reason = reason.expect("a reason");
        let log = self.cluster.log(1);
        assert!(log.contains(&reason), "the log does not say {reason:?}:\n{log}");
        reason
    }

    /// It can move out and home again, and what it computes is right to the last word of its memory.
    pub fn travels_and_finishes(mut self) {
        self.stays_at_home();
        self.cluster.unhurried();
        let moved = eventually(SOON, "nobody is busy with it", || match self.migrate("node2") {
            Err(ClientError::Refused(Refusal::Busy { .. })) if !self.others.is_empty() => None,
            outcome => Some(outcome),
        });
        match moved {
            Ok(Outcome::Migrated(migrated)) => {
                assert_eq!((migrated.at.as_str(), migrated.moved), ("node2", true));
                assert_eq!(migrated.with.len(), self.others.len());
            }
            other => panic!("move it out: {other:?}\n{}", self.cluster.logs()),
        }
        self.goes_on();
        self.comes_home();
        self.cluster.heal();
        self.is_unharmed();
        self.finish();
    }

    /// The file that is its machine's memory, if that has a name.
    pub fn named_memory(&self) -> PathBuf {
        let (Manner::NamedSharing { is_in_memory } | Manner::NamedFamily { is_in_memory }) = self.manner
        else {
            panic!("{:?} has no such file", self.manner);
        };
        machine::numbered(&machine::prefix(is_in_memory, &self.file), 0)
    }

    /// Such a file has in it what follows from the steps that it has told of by now, or does while it is looked at.
    pub fn has_left_its_memory(&self) {
        let before = self.told();
        let found = std::fs::read(self.named_memory()).expect("read its memory");
        let after = self.told() + 1;
        let words: Vec<u64> = found.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let mut machine = Machine::new(self.manner.kib(), 0);
        (0..before).for_each(|_| _ = machine.step());
        assert_eq!(words.len(), machine.memory().len());
        let mut wrong = vec![true; words.len()];
        for _ in before..=after {
            let now = words.iter().zip(machine.memory());
            wrong.iter_mut().zip(now).for_each(|(wrong, (word, expected))| *wrong &= word != expected);
            machine.step();
        }
        let count = wrong.iter().filter(|wrong| **wrong).count();
        assert_eq!(count, 0, "words that are not of steps {before} to {after}\n{}", self.cluster.logs());
    }

    /// Sends a signal to all of its processes, with a pause between one and the next.
    pub fn signal_all(&self, signal: Signal, pause: Duration) {
        for pid in self.others.iter().chain([&self.pid]) {
            kill_process(Pid::from_raw(*pid).expect("a PID"), signal).expect("signal a process");
            std::thread::sleep(pause);
        }
    }

    /// It ends by this signal.
    pub fn ends_by(&mut self, signal: i32) {
        eventually(SOON, "the subject ends", || (self.fate() != Fate::Lives).then_some(()));
        assert_eq!(self.fate(), Fate::Killed(signal), "{}", self.cluster.logs());
    }

    /// Has it finish, and checks all that it said.
    pub fn finish(mut self) {
        self.signal(Signal::USR1);
        eventually(SOON, "the subject finishes", || (self.fate() != Fate::Lives).then_some(()));
        assert_eq!(self.fate(), Fate::Exited(0), "{}", self.cluster.logs());
        self.told();
        let text = read(&self.file);
        assert!(text.lines().last().is_some_and(|line| line.starts_with("end ")), "{text}");
    }
}

impl Drop for Subject<'_> {
    fn drop(&mut self) {
        if let Manner::NamedSharing { is_in_memory } | Manner::NamedFamily { is_in_memory } = self.manner {
            for number in 0..2 {
                // It may not have come so far.
                let prefix = machine::prefix(is_in_memory, &self.file);
                let _ = std::fs::remove_file(machine::numbered(&prefix, number));
            }
        }
    }
}

/// The same for one of its threads, by its status in `/proc`.
fn is_ordinary_thread(status: &str) -> Result<(), String> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match () {
        () if field("TracerPid:") != Some("0") => Err(format!("traced by {:?}", field("TracerPid:"))),
        () if field("Seccomp:") != Some("0") => Err(format!("seccomp {:?}", field("Seccomp:"))),
        () if field("State:").is_none_or(|state| !state.starts_with(['R', 'S', 'D'])) => {
            Err(format!("state {:?}", field("State:")))
        }
        () if field("SigBlk:").is_none_or(|mask| !mask.trim_start_matches('0').is_empty()) => {
            Err(format!("blocked signals {:?}", field("SigBlk:")))
        }
        () => Ok(()),
    }
}

fn is_zombie(pid: i32) -> bool {
    let status = read(Path::new(&format!("/proc/{pid}/status")));
    status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Number and target of each descriptor.
fn descriptors(pid: i32) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    let describe = |entry: std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        format!("{} {}", entry.file_name().display(), target.display())
    };
    entries.flatten().map(describe).collect()
}

/// Checks what a subject has written so far: every step once, in order, and right. Returns the last step's number.
fn check(file: &Path, manner: Manner) -> u64 {
    let text = read(file);
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    if manner.is_of_heirs() {
        return check_rounds(whole);
    }
    let mut machines: Vec<Machine> =
        (0..manner.threads()).map(|number| Machine::new(manner.kib(), number)).collect();
    let mut step = || {
        let steps = machines.iter_mut().map(Machine::step);
        steps.fold((0, 0), |(_, sum), (step, result)| (step, result.wrapping_add(sum)))
    };
    let mut told = 0;
    let mut ending = None;
    let mut lines = whole.lines();
    assert_eq!(lines.next(), Some("ready"));
    for line in lines {
        assert_eq!(ending, None, "{line:?} after the end");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().unwrap_or_else(|_| panic!("not understood: {line:?}"));
        match words[..] {
            ["end", last, result, digest] => {
                let (last, result) = (number(last), number(result));
                if manner.is_quiet() {
                    while told + 1 < last {
                        told = step().0;
                    }
                    assert_eq!(step(), (last, result), "the last step");
                    told = last;
                }
                ending = Some(number(digest));
            }
            [next, result] => {
                assert_eq!((number(next), number(result)), step(), "after step {told}");
                told += 1;
            }
            _ => panic!("line {line:?} after step {told}"),
        }
    }
    if let Some(digest) = ending {
        let found = machines.iter().map(Machine::digest).fold(0, u64::wrapping_add);
        assert_eq!(found, digest, "the memory after step {told}");
    }
    told
}

/// The same of one that tells of nothing but its rounds.
fn check_rounds(text: &str) -> u64 {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("ready"));
    let told: Vec<&str> = lines.collect();
    for (line, round) in told.iter().zip(1u64..) {
        assert!(*line == round.to_string() || line.starts_with("end "), "{line:?} instead of {round}");
    }
    told.len() as u64
}
