//! Files of values that the service writes line by line, until somebody ends them.
//!
//! They lie in one folder that whoever runs the service chose; nobody who asks for one names a file. A file that has
//! grown too large is not written further.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use minka_accel::{Station, dump};

use minka_access::time;

/// More files are not written at once.
const TASKS_MAX: usize = 16;

/// No file grows beyond this.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why no file is written.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// There are too many.
    #[error("begin a dump: there are 16 already")]
    TooMany,
    /// There is no such dump.
    #[error("find the dump {0}")]
    NoSuchDump(u32),
    /// The file cannot be written.
    #[error("write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A file that is being written.
#[derive(Debug)]
struct Task {
    device: u32,
    columns: Vec<usize>,
    path: PathBuf,
    file: File,
    written: u64,
    last: Option<SystemTime>,
}

/// The files that are being written.
#[derive(Debug)]
pub struct Dumps {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u32,
    tasks: BTreeMap<u32, Task>,
}

impl Dumps {
    /// Files in a folder, which need not be there yet.
    pub fn at(folder: PathBuf) -> Self {
        Dumps { folder, inner: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a file of a device's columns; its number and path.
    pub fn begin(&self, device: u32, columns: Vec<usize>) -> Result<(u32, PathBuf), DumpError> {
        let mut inner = self.lock();
        if inner.tasks.len() == TASKS_MAX {
            return Err(DumpError::TooMany);
        }
        let id = inner.last.wrapping_add(1);
        let begun: String =
            time::text(SystemTime::now()).chars().filter(char::is_ascii_alphanumeric).collect();
        let path = self.folder.join(format!("device{device}-{begun}-{id}.csv"));
        let open = || -> io::Result<File> {
            fs::create_dir_all(&self.folder)?;
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            writeln!(file, "{}", dump::heading(&columns))?;
            Ok(file)
        };
        let file = open().map_err(|source| DumpError::File { path: path.clone(), source })?;
        inner.last = id;
        inner.tasks.insert(id, Task { device, columns, path: path.clone(), file, written: 0, last: None });
        Ok((id, path))
    }

    /// The numbers of those that are being written.
    pub fn list(&self) -> Vec<u32> {
        self.lock().tasks.keys().copied().collect()
    }

    /// Ends a file; its path.
    pub fn end(&self, id: u32) -> Result<PathBuf, DumpError> {
        self.lock().tasks.remove(&id).map(|task| task.path).ok_or(DumpError::NoSuchDump(id))
    }

    /// Writes what was sampled since the last time.
    pub fn round(&self, station: &Station) {
        for task in self.lock().tasks.values_mut() {
            let Some(report) = station.report(task.device) else { continue };
            if task.last == Some(report.sample.taken) || task.written > FILE_BYTES_MAX {
                continue;
            }
            task.last = Some(report.sample.taken);
            let line = dump::row(&time::text(report.sample.taken), &report.sample, &task.columns);
            task.written += line.len() as u64 + 1;
            if let Err(error) = writeln!(task.file, "{line}") {
                tracing::warn!(%error, path = %task.path.display(), "a dump cannot be written further");
                task.written = u64::MAX;
            }
        }
    }
}
