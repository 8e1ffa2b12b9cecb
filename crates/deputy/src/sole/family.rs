//! Shared memory that several processes have together, and nobody else.
//!
//! Each of them is looked at like one that has it alone ([`super`]), but that the others are no strangers. All must show the
//! same part of what they share: what only one that has ended could see would else be forgotten.

use super::others::{Held, add_touched, nobody_has};
use super::{Sole, because};
use crate::eligible::{self, Reason};
use minka_image::family::MEMBERS_MAX;
use minka_image::maps::Mapping;
use minka_image::ranges::Ranges;
use minka_image::shared::{self, Kind, Mapped, Object};
use minka_kernel::procfs;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

/// Objects of a family that are told apart.
const OBJECTS_MAX: usize = 1024;

/// All who have to move together with a process, itself among them, in order; or why it stays.
pub(crate) fn family_of(pid: i32) -> Result<Vec<i32>, Reason> {
    let own = mapped_by(pid).map_err(because)?;
    if own.is_empty() {
        return Ok(vec![pid]);
    }
    let mut others: BTreeMap<i32, BTreeSet<Object>> = BTreeMap::new();
    for other in super::all_processes().map_err(because)?.into_iter().filter(|other| *other != pid) {
        // One that has ended shares nothing; one that cannot be looked at is found when all stand still.
        let mapped = mapped_by(other).unwrap_or_default();
        if !mapped.is_empty() {
            others.insert(other, mapped);
        }
    }
    let mut members = BTreeSet::from([pid]);
    let mut open = VecDeque::from([own]);
    while let Some(objects) = open.pop_front() {
        let new: Vec<i32> = others
            .iter()
            .filter(|(other, theirs)| !members.contains(other) && !theirs.is_disjoint(&objects))
            .map(|(other, _)| *other)
            .collect();
        for other in new {
            members.insert(other);
            open.extend(others.get(&other).cloned());
        }
    }
    if members.len() > MEMBERS_MAX {
        return Err(Reason::FamilyTooLarge(members.len()));
    }
    for member in members.iter().filter(|member| **member != pid) {
        if let Some(reason) = eligible::own_reasons(*member).into_iter().next() {
            return Err(Reason::Relative { pid: *member, reason: Box::new(reason) });
        }
    }
    Ok(members.into_iter().collect())
}

/// The shared memory that a process maps and that may move.
fn mapped_by(pid: i32) -> io::Result<BTreeSet<Object>> {
    let maps = procfs::maps(pid)?;
    // One that is being moved has a ring of ours, as has its deputy.
    let maps = maps.iter().filter(|mapping| !super::is_ours(mapping));
    let may_go = maps.filter(|mapping| shared::kind(mapping).is_some_and(Kind::may_go));
    Ok(may_go.map(Object::of).collect())
}

impl Sole {
    /// The shared memory of `pid`, which goes with it and with all `members`. All of them stand still; the first of them
    /// looks for strangers. Where holders are counted nobody else has anything of it open meanwhile: `turn` waits until then, and
    /// says whether it is this process that looks.
    pub(crate) fn of_family(
        pid: i32,
        members: &[i32],
        turn: impl FnOnce() -> crate::fault::Result<bool>,
    ) -> crate::fault::Result<Self> {
        let maps = maps_of(members)?;
        let table = table(&maps)?;
        let mut sole = Self { is_of_family: true, ..Self::default() };
        let is_counted = table.values().any(|shown| shown.kind.has_descriptors());
        let looks = if is_counted { turn()? } else { members.first() == Some(&pid) };
        let mut searched = Vec::with_capacity(table.len());
        for (index, (object, shown)) in table.iter().enumerate() {
            sole.twice.push(shown.length);
            if shown.first == pid {
                sole.streamed.insert(index as u32);
            }
            let mappings = shown.mappings.iter().copied();
            let wanted = sole.add(pid, *object, shown.kind, &shown.path, Some(index as u32), mappings)?;
            sole.wanted.extend(wanted);
            searched.push((*object, shown.path.clone()));
        }
        // Whoever ends takes only its own door along.
        if looks {
            sole.close_to_others(pid, members)?;
            nobody_else(members, &searched, &sole.objects)?;
            if let Some(path) = mapped_by_the_unseen(&table).map_err(because)? {
                return Err(Reason::SharedUnseen(path).into());
            }
        } else {
            sole.close(pid, members)?;
        }
        Ok(sole)
    }
}

/// Those of all members that are there, without what is ours in them.
fn maps_of(members: &[i32]) -> Result<Vec<(i32, Vec<Mapping>)>, Reason> {
    let mut all = Vec::with_capacity(members.len());
    for member in members {
        match procfs::maps(*member) {
            Ok(maps) => {
                all.push((*member, maps.into_iter().filter(|mapping| !super::is_ours(mapping)).collect()));
            }
            Err(error) if super::others::is_over(&error) => {}
            Err(error) => return Err(because(error)),
        }
    }
    Ok(all)
}

/// An object, and where it is mapped.
struct Shown<'a> {
    mappings: Vec<(i32, &'a Mapping)>,
    /// The member that streams its pages.
    first: i32,
    path: String,
    kind: Kind,
    length: u64,
    part: Ranges<()>,
}

