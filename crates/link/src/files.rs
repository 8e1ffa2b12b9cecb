//! What the files of a node say, for a program that reads them before it is known for whom.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{ConfigError, NodeConfig};
use crate::current::CurrentCredentials;
use crate::keys::KeyError;

/// Why the files of a node are of no use.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// A node's configuration and keys, as they were when they were read.
#[derive(Debug)]
pub struct NodeFiles {
    path: PathBuf,
    /// Of the configuration, and of the list of nodes that it names.
    stamps: [Stamp; 2],
    /// The configuration.
    pub config: NodeConfig,
    /// The keys.
    pub credentials: CurrentCredentials,
}

impl NodeFiles {
    /// Reads the configuration at this path, and the keys that it names.
    ///
    /// # Errors
    /// When they are of no use.
    pub fn read(path: &Path) -> Result<Self, FilesError> {
        let map = NodeConfig::read(path)?.map;
        // Before they are read: what is changed after that is read again.
        let stamps = stamps(path, map.as_deref());
        let config = NodeConfig::read(path)?;
        let credentials = CurrentCredentials::new(&config)?;
        Ok(Self { path: path.to_owned(), stamps, config, credentials })
    }

    /// As they are now. (Keys tell by themselves when they are others.)
    ///
    /// # Errors
    /// When they have changed, and are of no use.
    pub fn refreshed(self) -> Result<Self, FilesError> {
        let same = stamps(&self.path, self.config.map.as_deref()) == self.stamps;
        if same { Ok(self) } else { Self::read(&self.path) }
    }

    /// Where the configuration is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Tells one content of a file from another: whoever changes one of these replaces the file.
type Stamp = Option<(u64, SystemTime)>;

fn stamps(path: &Path, map: Option<&Path>) -> [Stamp; 2] {
    [Some(path), map].map(|file| {
        let found = file?.metadata().ok()?;
        Some((found.ino(), found.modified().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::{NODE_FILE, Roster};

    #[test]
    fn what_has_changed_is_read_again() {
        let scratch = tempfile::tempdir().unwrap();
        let mut roster = Roster::create(scratch.path()).unwrap();
        let node = roster.add("a", "10.0.0.1:1".parse().unwrap(), &[]).unwrap().join(NODE_FILE);
        let files = NodeFiles::read(&node).unwrap().refreshed().unwrap();
        assert_eq!(files.path(), node);
        let text = std::fs::read_to_string(&node).unwrap();
        let new = node.with_extension("new");
        std::fs::write(&new, format!("other_kernel = true\n{text}")).unwrap();
        std::fs::rename(&new, &node).unwrap();
        assert!(!files.config.other_kernel);
        let files = files.refreshed().unwrap();
        assert!(files.config.other_kernel);
        std::fs::write(&node, "nonsense").unwrap();
        files.refreshed().unwrap_err();
    }
}
