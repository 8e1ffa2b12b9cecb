//! The door before memory that is away: whoever opens it, by `/proc/PID/fd` or `/proc/PID/map_files`, waits until it is at home.
//!
//! Its own processes may open it, which they do at home or by calls that are looked at ([`crate::reach`]), and so may programs
//! like this one, which only look at what there is. A thread of its own answers, as the main one may wait for just these.

use minka_kernel::door::{Door, Visitor};
use minka_kernel::process::Bell;
use minka_kernel::spawn::wait_readable;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Puts a door before these files, which `members` have.
    pub(super) fn new<'a>(files: impl Iterator<Item = &'a File>, members: &[i32]) -> io::Result<Self> {
        let door = Door::new()?;
        for file in files {
            door.put_before(file.as_fd())?;
        }
        let shared = Arc::new(Shared {
            end: Bell::new()?,
            is_over: AtomicBool::new(false),
            somebody_waits: AtomicBool::new(false),
            bell: Mutex::default(),
        });
        let (members, own) = (members.to_vec(), std::fs::metadata("/proc/self/exe")?);
        let may_enter = move |pid: i32| members.contains(&pid) || super::runs(pid, &own);
        let thread = std::thread::Builder::new();
        let with = Arc::clone(&shared);
        let thread = thread.spawn(move || attend(&door, &with, may_enter))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whom to tell that somebody waits, also if that is so already.
    pub(super) fn tell(&self, bell: &Arc<Bell>) {
        *self.shared.bell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(bell));
        if self.shared.somebody_waits.load(Ordering::SeqCst) {
            bell.ring();
        }
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

fn attend(door: &Door, shared: &Shared, may_enter: impl Fn(i32) -> bool) {
    let mut waiting: Vec<Visitor> = Vec::new();
    while !shared.is_over.load(Ordering::SeqCst) {
        let pause = (!waiting.is_empty()).then_some(REMIND);
        // One that has been woken for nothing looks once more.
        let _ = wait_readable(&[door.as_fd(), shared.end.as_fd()], pause);
        while waiting.len() < VISITORS_MAX {
            match door.next() {
                Ok(Some(visitor)) if may_enter(visitor.pid) => {
                    if let Err(error) = door.let_in(visitor) {
                        tracing::warn!(%error, "failed to let somebody open shared memory");
                    }
                }
                Ok(Some(visitor)) => {
                    tracing::info!(pid = visitor.pid, "somebody opens shared memory that is away");
                    waiting.push(visitor);
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "failed to look who opens shared memory");
                    shared.tell();
                    break;
                }
            }
        }
        if !waiting.is_empty() {
            shared.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn strangers_wait_and_members_do_not() {
        let memory = File::from(minka_kernel::shared::memfd(c"guard", 4096).expect("a memfd"));
        let members = [std::process::id().cast_signed()];
        let guard = match Guard::new([&memory].into_iter(), &members) {
            Ok(guard) => guard,
            Err(error) => return println!("not made, as this system does not allow it: {error}"),
        };
        use std::os::fd::AsRawFd;
        let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd());
        File::open(&path).expect("a member opens it");
        assert!(!guard.somebody_waits());
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
