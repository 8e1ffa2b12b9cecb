//! Whatever a peer sends as a message: decoding never panics, and never takes more memory than a multiple of what came.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use minka_image::cpu::Features;
use minka_image::process::{Action, AltStack, Area, Borders, Image, Return, Source, Thread};
use minka_image::xstate::{self, Component};
use minka_wire::frame::{CONTROL_BODY_BYTES_MAX, Header};
use minka_wire::message::{
    self, Fetch, FileOffer, FromHome, FromHost, Hello, Leaving, Piece, ProcFile, Special, kind,
};
use minka_wire::preamble::{PREAMBLE_BYTES, Preamble, SessionSecret};
use proptest::prelude::*;

/// Bytes that a decoded message may take for each byte of its body. The least that is sent for most memory is a signal
/// without information: two bytes become 32, in a vector that is copied when it grows.
const BYTES_PER_BYTE: usize = 64;

/// What may be allocated before anything is known: vectors begin with room for a MiB at most, some in each other.
const AT_LEAST: usize = 4 << 20;

struct Measuring;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: passes everything on to the system's allocator, and counts.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NOW.set(NOW.get().saturating_add(layout.size()));
        MOST.set(MOST.get().max(NOW.get()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.set(NOW.get().saturating_sub(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// The most that is allocated at a time during `work`, in bytes.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.get();
    MOST.set(before);
    work();
    MOST.get() - before
}

/// Decodes a body as every message there is. Returns whether it was any.
fn decode(body: &[u8]) -> bool {
    let mut known = false;
    let took = peak(|| {
        let header = |kind| Header::new(kind, 0);
        known |= message::decode::<FromHome>(&header(kind::FROM_HOME), body, kind::FROM_HOME, "").is_ok();
        known |= message::decode::<FromHost>(&header(kind::FROM_HOST), body, kind::FROM_HOST, "").is_ok();
        known |= message::decode::<Fetch>(&header(kind::FETCH), body, kind::FETCH, "").is_ok();
        known |= message::decode::<Special>(&header(kind::SPECIAL), body, kind::SPECIAL, "").is_ok();
    });
    let limit = AT_LEAST + BYTES_PER_BYTE * body.len();
    assert!(took <= limit, "{took} bytes for {} that came", body.len());
    known
}

fn thread() -> Thread {
    Thread { extended: vec![1; 900], mask: 1 << 63, pending: vec![(12, vec![0; 128])], ..Thread::new(7) }
}

fn piece() -> Piece {
    Piece { start: 0x1000, end: 0x3000, protection: 3, stack: false, source: Some(0x9000) }
}

/// What the home says, one of each kind.
fn from_home() -> [FromHome; 10] {
    let hello = Hello {
        pid: 42,
        command: "work".to_owned(),
        boot_id: "0-1-2".to_owned(),
        clocks: (-5, i64::MAX),
        features: Features::default(),
        layout: xstate::Layout(vec![Component { number: 2, offset: 576, size: 256 }; 3]),
        vdso_digest: [7; 32],
        vdso_code: vec![0x7f; 100],
        vdso: (0x7fff_0000, 0x4000),
        workbench: 0x1_0000,
        files: vec![FileOffer { path: "/lib/x.so".to_owned(), size: 9, digest: [1; 32] }; 3],
        family: Some([3; 16]),
    };
    let source = Source::HostFile { file: 1, offset: 4096 };
    let area = Area {
        start: 0x1000,
        end: 0x2000,
        protection: 5,
        stack: false,
        file: true,
        shared: true,
        part: None,
        source,
    };
    let image = Image {
        threads: vec![thread(); 2],
        areas: vec![area; 5],
        objects: vec![0x4000],
        locked: vec![(0x1000, 0x2000); 2],
        reserved: (0x5000, 0x9000),
        borders: Borders::default(),
        auxv: vec![9; 320],
        actions: vec![Action { signal: 2, handler: 0x1000, flags: 4, restorer: 0x2000, mask: 1 }; 3],
        limits: vec![(3, 8 << 20)],
        cpu_us: (1, 2),
    };
    [
        FromHome::Hello(Box::new(hello), SessionSecret([5; 32])),
        FromHome::Enter { image: Box::new(image), first: 3 },
        FromHome::Signal { tid: 42, signal: 10, info: vec![1; 128] },
        FromHome::Precopy,
        FromHome::Recall,
        FromHome::Bye,
        FromHome::GetAll,
        FromHome::Run,
        FromHome::Collect { all: true },
        FromHome::End,
    ]
}

/// What the host says.
fn from_host() -> [FromHost; 9] {
    let state = Return { threads: vec![thread()], brk: 0x8000, cpu_us: (3, 4) };
    let leaving =
        Leaving { state, space: vec![piece(); 4], unmade: Vec::new(), locks: Vec::new(), behind: 3 };
    [
        FromHost::Prepared { files: vec![true, false], eager: false, same_machine: true, states: 7 },
        FromHost::Refused { reason: "no".to_owned() },
        FromHost::Running,
        FromHost::Homeward { reason: "fork".to_owned() },
        FromHost::Leaving(Box::new(leaving)),
        FromHost::HasAll,
        FromHost::Built,
        FromHost::Still,
        FromHost::Gone,
    ]
}

/// Messages of all kinds, encoded.
fn samples() -> Vec<Vec<u8>> {
    let special = [
        Special::Mask { mask: 5 },
        Special::MapFile { arguments: [1, 2, 3, 4, 5, u64::MAX] },
        Special::Proc { file: ProcFile::Maps { space: vec![piece(); 2], heap: (1, 2) }, flags: 0 },
        Special::Proc { file: ProcFile::Status { guest: "Name:\tx\n".to_owned() }, flags: 0 },
    ];
    let mut samples: Vec<Vec<u8>> = from_home().iter().map(message::encode).collect();
    samples.extend(from_host().iter().map(message::encode));
    samples.extend(special.iter().map(message::encode));
    samples.push(message::encode(&Fetch { address: 0x7f00_0000_1000, length: 65536 }));
    samples
}

/// A change to a message: where, in 65536ths of its length, and what.
#[derive(Debug, Clone)]
enum Change {
    Set(u16, u8),
    Cut(u16),
    Insert(u16, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    // Bytes with the top bit make numbers, and so counts and lengths, go on.
    let byte = prop_oneof![any::<u8>(), Just(0xff), Just(0x80), Just(0)];
    let bytes = prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        4 => (any::<u16>(), byte).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => any::<u16>().prop_map(Change::Cut),
        1 => (any::<u16>(), bytes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
    ]
}

fn apply(body: &mut Vec<u8>, change: &Change) {
    let length = body.len();
    let place = |at: u16| usize::from(at) * length / 65536;
    match change {
        Change::Set(at, byte) => {
            if let Some(old) = body.get_mut(place(*at)) {
                *old = *byte;
            }
        }
        Change::Cut(at) => body.truncate(place(*at)),
        Change::Insert(at, bytes) => {
            body.splice(place(*at)..place(*at), bytes.iter().copied());
        }
    }
}

#[test]
fn the_samples_are_messages() {
    assert!(samples().iter().all(|sample| decode(sample)));
}

#[test]
fn the_greatest_messages_keep_to_the_limit() {
    let limit = CONTROL_BODY_BYTES_MAX as usize;
    let leaving = |threads, space| {
        let state = Return { threads, brk: 0, cpu_us: (0, 0) };
        message::encode(&FromHost::Leaving(Box::new(Leaving {
            state,
            space,
            unmade: Vec::new(),
            locks: Vec::new(),
            behind: 0,
        })))
    };
    let small = Piece { start: 0, end: 0, protection: 0, stack: false, source: None };
    let thread = Thread { alt_stack: AltStack::default(), ..Thread::new(0) };
    let greatest = [
        leaving(
            vec![Thread { pending: vec![(0, Vec::new()); limit / 2 - 100], ..thread.clone() }],
            Vec::new(),
        ),
        leaving(Vec::new(), vec![small; limit / 5 - 100]),
        leaving(vec![thread; limit / 60], Vec::new()),
    ];
    for body in greatest {
        assert!(body.len() <= limit && body.len() > limit / 2, "{}", body.len());
        assert!(decode(&body));
    }
    // A count without anything behind it.
    for sample in samples() {
        for at in 0..sample.len().min(200) {
            decode(&[&sample[..at], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_a_message_or_are_refused(body in prop::collection::vec(any::<u8>(), 0..3000)) {
        decode(&body);
    }

    #[test]
    fn changed_messages_are_messages_or_are_refused(
        which in any::<prop::sample::Index>(), changes in prop::collection::vec(change(), 1..6)
    ) {
        let samples = samples();
        let mut body = samples[which.index(samples.len())].clone();
        changes.iter().for_each(|change| apply(&mut body, change));
        decode(&body);
    }

    #[test]
    fn any_bytes_are_a_preamble_or_are_refused(bytes: [u8; PREAMBLE_BYTES]) {
        let _ = Preamble::parse(&bytes);
    }
}
