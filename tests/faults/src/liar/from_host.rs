//! What a host might say to a deputy: well formed, and wrong.

use minka_image::TASK_SIZE;
use minka_wire::frame::Header;
use minka_wire::message::{self, ASKS, BEHIND, FETCH_MAX, Fetch, FromHost, Leaving, Piece, kind};
use minka_wire::preamble::Lane;

use super::lane::Frame;
use super::plan::{Lie, Tell, Then, To, When, say};
use crate::journey::May::{self, BeEither, NotBe};
use crate::journey::{ENDED, UNHARMED};

const PREPARED: When = When { to: To::Home, lane: Lane::Control, kind: kind::FROM_HOST, number: 1 };
const RUNNING: When = When { number: 2, ..PREPARED };
const CALL: When = When { to: To::Home, lane: Lane::Calls, kind: kind::CALL, number: 1 };
const FETCH: When = When { to: To::Home, lane: Lane::Faults, kind: kind::FETCH, number: 1 };
const LEAVING: When = When { to: To::Home, lane: Lane::Stream, kind: kind::FROM_HOST, number: 1 };

fn lie(name: &str, when: When, (quiet, chatty): (May, May), tell: Tell) -> Lie {
    Lie { name: format!("host: {name}"), to: To::Home, quiet, chatty, harmless: false, when, tell }
}

pub(super) fn lies() -> Vec<Lie> {
    [before(), away(), calls(), fetches(), leaving(), pages()].into_iter().flatten().collect()
}

/// Says something else.
fn instead(message: FromHost) -> Tell {
    Box::new(move |_, _| (say(kind::FROM_HOST, &message), Then::GoOn))
}

fn before() -> Vec<Lie> {
    let files = |change: fn(&mut Vec<bool>)| -> Tell {
        Box::new(move |frame, _| {
            let mut said: FromHost = of(frame);
            if let FromHost::Prepared { files, .. } = &mut said {
                change(files);
            }
            (say(kind::FROM_HOST, &said), Then::GoOn)
        })
    };
    let may = (UNHARMED, NotBe);
    let words = "\u{1b}[2Jno\n".repeat(10_000);
    vec![
        lie("it has no file of those offered, not even none", PREPARED, may, files(Vec::clear)).harmless(),
        lie("it has more files than were offered", PREPARED, may, files(|files| files.resize(100_000, true)))
            .harmless(),
        lie("it refuses at length", PREPARED, may, instead(FromHost::Refused { reason: words })),
        lie("it runs what it does not have", PREPARED, may, instead(FromHost::Running)),
        lie("it prepares twice", RUNNING, (UNHARMED, BeEither), prepared_again()),
    ]
}

fn prepared_again() -> Tell {
    instead(FromHost::Prepared { files: Vec::new(), eager: true, same_machine: true, states: 0 })
}

/// Says something in addition, so and so often.
fn too(message: FromHost, times: usize) -> Tell {
    Box::new(move |frame, _| {
        let more = say(kind::FROM_HOST, &message).repeat(times);
        ([frame.bytes(), more].concat(), Then::GoOn)
    })
}

fn away() -> Vec<Lie> {
    let may = (UNHARMED, BeEither);
    let empty = || {
        FromHost::Leaving(Box::new(Leaving {
            state: nothing(),
            space: Vec::new(),
            unmade: Vec::new(),
            locks: Vec::new(),
            behind: 0,
        }))
    };
    let homeward = FromHost::Homeward { reason: "\u{7}home".repeat(50_000) };
    vec![
        lie("it runs twice", RUNNING, may, too(FromHost::Running, 1)),
        lie("it fails and runs", RUNNING, may, too(FromHost::Failed { reason: "no".to_owned() }, 1)),
        lie("it leaves unasked", RUNNING, may, too(empty(), 1)),
        lie(
            "it takes signals that nobody sent",
            RUNNING,
            (UNHARMED, UNHARMED),
            too(FromHost::SignalTaken, 5_000),
        )
        .harmless(),
        lie(
            "it has all that nobody asked it to get",
            RUNNING,
            (UNHARMED, UNHARMED),
            too(FromHost::HasAll, 1_000),
        )
        .harmless(),
        lie("it wants to go home over and over", RUNNING, (UNHARMED, UNHARMED), too(homeward, 40)),
    ]
}

