//! The pages that a guest needs first. They go with its image, as each of them would else be missed as soon as the guest
//! runs, or already while its host registers its restartable sequences: a round trip each.

use crate::fault::Result;
use crate::session::{Shared, lock};
use minka_image::PAGE;
use minka_image::process::{Image, Source, Thread};
use minka_image::ranges::Ranges;
use minka_link::Sender;
use minka_wire::frame::Header;
use minka_wire::message::{FIRST_MAX, kind};
use std::io::IoSlice;

/// Bytes above the stack pointer that are likely to be used soon: where the functions under way keep their variables.
const STACK: u64 = 4 * PAGE;

/// Ranges of pages that the program is about to use, as far as they come from home.
pub(crate) fn pages(image: &Image) -> Vec<(u64, u64)> {
    let mut wanted = Ranges::new();
    for (start, length) in image.threads.iter().flat_map(places) {
        let area = image.areas.iter().find(|area| (area.start..area.end).contains(&start));
        if let Some(area) = area.filter(|area| area.source == Source::Home) {
            let start = start & !(PAGE - 1);
            wanted.set(start, area.end.min(start.saturating_add(length)), ());
        }
    }
    let mut pages: Vec<(u64, u64)> = Vec::new();
    for (start, end, ()) in wanted.iter() {
        match pages.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => pages.push((start, end)),
        }
    }
    pages.truncate(FIRST_MAX as usize);
    pages
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
    use minka_image::process::{Area, Borders};
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
        assert_eq!(pages(&image(registers)), [(0x4_1000, 0x4_3000), (0x6_0000, 0x6_4000)]);
    }

    #[test]
    fn nothing_beyond_an_area_is_sent() {
        let registers = Registers { rsp: 0x7_f010, fs_base: 0x9_0000, ..Registers::default() };
        assert_eq!(pages(&image(registers)), [(0x7_f000, 0x8_0000)]);
    }
}
