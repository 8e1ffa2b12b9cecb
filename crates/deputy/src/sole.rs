//! Shared memory that one process has for itself: it may go with it, for nobody at home sees what is written meanwhile.
//!
//! What the maps tell is judged by [`minka_image::shared`]. The rest is found out here: whether somebody else maps the
//! same object, or has a descriptor of it (as who opens a file of `/proc/PID/map_files`; where others may have one that nobody sees, the
//! kernel's counts tell). Nobody can come to have it while the process stands still or is away, but by
//! the process's own doing, and that takes it home ([`crate::reach`]).

mod counted;
mod family;
mod guard;
mod named;
mod others;

pub(crate) use family::family_of;

use crate::eligible::Reason;
use counted::Wanted;
use guard::Guard;
use minka_image::maps::{Backing, Mapping};
use minka_image::process::Part;
use minka_image::ranges::Ranges;
use minka_image::shared::{self, Kind, Object, Obstacle};
use minka_kernel::process::Bell;
use named::{Least, Lies};
use others::{mapped_by_the_unseen, nobody_has};
use rustix::fs::SeekFrom;
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::linux::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The shared memory that goes with a process.
#[derive(Debug, Default)]
pub(crate) struct Sole {
    areas: Vec<Area>,
    /// All of it, as `stat` tells it: device and inode.
    objects: BTreeSet<(u64, u64)>,
    /// Lengths of the objects that are mapped more than once, bytes.
    twice: Vec<u64>,
    /// Others have it too, all of whom move together.
    is_of_family: bool,
    /// The objects whose pages this process streams for all.
    streamed: BTreeSet<u32>,
    /// What others may have a descriptor of.
    wanted: Vec<Wanted>,
    /// What of it others will find when all who have it have ended, by its paths.
    outlives: BTreeSet<String>,
    /// Some of it lies on a disk.
    is_on_disk: bool,
    /// Who sees to it that nobody opens that meanwhile.
    guard: Mutex<Option<Guard>>,
}

/// One mapping of it.
#[derive(Debug)]
struct Area {
    start: u64,
    end: u64,
    offset: u64,
    /// Index of the object among those that are mapped more than once.
    object: Option<u32>,
    /// To look which pages there are; none where the kernel does not let us.
    file: Option<File>,
    /// Of what others may have descriptors: its size when the process left, bytes, and the least that has been seen since.
    size: Option<(u64, Least)>,
}

impl Sole {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    /// From now on nobody but these processes, one of which is `pid`, opens any of it unnoticed. All of them stand still.
    fn close(&self, pid: i32, members: &[i32]) -> Result<(), Reason> {
        *self.guard() = counted::guard(pid, members, &self.wanted)?;
        Ok(())
    }

    /// The same, and whether nobody else has any of it by now, by whatever descriptor.
    pub(crate) fn close_to_others(&self, pid: i32, members: &[i32]) -> Result<(), Reason> {
        self.close(pid, members)?;
        counted::nobody_else(members, &self.wanted)
    }

    fn guard(&self) -> MutexGuard<'_, Option<Guard>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings when somebody wants to open it.
    pub(crate) fn tell(&self, bell: &Arc<Bell>) {
        if let Some(guard) = &*self.guard() {
            guard.tell(bell);
        }
    }

    /// Whether somebody wants to open it: it has to be at home before.
    pub(crate) fn is_wanted(&self) -> bool {
        self.guard().as_ref().is_some_and(Guard::somebody_waits)
    }

    /// Whether others will find some of it when all who have it have ended.
    pub(crate) fn outlives(&self) -> bool {
        !self.outlives.is_empty()
    }

    /// What is lost of it with the host, in words; nothing if nobody could find it anyway.
    pub(crate) fn what_is_lost(&self) -> String {
        let paths: Vec<&str> = self.outlives.iter().map(String::as_str).collect();
        if paths.is_empty() {
            return String::new();
        }
        format!("; what it had written to its memory of {} since it left is lost, too", paths.join(", "))
    }

