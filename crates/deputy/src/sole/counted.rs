//! Shared memory of which there may be descriptors, with a name or without: it goes only if the kernel's own counts leave nobody but those who go with it
//! ([`minka_image::holders`]). They stand still; this program looks at it, too, and counts itself.

use super::guard::Guard;
use super::named::{Least, Watch};
use crate::eligible::Reason;
use minka_image::holders::{self, Besides, Look};
use minka_image::shared::Mapped;
use minka_kernel::holders::{Holders, HoldersError};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Somebody may just look at what a process has open, as we do: that is over in a moment.
const TRIES: u32 = 10;

/// The door that is put before the memory has it, too: all who watch an inode together have it once.
const DOORS: u64 = 1;

/// How long that is waited for at first, and each time a little more.
const PAUSE: Duration = Duration::from_micros(500);

/// Memory that is to be counted.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Who maps it, and where.
    pub(super) pid: i32,
    pub(super) start: u64,
    pub(super) path: String,
    /// This program's own opening of it.
    pub(super) file: Option<File>,
    /// Whether it lies in memory, and not on a disk.
    pub(super) is_in_memory: bool,
    /// The least size that it has been seen to have.
    pub(super) least: Option<Least>,
}

/// Whether the holders of all of these can be counted, where that is needed.
pub(super) fn can_be<'a>(objects: impl Iterator<Item = &'a Mapped<'a>>) -> Result<(), Reason> {
    let mut objects = objects.filter(|mapped| mapped.kind.has_descriptors());
    match objects.next() {
        Some(mapped) => counter(mapped.path()).map(drop),
        None => Ok(()),
    }
}

fn counter(path: &str) -> Result<&'static Holders, Reason> {
    let because = |error: &HoldersError| {
        let source =
            std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
        Reason::SharedUncounted { path: path.to_owned(), cause: format!("{error}{source}") }
    };
    minka_kernel::holders::holders().map_err(because)
}

/// Has nobody come to have any of what is wanted without asking at the door.
pub(super) fn guard(own: i32, members: &[i32], wanted: &[Wanted]) -> Result<Option<Guard>, Reason> {
    let Some(first) = wanted.first() else { return Ok(None) };
    if let Some(unseen) = wanted.iter().find(|wanted| wanted.file.is_none()) {
        return Err(Reason::SharedMemory(unseen.path.clone()));
    }
    let make = || {
        let mut watch = Watch::new()?;
        for Wanted { file, least, .. } in wanted {
            if let (Some(file), Some(least)) = (file, least) {
                watch.add(file.try_clone()?, Arc::clone(least))?;
            }
        }
        Guard::new(wanted.iter().filter_map(|wanted| wanted.file.as_ref()), watch, own, members)
    };
    make().map(Some).map_err(|error| Reason::SharedUncounted {
        path: first.path.clone(),
        cause: format!("watch who opens it: {error}"),
    })
}

/// Whether nobody but these processes has any of what is wanted, by whatever means. There is a door before it already: whoever came in
/// before that is counted.
pub(super) fn nobody_else(members: &[i32], wanted: &[Wanted]) -> Result<(), Reason> {
    let Some(first) = wanted.first() else { return Ok(()) };
    let counter = counter(&first.path)?;
    let mut stranger = None;
    for tried in 0..TRIES {
        std::thread::sleep(PAUSE * tried);
        let holders = Found::look(counter, members).map_err(super::because)?;
        stranger = wanted.iter().find(|wanted| !holders.is_all(wanted)).map(|wanted| wanted.path.clone());
        if stranger.is_none() {
            let reader = |wanted: &Wanted| Some((holders.only_has_descriptor(wanted)?, wanted.path.clone()));
            return match wanted.iter().find_map(reader) {
                Some((pid, path)) => Err(Reason::SharedOtherwise { path, pid }),
                None => Ok(()),
            };
        }
    }
    stranger.map_or(Ok(()), |path| Err(Reason::SharedByDescriptor(path)))
}

/// What members have, and this program.
struct Found {
    look: Look,
    /// The inodes that each maps, by first address.
    mapped: BTreeMap<(i32, u64), u64>,
    /// Those that each has a descriptor of.
    open: BTreeSet<(i32, u64)>,
}

impl Found {
    fn look(counter: &Holders, members: &[i32]) -> io::Result<Self> {
        let own = std::process::id().cast_signed();
        let mut found = Self { look: Look::default(), mapped: BTreeMap::new(), open: BTreeSet::new() };
        let look = &mut found.look;
        for pid in members.iter().copied().chain([own]) {
            let (mut mappings, mut descriptors) = (counter.mappings(pid)?, counter.descriptors(pid)?);
            if members.contains(&pid) {
                found.mapped.extend(mappings.iter().map(|one| ((pid, one.start), one.held.inode)));
                found.open.extend(descriptors.iter().map(|one| (pid, one.held.inode)));
            }
            look.mappings.append(&mut mappings);
            look.descriptors.append(&mut descriptors);
        }
        // Only when all of that has been read.
        for pid in members {
            look.again.append(&mut counter.mappings(*pid)?);
        }
        Ok(found)
    }

    fn inode(&self, wanted: &Wanted) -> Option<u64> {
        self.mapped.get(&(wanted.pid, wanted.start)).copied()
    }

    /// Whether they are all who have it.
    fn is_all(&self, wanted: &Wanted) -> bool {
        let besides = Besides { watchers: DOORS, is_in_memory: wanted.is_in_memory };
        self.inode(wanted).is_some_and(|inode| holders::is_all(&self.look, inode, besides))
    }

    /// A member that does not map what it has a descriptor of: what only one that has ended had mapped it would not find there.
    fn only_has_descriptor(&self, wanted: &Wanted) -> Option<i32> {
        let inode = self.inode(wanted)?;
        let maps =
            |pid: i32| self.mapped.range((pid, 0)..=(pid, u64::MAX)).any(|(_, mapped)| *mapped == inode);
        self.open.iter().filter(|(_, open)| *open == inode).map(|(pid, _)| *pid).find(|pid| !maps(*pid))
    }
}
