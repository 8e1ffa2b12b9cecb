//! What is tried, in the process that has nothing to lose.

use std::time::{Duration, Instant};

use minka_kernel::compute::{
    Card, ComputeError, MEMORY_UNIT, Memory, Pattern, Place, Staging, Width, chain_result,
};
use serde::{Deserialize, Serialize};

use super::{Task, Trial};

/// Something that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Of what.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of which unit.
    pub unit: String,
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Whether all results were right.
    pub right: bool,
    /// In words.
    pub words: String,
    /// What was measured.
    pub figures: Vec<Figure>,
}

/// Told how much has been done, of 1, and of the mistakes so far.
type Progress<'a> = &'a mut dyn FnMut(f64, u64);

/// A measurement takes at least so long, and is made so often; the best counts.
const MEASURE: Duration = Duration::from_millis(100);
const MEASURES: u32 = 5;

/// Words that are downloaded and looked at one by one.
const LOOK_BYTES: u64 = 4 << 20;

/// What is copied within a device, and to it.
const COPY_BYTES: u64 = 1 << 30;
const LINK_BYTES: u64 = 64 << 20;

/// What memory is filled with: numbers of its places and those turned over, and bits that lie side by side.
const PATTERNS: [Pattern; 6] = [
    Pattern { seed: 0x4d69_6e6b, mask: u32::MAX, flip: 0 },
    Pattern { seed: 0x4d69_6e6b, mask: u32::MAX, flip: u32::MAX },
    Pattern { seed: 0, mask: 0, flip: 0 },
    Pattern { seed: 0, mask: 0, flip: u32::MAX },
    Pattern { seed: 0, mask: 0, flip: 0x5555_5555 },
    Pattern { seed: 0, mask: 0, flip: 0xaaaa_aaaa },
];

/// Whether a place is an address's. A library that tells no domain is believed only where the machine has one such place.
pub(super) fn is_at(place: Place, address: &str) -> bool {
    let Place { domain, bus, device, function } = place;
    let rest = format!("{bus:02x}:{device:02x}.{function:x}");
    match domain {
        Some(domain) => format!("{domain:04x}:{rest}") == address,
        None => {
            let all = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
            let same = all.filter(|entry| entry.file_name().to_string_lossy().ends_with(&format!(":{rest}")));
            address.ends_with(&format!(":{rest}")) && same.count() == 1
        }
    }
}

pub(super) fn run(card: &mut Card, task: &Task, progress: Progress<'_>) -> Result<Found, ComputeError> {
    match task.trial {
        Trial::Function => function(card, task),
        Trial::Computation => computation(card, progress),
        Trial::Bandwidth => bandwidth(card, task, progress),
        Trial::Allocation => memory(card, task, &PATTERNS[..1], progress),
        Trial::Errors => memory(card, task, &PATTERNS, progress),
        Trial::Link => link(card, task, progress),
        Trial::Stress => stress(card, task, progress),
    }
}

/// Bytes that can be taken: of memory that is the machine's, too, what harms nobody.
fn room(card: &Card, task: &Task) -> u64 {
    let facts = card.facts();
    let free = card.free_bytes().unwrap_or_else(|| facts.memory_bytes.saturating_sub(task.used_bytes));
    let shared = facts.shares_memory || facts.is_processor;
    let free = if shared { free.min(facts.memory_bytes / 4).min(available() / 2) } else { free };
    free.min(task.bytes_max)
}

/// Bytes of the machine's memory that programs can have.
fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

fn pages(bytes: u64) -> u64 {
    (bytes / MEMORY_UNIT).max(1) * MEMORY_UNIT
}