    /// Whether some of it lies on a disk, and is safe there when it has been said to be.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.is_on_disk
    }

    /// The process is about to leave: from now on it is turned away, too, for what it is to find there has to come home first.
    pub(crate) fn leave(&self) {
        if let Some(guard) = &*self.guard() {
            guard.leave();
        }
    }

    /// How often the process itself has been turned away when it was about to open some of it.
    pub(crate) fn turned_away(&self) -> u64 {
        self.guard().as_ref().map_or(0, Guard::turned_away)
    }

    /// Whether a file has become another size without having been opened: the process has to be at home before it hears of that.
    pub(crate) fn has_changed(&self) -> bool {
        !self.wanted.is_empty() && self.guard().as_ref().is_some_and(Guard::has_changed)
    }

    /// Writes pages that come home, as far as they still have a place there: not what lies behind the end of a file that has been
    /// cut short since.
    pub(crate) fn write_fitting(
        &self,
        address: u64,
        content: &[u8],
        write: impl Fn(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = address.saturating_add(content.len() as u64);
        let mut pieces = if self.has_changed() { self.fitting(address, end) } else { vec![(address, end)] };
        loop {
            let written = pieces.iter().try_for_each(|(start, end)| {
                write(*start, &content[(start - address) as usize..(end - address) as usize])
            });
            let Err(error) = written else { return Ok(()) };
            // It may be cut short at this very moment, of which one is told a little later.
            if let Some(guard) = &*self.guard() {
                guard.look_at_sizes();
            }
            let fitting = self.fitting(address, end);
            if fitting == pieces {
                return Err(error);
            }
            pieces = fitting;
        }
    }

    /// The parts of `[address, end)` that are not behind the end of a file, as far as it is known.
    fn fitting(&self, address: u64, end: u64) -> Vec<(u64, u64)> {
        let mut fitting = Ranges::new();
        fitting.set(address, end, ());
        for Area { start, end, offset, size, .. } in &self.areas {
            let Some((size, least)) = size else { continue };
            let least = least.load(Ordering::SeqCst);
            if least < *size {
                fitting.clear(least.saturating_sub(*offset).saturating_add(*start).min(*end), *end);
            }
        }
        fitting.iter().map(|(start, end, ())| (start, end)).collect()
    }

    /// It is at home: whoever wants to may open it.
    pub(crate) fn open(&self) {
        *self.guard() = None;
    }

    /// Whether a mapping of the process is part of it.
    pub(crate) fn holds(&self, mapping: &Mapping) -> bool {
        self.areas.iter().any(|area| area.start <= mapping.start && mapping.end <= area.end)
    }

    /// The part of an object that is mapped more than once, if a mapping shows one.
    pub(crate) fn part(&self, mapping: &Mapping) -> Option<Part> {
        let area = self.areas.iter().find(|area| area.start <= mapping.start && mapping.end <= area.end)?;
        Some(Part { object: area.object?, offset: area.offset + (mapping.start - area.start) })
    }

    /// Whether its pages come to a host by the stream of another member of the family.
    pub(crate) fn is_streamed_by_others(&self, start: u64, end: u64) -> bool {
        let area = self.areas.iter().find(|area| area.start <= start && end <= area.end);
        let object = area.and_then(|area| area.object);
        self.is_of_family && object.is_some_and(|object| !self.streamed.contains(&object))
    }

    /// The parts of `length` bytes at an address that belong to it.
    pub(crate) fn within(&self, address: u64, length: u64) -> Vec<(u64, u64)> {
        let end = address.saturating_add(length);
        let parts = self.areas.iter().map(|area| (area.start.max(address), area.end.min(end)));
        parts.filter(|(start, end)| start < end).collect()
    }

    /// Lengths of those objects, bytes.
    pub(crate) fn objects(&self) -> Vec<u64> {
        self.twice.clone()
    }

    /// Whether a descriptor of a thread leads to any of it.
    pub(crate) fn is_behind(&self, tid: i32, descriptor: i32) -> bool {
        !self.is_empty()
            && std::fs::metadata(format!("/proc/{tid}/fd/{descriptor}"))
                .is_ok_and(|data| self.objects.contains(&identity(&data)))
    }

    /// The parts of `[start, end)` that have content, if they can be told. The page table does not tell: of a shared
    /// object it shows what this process has touched.
    pub(crate) fn content(&self, start: u64, end: u64) -> Option<Vec<(u64, u64)>> {
        let area = self.areas.iter().find(|area| area.start <= start && end <= area.end)?;
        let file = area.file.as_ref()?;
        let mut found = Vec::new();
        let mut at = area.offset + (start - area.start);
        let limit = area.offset + (end - area.start);
        while at < limit {
            let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
                Ok(data) if data < limit => data & !(minka_image::PAGE - 1),
                Ok(_) | Err(rustix::io::Errno::NXIO) => break,
                Err(_) => return None,
            };
            let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).ok()?;
            let hole = hole.next_multiple_of(minka_image::PAGE).min(limit);
            found.push((data - area.offset + area.start, hole - area.offset + area.start));
            at = hole;
        }
        Some(found)
    }
}

