//! Where values come from: the files of a machine, or of a recording of one.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::nvidia::Library;
use crate::sysman::Helper;
use crate::value::Reason;

/// No file that is read here is larger; what is beyond is cut off.
pub const BYTES_MAX: usize = 16 * 1024;

/// No directory that is listed here has more entries; what is beyond is left out.
pub const ENTRIES_MAX: usize = 4096;

/// The directory that stands for `/`.
#[derive(Debug, Clone)]
pub struct Root {
    path: Arc<PathBuf>,
    prefix: Prefix,
    kept: bool,
    library: Option<Library>,
    helper: Option<Helper>,
}

/// What of a machine a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Machine,
    Sys,
    Cards,
}

impl Prefix {
    fn path(self) -> &'static str {
        match self {
            Prefix::Machine => "",
            Prefix::Sys => "sys/",
            Prefix::Cards => "sys/class/drm/",
        }
    }
}

impl Root {
    /// This machine. Files of sysfs are opened once and read often.
    pub fn machine() -> Self {
        Root {
            path: Arc::new(PathBuf::from("/")),
            prefix: Prefix::Machine,
            kept: true,
            library: None,
            helper: None,
        }
    }

    /// A directory that holds a machine's files: the whole tree, or what stands at `/sys`, or at
    /// `/sys/class/drm`. Files are opened anew for each read, as they may be replaced.
    pub fn at(path: &Path) -> Self {
        let prefix = if path.join("class").is_dir() && !path.join("sys").is_dir() {
            Prefix::Sys
        } else if !path.join("sys").is_dir() && has_cards(path) {
            Prefix::Cards
        } else {
            Prefix::Machine
        };
        Root {
            path: Arc::new(path.to_owned()),
            prefix,
            kept: path == Path::new("/"),
            library: None,
            helper: None,
        }
    }

    /// The same, but with files that are opened once, as on a machine.
    pub fn keeping_files(mut self) -> Self {
        self.kept = true;
        self
    }

    /// The same with NVIDIA's library, which has no files.
    pub fn with_library(mut self, library: Option<Library>) -> Self {
        self.library = library;
        self
    }

    /// The same with somebody who asks Level Zero's library.
    pub fn with_helper(mut self, helper: Option<Helper>) -> Self {
        self.helper = helper;
        self
    }

    /// Whoever asks Level Zero's library, if anybody does.
    pub fn helper(&self) -> Option<&Helper> {
        self.helper.as_ref()
    }

    /// NVIDIA's library, if there is one.
    pub fn library(&self) -> Option<&Library> {
        self.library.as_ref()
    }

    /// Whether it is the machine that this program runs on.
    pub fn is_machine(&self) -> bool {
        self.path.as_path() == Path::new("/")
    }

    /// Where a path such as `sys/class/drm` lies; `None` when it is not in this tree.
    pub fn locate(&self, path: &str) -> Option<PathBuf> {
        let inner = path.strip_prefix(self.prefix.path());
        match (inner, self.prefix) {
            (Some(inner), _) => Some(self.path.join(inner)),
            (None, Prefix::Cards) if path == "sys/class/drm" => Some(self.path.to_path_buf()),
            (None, _) => None,
        }
    }

    /// The text of a file, without what is around it.
    pub fn read(&self, path: &str) -> Result<String, Reason> {
        Handle::new(path.into()).read(self)
    }

    /// The text of a file, if it can be read and is not empty.
    pub fn text(&self, path: &str) -> Option<String> {
        self.read(path).ok().filter(|text| !text.is_empty())
    }

