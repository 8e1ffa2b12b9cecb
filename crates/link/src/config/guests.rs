//! The part of `node.toml` that says what guests may have of this node: `[guests]`.
//!
//! ```toml
//! [guests]
//! control_groups = ["/sys/fs/cgroup/guests"]    # where all of them are put, to be limited together
//! ```

use std::io;
use std::path::PathBuf;

use serde::Deserialize;

/// What guests may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuestConfig {
    /// Control groups that somebody has made and limited: the directories in which their `cgroup.procs` are, one, or one
    /// for each hierarchy of version 1. Guests are put there just before they run. None: they stay in the daemon's own.
    /// Where such a group limits memory, its limit is the memory that the node has.
    pub control_groups: Vec<PathBuf>,
}

impl GuestConfig {
    /// Puts a guest into the control groups for guests.
    ///
    /// # Errors
    /// If one is not there, or this process may not put others into it.
    pub fn confine(&self, pid: i32) -> io::Result<()> {
        let confine = |group: &PathBuf| std::fs::write(group.join("cgroup.procs"), pid.to_string());
        self.control_groups.iter().try_for_each(confine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_put_into_the_group_that_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("control_groups = ['{}']", directory.path().display());
        let guests: GuestConfig = toml::from_str(&text).unwrap();
        guests.confine(42).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("cgroup.procs")).unwrap(), "42");
        drop(directory);
        assert!(guests.confine(42).is_err(), "a group that is not there limits nobody");
        GuestConfig::default().confine(42).unwrap();
        assert!(toml::from_str::<GuestConfig>("group = 'a'").is_err());
    }
}
