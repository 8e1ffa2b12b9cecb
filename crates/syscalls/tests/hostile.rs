//! Peers that lie: random and damaged requests and replies must be refused or do no harm.
//!
//! No harm means: no panic, no pointer outside the area, nothing written outside the area or outside the buffers
//! of the guest's own call.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use minka_syscalls::marshal::{self, Memory, Refusal};
use minka_syscalls::spec::{Kind, Place};
use minka_syscalls::table::CALLS;
use minka_syscalls::{Spec, decide, lookup};
use proptest::prelude::*;
use std::cell::RefCell;

/// Where calls find words that were chosen for them.
const WORDS: u64 = 0x1000_0000;

/// A memory that is readable everywhere: chosen words at one place, and noise. It notes writes.
#[derive(Default)]
struct Everywhere {
    words: Vec<u8>,
    written: Vec<std::ops::Range<u64>>,
    read: RefCell<usize>,
}

impl Memory for Everywhere {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        *self.read.borrow_mut() += into.len();
        into.fill((address.wrapping_mul(0x9e37_79b9) >> 13) as u8);
        if let Some(words) = address.checked_sub(WORDS).and_then(|from| self.words.get(from as usize..)) {
            let length = words.len().min(into.len());
            into[..length].copy_from_slice(&words[..length]);
        }
        into.len()
    }

    fn write(&mut self, address: u64, from: &[u8]) -> usize {
        self.written.push(address..address + from.len() as u64);
        from.len()
    }
}

const AREA_ADDRESS: u64 = 0x7000_0000_0000;
const AREA: usize = 64 * 1024;
const FENCE: usize = 4096;

/// Whether the kernel would take an argument of a placed call for an address that leads out of the area.
fn leads_out(address: u64) -> bool {
    let faults = !(4096..=0x7fff_ffff_f000).contains(&address);
    let inside = (AREA_ADDRESS..=AREA_ADDRESS + AREA as u64).contains(&address);
    !faults && !inside
}

/// Places a body in an area between two fences, and checks all that can be checked.
fn place(body: &[u8]) {
    let mut memory = vec![0xee; AREA + 2 * FENCE];
    let area = &mut memory[FENCE..FENCE + AREA];
    let placed = match marshal::place(body, area, AREA_ADDRESS) {
        Ok(placed) => placed,
        Err(_) => match marshal::place_own(body, area, AREA_ADDRESS) {
            Ok(placed) => placed,
            Err(_) => return,
        },
    };
    let is_own = decide(placed.number().into(), placed.arguments()) == Place::Own;
    for (argument, value) in placed.spec().arguments.iter().zip(placed.arguments()) {
        if argument.kind.is_pointer() && !(is_own && argument.kind == Kind::Address) {
            assert!(!leads_out(*value), "{}: {} is {value:#x}", placed.spec().name, argument.name);
        }
    }
    for result in [0, 1, 100, i64::MAX, -4, -512, -14, i64::MIN] {
        let mut reply = Vec::new();
        marshal::collect(&placed, result, &memory[FENCE..FENCE + AREA]).append_to(&mut reply);
        assert!(reply.len() <= 16 + 8 * 70_000 + AREA * 2, "a reply of {} bytes", reply.len());
    }
    let fences = [&memory[..FENCE], &memory[FENCE + AREA..]];
    assert!(fences.iter().all(|fence| fence.iter().all(|&byte| byte == 0xee)), "written outside the area");
}

/// A request's head for a call.
fn head(number: u32, args: &[u64; 6]) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.extend([0; 4]);
    body.extend(args.iter().flat_map(|argument| argument.to_le_bytes()));
    body
}

/// All lines and the commands that select them.
fn selected() -> Vec<(&'static Spec, Vec<(usize, u32)>)> {
    use minka_syscalls::spec::Case;
    let mut all = Vec::new();
    for spec in CALLS {
        all.push((spec, Vec::new()));
        for case in spec.cases {
            if let Case::By(commands) = case {
                let select = |command: &Spec| vec![(usize::from(commands.argument), command.number)];
                all.extend(commands.list.iter().map(|command| (spec, select(command))));
            }
        }
    }
    all
}

fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0..64_u64,
        2 => 0..100_000_u64,
        4 => (0..300_u64).prop_map(|word| WORDS + 8 * word),
        1 => WORDS..WORDS + 0x10_0000,
        1 => 0x7fff_ffff_0000..0x7fff_ffff_ffff_u64,
        1 => Just(u64::MAX),
        1 => Just(0),
        1 => any::<u64>(),
    ]
}

fn call() -> impl Strategy<Value = (&'static Spec, [u64; 6])> {
    (prop::sample::select(selected()), prop::array::uniform6(argument())).prop_map(
        |((spec, set), mut args)| {
            for (index, value) in set {
                args[index] = value.into();
            }
            (spec, args)
        },
    )
}