    /// Writes a file that is there already, at once, as drivers want it.
    pub fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let path = self.locate(path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut file = File::options().write(true).truncate(true).open(path)?;
        // Two writes would be two orders.
        let written = file.write(text.as_bytes())?;
        if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Whether there is such a file or directory.
    pub fn has(&self, path: &str) -> bool {
        self.locate(path).is_some_and(|path| path.exists())
    }

    /// The names in a directory, in order, numbers by their size; nothing when it cannot be read.
    pub fn list(&self, path: &str) -> Vec<String> {
        let Some(entries) = self.locate(path).and_then(|path| std::fs::read_dir(path).ok()) else {
            return Vec::new();
        };
        let names = entries.take(ENTRIES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_by_cached_key(|name| natural(name));
        names
    }

    /// What a link leads to, as a path of this tree.
    pub fn follow(&self, path: &str) -> Option<String> {
        let real = self.locate(path)?.canonicalize().ok()?;
        let root = self.path.canonicalize().ok()?;
        let inner = real.strip_prefix(root).ok()?.to_str()?;
        Some(format!("{}{inner}", self.prefix.path()))
    }
}

fn has_cards(path: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    let mut names = entries.take(ENTRIES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.any(|name| name.strip_prefix("card").is_some_and(|number| number.parse::<u32>().is_ok()))
}

/// A key that puts `gt10` after `gt2`.
fn natural(name: &str) -> (String, u64, String) {
    let digits = name.find(|character: char| character.is_ascii_digit()).unwrap_or(name.len());
    let end = name[digits..].find(|c: char| !c.is_ascii_digit()).map_or(name.len(), |end| digits + end);
    let number = name[digits..end].parse().unwrap_or(0);
    (name[..digits].to_owned(), number, name[end..].to_owned())
}

/// The beginning of a file. A file of sysfs has no more to say after an answer that left room.
fn slurp(file: &File, sysfs: bool) -> io::Result<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 1024]);
    while bytes.len() < BYTES_MAX {
        match file.read_at(&mut piece, bytes.len() as u64) {
            Ok(0) => break,
            Ok(length) => {
                bytes.extend_from_slice(&piece[..length]);
                if sysfs && length < piece.len() {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// A file that is read again and again.
#[derive(Debug)]
pub struct Handle {
    path: Arc<str>,
    file: Option<File>,
}

impl Handle {
    /// A file of the tree, not opened yet.
    pub fn new(path: Arc<str>) -> Self {
        Handle { path, file: None }
    }

    /// Its path.
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// What the file says now. Zero bytes and white space around it are taken off: some drivers pad.
    pub fn read(&mut self, root: &Root) -> Result<String, Reason> {
        let read = |file: File| slurp(&file, root.kept).map(|bytes| (bytes, file));
        let outcome = match self.file.take() {
            Some(file) => read(file),
            None => root
                .locate(&self.path)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
                .and_then(File::open)
                .and_then(read),
        };
        let (bytes, file) = outcome.map_err(|error| Reason::of(&self.path, &error))?;
        if root.kept {
            self.file = Some(file);
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_matches(|character: char| character.is_whitespace() || character == '\0').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_may_be_given_from_any_of_its_floors() {
        let directory = tempfile::tempdir().unwrap();
        let cards = directory.path().join("sys/class/drm");
        std::fs::create_dir_all(cards.join("card0/device")).unwrap();
        std::fs::write(cards.join("card0/device/vendor"), "0x8086\n").unwrap();
        for floor in ["", "sys", "sys/class/drm"] {
            let root = Root::at(&directory.path().join(floor));
            assert_eq!(root.read("sys/class/drm/card0/device/vendor").unwrap(), "0x8086", "{floor}");
            assert_eq!(root.list("sys/class/drm"), ["card0"], "{floor}");
        }
    }

    #[test]
    fn numbers_in_names_are_ordered_by_size() {
        let mut names = vec!["gt10", "gt2", "gt1", "card0"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["card0", "gt1", "gt2", "gt10"]);
    }

    #[test]
    fn what_cannot_be_read_has_a_reason() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path());
        assert_eq!(root.read("sys/nothing"), Err(Reason::Absent("sys/nothing".into())));
        std::fs::create_dir(directory.path().join("folder")).unwrap();
        assert!(matches!(root.read("folder"), Err(Reason::Failed(_))));
    }
}
