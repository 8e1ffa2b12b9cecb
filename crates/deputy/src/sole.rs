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

pub(crate) use family::family_of;

use crate::eligible::{Reason, Sharers};
use counted::Wanted;
use guard::Guard;
use minka_image::maps::{Backing, Mapping};
use minka_image::process::Part;
use minka_image::ranges::Ranges;
use minka_image::shared::{self, Kind, Mapped, Object, Obstacle};
use minka_kernel::pagemap::{Pagemap, Want};
use minka_kernel::process::Bell;
use named::{Least, Lies};
use rustix::fs::SeekFrom;
use std::collections::{BTreeMap, BTreeSet};
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

/// Whether pages of an object are mapped elsewhere: also by somebody in another PID namespace, whom nobody here sees. The
/// kernel counts mappings of each page; it tells of those that are mapped more than once, and divides each of them among
/// all who map it.
fn mapped_by_the_unseen(pid: i32, objects: &BTreeMap<Object, Mapped<'_>>) -> io::Result<Option<String>> {
    let text = std::fs::read(format!("/proc/{pid}/smaps"))?;
    let text = String::from_utf8_lossy(&text);
    let found = Held::read(&text);
    for mapped in objects.values() {
        let of = |mapping: &&Mapping| found.get(&mapping.start).copied().unwrap_or_default();
        let held: Vec<Held> = mapped.mappings.iter().map(of).collect();
        let is_elsewhere = if mapped.is_twice() {
            let portions: u64 = held.iter().map(|held| held.portion_kib).sum();
            // Each portion is rounded down.
            let mut touched = Ranges::new();
            add_touched(pid, &mapped.mappings, &mut touched)?;
            portions + held.len() as u64 <= kib(&touched)
        } else {
            held.iter().any(|held| held.shared_kib > 0)
        };
        if is_elsewhere {
            return Ok(Some(mapped.path().to_owned()));
        }
    }
    Ok(None)
}

/// What `/proc/PID/smaps` says of a mapping's pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    /// Those that are mapped somewhere else, too.
    shared_kib: u64,
    /// This mapping's portion of all (`Pss`).
    portion_kib: u64,
}

impl Held {
    /// By the first address of each mapping.
    fn read(text: &str) -> BTreeMap<u64, Self> {
        let mut found = BTreeMap::new();
        let mut start = 0;
        for line in text.lines() {
            let first = line.split_once('-').and_then(|(first, _)| u64::from_str_radix(first, 16).ok());
            if let Some(first) = first {
                start = first;
            } else if let Some((name, value)) = line.split_once(':') {
                let kib = value.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
                let held: &mut Self = found.entry(start).or_default();
                match name {
                    "Pss" => held.portion_kib = kib.unwrap_or(0),
                    "Shared_Clean" | "Shared_Dirty" => held.shared_kib += kib.unwrap_or(0),
                    _ => {}
                }
            }
        }
        found
    }
}

/// Adds what of an object the page tables of these mappings show, by its offsets.
fn add_touched(pid: i32, mappings: &[&Mapping], touched: &mut Ranges<()>) -> io::Result<()> {
    let pagemap = Pagemap::open(pid)?;
    for mapping in mappings {
        pagemap.scan(mapping.start, mapping.end, Want::Present, |start, end| {
            let at = |address: u64| address - mapping.start + mapping.offset;
            touched.set(at(start), at(end), ());
        })?;
    }
    Ok(())
}

fn kib(ranges: &Ranges<()>) -> u64 {
    ranges.iter().map(|(start, end, ())| end - start).sum::<u64>() / 1024
}

