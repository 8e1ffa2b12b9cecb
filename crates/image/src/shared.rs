//! Shared memory that a process maps, and what of it can be told from its maps alone.
//!
//! Written memory that is shared can be elsewhere only if nobody at home looks at it meanwhile. A process that alone has
//! it takes it along as if it were its own, and it is put back into the same mappings. So each page of it has to be
//! mapped once, to be written, and must be nobody else's: neither by a name nor by a number.

use crate::maps::{Backing, Mapping};
use std::collections::BTreeMap;

/// A mapped object, as the kernel tells it from all others: device as in [`Mapping::device`], and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// `major << 32 | minor`.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl Object {
    /// What a mapping shows.
    pub fn of(mapping: &Mapping) -> Self {
        Self { device: mapping.device, inode: mapping.inode }
    }

    /// As a line of `/proc/PID/maps` has it, between two blanks.
    pub fn in_maps(&self) -> String {
        format!(" {:02x}:{:02x} {} ", self.device >> 32, self.device & 0xffff_ffff, self.inode)
    }
}

/// By what others could get at an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `MAP_SHARED | MAP_ANONYMOUS`: by inheriting it only.
    Anonymous,
    /// `memfd_create`: by a descriptor, too.
    Descriptor,
    /// System V shared memory: by its number.
    Numbered,
    /// A file: by its name, as long as it has one, and by descriptors.
    File {
        /// Whether the name that it was opened by is gone.
        deleted: bool,
    },
}

impl Kind {
    /// Whether there may be descriptors of such an object.
    pub fn has_descriptors(self) -> bool {
        matches!(self, Self::Descriptor | Self::File { .. })
    }
}

/// What kind of shared memory a mapping is; none if it is private, or only reads a file.
pub fn kind(mapping: &Mapping) -> Option<Kind> {
    if !mapping.shared {
        return None;
    }
    let Backing::File { path, deleted } = &mapping.backing else {
        return Some(Kind::Anonymous);
    };
    match path.as_str() {
        "/dev/zero" => Some(Kind::Anonymous),
        _ if path.starts_with("/memfd:") => Some(Kind::Descriptor),
        _ if path.starts_with("/SYSV") && *deleted => Some(Kind::Numbered),
        _ => mapping.writable().then_some(Kind::File { deleted: *deleted }),
    }
}

/// Why shared memory cannot be elsewhere, as far as the maps tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The kernel does not say what it is.
    Unknown,
    /// Others may attach the segment of this number.
    Numbered(u64),
    /// Others may open it by this name.
    Named(String),
    /// It is not mapped to be written: nobody else does, or it may be written by other means.
    ReadOnly(String),
    /// Some of it is mapped more than once.
    Twice(String),
}

