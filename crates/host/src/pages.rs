//! The guest's memory: the thread that serves its faults, and the one that takes in the stream behind them.

use crate::fault::{Fault, Result};
use crate::guest::{Adoption, Guest, NewArea, Request, lock};
use crate::whole::Whole;
use minka_image::origin::{Origin, Origins};
use minka_image::process::{Image, Source};
use minka_image::ranges::Ranges;
use minka_image::{PAGE, TASK_SIZE};
use minka_kernel::courtesy::Courtesy;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::pagemap::Want;
use minka_kernel::spawn::wait_readable;
use minka_kernel::uffd::Event;
use minka_link::{Channel, Receiver, Sender};
use minka_wire::frame::Header;
use minka_wire::local::GuestMemory;
use minka_wire::message::{self, FIRST_MAX, Fetch, MessageError, kind};
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

/// Bytes fetched round a missing page at first.
const WINDOW_MIN: u64 = 64 << 10;
/// Bytes fetched at once when the guest walks through its memory.
const WINDOW_MAX: u64 = 1 << 20;
/// How long to poll for pages before sleeping.
const SPIN: Duration = Duration::from_micros(50);

/// How long the first pages may take, which are sent right behind the image.
const FIRST_LIMIT: Duration = Duration::from_secs(10);

static ZEROS: [u8; WINDOW_MIN as usize] = [0; WINDOW_MIN as usize];

/// Serves the guest's faults until the channel is closed. This thread must never touch the guest's memory but
/// through userfaultfd: it would wait for itself.
pub(crate) fn faults(guest: &Guest, channel: Channel, adoptions: &mpsc::Receiver<Adoption>) -> Result<()> {
    let mut channel = Lane::new(channel);
    let mut events = Vec::new();
    let mut pages = Vec::new();
    let (mut walk, mut writes) = (Walk::default(), Walk::default());
    let mut whole = Whole::default();
    loop {
        let watched = [guest.uffd.descriptor(), channel.receiver.as_fd(), guest.fault_bell.as_fd()];
        let pause = whole.pause(guest);
        let readable = wait_readable(&watched, pause).map_err(|error| Fault::Io("wait for faults", error))?;
        read(guest, &mut events)?;
        if readable[2] && events.is_empty() {
            // What was there before has been taken note of by now: every event of it came first.
            guest.fault_bell.quiet();
            while let Ok(Adoption { area, done }) = adoptions.try_recv() {
                // The tracer waits for this; if it has gone, nobody does.
                let _ = done.send(adopt(guest, area));
            }
        }
        if readable[1] && events.is_empty() {
            // Nothing was asked for, so this can only be the end of the channel.
            channel.receiver.recv(&mut pages, Duration::ZERO)?;
            return Err(Fault::Said("the home sent pages that nobody asked for".to_owned()));
        }
        for event in events.drain(..) {
            match event {
                Event::Fault { address } => {
                    guest.faults.fetch_add(1, Ordering::Relaxed);
                    serve(guest, &mut channel, &mut pages, &mut walk, address & !(PAGE - 1))?;
                }
                Event::Write { address } => let_write(guest, &mut writes, address & !(PAGE - 1))?,
                Event::Unmap { .. } | Event::Remove { .. } | Event::Remap { .. } => {}
            }
        }
        if whole.is_due(guest) {
            whole.step(guest, &mut channel, &mut pages)?;
        }
    }
}

/// Lets a thread go on that writes to a protected page: from now on that counts as written, and the more of those behind
/// it the longer the guest has been walking.
fn let_write(guest: &Guest, writes: &mut Walk, address: u64) -> Result<()> {
    let length = writes.window_from(address, PAGE);
    let (end, _) = lock(&guest.origins).of(address);
    writes.next = end.min(address + length);
    let uffd = &guest.uffd;
    // What lies behind may be another mapping. What is gone by now nobody writes to; while the layout changes the write is
    // told once more.
    let outcome = uffd.unprotect(address, writes.next - address).or_else(|_| uffd.unprotect(address, PAGE));
    outcome.or_else(|_| uffd.wake(address, PAGE)).map_err(|error| Fault::Io("let a thread write", error))
}