/// Looks through processes for mappings and descriptors of these objects.
fn nobody_has(
    processes: &[i32],
    objects: &[(Object, String)],
    files: &BTreeSet<(u64, u64)>,
) -> Result<(), Reason> {
    let needles: Vec<(String, &String)> =
        objects.iter().map(|(object, path)| (object.in_maps(), path)).collect();
    let own = std::fs::metadata("/proc/self/exe").map_err(because)?;
    let (mut perhaps, mut sharers, mut shared) = (None, Vec::new(), None);
    for pid in processes.iter().copied() {
        let found = mapped_by(pid, &needles).and_then(|found| match found {
            // We and our like open such files, too, only to look at them.
            None if !runs(pid, &own) => {
                open_in(pid, files).map(|found| found.then(|| path_of_first(objects)))
            }
            found => Ok(found),
        });
        match found {
            Ok(None) => {}
            Ok(Some(path)) => {
                sharers.push(pid);
                shared = shared.or(Some(path));
            }
            Err(error) if is_over(&error) => {}
            Err(_) => perhaps = perhaps.or(Some(pid)),
        }
    }
    if let Some(path) = shared {
        sharers.sort_unstable();
        return Err(Reason::SharedWith { path, with: Sharers(sharers) });
    }
    match (perhaps, objects.first()) {
        (Some(pid), Some((_, path))) => Err(Reason::SharedPerhaps { path: path.clone(), pid }),
        _ => Ok(()),
    }
}

/// Whether a process runs this program.
fn runs(pid: i32, own: &Metadata) -> bool {
    std::fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|found| identity(&found) == identity(own))
}

/// It has ended while we looked.
fn is_over(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(3)
}

fn mapped_by(pid: i32, needles: &[(String, &String)]) -> io::Result<Option<String>> {
    let mut text = std::fs::read(format!("/proc/{pid}/maps"))?;
    if text.is_empty() {
        // Of a process whose main thread has ended the others tell.
        for task in minka_kernel::procfs::tasks(pid)? {
            text.append(&mut std::fs::read(format!("/proc/{task}/maps")).unwrap_or_default());
        }
    }
    let text = String::from_utf8_lossy(&text);
    Ok(needles.iter().find(|(needle, _)| text.contains(needle.as_str())).map(|(_, path)| (*path).clone()))
}

fn path_of_first(objects: &[(Object, String)]) -> String {
    objects.first().map_or_else(String::new, |(_, path)| path.clone())
}

fn open_in(pid: i32, files: &BTreeSet<(u64, u64)>) -> io::Result<bool> {
    let mut entries: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))?.collect();
    for task in minka_kernel::procfs::tasks(pid)? {
        // A main thread that has ended has none, and a thread may have a table of its own.
        let has_own = task != pid && !minka_kernel::process::share_descriptors(pid, task).unwrap_or(false);
        if has_own {
            entries.extend(std::fs::read_dir(format!("/proc/{task}/fd")).into_iter().flatten());
        }
    }
    for entry in entries {
        let link = entry?.path();
        // One may be closed while we look.
        let Ok(target) = std::fs::read_link(&link) else { continue };
        // Only then is it looked at: that may take long where a file system does not answer.
        if !target.to_string_lossy().ends_with(" (deleted)") {
            continue;
        }
        if std::fs::metadata(&link).is_ok_and(|data| files.contains(&identity(&data))) {
            return Ok(true);
        }
    }
    Ok(false)
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
mod tests {
    use super::*;
    use minka_image::PAGE;
    use minka_kernel::shared::{Shared, memfd};
    use std::ffi::CStr;
    use std::os::fd::{AsFd, AsRawFd, OwnedFd};
    use std::process::{Command, Stdio};

    #[test]
    fn of_a_file_that_is_cut_short_while_pages_come_home_the_rest_is_written() {
        let (start, size, least) = (0x10_0000, 4 * PAGE, Least::default());
        least.store(size, Ordering::SeqCst);
        let area = Area {
            start,
            end: start + size,
            offset: 0,
            object: None,
            file: None,
            size: Some((size, least.clone())),
        };
        let sole = Sole { areas: vec![area], ..Sole::default() };
        let content = vec![5; 3 * PAGE as usize];
        let written = std::cell::RefCell::new(Vec::new());
        let outcome = sole.write_fitting(start, &content, |at, piece| {
            written.borrow_mut().push((at - start, piece.len() as u64));
            let cut = least.swap(PAGE, Ordering::SeqCst) == PAGE;
            if cut { Ok(()) } else { Err(io::Error::from_raw_os_error(5)) }
        });
        assert!(outcome.is_ok());
        assert_eq!(*written.borrow(), [(0, 3 * PAGE), (0, PAGE)]);
        let fails = sole.write_fitting(start, &content, |_, _| Err(io::Error::from_raw_os_error(5)));
        assert!(fails.is_err(), "what cannot be written for another reason is not left out");
    }

