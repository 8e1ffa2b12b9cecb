//! The pages that a guest needs first. They go with its image, as each of them would else be missed as soon as the guest
//! runs, or already while its host registers its restartable sequences: a round trip each.

use crate::fault::Result;
use crate::session::{Shared, lock};
use minka_image::PAGE;
use minka_image::process::{Area, Image, Source, Thread};
use minka_image::ranges::Ranges;
use minka_link::Sender;
use minka_wire::frame::Header;
use minka_wire::message::{FIRST_MAX, kind};
use std::collections::BTreeSet;
use std::io::IoSlice;

// mmap(2), `PROT_READ` and so on.
const READ: u8 = 1;
const WRITE: u8 = 2;
const EXECUTE: u8 = 4;

/// Bytes above the stack pointer that are likely to be used soon: where the functions under way keep their variables.
const STACK: u64 = 4 * PAGE;

/// Threads whose stacks are looked through for where their functions return to.
const LOOKED_THROUGH: usize = 8;

/// Pages of code that are found so.
const CODE_MAX: usize = 16;

/// Bytes at the end of what a program's linker has made unwritable: there lie the addresses of functions elsewhere.
const LINKED: u64 = 8 * PAGE;

/// Bytes of that in all.
const LINKED_MAX: u64 = 16 * PAGE;

/// Ranges of pages that the program is about to use, as far as they come from home. `peek` reads its memory.
pub(crate) fn pages(image: &Image, peek: impl Fn(u64, &mut [u8])) -> Vec<(u64, u64)> {
    let mut wanted = Ranges::new();
    for (start, length) in image.threads.iter().flat_map(places) {
        if let Some(area) = area_of(image, start) {
            let start = start & !(PAGE - 1);
            wanted.set(start, area.end.min(start.saturating_add(length)), ());
        }
    }
    for page in callers(image, peek) {
        wanted.set(page, page + PAGE, ());
    }
    for (start, end) in linked(&image.areas) {
        wanted.set(start, end, ());
    }
    let mut pages = joined(&wanted);
    pages.truncate(FIRST_MAX as usize);
    pages
}

/// Ranges of which no two touch.
pub(crate) fn joined(wanted: &Ranges<()>) -> Vec<(u64, u64)> {
    let mut pages: Vec<(u64, u64)> = Vec::new();
    for (start, end, ()) in wanted.iter() {
        match pages.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => pages.push((start, end)),
        }
    }
    pages
}

fn area_of(image: &Image, address: u64) -> Option<&Area> {
    let area = image.areas.iter().find(|area| (area.start..area.end).contains(&address));
    area.filter(|area| area.source == Source::Home)
}

/// The pages of code that the topmost words of stacks point into: mostly where functions return to.
fn callers(image: &Image, peek: impl Fn(u64, &mut [u8])) -> BTreeSet<u64> {
    let is_code = |area: &&Area| area.source == Source::Home && area.protection & EXECUTE != 0;
    let code: Vec<&Area> = image.areas.iter().filter(is_code).collect();
    let mut pages = BTreeSet::new();
    let mut content = [0; STACK as usize];
    for thread in image.threads.iter().take(LOOKED_THROUGH) {
        let top = thread.registers.rsp & !7;
        let Some(stack) = area_of(image, top) else { continue };
        let content = &mut content[..(stack.end - top).min(STACK) as usize];
        peek(top, content);
        for word in content.as_chunks().0 {
            let word = u64::from_le_bytes(*word);
            if pages.len() < CODE_MAX && code.iter().any(|area| (area.start..area.end).contains(&word)) {
                pages.insert(word & !(PAGE - 1));
            }
        }
    }
    pages
}

/// The ends of the parts of programs and libraries that were written by the linker alone, the smallest first.
fn linked(areas: &[Area]) -> Vec<(u64, u64)> {
    let is_linked = |one: &Area, next: &Area| {
        let unwritable = one.file && one.source == Source::Home && one.protection == READ;
        unwritable && next.start == one.end && next.protection == READ | WRITE
    };
    let parts = areas.iter().zip(areas.iter().skip(1)).filter(|(one, next)| is_linked(one, next));
    let mut parts: Vec<_> =
        parts.map(|(one, _)| (one.start.max(one.end.saturating_sub(LINKED)), one.end)).collect();
    parts.sort_by_key(|(start, end)| end - start);
    let mut left = LINKED_MAX;
    parts.retain(|(start, end)| {
        let fits = end - start <= left;
        left -= if fits { end - start } else { 0 };
        fits
    });
    parts
}

