//! Which files two nodes have in common, by content.
//!
//! A guest's program text need not travel if the host has the very same file. Both sides compare SHA-256 digests of
//! whole files, and remember them by the file's identity and times, so that a file is read once.

use aws_lc_rs::digest;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// SHA-256 of a file's content.
pub type Digest = [u8; 32];

/// Files beyond this are not compared: reading them would take longer than sending the pages that are used.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// Entries that are remembered at most; beyond that the memory starts afresh.
const ENTRIES_MAX: usize = 16_384;

/// `{ device, inode, size, modified_ns, changed_ns, digest }`, words little-endian.
const ENTRY_BYTES: usize = 5 * 8 + 32;

type Key = [u64; 5];

/// Digests that were computed before, on this node.
#[derive(Debug)]
pub struct Digests {
    path: PathBuf,
    known: HashMap<Key, Digest>,
}

impl Digests {
    /// Those remembered in `directory` (none, if it has none yet).
    pub fn open(directory: &Path) -> Self {
        let path = directory.join("digests");
        let bytes = std::fs::read(&path).unwrap_or_default();
        let mut known = HashMap::new();
        if bytes.len() <= ENTRIES_MAX * ENTRY_BYTES {
            known.extend(bytes.chunks_exact(ENTRY_BYTES).map(parse));
        } else {
            // A new start; if it cannot be removed, the next attempt will.
            let _ = std::fs::remove_file(&path);
        }
        Self { path, known }
    }

    /// Digest and size of a regular file that everybody may read; `None` for any other, or one that is too large.
    pub fn of(&mut self, file: &File) -> io::Result<Option<(Digest, u64)>> {
        const WORLD_READABLE: u32 = 0o004;
        let data = file.metadata()?;
        if !data.is_file()
            || data.mode() & WORLD_READABLE == 0
            || data.len() > FILE_BYTES_MAX
            || data.len() == 0
        {
            return Ok(None);
        }
        let nanoseconds =
            |seconds: i64, rest: i64| (seconds.wrapping_mul(1_000_000_000).wrapping_add(rest)) as u64;
        let key = [
            data.dev(),
            data.ino(),
            data.len(),
            nanoseconds(data.mtime(), data.mtime_nsec()),
            nanoseconds(data.ctime(), data.ctime_nsec()),
        ];
        if let Some(known) = self.known.get(&key) {
            return Ok(Some((*known, data.len())));
        }
        let digest = compute(file)?;
        self.known.insert(key, digest);
        self.remember(&key, &digest);
        Ok(Some((digest, data.len())))
    }

    /// Appends one entry; appends of other programs do not mix with it. Not being able to costs only time.
    fn remember(&self, key: &Key, digest: &Digest) {
        let mut entry = Vec::with_capacity(ENTRY_BYTES);
        key.iter().for_each(|word| entry.extend(word.to_le_bytes()));
        entry.extend(digest);
        let file = File::options().append(true).create(true).mode(0o600).open(&self.path);
        let _ = file.and_then(|mut file| file.write_all(&entry));
    }
}

fn parse(entry: &[u8]) -> (Key, Digest) {
    let word = |at: usize| u64::from_le_bytes(entry[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
    let digest = entry[40..72].try_into().expect("thirty-two bytes");
    (std::array::from_fn(word), digest)
}

fn compute(mut file: &File) -> io::Result<Digest> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    Ok(context.finish().as_ref().try_into().expect("SHA-256 is 32 bytes"))
}

/// SHA-256 of bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 is 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn equal_content_has_an_equal_digest_and_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, content) in [("a", "same"), ("b", "same"), ("c", "other")] {
            std::fs::write(path(name), content).unwrap();
            std::fs::set_permissions(path(name), PermissionsExt::from_mode(0o644)).unwrap();
        }
        let mut digests = Digests::open(directory.path());
        let mut of = |name: &str| digests.of(&File::open(path(name)).unwrap()).unwrap();
        let a = of("a");
        assert_eq!(a, Some((digest_of(b"same"), 4)));
        assert_eq!(of("b"), a);
        assert_ne!(of("c"), a);
        let again = Digests::open(directory.path());
        assert_eq!(again.known, digests.known);
        assert_eq!(again.known.len(), 3);
    }

    #[test]
    fn private_files_are_not_compared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let mut digests = Digests::open(directory.path());
        assert_eq!(digests.of(&File::open(&path).unwrap()).unwrap(), None);
    }
}