    fn own() -> i32 {
        std::process::id().cast_signed()
    }

    /// A memfd of eight pages, mapped, and what the maps say of it.
    fn mapped(name: &CStr) -> (OwnedFd, Shared, Vec<Mapping>) {
        let memfd = memfd(name, 8 * PAGE as usize).expect("a memfd");
        let shared = Shared::map(memfd.as_fd(), 8 * PAGE as usize).expect("map it");
        let maps = maps_of(name);
        (memfd, shared, maps)
    }

    fn maps_of(name: &CStr) -> Vec<Mapping> {
        let path = format!("/memfd:{}", name.to_str().expect("text"));
        let maps = minka_kernel::procfs::maps(own()).expect("its maps");
        let is_it = |mapping: &Mapping| matches!(&mapping.backing, Backing::File { path: found, .. } if *found == path);
        // Anonymous shared memory is a memfd without a descriptor.
        let anonymous = || Backing::File { path: "/dev/zero".to_owned(), deleted: true };
        maps.into_iter().filter(is_it).map(|mapping| Mapping { backing: anonymous(), ..mapping }).collect()
    }

    #[test]
    fn what_only_this_process_has_goes_with_it() {
        let (memfd, shared, maps) = mapped(c"sole alone");
        shared.write(2 * PAGE as usize, &[1]);
        let sole = look_among(own(), &maps, || Ok(vec![own()])).expect("nobody else has it");
        let start = maps[0].start;
        assert!(sole.holds(&maps[0]) && !sole.is_empty());
        let other = tempfile::tempfile().expect("a file");
        assert!(sole.is_behind(own(), memfd.as_raw_fd()) && !sole.is_behind(own(), other.as_raw_fd()));
        if let Some(content) = sole.content(start + PAGE, start + 6 * PAGE) {
            assert_eq!(content, [(start + 2 * PAGE, start + 3 * PAGE)]);
        }
    }

