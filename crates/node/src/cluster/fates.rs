//! What is remembered of processes from one look at this machine to the next.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use minka_cluster::balance::{Demand, Prices, ProcessId, Settings};
use minka_cluster::gossip::Millis;
use minka_cluster::load::{Decay, Job, OwnPace, Pace, Usage};
use minka_sample::Process;

use super::advice::Marks;

/// Whether a process can be moved at all is found out again after so long.
pub(super) const ELIGIBLE_MS: Millis = 10_000;

/// What did not move is left alone for so long.
const REFUSED_MS: Millis = 30_000;

/// A process that came home by itself is left alone for this long, twice as long if it has hardly been away, and so on.
const REST_MS: Millis = 1_000;
const STRIKES_MAX: u32 = 6;

/// A stay of this length was worth the move.
const STAY_WORTHWHILE_MS: Millis = 10_000;

/// Processes of which something is remembered, and for how long after they were last seen.
const FATES_MAX: usize = 4096;
const REMEMBERED_MS: Millis = 600_000;

/// The variable that `mosrun` leaves in the environment of what it starts, for its descendants to inherit.
pub const STARTED_VARIABLE: &str = "MINKA_STARTED";

/// The variable that says that a process and its descendants stay where they are, unless a user moves them.
pub const LOCKED_VARIABLE: &str = "MINKA_LOCKED";

/// The variable that says how fast what is known of a process and its descendants is forgotten: `slow`, `fast` or `never`,
/// perhaps with the interval and the part that is kept (`slow:5:900`).
pub const DECAY_VARIABLE: &str = "MINKA_DECAY";

/// The variable that says what a process and its descendants mostly do: `cpu` or `io`.
pub const JOB_VARIABLE: &str = "MINKA_JOB";

/// So long after a guest has come it counts as what it wants, if it uses less: its memory may still be on its way. And
/// so long after one of Minka's own programs has begun what it does is the move itself, which is over before anybody
/// could have gone because of it.
pub(super) const NEW_MS: Millis = 2_000;

/// What is known of processes from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Of own processes, by PID.
    fates: BTreeMap<i32, Fate>,
    pub(super) guests: BTreeMap<ProcessId, Guest>,
}

/// What is remembered of an own process.
#[derive(Debug)]
pub(super) struct Fate {
    start_ticks: u64,
    pub(super) seen: Millis,
    /// Whether it could be moved, when that was last found out.
    pub(super) eligible: Option<(Millis, bool)>,
    /// What its environment says, likewise.
    environment: Option<(Millis, Environment)>,
    /// Since when the balancer has had it away.
    away_since: Option<Millis>,
    pub(super) rest_until: Millis,
    strikes: u32,
    /// Calls that it had made for reading and writing, and what is remembered of them.
    calls: Option<(Millis, u64)>,
    /// Since when its calls are forwarded.
    forwarded_since: Option<Millis>,
    pub(super) usage: Usage,
    /// What it does has been counted as one run of its program.
    pub(super) learnt: bool,
    /// What its user has said of it, or of who started it.
    pub(super) marks: Marks,
}

/// A guest that has come here.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) since: Millis,
    /// Processor time that it had used before.
    pub(super) computed_s: f64,
    /// What its home said that it wants, if its balancer has sent it: then it may be sent on.
    pub(super) wanted: Option<Demand>,
    pub(super) forwarding: Forwarding,
}

/// The calls that are forwarded for a guest.
#[derive(Debug, Clone)]
pub(super) struct Forwarding {
    /// When they were last counted, and how many there were.
    seen: (Millis, u64),
    usage: Usage,
}

impl Forwarding {
    /// Takes in how many there have been since the guest came, and what it used of the processors since the last time.
    /// Returns what it would use if it had not to wait for them.
    pub(super) fn observe(&mut self, decay: &Decay, call_s: f64, now: Millis, calls: u64, tasks: f64) -> f64 {
        let (before, earlier) = self.seen;
        if now <= before {
            return tasks;
        }
        self.seen = (now, calls);
        let elapsed_s = (now - before) as f64 / 1000.0;
        // A call that waits for long does so for something else than its way.
        let longest = calls.saturating_sub(earlier) as f64 / elapsed_s * call_s * CALL_TIMES_MAX;
        let waiting = (1.0 - tasks).clamp(0.0, longest);
        // One that makes many gets to do little else, and the less the more it would do at home.
        let own_time = Duration::try_from_secs_f64(elapsed_s * tasks.max(OWN_TIME_MIN)).unwrap_or_default();
        self.usage.observe(decay, own_time, Duration::ZERO, (waiting * elapsed_s / call_s).round() as u64);
        tasks + waiting
    }