/// All objects of a family, in the order that every member finds.
fn table(maps: &[(i32, Vec<Mapping>)]) -> Result<BTreeMap<Object, Shown<'_>>, Reason> {
    let mut table: BTreeMap<Object, Shown<'_>> = BTreeMap::new();
    for (member, maps) in maps {
        for (object, mapped) in shared::objects(maps)? {
            let part = part_of(&mapped);
            let shown = table.entry(object).or_insert_with(|| Shown {
                mappings: Vec::new(),
                first: *member,
                path: mapped.path().to_owned(),
                kind: mapped.kind,
                length: 0,
                part: part.clone(),
            });
            if !shown.part.iter().eq(part.iter()) {
                return Err(Reason::SharedOtherwise { path: shown.path.clone(), pid: *member });
            }
            shown.length = shown.length.max(mapped.length());
            shown.mappings.extend(mapped.mappings.iter().map(|mapping| (*member, *mapping)));
        }
    }
    if table.len() > OBJECTS_MAX {
        return Err(Reason::SharedMemory(format!("{} objects", table.len())));
    }
    Ok(table)
}

/// What of an object is mapped, by its offsets.
fn part_of(mapped: &Mapped<'_>) -> Ranges<()> {
    let mut part: Vec<(u64, u64)> = mapped
        .mappings
        .iter()
        .map(|mapping| (mapping.offset, mapping.offset.saturating_add(mapping.length())))
        .collect();
    part.sort_unstable();
    let mut ranges = Ranges::new();
    let mut before: Option<(u64, u64)> = None;
    // As one piece where pieces meet, so that it does not matter how they are cut.
    for (start, end) in part {
        before = match before {
            Some((first, last)) if start <= last => Some((first, last.max(end))),
            Some((first, last)) => {
                ranges.set(first, last, ());
                Some((start, end))
            }
            None => Some((start, end)),
        };
    }
    if let Some((first, last)) = before {
        ranges.set(first, last, ());
    }
    ranges
}

/// Whether anybody but the members can reach an object.
fn nobody_else(
    members: &[i32],
    searched: &[(Object, String)],
    files: &BTreeSet<(u64, u64)>,
) -> Result<(), Reason> {
    if searched.is_empty() {
        return Ok(());
    }
    let mut seen: BTreeSet<i32> = members.iter().copied().collect();
    loop {
        // Whoever ended while we looked may have had a child.
        let new = super::all_processes().map_err(because)?.into_iter().filter(|other| seen.insert(*other));
        let new: Vec<i32> = new.collect();
        if new.is_empty() {
            return Ok(());
        }
        nobody_has(&new, searched, files)?;
    }
}

/// An object of which pages are mapped by more than all members ([`super::others::mapped_by_the_unseen`]).
fn mapped_by_the_unseen(table: &BTreeMap<Object, Shown<'_>>) -> io::Result<Option<String>> {
    let mut held: BTreeMap<i32, BTreeMap<u64, Held>> = BTreeMap::new();
    for shown in table.values() {
        let (mut portions_kib, mut touched) = (0, Ranges::new());
        for (member, mapping) in &shown.mappings {
            if !held.contains_key(member) {
                let text = std::fs::read(format!("/proc/{member}/smaps"))?;
                held.insert(*member, Held::read(&String::from_utf8_lossy(&text)));
            }
            let of_it = held.get(member).and_then(|held| held.get(&mapping.start)).copied();
            // Each portion is rounded down, as the share of each page is before.
            portions_kib += of_it.unwrap_or_default().portion_kib + 1;
            add_touched(*member, &[*mapping], &mut touched)?;
        }
        if portions_kib + 1 < super::others::kib(&touched) {
            return Ok(Some(shown.path.clone()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(text: &str) -> Vec<Mapping> {
        let paged = |line: &str| {
            let (range, rest) = line.split_once(' ').expect("a line of maps");
            let (start, end) = range.split_once('-').expect("a range");
            format!("{start}000-{end}000 {rest}\n")
        };
        minka_image::maps::parse(&text.lines().map(paged).collect::<String>()).expect("lines of maps")
    }

    const FIRST: &str =
        "10-14 rw-s 00000000 00:01 7 /dev/zero (deleted)\n20-21 rw-s 00000000 00:01 9 /dev/zero (deleted)";

    #[test]
    fn every_member_finds_the_same_table() {
        let all = [
            (5, maps(FIRST)),
            (
                6,
                maps(
                    "40-42 rw-s 00000000 00:01 7 /dev/zero (deleted)\n42-44 rw-s 00002000 00:01 7 /dev/zero (deleted)",
                ),
            ),
        ];
        let table = table(&all).expect("a family");
        let found: Vec<_> = table
            .iter()
            .map(|(object, shown)| (object.inode, shown.first, shown.length >> 12, shown.mappings.len()))
            .collect();
        assert_eq!(found, [(7, 5, 4, 3), (9, 5, 1, 1)]);
    }

    #[test]
    fn who_shows_another_part_stays() {
        let less = maps("40-42 rw-s 00000000 00:01 7 /dev/zero (deleted)");
        let all = [(5, maps(FIRST)), (6, less)];
        let path = "/dev/zero".to_owned();
        assert_eq!(table(&all).err(), Some(Reason::SharedOtherwise { path, pid: 6 }));
    }

    #[test]
    fn who_shares_nothing_is_a_family_of_one() {
        let own = std::process::id().cast_signed();
        assert_eq!(family_of(own), Ok(vec![own]));
    }
}
