//! Where each page of a guest has its content, followed through the calls that the guest makes locally.
//!
//! A guest begins as areas whose pages are at home. It then maps, unmaps, moves and discards memory by itself;
//! userfaultfd tells of each such change to a registered area. This map answers two questions from them:
//! where a missing page comes from, and, when the process goes home, how the home's address space has to be
//! rearranged to look like the guest's.
//!
//! ```text
//!              REMOVE (madvise DONTNEED)          UNMAP
//!   Home(a) ───────────────────────────► Zero ───────────► (nothing: a local mapping, or none)
//!      │  REMAP                                              ▲
//!      └────────► Home(a) at the new address ────────────────┘
//! ```

use crate::maps::{Backing, Mapping};
use crate::ranges::{Cut, Ranges};

/// Where the pages of a range come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the home, where the range begins at this address.
    Home(u64),
    /// Nowhere: the guest discarded them, they read as zeros.
    Zero,
    /// From a file of the host's own, mapped natively; at home the range begins at this address.
    HostFile(u64),
}

impl Cut for Origin {
    fn after(&self, offset: u64) -> Self {
        match *self {
            Self::Home(address) => Self::Home(address + offset),
            Self::HostFile(address) => Self::HostFile(address + offset),
            Self::Zero => Self::Zero,
        }
    }
}

/// The origins of a guest's memory.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    map: Ranges<Origin>,
}

impl Origins {
    /// Nothing known.
    pub fn new() -> Self {
        Self { map: Ranges::new() }
    }

    /// The whole of `[start, end)` comes from home, at the same addresses.
    pub fn from_home(&mut self, start: u64, end: u64) {
        self.map.set(start, end, Origin::Home(start));
    }

    /// `[start, end)` was mapped from a file of the host.
    pub fn from_host_file(&mut self, start: u64, end: u64) {
        self.map.set(start, end, Origin::HostFile(start));
    }

    /// `UFFD_EVENT_REMOVE`: the guest discarded `[start, end)`.
    pub fn removed(&mut self, start: u64, end: u64) {
        for (a, b, _) in self.map.within(start, end) {
            self.map.set(a, b, Origin::Zero);
        }
    }

    /// `UFFD_EVENT_UNMAP`.
    pub fn unmapped(&mut self, start: u64, end: u64) {
        self.map.clear(start, end);
    }

    /// As [`Origins::unmapped`], when other threads may have moved memory into the hole before this was told: what of it
    /// is there `now` (as ranges) came later, and stays.
    pub fn unmapped_now(&mut self, start: u64, end: u64, now: &[(u64, u64)]) {
        let mut at = start;
        for (there, there_end) in now {
            self.map.clear(at, *there);
            at = (*there_end).max(at);
        }
        self.map.clear(at, end);
    }

    /// `UFFD_EVENT_REMAP`: `length` bytes (the old length) moved. The old place reads as zeros if it stays
    /// (`MREMAP_DONTUNMAP`); otherwise an UNMAP for it follows.
    pub fn remapped(&mut self, from: u64, to: u64, length: u64) {
        let moved = self.map.within(from, from + length);
        for (a, b, _) in &moved {
            self.map.set(*a, *b, Origin::Zero);
        }
        self.map.clear(to, to + length);
        for (a, b, origin) in moved {
            self.map.set(a - from + to, b - from + to, origin);
        }
    }

    /// Where the page at `address` comes from and how far that holds. What is not known reads as zeros:
    /// it can only be the grown part of a moved or downward growing area.
    pub fn of(&self, address: u64) -> (u64, Origin) {
        self.map.get(address).unwrap_or((address + crate::PAGE, Origin::Zero))
    }

    /// `[start, end)` in pieces of one origin each.
    pub fn pieces(&self, start: u64, end: u64) -> Vec<(u64, u64, Option<Origin>)> {
        self.map.pieces(start, end)
    }

