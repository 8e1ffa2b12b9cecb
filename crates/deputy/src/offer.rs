//! What a home says of a process before it is stopped, and the image it makes of it afterwards.

use crate::eligible::Reason;
use crate::fault::{Fault, Result};
use crate::parked::Parked;
use minka_identity::{Digests, digest_of};
use minka_image::TASK_SIZE;
use minka_image::cpu::{Features, mask, state_name};
use minka_image::maps::{Backing, Mapping};
use minka_image::process::{Area, Image, Source, Thread};
use minka_kernel::memory::Memory;
use minka_kernel::pagemap::{Pagemap, Want};
use minka_kernel::{cpu, process, procfs, workbench};
use minka_link::NodeConfig;
use minka_wire::local::FamilyId;
use minka_wire::message::{FileOffer, Hello};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

/// The features to which a process was started to keep, if it was: its environment says so ([`mask`]).
fn allowed(pid: i32) -> Option<Features> {
    /// A process can say that all of its memory is its environment.
    const LENGTH_MAX: u64 = 1 << 20;
    let mut environment = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(LENGTH_MAX).read_to_end(&mut environment).ok()?;
    let of_variable = |entry: &[u8]| {
        let mark = entry.strip_prefix(mask::MARK.as_bytes())?.strip_prefix(b"=")?;
        Features::of_mark(std::str::from_utf8(mark).ok()?)
    };
    environment.split(|byte| *byte == 0).find_map(of_variable)
}

/// The limits that decide how far a guest's memory may grow.
const LIMITS: [u32; 3] = [2 /* DATA */, 3 /* STACK */, 9 /* AS */];

/// The offer made to a host, and which file of it each path is.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) hello: Hello,
    index: BTreeMap<String, u32>,
    pub(crate) digests: Digests,
}

impl Offer {
    /// Describes a process that still runs.
    pub(crate) fn new(
        pid: i32,
        config: &NodeConfig,
        family: Option<FamilyId>,
        needs_all: bool,
    ) -> Result<Self> {
        let io = |what| move |error| Fault::Io(what, error);
        let maps = procfs::maps(pid).map_err(io("read its maps"))?;
        let memory = Memory::open(pid).map_err(io("open its memory"))?;
        let (vdso_code, vdso) = vdso(&memory, &maps)?;
        let features = cpu::features()
            .without(&config.without_cpu)
            .map_err(|name| Fault::Said(format!("unknown feature {name}")))?;
        let features = match allowed(pid) {
            Some(allowed) if !needs_all => features.common(&allowed),
            _ => features,
        };
        let mut digests = Digests::open(&config.run_dir);
        let mut files = Vec::new();
        let mut index = BTreeMap::new();
        for (path, mapping) in maps.iter().filter_map(common_file) {
            if index.contains_key(path) {
                continue;
            }
            let Ok(file) = File::open(path) else { continue };
            if !is_same_file(&file, mapping) {
                continue;
            }
            if let Ok(Some((digest, size))) = digests.of(&file) {
                index.insert(path.to_owned(), files.len() as u32);
                files.push(FileOffer { path: path.to_owned(), size, digest });
            }
        }
        let hello = Hello {
            pid,
            command: procfs::command(pid).map_err(io("read its name"))?,
            boot_id: procfs::boot_id().map_err(io("read the boot id"))?,
            clocks: process::clocks(),
            features,
            layout: cpu::layout(),
            vdso_digest: digest_of(&vdso_code),
            vdso_code,
            vdso,
            workbench: find_hole(&maps, workbench::LENGTH as u64)?,
            files,
            family,
        };
        Ok(Self { hello, index, digests })
    }

    /// The name of something in the process's extended registers for which a host has no place that keeps these `states`.
    pub(crate) fn has_no_place(&self, parked: &Parked, states: u64) -> Option<String> {
        let outside = |thread: &Thread| self.hello.layout.used_outside(&thread.extended, states);
        parked.threads().iter().find_map(outside).map(state_name)
    }

