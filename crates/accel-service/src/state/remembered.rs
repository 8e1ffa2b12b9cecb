//! What devices were set to before somebody changed them.

use minka_accel::config::Content;
use serde::{Deserialize, Serialize};

use super::{State, StateError};

/// More files of one device are not remembered, and not of more devices.
const FILES_MAX: usize = 512;
const DEVICES_MAX: usize = 256;

/// What a device was set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The device, by [`minka_accel::Identity::key`].
    pub device: String,
    /// The start of the machine after which it was so: the next one forgets what was set.
    pub boot: String,
    /// The files that were changed, in the order in which they were.
    #[serde(default)]
    pub files: Vec<Content>,
}

/// Whether a file that anybody may have written holds what is made here.
pub(super) fn check(all: &[Remembered]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if all.len() > DEVICES_MAX || all.iter().any(|one| one.files.len() > FILES_MAX) {
        return Err(Box::new(StateError::TooMuchToRemember));
    }
    check_files(all.iter().flat_map(|one| &one.files))
}

/// What is put back is written where drivers listen, so it must not lead anywhere else.
pub(super) fn check_files<'a>(
    mut files: impl Iterator<Item = &'a Content>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let leads_away = |content: &Content| content.file.split('/').any(|part| part.is_empty() || part == "..");
    if files.any(leads_away) {
        return Err("a file that is remembered is not in the device's folder".into());
    }
    Ok(())
}

impl State {
    /// What a device was set to before anybody changed it, since the machine was started.
    pub fn remembered(&self, device: &str, boot: &str) -> &[Content] {
        let found = self.remembered.iter().find(|one| one.device == device && one.boot == boot);
        found.map_or(&[], |one| &one.files)
    }

    /// Remembers what files held, unless it is known already what they held first.
    pub fn remember(&mut self, device: &str, boot: &str, before: Vec<Content>) -> Result<(), StateError> {
        self.remembered.retain(|one| one.boot == boot);
        let known = self.remembered.iter().position(|one| one.device == device);
        let index = match known {
            Some(index) => index,
            None if self.remembered.len() == DEVICES_MAX => return Err(StateError::TooMuchToRemember),
            None => {
                let (device, boot) = (device.to_owned(), boot.to_owned());
                self.remembered.push(Remembered { device, boot, files: Vec::new() });
                self.remembered.len() - 1
            }
        };
        let files = &mut self.remembered[index].files;
        for content in before {
            if !files.iter().any(|file| file.file == content.file) {
                files.push(content);
            }
        }
        if files.len() > FILES_MAX { Err(StateError::TooMuchToRemember) } else { Ok(()) }
    }

    /// Forgets what a device was set to.
    pub fn forget(&mut self, device: &str) {
        self.remembered.retain(|one| one.device != device);
    }
}