    /// The address space that the home must have, piece by piece, given the guest's final maps.
    pub fn wanted(&self, guest: &[Mapping]) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for mapping in guest.iter().filter(|mapping| !mapping.is_kernel()) {
            // An object of the host's stands for one of the home's, page for page.
            let native = matches!(mapping.backing, Backing::File { .. }) && !mapping.shared;
            for (start, end, origin) in self.map.pieces(mapping.start, mapping.end) {
                let source = match origin {
                    Some(Origin::Home(address)) if !native => Some(address),
                    Some(Origin::HostFile(address)) if native => Some(address),
                    _ => None,
                };
                wanted.push(Wanted {
                    start,
                    end,
                    protection: mapping.protection,
                    stack: mapping.backing == Backing::Stack,
                    source,
                });
            }
        }
        wanted
    }
}

/// A piece of the address space that a process has when it goes home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// Protection bits as in [`Mapping::protection`].
    pub protection: u8,
    /// Part of the main thread's stack.
    pub stack: bool,
    /// Where the home has it now; `None` for new anonymous memory.
    pub source: Option<u64>,
}

/// One change to the home's address space. The steps are to be done in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `mremap(from, length, length, MAYMOVE | FIXED, to)`.
    Move {
        /// Old address.
        from: u64,
        /// New address.
        to: u64,
        /// Bytes.
        length: u64,
    },
    /// `munmap`.
    Unmap {
        /// First address.
        start: u64,
        /// Bytes.
        length: u64,
    },
    /// New private anonymous memory at a fixed place.
    Map {
        /// First address.
        start: u64,
        /// Bytes.
        length: u64,
        /// Protection bits.
        protection: u8,
    },
    /// Let the anonymous memory that ends at `end` grow (`mremap`), so that it stays one area; where that is refused,
    /// map new memory behind it.
    Extend {
        /// Address after its last byte.
        end: u64,
        /// Bytes to be added.
        length: u64,
        /// Protection bits of both.
        protection: u8,
    },
    /// Let the stack grow down to an address by touching it.
    GrowStack {
        /// The lowest address.
        to: u64,
    },
    /// `mprotect`.
    Protect {
        /// First address.
        start: u64,
        /// Bytes.
        length: u64,
        /// Protection bits.
        protection: u8,
    },
}

/// The steps that turn the address space `home` into `wanted`. `keep` ranges (the agent's ring) are not touched.
///
/// What moves is first put aside into a hole that neither side uses, so that swaps and overlaps come out right.
pub fn rearrange(home: &[Mapping], wanted: &[Wanted], keep: &[(u64, u64)]) -> Result<Vec<Step>, NoRoom> {
    let home: Vec<&Mapping> = home.iter().filter(|mapping| !mapping.is_kernel()).collect();
    let mut borders = Ranges::new();
    for (index, mapping) in home.iter().enumerate() {
        borders.set(mapping.start, mapping.end, Area { index, offset: 0 });
    }
    let mut moves = Vec::new();
    let mut used = Ranges::new();
    for piece in wanted {
        let Some(source) = piece.source else { continue };
        for (start, end, area) in borders.pieces(source, source + (piece.end - piece.start)) {
            if area.is_some() {
                used.set(start, end, ());
                if source != piece.start {
                    moves.push((start, start - source + piece.start, end - start));
                }
            }
        }
    }
    let total: u64 = moves.iter().map(|(_, _, length)| length).sum();
    let mut steps = Vec::new();
    let mut aside = if total == 0 { 0 } else { find_hole(&home, wanted, keep, total)? };
    let mut second = Vec::new();
    for (from, to, length) in moves {
        steps.push(Step::Move { from, to: aside, length });
        second.push(Step::Move { from: aside, to, length });
        used.clear(from, from + length);
        aside += length;
    }
    let kept = |start: u64, end: u64| keep.iter().any(|(a, b)| *a < end && start < *b);
    for mapping in &home {
        for (start, end, value) in used.pieces(mapping.start, mapping.end) {
            if value.is_none() && !kept(start, end) {
                steps.push(Step::Unmap { start, length: end - start });
            }
        }
    }
    steps.extend(second);
    let mut before: Option<&Wanted> = None;
    for piece in wanted {
        if let Some(before) = before
            && grows(before, piece, &home, &borders)
        {
            let Wanted { start, end, protection, .. } = *piece;
            steps.push(Step::Extend { end: start, length: end - start, protection });
        } else {
            place(piece, &home, &borders, &mut steps);
        }
        before = Some(piece);
    }
    Ok(steps)
}