/// Reads what has happened. The guest goes on as soon as an event has been read, so it is recorded before anybody
/// else can look.
fn read(guest: &Guest, events: &mut Vec<Event>) -> Result<()> {
    let mut origins = lock(&guest.origins);
    guest.uffd.read(events).map_err(|error| Fault::Io("read faults", error))?;
    for event in events.iter() {
        match *event {
            Event::Fault { .. } | Event::Write { .. } => {}
            Event::Unmap { start, end } if guest.thread_count() > 1 => {
                // Another thread may have moved something there since, which has been told before.
                let mut now = Vec::new();
                let scanned = guest.pagemap.scan(start, end, Want::Tracked, |a, b| now.push((a, b)));
                scanned.map_err(|error| Fault::Io("look what is mapped", error))?;
                origins.unmapped_now(start, end, &now);
            }
            Event::Unmap { start, end } => origins.unmapped(start, end),
            Event::Remove { start, end } => origins.removed(start, end),
            Event::Remap { from, to, length } => origins.remapped(from, to, length),
        }
    }
    Ok(())
}

/// Serves new memory from now on: its pages are at home, in a file. Or takes note of what needs no service.
fn adopt(guest: &Guest, NewArea { start, end, file, .. }: NewArea) -> std::io::Result<()> {
    if file.is_some() {
        lock(&guest.origins).from_host_file(start, end);
        return Ok(());
    }
    guest.uffd.register(start, end - start)?;
    // Whatever the stream still brings for this place was read before.
    lock(&guest.adopted).set(start, end, ());
    lock(&guest.present).ranges.set(start, end, ());
    lock(&guest.files_at_home).set(start, end, ());
    lock(&guest.origins).from_home(start, end);
    Ok(())
}

/// The lane, in its halves: one is polled together with the userfaultfd.
pub(crate) struct Lane {
    sender: Sender,
    receiver: Receiver,
}

impl Lane {
    fn new(channel: Channel) -> Self {
        let (sender, receiver) = channel.split();
        Self { sender, receiver }
    }
}

/// How the guest walks: a miss right behind the last window doubles the next one.
#[derive(Debug, Default)]
struct Walk {
    next: u64,
    window: u64,
}

impl Walk {
    fn window(&mut self, address: u64) -> u64 {
        self.window_from(address, WINDOW_MIN)
    }

    fn window_from(&mut self, address: u64, smallest: u64) -> u64 {
        self.window = if address == self.next { (self.window * 2).min(WINDOW_MAX) } else { smallest };
        self.window
    }
}

/// What is to be put at a missing page.
enum Supply {
    Zeros { start: u64, end: u64 },
    Home { start: u64, end: u64, source: u64 },
}

fn serve(
    guest: &Guest,
    channel: &mut Lane,
    pages: &mut Vec<u8>,
    walk: &mut Walk,
    address: u64,
) -> Result<()> {
    let window = walk.window(address);
    let io = |error| Fault::Io("supply a page", error);
    let origins = lock(&guest.origins);
    match choose(guest, &origins, address, window) {
        Supply::Zeros { start, end } => {
            let copied = guest.uffd.copy(start, &ZEROS[..(end - start) as usize]).map_err(io)?;
            drop(origins);
            release(guest, address, start + copied.done)?;
        }
        Supply::Home { start, end, source } => {
            drop(origins);
            faultpoint::reach(Point::HostFault);
            let done = fetch(guest, channel, pages, (start, end), source)?;
            release(guest, address, start + done)?;
            guest.fetched.fetch_add(pages.len() as u64, Ordering::Relaxed);
            walk.next = end;
        }
    }
    Ok(())
}

