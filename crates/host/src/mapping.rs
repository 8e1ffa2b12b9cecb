//! A guest maps a file (privately, or shared for reading): the home maps it, and its pages come from there like all others.
//! What a loader maps this node mostly has too: then the guest maps this node's file, and nothing has to come.
//!
//! ```text
//!  guest ──mmap──► worker: choose the address ──MapFile──► home: mmap(FIXED) of the real file
//!                     │ interrupt, with the job ──► tracer
//!                     └─ answer: the address ──► guest stops before its next instruction
//!                  tracer: anonymous memory there, or the file ──► fault thread: adopt it ──► guest goes on
//! ```

use crate::calls::{Answer, Worker};
use crate::fault::Result;
use crate::guest::{Guest, NewArea, Work, lock};
use crate::pages;
use minka_image::maps::{Backing, Mapping};
use minka_image::origin::Origin;
use minka_image::{PAGE, TASK_SIZE};
use minka_kernel::procfs;
use minka_kernel::seccomp::Notification;
use minka_kernel::uffd::Mode;
use minka_wire::message::{NOT_EXACT, Special};
use std::sync::atomic::Ordering;
use std::time::Duration;

const TYPE: u64 = 0x0f;
const SHARED: u64 = 0x01;
const PRIVATE: u64 = 0x02;
const WRITE: u64 = 2;
const FIXED: u64 = 0x10;
const FIXED_NOREPLACE: u64 = 0x10_0000;
/// `MAP_DENYWRITE`, `MAP_EXECUTABLE` (both without effect), `MAP_NORESERVE`, `MAP_POPULATE`, `MAP_NONBLOCK`,
/// `MAP_STACK`: nothing that would make the memory behave differently.
const HARMLESS: u64 = 0x800 | 0x1000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;
const EEXIST: i64 = -17;

/// The answer to an `mmap` that the filter did not allow.
pub(crate) fn map_file(worker: &mut Worker<'_>, call: &Notification) -> Result<Answer> {
    let homeward = || Ok(Answer::Homeward("mmap".to_owned()));
    let [hint, length, protection, flags, descriptor, offset] = call.arguments;
    let readable_only = flags & TYPE == SHARED && protection & WRITE == 0;
    let plain = (flags & TYPE == PRIVATE || readable_only)
        && flags & !(TYPE | FIXED | FIXED_NOREPLACE | HARMLESS) == 0;
    if worker.guest.uffd.mode() == Mode::Track {
        // Nobody could serve its pages here.
        return homeward();
    }
    let Some(length) = length.checked_next_multiple_of(PAGE).filter(|length| plain && *length > 0) else {
        return homeward();
    };
    // One after another: what is free is free for one.
    let guest = worker.guest;
    let mut common = lock(&guest.mapping);
    if guest.bound.load(Ordering::SeqCst) {
        // It is called home any moment, and asks again until then.
        std::thread::sleep(PAUSE);
        return homeward();
    }
    let start = match find(guest, hint, length, flags) {
        Choice::At(start) => start,
        Choice::Taken => return Ok(Answer::Result(EEXIST)),
        Choice::Nowhere => return homeward(),
    };
    let end = start + length;
    let replaces = flags & FIXED != 0;
    let flags = (flags & TYPE) | FIXED | (flags & HARMLESS);
    let arguments = [start, length, protection, flags, descriptor, offset];
    let (result, offer) = worker.special_with(&Special::MapFile { arguments })?;
    if result == NOT_EXACT {
        return homeward();
    }
    if result as u64 != start {
        return Ok(Answer::Result(result));
    }
    let file = offer.and_then(|offer| common.give(&offer, worker.listener, call));
    let file = file.map(|descriptor| (descriptor, offset));
    let area = NewArea { start, end, protection, replaces, file };
    worker.answer_after(call, Work::Supply(area), start as i64)
}

/// Whether a call would unmap, replace, move, discard or protect shared memory of the guest's own.
pub(crate) fn touches_shared(guest: &Guest, call: &Notification) -> bool {
    if guest.shared.is_empty() {
        return false;
    }
    let touched = touched(call.call, &call.arguments);
    touched.into_iter().flatten().any(|(start, length)| {
        let end = start.saturating_add(length.max(1));
        !guest.shared.within(start, end).is_empty()
    })
}

