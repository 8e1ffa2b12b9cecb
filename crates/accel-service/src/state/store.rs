//! The file that holds the state, and the service's view of it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{State, StateError};

/// No file of the state is larger.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Others who change the state are waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// The file.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The state that is kept in a file, which need not be there yet.
    pub fn at(path: PathBuf) -> Self {
        Store { path }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state; without a file there is nothing in it.
    pub fn read(&self) -> Result<State, StateError> {
        let format = |source| StateError::Format { path: self.path.clone(), source };
        let mut text = String::new();
        match File::open(&self.path).map(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)) {
            Ok(Ok(_)) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Ok(Err(error)) | Err(error) => return Err(self.file(error)),
        }
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format("it is larger than 4 MiB".into()));
        }
        let state: State = toml::from_str(&text).map_err(|error| format(error.into()))?;
        state.check().map_err(format)?;
        Ok(state)
    }

    /// Changes the state, one at a time. When the change fails, nothing is written.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, StateError>,
    ) -> Result<(T, State), StateError> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder).map_err(|error| self.file(error))?;
        // Held until the end of the function.
        let _lock = lock(folder).map_err(|error| self.file(error))?;
        let mut state = self.read()?;
        let outcome = change(&mut state)?;
        let text = toml::to_string(&state)
            .map_err(|error| StateError::Format { path: self.path.clone(), source: error.into() })?;
        self.write(&text).map_err(|error| self.file(error))?;
        Ok((outcome, state))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(fresh, &self.path)
    }

    fn file(&self, source: io::Error) -> StateError {
        StateError::File { path: self.path.clone(), source }
    }

    /// What tells one version of the file from the next.
    fn version(&self) -> Option<(u64, i64, i64)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
    }
}

/// Locks a folder, so that no file of its own is needed for that.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "somebody else is changing it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// The state as the service knows it: always that of the file, unless that makes no sense.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    version: Option<(u64, i64, i64)>,
    state: Arc<State>,
}

impl Keeper {
    /// Reads the state for the first time.
    pub fn new(store: Store) -> Result<Self, StateError> {
        let seen = Mutex::new(Seen { version: store.version(), state: Arc::new(store.read()?) });
        Ok(Keeper { store, seen })
    }

    /// The state.
    pub fn state(&self) -> Arc<State> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.store.version();
        if version != seen.version {
            match self.store.read() {
                Ok(state) => seen.state = Arc::new(state),
                Err(error) => tracing::warn!(%error, "groups and settings stay as they were"),
            }
            seen.version = version;
        }
        Arc::clone(&seen.state)
    }

    /// The file, for those who read and change it themselves.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Changes the state; may wait for others who do.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.store.change(change).map(|(outcome, _)| outcome)
    }
}