/// Asks for the pages that are at `source` at home, and puts them in place, as far as they still belong there. Says how
/// far that got.
pub(crate) fn fetch(
    guest: &Guest,
    channel: &mut Lane,
    pages: &mut Vec<u8>,
    (start, end): (u64, u64),
    source: u64,
) -> Result<u64> {
    let fetch = Fetch { address: source, length: (end - start) as u32 };
    channel.sender.send(Header::new(kind::FETCH, 0), &[IoSlice::new(&message::encode(&fetch))])?;
    let header = channel.receiver.recv(pages, SPIN)?;
    if header.kind != kind::PAGES {
        return Err(MessageError::Kind { found: header.kind, expected: "pages" }.into());
    }
    if header.correlation != source || pages.len() as u64 != end - start {
        return Err(Fault::Said("the home sent other pages than it was asked for".to_owned()));
    }
    // Another thread may have unmapped or moved the memory meanwhile.
    let origins = lock(&guest.origins);
    let (same_end, origin) = origins.of(start);
    let length = same_end.min(end) - start;
    if origin != Origin::Home(source) {
        return Ok(0);
    }
    let copied = guest.uffd.copy(start, &pages[..length as usize]);
    Ok(copied.map_err(|error| Fault::Io("supply a page", error))?.done)
}

/// Gives a thread of the guest time to finish changing its memory. It may need this very processor: whoever yields it,
/// instead of sleeping, may get it back again and again, and the guest does not.
pub(crate) fn let_change() {
    const PAUSE: Duration = Duration::from_micros(50);
    std::thread::sleep(PAUSE);
}

/// Lets the thread that missed a page go on. If the page could not be put in place at this moment it misses it
/// again, and by then what was changing has been recorded.
fn release(guest: &Guest, address: u64, placed_to: u64) -> Result<()> {
    if placed_to <= address {
        let_change();
    }
    guest.uffd.wake(address, PAGE).map_err(|error| Fault::Io("wake a thread", error))
}

/// Where a page comes from, and how much round it is supplied with it.
fn choose(guest: &Guest, origins: &Origins, address: u64, window: u64) -> Supply {
    let (origin_end, origin) = origins.of(address);
    let present = lock(&guest.present);
    let far = origin_end.min((address & !(window - 1)) + window);
    match origin {
        Origin::Home(source) if present.complete => match present.ranges.get(source) {
            Some((present_end, ())) => {
                // A window never reaches back: what lies before has been walked through already.
                let end = far.min(present_end - source + address);
                Supply::Home { start: address, end, source }
            }
            None => {
                let hole_end = present.ranges.next_from(source).map_or(u64::MAX, |(next, _)| next);
                let end = far
                    .min(address + WINDOW_MIN)
                    .min(hole_end.saturating_sub(source).saturating_add(address));
                Supply::Zeros { start: address, end }
            }
        },
        Origin::Home(source) => Supply::Home { start: address, end: far, source },
        Origin::Zero | Origin::HostFile(_) => Supply::Zeros { start: address, end: address + PAGE },
    }
}

