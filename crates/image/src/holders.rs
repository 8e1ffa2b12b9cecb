//! Whether a file is had by nobody but those who were looked at.
//!
//! The kernel counts who has it: openings by mappings and descriptors, the entry by openings, the inode by entries. What is known of
//! those who stand still has to make up all of these counts. A file in memory (tmpfs) has its entry as long as it has a name; one on a
//! disk does not need it. Another name has an entry of its own, if the kernel knows of it.
//!
//! Others go on meanwhile, and may hold it now in this way, now in that. They can come from an opening to another one of the same
//! entry, and from there to another entry, but not back without somebody who still has the first. So the counts of openings are
//! read first, and all of those of the entry and the inode after that ([`Look::again`]): who had no opening when that was counted
//! has none later, and so on.

use std::collections::{BTreeMap, BTreeSet};

/// What the kernel counts of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Which opening it is.
    pub opening: u64,
    /// How many have this opening.
    pub references: u64,
    /// Of which entry.
    pub entry: u64,
    /// How many openings and others have this entry.
    pub openings: u64,
    /// Of which inode.
    pub inode: u64,
    /// How many entries and others have it.
    pub entries: u64,
    /// How many names it has.
    pub names: u64,
}

/// A mapping of such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// In which address space.
    pub memory: u64,
    /// Its first address.
    pub start: u64,
    /// The file.
    pub held: Held,
}

/// A descriptor of such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// In which table.
    pub table: u64,
    /// Its number.
    pub number: u64,
    /// The file.
    pub held: Held,
}

/// What all have that stand still, and whoever looks. The same may be told more than once.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Their mappings.
    pub mappings: Vec<Mapped>,
    /// Their descriptors.
    pub descriptors: Vec<Descriptor>,
    /// Their mappings, looked at when all the rest had been.
    pub again: Vec<Mapped>,
}

/// A mapping (true) or a descriptor, by the memory or table that it is in and its place there.
type Holder = (bool, u64, u64);

/// Who else has a file without being able to see what is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Besides {
    /// So many have the inode, to watch it.
    pub watchers: u64,
    /// Its name has its entry.
    pub is_in_memory: bool,
}