/// The shared memory among the mappings of one process, by object, or why it cannot be elsewhere.
pub fn objects(maps: &[Mapping]) -> Result<BTreeMap<Object, (Kind, Vec<&Mapping>)>, Obstacle> {
    let mut objects: BTreeMap<Object, (Kind, Vec<&Mapping>)> = BTreeMap::new();
    for mapping in maps {
        let Some(kind) = kind(mapping) else { continue };
        let Backing::File { path, .. } = &mapping.backing else { return Err(Obstacle::Unknown) };
        match kind {
            _ if mapping.inode == 0 && kind != Kind::Numbered => return Err(Obstacle::Unknown),
            Kind::Numbered => return Err(Obstacle::Numbered(mapping.inode)),
            Kind::File { deleted: false } => return Err(Obstacle::Named(path.clone())),
            _ if !mapping.writable() => return Err(Obstacle::ReadOnly(path.clone())),
            _ => objects.entry(Object::of(mapping)).or_insert((kind, Vec::new())).1.push(mapping),
        }
    }
    for mapping in maps {
        let Some((_, known)) = objects.get(&Object::of(mapping)) else { continue };
        let meets = |other: &Mapping| {
            let end = |one: &Mapping| one.offset.saturating_add(one.length());
            other.start != mapping.start && other.offset < end(mapping) && mapping.offset < end(other)
        };
        // A private mapping shows what is written to the object, until it has pages of its own.
        if known.iter().any(|other| meets(other)) || !mapping.shared {
            let Backing::File { path, .. } = &mapping.backing else { return Err(Obstacle::Unknown) };
            return Err(Obstacle::Twice(path.clone()));
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Result<Vec<(Object, usize)>, Obstacle> {
        let maps = crate::maps::parse(text).expect("lines of maps");
        let objects = objects(&maps)?;
        Ok(objects.into_iter().map(|(object, (_, mappings))| (object, mappings.len())).collect())
    }

    #[test]
    fn what_only_this_process_can_reach_may_go() {
        let text = "\
7f00-7f01 rw-p 00000000 00:00 0
7f01-7f05 rw-s 00000000 00:01 77                         /dev/zero (deleted)
7f05-7f06 rw-s 00000000 00:01 78                         /memfd:a b (deleted)
7f06-7f07 rw-s 00001000 00:01 78                         /memfd:a b (deleted)
7f08-7f09 rw-s 00000000 00:1a 9                          /dev/shm/x (deleted)
7f0a-7f0b r--s 00000000 fe:00 9                          /usr/lib/gconv/gconv-modules.cache";
        let text = text.replace("7f0", "7f0000");
        let (zero, memfd) = (Object { device: 1, inode: 77 }, Object { device: 1, inode: 78 });
        let file = Object { device: 0x1a, inode: 9 };
        // Addresses count in pages, as real ones do.
        let pages: String = text.lines().map(|line| paged(line) + "\n").collect();
        assert_eq!(found(&pages), Ok(vec![(zero, 1), (memfd, 2), (file, 1)]));
    }

    /// The same line with each address a page further on.
    fn paged(line: &str) -> String {
        let (range, rest) = line.split_once(' ').expect("a line of maps");
        let (start, end) = range.split_once('-').expect("a range");
        format!("{start}000-{end}000 {rest}")
    }

    #[test]
    fn what_others_can_reach_stays() {
        let check = |line: &str, expected: Obstacle| assert_eq!(found(&paged(line)), Err(expected), "{line}");
        check("1-2 rw-s 00000000 00:01 5 /SYSV0000002a (deleted)", Obstacle::Numbered(5));
        check("1-2 rw-s 00000000 00:01 0 /SYSV00000000 (deleted)", Obstacle::Numbered(0));
        check("1-2 rw-s 00000000 00:1a 5 /dev/shm/x", Obstacle::Named("/dev/shm/x".into()));
        check("1-2 r--s 00000000 00:01 5 /memfd:x (deleted)", Obstacle::ReadOnly("/memfd:x".into()));
        check("1-2 ---s 00000000 00:01 5 /dev/zero (deleted)", Obstacle::ReadOnly("/dev/zero".into()));
        check("1-2 rw-s 00000000 00:00 0", Obstacle::Unknown);
    }

    #[test]
    fn what_is_mapped_twice_stays() {
        let twice = Err(Obstacle::Twice("/memfd:x".into()));
        let two = |first: &str, second: &str| found(&[first, second].map(paged).join("\n"));
        let mapping = "10-14 rw-s 00002000 00:01 5 /memfd:x (deleted)";
        assert_eq!(two(mapping, "20-21 rw-s 00005000 00:01 5 /memfd:x (deleted)"), twice);
        assert_eq!(
            two(mapping, "20-21 rw-s 00001000 00:01 5 /memfd:x (deleted)").map(|found| found.len()),
            Ok(1)
        );
        assert_eq!(
            two(mapping, "20-21 rw-s 00006000 00:01 5 /memfd:x (deleted)").map(|found| found.len()),
            Ok(1)
        );
        assert_eq!(two(mapping, "20-21 r--p 00009000 00:01 5 /memfd:x (deleted)"), twice);
        assert_eq!(
            two(mapping, "20-21 rw-s 00003000 00:02 5 /memfd:y (deleted)").map(|found| found.len()),
            Ok(2)
        );
    }

    #[test]
    fn an_object_is_looked_for_as_the_kernel_writes_it() {
        assert_eq!(Object { device: 0xfe << 32 | 1, inode: 12 }.in_maps(), " fe:01 12 ");
    }

    proptest! {
        /// Whatever is mapped: if the memory may go, no page of an object is there twice.
        #[test]
        fn no_page_that_may_go_is_there_twice(
            pieces in proptest::collection::vec((0u64..12, 1u64..4, 0u64..3, any::<bool>()), 0..6),
        ) {
            let mapping = |(index, (offset, length, inode, shared)): (usize, (u64, u64, u64, bool))| Mapping {
                start: 0x10_0000 * (index as u64 + 1),
                end: 0x10_0000 * (index as u64 + 1) + length * crate::PAGE,
                protection: 3,
                shared,
                offset: offset * crate::PAGE,
                device: 1,
                inode: inode + 1,
                backing: Backing::File { path: "/memfd:x".into(), deleted: true },
            };
            let maps: Vec<Mapping> = pieces.iter().copied().enumerate().map(mapping).collect();
            let mut pages = std::collections::BTreeSet::new();
            let mut twice = false;
            let is_shared = |inode: u64| pieces.iter().any(|(_, _, other, shared)| *shared && *other == inode);
            for (offset, length, inode, shared) in &pieces {
                for page in *offset..offset + length {
                    twice |= is_shared(*inode) && (!pages.insert((*inode, page)) || !shared);
                }
            }
            prop_assert_eq!(objects(&maps).is_err(), twice);
        }
    }
}
