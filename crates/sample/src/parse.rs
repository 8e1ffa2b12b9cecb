//! The formats of the files in `/proc` (`proc(5)`, and `Documentation/scheduler/sched-stats.rst` and
//! `Documentation/accounting/psi.rst` of the kernel). What cannot be understood is `None`.

/// Time of all processors, in clock ticks, since the machine was started (`/proc/stat`, line `cpu`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTicks {
    /// In use, for whatever.
    pub used: u64,
    /// In all.
    pub total: u64,
}

/// `/proc/stat`: time of all processors, and how many there are.
pub fn stat(text: &str) -> Option<(CpuTicks, u16)> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guests are in user and nice already.
    let fields: Vec<u64> =
        fields.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let total = fields.iter().fold(0, |sum: u64, field| sum.saturating_add(*field));
    let idle = fields.get(3)?.saturating_add(*fields.get(4)?);
    let cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let cpus = u16::try_from(text.lines().filter(cpu).count()).ok()?;
    Some((CpuTicks { used: total.saturating_sub(idle), total }, cpus))
}

/// Time that tasks ran, and that they waited to run, in nanoseconds: sums over all processors (`/proc/schedstat`).
pub fn machine_schedstat(text: &str) -> Option<(u64, u64)> {
    let mut sums = None;
    for line in text.lines().filter(|line| line.starts_with("cpu")) {
        let mut fields = line.split_ascii_whitespace().skip(7);
        let ran: u64 = fields.next()?.parse().ok()?;
        let waited: u64 = fields.next()?.parse().ok()?;
        let (all_ran, all_waited) = sums.unwrap_or((0_u64, 0_u64));
        sums = Some((all_ran.saturating_add(ran), all_waited.saturating_add(waited)));
    }
    sums
}

/// Time that a task ran, and that it waited to run, in nanoseconds (`/proc/PID/schedstat`).
pub fn schedstat(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Memory in MiB: all that Linux has, what is free, and what can be had (`/proc/meminfo`).
pub fn meminfo(text: &str) -> Option<[u32; 3]> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        u32::try_from(kib / 1024).ok()
    };
    Some([value("MemTotal")?, value("MemFree")?, value("MemAvailable")?])
}

/// Time in which some task could not go on, in microseconds (`/proc/pressure/*`, line `some`).
pub fn pressure(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_ascii_whitespace().find_map(|field| field.strip_prefix("total="))?.parse().ok()
}

/// What `/proc/PID/stat` says of a process, as far as it is used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessStat {
    /// The program's name.
    pub program: String,
    /// It runs, or waits to: where many share a processor it may not have run for long.
    pub runnable: bool,
    /// The parent's PID.
    pub parent: i32,
    /// When it was started, in clock ticks after the machine.
    pub start_ticks: u64,
    /// Memory that is in use, in pages.
    pub resident_pages: u64,
    /// Its threads.
    pub threads: u32,
    /// Processor time that all its threads have used, in clock ticks.
    pub used_ticks: u64,
    /// Processor time that those of its children have used for which it has waited, and theirs, in clock ticks.
    pub children_ticks: u64,
}

/// `/proc/PID/stat`. A program's name may contain anything, so what follows it is found from the end.
pub fn process_stat(text: &str) -> Option<ProcessStat> {
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let program = text.get(open + 1..close)?.to_owned();
    let fields: Vec<&str> = text.get(close + 1..)?.split_ascii_whitespace().collect();
    // The first of these is the third field of the file.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(ProcessStat {
        program,
        runnable: field(3)? == "R",
        parent: field(4)?.parse().ok()?,
        used_ticks: field(14)?.parse::<u64>().ok()?.saturating_add(field(15)?.parse().ok()?),
        children_ticks: field(16)?.parse::<u64>().ok()?.saturating_add(field(17)?.parse().ok()?),
        threads: field(20)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
        // Negative for a moment while it ends.
        resident_pages: u64::try_from(field(24)?.parse::<i64>().ok()?).unwrap_or(0),
    })
}

/// What `/proc/PID/status` says of a process, as far as it is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStatus {
    /// Its real user.
    pub uid: u32,
    /// How often its main thread has let go of the processor by itself, to wait for something; `None` from a kernel that
    /// does not tell.
    pub slept: Option<u64>,
}

/// `/proc/PID/status`.
pub fn process_status(text: &str) -> Option<ProcessStatus> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let uid = line("Uid:")?.split_ascii_whitespace().next()?.parse().ok()?;
    let slept = line("voluntary_ctxt_switches:").and_then(|count| count.trim().parse().ok());
    Some(ProcessStatus { uid, slept })
}

/// The control group of a process in the one hierarchy of version 2 (`/proc/PID/cgroup`).
pub fn cgroup(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_files_of_a_machine_are_read() {
        let text = "cpu  100 10 50 800 40 1 2 3 7 8\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 5\nctxt 6\n";
        assert_eq!(stat(text), Some((CpuTicks { used: 166, total: 1006 }, 2)));
        let text =
            "version 17\ntimestamp 4\ncpu0 0 0 0 0 0 0 1000 500 7\ndomain0 1 2\ncpu1 0 0 0 0 0 0 30 5 7\n";
        assert_eq!(machine_schedstat(text), Some((1030, 505)));
        let text =
            "MemTotal:  4194304 kB\nMemFree:  1048576 kB\nMemAvailable: 2097152 kB\nHugePages_Total: 0\n";
        assert_eq!(meminfo(text), Some([4096, 1024, 2048]));
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=123456\nfull avg10=0.00 total=7\n";
        assert_eq!(pressure(text), Some(123_456));
    }

    #[test]
    fn the_files_of_a_process_are_read() {
        let text = "77 (a (b) c) S 1 77 77 0 -1 4194304 5 0 0 0 10 20 4 5 20 0 3 0 999 8192 40 184467 1 1 0";
        let expected = ProcessStat {
            program: "a (b) c".to_owned(),
            runnable: false,
            parent: 1,
            start_ticks: 999,
            resident_pages: 40,
            threads: 3,
            used_ticks: 30,
            children_ticks: 9,
        };
        assert_eq!(process_stat(text), Some(expected));
        assert_eq!(schedstat("12 34 5\n"), Some((12, 34)));
        let text = "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t1 1 1 1\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(process_status(text), Some(ProcessStatus { uid: 1000, slept: Some(150) }));
        assert_eq!(process_status("Uid:\t7\n"), Some(ProcessStatus { uid: 7, slept: None }));
        assert_eq!(cgroup("1:cpu:/x\n0::/user.slice/a\n"), Some("/user.slice/a"));
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_can_end_the_daemon(text in "[ -~\n]{0,200}") {
            let _ = (stat(&text), machine_schedstat(&text), schedstat(&text), meminfo(&text));
            let _ = (pressure(&text), process_stat(&text), process_status(&text), cgroup(&text));
            let _ = (stat(&format!("cpu {text}")), process_stat(&format!("1 ({text}) S {text}")));
        }
    }
}
