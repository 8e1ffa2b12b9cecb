//! Shared memory that one process has for itself: it may go with it, for nobody at home sees what is written meanwhile.
//!
//! What the maps tell is judged by [`minka_image::shared`]. The rest is found out here: whether somebody else maps the
//! same object, or has a descriptor of it. Nobody can come to have it while the process stands still or is away, but by
//! the process's own doing, and that takes it home ([`crate::reach`]).

use crate::eligible::{Reason, Sharers};
use minka_image::maps::{Backing, Mapping};
use minka_image::shared::{self, Kind, Object, Obstacle};
use rustix::fs::SeekFrom;
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::linux::fs::MetadataExt;

/// The shared memory that goes with a process.
#[derive(Debug, Default)]
pub(crate) struct Sole {
    areas: Vec<Area>,
    /// What it may have descriptors of, as `stat` tells it: device and inode.
    objects: BTreeSet<(u64, u64)>,
}

/// One mapping of it.
#[derive(Debug)]
struct Area {
    start: u64,
    end: u64,
    offset: u64,
    /// To look which pages there are; none where the kernel does not let us.
    file: Option<File>,
}

impl Sole {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    /// Whether there may be descriptors of any of it.
    pub(crate) fn has_descriptors(&self) -> bool {
        !self.objects.is_empty()
    }

    /// Whether a mapping of the process is part of it.
    pub(crate) fn holds(&self, mapping: &Mapping) -> bool {
        self.areas.iter().any(|area| area.start <= mapping.start && mapping.end <= area.end)
    }

