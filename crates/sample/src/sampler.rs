//! Reading `/proc` once a second.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use minka_cluster::load::{Decay, Load, Pace, Usage};

use crate::limit::MemoryGroup;
use crate::parse::{self, CpuTicks, ProcessStat, ProcessStatus};

/// No file that is read here is larger, on any machine; what is beyond is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Processes that are followed; more than any machine has that are worth moving.
const PROCESSES_MAX: usize = 32_768;

/// Threads of a process that are looked at.
const THREADS_MAX: usize = 1024;

/// A process that does not run is looked at once in so many samples, unless somebody must have woken.
const SLEEPER_SAMPLES: u64 = 8;

/// Somebody must have if so many tasks ran on the machine, on average, beside those that are known to.
const UNEXPLAINED_TASKS: f64 = 0.25;

/// A process that has woken and not slept since is held for one that computes after so long.
const AWAKE: Duration = Duration::from_millis(100);

/// Milliseconds of a clock tick in `/proc`, on every machine (`USER_HZ`).
const TICK_MS: u64 = 10;

/// Bytes of a page, on every x86-64 kernel.
const PAGE_BYTES: u64 = 4096;

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not as the kernel documents it.
    #[error("understand {}", path.display())]
    Format {
        /// Which one.
        path: PathBuf,
    },
}

/// Whose tasks make up the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of the machine's.
    Machine,
    /// Those of the processes that can be seen: a node of a lab is one of several on its machine.
    Visible,
}

/// A process that uses the processor.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its PID.
    pub pid: i32,
    /// When it was started, in clock ticks after the machine: with the PID, it names the process for ever.
    pub start_ticks: u64,
    /// Its parent.
    pub parent: i32,
    /// Its user.
    pub uid: u32,
    /// Its program's name.
    pub program: String,
    /// Its control group, if the machine has the hierarchy of version 2.
    pub cgroup: String,
    /// Its threads.
    pub threads: u32,
    /// Memory that is in use, in MiB.
    pub memory_mib: f64,
    /// Processors that its threads used or waited for during the last sample: what it would use if it were alone.
    pub tasks: f64,
    /// Processor time that its threads, as many as there are now, have used.
    pub computed: Duration,
    /// It has one thread, and that slept during the last sample.
    pub sleeps: bool,
    /// Processor time that those of its children have used for which it has waited.
    pub children: Duration,
    /// What it used lately.
    pub usage: Usage,
}

/// What a node is like.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Runnable tasks, on average since the last sample.
    pub load: Load,
    /// Processor time in use since then, in percent.
    pub used_percent: u8,
    /// Processors.
    pub cpus: u16,
    /// Time in which somebody waited for a disk, in percent; 0 if the kernel does not tell.
    pub io_stall: u8,
    /// Time in which somebody waited for memory, in percent; 0 if the kernel does not tell.
    pub memory_stall: u8,
    /// Memory that Linux has, calls free, and calls available, in MiB.
    pub memory_mib: [u32; 3],
    /// The processes that ran since the last sample.
    pub processes: Vec<Process>,
}

/// What is remembered of a process between samples.
#[derive(Debug)]
struct Followed {
    start_ticks: u64,
    used_ticks: u64,
    ran_ns: u64,
    waited_ns: u64,
    /// How often it has slept, if it has one thread.
    slept: Option<u64>,
    usage: Usage,
    resident_pages: u64,
    looked_at: Duration,
    /// It had not run when it was last looked at.
    asleep: bool,
}

/// Sums that only grow, as they were at the last sample.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    at: Duration,
    cpu: CpuTicks,
    schedstat: Option<(u64, u64)>,
    io_us: u64,
    memory_us: u64,
}

/// Reads samples.
#[derive(Debug)]
pub struct Sampler {
    proc: PathBuf,
    scope: Scope,
    decay: Decay,
    memory: Option<MemoryGroup>,
    followed: BTreeMap<i32, Followed>,
    last: Option<Totals>,
    /// When the last sample was made: whatever has started after that is seen for the first time.
    before: Option<Duration>,
    samples: u64,
    text: String,
}

