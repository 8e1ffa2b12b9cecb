//! The record that lets another deputy put a process right if this one is killed.
//!
//! It is a small file in the node's run directory, written before the process is first changed and removed when
//! the process is an ordinary one again.

use minka_image::process::Thread;
use minka_image::registers::Registers;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// How far the process had been taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Stopped; the ring is being mapped, and nothing else is different.
    Parking,
    /// In the agent; everything of the program is here.
    Parked,
    /// The guest has done something that cannot be undone: what it computed since is only at the host.
    Committed,
}

/// The record's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) phase: Phase,
    pub(crate) thread: Thread,
    pub(crate) original: Registers,
}

/// Where it is kept.
#[derive(Debug)]
pub(crate) struct Record {
    path: PathBuf,
    content: Mutex<Option<Content>>,
}

impl Record {
    /// For a process; nothing is written yet.
    pub(crate) fn new(run_dir: &Path, pid: i32) -> Self {
        Self { path: run_dir.join(format!("parked-{pid}")), content: Mutex::new(None) }
    }

    /// What a killed deputy left, if it left anything.
    pub(crate) fn read(&self) -> Option<Content> {
        postcard::from_bytes(&std::fs::read(&self.path).ok()?).ok()
    }

    pub(crate) fn parking(&self, thread: &Thread, original: &Registers) {
        self.write(|content| {
            *content = Some(Content { phase: Phase::Parking, thread: thread.clone(), original: *original });
        });
    }

    pub(crate) fn parked(&self, thread: &Thread) {
        self.write(|content| {
            if let Some(content) = content {
                (content.phase, content.thread) = (Phase::Parked, thread.clone());
            }
        });
    }

    pub(crate) fn committed(&self) {
        self.write(|content| {
            if let Some(content) = content {
                content.phase = Phase::Committed;
            }
        });
    }

    /// The process is an ordinary one again, or has ended.
    pub(crate) fn clear(&self) {
        *self.content.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        // If it was never written there is nothing to remove.
        let _ = std::fs::remove_file(&self.path);
    }

    fn write(&self, change: impl FnOnce(&mut Option<Content>)) {
        let mut content = self.content.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut content);
        let Some(content) = content.as_ref() else { return };
        let Ok(bytes) = postcard::to_allocvec(content) else { return };
        if let Err(error) = self.replace(&bytes) {
            tracing::warn!(path = %self.path.display(), %error, "cannot keep the record for a rescue");
        }
    }

    /// Never leaves half a record behind.
    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let next = self.path.with_extension("next");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(bytes)?;
        std::fs::rename(next, &self.path)
    }
}