/// Where a call changes what is mapped, as far as it is there before: first address and length.
fn touched(call: u64, arguments: &[u64; 6]) -> [Option<(u64, u64)>; 2] {
    const MMAP: u64 = 9;
    const MPROTECT: u64 = 10;
    const MUNMAP: u64 = 11;
    const MREMAP: u64 = 25;
    const MADVISE: u64 = 28;
    const MREMAP_FIXED: u64 = 2;
    let [start, length, new_length, flags, target, _] = *arguments;
    match call {
        MMAP if flags & FIXED != 0 => [Some((start, length)), None],
        MPROTECT | MUNMAP | MADVISE => [Some((start, length)), None],
        MREMAP => {
            // It grows only where nothing is. Of a shared mapping no length makes another one.
            [Some((start, length)), (flags & MREMAP_FIXED != 0).then_some((target, new_length))]
        }
        _ => [None, None],
    }
}

/// Moves memory: the tracer has one thread after another do it. Of what threads do at the same time the kernel tells in any order, so they take turns; only
/// `munmap` goes on beside them (`Origins::unmapped_now`).
pub(crate) fn move_memory(worker: &mut Worker<'_>, call: &Notification) -> Result<Answer> {
    let [address, old_length, new_length, flags, new_address, _] = call.arguments;
    // What is locked stays so where it goes, which is not made anew at home.
    if !worker.guest.locked.within(address, address.saturating_add(old_length)).is_empty() {
        return Ok(Answer::Homeward("mremap of memory that is locked".to_owned()));
    }
    if worker.guest.thread_count() == 1 {
        return Ok(Answer::Native);
    }
    let mark = u64::from(minka_syscalls::filter::AT_THE_HOSTS_ORDER);
    let arguments = [address, old_length, new_length, flags, new_address, mark];
    worker.answer_before(call, Work::Move(arguments))
}

/// How long a guest waits that is about to leave.
const PAUSE: Duration = Duration::from_millis(5);

/// Finds a place, where the home has nothing of any use. The layout and what is known of it are only compared while
/// both are of the same moment: other threads go on mapping, unmapping and moving memory.
fn find(guest: &Guest, hint: u64, length: u64, flags: u64) -> Choice {
    const TRIES: usize = 200;
    let (reserved, reserved_end) = guest.reserved;
    for _ in 0..TRIES {
        let Ok(maps) = procfs::maps(guest.pid) else { return Choice::Nowhere };
        let choice = choose(&maps, hint, length, flags);
        let Choice::At(start) = choice else { return choice };
        let end = start + length;
        if start < reserved_end && reserved < end {
            return Choice::Nowhere;
        }
        if !guest.uffd.is_changing() {
            let is_used = is_source_of_other_memory(guest, start, end);
            return if is_used { Choice::Nowhere } else { choice };
        }
        pages::let_change();
    }
    Choice::Nowhere
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    At(u64),
    Taken,
    Nowhere,
}

/// Where the kernel would put it, or nearly so: in the highest gap below what is mapped already.
fn choose(maps: &[Mapping], hint: u64, length: u64, flags: u64) -> Choice {
    let is_free = |start: u64| {
        let end = start.checked_add(length).filter(|end| *end <= TASK_SIZE);
        end.is_some_and(|end| {
            start >= LOWEST && maps.iter().all(|mapping| mapping.end <= start || end <= mapping.start)
        })
    };
    let aligned = hint.is_multiple_of(PAGE);
    if flags & FIXED != 0 {
        let inside = hint >= LOWEST && hint.checked_add(length).is_some_and(|end| end <= TASK_SIZE);
        return if aligned && inside { Choice::At(hint) } else { Choice::Nowhere };
    }
    if flags & FIXED_NOREPLACE != 0 {
        return if aligned && is_free(hint) { Choice::At(hint) } else { Choice::Taken };
    }
    if hint != 0 && is_free(hint & !(PAGE - 1)) {
        return Choice::At(hint & !(PAGE - 1));
    }
    // Above the stack there may be the kernel's own mappings, and the gap below it is where it grows into: neither is used.
    let stack = maps.iter().find(|mapping| mapping.backing == Backing::Stack);
    let below = stack.map_or(TASK_SIZE, |stack| stack.start);
    let mut ceiling = None;
    for mapping in maps.iter().rev().filter(|mapping| mapping.end <= below) {
        if let Some(ceiling) = ceiling
            && ceiling >= mapping.end
            && ceiling - mapping.end >= length
        {
            return Choice::At(ceiling - length);
        }
        ceiling = Some(mapping.start);
    }
    match ceiling {
        Some(ceiling) if ceiling >= length + LOWEST => Choice::At(ceiling - length),
        _ => Choice::Nowhere,
    }
}

/// Below this the kernel maps nothing that was not asked for there (`vm.mmap_min_addr`).
const LOWEST: u64 = 0x1_0000;