impl Sampler {
    /// A sampler of what is below `proc`, which is `/proc` or looks like it.
    pub fn new(proc: &Path, scope: Scope) -> Self {
        Sampler {
            proc: proc.to_owned(),
            scope,
            decay: Decay::default(),
            memory: None,
            followed: BTreeMap::new(),
            last: None,
            before: None,
            samples: 0,
            text: String::new(),
        }
    }

    /// Memory is that of a control group, and not all of the machine's.
    pub fn limit_memory(&mut self, group: Option<MemoryGroup>) {
        self.memory = group;
    }

    /// How fast use is forgotten from now on.
    pub fn set_decay(&mut self, decay: Decay) {
        self.decay = decay;
    }

    /// Looks at everything. `now` is the time since the machine was started (`CLOCK_BOOTTIME`), by which processes that
    /// have just been started are known; any other clock that never goes back will do as well, but for those. The first
    /// sample has no load and no processes, for there is nothing to compare with.
    ///
    /// # Errors
    /// When what every Linux tells is not there. A process that ends meanwhile is no error.
    pub fn sample(&mut self, now: Duration) -> Result<Sample, SampleError> {
        let (cpu, cpus) = self.understood("stat", parse::stat)?;
        let machine_mib = self.understood("meminfo", parse::meminfo)?;
        let memory_mib = self.memory.as_ref().map_or(machine_mib, |group| group.of(machine_mib));
        let schedstat = self.told("schedstat", parse::machine_schedstat);
        let io_us = self.told("pressure/io", parse::pressure).unwrap_or(0);
        let memory_us = self.told("pressure/memory", parse::pressure).unwrap_or(0);
        let totals = Totals { at: now, cpu, schedstat, io_us, memory_us };
        let last = self.last.replace(totals);
        self.before = last.map(|last| last.at);
        let elapsed = last.map_or(Duration::ZERO, |last| now.saturating_sub(last.at));
        let books = last.and_then(|last| Some((schedstat?, last.schedstat?)));
        let machine = books.filter(|_| self.scope == Scope::Machine).map(|(new, old)| {
            let time_ns = new.0.saturating_sub(old.0).saturating_add(new.1.saturating_sub(old.1));
            part(time_ns, elapsed.as_nanos())
        });
        let (processes, visible) = self.processes(now, machine)?;
        let tasks = machine.unwrap_or(visible);
        let last = last.unwrap_or(totals);
        let used =
            part(cpu.used.saturating_sub(last.cpu.used), cpu.total.saturating_sub(last.cpu.total).into());
        let stall = |new: u64, old: u64| percent(part(new.saturating_sub(old), elapsed.as_micros()));
        Ok(Sample {
            load: Load::of_tasks(tasks),
            used_percent: percent(used),
            cpus,
            io_stall: stall(io_us, last.io_us),
            memory_stall: stall(memory_us, last.memory_us),
            memory_mib,
            processes,
        })
    }

    /// Those that ran since the last sample, and how many tasks all together were on average. How many the whole machine
    /// had is said if these are to be among them: then those that sleep need not all be looked at.
    fn processes(&mut self, now: Duration, machine: Option<f64>) -> Result<(Vec<Process>, f64), SampleError> {
        self.samples += 1;
        let path = self.proc.clone();
        let entries = fs::read_dir(&path).map_err(|source| SampleError::Read { path, source })?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let pids: Vec<i32> = pids.take(PROCESSES_MAX).collect();
        let mut old = std::mem::take(&mut self.followed);
        let asleep = |pid: &i32| {
            let turn = (self.samples + u64::from(pid.unsigned_abs())).is_multiple_of(SLEEPER_SAMPLES);
            !turn && old.get(pid).is_some_and(|known| known.asleep)
        };
        let (sleepers, others): (Vec<i32>, Vec<i32>) = pids.into_iter().partition(asleep);
        let mut processes = Vec::new();
        for pid in others {
            let known = old.remove(&pid);
            processes.extend(self.look(pid, known, now));
        }
        let explained = machine.is_some_and(|machine| machine - sum(&processes) < UNEXPLAINED_TASKS);
        for pid in sleepers {
            let known = old.remove(&pid);
            match known {
                Some(known) if explained => drop(self.followed.insert(pid, known)),
                known => processes.extend(self.look(pid, known, now)),
            }
        }
        let tasks = sum(&processes);
        Ok((processes, tasks))
    }

