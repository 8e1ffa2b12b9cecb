//! A machine's devices under watch: each is sampled at an interval by a thread of its own.
//!
//! ```text
//!   lookout thread ── every few seconds ── what is there? ──► starts threads, marks devices as back
//!   device thread  ── every interval ───── sample ──► judge ──► remember ──► report
//!                                                                              ▲
//!                                            whoever asks ─────────────────────┘  never waits for a device
//! ```
//!
//! A device that hangs in the kernel keeps its thread; its last report grows old and says so. It stops no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::device::{Device, Moment, Sample};
use crate::discovery;
use crate::health::{Health, Judge, Kind, State};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::nvidia::Library;
use crate::root::Root;
use crate::statistics::History;
use crate::value::Reason;

/// How often the machine is looked over for devices that came.
const LOOKOUT: Duration = Duration::from_secs(5);

/// A report is old after so many intervals.
const INTERVALS_SILENT: u32 = 5;

/// The threads hold a sample at a time and a page of a file.
const STACK_BYTES: usize = 128 * 1024;

/// What is known of a device.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its last sample.
    pub sample: Arc<Sample>,
    /// How it is.
    pub health: Health,
    /// How it was.
    pub history: Arc<History>,
    /// When its watch began.
    pub since: SystemTime,
}

/// The devices of a machine under watch.
#[derive(Debug, Clone)]
pub struct Station {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: Root,
    limits: Limits,
    library: Result<Library, Reason>,
    started: Instant,
    ending: Mutex<bool>,
    ended: Condvar,
    interval: Mutex<Duration>,
    posts: Mutex<BTreeMap<u32, Post>>,
}

/// A device's place.
#[derive(Debug)]
struct Post {
    identity: Arc<Identity>,
    judge: Judge,
    history: History,
    since: SystemTime,
    report: Option<Report>,
    renewed: Option<Device>,
    /// Settings are to be read again at the next sample.
    stale: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Station {
    /// Looks over a tree and puts its devices under watch, with no limits but theirs and the default.
    pub fn start(root: Root, interval: Duration) -> Self {
        Station::start_with(root, interval, Limits::default())
    }

    /// Looks over a tree and puts its devices under watch.
    pub fn start_with(root: Root, interval: Duration, limits: Limits) -> Self {
        let library = match root.library() {
            Some(library) => Ok(library.clone()),
            None if root.is_machine() => Library::start(),
            None => Err(Reason::NotOffered("a recorded tree is read, not the machine")),
        };
        let shared = Arc::new(Shared {
            root: root.with_library(library.as_ref().ok().cloned()),
            limits,
            library,
            started: Instant::now(),
            ending: Mutex::new(false),
            ended: Condvar::new(),
            interval: Mutex::new(interval),
            posts: Mutex::new(BTreeMap::new()),
        });
        shared.look();
        let lookout = Arc::clone(&shared);
        start_thread("xpu-lookout", move || lookout.keep_looking());
        Station { shared }
    }

    /// Waits until every device has been sampled twice, so that rates are known, or the time is up.
    pub fn settle(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let unsettled = || {
            let posts = lock(&self.shared.posts);
            posts.values().any(|post| post.report.is_none() || post.history.len() < 2)
        };
        while unsettled() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Who is there or was.
    pub fn identities(&self) -> Vec<Arc<Identity>> {
        lock(&self.shared.posts).values().map(|post| Arc::clone(&post.identity)).collect()
    }

    /// What is known of all devices.
    pub fn reports(&self) -> Vec<Report> {
        let ids: Vec<u32> = lock(&self.shared.posts).keys().copied().collect();
        ids.into_iter().filter_map(|id| self.report(id)).collect()
    }

    /// What is known of a device; `None` when there is no such device.
    pub fn report(&self, id: u32) -> Option<Report> {
        let posts = lock(&self.shared.posts);
        let mut report = posts.get(&id)?.report.clone()?;
        let age = self.shared.started.elapsed().as_secs_f64() - report.sample.moment.0;
        let patience = *lock(&self.shared.interval) * INTERVALS_SILENT;
        if age > patience.as_secs_f64().max(2.0) {
            silence(&mut report, age);
        }
        Some(report)
    }

    /// Libraries that are not there, and why.
    pub fn absences(&self) -> Vec<(&'static str, Reason)> {
        self.shared.library.as_ref().err().map(|reason| ("nvml", reason.clone())).into_iter().collect()
    }

    /// How many processes use a device of NVIDIA's library; none if it is no such device, or the library does not tell.
    pub fn nvidia_users(&self, identity: &Identity) -> Option<usize> {
        let index = identity.path.strip_prefix("nvml/")?.parse().ok()?;
        Some(self.shared.library.as_ref().ok()?.processes(index).ok()?.len())
    }

    /// The tree that is read.
    pub fn root(&self) -> &Root {
        &self.shared.root
    }

    /// The time between two samples of a device.
    pub fn interval(&self) -> Duration {
        *lock(&self.shared.interval)
    }

    /// Sets the time between two samples of a device.
    pub fn set_interval(&self, interval: Duration) {
        *lock(&self.shared.interval) = interval;
        self.shared.ended.notify_all();
    }

    /// Reads a device's settings again at its next sample: somebody changed them.
    pub fn look_again(&self, id: u32) {
        if let Some(post) = lock(&self.shared.posts).get_mut(&id) {
            post.stale = true;
        }
    }

    /// Sets a threshold of one's own; `false` when there is no such device.
    pub fn set_custom(&self, id: u32, kind: Kind, threshold: Option<f64>) -> bool {
        let mut posts = lock(&self.shared.posts);
        let Some(post) = posts.get_mut(&id) else { return false };
        post.judge.set_custom(kind, threshold);
        // The answer to the next question already knows of it.
        if let Some(report) = &mut post.report {
            report.health = post.judge.judge(&report.sample);
        }
        true
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        // The lookout and the devices hold the rest.
        let watchers = 1 + lock(&self.shared.posts).len();
        if Arc::strong_count(&self.shared) <= 1 + watchers {
            *lock(&self.shared.ending) = true;
            self.shared.ended.notify_all();
        }
    }
}

/// The part of an interval that a device waits before its second sample, so that all of a machine's do not want the
/// processors at the same time, and somebody who asks then has to wait: however many there are, multiples of the golden
/// ratio lie evenly.
fn spread(id: u32) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    (f64::from(id) * GOLDEN).fract()
}

/// Takes the values of a report whose device does not answer.
fn silence(report: &mut Report, age: f64) {
    let reason = Reason::Silent(age as u64);
    let mut sample = Sample::clone(&report.sample);
    for reading in &mut sample.readings {
        reading.value = Err(reason.clone());
    }
    report.sample = Arc::new(sample);
    report.health.state = State::Unknown;
    for check in &mut report.health.checks {
        (check.state, check.value, check.description) = (State::Unknown, None, reason.to_string());
    }
}

fn start_thread(name: &str, body: impl FnOnce() + Send + 'static) {
    let started = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body);
    if let Err(error) = started {
        tracing::error!(%error, name, "a thread could not be started");
    }
}