/// A memory with something like a vector of messages and buffers where calls look for them.
fn plausible(words: &[u64]) -> Everywhere {
    Everywhere { words: words.iter().flat_map(|word| word.to_le_bytes()).collect(), ..Everywhere::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_requests(body in prop::collection::vec(any::<u8>(), 0..400)) {
        place(&body);
    }

    #[test]
    fn random_content((spec, args) in call(), content in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut body = head(spec.number, &args);
        body.extend(content);
        place(&body);
    }

    #[test]
    fn plausible_content((spec, args) in call(), words in prop::collection::vec(argument(), 0..300)) {
        let mut body = head(spec.number, &args);
        body.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        place(&body);
    }

    #[test]
    fn whatever_is_gathered_can_be_placed(
        (spec, args) in call(), words in prop::collection::vec(argument(), 0..300), done in 0..10_000_u64,
        damage in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let memory = plausible(&words);
        let mut body = vec![1, 2, 3];
        let gathered = marshal::gather_after(spec, &args, done, &memory, AREA, &mut body);
        if let Err(refusal) = gathered {
            prop_assert_eq!(body, [1, 2, 3]);
            let native = matches!(decide(spec.number.into(), &args), Place::Here | Place::Homeward);
            prop_assert!(!native || matches!(refusal, Refusal::Homeward(_)));
            return Ok(());
        }
        prop_assert!(body.len() <= 3 + 56 + AREA * 2, "a request of {} bytes", body.len());
        let mut body = body.split_off(3);
        let mut area = vec![0; AREA];
        let placed = marshal::place(&body, &mut area, AREA_ADDRESS)
            .or_else(|_| marshal::place_own(&body, &mut area, AREA_ADDRESS));
        if let Err(error) = placed {
            panic!("{} {args:x?}: {error}", spec.name);
        }
        // Cut short or prolonged it is refused; otherwise damaged it does no harm.
        for end in [body.len() - 1, body.len() / 2, 0] {
            prop_assert!(marshal::place(&body[..end], &mut area, AREA_ADDRESS).is_err());
        }
        let at = damage.index(body.len());
        body[at] ^= 1 << bit;
        place(&body);
        body[at] ^= 1 << bit;
        body.push(0);
        prop_assert!(marshal::place(&body, &mut area, AREA_ADDRESS).is_err());
    }

    #[test]
    fn any_exchange_can_be_shown(
        (spec, args) in call(), content in prop::collection::vec(any::<u8>(), 0..600),
        reply in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut body = head(spec.number, &args);
        body.extend(content);
        let text = minka_syscalls::render::exchange(&body, &reply);
        prop_assert!(text.contains(" = ") && text.len() < 100_000, "{} bytes", text.len());
    }

    #[test]
    fn random_replies((spec, args) in call(), reply in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = marshal::scatter(spec, &args, &reply, &mut Everywhere::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn replies_write_only_into_the_calls_buffers(
        (spec, args) in call(), words in prop::collection::vec(argument(), 0..300),
        result in prop_oneof![-600..100_000_i64, any::<i64>()],
        tags in prop::collection::vec((0..6_u32, 0..20_u32, 0..5000_u32), 0..10), excess in 0..3_usize,
    ) {
        let mut memory = plausible(&words);
        let mut reply = result.to_le_bytes().to_vec();
        reply.extend((tags.len() as u64).to_le_bytes());
        let mut total = 0;
        for (argument, ordinal, size) in &tags {
            reply.extend((argument << 29 | ordinal).to_le_bytes());
            reply.extend(size.to_le_bytes());
            total += *size as usize;
        }
        reply.resize(reply.len() + (total + excess).saturating_sub(1), 7);
        let outcome = marshal::scatter(spec, &args, &reply, &mut memory);
        prop_assert!(*memory.read.borrow() < 1 << 24, "{} bytes read", memory.read.borrow());
        if outcome.is_ok() {
            prop_assert!(excess == 1 || total + excess == 0);
        }
        let allowed = buffers(spec, &args, &words);
        for write in &memory.written {
            let inside = allowed.iter().any(|range| range.start <= write.start && write.end <= range.end);
            prop_assert!(inside, "{} {args:x?} wrote {write:x?}, its buffers are {allowed:x?}", spec.name);
        }
    }
}

/// What a call may write: found by gathering and placing it, and following its outputs with a home that says it
/// wrote everything.
fn buffers(spec: &'static Spec, args: &[u64; 6], words: &[u64]) -> Vec<std::ops::Range<u64>> {
    let mut all = Vec::new();
    let mut area = vec![0xff; AREA];
    let mut body = Vec::new();
    if marshal::gather(spec, args, &plausible(words), AREA, &mut body).is_err() {
        // Not carried at all: only what the arguments themselves bound could be written.
        all.push(0..u64::MAX);
        return all;
    }
    let Ok(placed) = marshal::place(&body, &mut area, AREA_ADDRESS)
        .or_else(|_| marshal::place_own(&body, &mut area, AREA_ADDRESS))
    else {
        return all;
    };
    area.fill(0xff);
    for result in [i64::MAX, 1 << 20, -512] {
        let mut reply = Vec::new();
        marshal::collect(&placed, result, &area).append_to(&mut reply);
        let mut memory = plausible(words);
        marshal::scatter(spec, args, &reply, &mut memory).unwrap();
        all.append(&mut memory.written);
    }
    all
}

#[test]
fn calls_that_are_not_forwarded_are_not_placed() {
    let mut area = vec![0; AREA];
    for spec in CALLS {
        for args in [[0; 6], [1; 6], [u64::MAX; 6]] {
            let place = decide(spec.number.into(), &args);
            let body = head(spec.number, &args);
            if !place.is_forwarded() {
                assert!(marshal::place(&body, &mut area, AREA_ADDRESS).is_err(), "{}", spec.name);
            }
            if place != Place::Own {
                assert!(marshal::place_own(&body, &mut area, AREA_ADDRESS).is_err(), "{}", spec.name);
            }
        }
    }
    for number in [335, 337, 423, 470, 511, 512, 0x4000_0000, u32::MAX] {
        assert!(marshal::place(&head(number, &[0; 6]), &mut area, AREA_ADDRESS).is_err());
    }
    assert!(lookup(337).is_none());
}