/// Takes in the pages that come with the image.
pub(crate) fn first(guest: &Guest, receiver: &mut Receiver, frames: u32) -> Result<()> {
    if frames > FIRST_MAX {
        return Err(Fault::Said(format!("the home announced {frames} frames of first pages")));
    }
    let mut body = Vec::new();
    for _ in 0..frames {
        let header = receiver
            .recv_timeout(&mut body, SPIN, FIRST_LIMIT)?
            .ok_or_else(|| Fault::Said(format!("no first pages came for {FIRST_LIMIT:?}")))?;
        if header.kind != kind::PAGES {
            return Err(MessageError::Kind { found: header.kind, expected: "pages" }.into());
        }
        place(guest, header.correlation, &body)?;
        guest.fetched.fetch_add(body.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Takes in what the home streams, until its end or the channel's.
pub(crate) fn stream(guest: &Guest, receiver: &mut Receiver) -> Result<()> {
    // Nobody waits for these pages, so they are not to take a processor from the guest.
    let mut courtesy = Courtesy::of_this_thread();
    let mut body = Vec::new();
    let mut streamed_bytes = 0;
    loop {
        let header = receiver.recv(&mut body, Duration::ZERO)?;
        match header.kind {
            kind::PRESENT => {
                let mut present = lock(&guest.present);
                for pair in body.chunks_exact(16) {
                    let word =
                        |at: usize| u64::from_le_bytes(pair[at..at + 8].try_into().expect("eight bytes"));
                    note(&mut present.ranges, word(0), word(8))?;
                }
            }
            kind::PRESENT_END => lock(&guest.present).complete = true,
            kind::PAGES => {
                place(guest, header.correlation, &body)?;
                faultpoint::reach(Point::HostStreamed);
                streamed_bytes += body.len() as u64;
                courtesy.give_way();
            }
            kind::END => {
                guest.streamed.store(true, Ordering::SeqCst);
                guest.fault_bell.ring();
                guest.ask(Request::Complete(GuestMemory {
                    faults: guest.faults.load(Ordering::Relaxed),
                    fetched_bytes: guest.fetched.load(Ordering::Relaxed),
                    streamed_bytes,
                    stream_us: guest.began.elapsed().as_micros() as u64,
                }));
                return Ok(());
            }
            found => return Err(MessageError::Kind { found, expected: "pages" }.into()),
        }
    }
}

/// Most ranges that are told apart: what is beyond counts as present, and is zeros when it is fetched.
const RANGES_MAX: usize = 1 << 20;

/// Notes that the home has the pages in a range.
fn note(ranges: &mut Ranges<()>, start: u64, end: u64) -> Result<()> {
    let whole = start.is_multiple_of(PAGE) && end.is_multiple_of(PAGE);
    if !whole || start >= end || end > TASK_SIZE {
        return Err(Fault::Said(format!("the home told of pages from {start:#x} to {end:#x}")));
    }
    let last = ranges.iter().next_back().map(|(_, end, ())| end);
    match last {
        Some(last) if ranges.len() >= RANGES_MAX && last < start => ranges.set(last, end, ()),
        _ => ranges.set(start, end, ()),
    }
    Ok(())
}

/// Takes in all pages before the guest runs, where its faults cannot be served; from then on writes are tracked.
pub(crate) fn fill(guest: &Guest, receiver: &mut Receiver, image: &Image) -> Result<()> {
    let mut body = Vec::new();
    loop {
        let header = receiver.recv(&mut body, Duration::ZERO)?;
        match header.kind {
            kind::PRESENT | kind::PRESENT_END => {}
            kind::PAGES => {
                let written = guest.memory.poke(header.correlation, &body);
                written.map_err(|error| Fault::Io("write a page into the guest", error))?;
            }
            kind::END => break,
            found => return Err(MessageError::Kind { found, expected: "pages" }.into()),
        }
    }
    guest.streamed.store(true, Ordering::SeqCst);
    for area in image.areas.iter().filter(|area| area.source == Source::Home) {
        let tracked = guest.uffd.protect(area.start, area.end - area.start);
        tracked.map_err(|error| Fault::Io("track the guest's writes", error))?;
    }
    guest.pagemap.forget_writes().map_err(|error| Fault::Io("track the guest's writes", error))
}

/// Puts streamed pages where they still belong. The lock is held so that the guest cannot have discarded or moved a
/// page between the look and the copy: its call waits until its event has been recorded. While such an event waits
/// to be read the kernel refuses copies, and the lock is given up so that it can be.
fn place(guest: &Guest, address: u64, content: &[u8]) -> Result<()> {
    if !address.is_multiple_of(PAGE) || !(content.len() as u64).is_multiple_of(PAGE) {
        return Err(Fault::Said("the home sent half a page".to_owned()));
    }
    let end = address.saturating_add(content.len() as u64);
    let mut at = address;
    while at < end {
        let origins = lock(&guest.origins);
        for (start, piece_end, origin) in origins.pieces(at, end) {
            at = piece_end;
            let is_new = || !lock(&guest.adopted).within(start, piece_end).is_empty();
            if origin == Some(Origin::Home(start)) && !is_new() {
                let content = &content[(start - address) as usize..(piece_end - address) as usize];
                let copied =
                    guest.uffd.copy(start, content).map_err(|error| Fault::Io("place a page", error))?;
                if copied.done < piece_end - start {
                    at = start + copied.done;
                    break;
                }
            }
        }
        drop(origins);
        if at < end {
            let_change();
        }
    }
    Ok(())
}
