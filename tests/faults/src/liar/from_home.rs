//! What a deputy might say to a host program: well formed, and wrong.

use minka_image::TASK_SIZE;
use minka_image::process::{Action, Area, Image, Rseq, Source};
use minka_image::xstate::{Component, Layout};
use minka_wire::frame::Header;
use minka_wire::message::{self, FileOffer, FromHome, Hello, kind};
use minka_wire::preamble::Lane;

use super::lane::Frame;
use super::plan::{Lie, Tell, Then, To, When, say};
use crate::journey::May::{self, BeEither, NotBe};
use crate::journey::{ENDED, UNHARMED};

const HELLO: When = When { to: To::Host, lane: Lane::Control, kind: kind::FROM_HOME, number: 1 };
const ENTER: When = When { number: 2, ..HELLO };
const PRECOPY: When = When { number: 3, ..HELLO };
const RESULT: When = When { to: To::Host, lane: Lane::Calls, kind: kind::RESULT, number: 1 };
const PAGES: When = When { to: To::Host, lane: Lane::Faults, kind: kind::PAGES, number: 1 };
const FIRST: When = When { lane: Lane::Stream, ..PAGES };
const PRESENT: When = When { to: To::Host, lane: Lane::Stream, kind: kind::PRESENT, number: 1 };

fn lie(name: &str, when: When, (quiet, chatty): (May, May), tell: Tell) -> Lie {
    Lie { name: format!("home: {name}"), to: To::Host, quiet, chatty, harmless: false, when, tell }
}

pub(super) fn lies() -> Vec<Lie> {
    [offers(), images(), early(), results(), memory()].into_iter().flatten().collect()
}

