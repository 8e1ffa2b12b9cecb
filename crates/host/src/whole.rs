//! Having everything of a guest's memory here, so that its home can give back what it still has of it.
//!
//! A home that is short of memory asks for that. When the stream of pages has ended, what is still missing is fetched:
//! pages for which there was no place when they came, because the guest had moved their memory. Then all pages that came
//! from the home count as written, as if the guest had just changed them. So they go home with it whatever happens, and
//! nobody has to remember what the home has forgotten.
//!
//! ```text
//!  GetAll ──► look ──missing──► fetch, a piece at a time ──► look …
//!               └──nothing────► count as written ──► HasAll
//! ```
//!
//! Only private anonymous memory is meant: what is in a file at home the home need not keep, and shared memory stays
//! there. All of it is done by the thread that serves faults, between two of them: nothing is told of the layout meanwhile.

use crate::fault::{Fault, Result};
use crate::guest::{Guest, Request, lock};
use crate::pages::{self, Lane};
use minka_image::TASK_SIZE;
use minka_image::origin::{Origin, Origins};
use minka_image::ranges::Ranges;
use minka_kernel::pagemap::Want;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes fetched at once: whoever misses a page meanwhile waits for that.
const PIECE: u64 = 256 << 10;

/// How often it is looked for what is missing. A guest whose layout changes all the time keeps its home's memory.
const LOOKS_MAX: u32 = 256;

const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;

/// Where a guest has memory, and where that is at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    start: u64,
    end: u64,
    source: u64,
}

/// How far it has got.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    missing: Vec<Area>,
    looks: u32,
}

impl Whole {
    /// Whether there is something to do.
    pub(crate) fn is_due(&self, guest: &Guest) -> bool {
        guest.gets_all.load(Ordering::SeqCst) && guest.streamed.load(Ordering::SeqCst)
    }

    /// How long somebody who has nothing else to do may wait.
    pub(crate) fn pause(&self, guest: &Guest) -> Option<Duration> {
        self.is_due(guest).then_some(Duration::ZERO)
    }

    /// Does a part of what is to be done.
    pub(crate) fn step(&mut self, guest: &Guest, lane: &mut Lane, pages: &mut Vec<u8>) -> Result<()> {
        if let Some(Area { start, end, source }) = self.missing.pop() {
            let next = end.min(start + PIECE);
            pages::fetch(guest, lane, pages, (start, next), source)?;
            if next < end {
                self.missing.push(Area { start: next, end, source: source + (next - start) });
            }
            return Ok(());
        }
        self.looks += 1;
        let has_all = self.look(guest)?;
        if has_all && guest.requests.try_send(Request::HasAll).is_ok() {
            guest.bell.ring();
            self.end(guest);
        } else if self.looks > LOOKS_MAX || guest.leaving.load(Ordering::SeqCst) {
            tracing::debug!(looks = self.looks, "the home keeps what it has of the guest's memory");
            self.end(guest);
        } else if self.missing.is_empty() {
            pages::let_change();
        }
        Ok(())
    }

    fn end(&mut self, guest: &Guest) {
        guest.gets_all.store(false, Ordering::SeqCst);
        *self = Self::default();
    }

    /// Looks what is missing. If nothing is, everything counts as written from now on.
    fn look(&mut self, guest: &Guest) -> Result<bool> {
        let areas = of_home(&lock(&guest.origins), &lock(&guest.files_at_home), &guest.shared);
        let present = lock(&guest.present).ranges.clone();
        for area in &areas {
            let mut here = Ranges::new();
            // What has been unmapped since then is told soon, and then it is looked again.
            let found = |a, b| here.set(a, b, ());
            let _ = guest.pagemap.scan(area.start, area.end, Want::Present, found);
            missing(*area, &here, &present, &mut self.missing);
        }
        if guest.uffd.is_changing() {
            self.missing.clear();
            return Ok(false);
        }
        if !self.missing.is_empty() {
            return Ok(false);
        }
        for Area { start, end, .. } in areas {
            match guest.uffd.unprotect(start, end - start) {
                Ok(()) => {}
                // The layout is another already.
                Err(error) if matches!(error.raw_os_error(), Some(EAGAIN | ENOENT)) => return Ok(false),
                Err(error) => return Err(Fault::Io("have the guest's pages count as written", error)),
            }
        }
        Ok(!guest.uffd.is_changing())
    }
}

/// The memory that comes from home, without what is in a file there, or shared.
fn of_home(origins: &Origins, files_at_home: &Ranges<()>, shared: &Ranges<()>) -> Vec<Area> {
    let mut areas = Vec::new();
    for (start, end, origin) in origins.pieces(0, TASK_SIZE) {
        let Some(Origin::Home(source)) = origin else { continue };
        for (from, to, file) in files_at_home.pieces(source, source + (end - start)) {
            let (start, end) = (from - source + start, to - source + start);
            let own = shared.pieces(start, end).into_iter().filter(|(_, _, shared)| shared.is_none());
            let area = |(a, b, _)| Area { start: a, end: b, source: from + (a - start) };
            areas.extend(own.filter(|_| file.is_none()).map(area));
        }
    }
    areas
}

/// Adds what of an area exists at home (`present`, by its addresses there) and is not `here`.
fn missing(area: Area, here: &Ranges<()>, present: &Ranges<()>, into: &mut Vec<Area>) {
    let Area { start, end, source } = area;
    for (hole, hole_end, _) in here.pieces(start, end).into_iter().filter(|(_, _, here)| here.is_none()) {
        for (from, to, ()) in present.within(hole - start + source, hole_end - start + source) {
            into.push(Area { start: from - source + start, end: to - source + start, source: from });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[(u64, u64)]) -> Ranges<()> {
        let mut ranges = Ranges::new();
        list.iter().for_each(|(start, end)| ranges.set(*start, *end, ()));
        ranges
    }

    #[test]
    fn files_and_shared_memory_are_left_out_wherever_the_guest_has_them() {
        let mut origins = Origins::new();
        origins.from_home(0x1000, 0x9000);
        origins.from_host_file(0x20000, 0x21000);
        // What was at 0x3000 is at 0x10000 now; of that, the last page is in a file at home.
        origins.remapped(0x3000, 0x10000, 0x3000);
        let areas = of_home(&origins, &ranges(&[(0x5000, 0x6000)]), &ranges(&[(0x7000, 0x8000)]));
        let expected = [
            Area { start: 0x1000, end: 0x3000, source: 0x1000 },
            Area { start: 0x6000, end: 0x7000, source: 0x6000 },
            Area { start: 0x8000, end: 0x9000, source: 0x8000 },
            Area { start: 0x10000, end: 0x12000, source: 0x3000 },
        ];
        assert_eq!(areas, expected);
    }

    #[test]
    fn what_the_home_has_and_nobody_has_brought_is_missing() {
        let area = Area { start: 0x10000, end: 0x18000, source: 0x3000 };
        let mut found = Vec::new();
        let here = ranges(&[(0x10000, 0x11000), (0x14000, 0x15000)]);
        missing(area, &here, &ranges(&[(0x1000, 0x5000), (0x6000, 0x9000)]), &mut found);
        let expected = [
            Area { start: 0x11000, end: 0x12000, source: 0x4000 },
            Area { start: 0x13000, end: 0x14000, source: 0x6000 },
            Area { start: 0x15000, end: 0x16000, source: 0x8000 },
        ];
        assert_eq!(found, expected);
    }
}
