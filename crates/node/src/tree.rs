//! The program that shows this node as the tree `/hpc`, and what becomes of it.
//!
//! It answers from the control socket like all tools, and ends by itself when the daemon has gone. What is left of one that
//! was killed the next one clears away.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::child;
use crate::daemon::{Daemon, chain};

/// The program's exit status when there cannot be a tree on this node.
pub const CANNOT: u8 = 3;

/// … when there cannot be one at the moment.
pub const NOT_NOW: u8 = 4;

/// Pause before it is started again: at first, and at most.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// One that lasted this long was well.
const WELL: Duration = Duration::from_secs(60);

/// The tree of a node.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Where it is mounted.
    pub point: PathBuf,
    /// The program that does so, and its arguments; where to mount and the run directory are added.
    pub program: Vec<OsString>,
}

impl Daemon {
    /// Sees to it that there is a tree, as long as there can be one.
    pub(crate) fn keep_tree(self: &Arc<Self>, tree: &Tree) {
        let mut program = tree.program.clone();
        program.extend([tree.point.clone().into(), self.settings.run_dir.clone().into()]);
        let mut pause = PAUSE_FIRST;
        loop {
            let began = Instant::now();
            // Its end of the socket tells the program that the daemon is there.
            let (mut process, _socket) = match child::spawn(&program) {
                Ok(started) => started,
                Err(error) => return warn!(error = %chain(&error), "there is no tree"),
            };
            let helper = i32::try_from(process.id()).unwrap_or(i32::MAX);
            self.tell(|state| state.book.helper_started(helper));
            let status = process.wait();
            self.tell(|state| state.book.helper_gone(helper));
            match status.ok().and_then(|status| status.code()) {
                Some(0) => return info!(path = %tree.point.display(), "the tree was unmounted"),
                // It has said why.
                Some(code) if code == i32::from(CANNOT) => return,
                code => warn!(code, "the program that shows the tree has ended"),
            }
            if began.elapsed() >= WELL {
                pause = PAUSE_FIRST;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
