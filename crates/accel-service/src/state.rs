//! What lasts beyond the service: groups of devices, and how often devices are sampled.
//!
//! ```text
//!   service ──┐                       ┌── read: whoever has seen another file before reads it anew
//!             ├──► one TOML file ◄────┤
//!   tools ────┘                       └── change: lock the folder, read, change, write beside, rename
//! ```
//!
//! Devices stand in it by what tells them apart on this machine, their PCI address: their numbers may change when a
//! card is added.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Milliseconds between two samples that can be chosen, as with XPU Manager.
pub const SAMPLE_INTERVALS_MS: [u64; 4] = [100, 200, 500, 1000];

/// More groups are refused, and more devices of one, and longer names.
const GROUPS_MAX: usize = 64;
const DEVICES_MAX: usize = 256;
const NAME_CHARS_MAX: usize = 100;

/// No file of the state is larger.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Others who change the state are waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// A group of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its number, from 1; a number is not used again.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its devices, by [`minka_accel::Identity::key`].
    #[serde(default)]
    pub devices: BTreeSet<String>,
}

/// All that lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Milliseconds between two samples, if somebody chose them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_interval_ms: Option<u64>,
    /// The number of the group that was made last.
    #[serde(default)]
    last_group: u32,
    /// The groups.
    #[serde(default, rename = "group")]
    groups: Vec<Group>,
}

/// Why the state is not changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read or written.
    #[error("use the file of the state {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not as it should be.
    #[error("understand the file of the state {}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such group.
    #[error("find the group {0}")]
    NoSuchGroup(u32),
    /// The name is none.
    #[error("name a group: a name has 1 to 100 characters")]
    Name,
    /// There are too many groups.
    #[error("make a group: there are 64 already")]
    TooManyGroups,
    /// There are too many devices in the group.
    #[error("fill a group: it has 256 devices at most")]
    TooManyDevices,
    /// Nobody can sample so often.
    #[error("sample every {0} ms: only 100, 200, 500 and 1000 can be chosen")]
    Interval(u64),
}

impl State {
    /// The groups in the order of their numbers.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A group.
    pub fn group(&self, id: u32) -> Result<&Group, StateError> {
        self.groups.iter().find(|group| group.id == id).ok_or(StateError::NoSuchGroup(id))
    }

    /// Makes a group.
    pub fn make_group(&mut self, name: &str, devices: BTreeSet<String>) -> Result<Group, StateError> {
        if self.groups.len() >= GROUPS_MAX {
            return Err(StateError::TooManyGroups);
        }
        let group = Group { id: self.last_group.saturating_add(1), name: name.to_owned(), devices };
        group.check()?;
        self.last_group = group.id;
        self.groups.push(group.clone());
        Ok(group)
    }

    /// Changes the devices of a group.
    pub fn change_devices(
        &mut self,
        id: u32,
        change: impl FnOnce(&mut BTreeSet<String>),
    ) -> Result<Group, StateError> {
        let group = self.groups.iter_mut().find(|group| group.id == id).ok_or(StateError::NoSuchGroup(id))?;
        let mut changed = group.clone();
        change(&mut changed.devices);
        changed.check()?;
        group.clone_from(&changed);
        Ok(changed)
    }

    /// Takes a group away.
    pub fn end_group(&mut self, id: u32) -> Result<(), StateError> {
        self.group(id)?;
        self.groups.retain(|group| group.id != id);
        Ok(())
    }

    /// Chooses how often devices are sampled.
    pub fn set_sample_interval(&mut self, interval_ms: u64) -> Result<(), StateError> {
        if !SAMPLE_INTERVALS_MS.contains(&interval_ms) {
            return Err(StateError::Interval(interval_ms));
        }
        self.sample_interval_ms = Some(interval_ms);
        Ok(())
    }

    /// Whether a file that anybody may have written holds what is made here.
    fn check(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.groups.len() > GROUPS_MAX {
            return Err(Box::new(StateError::TooManyGroups));
        }
        if let Some(interval) = self.sample_interval_ms.filter(|ms| !SAMPLE_INTERVALS_MS.contains(ms)) {
            return Err(Box::new(StateError::Interval(interval)));
        }
        let mut before = 0;
        for group in &self.groups {
            group.check()?;
            if group.id <= before || group.id > self.last_group {
                return Err(format!("the number {} of a group is out of order", group.id).into());
            }
            before = group.id;
        }
        Ok(())
    }
}