    /// The image of the parked process, for a host that has the files marked in `accepted`.
    pub(crate) fn image(&self, parked: &Parked, accepted: &[bool], same_machine: bool) -> Result<Image> {
        let io = |what| move |error| Fault::Io(what, error);
        let found;
        let maps = if parked.maps.is_empty() {
            found = procfs::maps(parked.pid).map_err(io("read its maps"))?;
            &found
        } else {
            &parked.maps
        };
        let pagemap = Pagemap::open(parked.pid).map_err(io("open its page table"))?;
        let (ring, _) = parked.agents.ring().range();
        let locked = procfs::locked(parked.pid).map_err(io("read what it has locked"))?;
        // Ours is the newest of its mappings.
        if locked.iter().any(|(start, end)| (*start..*end).contains(&ring)) {
            return Err(Reason::Locked(locked.iter().map(|(start, end)| (end - start) / 1024).sum()).into());
        }
        let mut areas = Vec::with_capacity(maps.len());
        for mapping in maps.iter().filter(|mapping| !mapping.is_kernel() && mapping.start != ring) {
            let mut source = Source::Home;
            if let Some((path, _)) = common_file(mapping)
                && let Some(file) = self.index.get(path)
                && accepted.get(*file as usize) == Some(&true)
                && !has_private_copies(&pagemap, mapping)?
            {
                source = Source::HostFile { file: *file, offset: mapping.offset };
            }
            let shared = parked.sole.holds(mapping);
            let is_same = same_machine && source != Source::Home;
            if mapping.shared && !(shared || is_same || parked.is_leased(mapping)) {
                return Err(Reason::SharedFile {
                    path: format!("{:?}", mapping.backing),
                    cause: "no lease on it can be had".to_owned(),
                }
                .into());
            }
            areas.push(Area {
                start: mapping.start,
                end: mapping.end,
                protection: mapping.protection,
                stack: mapping.backing == Backing::Stack,
                file: matches!(mapping.backing, Backing::File { .. }),
                shared,
                part: parked.sole.part(mapping),
                source,
            });
        }
        Ok(Image {
            threads: parked.threads(),
            areas,
            objects: parked.sole.objects(),
            locked,
            reserved: parked.agents.ring().range(),
            borders: parked.borders,
            auxv: parked.auxv.clone(),
            actions: parked.actions.clone(),
            cpu_us: parked.cpu_us,
            limits: LIMITS
                .into_iter()
                .filter_map(|limit| Some((limit, process::limit(parked.pid, limit).ok()?.0)))
                .collect(),
        })
    }
}

/// A file that a host may have too: mapped, not writable, still under its name. (A shared mapping may show later
/// changes: it counts only where the host's file is the very same, see [`Offer::image`].)
fn common_file(mapping: &Mapping) -> Option<(&str, &Mapping)> {
    match &mapping.backing {
        Backing::File { path, deleted: false } if !mapping.writable() && path.starts_with('/') => {
            Some((path, mapping))
        }
        _ => None,
    }
}

/// A file that a process has open, as one that a host may have too.
pub(crate) fn open_file(pid: i32, descriptor: i32, digests: &mut Digests) -> Option<FileOffer> {
    use std::os::unix::fs::MetadataExt;
    let link = format!("/proc/{pid}/fd/{descriptor}");
    let path = std::fs::read_link(&link).ok()?.into_os_string().into_string().ok()?;
    let found = std::fs::metadata(&link).ok().filter(|found| path.starts_with('/') && found.is_file())?;
    let file = File::open(&path).ok()?;
    // Under that name there may be another one by now, or there.
    let named = file.metadata().ok()?;
    if (named.dev(), named.ino()) != (found.dev(), found.ino()) {
        return None;
    }
    let (digest, size) = digests.of(&file).ok()??;
    Some(FileOffer { path, size, digest })
}

fn is_same_file(file: &File, mapping: &Mapping) -> bool {
    use std::os::unix::fs::MetadataExt;
    // The device is not compared: some file systems show another one in the maps than in stat.
    file.metadata().is_ok_and(|data| data.ino() == mapping.inode)
}

fn has_private_copies(pagemap: &Pagemap, mapping: &Mapping) -> Result<bool> {
    let mut found = false;
    pagemap
        .scan(mapping.start, mapping.end, Want::PrivateCopies, |_, _| found = true)
        .map_err(|error| Fault::Io("look for its own copies of file pages", error))?;
    Ok(found)
}

/// The vDSO's code; the lowest address of the vDSO with its data, and the bytes from there to the code.
fn vdso(memory: &Memory, maps: &[Mapping]) -> Result<(Vec<u8>, (u64, u64))> {
    let code = maps.iter().find(|mapping| mapping.backing == Backing::Vdso);
    let first = maps.iter().find(|mapping| matches!(mapping.backing, Backing::Vvar | Backing::Vdso));
    let (Some(code), Some(first)) = (code, first) else {
        return Err(Fault::Said("the process has no vDSO".to_owned()));
    };
    let mut bytes = vec![0; code.length() as usize];
    memory.peek(code.start, &mut bytes);
    Ok((bytes, (first.start, code.start - first.start)))
}

/// A free place for the workbench: as low as the kernel allows, where programs rarely map anything.
fn find_hole(maps: &[Mapping], length: u64) -> Result<u64> {
    let mut at = 0x1_0000;
    for mapping in maps {
        if mapping.start >= at && mapping.start - at >= length {
            return Ok(at);
        }
        at = at.max(mapping.end);
    }
    if at < TASK_SIZE && TASK_SIZE - at >= length {
        return Ok(at);
    }
    Err(Fault::Said("its address space is full".to_owned()))
}
