//! xe's answers, as `include/uapi/drm/xe_drm.h` lays them out.
//!
//! ```text
//!   drm_xe_query_mem_regions   0 count u32, 8 records of 88 bytes:
//!     drm_xe_mem_region          0 class u16 (0 system, 1 own)   2 instance u16   4 page u32   8 size u64
//!                                16 used u64   24 seen by the host u64   32 used of it u64
//!   drm_xe_query_engines       0 count u32, 8 records of 32 bytes:
//!     drm_xe_engine              0 class u16   2 instance u16   4 part u16
//!   drm_xe_query_gt_list       0 count u32, 8 records of 96 bytes:
//!     drm_xe_gt                  0 kind u16   2 tile u16   4 part u16   12 clock u32   32, 34, 36 version u16
//!   drm_xe_query_config        0 count u32, 8 numbers u64: revision and id, flags, alignment, address bits, priority
//! ```

use super::{Engine, Region, records, u16_at, u32_at, u64_at, unprivileged};
use crate::value::Reason;

/// `DRM_XE_DEVICE_QUERY_*`.
pub(super) const ENGINES: u32 = 0;
pub(super) const MEMORY_REGIONS: u32 = 1;
pub(super) const CONFIG: u32 = 2;
pub(super) const GT_LIST: u32 = 3;

const HEADER_BYTES: usize = 8;
const REGION_BYTES: usize = 88;
const ENGINE_BYTES: usize = 32;
const PART_BYTES: usize = 96;

/// `DRM_XE_MEM_REGION_CLASS_VRAM`.
const OWN: u16 = 1;

/// A part (gt) of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) id: u16,
    tile: u16,
    kind: u16,
    clock: u32,
    version: [u16; 3],
}

impl Part {
    /// As its folder in sysfs is called.
    pub(super) fn name(self) -> String {
        format!("tile{}/gt{}", self.tile, self.id)
    }

    pub(super) fn kind(self) -> &'static str {
        match self.kind {
            0 => "main",
            1 => "media",
            _ => "of a kind that is not known",
        }
    }

    pub(super) fn clock(self) -> Result<String, Reason> {
        match self.clock {
            0 => Err(Reason::Unknown("0: the driver does not say")),
            hertz => Ok(format!("{hertz} Hz")),
        }
    }

    /// The version of its design; drivers before Linux 6.9 leave it out.
    pub(super) fn version(self) -> Option<String> {
        let [major, minor, revision] = self.version;
        (major != 0).then(|| format!("{major}.{minor:02}.{revision}"))
    }
}

pub(super) fn regions(answer: &[u8]) -> Result<Vec<Region>, Reason> {
    let records = records(answer, HEADER_BYTES, REGION_BYTES)?;
    let word = |record: &[u8], offset| u64_at(record, offset).unwrap_or(0);
    let region = |record: &[u8]| {
        let size = word(record, 8);
        if size == 0 {
            return Err(Reason::Malformed("a region of no size".into()));
        }
        let (own, seen) = (u16_at(record, 0) == Some(OWN), word(record, 24));
        let seen = (own && seen != 0 && seen <= size).then(|| (seen, used(seen, word(record, 32))));
        Ok(Region { own, size, used: used(size, word(record, 16)), seen })
    };
    records.into_iter().map(region).collect()
}

/// Nothing is used only for those who may not know; the driver itself always uses some.
fn used(size: u64, used: u64) -> Result<u64, Reason> {
    match used {
        0 => Err(unprivileged()),
        used if used > size => Err(Reason::Implausible(format!("{used} of {size} bytes used").into())),
        used => Ok(used),
    }
}

pub(super) fn engines(answer: &[u8]) -> Result<Vec<Engine>, Reason> {
    let records = records(answer, HEADER_BYTES, ENGINE_BYTES)?;
    let word = |record: &[u8], offset| u16_at(record, offset).unwrap_or(u16::MAX);
    let engine = |record: &[u8]| Engine {
        part: Some(word(record, 4)),
        class: word(record, 0),
        instance: word(record, 2),
    };
    let mut engines: Vec<Engine> = records.into_iter().map(engine).collect();
    engines.sort_unstable();
    Ok(engines)
}

pub(super) fn parts(answer: &[u8]) -> Result<Vec<Part>, Reason> {
    let records = records(answer, HEADER_BYTES, PART_BYTES)?;
    let word = |record: &[u8], offset| u16_at(record, offset).unwrap_or(0);
    let part = |record: &[u8]| Part {
        kind: word(record, 0),
        tile: word(record, 2),
        id: word(record, 4),
        clock: u32_at(record, 12).unwrap_or(0),
        version: [word(record, 32), word(record, 34), word(record, 36)],
    };
    Ok(records.into_iter().map(part).collect())
}

/// What is worth telling of the configuration.
pub(super) fn configuration(answer: &[u8]) -> Result<Vec<(&'static str, String)>, Reason> {
    let numbers: Vec<u64> =
        records(answer, HEADER_BYTES, 8)?.into_iter().filter_map(|number| u64_at(number, 0)).collect();
    let facts = [(3, "bits of an address"), (2, "alignment of memory in bytes")];
    let told = facts.into_iter().filter_map(|(place, name)| Some((name, numbers.get(place)?.to_string())));
    Ok(told.collect())
}