/// Whether a piece is new memory right behind one that the home has, of the same kind: the guest has let it grow. As
/// two areas, the program could not move it as one any more.
fn grows(before: &Wanted, piece: &Wanted, home: &[&Mapping], borders: &Ranges<Area>) -> bool {
    let Some(source) = before.source else { return false };
    let last = borders.get(source + (before.end - before.start) - 1).map(|(_, area)| home[area.index]);
    piece.source.is_none()
        && !piece.stack
        && piece.start == before.end
        && piece.protection == before.protection
        && last.is_some_and(|last| last.backing == Backing::Anonymous && !last.shared)
}

fn place(piece: &Wanted, home: &[&Mapping], borders: &Ranges<Area>, steps: &mut Vec<Step>) {
    let length = piece.end - piece.start;
    match piece.source {
        None if piece.stack && borders.get(piece.start).is_none() => {
            steps.push(Step::GrowStack { to: piece.start });
        }
        None => steps.push(Step::Map { start: piece.start, length, protection: piece.protection }),
        Some(source) => {
            for (start, end, area) in borders.pieces(source, source + length) {
                let at = start - source + piece.start;
                match area {
                    Some(area) if home[area.index].protection == piece.protection => {}
                    Some(_) => steps.push(Step::Protect {
                        start: at,
                        length: end - start,
                        protection: piece.protection,
                    }),
                    None => {
                        steps.push(Step::Map { start: at, length: end - start, protection: piece.protection })
                    }
                }
            }
        }
    }
}

/// No hole of the needed size is free on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes that were looked for.
    pub length: u64,
}