/// What a thread is at: its code, its stack, its variables of its own, and whatever its registers point at.
fn places(thread: &Thread) -> impl Iterator<Item = (u64, u64)> {
    let Thread { registers, rseq, .. } = thread;
    let r = registers;
    let pointers = [r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.r8, r.r9, r.r10, r.r11]
        .into_iter()
        .chain([r.r12, r.r13, r.r14, r.r15, r.rip, r.fs_base, r.fs_base.wrapping_sub(PAGE), r.gs_base])
        .chain(rseq.map(|rseq| rseq.address));
    [(r.rsp, STACK)].into_iter().chain(pointers.map(|pointer| (pointer, PAGE)))
}

/// Sends them. They are not streamed again.
pub(crate) fn send(shared: &Shared, pages: &[(u64, u64)], stream: &mut Sender) -> Result<()> {
    let mut content = Vec::new();
    for (start, end) in pages {
        content.resize((end - start) as usize, 0);
        shared.memory.peek(*start, &mut content);
        stream.queue(Header::new(kind::PAGES, *start), &[IoSlice::new(&content)])?;
        lock(&shared.unsent).clear(*start, *end);
    }
    Ok(stream.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minka_image::process::Borders;
    use minka_image::registers::Registers;

    fn area(start: u64, end: u64, source: Source) -> Area {
        Area { start, end, protection: 3, stack: false, file: false, shared: false, part: None, source }
    }

    fn image(registers: Registers) -> Image {
        let thread = Thread { registers, ..Thread::new(1) };
        Image {
            threads: vec![thread],
            areas: vec![
                area(0x1_0000, 0x2_0000, Source::HostFile { file: 0, offset: 0 }),
                area(0x4_0000, 0x8_0000, Source::Home),
            ],
            objects: Vec::new(),
            locked: Vec::new(),
            reserved: (0, 0),
            borders: Borders::default(),
            auxv: Vec::new(),
            actions: Vec::new(),
            limits: Vec::new(),
            cpu_us: (0, 0),
        }
    }

    #[test]
    fn what_registers_point_at_comes_first() {
        let registers =
            Registers { rip: 0x1_0123, rdi: 0x4_1fff, rsi: 0x4_2000, rsp: 0x6_0008, ..Registers::default() };
        assert_eq!(pages(&image(registers), nothing), [(0x4_1000, 0x4_3000), (0x6_0000, 0x6_4000)]);
    }

    #[test]
    fn nothing_beyond_an_area_is_sent() {
        let registers = Registers { rsp: 0x7_f010, fs_base: 0x9_0000, ..Registers::default() };
        assert_eq!(pages(&image(registers), nothing), [(0x7_f000, 0x8_0000)]);
    }

    #[test]
    fn where_functions_return_to_comes_too() {
        let registers = Registers { rsp: 0x7_fff0, ..Registers::default() };
        let mut image = image(registers);
        image.areas.push(Area { protection: 5, ..area(0x9_0000, 0xb_0000, Source::Home) });
        let stack = |address: u64, into: &mut [u8]| {
            assert_eq!((address, into.len()), (0x7_fff0, 16));
            into[..8].copy_from_slice(&0x4_0123_u64.to_le_bytes());
            into[8..].copy_from_slice(&0xa_0123_u64.to_le_bytes());
        };
        assert_eq!(pages(&image, stack), [(0x7_f000, 0x8_0000), (0xa_0000, 0xa_1000)]);
    }

    #[test]
    fn of_what_was_linked_the_end_comes_as_long_as_there_is_room() {
        let linked_area = |start, end| Area { protection: 1, file: true, ..area(start, end, Source::Home) };
        let pair = |start, end| [linked_area(start, end), area(end, end + PAGE, Source::Home)];
        let large = (1..4).flat_map(|at| pair(at << 20, (at << 20) + 2 * LINKED));
        let areas: Vec<Area> = large.chain(pair(4 << 20, (4 << 20) + PAGE)).collect();
        let first = ((4 << 20), (4 << 20) + PAGE);
        assert_eq!(linked(&areas), [first, ((1 << 20) + LINKED, (1 << 20) + 2 * LINKED)]);
        assert_eq!(linked(&[linked_area(0x1000, 0x2000), area(0x3000, 0x4000, Source::Home)]), []);
    }

    fn nothing(_: u64, into: &mut [u8]) {
        into.fill(0);
    }
}