    /// In a second of the guest's own time, if each took as long as a call does mostly.
    pub(super) fn per_s(&self) -> f64 {
        self.usage.calls_per_s()
    }
}

/// The part of a time in which a process did not wait for forwarded calls, by what these take mostly.
pub(super) fn own_time(settings: &Settings, elapsed_ms: u64, calls: u64) -> Duration {
    let elapsed = Duration::from_millis(elapsed_ms);
    let waited = Duration::try_from_secs_f64(calls as f64 * settings.call_s).unwrap_or(elapsed);
    elapsed.saturating_sub(waited).max(elapsed.mul_f64(OWN_TIME_MIN))
}

/// No part of a process's time that is its own is held for smaller.
const OWN_TIME_MIN: f64 = 0.01;

/// A call whose way takes longer than this many times what it takes mostly is not believed to.
const CALL_TIMES_MAX: f64 = 10.0;

impl Guest {
    pub(super) fn new(since: Millis, computed_s: f64, wanted: Option<Demand>) -> Self {
        let forwarding = Forwarding { seen: (since, 0), usage: Usage::new(Pace::Slow) };
        Guest { since, computed_s, wanted, forwarding }
    }

    /// It came so lately that what it uses does not show yet.
    pub(super) fn is_new(&self, now: Millis) -> bool {
        now.saturating_sub(self.since) < NEW_MS
    }
}

impl Looks {
    /// What is remembered of a process that was not looked at just now.
    pub(super) fn fate_of(&mut self, pid: i32, start_ticks: u64) -> &mut Fate {
        let fate = self.fates.entry(pid).or_insert_with(|| Fate::new(start_ticks));
        if fate.start_ticks != start_ticks {
            *fate = Fate::new(start_ticks);
        }
        fate
    }

    /// What the user of a process has said of it.
    pub(super) fn marks(&self, pid: i32) -> Marks {
        self.fates.get(&pid).map(|fate| fate.marks).unwrap_or_default()
    }

    /// A guest has come; what its home has said that it wants, if that has asked before.
    pub(super) fn guest_arrived(&mut self, now: Millis, process: ProcessId, wanted: Option<Demand>) {
        let computed_s = wanted.map_or(0.0, |demand| demand.computed_s(&Prices::default()));
        self.guests.insert(process, Guest::new(now, computed_s, wanted));
    }

    pub(super) fn guest_left(&mut self, process: ProcessId) {
        self.guests.remove(&process);
    }

    /// A process was moved by the balancer: away, or home.
    pub(super) fn moved(&mut self, now: Millis, pid: i32, away: bool) {
        if let Some(fate) = self.fates.get_mut(&pid) {
            fate.away_since = away.then_some(now);
        }
    }

    /// An own process has arrived at home, or away; so many calls were forwarded before.
    pub(super) fn arrived(
        &mut self,
        decay: &Decay,
        settings: &Settings,
        now: Millis,
        pid: i32,
        away: bool,
        calls: u64,
    ) {
        let Some(fate) = self.fates.get_mut(&pid) else { return };
        if let Some(since) = fate.forwarded_since.take() {
            let own_time = own_time(settings, now.saturating_sub(since), calls);
            fate.usage.observe(decay, own_time, Duration::ZERO, calls);
        }
        fate.forwarded_since = away.then_some(now);
        // What was read and written meanwhile is among them.
        fate.calls = None;
    }

    /// It was to be moved and was not.
    pub(super) fn not_moved(&mut self, now: Millis, pid: i32) {
        if let Some(fate) = self.fates.get_mut(&pid) {
            fate.rest_until = now + REFUSED_MS;
        }
    }

    pub(super) fn fate(&mut self, now: Millis, process: &Process) -> &mut Fate {
        if self.fates.len() >= FATES_MAX {
            self.fates.retain(|_, fate| now.saturating_sub(fate.seen) < REMEMBERED_MS);
        }
        let marks = self.fates.get(&process.parent).map(|parent| parent.marks).unwrap_or_default();
        let new = || Fate { marks, ..Fate::new(process.start_ticks) };
        let fate = self.fates.entry(process.pid).or_insert_with(new);
        if fate.start_ticks != process.start_ticks {
            *fate = new();
        }
        fate.seen = now;
        fate
    }
}