    /// Those that have not run lately and have so much memory: a node that is short of it may have to send them away.
    pub fn resting(&mut self, memory_mib: f64) -> Vec<Process> {
        let large = |it: &Followed| it.asleep && mib(it.resident_pages) >= memory_mib;
        let pids: Vec<i32> = self.followed.iter().filter(|(_, it)| large(it)).map(|(pid, _)| *pid).collect();
        let resting = pids.into_iter().filter_map(|pid| {
            let stat = self.told(&format!("{pid}/stat"), parse::process_stat)?;
            let status = self.status(pid)?;
            let (ran_ns, _) = self.threads(pid, stat.threads)?;
            let usage =
                self.followed.get(&pid).filter(|it| it.start_ticks == stat.start_ticks)?.usage.clone();
            let details = self.details(pid, stat, status);
            Some(Process { computed: Duration::from_nanos(ran_ns), usage, ..details })
        });
        resting.collect()
    }

    /// A process as it is now, whatever it has done so far; none if it has ended.
    pub fn glance(&mut self, pid: i32) -> Option<Process> {
        let stat = self.told(&format!("{pid}/stat"), parse::process_stat)?;
        let status = self.status(pid)?;
        let (ran_ns, _) = self.threads(pid, stat.threads)?;
        Some(Process { computed: Duration::from_nanos(ran_ns), ..self.details(pid, stat, status) })
    }

    /// Looks at a process, and remembers it as long as it is there; what it is like if it ran since it was last looked at.
    fn look(&mut self, pid: i32, known: Option<Followed>, now: Duration) -> Option<Process> {
        let (known, process) = self.examine(pid, known, now);
        self.followed.extend(known.map(|known| (pid, known)));
        process
    }

    /// Looks at a process: what to remember of it, and what it is like if it ran since it was last looked at.
    fn examine(
        &mut self,
        pid: i32,
        known: Option<Followed>,
        now: Duration,
    ) -> (Option<Followed>, Option<Process>) {
        let Some(stat) = self.told(&format!("{pid}/stat"), parse::process_stat) else { return (None, None) };
        // Its PID may have passed to another one.
        let known = known.filter(|known| known.start_ticks == stat.start_ticks);
        match known {
            Some(mut known) if known.used_ticks == stat.used_ticks && !stat.runnable => {
                known.usage.observe(&self.decay, now.saturating_sub(known.looked_at), Duration::ZERO, 0);
                if !known.asleep {
                    // This sleep is counted already.
                    known.slept = self.status(pid).and_then(|status| status.slept);
                }
                (known.looked_at, known.asleep) = (now, true);
                known.resident_pages = stat.resident_pages;
                (Some(known), None)
            }
            Some(known) => self.measure(pid, stat, known, now),
            None => {
                let new = |ran_ns, waited_ns, slept, looked_at| Followed {
                    start_ticks: stat.start_ticks,
                    used_ticks: stat.used_ticks,
                    ran_ns,
                    waited_ns,
                    slept,
                    usage: Usage::new(Pace::Slow),
                    resident_pages: stat.resident_pages,
                    looked_at,
                    asleep: false,
                };
                let start = Duration::from_millis(stat.start_ticks.saturating_mul(TICK_MS));
                // All that it has done it has done since then.
                if start < now && self.before.is_some_and(|before| before <= start) {
                    return self.measure(pid, stat.clone(), new(0, 0, Some(0), start), now);
                }
                let times = self.threads(pid, stat.threads);
                (times.map(|(ran_ns, waited_ns)| new(ran_ns, waited_ns, None, now)), None)
            }
        }
    }