/// Whether they are all who have this inode.
pub fn is_all(look: &Look, inode: u64, besides: Besides) -> bool {
    let mut openings: BTreeMap<u64, (BTreeSet<Holder>, u64)> = BTreeMap::new();
    let mapped = look.mappings.iter().map(|one| ((true, one.memory, one.start), one.held));
    let open = look.descriptors.iter().map(|one| ((false, one.table, one.number), one.held));
    let mut entry = None;
    for (holder, held) in mapped.chain(open).filter(|(_, held)| held.inode == inode) {
        if *entry.get_or_insert(held.entry) != held.entry {
            return false;
        }
        let (holders, most) = openings.entry(held.opening).or_default();
        holders.insert(holder);
        *most = held.references.max(*most);
    }
    let all_known = openings.values().all(|(holders, most)| holders.len() as u64 == *most);
    let mut again = look.again.iter().filter(|one| one.held.inode == inode).peekable();
    let is_there = again.peek().is_some();
    is_there
        && all_known
        && again.all(|Mapped { held, .. }| {
            Some(held.entry) == entry
                && held.openings == openings.len() as u64 + u64::from(besides.is_in_memory && held.names > 0)
                && held.entries == 1 + besides.watchers
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INODE: u64 = 77;

    const NONE: Besides = Besides { watchers: 0, is_in_memory: false };

    /// Holders: of which opening, and whether by a mapping.
    fn look(
        holders: &[(u64, bool)],
        strangers: &[(u64, bool)],
        more_openings: u64,
        more_entries: u64,
    ) -> Look {
        let all: Vec<(u64, bool)> = holders.iter().chain(strangers).copied().collect();
        let openings: BTreeSet<u64> = all.iter().map(|(opening, _)| *opening).collect();
        let held = |opening: u64| Held {
            opening,
            references: all.iter().filter(|(other, _)| *other == opening).count() as u64,
            entry: 5,
            openings: openings.len() as u64 + more_openings,
            inode: INODE,
            entries: 1 + more_entries,
            names: 0,
        };
        let mut look = Look::default();
        for (index, (opening, is_mapping)) in holders.iter().enumerate() {
            let (index, held) = (index as u64, held(*opening));
            if *is_mapping {
                let mapped = Mapped { memory: index / 3, start: index, held };
                look.mappings.push(mapped);
                look.again.push(mapped);
            } else {
                look.descriptors.push(Descriptor { table: index / 3, number: index, held });
            }
        }
        look
    }

    fn check(holders: &[(u64, bool)], strangers: &[(u64, bool)], more: (u64, u64), expected: bool) {
        let found = look(holders, strangers, more.0, more.1);
        assert_eq!(is_all(&found, INODE, NONE), expected, "{holders:?} {strangers:?} {more:?}");
        let mut twice = found.clone();
        twice.mappings.extend(found.mappings.iter().copied());
        twice.descriptors.extend(found.descriptors.iter().copied());
        assert_eq!(is_all(&twice, INODE, NONE), expected, "told twice");
        assert!(!is_all(&found, INODE + 1, NONE), "nobody has seen that one");
    }

    #[test]
    fn whoever_is_not_known_shows_in_the_counts() {
        let own = [(1, true), (1, true), (1, false), (2, false)];
        check(&own, &[], (0, 0), true);
        check(&own, &[(1, false)], (0, 0), false);
        check(&own, &[(2, true)], (0, 0), false);
        check(&own, &[(3, false)], (0, 0), false);
        check(&own, &[], (1, 0), false);
        check(&own, &[], (0, 1), false);
        // One more has the inode: as who watches it does.
        let watched = look(&own, &[], 0, 1);
        let watchers = |watchers| Besides { watchers, ..NONE };
        assert!(is_all(&watched, INODE, watchers(1)) && !is_all(&watched, INODE, watchers(2)));
        // Nobody maps it: then it is not looked at a second time.
        check(&[(1, false)], &[], (0, 0), false);
    }

    #[test]
    fn a_name_has_the_entry_of_what_lies_in_memory() {
        let own = [(1, true), (2, false)];
        let named = |mut found: Look| {
            found.again.iter_mut().for_each(|one| one.held.names = 1);
            found
        };
        let in_memory = Besides { is_in_memory: true, ..NONE };
        let (known, and_one) = (named(look(&own, &[], 0, 0)), named(look(&own, &[], 1, 0)));
        assert!(is_all(&known, INODE, NONE) && !is_all(&known, INODE, in_memory));
        assert!(is_all(&and_one, INODE, in_memory) && !is_all(&and_one, INODE, NONE));
        // Of one that is gone there is nothing to be added.
        assert!(is_all(&look(&own, &[], 0, 0), INODE, in_memory));
    }

    #[test]
    fn another_entry_is_somebody_else() {
        let mut found = look(&[(1, true), (2, true)], &[], 0, 0);
        found.mappings[1].held.entry = 6;
        assert!(!is_all(&found, INODE, NONE));
        let mut found = look(&[(1, true)], &[], 0, 0);
        found.again[0].held.entry = 6;
        assert!(!is_all(&found, INODE, NONE));
    }

    proptest! {
        #[test]
        fn all_are_known_if_and_only_if_there_is_no_stranger(
            holders in proptest::collection::vec((0u64..4, any::<bool>()), 1..8),
            strangers in proptest::collection::vec((0u64..5, any::<bool>()), 0..3),
        ) {
            let is_mapped = holders.iter().any(|(_, is_mapping)| *is_mapping);
            let found = is_all(&look(&holders, &strangers, 0, 0), INODE, NONE);
            prop_assert_eq!(found, is_mapped && strangers.is_empty());
        }

        /// A stranger that takes another hold of it between any two of the counts.
        #[test]
        fn who_changes_his_hold_meanwhile_is_noticed(
            holders in proptest::collection::vec((0u64..3, any::<bool>()), 1..6), opening in 0u64..3,
        ) {
            // At first by an opening that others have, later by one of its own.
            let mut found = look(&holders, &[(9, false)], 0, 0);
            prop_assert!(!is_all(&found, INODE, NONE));
            found.again = look(&holders, &[(9, false)], 0, 0).again;
            prop_assert!(!is_all(&found, INODE, NONE));
            let first = look(&holders, &[(opening, false)], 0, 0);
            found = Look { again: look(&holders, &[], 0, 0).again, ..first };
            // It is missed only where it never was: by an opening that no member has.
            let is_known = holders.iter().any(|(other, _)| *other == opening);
            prop_assert!(!is_known || !is_all(&found, INODE, NONE));
        }
    }
}