/// The state of no process.
fn nothing() -> minka_image::process::Return {
    minka_image::process::Return { threads: Vec::new(), brk: 0, cpu_us: (0, 0) }
}

/// Another call than the one that the guest makes.
fn call(number: u32, arguments: [u64; 6], blocks: usize) -> Tell {
    Box::new(move |frame, _| {
        let mut body = vec![0; 8];
        body[..4].copy_from_slice(&number.to_le_bytes());
        arguments.iter().for_each(|argument| body.extend(argument.to_le_bytes()));
        body.resize(body.len() + blocks, 0x41);
        (frame.with(body).bytes(), Then::GoOn)
    })
}

/// The same, as a write of which its thread was told that it had been made; `data` follow, as so many bytes in a frame of their own.
fn behind(number: u32, arguments: [u64; 6], blocks: usize, data: Option<usize>) -> Tell {
    let call = call(number, arguments, blocks);
    Box::new(move |frame, state| {
        let header = Header { flags: frame.header.flags | BEHIND | ASKS, ..frame.header };
        let (mut said, then) = call(&Frame { header, ..frame.clone() }, state);
        if let Some(bytes) = data {
            let header = Header { kind: kind::DATA, flags: 0, ..header };
            said.extend(Frame { header, ..frame.clone() }.with(vec![0x41; bytes]).bytes());
        }
        (said, then)
    })
}

fn calls() -> Vec<Lie> {
    let may = (NotBe, UNHARMED);
    let all = u64::MAX;
    vec![
        lie("it maps memory over everything", CALL, may, call(9, [0x1000, all, 7, 0x32, all, 0], 0)),
        lie("it unmaps everything", CALL, may, call(11, [0, TASK_SIZE, 0, 0, 0, 0], 0)),
        lie("it traces", CALL, may, call(101, [16, 1, 0, 0, 0, 0], 0)),
        lie("it forks", CALL, may, call(57, [0; 6], 0)),
        lie("it makes a call that there is none of", CALL, may, call(4_000, [0; 6], 0)),
        lie("it writes less than it says", CALL, may, call(1, [1, 0x1000, 100_000, 0, 0, 0], 10)),
        lie("it writes more than it says", CALL, may, call(1, [1, 0x1000, 1, 0, 0, 0], 100_000)),
        lie("it has another call than a write made behind", CALL, may, behind(39, [0; 6], 0, None)),
        lie("it announces more than may come", CALL, may, behind(1, [1, 0x1000, all, 0, 0, 0], 0, Some(10))),
        lie(
            "it sends more than it has announced",
            CALL,
            may,
            behind(1, [1, 0x1000, 10, 0, 0, 0], 0, Some(3_000_000)),
        ),
        lie("it has vectors without number", CALL, may, call(20, [1, 0x1000, all, 0, 0, 0], 16)),
    ]
}

fn fetches() -> Vec<Lie> {
    // Who touches little memory may miss none of it.
    let may = (UNHARMED, NotBe);
    let wrong = [
        ("no pages", 0x1000, 0),
        ("half a page", 0x1000, 2048),
        ("pages between pages", 0x1234, 4096),
        ("too many pages", 0x1000, FETCH_MAX + 4096),
        ("all pages", 0x1000, !4095),
        ("pages of the kernel", 0xffff_8000_0000_0000, 4096),
        ("pages beyond the end", TASK_SIZE - 4096, 8192),
        ("pages beyond all ends", u64::MAX - 4095, 4096),
        // It is a home's to say what is there; the guest never hears of it.
        ("pages that nobody misses", 0x1000, 4096),
    ];
    let tell = |address, length| -> Tell {
        Box::new(move |_, _| (say(kind::FETCH, &Fetch { address, length }), Then::GoOn))
    };
    wrong
        .map(|(name, address, length)| lie(&format!("it misses {name}"), FETCH, may, tell(address, length)))
        .into()
}

