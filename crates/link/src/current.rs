//! The credentials of a node for a program that runs for long: certificate and authorities may be others by now.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::config::NodeConfig;
use crate::credentials::Credentials;
use crate::keys::{AUTHORITY_CERTIFICATE, KeyError, NODE_CERTIFICATE, NodeKeys};
use crate::roster::List;

/// When the files were changed: certificate, authorities and list of nodes.
type Stamp = [Option<SystemTime>; 3];

/// What the files of a node's keys hold, read again when they have changed.
#[derive(Debug)]
pub struct CurrentCredentials {
    keys: PathBuf,
    map: Option<PathBuf>,
    read: Mutex<(Stamp, Credentials)>,
}

impl CurrentCredentials {
    /// Loads the keys that a configuration names.
    ///
    /// # Errors
    /// When they are of no use.
    pub fn new(config: &NodeConfig) -> Result<Self, KeyError> {
        let (keys, map) = (config.keys.clone(), config.map.clone());
        // Before they are read: what is changed after that is read again.
        let stamp = stamp(&keys, map.as_ref());
        let read = Mutex::new((stamp, config.credentials()?));
        Ok(CurrentCredentials { keys, map, read })
    }

    /// Those that are good now. While files are being changed, or if they are of no use, they stay as they were.
    pub fn get(&self) -> Credentials {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.keys, self.map.as_ref());
        if read.0 != stamp
            && let Some(credentials) = self.read_again()
        {
            *read = (stamp, credentials);
        }
        read.1.clone()
    }

    fn read_again(&self) -> Option<Credentials> {
        let credentials = Credentials::new(&NodeKeys::read(&self.keys).ok()?).ok()?;
        if let Some(map) = &self.map {
            credentials.refuse(List::read(map).ok()?.refused);
        }
        Some(credentials)
    }
}

fn stamp(keys: &std::path::Path, map: Option<&PathBuf>) -> Stamp {
    let files = [Some(keys.join(NODE_CERTIFICATE)), Some(keys.join(AUTHORITY_CERTIFICATE)), map.cloned()];
    files.map(|file| file?.metadata().ok()?.modified().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::{NODE_FILE, Roster};

    #[test]
    fn what_has_changed_is_read_again() {
        let scratch = tempfile::tempdir().unwrap();
        let mut roster = Roster::create(scratch.path()).unwrap();
        let node = roster.add("a", "10.0.0.1:1".parse().unwrap(), &[]).unwrap();
        let config = NodeConfig::read(&node.join(NODE_FILE)).unwrap();
        let current = CurrentCredentials::new(&config).unwrap();
        let before = current.get();
        roster.begin_succession().unwrap();
        let keys = roster.authority().issue("a").unwrap();
        keys.replace(&config.keys).unwrap();
        assert_ne!(current.get().trusted(), before.trusted());
        assert_eq!(current.get().trusted(), keys.authority);
        // Half of the files is of no use.
        std::fs::write(config.keys.join(AUTHORITY_CERTIFICATE), "").unwrap();
        assert_eq!(current.get().trusted(), keys.authority);
    }
}
