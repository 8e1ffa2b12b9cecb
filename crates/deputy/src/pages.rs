//! The threads that serve a guest's memory: its missing pages, the stream behind them, and what comes home early.

use crate::fault::{Fault, Result};
use crate::giveback;
use crate::homecoming;
use crate::serve::SPIN;
use crate::session::{Event, Shared, lock};
use minka_image::ranges::Ranges;
use minka_image::{PAGE, TASK_SIZE};
use minka_kernel::courtesy::Courtesy;
use minka_kernel::faultpoint::{self, Point};
use minka_kernel::pagemap::{Pagemap, Want};
use minka_kernel::process::Bell;
use minka_link::{Channel, Receiver, Sender};
use minka_wire::frame::Header;
use minka_wire::message::{self, FETCH_MAX, Fetch, kind};
use std::io::{ErrorKind, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Bytes of pages per frame of the background stream: long enough to be quick, short enough that a demanded page
/// that comes meanwhile is not kept waiting at the host.
const STREAM_FRAME: u64 = 256 << 10;

/// How long the stream waits at first. A guest begins with some faults, one after another, and both sides of a session with
/// some threads: where processors are few all of these are in each other's way without it.
const BEGINNING: Duration = Duration::from_millis(2);

/// Sends the pages that a guest misses.
pub(crate) fn faults(shared: &Arc<Shared>, mut channel: Channel) -> Result<()> {
    let mut body = Vec::new();
    let mut pages = Vec::new();
    loop {
        let header = channel.recv(&mut body, SPIN)?;
        let Fetch { address, length } = message::decode(&header, &body, kind::FETCH, "a request for pages")?;
        let end = address.checked_add(u64::from(length)).filter(|end| *end <= TASK_SIZE);
        let whole = address.is_multiple_of(PAGE) && u64::from(length).is_multiple_of(PAGE);
        let (Some(end), true, 1..=FETCH_MAX) = (end, whole, length) else {
            return Err(Fault::Said(format!("the host asked for {length} bytes at {address:#x}")));
        };
        giveback::check(&shared.given_back, address)?;
        pages.resize(length as usize, 0);
        shared.memory.peek(address, &mut pages);
        lock(&shared.unsent).clear(address, end);
        shared.near.store(end, Ordering::Relaxed);
        faultpoint::reach(Point::DeputyFault);
        channel.send(Header::new(kind::PAGES, address), &[IoSlice::new(&pages)])?;
    }
}

/// Takes in the pages that come early, on the way home.
pub(crate) fn precopied(
    shared: &Arc<Shared>,
    (mut stream, events, bell): (Receiver, mpsc::SyncSender<Event>, Arc<Bell>),
) -> Result<()> {
    match homecoming::write_early_pages(shared, &mut stream) {
        // There is no such memory any more: the process has another image or has ended, of which the main thread hears.
        Err(Fault::Io(_, error)) if error.kind() == ErrorKind::WriteZero => return Ok(()),
        written => written?,
    }
    // The main thread has gone if nobody receives it.
    let _ = events.send(Event::Precopied(stream));
    bell.ring();
    Ok(())
}

/// Tells the host which pages exist, then sends all of them that it has not asked for.
pub(crate) fn stream(shared: &Arc<Shared>, (mut sender, pid): (Sender, i32)) -> Result<()> {
    // Nobody waits for these pages, so they are not to take a processor from those who serve calls and faults, or from
    // other programs.
    let mut courtesy = Courtesy::of_this_thread();
    std::thread::sleep(BEGINNING);
    let present = scan(shared, pid, &mut courtesy)?;
    for batch in present.chunks(4096) {
        let words: Vec<u8> = batch
            .iter()
            .flat_map(|(start, end)| [start.to_le_bytes(), end.to_le_bytes()])
            .flatten()
            .collect();
        sender.send(Header::new(kind::PRESENT, 0), &[IoSlice::new(&words)])?;
    }
    sender.send(Header::new(kind::PRESENT_END, 0), &[])?;
    let mut pages = vec![0; STREAM_FRAME as usize];
    while !shared.recalling.load(Ordering::SeqCst) {
        let Some((start, end)) = take_next(shared) else { break };
        let content = &mut pages[..(end - start) as usize];
        shared.memory.peek(start, content);
        sender.send(Header::new(kind::PAGES, start), &[IoSlice::new(content)])?;
        faultpoint::reach(Point::DeputyStreamed);
        courtesy.give_way();
    }
    Ok(sender.send(Header::new(kind::END, 0), &[])?)
}

/// The ranges of the image's areas that have content; what is left unsent is cut to them. Pages that are missing
/// from anonymous memory read as zeros.
fn scan(shared: &Shared, pid: i32, courtesy: &mut Courtesy) -> Result<Vec<(u64, u64)>> {
    let io = |error| Fault::Io("scan its page table", error);
    let pagemap = Pagemap::open(pid).map_err(io)?;
    let mut present = Vec::new();
    // Also what has been sent already: there may have been no place for it any more, and then it is asked for again.
    for (start, end) in shared.areas.iter().copied() {
        for (start, end, from_file) in shared.from_files.pieces(start, end) {
            if let Some(content) = shared.sole.content(start, end) {
                present.extend(content);
            } else if from_file.is_some() {
                present.push((start, end));
            } else {
                // The guest has just begun, and what it misses first is served on this processor.
                let give_way = || {
                    if !shared.recalling.load(Ordering::SeqCst) {
                        courtesy.give_way();
                    }
                };
                let found = |a, b| present.push((a, b));
                pagemap.scan_in_pieces(start, end, Want::Present, found, give_way).map_err(io)?;
            }
        }
    }
    let mut unsent = lock(&shared.unsent);
    let mut left = Ranges::new();
    for (start, end) in &present {
        for (a, b, ()) in unsent.within(*start, *end) {
            left.set(a, b, ());
        }
    }
    *unsent = left;
    drop(unsent);
    Ok(present)
}

/// Takes the next piece to send: near the guest's last miss first, then round from there.
fn take_next(shared: &Shared) -> Option<(u64, u64)> {
    let mut unsent = lock(&shared.unsent);
    let near = shared.near.load(Ordering::Relaxed);
    let (start, end) = unsent.next_from(near).or_else(|| unsent.next_from(0))?;
    let end = end.min(start + STREAM_FRAME);
    unsent.clear(start, end);
    Some((start, end))
}
