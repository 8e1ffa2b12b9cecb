//! Shared memory that a process maps, and what of it can be told from its maps alone.
//!
//! Written memory that is shared can be elsewhere only if nobody at home looks at it meanwhile. A process that alone has
//! it takes it along as if it were its own, and it is put back into the same mappings. So it has to be mapped to be
//! written, and must be nobody else's. Where there may be descriptors, all who have one have to be known ([`crate::holders`]), and
//! whoever wants another one, also by a name, has to wait. What others can attach by a number stays.

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

/// By what others could get at an object, apart from inheriting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `MAP_SHARED | MAP_ANONYMOUS`: by nothing, but for who looks at a process as a debugger does.
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
    /// It is not mapped to be written: nobody else does, or it may be written by other means.
    ReadOnly(String),
    /// It is also mapped privately: such a mapping shows what is written to it, until it has pages of its own.
    Private(String),
}

impl Kind {
    /// Whether it can be elsewhere, as nobody can get at it by a number.
    pub fn may_go(self) -> bool {
        matches!(self, Self::Anonymous) || self.has_descriptors()
    }

    /// Whether others may have a descriptor of it, also one that is still under way in a socket, where no file of `/proc` shows it.
    pub fn has_descriptors(self) -> bool {
        matches!(self, Self::Descriptor | Self::File { .. })
    }
}

/// Mappings of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped<'a> {
    /// What it is.
    pub kind: Kind,
    /// All of them.
    pub mappings: Vec<&'a Mapping>,
}

impl Mapped<'_> {
    /// The path that the kernel shows for it.
    pub fn path(&self) -> &str {
        match self.mappings.first().map(|mapping| &mapping.backing) {
            Some(Backing::File { path, .. }) => path,
            _ => "",
        }
    }

    /// Whether some of it is mapped more than once.
    pub fn is_twice(&self) -> bool {
        let end = |one: &Mapping| one.offset.saturating_add(one.length());
        let meet = |one: &Mapping, other: &Mapping| {
            one.start != other.start && one.offset < end(other) && other.offset < end(one)
        };
        self.mappings.iter().any(|one| self.mappings.iter().any(|other| meet(one, other)))
    }

    /// Bytes of it up to the end of what is mapped.
    pub fn length(&self) -> u64 {
        self.mappings.iter().map(|one| one.offset.saturating_add(one.length())).max().unwrap_or(0)
    }
}