fn find_hole(home: &[&Mapping], wanted: &[Wanted], keep: &[(u64, u64)], length: u64) -> Result<u64, NoRoom> {
    let mut taken: Vec<(u64, u64)> = home.iter().map(|mapping| (mapping.start, mapping.end)).collect();
    taken.extend(wanted.iter().map(|piece| (piece.start, piece.end)));
    taken.extend(keep);
    taken.sort_unstable();
    let mut at = 0x1_0000_0000;
    for (start, end) in taken {
        if start >= at && start - at >= length {
            return Ok(at);
        }
        at = at.max(end);
    }
    if crate::TASK_SIZE > at && crate::TASK_SIZE - at >= length { Ok(at) } else { Err(NoRoom { length }) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    index: usize,
    offset: u64,
}

impl Cut for Area {
    fn after(&self, offset: u64) -> Self {
        Self { index: self.index, offset: self.offset + offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mapping(start: u64, end: u64, protection: u8) -> Mapping {
        Mapping {
            start,
            end,
            protection,
            shared: false,
            offset: 0,
            device: 0,
            inode: 0,
            backing: Backing::Anonymous,
        }
    }

    /// An address space as a map from page to (content, protection); fresh pages have content 0.
    type Space = std::collections::BTreeMap<u64, (u64, u8)>;

    fn apply(space: &mut Space, step: Step) {
        let range = |start: u64, length: u64| (start..start + length).step_by(1);
        match step {
            Step::Move { from, to, length } => {
                let pages: Vec<_> =
                    range(from, length).map(|at| space.remove(&at).expect("moved page exists")).collect();
                for (offset, page) in pages.into_iter().enumerate() {
                    space.insert(to + offset as u64, page);
                }
            }
            Step::Unmap { start, length } => range(start, length).for_each(|at| {
                space.remove(&at);
            }),
            Step::Map { start, length, protection } => {
                range(start, length).for_each(|at| {
                    space.insert(at, (0, protection));
                });
            }
            Step::Extend { end, length, protection } => {
                assert_eq!(space.get(&(end - 1)).expect("what grows exists").1, protection);
                range(end, length).for_each(|at| {
                    space.insert(at, (0, protection));
                });
            }
            Step::GrowStack { .. } => {}
            Step::Protect { start, length, protection } => {
                range(start, length)
                    .for_each(|at| space.get_mut(&at).expect("protected page exists").1 = protection);
            }
        }
    }

    /// A change that a guest makes to its own address space, in units of one "page" of one byte.
    #[derive(Debug, Clone)]
    enum Change {
        Unmap(u64, u64),
        Map(u64, u64, u8),
        Discard(u64, u64),
        Remap(u64, u64, u64),
        Protect(u64, u64, u8),
    }

    fn change() -> impl Strategy<Value = Change> {
        let at = 100u64..160;
        let length = 1u64..12;
        prop_oneof![
            (at.clone(), length.clone()).prop_map(|(a, l)| Change::Unmap(a, l)),
            (at.clone(), length.clone(), 0u8..8).prop_map(|(a, l, p)| Change::Map(a, l, p)),
            (at.clone(), length.clone()).prop_map(|(a, l)| Change::Discard(a, l)),
            (at.clone(), at.clone(), length.clone()).prop_map(|(a, b, l)| Change::Remap(a, b, l)),
            (at, length, 0u8..8).prop_map(|(a, l, p)| Change::Protect(a, l, p)),
        ]
    }

    proptest! {
        /// Whatever a guest does to its memory, the home ends with the same addresses, contents and protections.
        #[test]
        fn home_becomes_what_the_guest_was(changes in proptest::collection::vec(change(), 0..30)) {
            let home = vec![mapping(100, 120, 3), mapping(120, 130, 1), mapping(140, 150, 3)];
            let mut origins = Origins::new();
            let mut guest = Space::new();
            let mut space = Space::new();
            for area in &home {
                origins.from_home(area.start, area.end);
                for at in area.start..area.end {
                    guest.insert(at, (at, area.protection));
                    space.insert(at, (at, area.protection));
                }
            }
            for change in changes {
                match change {
                    Change::Unmap(a, l) => {
                        (a..a + l).for_each(|at| { guest.remove(&at); });
                        origins.unmapped(a, a + l);
                    }
                    Change::Map(a, l, p) => {
                        (a..a + l).for_each(|at| { guest.insert(at, (0, p)); });
                        origins.unmapped(a, a + l);
                    }
                    Change::Discard(a, l) => {
                        (a..a + l).for_each(|at| { if let Some(page) = guest.get_mut(&at) { page.0 = 0 } });
                        origins.removed(a, a + l);
                    }
                    Change::Remap(a, b, l) => {
                        let disjoint = a + l <= b || b + l <= a;
                        if !disjoint || !(a..a + l).all(|at| guest.contains_key(&at)) { continue }
                        (b..b + l).for_each(|at| { guest.remove(&at); });
                        origins.unmapped(b, b + l);
                        origins.remapped(a, b, l);
                        for offset in 0..l {
                            let page = guest.remove(&(a + offset)).expect("checked");
                            guest.insert(b + offset, page);
                        }
                        origins.unmapped(a, a + l);
                    }
                    Change::Protect(a, l, p) => {
                        (a..a + l).for_each(|at| { if let Some(page) = guest.get_mut(&at) { page.1 = p } });
                    }
                }
            }
            let maps: Vec<Mapping> = guest.iter().map(|(at, (_, p))| mapping(*at, at + 1, *p)).collect();
            let steps = rearrange(&home, &origins.wanted(&maps), &[]).expect("there is room");
            for step in steps {
                apply(&mut space, step);
            }
            prop_assert_eq!(space, guest);
        }
    }

    #[test]
    fn the_ring_is_kept() {
        let home = [mapping(0x1000, 0x3000, 3), mapping(0x8000, 0x9000, 7)];
        let steps = rearrange(&home, &[], &[(0x8000, 0x9000)]).expect("there is room");
        assert_eq!(steps, [Step::Unmap { start: 0x1000, length: 0x2000 }]);
    }

    #[test]
    fn a_grown_stack_is_grown_not_mapped() {
        let stack = Mapping { backing: Backing::Stack, ..mapping(0x5000, 0x9000, 3) };
        let mut origins = Origins::new();
        origins.from_home(0x7000, 0x9000);
        let home = [Mapping { backing: Backing::Stack, ..mapping(0x7000, 0x9000, 3) }];
        let steps = rearrange(&home, &origins.wanted(&[stack]), &[]).expect("there is room");
        assert_eq!(steps, [Step::GrowStack { to: 0x5000 }]);
    }
}
