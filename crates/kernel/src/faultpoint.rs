//! Fault points: places in a deputy or host program where a test can have it fail. A test aid, nothing else.
//!
//! ```toml
//! # node.toml
//! faults = ["deputy.parked:kill", "host.call#3:delay=200"]
//! ```
//!
//! Each entry is a [`Point`]'s name, optionally `#` and which time of reaching it is meant (the first, if nothing is
//! said; `*` is each), optionally `@` and the process that the program has to be for (its PID at home), `:` and an [`Action`]. Deputy and host programs read the configuration when they start and hand the entries
//! to [`arm`], so a test sets them per node and changes them between two moves. Nobody else ever arms them; then a
//! point costs one relaxed load.

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

macro_rules! points {
    ($($(#[$meaning:meta])* $point:ident = $name:literal,)*) => {
        /// Where a program can be made to fail.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point { $($(#[$meaning])* $point,)* }

        impl Point {
            /// All of them, in the order in which a move and the way home reach them.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Its name in a configuration.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }
        }
    };
}

points! {
    /// The deputy has its configuration and its order; nothing has been done.
    DeputyStarted = "deputy.started",
    /// The host program has the offer and has not looked at it.
    HostOffered = "host.offered",
    /// The host has its empty guest, and is about to say so.
    HostPrepared = "host.prepared",
    /// All lanes are open; the process still runs.
    DeputyPrepared = "deputy.prepared",
    /// The process is stopped and has been looked at; nothing in it is changed.
    DeputyStopped = "deputy.stopped",
    /// The process is about to make a call for the deputy without the agent: three times on the way into the agent,
    /// once when it is released.
    Injecting = "inject",
    /// The process has the ring, and is about to enter the agent.
    DeputyMapped = "deputy.mapped",
    /// The process is in the agent and has told what only it knows.
    DeputyParked = "deputy.parked",
    /// The image is sent.
    DeputySent = "deputy.sent",
    /// The host program has the image.
    HostEntering = "host.entering",
    /// The guest is ready; it has not executed an instruction.
    HostBuilt = "host.built",
    /// The guest runs; the home has not been told.
    HostResumed = "host.resumed",
    /// The home has been told that the guest runs.
    HostRunning = "host.running",
    /// The deputy knows that the guest runs.
    DeputyAway = "deputy.away",
    /// A frame of pages was sent in the background.
    DeputyStreamed = "deputy.streamed",
    /// A frame of pages that came in the background is in place.
    HostStreamed = "host.streamed",
    /// The guest misses a page; the home has not been asked.
    HostFault = "host.fault",
    /// The host asks for a page; it has not been sent.
    DeputyFault = "deputy.fault",
    /// A worker is about to take the guest's next call, which may have been made already.
    HostListening = "host.listening",
    /// The guest makes a call that goes home; it has not been sent.
    HostCall = "host.call",
    /// A call has come; it has not been made.
    DeputyCall = "deputy.call",
    /// A call has been made; its result has not been sent.
    DeputyCalled = "deputy.called",
    /// The result of a call has come; the guest does not have it.
    HostResult = "host.result",
    /// The guest is to come home; the host has not been told.
    DeputyRecalling = "deputy.recalling",
    /// The guest is to go home; it has not been stopped.
    HostRecalled = "host.recalled",
    /// The guest is stopped; nothing of it has been sent.
    HostLeaving = "host.leaving",
    /// The guest's state has been sent, and it is known which of its pages are to follow; they have not been read.
    HostReading = "host.reading",
    /// Everything of the guest has been sent.
    HostLeft = "host.left",
    /// The guest's state has come; memory at home is not rearranged.
    DeputyReturning = "deputy.returning",
    /// Everything of the guest is at home, in the parked process.
    DeputyReturned = "deputy.returned",
    /// The process is about to get its own registers again.
    DeputyReleasing = "deputy.releasing",
    /// The process is an ordinary one; the daemon has not been told.
    DeputyReleased = "deputy.released",
    /// A rescue is about to begin.
    RescueStarted = "rescue.started",
}

/// What happens at a fault point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The program ends at once, as by `kill -9`: `kill`.
    Kill,
    /// The program stops until somebody continues it: `stop`.
    Stop,
    /// The thread waits: `delay=MILLISECONDS`.
    Delay(Duration),
    /// Every TCP connection of the program is shut down: `cut`.
    Cut,
    /// The process that the program is for is killed, and the program goes on: `end`.
    End,
}

/// One entry of a configuration.
#[derive(Debug)]
pub struct Fault {
    point: Point,
    /// Which time of reaching the point is meant, from 1; none is each.
    time: Option<u32>,
    /// The process that the program has to be for.
    subject: Option<i32>,
    reached: AtomicU32,
    action: Action,
}

/// Why an entry is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("understand the fault {0:?}: expected POINT[#N|#*][@PID]:kill|stop|cut|end|delay=MILLISECONDS")]
pub struct BadFault(String);

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let bad = || BadFault(text.to_owned());
        let (place, action) = text.split_once(':').ok_or_else(bad)?;
        let (place, subject) = match place.split_once('@') {
            Some((place, pid)) => (place, Some(pid.parse().map_err(|_| bad())?)),
            None => (place, None),
        };
        let (name, time) = place.split_once('#').unwrap_or((place, "1"));
        let time = match time {
            "*" => None,
            _ => Some(time.parse().ok().filter(|time| *time > 0).ok_or_else(bad)?),
        };
        let action = match action.split_once('=') {
            Some(("delay", number)) => {
                Action::Delay(Duration::from_millis(number.parse().map_err(|_| bad())?))
            }
            None if action == "kill" => Action::Kill,
            None if action == "stop" => Action::Stop,
            None if action == "cut" => Action::Cut,
            None if action == "end" => Action::End,
            _ => return Err(bad()),
        };
        let point = Point::ALL.iter().copied().find(|point| point.name() == name).ok_or_else(bad)?;
        Ok(Self { point, time, subject, reached: AtomicU32::new(0), action })
    }
}

