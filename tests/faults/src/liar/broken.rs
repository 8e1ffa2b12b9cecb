//! Frames that are none, in every place of a session where one is due.

use minka_wire::frame::{BULK_BODY_BYTES_MAX, CONTROL_BODY_BYTES_MAX, Header, body_bytes_max};
use minka_wire::message::kind;
use minka_wire::preamble::Lane;

use super::fuzz::Noise;
use super::lane::Frame;
use super::plan::{Lie, Then, To, When};
use crate::journey::May::{self, BeEither, NotBe};
use crate::journey::{ENDED, UNHARMED};

/// A place: its name, where it is, and what may come of a frame there that is none, quietly or not; and of silence.
type Place = (&'static str, When, (May, May), (May, May));

const fn when(to: To, lane: Lane, kind: u16, number: u32) -> When {
    When { to, lane, kind, number }
}

const PLACES: [Place; 16] = {
    use Lane::{Calls, Control, Faults, Stream};
    use To::{Home, Host};
    // Nobody tells a silent host from one that computes, until the process is to come home.
    [
        ("prepared", when(Home, Control, kind::FROM_HOST, 1), (UNHARMED, NotBe), (UNHARMED, NotBe)),
        ("running", when(Home, Control, kind::FROM_HOST, 2), (UNHARMED, BeEither), (UNHARMED, BeEither)),
        ("call", when(Home, Calls, kind::CALL, 1), (NotBe, UNHARMED), (NotBe, ENDED)),
        ("call 20", when(Home, Calls, kind::CALL, 20), (NotBe, ENDED), (NotBe, ENDED)),
        ("fetch", when(Home, Faults, kind::FETCH, 1), (UNHARMED, NotBe), (UNHARMED, NotBe)),
        // What the host hears of it may reach home sooner than the first page is written there.
        ("precopied", when(Home, Stream, kind::PRECOPIED, 1), (BeEither, BeEither), (BeEither, BeEither)),
        ("leaving", when(Home, Stream, kind::FROM_HOST, 1), (ENDED, ENDED), (ENDED, ENDED)),
        ("last page", when(Home, Stream, kind::END, 1), (ENDED, ENDED), (ENDED, ENDED)),
        ("hello", when(Host, Control, kind::FROM_HOME, 1), (UNHARMED, NotBe), (UNHARMED, NotBe)),
        ("enter", when(Host, Control, kind::FROM_HOME, 2), (UNHARMED, UNHARMED), (UNHARMED, UNHARMED)),
        ("precopy", when(Host, Control, kind::FROM_HOME, 3), (UNHARMED, BeEither), (UNHARMED, BeEither)),
        ("recall", when(Host, Control, kind::FROM_HOME, 4), (ENDED, ENDED), (ENDED, ENDED)),
        ("result", when(Host, Calls, kind::RESULT, 1), (NotBe, ENDED), (NotBe, NotBe)),
        ("pages", when(Host, Faults, kind::PAGES, 1), (UNHARMED, NotBe), (UNHARMED, NotBe)),
        ("first pages", when(Host, Stream, kind::PAGES, 1), (UNHARMED, UNHARMED), (UNHARMED, UNHARMED)),
        ("present", when(Host, Stream, kind::PRESENT, 1), (UNHARMED, BeEither), (UNHARMED, UNHARMED)),
    ]
};

type Break = (&'static str, fn(&Frame) -> (Vec<u8>, Then));

/// Frames that only their meaning gives away.
const MEANINGLESS: [Break; 5] = [
    ("scrambled", |frame| (frame.with(Noise::new(8).bytes(frame.body.len().max(9))).bytes(), Then::GoOn)),
    ("empty", |frame| {
        let body = if frame.body.is_empty() { vec![0] } else { Vec::new() };
        (frame.with(body).bytes(), Then::GoOn)
    }),
    ("longest", |frame| {
        let length = body_bytes_max(frame.header.kind) as usize;
        (frame.with(vec![0xff; length]).bytes(), Then::GoOn)
    }),
    ("of another kind", |frame| {
        let kind = frame.header.kind ^ 0x40;
        (Frame { header: Header { kind, ..frame.header }, body: frame.body.clone() }.bytes(), Then::GoOn)
    }),
    ("a goodbye", |_| (Vec::new(), Then::Goodbye)),
];

/// What is no frame. All lanes are read by the same code, so that not everything has to be tried everywhere.
const SHAPELESS: [Break; 6] = [
    ("garbage", |_| (Noise::new(7).bytes(64), Then::GoOn)),
    ("too long", |frame| {
        let length = body_bytes_max(frame.header.kind) + 1;
        (Header { length, ..frame.header }.encode().to_vec(), Then::GoOn)
    }),
    ("endless", |frame| (Header { length: u32::MAX, ..frame.header }.encode().to_vec(), Then::GoOn)),
    ("of another version", |frame| {
        let mut bytes = frame.bytes();
        bytes[4] ^= 2;
        (bytes, Then::GoOn)
    }),
    ("a piece of a header", |frame| (frame.bytes()[..10].to_vec(), Then::Cut)),
    ("a piece of a body", |frame| {
        let length = frame.header.length + 100;
        let head = Header { length, ..frame.header }.encode();
        ([&head[..], &frame.body].concat(), Then::Goodbye)
    }),
];

const _: () = assert!(CONTROL_BODY_BYTES_MAX < BULK_BODY_BYTES_MAX && BULK_BODY_BYTES_MAX < u32::MAX);

pub(super) fn lies() -> Vec<Lie> {
    let mut lies = Vec::new();
    for (number, (place, when, (quiet, chatty), (left_quiet, left_chatty))) in PLACES.into_iter().enumerate()
    {
        let shapeless = [SHAPELESS[number % SHAPELESS.len()]];
        for (how, tell) in MEANINGLESS.into_iter().chain(shapeless) {
            // What has no meaning is not looked at; and what is in which page is the program's own affair.
            let skipped = match when.kind {
                kind::END | kind::PRECOPIED => matches!(how, "scrambled" | "empty" | "longest"),
                kind::PAGES if when.lane == Lane::Stream => matches!(how, "scrambled" | "longest" | "empty"),
                kind::PAGES => how == "scrambled",
                kind::PRESENT => how == "empty",
                _ => false,
            };
            if skipped {
                continue;
            }
            let tell = Box::new(move |frame: &Frame, _: (u64, u64)| tell(frame));
            let name = format!("{place}: {how}");
            lies.push(Lie { name, to: when.to, quiet, chatty, harmless: false, when, tell });
        }
        let tell = Box::new(|_: &Frame, _: (u64, u64)| (Vec::new(), Then::Silence));
        let name = format!("{place}: silence");
        lies.push(Lie {
            name,
            to: when.to,
            quiet: left_quiet,
            chatty: left_chatty,
            harmless: true,
            when,
            tell,
        });
    }
    lies
}
