//! Real data: what this machine has installed, one file after the other.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Where programs keep what they share and what they execute.
const SOURCES: [&str; 4] = ["/usr/share", "/usr/include", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

/// A file of real data of all kinds, of that many bytes.
pub fn mixed(bytes: u64) -> PathBuf {
    cached(&format!("mixed-{bytes}"), bytes, |_| true)
}

/// A file of real text, of that many bytes or as many as there are.
pub fn text(bytes: u64) -> PathBuf {
    cached(&format!("text-{bytes}"), bytes, |start| !start.contains(&0) && std::str::from_utf8(start).is_ok())
}

/// A file of lines that `make` makes of each line of real text, until there are that many bytes.
pub fn lines(name: &str, bytes: u64, make: impl Fn(&str, &mut String)) -> PathBuf {
    keep(&format!("{name}-{bytes}"), |file| {
        let text = fs::read(text(bytes)).expect("read the text");
        let mut line = String::new();
        let mut written = 0;
        // There may be less on a line than is made of it, so the text may be gone through again.
        while written < bytes {
            let before = written;
            for words in String::from_utf8_lossy(&text).lines() {
                line.clear();
                make(words, &mut line);
                file.write_all(line.as_bytes()).expect("write a line");
                written += line.len() as u64;
                if written >= bytes {
                    return;
                }
            }
            assert!(written > before, "no line is made of anything");
        }
    })
}

fn cached(name: &str, bytes: u64, wanted: impl Fn(&[u8]) -> bool) -> PathBuf {
    keep(name, |target| {
        let mut left = bytes;
        for source in SOURCES {
            append_all(Path::new(source), target, &mut left, &wanted);
        }
        assert!(left < bytes, "there is no data on this machine");
    })
}

/// A file with content that a test computes.
pub fn computed(name: &str, make: impl FnOnce() -> Vec<u8>) -> PathBuf {
    keep(name, |file| file.write_all(&make()).expect("write a file"))
}

/// Makes a file once. It gets its name when it is whole, so that another test may make it at the same time.
fn keep(name: &str, make: impl FnOnce(&mut BufWriter<&mut tempfile::NamedTempFile>)) -> PathBuf {
    let path = crate::cache().join(name);
    if path.exists() {
        return path;
    }
    let mut file = tempfile::NamedTempFile::new_in(crate::cache()).expect("make a file");
    let mut writer = BufWriter::new(&mut file);
    make(&mut writer);
    writer.flush().expect("write a file");
    drop(writer);
    file.persist(&path).expect("name a file");
    path
}

/// Appends the files below a directory, in the order of their names.
fn append_all(directory: &Path, target: &mut impl Write, left: &mut u64, wanted: &impl Fn(&[u8]) -> bool) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if *left == 0 {
            return;
        }
        let Ok(data) = path.symlink_metadata() else { continue };
        if data.is_dir() {
            append_all(&path, target, left, wanted);
        } else if data.is_file() {
            append(&path, target, left, wanted);
        }
    }
}

fn append(path: &Path, target: &mut impl Write, left: &mut u64, wanted: &impl Fn(&[u8]) -> bool) {
    /// So that no single file is most of the data.
    const MOST: u64 = 4 << 20;
    let mut content = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(MOST.min(*left)).read_to_end(&mut content));
    if opened.is_ok() && wanted(&content[..content.len().min(4096)]) {
        target.write_all(&content).expect("write a file");
        *left -= content.len() as u64;
    }
}
