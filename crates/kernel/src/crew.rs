//! Threads that are made before there is something for them to do.
//!
//! A thread costs some twenty pages, of its stack, its heap and the kernel's, and as many page faults. A program that waits for
//! its task can have them behind it by then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use crate::spawn::block_signals;

type Work = Box<dyn FnOnce() + Send>;

/// Those that wait, and how each is told what to do.
static READY: Mutex<Vec<(JoinHandle<()>, mpsc::Sender<Work>)>> = Mutex::new(Vec::new());

/// So much of its stack is touched by a thread that waits, in bytes: what most of them use.
const STACK: usize = 24 << 10;

/// And so much of its heap.
const HEAP: usize = 16 << 10;

/// Makes threads that wait for [`start`]; they leave these signals to others.
pub fn keep_ready(count: usize, blocked: &[i32]) {
    // From their first moment: what reaches a thread that leaves a signal to nobody is lost.
    let Ok(before) = block_signals(blocked) else { return };
    for _ in 0..count {
        let (tell, told) = mpsc::channel::<Work>();
        let waiting = std::thread::Builder::new().spawn(move || {
            touch();
            // Whoever made it may end before there was something to do.
            if let Ok(work) = told.recv() {
                work();
            }
        });
        // Without it another one is made when there is something to do.
        if let Ok(thread) = waiting {
            lock().push((thread, tell));
        }
    }
    before.restore();
}

/// Uses memory once, so that it is there.
fn touch() {
    std::hint::black_box([1u8; STACK]);
    std::hint::black_box(vec![1u8; HEAP]);
}

/// A thread that has got something to do.
#[derive(Debug)]
pub struct Started<T> {
    thread: JoinHandle<()>,
    result: mpsc::Receiver<std::thread::Result<T>>,
}

impl<T> Started<T> {
    /// Waits for its end and takes the result, or what it panicked with.
    pub fn join(self) -> std::thread::Result<T> {
        self.thread.join()?;
        self.result.recv().unwrap_or_else(|gone| Err(Box::new(gone)))
    }
}

/// Has a thread do something: one that waits, if there is one, else a new one.
pub fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Started<T> {
    let (done, result) = mpsc::sync_channel(1);
    let work = move || {
        // Nobody need wait for it.
        let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
    };
    let ready = lock().pop();
    let thread = match ready {
        Some((thread, tell)) => match tell.send(Box::new(work)) {
            Ok(()) => thread,
            Err(mpsc::SendError(work)) => std::thread::spawn(work),
        },
        None => std::thread::spawn(work),
    };
    Started { thread, result }
}

fn lock() -> std::sync::MutexGuard<'static, Vec<(JoinHandle<()>, mpsc::Sender<Work>)>> {
    READY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> std::thread::ThreadId {
        std::thread::current().id()
    }

    #[test]
    fn who_waits_is_taken_first_and_others_are_made() {
        keep_ready(2, &[]);
        let ready: Vec<_> = lock().iter().map(|(thread, _)| thread.thread().id()).collect();
        let started: Vec<_> = (0..3).map(|number| start(move || (number, id()))).collect();
        let done: Vec<_> = started.into_iter().map(|started| started.join().unwrap()).collect();
        assert_eq!(done.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2]);
        let taken: Vec<_> = done.iter().map(|(_, id)| ready.contains(id)).collect();
        assert_eq!(taken, [true, true, false]);
    }

    #[test]
    fn a_panic_is_told_to_whoever_waits() {
        keep_ready(1, &[]);
        let panicked = start(|| panic!("on purpose")).join();
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"on purpose"));
        assert!(start(|| panic!("again")).join().is_err());
    }
}