/// What is wrong, and how it comes about, with a look at what the home keeps for itself.
type Change = (&'static str, fn(&mut Leaving, (u64, u64)));

/// Leaves with something changed.
fn left(change: fn(&mut Leaving, (u64, u64))) -> Tell {
    Box::new(move |frame, reserved| {
        let mut said: FromHost = of(frame);
        if let FromHost::Leaving(leaving) = &mut said {
            change(leaving, reserved);
        }
        (say(kind::FROM_HOST, &said), Then::GoOn)
    })
}

fn piece(leaving: &mut Leaving, start: u64, end: u64, source: Option<u64>) {
    leaving.space.push(Piece { start, end, protection: 7, stack: false, source });
}

fn leaving() -> Vec<Lie> {
    let wrong: [Change; 20] = [
        ("without a thread", |leaving, _| leaving.state.threads.clear()),
        ("with two threads", |leaving, _| leaving.state.threads.push(leaving.state.threads[0].clone())),
        ("with a thousand threads", |leaving, _| {
            leaving.state.threads = vec![leaving.state.threads[0].clone(); 100];
        }),
        ("without extended registers", |leaving, _| leaving.state.threads[0].extended.clear()),
        ("with half of them", |leaving, _| leaving.state.threads[0].extended.truncate(300)),
        ("with wrong ones", |leaving, _| leaving.state.threads[0].extended.fill(0xff)),
        ("in kernel mode", |leaving, _| leaving.state.threads[0].registers.cs = 0x10),
        ("with a break in nowhere", |leaving, _| leaving.state.brk = u64::MAX),
        ("with memory back to front", |leaving, _| piece(leaving, 0x9000, 0x8000, None)),
        ("with memory of no length", |leaving, _| piece(leaving, 0x9000, 0x9000, None)),
        ("with half a page", |leaving, _| piece(leaving, 0x8000, 0x8800, None)),
        ("with the kernel's memory", |leaving, _| {
            piece(leaving, 0xffff_8000_0000_0000, 0xffff_8000_0000_1000, None)
        }),
        ("with the home's own memory", |leaving, (start, end)| piece(leaving, start, end, None)),
        ("with memory out of the home's own", |leaving, (start, _)| {
            piece(leaving, 0x7000_0000_0000, 0x7000_0000_1000, Some(start));
        }),
        ("with signal 0", |leaving, _| leaving.state.threads[0].pending.push((0, vec![0; 128]))),
        ("with signal 65", |leaving, _| leaving.state.threads[0].pending.push((65, vec![0; 128]))),
        ("with the signal before the first", |leaving, _| {
            leaving.state.threads[0].pending.push((i32::MIN, vec![0; 128]))
        }),
        ("with half a signal", |leaving, _| leaving.state.threads[0].pending.push((10, vec![0; 3]))),
        ("with too much of a signal", |leaving, _| {
            leaving.state.threads[0].pending.push((10, vec![0; 70_000]))
        }),
        ("with writes that never came", |leaving, _| leaving.behind = u64::MAX),
    ];
    wrong
        .map(|(name, change)| lie(&format!("it leaves {name}"), LEAVING, (ENDED, ENDED), left(change)))
        .into()
}

/// Behind the state, pages for this address.
fn pages() -> Vec<Lie> {
    type Place = fn((u64, u64)) -> u64;
    let wrong: [(&str, Place, usize); 8] = [
        ("over the home's own memory", |(start, _)| start, 4096),
        ("into the end of it", |(_, end)| end - 4096, 8192),
        ("up to it and further", |(start, _)| start - 4096, 8192),
        ("for the kernel", |_| 0xffff_8000_0000_0000, 4096),
        ("where there is none", |_| 0x5000, 4096),
        ("of no length", |_| 0x5000, 0),
        ("beyond the end", |_| TASK_SIZE - 4096, 8192),
        ("beyond all ends", |_| u64::MAX - 4095, 8192),
    ];
    let tell = |place: Place, length: usize| -> Tell {
        Box::new(move |frame, reserved| {
            let header = Header::new(kind::PAGES, place(reserved));
            let page = Frame { header, body: Vec::new() }.with(vec![0; length]).bytes();
            ([frame.bytes(), page].concat(), Then::GoOn)
        })
    };
    wrong
        .map(|(name, place, length)| {
            lie(&format!("it sends memory {name}"), LEAVING, (ENDED, ENDED), tell(place, length))
        })
        .into()
}

/// What a frame says.
fn of(frame: &Frame) -> FromHost {
    message::decode(&frame.header, &frame.body, kind::FROM_HOST, "a message")
        .expect("a host that does not lie")
}