    fn measure(
        &mut self,
        pid: i32,
        stat: ProcessStat,
        mut known: Followed,
        now: Duration,
    ) -> (Option<Followed>, Option<Process>) {
        let Some((ran_ns, waited_ns)) = self.threads(pid, stat.threads) else { return (None, None) };
        let time = now.saturating_sub(known.looked_at);
        let computed_ns = ran_ns.saturating_sub(known.ran_ns);
        let told_ns = computed_ns.saturating_add(waited_ns.saturating_sub(known.waited_ns));
        let status = self.status(pid);
        let slept = status.and_then(|status| status.slept).filter(|_| stat.threads == 1);
        // Waiting is told when it is over, and where many share a processor that may be seconds late. But one that runs
        // and has not slept has wanted the processor all the time.
        let tireless = stat.runnable
            && slept.is_some()
            && slept == known.slept
            && (!known.asleep || Duration::from_nanos(told_ns) >= AWAKE);
        let wanted = if tireless { 1.0 } else { part(told_ns, time.as_nanos()) };
        known.slept = slept;
        known.usage.observe(&self.decay, time, Duration::from_nanos(computed_ns), 0);
        (known.ran_ns, known.waited_ns, known.used_ticks) = (ran_ns, waited_ns, stat.used_ticks);
        (known.looked_at, known.asleep) = (now, false);
        known.resident_pages = stat.resident_pages;
        let sleeps = stat.threads == 1 && !tireless;
        let details = status.map(|status| self.details(pid, stat, status));
        let process = details.map(|details| Process {
            tasks: wanted,
            computed: Duration::from_nanos(ran_ns),
            sleeps,
            usage: known.usage.clone(),
            ..details
        });
        (Some(known), process)
    }

    /// Time that the threads of a process ran, and waited to run, in nanoseconds; `None` if it has ended.
    fn threads(&mut self, pid: i32, threads: u32) -> Option<(u64, u64)> {
        if threads <= 1 {
            return self.told(&format!("{pid}/schedstat"), parse::schedstat);
        }
        let entries = fs::read_dir(self.proc.join(format!("{pid}/task"))).ok()?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let names: Vec<String> = names.take(THREADS_MAX).collect();
        let times = names
            .iter()
            .filter_map(|name| self.told(&format!("{pid}/task/{name}/schedstat"), parse::schedstat));
        times.reduce(|a, b| (a.0.saturating_add(b.0), a.1.saturating_add(b.1)))
    }

    fn status(&mut self, pid: i32) -> Option<ProcessStatus> {
        self.told(&format!("{pid}/status"), parse::process_status)
    }

    /// What is read only of those that run.
    fn details(&mut self, pid: i32, stat: ProcessStat, status: ProcessStatus) -> Process {
        let cgroup = self.told(&format!("{pid}/cgroup"), |text| parse::cgroup(text).map(str::to_owned));
        Process {
            pid,
            start_ticks: stat.start_ticks,
            parent: stat.parent,
            uid: status.uid,
            program: stat.program,
            cgroup: cgroup.unwrap_or_default(),
            threads: stat.threads,
            memory_mib: mib(stat.resident_pages),
            tasks: 0.0,
            computed: Duration::ZERO,
            sleeps: false,
            children: Duration::from_millis(stat.children_ticks.saturating_mul(TICK_MS)),
            usage: Usage::new(Pace::Slow),
        }
    }

    /// What a file says that has to be there.
    fn understood<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, SampleError> {
        let path = self.proc.join(name);
        if let Err(source) = self.read(&path) {
            return Err(SampleError::Read { path, source });
        }
        parse(&self.text).ok_or(SampleError::Format { path })
    }

    /// What a file says, if it is there.
    fn told<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let path = self.proc.join(name);
        self.read(&path).ok()?;
        parse(&self.text)
    }

    fn read(&mut self, path: &Path) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        bytes.clear();
        File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        // A program's name may be any bytes.
        self.text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Ok(())
    }
}

fn mib(pages: u64) -> f64 {
    (pages.saturating_mul(PAGE_BYTES)) as f64 / f64::from(1 << 20)
}

fn sum(processes: &[Process]) -> f64 {
    processes.iter().map(|process| process.tasks).sum()
}

fn part(time: u64, of: u128) -> f64 {
    if of == 0 { 0.0 } else { time as f64 / of as f64 }
}

fn percent(part: f64) -> u8 {
    // Saturates.
    (part * 100.0).round().min(100.0) as u8
}