static ARMED: AtomicBool = AtomicBool::new(false);
static FAULTS: OnceLock<Vec<Fault>> = OnceLock::new();
static SUBJECT: AtomicI32 = AtomicI32::new(0);

/// Says for which process this program is (its PID at home).
pub fn concerns(pid: i32) {
    SUBJECT.store(pid, Ordering::Relaxed);
}

/// Arms the points that a configuration names. The first call counts.
///
/// # Errors
/// When an entry is none; nothing is armed then.
pub fn arm(entries: &[String]) -> Result<(), BadFault> {
    if entries.is_empty() {
        return Ok(());
    }
    let faults = entries.iter().map(|entry| entry.parse()).collect::<Result<_, _>>()?;
    FAULTS.get_or_init(|| faults);
    ARMED.store(true, Ordering::Release);
    Ok(())
}

/// Says that the program has come to a point.
#[inline]
pub fn reach(point: Point) {
    if ARMED.load(Ordering::Relaxed) {
        reach_armed(point);
    }
}

#[cold]
fn reach_armed(point: Point) {
    let own = SUBJECT.load(Ordering::Relaxed);
    let is_meant =
        |fault: &&Fault| fault.point == point && fault.subject.is_none_or(|subject| subject == own);
    for fault in FAULTS.get().into_iter().flatten().filter(is_meant) {
        let reached = fault.reached.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        if fault.time.is_none_or(|time| time == reached) {
            perform(point, fault.action);
        }
    }
}

fn perform(point: Point, action: Action) {
    // A program may be killed with this as its last words; if they cannot be said, it goes without. In one piece, as others
    // say theirs to the same file.
    let _ = std::io::stderr().write_all(format!("fault point {point}: {action:?}\n").as_bytes());
    match action {
        Action::Kill => signal_self(libc::SIGKILL),
        Action::Stop => signal_self(libc::SIGSTOP),
        Action::Delay(time) => std::thread::sleep(time),
        Action::Cut => cut_connections(),
        Action::End => end_subject(),
    }
}

fn signal_self(signal: i32) {
    // SAFETY: no pointers.
    unsafe { libc::kill(libc::getpid(), signal) };
}

fn end_subject() {
    let subject = SUBJECT.load(Ordering::Relaxed);
    if subject > 0 {
        // SAFETY: no pointers.
        unsafe { libc::kill(subject, libc::SIGKILL) };
    }
}

fn cut_connections() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    for entry in entries.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let (mut domain, mut length) = (0i32, 4u32);
        // SAFETY: one word is written at most; the descriptor may be any, even one that was closed meanwhile.
        let asked = unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, (&raw mut domain).cast(), &raw mut length)
        };
        if asked == 0 && matches!(domain, libc::AF_INET | libc::AF_INET6) {
            // SAFETY: no pointers.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_understood_or_refused() {
        let fault: Fault = "host.call#3:delay=200".parse().expect("an entry");
        let delay = Action::Delay(Duration::from_millis(200));
        assert_eq!((fault.point, fault.time, fault.action), (Point::HostCall, Some(3), delay));
        let fault: Fault = "host.call#2@71:kill".parse().expect("an entry");
        assert_eq!((fault.point, fault.time, fault.subject), (Point::HostCall, Some(2), Some(71)));
        let fault: Fault = "host.listening#*:delay=20".parse().expect("an entry");
        assert_eq!((fault.point, fault.time), (Point::HostListening, None));
        let fault: Fault = "deputy.returning:end".parse().expect("an entry");
        assert_eq!((fault.point, fault.action), (Point::DeputyReturning, Action::End));
        for point in Point::ALL {
            let fault: Fault = format!("{point}:kill").parse().expect("an entry");
            assert_eq!(fault.point, *point);
        }
        for bad in [
            "",
            "deputy.parked",
            "deputy.parked:",
            "deputy.parked:die",
            "nowhere:kill",
            "host.call#0:kill",
            "host.call@x:kill",
        ] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_action_comes_at_its_time_and_once() {
        arm(&["deputy.away#2:delay=60".to_owned()]).expect("arm");
        let times: Vec<bool> = (0..4)
            .map(|_| {
                let start = std::time::Instant::now();
                reach(Point::DeputyAway);
                start.elapsed() >= Duration::from_millis(60)
            })
            .collect();
        assert_eq!(times, [false, true, false, false]);
        reach(Point::DeputyParked);
    }
}
