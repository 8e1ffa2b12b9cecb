//! What lasts beyond the service: groups of devices, how often devices are sampled, policies, and what was set
//! before somebody changed a device.
//!
//! ```text
//!   service ──┐                       ┌── read: whoever has seen another file before reads it anew
//!             ├──► one TOML file ◄────┤
//!   tools ────┘                       └── change: lock the folder, read, change, write beside, rename
//! ```
//!
//! Devices stand in it by what tells them apart on this machine, their PCI address: their numbers may change when a
//! card is added.

mod policies;
mod remembered;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use minka_accel::policy::{Kind, PolicyError};
use serde::{Deserialize, Serialize};

pub use policies::{Raised, Standing};
pub use remembered::Remembered;
pub use store::{Keeper, Store};

/// Milliseconds between two samples that can be chosen, as with XPU Manager.
pub const SAMPLE_INTERVALS_MS: [u64; 4] = [100, 200, 500, 1000];

/// More groups are refused, and more devices of one, and longer names.
const GROUPS_MAX: usize = 64;
const DEVICES_MAX: usize = 256;
const NAME_CHARS_MAX: usize = 100;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Milliseconds between two samples, if somebody chose them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_interval_ms: Option<u64>,
    /// The number of the group that was made last.
    #[serde(default)]
    last_group: u32,
    /// The groups.
    #[serde(default, rename = "group", skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Group>,
    /// What devices were set to before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    remembered: Vec<Remembered>,
    /// The policies.
    #[serde(default, rename = "policy", skip_serializing_if = "Vec::is_empty")]
    policies: Vec<Standing>,
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
    /// There is no such policy.
    #[error("find a policy of type {0}")]
    NoSuchPolicy(Kind),
    /// The policy cannot be.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Nobody can be told there.
    #[error("tell {0:?}: only http[s]://HOST[:PORT][/PATH] is understood")]
    Address(String),
    /// There are too many policies.
    #[error("make a policy: there are 1024 already")]
    TooManyPolicies,
    /// More is remembered than can be.
    #[error("remember what was set before: there are too many settings")]
    TooMuchToRemember,
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
        remembered::check(&self.remembered)?;
        policies::check(&self.policies)
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