fn figure(name: &str, value: f64, unit: &str) -> Figure {
    Figure { name: name.to_owned(), value, unit: unit.to_owned() }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

fn by(card: &Card) -> String {
    format!("by {}", card.facts().runtime)
}

/// Words of a memory that are not as a pattern wants them, seen from here.
fn wrong_words(staging: &Staging, pattern: Pattern) -> u64 {
    let words = staging.bytes().chunks_exact(4).zip(0..);
    let wrong = |(word, number): &(&[u8], u64)| *word != pattern.word(*number).to_ne_bytes().as_slice();
    words.filter(wrong).count() as u64
}

/// The results of chains, and whether they are right.
struct Results {
    memory: Memory,
    staging: Staging,
}

impl Results {
    fn of(card: &mut Card) -> Result<Self, ComputeError> {
        let bytes = pages(card.chain_bytes());
        Ok(Results { memory: card.allocate(bytes)?, staging: card.staging(bytes as usize)? })
    }

    /// Computes, and counts what is wrong. Returns the operations, the time and the mistakes.
    fn chain(&mut self, card: &mut Card, width: Width, rounds: u32) -> Result<(f64, f64, u64), ComputeError> {
        // What was there before must not be taken for a result.
        card.fill(&self.memory, PATTERNS[0])?;
        let begun = Instant::now();
        let operations = card.chain(width, &self.memory, rounds)?;
        let seconds = begun.elapsed().as_secs_f64();
        card.download(&self.memory, &mut self.staging)?;
        let threads = (card.chain_bytes() / 8) as usize;
        let bytes = self.staging.bytes();
        let expected = |thread: usize| chain_result(thread as u64);
        let wrong = match width {
            Width::Single => {
                let results = bytes.chunks_exact(4).take(threads).enumerate();
                results.filter(|(thread, bytes)| *bytes != (expected(*thread) as f32).to_ne_bytes()).count()
            }
            Width::Double => {
                let results = bytes.chunks_exact(8).take(threads).enumerate();
                results.filter(|(thread, bytes)| *bytes != f64::from(expected(*thread)).to_ne_bytes()).count()
            }
        };
        Ok((operations, seconds, wrong as u64))
    }

    /// So many rounds that they take long enough to be measured.
    fn rounds(&mut self, card: &mut Card, width: Width) -> Result<u32, ComputeError> {
        let mut rounds = 4;
        loop {
            let (_, seconds, _) = self.chain(card, width, rounds)?;
            if seconds >= MEASURE.as_secs_f64() || rounds >= 1 << 22 {
                return Ok(rounds);
            }
            // The first time includes what is done only once.
            let more = MEASURE.as_secs_f64() / seconds.max(1e-4) * 1.2;
            rounds = (f64::from(rounds) * more.clamp(1.5, 16.0)) as u32;
        }
    }
}

fn widths(card: &Card) -> Vec<(Width, &'static str)> {
    let mut widths = vec![(Width::Single, "32 bits")];
    if card.facts().has_double {
        widths.push((Width::Double, "64 bits"));
    }
    widths
}

fn function(card: &mut Card, task: &Task) -> Result<Found, ComputeError> {
    let bytes = pages(LOOK_BYTES.min(room(card, task) / 4));
    let memory = card.allocate(bytes)?;
    let mut staging = card.staging(bytes as usize)?;
    card.fill(&memory, PATTERNS[0])?;
    card.download(&memory, &mut staging)?;
    let mut wrong = wrong_words(&staging, PATTERNS[0]);
    let mut results = Results::of(card)?;
    for (width, _) in widths(card) {
        wrong += results.chain(card, width, 3)?.2;
    }
    let words = match wrong {
        0 => format!("it computes rightly, {}", by(card)),
        wrong => format!("{wrong} results are wrong, {}", by(card)),
    };
    Ok(Found { right: wrong == 0, words, figures: Vec::new() })
}

fn computation(card: &mut Card, progress: Progress<'_>) -> Result<Found, ComputeError> {
    let mut results = Results::of(card)?;
    let (mut wrong, mut figures, mut words) = (0, Vec::new(), Vec::new());
    let widths = widths(card);
    for (number, (width, name)) in widths.iter().enumerate() {
        let rounds = results.rounds(card, *width)?;
        let mut best: f64 = 0.0;
        for measure in 0..MEASURES {
            let (operations, seconds, mistakes) = results.chain(card, *width, rounds)?;
            (best, wrong) = (best.max(operations / seconds / 1e9), wrong + mistakes);
            let done = number as f64 + f64::from(measure) / f64::from(MEASURES);
            progress(done / widths.len() as f64, wrong);
        }
        figures.push(figure(&format!("computation, {name}"), best, "GFLOPS"));
        words.push(format!("{best:.0} GFLOPS with {name}"));
    }
    let words = match wrong {
        0 => format!("{}; no reference; {}", words.join(", "), by(card)),
        wrong => format!("{wrong} results are wrong, {}", by(card)),
    };
    Ok(Found { right: wrong == 0, words, figures })
}

fn bandwidth(card: &mut Card, task: &Task, progress: Progress<'_>) -> Result<Found, ComputeError> {
    let bytes = pages(COPY_BYTES.min(room(card, task) / 4).min(card.facts().piece_bytes_max));
    let (from, to) = (card.allocate(bytes)?, card.allocate(bytes)?);
    card.fill(&from, PATTERNS[0])?;
    card.fill(&to, PATTERNS[1])?;
    let timed = |card: &mut Card, times| {
        let begun = Instant::now();
        card.copy(&from, &to, times).map(|()| begun.elapsed().as_secs_f64())
    };
    timed(card, 1)?;
    let once = timed(card, 1)?;
    let times = (MEASURE.as_secs_f64() / once.max(1e-5)).ceil().clamp(1.0, 10_000.0) as u32;
    let mut best: f64 = 0.0;
    for measure in 0..MEASURES {
        let seconds = timed(card, times)?;
        // Each byte is read and written.
        best = best.max(2.0 * bytes as f64 * f64::from(times) / seconds / 1e9);
        progress(f64::from(measure) / f64::from(MEASURES), 0);
    }
    let mistakes = card.check(&to, PATTERNS[0])?.count;
    let words = match mistakes {
        0 => format!("{best:.0} GB/s, read and written; no reference; {}", by(card)),
        wrong => format!("{wrong} words were not copied rightly, {}", by(card)),
    };
    Ok(Found { right: mistakes == 0, words, figures: vec![figure("memory bandwidth", best, "GB/s")] })
}

fn link(card: &mut Card, task: &Task, progress: Progress<'_>) -> Result<Found, ComputeError> {
    let bytes = pages(LINK_BYTES.min(room(card, task) / 4).min(card.facts().piece_bytes_max));
    let memory = card.allocate(bytes)?;
    let mut staging = card.staging(bytes as usize)?;
    for (number, word) in staging.bytes_mut().chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&PATTERNS[0].word(number as u64).to_ne_bytes());
    }
    let rate = |seconds: f64| bytes as f64 / seconds.max(1e-9) / 1e9;
    let (mut sent, mut received): (f64, f64) = (0.0, 0.0);
    let enough = |begun: Instant, count: u32| begun.elapsed() > 3 * MEASURE && count >= MEASURES;
    let (begun, mut count) = (Instant::now(), 0);
    while !enough(begun, count) {
        let at = Instant::now();
        card.upload(&staging, &memory)?;
        sent = sent.max(rate(at.elapsed().as_secs_f64()));
        count += 1;
    }
    let mut wrong = u64::from(card.check(&memory, PATTERNS[0])?.count);
    progress(0.5, wrong);
    card.fill(&memory, PATTERNS[1])?;
    let (begun, mut count) = (Instant::now(), 0);
    while !enough(begun, count) {
        let at = Instant::now();
        card.download(&memory, &mut staging)?;
        received = received.max(rate(at.elapsed().as_secs_f64()));
        count += 1;
    }
    wrong += wrong_words(&staging, PATTERNS[1]);
    let words = match wrong {
        0 => format!("{sent:.1} GB/s to it, {received:.1} GB/s from it; no reference; {}", by(card)),
        wrong => format!("{wrong} words arrived wrong, {}", by(card)),
    };
    let figures = vec![figure("to the device", sent, "GB/s"), figure("from the device", received, "GB/s")];
    Ok(Found { right: wrong == 0, words, figures })
}

