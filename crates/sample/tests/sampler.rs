//! The sampler on directories that look like `/proc`, and on this machine's own.

#![allow(clippy::unwrap_used, reason = "clippy does not see that helpers of tests are tests")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use minka_sample::{Sample, SampleError, Sampler, Scope};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);
const SECOND_NS: u64 = 1_000_000_000;

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A machine with two processors, after so many seconds of which one processor was used all the time.
fn machine(root: &Path, seconds: u64) {
    let ticks = seconds * 100;
    write(root, "stat", &format!("cpu  {ticks} 0 0 {ticks} 0 0 0 0 0 0\ncpu0 0\ncpu1 0\nintr 1\n"));
    write(root, "meminfo", "MemTotal: 2097152 kB\nMemFree: 524288 kB\nMemAvailable: 1048576 kB\n");
    let ran = seconds * SECOND_NS;
    write(
        root,
        "schedstat",
        &format!("version 17\ncpu0 0 0 0 0 0 0 {ran} {} 0\ncpu1 0 0 0 0 0 0 0 0 0\n", ran * 2),
    );
    write(root, "pressure/io", &format!("some avg10=0.00 total={}\n", seconds * 250_000));
}

fn process(root: &Path, pid: u32, start: u64, ran_ns: u64, waited_ns: u64) {
    let used = ran_ns / 10_000_000;
    let stat = format!("{pid} (w o) rk) S 1 1 1 0 -1 0 0 0 0 0 {used} 0 0 0 20 0 1 0 {start} 0 512 0 0");
    write(root, &format!("{pid}/stat"), &stat);
    write(root, &format!("{pid}/status"), "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n");
    write(root, &format!("{pid}/cgroup"), "0::/user.slice\n");
    write(root, &format!("{pid}/schedstat"), &format!("{ran_ns} {waited_ns} 3\n"));
}

/// Samples after each of these seconds, in which a process has run and waited for so long.
fn samples(scope: Scope, steps: &[(u64, u64, u64)]) -> Vec<Sample> {
    let root = TempDir::new().unwrap();
    let mut sampler = Sampler::new(root.path(), scope);
    let sample = |&(seconds, ran, waited): &(u64, u64, u64)| {
        machine(root.path(), seconds);
        process(root.path(), 42, 7, ran, waited);
        sampler.sample(seconds as u32 * SECOND).unwrap()
    };
    steps.iter().map(sample).collect()
}

const HALF: u64 = SECOND_NS / 2;

#[test]
fn load_is_what_ran_and_what_waited() {
    let found = samples(Scope::Machine, &[(10, 0, 0), (12, HALF, HALF)]);
    assert_eq!((found[0].load.tasks(), found[1].load.tasks()), (0.0, 3.0));
    let last = &found[1];
    assert_eq!((last.used_percent, last.cpus, last.io_stall, last.memory_stall), (50, 2, 25, 0));
    assert_eq!(last.memory_mib, [2048, 512, 1024]);
}

#[test]
fn a_node_of_a_lab_counts_its_own_processes_only() {
    let found = samples(Scope::Visible, &[(10, 0, 0), (12, HALF, HALF)]);
    assert_eq!(found[1].load.tasks(), 0.5);
}

#[test]
fn a_process_is_told_at_a_glance() {
    let root = TempDir::new().unwrap();
    process(root.path(), 42, 7, HALF, 0);
    let mut sampler = Sampler::new(root.path(), Scope::Machine);
    let found = sampler.glance(42).unwrap();
    assert_eq!((found.pid, found.start_ticks, found.uid, found.parent), (42, 7, 1000, 1));
    assert_eq!((&*found.program, &*found.cgroup), ("w o) rk", "/user.slice"));
    assert_eq!((found.memory_mib, found.computed), (2.0, SECOND / 2));
    assert!(sampler.glance(43).is_none());
}

#[test]
fn a_process_is_told_with_what_it_used_and_what_it_would_have() {
    let found = samples(Scope::Machine, &[(10, 0, 0), (11, HALF, 2 * HALF)]);
    assert!(found[0].processes.is_empty());
    let [process] = &found[1].processes[..] else { panic!("{found:?}") };
    assert_eq!((process.pid, process.start_ticks, process.uid, process.parent), (42, 7, 1000, 1));
    assert_eq!((process.program.as_str(), process.cgroup.as_str()), ("w o) rk", "/user.slice"));
    assert_eq!((process.tasks, process.memory_mib), (1.5, 2.0));
    assert_eq!(process.computed, Duration::from_millis(500));
    assert!((process.usage.processors() - 0.5).abs() < 1e-9);
}

