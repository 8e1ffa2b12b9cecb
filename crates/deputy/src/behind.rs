//! Mappings that reach behind the last page of their file: touched there, Linux raises SIGBUS until the file grows.
//! A guest's memory is no file, and would read as zeros.

use minka_image::PAGE;
use minka_image::maps::{Backing, Mapping};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::linux::fs::MetadataExt;

/// The first file behind whose end the process has accessible pages.
pub(crate) fn behind_the_end(pid: i32, maps: &[Mapping]) -> Option<String> {
    let (mapping, _) = parts_behind(pid, maps).next()?;
    let Backing::File { path, .. } = &mapping.backing else { return None };
    Some(path.clone())
}

/// The accessible parts of mappings that lie behind the ends of their files.
pub(crate) fn parts_behind(pid: i32, maps: &[Mapping]) -> impl Iterator<Item = (&Mapping, (u64, u64))> {
    let mut sizes = BTreeMap::new();
    maps.iter().filter_map(move |mapping| {
        let Backing::File { path, .. } = &mapping.backing else { return None };
        // Loaders leave inaccessible holes between the parts of a library, wherever its file ends.
        if mapping.protection == 0 || mapping.inode == 0 {
            return None;
        }
        let size = sizes.entry((mapping.device, mapping.inode)).or_insert_with(|| size(pid, path, mapping));
        let within = size.as_ref()?.checked_next_multiple_of(PAGE)?.saturating_sub(mapping.offset);
        let start = mapping.start.saturating_add(within);
        (start < mapping.end).then_some((mapping, (start, mapping.end)))
    })
}

/// Whether `mmap` with these arguments (length in whole pages) would make such a mapping.
pub(crate) fn would_reach_behind(pid: i32, arguments: [u64; 6]) -> bool {
    // Without effect but for telling loaders: these map a library in one piece first, and then put memory without a
    // file where the file ends.
    const DENYWRITE: u64 = 0x800;
    let [_, length, protection, flags, descriptor, offset] = arguments;
    if protection == 0 || flags & DENYWRITE != 0 {
        return false;
    }
    let file = std::fs::metadata(format!("/proc/{pid}/fd/{}", descriptor as i32));
    let size = file.ok().as_ref().and_then(size_of_file);
    // What cannot be added up the kernel refuses.
    size.zip(offset.checked_add(length)).is_some_and(|(size, reach)| is_behind(reach, size))
}

fn is_behind(reach: u64, size: u64) -> bool {
    size.checked_next_multiple_of(PAGE).is_some_and(|end| reach > end)
}

/// The size of a mapped file; none for what is no regular file, or cannot be looked at.
fn size(pid: i32, path: &str, mapping: &Mapping) -> Option<u64> {
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    // In a user namespace of our own the kernel refuses map_files; the path then has to do, if it is the same file.
    let by_path = || {
        let found = std::fs::metadata(format!("/proc/{pid}/root{path}"));
        found.ok().filter(|found| found.st_ino() == mapping.inode)
    };
    let found = std::fs::metadata(link).ok().or_else(by_path);
    found.as_ref().and_then(size_of_file)
}

fn size_of_file(file: &Metadata) -> Option<u64> {
    file.is_file().then_some(file.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn arguments(length: u64, flags: u64, file: &std::fs::File, offset: u64) -> [u64; 6] {
        [0x10_0000, length, 1, flags, file.as_raw_fd() as u64, offset]
    }

    #[test]
    fn the_last_page_of_a_file_belongs_to_it() {
        assert!(!is_behind(PAGE, 1) && is_behind(2 * PAGE, 1) && is_behind(PAGE, 0));
        assert!(!is_behind(2 * PAGE, 2 * PAGE) && is_behind(3 * PAGE, 2 * PAGE));
    }

    #[test]
    fn a_mapping_is_measured_against_the_file_itself() {
        const PRIVATE: u64 = 2;
        const LOADERS: u64 = PRIVATE | 0x800;
        let pid = std::process::id().cast_signed();
        let file = std::fs::File::open("/proc/self/exe").expect("open this program");
        let size = file.metadata().expect("look at it").len().next_multiple_of(PAGE);
        assert!(!would_reach_behind(pid, arguments(size, PRIVATE, &file, 0)));
        assert!(would_reach_behind(pid, arguments(size, PRIVATE, &file, PAGE)));
        assert!(!would_reach_behind(pid, arguments(size, LOADERS, &file, PAGE)));
    }

    #[test]
    fn mappings_of_an_ordinary_program_end_with_their_files() {
        let pid = std::process::id().cast_signed();
        let maps = minka_kernel::procfs::maps(pid).expect("read its maps");
        assert_eq!(behind_the_end(pid, &maps), None);
        let mut longer = maps.clone();
        let mapping = longer
            .iter_mut()
            .find(|mapping| matches!(mapping.backing, Backing::File { .. }) && mapping.inode != 0)
            .expect("a file is mapped");
        mapping.offset += 1 << 40;
        assert!(behind_the_end(pid, &longer).is_some());
    }
}