/// Takes nearly all memory that is free, or half of it where others use the device, and looks whether it keeps what is written.
fn memory(
    card: &mut Card,
    task: &Task,
    patterns: &[Pattern],
    progress: Progress<'_>,
) -> Result<Found, ComputeError> {
    let told = card.free_bytes().is_some();
    let aim = pages(room(card, task) / 10 * if task.is_shared { 5 } else { 9 });
    let piece = pages(COPY_BYTES.min(card.facts().piece_bytes_max).min(aim));
    let (mut pieces, mut taken) = (Vec::new(), 0);
    while taken < aim {
        match card.allocate(piece.min(pages(aim - taken))) {
            Ok(memory) => {
                // Some libraries take memory only when it is touched.
                match card.fill(&memory, patterns[0]) {
                    Ok(()) => {}
                    Err(error) if super::is_lack(&error) => break,
                    Err(error) => return Err(error),
                }
                taken += memory.bytes();
                pieces.push(memory);
            }
            Err(error) if super::is_lack(&error) && taken > 0 => break,
            Err(error) => return Err(error),
        }
        progress(0.2 * taken as f64 / aim as f64, 0);
    }
    let (mut wrong, mut first) = (0_u64, None);
    for (round, pattern) in patterns.iter().enumerate() {
        for (number, memory) in pieces.iter().enumerate() {
            if round > 0 {
                card.fill(memory, *pattern)?;
            }
            let part = number as f64 / pieces.len() as f64;
            progress(0.2 + 0.8 * (round as f64 + part) / patterns.len() as f64, wrong);
        }
        // All is written before any is read, so that what lands in the wrong place is seen.
        for (number, memory) in pieces.iter().enumerate() {
            let mistakes = card.check(memory, *pattern)?;
            wrong += u64::from(mistakes.count);
            let place = mistakes.first_page.map(|page| number as u64 * piece + u64::from(page) * MEMORY_UNIT);
            first = first.or(place);
        }
    }
    let short = told && taken < aim;
    let (taken, aim) = (gibibytes(taken), gibibytes(aim));
    let words = match (wrong, short) {
        (0, false) => format!("{taken} were taken and kept what was written, {}", by(card)),
        (0, true) => format!("only {taken} of {aim} that are said to be free could be taken, {}", by(card)),
        (wrong, _) => format!(
            "{wrong} words of {taken} were not as they were written, the first at byte {:#x}, {}",
            first.unwrap_or(0),
            by(card)
        ),
    };
    Ok(Found { right: wrong == 0 && !short, words, figures: Vec::new() })
}