/// The shared memory among the mappings of one process, by object, or why it cannot be elsewhere.
pub fn objects(maps: &[Mapping]) -> Result<BTreeMap<Object, Mapped<'_>>, Obstacle> {
    let mut objects: BTreeMap<Object, Mapped<'_>> = BTreeMap::new();
    for mapping in maps {
        let Some(kind) = kind(mapping) else { continue };
        if !matches!(mapping.backing, Backing::File { .. }) {
            return Err(Obstacle::Unknown);
        }
        match kind {
            _ if mapping.inode == 0 && kind != Kind::Numbered => return Err(Obstacle::Unknown),
            Kind::Numbered => return Err(Obstacle::Numbered(mapping.inode)),
            Kind::Anonymous | Kind::Descriptor | Kind::File { .. } => {
                let object = objects.entry(Object::of(mapping));
                object.or_insert(Mapped { kind, mappings: Vec::new() }).mappings.push(mapping);
            }
        }
    }
    for mapping in maps {
        if !objects.contains_key(&Object::of(mapping)) {
            continue;
        }
        let Backing::File { path, .. } = &mapping.backing else { return Err(Obstacle::Unknown) };
        if !mapping.shared {
            return Err(Obstacle::Private(path.clone()));
        }
    }
    for mapped in objects.values() {
        // What is mapped twice may be written by one mapping and read by another. Where nobody may read there is nothing to
        // be seen either: such pages are put round others, so that who goes too far ends.
        let enough = match mapped.is_twice() {
            true => mapped.mappings.iter().any(|one| one.writable()),
            false => mapped.mappings.iter().all(|one| one.writable() || one.protection == 0),
        };
        if let (false, Some(Backing::File { path, .. })) =
            (enough, mapped.mappings.first().map(|one| &one.backing))
        {
            return Err(Obstacle::ReadOnly(path.clone()));
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
        Ok(objects.into_iter().map(|(object, mapped)| (object, mapped.mappings.len())).collect())
    }

    #[test]
    fn what_only_this_process_can_reach_may_go() {
        let text = "\
10-11 rw-p 00000000 00:00 0
11-15 rw-s 00000000 00:01 77                         /dev/zero (deleted)
16-17 rw-s 00000000 00:01 78                         /dev/zero (deleted)
17-18 rw-s 00001000 00:01 78                         /dev/zero (deleted)
18-19 ---s 00005000 00:01 77                         /dev/zero (deleted)
1a-1b r--s 00000000 fe:00 9                          /usr/lib/gconv/gconv-modules.cache";
        let (one, two) = (Object { device: 1, inode: 77 }, Object { device: 1, inode: 78 });
        let pages: String = text.lines().map(|line| paged(line) + "\n").collect();
        assert_eq!(found(&pages), Ok(vec![(one, 2), (two, 2)]));
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
        check("1-2 r--s 00000000 00:01 5 /memfd:x (deleted)", Obstacle::ReadOnly("/memfd:x".into()));
        check("1-2 r--s 00000000 00:01 5 /dev/zero (deleted)", Obstacle::ReadOnly("/dev/zero".into()));
        check("1-2 rw-s 00000000 00:00 0", Obstacle::Unknown);
    }

    #[test]
    fn what_has_no_number_may_go_if_all_who_have_a_descriptor_are_known() {
        let check = |line: &str, expected: Kind| {
            let maps = crate::maps::parse(&paged(line)).expect("a line of maps");
            let objects = objects(&maps).expect("it may go");
            let kinds: Vec<Kind> = objects.values().map(|mapped| mapped.kind).collect();
            assert_eq!(kinds, [expected], "{line}");
            assert!(expected.may_go());
        };
        check("1-2 rw-s 00000000 00:1a 5 /dev/shm/x (deleted)", Kind::File { deleted: true });
        check("1-2 rw-s 00000000 00:1a 5 /dev/shm/x", Kind::File { deleted: false });
        check("1-2 rw-s 00000000 08:01 5 /tmp/x", Kind::File { deleted: false });
        check("1-2 rw-s 00000000 00:01 5 /memfd:x (deleted)", Kind::Descriptor);
        check("1-2 rw-s 00000000 00:01 5 /dev/zero (deleted)", Kind::Anonymous);
        let kinds = [Kind::Descriptor, Kind::File { deleted: true }, Kind::Anonymous, Kind::Numbered];
        assert_eq!(kinds.map(Kind::has_descriptors), [true, true, false, false]);
        assert!(!Kind::Numbered.may_go() && Kind::File { deleted: false }.may_go());
    }

    #[test]
    fn what_is_mapped_twice_is_told() {
        let two = |second: &str| {
            let first = "10-14 rw-s 00002000 00:01 5 /dev/zero (deleted)";
            let text = [first, second].map(paged).join("\n");
            let maps = crate::maps::parse(&text).expect("lines of maps");
            let objects = objects(&maps)?;
            Ok(objects
                .values()
                .map(|mapped| (mapped.is_twice(), mapped.length() / crate::PAGE))
                .collect::<Vec<_>>())
        };
        assert_eq!(two("20-21 rw-s 00005000 00:01 5 /dev/zero (deleted)"), Ok(vec![(true, 6)]));
        assert_eq!(two("20-24 r-xs 00002000 00:01 5 /dev/zero (deleted)"), Ok(vec![(true, 6)]));
        assert_eq!(two("20-21 rw-s 00001000 00:01 5 /dev/zero (deleted)"), Ok(vec![(false, 6)]));
        assert_eq!(two("20-21 rw-s 00006000 00:01 5 /dev/zero (deleted)"), Ok(vec![(false, 7)]));
        assert_eq!(two("20-21 rw-s 00003000 00:02 5 /dev/zero (deleted)"), Ok(vec![(false, 6), (false, 4)]));
        let path = || "/dev/zero".to_owned();
        assert_eq!(two("20-21 r--s 00006000 00:01 5 /dev/zero (deleted)"), Err(Obstacle::ReadOnly(path())));
        assert_eq!(two("20-21 r--p 00009000 00:01 5 /dev/zero (deleted)"), Err(Obstacle::Private(path())));
    }

    #[test]
    fn an_object_is_looked_for_as_the_kernel_writes_it() {
        assert_eq!(Object { device: 0xfe << 32 | 1, inode: 12 }.in_maps(), " fe:01 12 ");
    }

    proptest! {
        /// Whatever is mapped: what is not called twice has no page twice, and nothing of it is private.
        #[test]
        fn a_page_that_is_there_twice_is_found(
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
                backing: Backing::File { path: "/dev/zero".into(), deleted: true },
            };
            let maps: Vec<Mapping> = pieces.iter().copied().enumerate().map(mapping).collect();
            let of = |inode: u64| pieces.iter().filter(move |(_, _, other, _)| *other == inode);
            let is_mixed = |inode: u64| of(inode).any(|piece| piece.3) && of(inode).any(|piece| !piece.3);
            match objects(&maps) {
                Err(_) => prop_assert!((0..3).any(is_mixed)),
                Ok(objects) => {
                    prop_assert!(!(0..3).any(is_mixed));
                    for (object, mapped) in objects {
                        let pages = of(object.inode - 1).flat_map(|(offset, length, ..)| *offset..offset + length);
                        let all: Vec<u64> = pages.collect();
                        let different: std::collections::BTreeSet<u64> = all.iter().copied().collect();
                        prop_assert_eq!(mapped.is_twice(), different.len() < all.len());
                    }
                }
            }
        }
    }
}