impl Shared {
    /// Waits for a time; `false` when it is time to end.
    fn wait(&self, time: Duration) -> bool {
        let ending = lock(&self.ending);
        let waited = self.ended.wait_timeout_while(ending, time, |ending| !*ending);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn keep_looking(self: Arc<Self>) {
        let mut known = discovery::keys(&self.root);
        while self.wait(LOOKOUT) {
            let now: BTreeSet<String> = discovery::keys(&self.root);
            if now != known {
                self.look();
                known = now;
            }
        }
    }

    /// Finds devices; each new one gets a number and a thread, each that came back its place.
    fn look(self: &Arc<Self>) {
        for device in discovery::discover_with(&self.root, &self.library).devices {
            let key = device.identity().key();
            let mut posts = lock(&self.posts);
            if let Some(post) = posts.values_mut().find(|post| post.identity.key() == key) {
                if post.report.as_ref().is_some_and(|report| report.sample.gone) {
                    let id = post.identity.device_id;
                    let device = device.with_id(id);
                    post.identity = Arc::clone(device.identity());
                    post.judge.set_configured(self.limits.of(device.identity()));
                    post.renewed = Some(device);
                }
                continue;
            }
            let id = posts.keys().next_back().map_or(0, |last| last + 1);
            let device = device.with_id(id);
            let post = Post {
                identity: Arc::clone(device.identity()),
                judge: Judge::new(self.limits.of(device.identity())),
                history: History::default(),
                since: SystemTime::now(),
                report: None,
                renewed: None,
                stale: false,
            };
            posts.insert(id, post);
            drop(posts);
            let watched = Arc::clone(self);
            start_thread("xpu-device", move || watched.watch(device, id));
        }
    }

    fn watch(self: Arc<Self>, mut device: Device, id: u32) {
        let mut part = spread(id);
        loop {
            let sample = Arc::new(device.sample(Moment(self.started.elapsed().as_secs_f64())));
            if let Some(post) = lock(&self.posts).get_mut(&id) {
                post.history.add(&sample);
                let health = post.judge.judge(&sample);
                let history = Arc::new(post.history.clone());
                post.report = Some(Report { sample, health, history, since: post.since });
                if std::mem::take(&mut post.stale) {
                    device.forget_settings();
                }
                if let Some(renewed) = post.renewed.take() {
                    device = renewed;
                }
            }
            let interval = lock(&self.interval).mul_f64(std::mem::replace(&mut part, 1.0));
            if !self.wait(interval) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_devices_are_sampled_one_after_another() {
        for count in [2, 8, 64] {
            let mut times: Vec<f64> = (0..count).map(spread).collect();
            times.sort_by(f64::total_cmp);
            let even = 1.0 / f64::from(count);
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] > 0.4 * even), "{times:?}");
        }
    }
}