    #[test]
    fn whoever_has_a_descriptor_shares_it() {
        let (memfd, _shared, maps) = mapped(c"sole passed on");
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(memfd)).spawn().expect("start");
        let pid = child.id().cast_signed();
        let both = || Ok(vec![own(), pid]);
        let found = look_among(own(), &maps, both);
        child.kill().expect("end it");
        child.wait().expect("wait for it");
        let path = "/dev/zero".to_owned();
        assert_eq!(found.err(), Some(Reason::SharedWith { path, with: Sharers(vec![pid]) }));
        assert!(look_among(own(), &maps, both).is_ok());
    }

    /// As [`mapped`], seen as what it is; nothing where the kernel does not tell who has it.
    fn mapped_as_memfd(name: &CStr) -> Option<(OwnedFd, Shared, Vec<Mapping>)> {
        let (memfd, shared, maps) = mapped(name);
        let path = format!("/memfd:{}", name.to_str().expect("text"));
        let named =
            |mapping| Mapping { backing: Backing::File { path: path.clone(), deleted: true }, ..mapping };
        let maps: Vec<Mapping> = maps.into_iter().map(named).collect();
        match obstacle(own(), &maps) {
            Ok(()) => Some((memfd, shared, maps)),
            Err(reason) => {
                assert!(matches!(reason, Reason::SharedUncounted { .. }), "{reason}");
                println!("not looked at: {reason}");
                None
            }
        }
    }

    #[test]
    fn a_memfd_goes_with_its_process_if_nobody_else_has_it() {
        let Some((memfd, _shared, maps)) = mapped_as_memfd(c"sole counted") else { return };
        let sole = look_among(own(), &maps, || Ok(vec![own()])).expect("nobody is seen to have it");
        assert_eq!(sole.close_to_others(own(), &[own()]), Ok(()));
        let path = "/memfd:sole counted".to_owned();
        // Somebody who is not looked at.
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(memfd)).spawn().expect("start");
        let found = sole.close_to_others(own(), &[own()]);
        sole.open();
        let with_it = sole.close_to_others(own(), &[own(), child.id().cast_signed()]);
        sole.open();
        let pid = child.id().cast_signed();
        child.kill().expect("end it");
        child.wait().expect("wait for it");
        // It would have it, but not map it.
        let otherwise = Reason::SharedOtherwise { path: path.clone(), pid };
        assert_eq!((found, with_it), (Err(Reason::SharedByDescriptor(path)), Err(otherwise)));
        assert_eq!(sole.close_to_others(own(), &[own()]), Ok(()));
    }

    #[test]
    fn what_is_mapped_twice_is_one_object() {
        let (memfd, _shared, once) = mapped(c"sole twice");
        let alone =
            |maps: &[Mapping]| look_among(own(), maps, || Ok(vec![own()])).expect("nobody else has it");
        assert_eq!((alone(&once).part(&once[0]), alone(&once).objects()), (None, vec![]));
        let _again = Shared::map(memfd.as_fd(), PAGE as usize).expect("map it again");
        let maps = maps_of(c"sole twice");
        let sole = alone(&maps);
        assert_eq!(sole.objects(), [8 * PAGE]);
        let part = Some(Part { object: 0, offset: 0 });
        assert!(maps.len() == 2 && maps.iter().all(|mapping| sole.part(mapping) == part), "{maps:?}");
    }

    #[test]
    fn what_the_kernel_counts_is_read() {
        let text = "\
7f00-7f01 rw-s 00000000 00:01 77                         /dev/zero (deleted)
Rss:                  12 kB
Pss:                   8 kB
Pss_Dirty:             8 kB
Shared_Clean:          1 kB
Shared_Dirty:          4 kB
VmFlags: rd wr sh
abcd-abce rw-p 00000000 00:00 0
Pss:                   3 kB";
        let held = |shared_kib, portion_kib| Held { shared_kib, portion_kib };
        assert_eq!(Held::read(text), BTreeMap::from([(0x7f00, held(5, 8)), (0xabcd, held(0, 3))]));
    }

    #[test]
    fn who_is_not_seen_is_noticed_by_the_pages() {
        let (memfd, shared, _) = mapped(c"sole unseen");
        let again = Shared::map(memfd.as_fd(), 8 * PAGE as usize).expect("map it again");
        (0..8).for_each(|page| shared.write(page * PAGE as usize, &[1]));
        (0..4).for_each(|page| again.write(page * PAGE as usize, &[1]));
        let maps = maps_of(c"sole unseen");
        let of = |maps: &[Mapping]| {
            let objects = shared::objects(maps).expect("shared memory");
            mapped_by_the_unseen(own(), &objects).expect("what the kernel counts")
        };
        assert_eq!(maps.len(), 2);
        assert_eq!(of(&maps), None);
        // As it looks if one of the two is somebody else's.
        let path = Some("/dev/zero".to_owned());
        assert!(maps.iter().all(|mapping| of(std::slice::from_ref(mapping)) == path));
        let third = Shared::map(memfd.as_fd(), 8 * PAGE as usize).expect("map it once more");
        (0..8).for_each(|page| third.write(page * PAGE as usize, &[1]));
        assert_eq!(of(&maps), path);
        assert_eq!(of(&maps_of(c"sole unseen")), None);
    }

    #[test]
    fn a_private_process_has_nothing_to_take_along() {
        assert!(look(own(), &[]).is_ok_and(|sole| sole.is_empty() && sole.objects().is_empty()));
    }
}
