//! Updates of firmware that the service was asked for, one at a time: while fwupd installs it answers nobody else.
//!
//! ```text
//!   begin ──► fwupd: which parts? ──► refused, with the reason
//!                     └──► a thread of its own: install ──► progress ──► done, or failed
//!                                                              └─ asked for meanwhile
//! ```
//!
//! A service that ends meanwhile hears nothing more of it; what has begun fwupd brings to its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use minka_accel_firmware::{Daemon, Part, Progress, Wanted};

use crate::problem::{Problem, words};

/// What is to be installed.
#[derive(Debug)]
pub struct Job {
    /// The device's number.
    pub device: u32,
    /// Its vendor and product.
    pub kind: Option<(u16, u16)>,
    /// XPU Manager's name of the part.
    pub name: String,
    /// fwupd's name of it.
    pub part: Option<String>,
    /// The image.
    pub file: PathBuf,
    /// Also an older version, or the same again.
    pub force: bool,
}

/// How far an update is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It goes on.
    Ongoing,
    /// It is done.
    Done,
    /// It failed, for this reason.
    Failed(String),
}

/// An update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// What is updated.
    pub part: String,
    /// What fwupd does.
    pub progress: Progress,
    /// How far it is.
    pub stage: Stage,
}

/// The last update of each device.
#[derive(Debug, Default)]
pub struct Updates(Arc<Mutex<BTreeMap<u32, Update>>>);

impl Updates {
    /// The last update of a device, since the service was started.
    pub fn of(&self, device: u32) -> Option<Update> {
        lock(&self.0).get(&device).cloned()
    }

    /// Begins an update, if there is no other one; it goes on in a thread of its own. Takes a while.
    pub fn begin(&self, job: Job) -> Result<Update, Problem> {
        let wanted = Wanted { kind: Some(&job.name), id: job.part.as_deref() };
        wanted.check()?;
        let image = minka_accel_firmware::open(&job.file)?;
        let daemon = Daemon::connect()?;
        let kinds: Vec<_> = job.kind.into_iter().collect();
        let part: Part = wanted.choose(&daemon.parts()?, &kinds)?.clone();
        let begun = Update { part: part.id.clone(), progress: Progress::default(), stage: Stage::Ongoing };
        {
            let mut updates = lock(&self.0);
            if updates.values().any(|update| update.stage == Stage::Ongoing) {
                return Err(Problem::new(StatusCode::CONFLICT, "an update of firmware goes on already"));
            }
            updates.insert(job.device, begun.clone());
        }
        let (updates, device) = (Arc::clone(&self.0), job.device);
        let change = move |change: &mut dyn FnMut(&mut Update)| {
            lock(&updates).get_mut(&device).into_iter().for_each(change);
        };
        let failed = change.clone();
        let thread = std::thread::Builder::new().name("xpu-firmware".to_owned());
        let started = thread.spawn(move || {
            let mut tell = |seen: &Progress| change(&mut |update| update.progress = seen.clone());
            let outcome = daemon.install(&part, &image, job.force, &mut tell);
            let stage = outcome.map_or_else(|error| Stage::Failed(words(&error)), |()| Stage::Done);
            tracing::warn!(device, part = part.id, ?stage, "an update of firmware has ended");
            change(&mut |update| update.stage = stage.clone());
        });
        if let Err(error) = started {
            failed(&mut |update| update.stage = Stage::Failed(error.to_string()));
        }
        Ok(begun)
    }
}

fn lock(updates: &Mutex<BTreeMap<u32, Update>>) -> MutexGuard<'_, BTreeMap<u32, Update>> {
    updates.lock().unwrap_or_else(PoisonError::into_inner)
}
