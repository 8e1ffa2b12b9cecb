//! The door before memory that is away: whoever opens it, by a name, `/proc/PID/fd` or `/proc/PID/map_files`, waits until it is at home.
//!
//! The process itself is turned away: it is in a call at home, which is made again when all of it is there ([`crate::serve`]). To the
//! others who move with it its own deputies' doors do that. Programs like this one may enter, which only look at what there is. A
//! thread of its own answers, as the main one may wait for just these.

use super::named::Watch;
use minka_kernel::door::{Door, Visitor};
use minka_kernel::process::Bell;
use minka_kernel::spawn::wait_readable;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it is told that somebody still waits.
const REMIND: Duration = Duration::from_millis(200);

/// More need not be held one by one: the kernel has them wait.
const VISITORS_MAX: usize = 64;

/// A door that is looked after.
#[derive(Debug)]
pub(super) struct Guard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// The guard is to go.
    end: Bell,
    is_over: AtomicBool,
    somebody_waits: AtomicBool,
    turned_away: AtomicU64,
    /// The process is away, or about to be.
    is_away: AtomicBool,
    watch: Watch,
    /// Who is to be told.
    bell: Mutex<Option<Arc<Bell>>>,
}

impl Shared {
    fn tell(&self) {
        self.somebody_waits.store(true, Ordering::SeqCst);
        if let Some(bell) = &*self.bell.lock().unwrap_or_else(PoisonError::into_inner) {
            bell.ring();
        }
    }
}

impl Guard {
    /// Puts a door before these files, which `members` have, `own` among them.
    pub(super) fn new<'a>(
        files: impl Iterator<Item = &'a File>,
        watch: Watch,
        own: i32,
        members: &[i32],
    ) -> io::Result<Self> {
        let door = Door::new()?;
        for file in files {
            door.put_before(file.as_fd())?;
        }
        let shared = Arc::new(Shared {
            end: Bell::new()?,
            is_over: AtomicBool::new(false),
            somebody_waits: AtomicBool::new(false),
            turned_away: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
            watch,
            bell: Mutex::default(),
        });
        let (members, program) = (members.to_vec(), std::fs::metadata("/proc/self/exe")?);
        let with = Arc::clone(&shared);
        let judge = move |pid: i32| {
            if pid == own && with.is_away.load(Ordering::SeqCst) {
                Entry::TurnedAway
            } else if members.contains(&pid) || super::others::runs(pid, &program) {
                Entry::LetIn
            } else {
                Entry::Waits
            }
        };
        let thread = std::thread::Builder::new();
        let with = Arc::clone(&shared);
        let thread = thread.spawn(move || attend(&door, &with, judge))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whom to tell that somebody waits, also if that is so already.
    pub(super) fn tell(&self, bell: &Arc<Bell>) {
        *self.shared.bell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(bell));
        if self.shared.somebody_waits.load(Ordering::SeqCst) {
            bell.ring();
        }
    }

    /// From now on the process itself is turned away.
    pub(super) fn leave(&self) {
        self.shared.is_away.store(true, Ordering::SeqCst);
    }

    /// How often the process itself has been turned away.
    pub(super) fn turned_away(&self) -> u64 {
        self.shared.turned_away.load(Ordering::SeqCst)
    }

    /// Whether a file has become another size without having been opened.
    pub(super) fn has_changed(&self) -> bool {
        self.shared.watch.has_changed()
    }

    /// Looks how long the files are, whether one has been told of a change or not.
    pub(super) fn look_at_sizes(&self) {
        self.shared.watch.look_at_sizes();
    }

    /// Whether somebody waits of whom that has not been asked yet.
    pub(super) fn somebody_waits(&self) -> bool {
        self.shared.somebody_waits.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.end.ring();
        if let Some(thread) = self.thread.take() {
            // It ends with the door, and lets all in by that. If it has panicked, the door is gone as well.
            let _ = thread.join();
        }
    }
}

/// What becomes of a visitor.
enum Entry {
    LetIn,
    TurnedAway,
    Waits,
}

fn attend(door: &Door, shared: &Shared, judge: impl Fn(i32) -> Entry) {
    let mut waiting: Vec<Visitor> = Vec::new();
    let mut has_changed = false;
    while !shared.is_over.load(Ordering::SeqCst) {
        let pause = (has_changed || !waiting.is_empty()).then_some(REMIND);
        let mut news = vec![door.as_fd(), shared.end.as_fd()];
        // It stays readable.
        news.extend((!has_changed).then(|| shared.watch.as_fd()));
        // One that has been woken for nothing looks once more.
        let _ = wait_readable(&news, pause);
        if !has_changed && shared.watch.has_changed() {
            tracing::info!("a file that is away has become another size");
            has_changed = true;
        }
        while waiting.len() < VISITORS_MAX {
            match door.next() {
                Ok(Some(visitor)) => {
                    let answered = match judge(visitor.pid) {
                        Entry::LetIn => door.let_in(visitor),
                        Entry::TurnedAway => {
                            // Before its call returns.
                            shared.turned_away.fetch_add(1, Ordering::SeqCst);
                            door.turn_away(visitor)
                        }
                        Entry::Waits => {
                            tracing::info!(pid = visitor.pid, "somebody opens shared memory that is away");
                            waiting.push(visitor);
                            Ok(())
                        }
                    };
                    if let Err(error) = answered {
                        tracing::warn!(%error, "failed to answer who opens shared memory");
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "failed to look who opens shared memory");
                    shared.tell();
                    break;
                }
            }
        }
        if has_changed || !waiting.is_empty() {
            shared.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn strangers_wait_and_the_process_itself_is_turned_away() {
        let memory = File::from(minka_kernel::shared::memfd(c"guard", 4096).expect("a memfd"));
        let own = std::process::id().cast_signed();
        let watch = Watch::new().expect("a watch");
        let guard = match Guard::new([&memory].into_iter(), watch, own, &[own]) {
            Ok(guard) => guard,
            Err(error) => return println!("not made, as this system does not allow it: {error}"),
        };
        use std::os::fd::AsRawFd;
        let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
        File::open(&path).expect("it is still at home");
        guard.leave();
        let error = File::open(&path).expect_err("it has to be at home for that");
        assert_eq!((error.kind(), guard.turned_away()), (io::ErrorKind::PermissionDenied, 1));
        assert!(!guard.somebody_waits() && !guard.has_changed());
        let mut stranger = Command::new("cat").arg(&path).stdout(Stdio::null()).spawn().expect("start cat");
        let bell = Arc::new(Bell::new().expect("a bell"));
        guard.tell(&bell);
        let rung = wait_readable(&[bell.as_fd()], Some(Duration::from_secs(10))).expect("wait");
        assert_eq!((rung, guard.somebody_waits()), (vec![true], true));
        assert_eq!(stranger.try_wait().expect("look"), None);
        drop(guard);
        assert!(stranger.wait().expect("wait").success());
    }
}
