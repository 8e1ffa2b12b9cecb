//! A process with little memory, as one that has just been loaded: all of it goes with the image.

use crate::first::joined;
use minka_image::PAGE;
use minka_image::process::{Area, Image, Source};
use minka_image::ranges::Ranges;
use minka_kernel::pagemap::{Pagemap, Want};
use minka_wire::message::FIRST_MAX;
use std::io;

/// So much memory, in bytes, is little, mapped and used. It takes a fraction of a millisecond.
const LITTLE_MAPPED: u64 = 16 << 20;
const LITTLE: u64 = 512 << 10;

/// So much of a file that the program may write to, in bytes, goes whole: also what it has not written yet.
const LITTLE_OF_FILE: u64 = 8 * PAGE;

/// All pages of the process `pid` that come from home, if they are few.
pub(crate) fn pages(image: &Image, pid: i32) -> Option<Vec<(u64, u64)>> {
    all(image, |area, found| {
        let pagemap = Pagemap::open(pid)?;
        let want = if area.file { Want::PrivateCopies } else { Want::Present };
        pagemap.scan(area.start, area.end, want, found)
    })
}

/// `scan` tells which pages of an area exist.
fn all(
    image: &Image,
    scan: impl Fn(&Area, &mut dyn FnMut(u64, u64)) -> io::Result<()>,
) -> Option<Vec<(u64, u64)>> {
    let areas = || image.areas.iter().filter(|area| area.source == Source::Home);
    let length = |area: &Area| area.end.saturating_sub(area.start);
    if areas().any(|area| area.shared) || areas().map(length).sum::<u64>() > LITTLE_MAPPED {
        return None;
    }
    let mut wanted = Ranges::new();
    for area in areas() {
        if area.file && length(area) <= LITTLE_OF_FILE {
            wanted.set(area.start, area.end, ());
        } else {
            scan(area, &mut |start, end| wanted.set(start, end, ())).ok()?;
        }
    }
    let pages = joined(&wanted);
    let bytes: u64 = pages.iter().map(|(start, end)| end - start).sum();
    (bytes <= LITTLE && pages.len() <= FIRST_MAX as usize).then_some(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minka_image::process::Borders;

    fn area(start: u64, end: u64) -> Area {
        let source = Source::Home;
        Area { start, end, protection: 3, stack: false, file: false, shared: false, part: None, source }
    }

    #[test]
    fn of_a_small_process_all_goes() {
        let mut image = Image {
            threads: Vec::new(),
            areas: vec![
                Area { source: Source::HostFile { file: 0, offset: 0 }, ..area(0x1_0000, 0x2_0000) },
                area(0x4_0000, 0x8_0000),
                Area { file: true, ..area(0x8_0000, 0x8_2000) },
                Area { file: true, ..area(0x9_0000, 0xa_0000) },
            ],
            objects: Vec::new(),
            locked: Vec::new(),
            reserved: (0, 0),
            borders: Borders::default(),
            auxv: Vec::new(),
            actions: Vec::new(),
            limits: Vec::new(),
            cpu_us: (0, 0),
        };
        let written = |area: &Area, found: &mut dyn FnMut(u64, u64)| {
            match area.start {
                0x4_0000 => {
                    [(0x5_0000, 0x5_1000), (0x7_f000, 0x8_0000)].map(|(start, end)| found(start, end))
                }
                0x9_0000 => {
                    [(0x9_8000, 0x9_9000), (0x9_9000, 0x9_a000)].map(|(start, end)| found(start, end))
                }
                other => panic!("{other:#x} is not looked through"),
            };
            Ok(())
        };
        let expected = [(0x5_0000, 0x5_1000), (0x7_f000, 0x8_2000), (0x9_8000, 0x9_a000)];
        assert_eq!(all(&image, written).as_deref(), Some(&expected[..]));
        let much = |area: &Area, found: &mut dyn FnMut(u64, u64)| {
            found(area.start, area.start + LITTLE);
            Ok(())
        };
        assert_eq!(all(&image, much), None);
        let none = |_: &Area, _: &mut dyn FnMut(u64, u64)| Err(io::ErrorKind::NotFound.into());
        assert_eq!(all(&image, none), None);
        image.areas.push(area(0x100_0000, 0x100_0000 + LITTLE_MAPPED));
        assert_eq!(all(&image, written), None);
    }
}
