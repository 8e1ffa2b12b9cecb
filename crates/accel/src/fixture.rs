//! Recorded machines, to test and to measure with.
//!
//! A recording is a text: one file a line, its path, a tab, and its content with `\n`, `\t`, `\\` and `\x00` for
//! what a line cannot hold. The recordings in `captures/` are of real cards; their licence is beside them.

use std::io;
use std::path::Path;

/// A recorded machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recording {
    /// Its name.
    pub name: &'static str,
    text: &'static str,
}

macro_rules! recordings {
    ($($name:literal),* $(,)?) => {
        &[$(Recording { name: $name, text: include_str!(concat!("../captures/", $name, ".tree")) }),*]
    };
}

/// All recordings.
pub const RECORDINGS: &[Recording] =
    recordings!["a380_i915", "a380_xe", "b580_6_16", "rx580", "rx7900xtx", "vangogh"];

impl Recording {
    /// The recording with a name.
    pub fn named(name: &str) -> Option<&'static Recording> {
        RECORDINGS.iter().find(|recording| recording.name == name)
    }

    /// Its files: path and content.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        self.text
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(path, content)| (path, unescape(content)))
    }

    /// Writes the machine's files below a directory.
    pub fn plant(&self, directory: &Path) -> io::Result<()> {
        self.files().try_for_each(|(path, content)| write(&directory.join(path), &content))
    }

    /// Writes the machine's card as card number `number`, in a PCI slot of its own.
    fn plant_card(&self, directory: &Path, number: usize) -> io::Result<()> {
        let card = |path: &str| -> Option<String> {
            let rest = path.strip_prefix("sys/class/drm/card")?;
            let (_, rest) = rest.split_once('/')?;
            Some(format!("sys/class/drm/card{number}/{rest}"))
        };
        for (path, content) in self.files() {
            let Some(target) = card(path) else { continue };
            let content = if path.ends_with("/device/uevent") {
                let text = String::from_utf8_lossy(&content).into_owned();
                let lines = text.lines().map(|line| match line.strip_prefix("PCI_SLOT_NAME=") {
                    Some(_) => format!("PCI_SLOT_NAME=0000:{:02x}:00.0\n", number + 1),
                    None => format!("{line}\n"),
                });
                lines.collect::<String>().into_bytes()
            } else {
                content
            };
            write(&directory.join(target), &content)?;
        }
        Ok(())
    }
}

/// Writes a machine with so many cards, of all recordings in turn.
pub fn plant_machine(directory: &Path, cards: usize) -> io::Result<()> {
    (0..cards)
        .zip(RECORDINGS.iter().cycle())
        .try_for_each(|(number, recording)| recording.plant_card(directory, number))
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, content)
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        let hex = after.strip_prefix('x').and_then(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok());
        let (byte, length) = match (after.as_bytes().first(), hex) {
            (_, Some(byte)) => (byte, 3),
            (Some(b'n'), _) => (b'\n', 1),
            (Some(b't'), _) => (b'\t', 1),
            _ => (b'\\', 1),
        };
        bytes.push(byte);
        rest = after.get(length..).unwrap_or_default();
    }
    bytes.extend(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_come_back_as_they_were() {
        assert_eq!(unescape("a\\nb\\t\\\\\\x00\\xffz"), b"a\nb\t\\\0\xffz");
        assert_eq!(unescape(""), b"");
    }

    #[test]
    fn a_machine_has_as_many_cards_as_asked_for_each_in_its_slot() {
        let directory = tempfile::tempdir().unwrap();
        plant_machine(directory.path(), 13).unwrap();
        let devices = crate::discovery::discover(&crate::Root::at(directory.path())).devices;
        let keys: std::collections::BTreeSet<_> =
            devices.iter().map(|device| device.identity().key()).collect();
        assert_eq!((devices.len(), keys.len()), (13, 13));
    }
}
