//! The hot path does not allocate once its buffers have grown.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use minka_syscalls::lookup;
use minka_syscalls::marshal::{self, Memory};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: passes everything on to the system's allocator, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A guest of 64 KiB at this address.
const BASE: u64 = 0x10_0000;

struct Guest(Vec<u8>);

impl Memory for Guest {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let from = (address - BASE) as usize;
        into.copy_from_slice(&self.0[from..from + into.len()]);
        into.len()
    }

    fn write(&mut self, address: u64, from: &[u8]) -> usize {
        let at = (address - BASE) as usize;
        self.0[at..at + from.len()].copy_from_slice(from);
        from.len()
    }
}

#[test]
fn frequent_calls_do_not_allocate() {
    let mut guest = Guest(vec![0; 64 * 1024]);
    guest.0[1000..1009].copy_from_slice(b"/tmp/file");
    guest.0[2000] = 128;
    let calls = [
        (libc::SYS_getppid, [0; 6], 7),
        (libc::SYS_read, [0, BASE + 100, 4096, 0, 0, 0], 4096),
        (libc::SYS_write, [0, BASE + 100, 4096, 0, 0, 0], 4096),
        (libc::SYS_openat, [u64::MAX, BASE + 1000, 0, 0, 0, 0], 3),
        (libc::SYS_newfstatat, [u64::MAX, BASE + 1000, BASE + 3000, 0, 0, 0], 0),
        (libc::SYS_poll, [BASE + 100, 4, 0, 0, 0, 0], 1),
        (libc::SYS_epoll_wait, [3, BASE + 100, 10, 0, 0, 0], 2),
        (libc::SYS_recvfrom, [3, BASE + 100, 100, 0, BASE + 3000, BASE + 2000], 50),
    ];
    let mut area = vec![0; 64 * 1024];
    let (mut body, mut reply) = (Vec::new(), Vec::new());
    for round in 0..2 {
        for (number, args, result) in calls {
            body.clear();
            reply.clear();
            let before = ALLOCATIONS.get();
            let spec = lookup(number as u64).unwrap();
            marshal::gather(spec, &args, &guest, area.len(), &mut body).unwrap();
            let placed = marshal::place(&body, &mut area, 0x7000_0000).unwrap();
            marshal::collect(&placed, result, &area).append_to(&mut reply);
            assert_eq!(marshal::scatter(spec, &args, &reply, &mut guest), Ok(result));
            let allocations = ALLOCATIONS.get() - before;
            assert!(round == 0 || allocations == 0, "{} allocates {allocations} times", spec.name);
        }
    }
}