fn identity(data: &Metadata) -> (u64, u64) {
    (data.st_dev(), data.st_ino())
}

/// The shared memory of a process that nobody else can reach, or why it stays.
pub(crate) fn look(pid: i32, maps: &[Mapping]) -> Result<Sole, Reason> {
    look_among(pid, maps, all_processes)
}

fn all_processes() -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Whether a mapping is the ring of a process that is being moved.
pub(crate) fn is_ours(mapping: &Mapping) -> bool {
    matches!(&mapping.backing, Backing::File { path, .. } if mapping.shared && path == minka_kernel::site::MEMFD)
}

fn because(error: io::Error) -> Reason {
    Reason::Unknown(error.to_string())
}

/// Whether a process can have shared memory elsewhere, as far as its own maps tell.
pub(crate) fn obstacle(pid: i32, maps: &[Mapping]) -> Result<(), Reason> {
    let objects = shared::objects(maps)?;
    let files = objects.values().filter(|mapped| matches!(mapped.kind, Kind::File { .. }));
    for mapped in files {
        let link = mapped.mappings.first().map(|first| map_file(pid, first)).unwrap_or_default();
        let system = rustix::fs::statfs(&link);
        if system.is_ok_and(|system| Lies::on(system.f_type).is_none()) {
            return Err(Reason::SharedElsewhere(mapped.path().to_owned()));
        }
    }
    counted::can_be(objects.values())
}

/// What leads to the file behind a mapping.
fn map_file(pid: i32, mapping: &Mapping) -> String {
    format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end)
}

/// The same, where there are only these processes.
fn look_among(
    pid: i32,
    maps: &[Mapping],
    processes: impl Fn() -> io::Result<Vec<i32>>,
) -> Result<Sole, Reason> {
    obstacle(pid, maps)?;
    let objects = shared::objects(maps)?;
    let mut sole = Sole::default();
    if objects.is_empty() {
        return Ok(sole);
    }
    let mut searched = Vec::with_capacity(objects.len());
    for (object, mapped) in &objects {
        let mappings = &mapped.mappings;
        let path = mapped.path().to_owned();
        let twice = mapped.is_twice().then_some(sole.twice.len() as u32);
        sole.twice.extend(twice.map(|_| mapped.length()));
        let mappings = mappings.iter().map(|mapping| (pid, *mapping));
        let wanted = sole.add(pid, *object, mapped.kind, &path, twice, mappings)?;
        sole.wanted.extend(wanted);
        searched.push((*object, path));
    }
    let mut seen = BTreeSet::from([pid]);
    loop {
        // Whoever ended while we looked may have had a child.
        let new = processes().map_err(because)?.into_iter().filter(|other| seen.insert(*other));
        let new: Vec<i32> = new.collect();
        if new.is_empty() {
            break;
        }
        nobody_has(&new, &searched, &sole.objects)?;
    }
    match mapped_by_the_unseen(pid, &objects).map_err(because)? {
        Some(path) => Err(Reason::SharedUnseen(path)),
        None => Ok(sole),
    }
}