/// Whether the home has something there that the guest has at another address.
fn is_source_of_other_memory(guest: &Guest, start: u64, end: u64) -> bool {
    lock(&guest.origins).pieces(0, TASK_SIZE).into_iter().any(|(at, piece_end, origin)| match origin {
        Some(Origin::Home(source)) => source != at && source < end && start < source + (piece_end - at),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn mapping(start: u64, end: u64, backing: Backing) -> Mapping {
        Mapping { start, end, protection: 1, shared: false, offset: 0, device: 0, inode: 0, backing }
    }

    #[test]
    fn what_a_call_changes_is_told_from_its_arguments() {
        let of = |call, arguments: [u64; 6]| touched(call, &arguments);
        assert_eq!(of(9, [0x1000, 5, 3, 0x22, 0, 0]), [None, None]);
        assert_eq!(of(9, [0x1000, 5, 3, 0x22 | FIXED, 0, 0]), [Some((0x1000, 5)), None]);
        assert_eq!(of(9, [0x1000, 5, 3, 0x22 | FIXED_NOREPLACE, 0, 0]), [None, None]);
        for call in [10, 11, 28] {
            assert_eq!(of(call, [0x1000, 5, 0, 0, 0, 0]), [Some((0x1000, 5)), None]);
        }
        assert_eq!(of(25, [0x1000, 0, 9, 1, 0x8000, 0]), [Some((0x1000, 0)), None]);
        assert_eq!(of(25, [0x1000, 7, 9, 1, 0x8000, 0]), [Some((0x1000, 7)), None]);
        assert_eq!(of(25, [0x1000, 7, 5, 3, 0x8000, 0]), [Some((0x1000, 7)), Some((0x8000, 5))]);
        assert_eq!(of(0, [0x1000, 5, 0, FIXED, 0, 0]), [None, None]);
    }

    #[test]
    fn places_are_chosen_as_the_kernel_would() {
        let maps = [
            mapping(0x40_0000, 0x41_0000, Backing::Anonymous),
            mapping(0x7000_0000, 0x7001_0000, Backing::Anonymous),
            mapping(0x7002_0000, 0x7003_0000, Backing::Anonymous),
            mapping(0x7f00_0000, 0x7f01_0000, Backing::Stack),
        ];
        assert_eq!(choose(&maps, 0, 0x1000, 0), Choice::At(0x7001_f000));
        assert_eq!(choose(&maps, 0, 0x2_0000, 0), Choice::At(0x6ffe_0000));
        assert_eq!(choose(&maps, 0x5000_0000, 0x1000, 0), Choice::At(0x5000_0000));
        assert_eq!(choose(&maps, 0x40_1000, 0x1000, 0), Choice::At(0x7001_f000));
        assert_eq!(choose(&maps, 0x40_1000, 0x1000, FIXED), Choice::At(0x40_1000));
        assert_eq!(choose(&maps, 0x40_1000, 0x1000, FIXED_NOREPLACE), Choice::Taken);
        assert_eq!(choose(&maps, 0x40_1001, 0x1000, FIXED), Choice::Nowhere);
        assert_eq!(choose(&maps, 0, TASK_SIZE, 0), Choice::Nowhere);
    }

    #[test]
    fn nothing_is_put_at_or_above_the_stack() {
        // With older kernels the vDSO lies above the stack, at a distance that is another each time.
        let maps = [
            mapping(0x7000_0000, 0x7001_0000, Backing::Anonymous),
            mapping(0x7f00_0000, 0x7f02_1000, Backing::Stack),
            mapping(0x7f10_0000, 0x7f10_4000, Backing::Vdso),
        ];
        for length in [0x1000, 0xe_0000, 0x20_0000] {
            assert_eq!(choose(&maps, 0, length, 0), Choice::At(0x7000_0000 - length), "{length:#x}");
        }
        assert_eq!(choose(&maps[1..], 0, 0x1000, 0), Choice::Nowhere);
    }

    proptest! {
        /// Lengths of mappings and of the gaps below them, from the lowest to the highest, the stack among them.
        #[test]
        fn what_nobody_said_where_to_put_replaces_nothing(
            layout in vec((1..200u64, 1..50u64), 1..20), stack in any::<Index>(), length in 1..100u64, hint in 0..4000u64,
        ) {
            let (mut at, mut maps) = (16, Vec::new());
            for (gap, pages) in layout {
                maps.push(mapping((at + gap) * PAGE, (at + gap + pages) * PAGE, Backing::Anonymous));
                at += gap + pages;
            }
            let stack = stack.index(maps.len());
            maps[stack].backing = Backing::Stack;
            if let Choice::At(start) = choose(&maps, hint * PAGE, length * PAGE, 0) {
                let end = start + length * PAGE;
                prop_assert!(maps.iter().all(|mapping| end <= mapping.start || mapping.end <= start));
            }
        }
    }
}