#[test]
fn all_threads_of_a_process_count() {
    let root = TempDir::new().unwrap();
    let mut sampler = Sampler::new(root.path(), Scope::Visible);
    let samples = [0, 1].map(|second: u32| {
        machine(root.path(), second.into());
        let used = second * 150;
        let stat = format!("42 (x) R 1 1 1 0 -1 0 0 0 0 0 {used} 0 0 0 20 0 3 0 7 0 512 0 0");
        process(root.path(), 42, 7, 0, 0);
        write(root.path(), "42/stat", &stat);
        for (thread, ran, waited) in [(42, 0, 0), (43, SECOND_NS, 0), (44, HALF, HALF)] {
            let times = format!("{} {} 1\n", ran * u64::from(second), waited * u64::from(second));
            write(root.path(), &format!("42/task/{thread}/schedstat"), &times);
        }
        sampler.sample(second * SECOND).unwrap()
    });
    let [process] = &samples[1].processes[..] else { panic!("{samples:?}") };
    assert_eq!((process.tasks, process.threads, samples[1].load.tasks()), (2.0, 3, 2.0));
    assert_eq!(process.computed, Duration::from_millis(1500));
}

/// In which of twenty samples a process is told that sleeps for ten seconds and then computes half of the time; whether
/// the machine's books say that somebody computes.
fn told_after_waking(scope: Scope, machine_knows: bool) -> Vec<u64> {
    let root = TempDir::new().unwrap();
    let mut sampler = Sampler::new(root.path(), scope);
    let mut told = Vec::new();
    for second in 1..=20_u64 {
        machine(root.path(), second);
        let ran = second.saturating_sub(10) * HALF;
        let books = if machine_knows { ran } else { 0 };
        write(root.path(), "schedstat", &format!("version 17\ncpu0 0 0 0 0 0 0 {books} 0 0\n"));
        process(root.path(), 42, 7, ran, 0);
        let sample = sampler.sample(second as u32 * SECOND).unwrap();
        told.extend(sample.processes.iter().map(|_| second));
    }
    told
}

#[test]
fn one_that_sleeps_is_not_told_and_is_seen_when_it_wakes() {
    let at_once: Vec<u64> = (11..=20).collect();
    assert_eq!(told_after_waking(Scope::Machine, true), at_once);
    assert_eq!(told_after_waking(Scope::Visible, false), at_once);
    // Where nobody seems to compute who sleeps is looked at every eighth second, and from then on every second.
    assert_eq!(told_after_waking(Scope::Machine, false), (14..=20).collect::<Vec<u64>>());
}

#[test]
fn one_that_is_kept_waiting_does_not_sleep() {
    let root = TempDir::new().unwrap();
    let mut sampler = Sampler::new(root.path(), Scope::Visible);
    for second in 1..5 {
        machine(root.path(), second);
        process(root.path(), 42, 7, 0, second * SECOND_NS);
        let stat = "42 (x) R 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 7 0 512 0 0";
        write(root.path(), "42/stat", stat);
        let sample = sampler.sample(second as u32 * SECOND).unwrap();
        let tasks: Vec<_> = sample.processes.iter().map(|it| it.tasks).collect();
        assert_eq!(tasks, if second == 1 { vec![] } else { vec![1.0] }, "{second}");
    }
}

#[test]
fn it_is_told_who_sleeps_and_what_its_children_used() {
    let root = TempDir::new().unwrap();
    let mut sampler = Sampler::new(root.path(), Scope::Visible);
    let mut told = Vec::new();
    for (second, slept) in (1..).zip([3, 3, 4, 5, 5]) {
        machine(root.path(), second);
        process(root.path(), 42, 7, second * HALF, 0);
        let ticks = second * 50;
        let stat = format!("42 (x) R 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 300 100 20 0 1 0 7 0 512 0 0");
        write(root.path(), "42/stat", &stat);
        write(root.path(), "42/status", &format!("Uid:\t1\nvoluntary_ctxt_switches:\t{slept}\n"));
        let sample = sampler.sample(second as u32 * SECOND).unwrap();
        told.extend(sample.processes.first().map(|it| (it.sleeps, it.children)));
    }
    // At first it is not known.
    assert_eq!(told, [true, true, true, false].map(|sleeps| (sleeps, 4 * SECOND)));
}

/// What a process wants in each second that has run so many ticks by then, is in this state, and has slept so often.
fn wanted(seconds: &[(u64, char, u32)]) -> Vec<Option<f64>> {
    let root = TempDir::new().unwrap();
    let mut sampler = Sampler::new(root.path(), Scope::Visible);
    let mut wanted = Vec::new();
    for (second, (ticks, state, slept)) in (1..).zip(seconds) {
        machine(root.path(), second);
        process(root.path(), 42, 7, ticks * 10_000_000, 0);
        let stat = format!("42 (x) {state} 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 7 0 512 0 0");
        write(root.path(), "42/stat", &stat);
        let status = format!("Uid:\t1\nvoluntary_ctxt_switches:\t{slept}\n");
        write(root.path(), "42/status", &status);
        let sample = sampler.sample(second as u32 * SECOND).unwrap();
        wanted.push(sample.processes.first().map(|it| (it.tasks * 100.0).round()));
    }
    wanted
}