impl Sole {
    /// Takes in an object, with those of its mappings that are this process's own. What is to be counted is returned.
    fn add<'a>(
        &mut self,
        own: i32,
        object: Object,
        kind: Kind,
        path: &str,
        index: Option<u32>,
        mappings: impl Iterator<Item = (i32, &'a Mapping)>,
    ) -> Result<Option<Wanted>, Reason> {
        let mut found: Option<Looked> = None;
        let mut wanted = None;
        for (pid, mapping) in mappings {
            let link = map_file(pid, mapping);
            let file = match File::open(&link) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(Reason::Remapped),
                Err(_) => None,
            };
            if let Some(file) = &file {
                let looked = examine(file, path, kind, mapping)?;
                found.get_or_insert(looked);
            }
            if wanted.is_none() && kind.has_descriptors() {
                let lies = found.as_ref().and_then(|found| found.lies);
                let size = found.as_ref().and_then(|found| found.size.clone());
                let file = File::open(&link).ok();
                wanted = Some(Wanted {
                    pid,
                    start: mapping.start,
                    path: path.to_owned(),
                    file,
                    is_in_memory: lies != Some(Lies::OnDisk),
                    least: size.map(|(_, least)| least),
                });
            }
            if pid == own {
                let Mapping { start, end, offset, .. } = *mapping;
                let size = found.as_ref().and_then(|found| found.size.clone());
                self.areas.push(Area { start, end, offset, object: index, file, size });
            }
        }
        if let Some(found) = &found {
            self.is_on_disk |= found.lies == Some(Lies::OnDisk);
            if found.has_name {
                self.outlives.insert(path.to_owned());
            }
        }
        let identity = found.map(|found| found.identity).or_else(|| identity_of_plain(object));
        self.objects.insert(identity.ok_or_else(|| Reason::SharedMemory(path.to_owned()))?);
        Ok(wanted)
    }
}

/// What `stat` says of a mapped object.
struct Looked {
    identity: (u64, u64),
    has_name: bool,
    /// Of a file.
    lies: Option<Lies>,
    /// If others may have descriptors of it.
    size: Option<(u64, Least)>,
}

/// Looks at a mapped object, which has to be memory, or a file that its process can be away from.
fn examine(file: &File, path: &str, kind: Kind, mapping: &Mapping) -> Result<Looked, Reason> {
    let data = file.metadata().map_err(because)?;
    let system = rustix::fs::fstatfs(file).map_err(|error| because(error.into()))?;
    let lies = Lies::on(system.f_type).filter(|_| data.is_file());
    let has_name = data.st_nlink() > 0;
    let (lies, size) = match (kind, lies) {
        (Kind::File { .. }, None) => return Err(Reason::SharedElsewhere(path.to_owned())),
        (Kind::File { .. }, Some(lies)) => {
            if lies == Lies::OnDisk {
                named::has_room(file, path, mapping)?;
                if named::is_direct(file) {
                    return Err(Reason::SharedElsewhere(path.to_owned()));
                }
            }
            let size = data.st_size();
            (Some(lies), Some((size, Arc::new(AtomicU64::new(size)))))
        }
        // Whatever its name looks like.
        (_, Some(Lies::InMemory)) if !has_name => {
            let size = data.st_size();
            (None, kind.has_descriptors().then(|| (size, Arc::new(AtomicU64::new(size)))))
        }
        _ => return Err(Reason::SharedMemory(path.to_owned())),
    };
    Ok(Looked { identity: identity(&data), has_name, lies, size })
}

/// The same where we may not open it: enough is known of what lies where our own memory does.
fn identity_of_plain(object: Object) -> Option<(u64, u64)> {
    let device = rustix::fs::makedev((object.device >> 32) as u32, object.device as u32);
    let own = minka_kernel::shared::memfd(c"minka", 0).and_then(|memfd| File::from(memfd).metadata());
    own.is_ok_and(|data| data.st_dev() == device).then_some((device, object.inode))
}

impl From<Obstacle> for Reason {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Unknown => Self::SharedMemory("anonymous".to_owned()),
            Obstacle::Numbered(number) => Self::SharedByNumber(number),
            Obstacle::ReadOnly(path) => Self::SharedUnwritten(path),
            Obstacle::Private(path) => Self::SharedPrivately(path),
        }
    }
}

#[cfg(test)]
mod tests;
