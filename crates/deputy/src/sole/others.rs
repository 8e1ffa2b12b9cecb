//! Who else has shared memory, as far as it can be seen: by their mappings, their descriptors, and the kernel's counts of pages.

use super::{because, identity};
use crate::eligible::{Reason, Sharers};
use minka_image::maps::Mapping;
use minka_image::ranges::Ranges;
use minka_image::shared::{Mapped, Object};
use minka_kernel::pagemap::{Pagemap, Want};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::{self, ErrorKind};

/// Whether pages of an object are mapped elsewhere: also by somebody in another PID namespace, whom nobody here sees. The
/// kernel counts mappings of each page; it tells of those that are mapped more than once, and divides each of them among
/// all who map it.
pub(super) fn mapped_by_the_unseen(
    pid: i32,
    objects: &BTreeMap<Object, Mapped<'_>>,
) -> io::Result<Option<String>> {
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
pub(super) struct Held {
    /// Those that are mapped somewhere else, too.
    pub(super) shared_kib: u64,
    /// This mapping's portion of all (`Pss`).
    pub(super) portion_kib: u64,
}

impl Held {
    /// By the first address of each mapping.
    pub(super) fn read(text: &str) -> BTreeMap<u64, Self> {
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
pub(super) fn add_touched(pid: i32, mappings: &[&Mapping], touched: &mut Ranges<()>) -> io::Result<()> {
    let pagemap = Pagemap::open(pid)?;
    for mapping in mappings {
        pagemap.scan(mapping.start, mapping.end, Want::Present, |start, end| {
            let at = |address: u64| address - mapping.start + mapping.offset;
            touched.set(at(start), at(end), ());
        })?;
    }
    Ok(())
}

pub(super) fn kib(ranges: &Ranges<()>) -> u64 {
    ranges.iter().map(|(start, end, ())| end - start).sum::<u64>() / 1024
}

/// Looks through processes for mappings and descriptors of these objects.
pub(super) fn nobody_has(
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
pub(super) fn runs(pid: i32, own: &Metadata) -> bool {
    std::fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|found| identity(&found) == identity(own))
}

/// It has ended while we looked.
pub(super) fn is_over(error: &io::Error) -> bool {
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