impl Fate {
    fn new(start_ticks: u64) -> Self {
        Fate {
            start_ticks,
            seen: 0,
            eligible: None,
            environment: None,
            away_since: None,
            rest_until: 0,
            strikes: 0,
            calls: None,
            forwarded_since: None,
            usage: Usage::new(Pace::Slow),
            learnt: false,
            marks: Marks::default(),
        }
    }

    /// It computes at home; if it was away, it has come back by itself.
    pub(super) fn at_home(&mut self, now: Millis) {
        let Some(since) = self.away_since.take() else { return };
        let stay = now.saturating_sub(since);
        self.strikes = if stay >= STAY_WORTHWHILE_MS { 0 } else { (self.strikes + 1).min(STRIKES_MAX) };
        self.rest_until = self.rest_until.max(now + (REST_MS << self.strikes));
    }

    /// Notes how many calls it has made for reading and writing, which would be forwarded.
    pub(super) fn count_calls(&mut self, now: Millis, decay: &Decay, pace: Pace, calls: Option<u64>) {
        let Some(calls) = calls else { return };
        if let Some((before, earlier)) = self.calls.replace((now, calls)).filter(|(before, _)| *before < now)
        {
            let elapsed = Duration::from_millis(now - before);
            self.usage.set_pace(pace);
            self.usage.observe(decay, elapsed, Duration::ZERO, calls.saturating_sub(earlier));
        }
    }

    /// A program begins in it, with this environment. Whatever was known of the one before does not hold.
    pub(super) fn begins_with(&mut self, now: Millis, environment: Environment) -> Environment {
        (self.environment, self.eligible) = (Some((now, environment)), None);
        environment
    }

    pub(super) fn environment(&mut self, now: Millis, pid: i32) -> Environment {
        match self.environment {
            // An `execve` may have given it another one since.
            Some((at, environment)) if now.saturating_sub(at) < ELIGIBLE_MS => environment,
            _ => {
                let environment = Environment::of(pid);
                self.environment = Some((now, environment));
                environment
            }
        }
    }
}

/// Calls for reading and writing that a process has made (`/proc/PID/io`); none if that may not be read.
pub(super) fn calls(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    value("syscr:")?.checked_add(value("syscw:")?)
}

/// What `mosrun` left in the environment of a program, when that began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) started: bool,
    pub(super) locked: bool,
    pub(super) pace: Pace,
    pub(super) job: Job,
}