/// What is wrong, and how it comes about.
type Change<T> = (&'static str, fn(&mut T));

fn offer(change: fn(&mut Hello)) -> Tell {
    Box::new(move |frame, _| {
        let mut said = of(frame);
        if let FromHome::Hello(hello, _) = &mut said {
            change(hello);
        }
        (say(kind::FROM_HOME, &said), Then::GoOn)
    })
}

fn file(path: &str) -> FileOffer {
    FileOffer { path: path.to_owned(), size: 1, digest: [0; 32] }
}

fn offers() -> Vec<Lie> {
    let wrong: [Change<Hello>; 18] = [
        ("process 0", |hello| hello.pid = 0),
        ("process -1", |hello| hello.pid = -1),
        ("the process after the last", |hello| hello.pid = i32::MAX),
        ("the first process", |hello| hello.pid = 1),
        ("a place for the workbench at 0", |hello| hello.workbench = 0),
        ("a place between pages", |hello| hello.workbench += 17),
        ("a place beyond the end", |hello| hello.workbench = TASK_SIZE - 4096),
        ("a place beyond all ends", |hello| hello.workbench = u64::MAX),
        ("a place where the vDSO is", |hello| hello.workbench = hello.vdso.0),
        ("a vDSO at 0", |hello| hello.vdso.0 = 0),
        ("a vDSO between pages", |hello| hello.vdso.0 += 17),
        ("a vDSO beyond the end", |hello| hello.vdso.0 = u64::MAX),
        ("another kernel without a vDSO", |hello| {
            hello.vdso_digest[0] ^= 1;
            hello.vdso_code.clear();
        }),
        ("another kernel with a vDSO that is none", |hello| {
            hello.vdso_digest[0] ^= 1;
            hello.vdso_code.fill(0x90);
        }),
        ("another kernel with a vDSO without end", |hello| {
            hello.vdso_digest[0] ^= 1;
            hello.vdso_code.resize(2 << 20, 0);
        }),
        ("another kernel's vDSO where the workbench is", |hello| {
            hello.vdso_digest[0] ^= 1;
            hello.vdso.0 = hello.workbench;
        }),
        ("another kernel's vDSO between pages", |hello| {
            hello.vdso_digest[0] ^= 1;
            hello.vdso.0 += 17;
        }),
        ("a machine from another time", |hello| {
            (hello.boot_id, hello.clocks) = ("elsewhere".to_owned(), (i64::MIN, i64::MAX));
        }),
    ];
    let mut lies: Vec<Lie> = wrong
        .map(|(name, change)| lie(&format!("it offers {name}"), HELLO, (UNHARMED, NotBe), offer(change)))
        .into();
    let odd: [Change<Hello>; 5] = [
        ("extended registers beyond the end", |hello| {
            hello.layout.0.iter_mut().for_each(|component| component.offset = u32::MAX);
        }),
        ("a hundred thousand extended registers", |hello| {
            hello.layout = Layout(vec![Component { number: u32::MAX, offset: 0, size: u32::MAX }; 100_000]);
        }),
        ("devices for files", |hello| {
            hello
                .files
                .extend(["/dev/zero", "/dev/random", "/proc/self/mem", "/proc/kmsg", "/", ""].map(file));
        }),
        ("a file over and over", |hello| hello.files = vec![file("/proc/version"); 15_000]),
        ("a name without end", |hello| hello.command = "\n\u{1b}".repeat(200_000)),
    ];
    // These may even go well: nobody is hurt by them.
    lies.extend(odd.map(|(name, change)| {
        lie(&format!("it offers {name}"), HELLO, (BeEither, NotBe), offer(change)).harmless()
    }));
    lies
}

fn image(change: fn(&mut Image)) -> Tell {
    Box::new(move |frame, _| {
        let mut said = of(frame);
        if let FromHome::Enter { image, .. } = &mut said {
            change(image);
        }
        (say(kind::FROM_HOME, &said), Then::GoOn)
    })
}

fn area(image: &mut Image, start: u64, end: u64) {
    image.areas.push(Area {
        start,
        end,
        protection: 7,
        stack: false,
        file: false,
        shared: false,
        part: None,
        source: Source::Home,
    });
}

fn images() -> Vec<Lie> {
    let wrong: [Change<Image>; 30] = [
        ("no thread", |image| image.threads.clear()),
        ("two threads", |image| image.threads.push(image.threads[0].clone())),
        ("another thread", |image| image.threads[0].tid += 1),
        ("no extended registers", |image| image.threads[0].extended.clear()),
        ("wrong ones", |image| image.threads[0].extended.fill(0xff)),
        ("far too many of them", |image| image.threads[0].extended.resize(900_000, 0)),
        ("kernel mode", |image| image.threads[0].registers.cs = 0x10),
        ("rseq for another kernel", |image| {
            image.threads[0].rseq = Some(Rseq { address: 0x17, length: 3, signature: 0 });
        }),
        ("an alternate stack of one byte", |image| {
            (image.threads[0].alt_stack.flags, image.threads[0].alt_stack.size) = (0, 1);
        }),
        ("memory back to front", |image| area(image, 0x9_0000, 0x8_0000)),
        ("memory of no length", |image| area(image, 0x9_0000, 0x9_0000)),
        ("half a page", |image| area(image, 0x9_0000, 0x9_0800)),
        ("memory between pages", |image| area(image, 0x9_0010, 0x9_1010)),
        ("the kernel's memory", |image| area(image, 0xffff_8000_0000_0000, 0xffff_8000_0000_1000)),
        ("all memory", |image| area(image, 0, !4095)),
        ("memory twice", |image| image.areas.push(image.areas[0])),
        ("memory over the vDSO", |image| {
            let vdso = u64::from_le_bytes(auxiliary(&image.auxv, 33));
            area(image, vdso, vdso + 4096);
        }),
        ("a file that there is none of", |image| {
            image.areas[0].source = Source::HostFile { file: u32::MAX, offset: 0 };
        }),
        ("a file from between its pages", |image| {
            image.areas[0].source = Source::HostFile { file: 0, offset: 17 };
        }),
        ("twenty thousand areas", |image| image.areas = vec![image.areas[0]; 20_000]),
        ("room for the home back to front", |image| image.reserved = (image.reserved.1, image.reserved.0)),
        ("all room for the home", |image| image.reserved = (0x1_0000, TASK_SIZE)),
        ("signal 0", |image| image.actions.push(action(0))),
        ("signal 200", |image| image.actions.push(action(200))),
        ("a handler for SIGKILL", |image| image.actions.push(action(9))),
        ("signal 0 pending", |image| image.threads[0].pending.push((0, vec![0; 128]))),
        ("signal 65 pending", |image| image.threads[0].pending.push((65, vec![0; 128]))),
        ("the signal before the first pending", |image| {
            image.threads[0].pending.push((i32::MIN, vec![0; 128]))
        }),
        ("half a signal pending", |image| image.threads[0].pending.push((10, vec![0; 3]))),
        ("a limit of nothing that there is", |image| image.limits.push((4_000, 1))),
    ];
    let name = |name| format!("its image has {name}");
    let mut lies: Vec<Lie> =
        wrong.map(|(what, change)| lie(&name(what), ENTER, (UNHARMED, UNHARMED), image(change))).into();
    let more: [Change<Image>; 3] = [
        ("an auxiliary vector without end", |image| image.auxv.resize(700_000, 1)),
        ("borders in nowhere", |image| (image.borders.brk, image.borders.start_code) = (u64::MAX, u64::MAX)),
        ("handlers without end", |image| image.actions = vec![action(10); 20_000]),
    ];
    lies.extend(more.map(|(what, change)| lie(&name(what), ENTER, (UNHARMED, UNHARMED), image(change))));
    lies
}

fn action(signal: u8) -> Action {
    Action { signal, handler: 0x1000, flags: 0x0400_0000, restorer: 0x1000, mask: 0 }
}

/// The value of an entry of the auxiliary vector.
fn auxiliary(vector: &[u8], key: u64) -> [u8; 8] {
    let entry = vector.chunks_exact(16).find(|entry| entry[..8] == key.to_le_bytes());
    entry.and_then(|entry| entry[8..].first_chunk().copied()).unwrap_or_default()
}

/// Messages out of their order.
fn early() -> Vec<Lie> {
    let instead =
        |message: FromHome| -> Tell { Box::new(move |_, _| (say(kind::FROM_HOME, &message), Then::GoOn)) };
    let too = |message: FromHome, times: usize| -> Tell {
        Box::new(move |frame, _| {
            let more = say(kind::FROM_HOME, &message).repeat(times);
            ([frame.bytes(), more].concat(), Then::GoOn)
        })
    };
    let signal = |signal, length| FromHome::Signal { tid: 1, signal, info: vec![0; length] };
    // What is wanted early may be on its way already when the lie is told.
    let (before, after, late) = ((UNHARMED, NotBe), (UNHARMED, BeEither), (BeEither, BeEither));
    vec![
        lie("it recalls what it has not offered", HELLO, before, instead(FromHome::Recall)),
        lie("it recalls what it has not sent", ENTER, (UNHARMED, UNHARMED), instead(FromHome::Recall)),
        lie("it says goodbye at once", HELLO, before, instead(FromHome::Bye)),
        lie("it sends signal 0", ENTER, after, too(signal(0, 128), 1)),
        lie("it sends signal 1000", ENTER, after, too(signal(1000, 128), 1)),
        lie("it sends half a signal", ENTER, after, too(signal(10, 3), 1)),
        lie("it sends signals without end", ENTER, after, too(signal(40, 128), 40_000)),
        lie(
            "it has all pages got a thousand times",
            ENTER,
            (UNHARMED, UNHARMED),
            too(FromHome::GetAll, 1_000),
        )
        .harmless(),
        lie("it wants all pages early a thousand times", PRECOPY, late, too(FromHome::Precopy, 1_000)),
    ]
}

fn results() -> Vec<Lie> {
    let reply = |result: i64, count: u32, bytes: usize| -> Tell {
        Box::new(move |frame, _| {
            let mut body = result.to_le_bytes().to_vec();
            body.extend(u64::from(count).to_le_bytes());
            body.resize(body.len() + bytes, 0);
            (frame.with(body).bytes(), Then::GoOn)
        })
    };
    let may = (NotBe, ENDED);
    vec![
        lie("it returns more than a call can", RESULT, may, reply(100, 1, 8 + 100)),
        lie("it returns outputs without number", RESULT, may, reply(100, u32::MAX, 64)),
        lie("it returns bytes that belong nowhere", RESULT, may, reply(100, 0, 10_000)),
    ]
}

fn memory() -> Vec<Lie> {
    let page = |address: u64, length: usize| {
        Frame { header: Header::new(kind::PAGES, address), body: Vec::new() }.with(vec![0; length]).bytes()
    };
    let instead =
        |address: u64, length: usize| -> Tell { Box::new(move |_, _| (page(address, length), Then::GoOn)) };
    let range = |start: u64, end: u64| -> Tell {
        Box::new(move |frame, _| {
            (frame.with([start.to_le_bytes(), end.to_le_bytes()].concat()).bytes(), Then::GoOn)
        })
    };
    let streamed = |address: u64, length: usize| -> Tell {
        Box::new(move |frame, _| ([frame.bytes(), page(address, length)].concat(), Then::GoOn))
    };
    let twice: Tell = Box::new(|frame, _| ([frame.bytes(), frame.bytes()].concat(), Then::GoOn));
    // Who touches little memory may miss none of it.
    let (missed, first, later) = ((UNHARMED, NotBe), (UNHARMED, UNHARMED), (UNHARMED, BeEither));
    vec![
        lie("it sends other pages", PAGES, missed, instead(0x1000, 4096)),
        lie("it sends pages of the kernel", PAGES, missed, instead(0xffff_8000_0000_0000, 4096)),
        lie("it sends half a page first", FIRST, first, instead(0x1000, 100)),
        lie("it announces first pages without end", ENTER, first, announce(u32::MAX)),
        lie("it announces more first pages than there are", ENTER, first, announce(60)),
        lie("it sends pages that nobody asked for", PAGES, missed, twice),
        lie("it has memory back to front", PRESENT, later, range(0x9000, 0x8000)),
        lie("it has half a page", PRESENT, later, range(0x9000, 0x9800)),
        lie(
            "it has the kernel's memory",
            PRESENT,
            later,
            range(0xffff_8000_0000_0000, 0xffff_8000_0000_1000),
        ),
        lie("it streams half a page", PRESENT, later, streamed(0x1000, 100)),
        lie("it streams pages between pages", PRESENT, later, streamed(0x1234, 4096)),
        // Where the guest has nothing, nothing is put.
        lie("it streams pages for nobody", PRESENT, first, streamed(0x1000, 4096)).harmless(),
        lie("it streams pages of the kernel", PRESENT, first, streamed(0xffff_8000_0000_0000, 4096))
            .harmless(),
        lie("it streams pages beyond all ends", PRESENT, first, streamed(u64::MAX - 4095, 8192)).harmless(),
    ]
}

/// Sends an image with another number of frames of first pages.
fn announce(frames: u32) -> Tell {
    Box::new(move |frame, _| {
        let mut said = of(frame);
        if let FromHome::Enter { first, .. } = &mut said {
            *first = frames;
        }
        (say(kind::FROM_HOME, &said), Then::GoOn)
    })
}

/// What a frame says.
fn of(frame: &Frame) -> FromHome {
    message::decode(&frame.header, &frame.body, kind::FROM_HOME, "a message")
        .expect("a home that does not lie")
}
