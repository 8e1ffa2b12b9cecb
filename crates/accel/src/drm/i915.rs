//! i915's answers, as `include/uapi/drm/i915_drm.h` lays them out.
//!
//! ```text
//!   drm_i915_query_memory_regions     0 count u32, 16 records of 88 bytes:
//!     drm_i915_memory_region_info       0 class u16 (0 system, 1 device)   2 instance u16   8 probed u64
//!                                       16 unallocated u64   24 probed, seen by the host u64   32 unallocated of it u64
//!   drm_i915_query_engine_info        0 count u32, 16 records of 56 bytes:
//!     drm_i915_engine_info              0 class u16   2 instance u16
//! ```

use super::{Engine, Region, records, u16_at, u64_at, unprivileged};
use crate::value::Reason;

/// `DRM_I915_QUERY_ENGINE_INFO`.
pub(super) const ENGINE_INFO: u64 = 2;

/// `DRM_I915_QUERY_MEMORY_REGIONS`.
pub(super) const MEMORY_REGIONS: u64 = 4;

const HEADER_BYTES: usize = 16;
const REGION_BYTES: usize = 88;
const ENGINE_BYTES: usize = 56;

/// `I915_MEMORY_CLASS_DEVICE`.
const OWN: u16 = 1;

/// What the driver writes where it does not know.
const UNKNOWN: u64 = u64::MAX;

pub(super) fn regions(answer: &[u8]) -> Result<Vec<Region>, Reason> {
    let records = records(answer, HEADER_BYTES, REGION_BYTES)?;
    let word = |record: &[u8], offset| u64_at(record, offset).unwrap_or(UNKNOWN);
    let region = |record: &[u8]| {
        let (size, free) = (word(record, 8), word(record, 16));
        if size == UNKNOWN || size == 0 {
            return Err(Reason::Malformed(format!("a region of {size} bytes").into()));
        }
        let seen = word(record, 24);
        let seen = (seen != 0 && seen <= size).then(|| (seen, used(seen, word(record, 32))));
        Ok(Region { own: u16_at(record, 0) == Some(OWN), size, used: used(size, free), seen })
    };
    records.into_iter().map(region).collect()
}

/// All of it is free only to those who may not know; the driver itself always uses some.
fn used(size: u64, free: u64) -> Result<u64, Reason> {
    match size.checked_sub(free) {
        Some(0) => Err(unprivileged()),
        Some(used) => Ok(used),
        None if free == UNKNOWN => Err(Reason::Unknown("the driver does not know")),
        None => Err(Reason::Implausible(format!("{free} of {size} bytes free").into())),
    }
}

pub(super) fn engines(answer: &[u8]) -> Result<Vec<Engine>, Reason> {
    let records = records(answer, HEADER_BYTES, ENGINE_BYTES)?;
    let word = |record: &[u8], offset| u16_at(record, offset).unwrap_or(u16::MAX);
    let engine = |record: &[u8]| Engine { part: None, class: word(record, 0), instance: word(record, 2) };
    let mut engines: Vec<Engine> = records.into_iter().map(engine).collect();
    engines.sort_unstable();
    Ok(engines)
}