impl Group {
    fn check(&self) -> Result<(), StateError> {
        if !(1..=NAME_CHARS_MAX).contains(&self.name.chars().count()) {
            return Err(StateError::Name);
        }
        if self.devices.len() > DEVICES_MAX {
            return Err(StateError::TooManyDevices);
        }
        Ok(())
    }
}

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

    /// Changes the state; may wait for others who do.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.store.change(change).map(|(outcome, _)| outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path().join("new/folder/xpu.toml"));
        (directory, store)
    }

    #[test]
    fn groups_and_settings_last_and_numbers_are_not_used_again() {
        let (_directory, store) = store();
        assert_eq!(store.read().unwrap(), State::default());
        let devices = BTreeSet::from(["0000:03:00.0".to_owned()]);
        let make = |name: &str| store.change(|state| state.make_group(name, devices.clone())).unwrap().0.id;
        assert_eq!((make("arc"), make("old")), (1, 2));
        store.change(|state| state.end_group(2)).unwrap();
        store.change(|state| state.set_sample_interval(200)).unwrap();
        assert_eq!(make("new"), 3);
        let state = Store::at(store.path.clone()).read().unwrap();
        assert_eq!(state.sample_interval_ms, Some(200));
        assert_eq!(state.groups().iter().map(|group| group.id).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(state.group(1).unwrap().devices, devices);
    }

    #[test]
    fn a_change_that_is_refused_leaves_everything_as_it_was() {
        let (_directory, store) = store();
        store.change(|state| state.make_group("arc", BTreeSet::new())).unwrap();
        let before = store.read().unwrap();
        let many: BTreeSet<String> = (0..300).map(|number| number.to_string()).collect();
        assert!(matches!(
            store.change(|state| state.change_devices(1, |devices| *devices = many)),
            Err(StateError::TooManyDevices)
        ));
        let name = "x".repeat(101);
        assert!(matches!(
            store.change(|state| state.make_group(&name, BTreeSet::new())),
            Err(StateError::Name)
        ));
        assert!(matches!(store.change(|state| state.end_group(7)), Err(StateError::NoSuchGroup(7))));
        assert!(matches!(
            store.change(|state| state.set_sample_interval(300)),
            Err(StateError::Interval(300))
        ));
        assert_eq!(store.read().unwrap(), before);
        for number in 2..=64 {
            assert_eq!(store.change(|state| state.make_group("more", BTreeSet::new())).unwrap().0.id, number);
        }
        let refused = store.change(|state| state.make_group("more", BTreeSet::new()));
        assert!(matches!(refused, Err(StateError::TooManyGroups)));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_and_kept() {
        let (_directory, store) = store();
        store.change(|state| state.make_group("arc", BTreeSet::new())).unwrap();
        let keeper = Keeper::new(store.clone()).unwrap();
        let check = |text: &str| {
            fs::write(&store.path, text).unwrap();
            assert!(matches!(store.read(), Err(StateError::Format { .. })), "{text}");
            assert!(store.change(|state| state.set_sample_interval(100)).is_err());
            assert_eq!(fs::read_to_string(&store.path).unwrap(), text);
            assert_eq!(keeper.state().groups().len(), 1, "what was known stays");
        };
        check("sample_interval_ms = 1");
        check("interval = 100");
        check("last_group = 1\n[[group]]\nid = 2\nname = \"beyond\"");
        check("last_group = 1\n[[group]]\nid = 0\nname = \"none\"");
        check("last_group = 1\n[[group]]\nid = 1\nname = \"\"");
        check("last_group = 1\n[[group]]\nid = 1\nname = \"a\"\n[[group]]\nid = 1\nname = \"b\"");
        fs::write(&store.path, "sample_interval_ms = 500").unwrap();
        assert_eq!(keeper.state().sample_interval_ms, Some(500));
    }

    #[test]
    fn changes_at_the_same_time_lose_nothing() {
        let (_directory, store) = store();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        store.change(|state| state.make_group("one", BTreeSet::new())).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.read().unwrap().groups().len(), 20);
    }
}