fn stress(card: &mut Card, task: &Task, progress: Progress<'_>) -> Result<Found, ComputeError> {
    let mut results = Results::of(card)?;
    let bytes = pages((COPY_BYTES / 4).min(room(card, task) / 4).min(card.facts().piece_bytes_max));
    let (from, to) = (card.allocate(bytes)?, card.allocate(bytes)?);
    let widths = widths(card);
    let mut rounds = Vec::new();
    for (width, _) in &widths {
        rounds.push(results.rounds(card, *width)?);
    }
    let (mut wrong, mut turns) = (0_u64, 0_u64);
    let begun = Instant::now();
    // Once at least, or nothing would have been looked at.
    while turns == 0 || begun.elapsed().as_secs_f64() < task.seconds {
        for ((width, _), rounds) in widths.iter().zip(&rounds) {
            wrong += results.chain(card, *width, *rounds)?.2;
        }
        let pattern = PATTERNS[turns as usize % PATTERNS.len()];
        card.fill(&from, pattern)?;
        card.copy(&from, &to, 8)?;
        wrong += u64::from(card.check(&to, pattern)?.count);
        turns += 1;
        progress(begun.elapsed().as_secs_f64() / task.seconds, wrong);
    }
    let words = match wrong {
        0 => format!("{turns} turns of computing and copying, all right, {}", by(card)),
        wrong => format!("{wrong} results of {turns} turns are wrong, {}", by(card)),
    };
    Ok(Found { right: wrong == 0, words, figures: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_only_if_all_of_it_is() {
        let place = Place { domain: Some(0), bus: 3, device: 0, function: 0 };
        let check = |place, address: &str, expected| assert_eq!(is_at(place, address), expected, "{address}");
        check(place, "0000:03:00.0", true);
        check(place, "0001:03:00.0", false);
        check(place, "0000:03:00.1", false);
        check(Place { domain: Some(0x10), ..place }, "0010:03:00.0", true);
        // The machine has no such place, so one without a domain is nowhere.
        check(Place { domain: None, bus: 0xfe, device: 0x1e, function: 6 }, "0000:fe:1e.6", false);
    }
}