    /// Whether a descriptor of a thread leads to any of it.
    pub(crate) fn is_behind(&self, tid: i32, descriptor: i32) -> bool {
        self.has_descriptors()
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
    look_among(pid, maps, || {
        let entries = std::fs::read_dir("/proc")?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    })
}

/// The same, where there are only these processes.
fn look_among(
    pid: i32,
    maps: &[Mapping],
    processes: impl Fn() -> io::Result<Vec<i32>>,
) -> Result<Sole, Reason> {
    let objects = shared::objects(maps)?;
    let mut sole = Sole::default();
    if objects.is_empty() {
        return Ok(sole);
    }
    let because = |error: io::Error| Reason::Unknown(error.to_string());
    let mut searched = Vec::with_capacity(objects.len());
    for (object, (kind, mappings)) in &objects {
        let path = path_of(mappings);
        let mut identity_of = None;
        for mapping in mappings {
            let file =
                File::open(format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end)).ok();
            if let Some(file) = &file {
                identity_of = Some(examine(file, &path)?);
            }
            let Mapping { start, end, offset, .. } = **mapping;
            sole.areas.push(Area { start, end, offset, file });
        }
        let identity = identity_of.or_else(|| plain_identity(*object, *kind));
        let identity = identity.ok_or_else(|| Reason::SharedMemory(path.clone()))?;
        if kind.has_descriptors() {
            sole.objects.insert(identity);
        }
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
    match mapped_by_the_unseen(pid, &searched).map_err(because)? {
        Some(path) => Err(Reason::SharedUnseen(path)),
        None => Ok(sole),
    }
}

fn path_of(mappings: &[&Mapping]) -> String {
    match mappings.first().map(|mapping| &mapping.backing) {
        Some(Backing::File { path, .. }) => path.clone(),
        _ => String::new(),
    }
}

/// File systems whose files behave, mapped, as memory does, and show the same device everywhere: tmpfs, ext4, XFS.
const PLAIN: [i64; 3] = [0x0102_1994, 0xef53, 0x5846_5342];

/// What `stat` says of a mapped file, if it is one whose content only its mappings and descriptors lead to.
fn examine(file: &File, path: &str) -> Result<(u64, u64), Reason> {
    let because = |error: io::Error| Reason::Unknown(error.to_string());
    let data = file.metadata().map_err(because)?;
    let system = rustix::fs::fstatfs(file).map_err(|error| because(error.into()))?;
    if !data.is_file() || !PLAIN.contains(&system.f_type) {
        return Err(Reason::SharedMemory(path.to_owned()));
    }
    if data.st_nlink() > 0 {
        return Err(Reason::SharedByName(path.to_owned()));
    }
    Ok(identity(&data))
}

/// The same where we may not open it: only of what never has a name is enough known, which lies where our own does.
fn plain_identity(object: Object, kind: Kind) -> Option<(u64, u64)> {
    let device = rustix::fs::makedev((object.device >> 32) as u32, object.device as u32);
    let own = minka_kernel::shared::memfd(c"minka", 0).and_then(|memfd| File::from(memfd).metadata());
    let is_memory = own.is_ok_and(|data| data.st_dev() == device);
    let is_nameless = matches!(kind, Kind::Anonymous | Kind::Descriptor);
    (is_memory && is_nameless).then_some((device, object.inode))
}

/// Whether pages of an object are mapped elsewhere: also by somebody in another PID namespace, whom nobody here sees.
fn mapped_by_the_unseen(pid: i32, objects: &[(Object, String)]) -> io::Result<Option<String>> {
    let text = std::fs::read(format!("/proc/{pid}/smaps"))?;
    let text = String::from_utf8_lossy(&text);
    let mut mapping: Option<&String> = None;
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(':').filter(|(name, _)| name.starts_with("Shared_")) {
            let is_none = value.trim_start().starts_with("0 ");
            if let Some(path) = mapping.filter(|_| !is_none && name != "Shared_Hugetlb") {
                return Ok(Some(path.clone()));
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase()) {
            mapping =
                objects.iter().find(|(object, _)| line.contains(&object.in_maps())).map(|(_, path)| path);
        }
    }
    Ok(None)
}

/// Looks through processes for mappings and descriptors of these objects.
fn nobody_has(
    processes: &[i32],
    objects: &[(Object, String)],
    files: &BTreeSet<(u64, u64)>,
) -> Result<(), Reason> {
    let because = |error: io::Error| Reason::Unknown(error.to_string());
    let needles: Vec<(String, &String)> =
        objects.iter().map(|(object, path)| (object.in_maps(), path)).collect();
    let own = std::fs::metadata("/proc/self/exe").map_err(because)?;
    let (mut perhaps, mut sharers, mut shared) = (None, Vec::new(), None);
    for pid in processes.iter().copied() {
        let found = mapped_by(pid, &needles).and_then(|found| match found {
            // We and our like open such files, too, only to look at them.
            None if !files.is_empty() && !runs(pid, &own) => open_in(pid, objects, files),
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

fn open_in(
    pid: i32,
    objects: &[(Object, String)],
    files: &BTreeSet<(u64, u64)>,
) -> io::Result<Option<String>> {
    let mut entries: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))?.collect();
    if entries.is_empty() {
        for task in minka_kernel::procfs::tasks(pid)? {
            entries.extend(std::fs::read_dir(format!("/proc/{task}/fd")).into_iter().flatten());
        }
    }
    for entry in entries {
        let link = entry?.path();
        // One may be closed while we look.
        let Ok(target) = std::fs::read_link(&link) else { continue };
        let target = target.to_string_lossy();
        let target = target.strip_suffix(" (deleted)").unwrap_or(&target);
        // Only then is it looked at: that may take long where a file system does not answer.
        let Some((_, path)) = objects.iter().find(|(_, path)| path == target) else { continue };
        if std::fs::metadata(&link).is_ok_and(|data| files.contains(&identity(&data))) {
            return Ok(Some(path.clone()));
        }
    }
    Ok(None)
}

impl From<Obstacle> for Reason {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Unknown => Self::SharedMemory("anonymous".to_owned()),
            Obstacle::Numbered(number) => Self::SharedByNumber(number),
            Obstacle::Named(path) => Self::SharedByName(path),
            Obstacle::ReadOnly(path) => Self::SharedUnwritten(path),
            Obstacle::Twice(path) => Self::SharedTwice(path),
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
        maps.into_iter().filter(is_it).collect()
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
        let path = "/memfd:sole passed on".to_owned();
        assert_eq!(found.err(), Some(Reason::SharedWith { path, with: Sharers(vec![pid]) }));
        assert!(look_among(own(), &maps, both).is_ok());
    }

    #[test]
    fn what_is_mapped_twice_stays() {
        let (memfd, _shared, _) = mapped(c"sole twice");
        let _again = Shared::map(memfd.as_fd(), PAGE as usize).expect("map it again");
        let found = look(own(), &maps_of(c"sole twice"));
        assert_eq!(found.err(), Some(Reason::SharedTwice("/memfd:sole twice".to_owned())));
    }

    #[test]
    fn a_private_process_has_nothing_to_take_along() {
        assert!(look(own(), &[]).is_ok_and(|sole| sole.is_empty() && !sole.has_descriptors()));
    }
}