/// Waiting is told only when it is over.
#[test]
fn one_that_never_sleeps_wants_the_processor_all_the_time() {
    // Of the second it is not known yet whether it slept; in the last it has.
    let found = wanted(&[(0, 'R', 3), (5, 'R', 3), (10, 'R', 3), (15, 'R', 3), (30, 'R', 4)]);
    assert_eq!(found, [None, Some(5.0), Some(100.0), Some(100.0), Some(15.0)]);
}

#[test]
fn one_that_woke_wants_it_too_when_it_has_run_for_a_while() {
    let found = wanted(&[(5, 'S', 3), (5, 'S', 4), (17, 'R', 4), (20, 'R', 4)]);
    assert_eq!(found, [None, None, Some(100.0), Some(100.0)]);
    let found = wanted(&[(5, 'S', 3), (5, 'S', 4), (7, 'R', 4), (7, 'S', 5), (9, 'R', 5)]);
    assert_eq!(found, [None, None, Some(2.0), None, Some(2.0)]);
}

#[test]
fn a_pid_that_passed_to_another_process_begins_anew() {
    let root = TempDir::new().unwrap();
    let mut sampler = Sampler::new(root.path(), Scope::Machine);
    for (second, start, ran) in [(1, 7, 0), (2, 7, SECOND_NS), (3, 300, HALF), (4, 300, 2 * HALF)] {
        machine(root.path(), second);
        process(root.path(), 42, start, ran, 0);
        let sample = sampler.sample(second as u32 * SECOND).unwrap();
        let told: Vec<_> = sample.processes.iter().map(|it| (it.start_ticks, it.tasks)).collect();
        let expected: &[(u64, f64)] = match second {
            2 => &[(7, 1.0)],
            4 => &[(300, 0.5)],
            _ => &[],
        };
        assert_eq!(told, expected, "{second}");
    }
}

#[test]
fn a_process_is_told_as_soon_as_it_was_started() {
    let root = TempDir::new().unwrap();
    let mut sampler = Sampler::new(root.path(), Scope::Visible);
    machine(root.path(), 10);
    sampler.sample(10 * SECOND).unwrap();
    // Half a second before the next sample; it was kept waiting for half of that time.
    process(root.path(), 43, 1050, HALF / 2, HALF / 2);
    let sample = sampler.sample(11 * SECOND).unwrap();
    let [process] = &sample.processes[..] else { panic!("{sample:?}") };
    assert_eq!((process.pid, process.tasks, process.computed), (43, 1.0, Duration::from_millis(250)));
}

#[test]
fn what_is_missing_or_odd_is_named() {
    let root = TempDir::new().unwrap();
    let mut sampler = Sampler::new(root.path(), Scope::Machine);
    assert!(matches!(sampler.sample(SECOND), Err(SampleError::Read { .. })));
    machine(root.path(), 1);
    write(root.path(), "meminfo", "MemTotal: many\n");
    let error = sampler.sample(SECOND).unwrap_err();
    assert!(matches!(&error, SampleError::Format { path } if path.ends_with("meminfo")), "{error}");
    // Without the scheduler's books and without pressure the rest is still told.
    machine(root.path(), 2);
    fs::remove_file(root.path().join("schedstat")).unwrap();
    fs::remove_dir_all(root.path().join("pressure")).unwrap();
    assert_eq!(sampler.sample(2 * SECOND).unwrap().io_stall, 0);
}

/// A process that computes until it is dropped.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_that_computes_here_is_found() {
    let busy = Busy(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
    let pid = i32::try_from(busy.0.id()).unwrap();
    let mut sampler = Sampler::new(Path::new("/proc"), Scope::Machine);
    let start = Instant::now();
    sampler.sample(start.elapsed()).unwrap();
    sleep(Duration::from_millis(500));
    let sample = sampler.sample(start.elapsed()).unwrap();
    let found = sample.processes.iter().find(|process| process.pid == pid).unwrap();
    assert_eq!((found.program.as_str(), found.threads), ("sh", 1));
    // It computes or waits to, however busy the machine is.
    assert!(found.tasks > 0.8, "{found:?}");
    assert!(sample.load.tasks() > 0.8 && sample.memory_mib[0] > 0 && sample.cpus > 0, "{sample:?}");
}
