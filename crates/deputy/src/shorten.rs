//! Calls that cut a file off that the process maps. Linux takes what lies behind the new end out of all mappings of the file,
//! also pages that have been written in private ones; of those nobody at home knows while the process is away. So it has to be at home for them.

use crate::reach::Area;
use minka_kernel::procfs;
use minka_syscalls::marshal::Placed;
use std::fs::Metadata;
use std::os::linux::fs::MetadataExt;

const OPEN: u32 = 2;
const TRUNCATE: u32 = 76;
const FTRUNCATE: u32 = 77;
const CREAT: u32 = 85;
const OPENAT: u32 = 257;
const OPENAT2: u32 = 437;

const AT_FDCWD: i32 = -100;
const O_TRUNC: u64 = 0o1000;

/// A file that a call is going to shorten, and to how many bytes.
#[derive(Debug, PartialEq, Eq)]
enum Shortened<'a> {
    Open(i32, u64),
    Named(i32, &'a [u8], u64),
}

/// Whether a call cuts off a file that the process maps. What cannot be looked up is for the kernel to refuse.
pub(crate) fn shortens(pid: i32, tid: i32, placed: &Placed, area: Area<'_>) -> bool {
    let (file, length) = match shortened(placed.number(), placed.arguments(), area) {
        None => return false,
        Some(Shortened::Open(descriptor, length)) => (format!("/proc/{tid}/fd/{descriptor}"), length),
        Some(Shortened::Named(directory, name, length)) => {
            let Ok(name) = std::str::from_utf8(name) else { return true };
            let path = match (name.starts_with('/'), directory) {
                (true, _) => format!("/proc/{tid}/root{name}"),
                (false, AT_FDCWD) => format!("/proc/{tid}/cwd/{name}"),
                (false, directory) => format!("/proc/{tid}/fd/{directory}/{name}"),
            };
            (path, length)
        }
    };
    std::fs::metadata(file).is_ok_and(|file| file.is_file() && length < file.len() && is_mapped(pid, &file))
}

fn shortened<'a>(number: u32, arguments: &[u64; 6], area: Area<'a>) -> Option<Shortened<'a>> {
    let [first, second, third, ..] = *arguments;
    let named = |directory: u64, name: u64, length| {
        area.text(name).map(|name| Shortened::Named(directory as i32, name, length))
    };
    let emptied = |directory, name, flags: u64| {
        if flags & O_TRUNC == 0 { None } else { named(directory, name, 0) }
    };
    let here = AT_FDCWD as u64;
    match number {
        FTRUNCATE => Some(Shortened::Open(first as i32, second)),
        TRUNCATE => named(here, first, second),
        CREAT => named(here, first, 0),
        OPEN => emptied(here, first, second),
        OPENAT => emptied(first, second, third),
        // struct open_how { u64 flags; … }
        OPENAT2 => emptied(first, second, area.word(third)?),
        _ => None,
    }
}

/// Whether the process maps a file. Devices are not compared: file systems that lie over others have two.
pub(crate) fn is_mapped(pid: i32, file: &Metadata) -> bool {
    let inode = file.st_ino();
    procfs::maps(pid).is_ok_and(|maps| maps.iter().any(|mapping| mapping.inode == inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x1_0000;
    const HERE: u64 = AT_FDCWD as u64;

    fn found(number: u32, arguments: [u64; 3], bytes: &[u8]) -> Option<Shortened<'_>> {
        let [first, second, third] = arguments;
        shortened(number, &[first, second, third, 0, 0, 0], Area { address: BASE, bytes })
    }

    #[test]
    fn every_call_that_shortens_a_file_is_known() {
        let name = b"/a\0";
        let named = |directory, length| Some(Shortened::Named(directory, &name[..2], length));
        assert_eq!(found(FTRUNCATE, [5, 4096, 0], &[]), Some(Shortened::Open(5, 4096)));
        assert_eq!(found(TRUNCATE, [BASE, 10, 0], name), named(AT_FDCWD, 10));
        assert_eq!(found(CREAT, [BASE, 0o644, 0], name), named(AT_FDCWD, 0));
        assert_eq!(found(OPEN, [BASE, O_TRUNC | 1, 0], name), named(AT_FDCWD, 0));
        assert_eq!(found(OPENAT, [7, BASE, O_TRUNC | 1], name), named(7, 0));
        assert_eq!(found(OPENAT, [HERE, BASE, O_TRUNC | 1], name), named(AT_FDCWD, 0));
        let how = [&(O_TRUNC | 1).to_le_bytes()[..], name].concat();
        assert_eq!(found(OPENAT2, [HERE, BASE + 8, BASE], &how), Some(Shortened::Named(AT_FDCWD, b"/a", 0)));
    }

    #[test]
    fn others_shorten_nothing() {
        for (number, arguments) in [(OPEN, [BASE, 1, 0]), (OPENAT, [HERE, BASE, 1]), (0, [5, BASE, 1])] {
            assert_eq!(found(number, arguments, b"/a\0"), None);
        }
    }

    #[test]
    fn a_file_that_runs_is_mapped() {
        let pid = std::process::id().cast_signed();
        let look = |path: &str| std::fs::metadata(path).expect("look at a file");
        assert!(is_mapped(pid, &look("/proc/self/exe")));
        assert!(!is_mapped(pid, &look("/etc/passwd")));
    }
}