impl Environment {
    pub(super) fn of(pid: i32) -> Self {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let value = |variable: &str| {
            let value = environment.split(|byte| *byte == 0).find_map(|entry| {
                entry.strip_prefix(variable.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
            });
            value.filter(|value| !value.is_empty())
        };
        let pace = value(DECAY_VARIABLE).and_then(|text| pace(std::str::from_utf8(text).ok()?));
        let pace = pace.unwrap_or_default();
        let job = match value(JOB_VARIABLE) {
            Some(b"cpu") => Job::Cpu,
            Some(b"io") => Job::Io,
            _ => Job::Counted,
        };
        Environment {
            started: value(STARTED_VARIABLE).is_some(),
            locked: value(LOCKED_VARIABLE).is_some(),
            pace,
            job,
        }
    }
}

/// `slow`, `fast` or `never`, and after the first two perhaps the interval in seconds and the part that is kept of a
/// thousand, as in `slow:5:900`, `fast:5:` or `slow::900`.
fn pace(text: &str) -> Option<Pace> {
    let mut parts = text.split(':');
    let fast = match parts.next()? {
        "never" => return Some(Pace::Never),
        word => word == "fast",
    };
    let own = OwnPace {
        fast,
        interval_s: parts.next().and_then(|interval| interval.parse().ok()),
        permille: parts.next().and_then(|kept| kept.parse().ok()).filter(|kept| *kept <= 1000),
    };
    Some(match own {
        OwnPace { interval_s: None, permille: None, .. } if fast => Pace::Fast,
        OwnPace { interval_s: None, permille: None, .. } => Pace::Slow,
        own => Pace::Own(own),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_coming_home_rests_longer_and_longer() {
        let mut fate = Fate::new(7);
        let mut now = 0;
        let mut rests = Vec::new();
        for stay in [100, 100, 100, 20_000, 100] {
            now += 1000;
            fate.away_since = Some(now);
            now += stay;
            fate.at_home(now);
            rests.push(fate.rest_until.saturating_sub(now));
            now = fate.rest_until;
        }
        assert_eq!(rests, [2000, 4000, 8000, 1000, 2000]);
        let before = fate.rest_until;
        fate.at_home(now + 5000);
        assert_eq!(fate.rest_until, before, "it has not been away since");
    }

    #[test]
    fn calls_are_counted_by_the_second_and_forgotten_at_the_process_s_pace() {
        let counted = |pace, counts: &[(Millis, Option<u64>)]| {
            let mut fate = Fate::new(7);
            counts.iter().for_each(|(now, calls)| fate.count_calls(*now, &Decay::default(), pace, *calls));
            fate.usage.calls_per_s()
        };
        assert_eq!(counted(Pace::Slow, &[(1000, Some(50)), (3000, Some(450)), (4000, None)]), 200.0);
        // Two seconds with many calls, and then ten without any.
        let counts: Vec<_> = (1..=13).map(|second| (second * 1000, Some(500.min(second * 250)))).collect();
        let [fast, slow, never] = [Pace::Fast, Pace::Slow, Pace::Never].map(|pace| counted(pace, &counts));
        assert!(fast < slow && slow < never, "{fast} {slow} {never}");
        assert!((never - 250.0 / 12.0).abs() < 1e-9, "{never}");
    }

    #[test]
    fn who_waits_for_forwarded_calls_most_of_the_time_would_make_many_more_at_home() {
        let observed = |calls: u64, tasks: f64| {
            let mut forwarding = Guest::new(0, 0.0, None).forwarding;
            let wanted = forwarding.observe(&Decay::default(), 50e-6, 1000, calls, tasks);
            ((wanted * 1000.0).round() / 1000.0, forwarding.per_s().round())
        };
        assert_eq!(observed(0, 0.5), (0.5, 0.0));
        assert_eq!(observed(100, 1.0), (1.0, 0.0), "it waits for nothing");
        assert_eq!(observed(16_000, 0.2), (1.0, 80_000.0), "four fifths of the time are 16,000 calls");
        assert_eq!(observed(4_000, 0.2), (1.0, 80_000.0), "slow ones, on a busy machine");
        // It sleeps, and wakes a hundred times a second.
        assert_eq!(observed(100, 0.1), (0.15, 10_000.0));
    }

    #[test]
    fn what_was_forwarded_is_remembered_at_home() {
        let mut looks = Looks::default();
        looks.fates.insert(7, Fate::new(1));
        let arrive = |looks: &mut Looks, now, away, calls| {
            looks.arrived(&Decay::default(), &Settings::default(), now, 7, away, calls);
            looks.fates[&7].usage.calls_per_s().round()
        };
        assert_eq!(arrive(&mut looks, 1000, true, 3), 0.0);
        assert_eq!(arrive(&mut looks, 3000, false, 20_000), 20_000.0);
        assert_eq!(arrive(&mut looks, 9000, true, 0), 20_000.0, "at home nothing is forwarded");
    }

    #[test]
    fn a_pace_may_have_an_interval_and_a_part_of_its_own() {
        let own = |fast, interval, permille| {
            Some(Pace::Own(OwnPace { fast, interval_s: std::num::NonZeroU16::new(interval), permille }))
        };
        let check = |text, expected| assert_eq!(pace(text), expected, "{text}");
        check("slow", Some(Pace::Slow));
        check("fast", Some(Pace::Fast));
        check("never", Some(Pace::Never));
        check("slow:5:900", own(false, 5, Some(900)));
        check("fast:5:", own(true, 5, None));
        check("slow::0", own(false, 0, Some(0)));
        check("fast:0:1001", Some(Pace::Fast));
        check("", Some(Pace::Slow));
    }

    #[test]
    fn the_environment_tells_who_was_started_by_mosrun() {
        let mut child = std::process::Command::new("sleep");
        let mut child = child
            .arg("60")
            .env(STARTED_VARIABLE, "1")
            .env(DECAY_VARIABLE, "fast")
            .env(JOB_VARIABLE, "io")
            .env(LOCKED_VARIABLE, "")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // It has its environment from its `execve` on, which may come later than `spawn` returns.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let mut found = Environment::default();
        while !found.started && std::time::Instant::now() < deadline {
            found = Environment::of(pid);
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = Environment { started: true, locked: false, pace: Pace::Fast, job: Job::Io };
        assert_eq!(found, expected);
    }
}
