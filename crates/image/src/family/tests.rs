//! A model: deputies that follow the protocol, one operation on a word at a time in an order that a seed decides, and
//! that may be killed before any of them; then somebody puts right what they left, who may be killed, too. Members may be
//! killed themselves. What guests write to their common memory has to be at home in the end, whoever wrote it.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It goes on from where it was stopped.
    Old,
    /// It goes on with what its guest has computed.
    New,
    /// It was ended, since that is lost.
    Lost,
    /// It ended by its own doing.
    Over,
}

/// All that outlives a deputy.
#[derive(Default)]
struct World {
    words: BTreeMap<u32, u32>,
    effects: u32,
    /// Whose state is at home again.
    written: Vec<bool>,
    ends: Vec<Option<End>>,
    /// Who has been killed.
    dying: Vec<bool>,
    /// What is written to their common memory at the host, and at home.
    there: BTreeSet<u32>,
    here: BTreeSet<u32>,
    /// What of that each guest can tell to be its own.
    own: Vec<BTreeSet<u32>>,
    /// Whose end has left marks in the memory at home, and whose has to.
    marks: BTreeSet<usize>,
    marked: BTreeSet<usize>,
    /// Whose turn it is to do one thing.
    turn: Option<usize>,
    /// It is killed instead.
    dies: bool,
    /// Who waits for its turn.
    waiting: Vec<usize>,
}

struct Stage0 {
    world: Mutex<World>,
    news: Condvar,
}

/// One who lives in the model.
#[derive(Clone)]
struct Life {
    who: usize,
    stage: Arc<Stage0>,
}

struct Killed;

impl Life {
    /// Does one thing when its turn comes.
    fn step<T>(&self, what: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.stage.world.lock().expect("the world");
        world.waiting.push(self.who);
        self.stage.news.notify_all();
        while world.turn != Some(self.who) {
            world = self.stage.news.wait(world).expect("the world");
        }
        world.turn = None;
        let dies = std::mem::take(&mut world.dies);
        let outcome = (!dies).then(|| what(&mut world));
        self.stage.news.notify_all();
        drop(world);
        outcome.unwrap_or_else(|| resume_unwind(Box::new(Killed)))
    }
}

fn key(word: Word) -> u32 {
    match word {
        Word::Fate => 0,
        Word::Call => 1,
        Word::Untold => 2,
        Word::Member(index) => 3 + index as u32,
    }
}

impl Words for Life {
    fn load(&self, word: Word) -> u32 {
        self.step(|world| world.words.get(&key(word)).copied().unwrap_or(0))
    }

    fn swap(&self, word: Word, from: u32, to: u32) -> bool {
        self.step(|world| {
            let cell = world.words.entry(key(word)).or_default();
            let is_it = *cell == from;
            if is_it {
                *cell = to;
            }
            is_it
        })
    }

    fn changed(&self) {}
}

/// A deputy, as it is in `minka-deputy`.
struct Deputy {
    me: usize,
    ledger: Ledger<Life>,
    random: Random,
    patience: u64,
    may_refuse: bool,
    /// Its host may be lost.
    may_fail: bool,
}

impl Deputy {
    fn wait(&self, stage: Stage) -> Result<(), ()> {
        self.ledger.arrive(self.me, stage);
        for _ in 0..self.patience {
            if !self.ledger.fate().is_open() {
                return Err(());
            }
            if self.ledger.have_all(stage) {
                return Ok(());
            }
        }
        Err(())
    }

    fn live(&mut self) -> Result<(), ()> {
        for stage in [Stage::Prepared, Stage::Parked, Stage::Judged, Stage::Built] {
            if self.may_fail && self.random.below(40) == 0 {
                return Err(());
            }
            self.wait(stage)?;
        }
        self.ledger.arrive(self.me, Stage::Away);
        loop {
            if !self.ledger.fate().is_open() {
                return Err(());
            }
            if self.is_dying() {
                self.end();
                return Ok(());
            }
            if let Some(call) = self.ledger.called() {
                if self.go_home(call)? {
                    return Ok(());
                }
                continue;
            }
            match self.random.below(12) {
                0 => self.ledger.call(self.me, How::Urgent),
                1 => self.ledger.call(self.me, How::Ordered),
                2 | 3 => self.effect()?,
                4 if self.random.below(4) == 0 => {
                    // It exits.
                    self.effect()?;
                    self.end();
                    return Ok(());
                }
                // Its host is lost.
                5 if self.may_fail && self.random.below(8) == 0 => return Err(()),
                _ => {}
            }
        }
    }

    fn effect(&self) -> Result<(), ()> {
        if !self.ledger.commit() {
            return Err(());
        }
        let me = self.me;
        self.ledger.words().step(|world| {
            world.effects += 1;
            world.there.insert(world.effects);
            world.own[me].insert(world.effects);
        });
        Ok(())
    }

    fn is_dying(&self) -> bool {
        let me = self.me;
        self.ledger.words().step(|world| world.dying[me])
    }

    /// Its guest ends, then it does.
    fn end(&self) {
        let me = self.me;
        self.ledger.words().step(|world| world.own[me].clear());
        self.ledger.end(me);
        self.set_end(End::Over);
    }

    /// Writes pages home that show the common memory as it was when all guests stood still.
    fn write(&self, pages: &BTreeSet<u32>) {
        self.ledger.words().step(|world| {
            world.here.extend(pages);
            world.marks.clear();
        });
    }

    /// Whether it is at home, or has ended; otherwise nobody goes.
    fn go_home(&mut self, call: Call) -> Result<bool, ()> {
        let me = self.me;
        self.ledger.arrive(self.me, Stage::Bound);
        if call.how == How::Ordered {
            for _ in 0..self.patience {
                if self.is_dying() {
                    self.end();
                    return Ok(true);
                }
                if self.ledger.have_all(Stage::Bound) || self.ledger.called().is_none_or(|now| now != call) {
                    break;
                }
            }
        }
        if self.may_refuse && self.random.below(6) == 0 && self.ledger.refuse(call.number) {
            self.ledger.arrive(self.me, Stage::Away);
            return Ok(false);
        }
        self.ledger.arrive(self.me, Stage::Quiet);
        let mut left = self.patience;
        while left > 0 {
            if self.is_dying() {
                self.end();
                return Ok(true);
            }
            match self.ledger.go(call.number) {
                Some(true) => break,
                Some(false) => {
                    self.ledger.arrive(self.me, Stage::Away);
                    return Ok(false);
                }
                None => left -= 1,
            }
            if !self.ledger.fate().is_open() {
                return Err(());
            }
        }
        if left == 0 {
            return Err(());
        }
        self.wait(Stage::Still)?;
        let all = self.ledger.is_untold();
        let pages =
            self.ledger.words().step(|world| if all { world.there.clone() } else { world.own[me].clone() });
        if !self.ledger.commit() {
            return Err(());
        }
        if self.is_dying() {
            self.write(&pages);
            self.wait(Stage::Written)?;
            self.ledger.words().step(|world| {
                world.marks.insert(me);
                world.marked.insert(me);
            });
            self.ledger.arrive(me, Stage::Returned);
            self.ledger.end(me);
            self.set_end(End::Over);
            return Ok(true);
        }
        self.write(&pages);
        self.ledger.words().step(|world| world.written[me] = true);
        self.ledger.arrive(self.me, Stage::Returned);
        for _ in 0..self.patience {
            match self.ledger.settle() {
                Fate::Effects => {}
                Fate::Home => {
                    self.set_end(End::New);
                    self.ledger.arrive(self.me, Stage::Gone);
                    return Ok(true);
                }
                _ => return Err(()),
            }
        }
        Err(())
    }

    fn set_end(&self, end: End) {
        let me = self.me;
        self.ledger.words().step(|world| {
            assert!(world.ends[me].is_none_or(|before| before == end), "{me}: {:?}, {end:?}", world.ends[me]);
            world.ends[me] = Some(end);
        });
    }

    /// What a deputy does that cannot go on, and who comes when it was killed.
    fn put_right(&self) {
        let has_ended = self.ledger.words().step(|world| world.ends[self.me]);
        if has_ended.is_none_or(|end| end == End::Over) && self.ledger.stage(self.me) == Stage::Gone {
            return self.set_end(End::Over);
        }
        self.set_end(match self.ledger.give_up() {
            Fate::Forgotten => End::Old,
            // It was killed as well, and has brought home what the others need of it.
            Fate::Home if has_ended == Some(End::Over) || has_ended.is_none() && self.is_dying() => End::Over,
            Fate::Home => End::New,
            _ => End::Lost,
        });
        self.ledger.arrive(self.me, Stage::Gone);
    }
}

fn run(
    life: Life,
    members: usize,
    seed: u64,
    is_rescuer: bool,
    (may_refuse, may_fail): (bool, bool),
) -> std::thread::JoinHandle<bool> {
    std::thread::spawn(move || {
        let me = life.who;
        let ledger = Ledger::new(life, members);
        let patience = 400 + seed % 400;
        let mut deputy = Deputy { me, ledger, random: Random(seed), patience, may_refuse, may_fail };
        let lived = catch_unwind(AssertUnwindSafe(|| {
            if is_rescuer || deputy.live().is_err() {
                deputy.put_right();
            }
        }));
        match lived {
            Ok(()) => false,
            Err(died) if died.is::<Killed>() => true,
            Err(failed) => resume_unwind(failed),
        }
    })
}

/// How many members were killed so late that what they had written had to be brought home.
static BROUGHT: AtomicU64 = AtomicU64::new(0);

/// How many runs have come to each end.
static ENDS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// `deadliness`: of how many steps one kills a deputy; `mortality`: a member.
fn play(seed: u64, deadliness: u64, mortality: u64) {
    let mut random = Random(seed);
    let members = 2 + random.below(4) as usize;
    let world = World {
        written: vec![false; members],
        ends: vec![None; members],
        dying: vec![false; members],
        own: vec![BTreeSet::new(); members],
        ..World::default()
    };
    let stage = Arc::new(Stage0 { world: Mutex::new(world), news: Condvar::new() });
    let life = |who| Life { who, stage: Arc::clone(&stage) };
    let may = (random.below(2) == 0, deadliness > 0 || mortality == 0);
    let mut threads: Vec<_> =
        (0..members).map(|who| Some(run(life(who), members, random.next(), false, may))).collect();
    let mut steps = 0u64;
    loop {
        // Everybody who lives waits for a turn.
        let mut world = stage.world.lock().expect("the world");
        loop {
            let alive = threads.iter().flatten().filter(|thread| !thread.is_finished()).count();
            if world.turn.is_none() && world.waiting.len() >= alive {
                break;
            }
            let (next, _) =
                stage.news.wait_timeout(world, std::time::Duration::from_micros(200)).expect("the world");
            world = next;
        }
        if world.waiting.is_empty() {
            drop(world);
            let mut more = false;
            for (who, slot) in threads.iter_mut().enumerate() {
                let Some(thread) = slot.take_if(|thread| thread.is_finished()) else { continue };
                if thread.join().unwrap_or_else(|_| panic!("seed {seed}: {who} fails")) {
                    *slot = Some(run(life(who), members, random.next(), true, (false, false)));
                    more = true;
                }
            }
            if !more && threads.iter().all(Option::is_none) {
                break;
            }
            continue;
        }
        steps += 1;
        assert!(steps < 60_000, "seed {seed}: somebody hangs");
        let chosen = random.below(world.waiting.len() as u64) as usize;
        let who = world.waiting.swap_remove(chosen);
        if mortality > 0 && random.below(mortality) == 0 {
            let killed = random.below(members as u64) as usize;
            world.dying[killed] = true;
        }
        (world.turn, world.dies) = (Some(who), deadliness > 0 && random.below(deadliness) == 0);
        stage.news.notify_all();
        drop(world);
        // A killed one is found by who puts it right, while the others go on.
        for (who, slot) in threads.iter_mut().enumerate() {
            let Some(thread) = slot.take_if(|thread| thread.is_finished()) else { continue };
            if thread.join().unwrap_or_else(|_| panic!("seed {seed}: {who} fails")) {
                *slot = Some(run(life(who), members, random.next(), true, (false, false)));
            }
        }
    }
    let world = stage.world.lock().expect("the world");
    let ends: Vec<End> = world.ends.iter().map(|end| end.expect("an end for each")).collect();
    let of_others: Vec<End> = ends.iter().copied().filter(|end| *end != End::Over).collect();
    assert!(of_others.iter().all(|end| *end == of_others[0]), "seed {seed}: half a family: {ends:?}");
    let first = of_others.first().copied().unwrap_or(End::Over);
    if first == End::Old {
        assert_eq!(world.effects, 0, "seed {seed}: what had effects was forgotten: {ends:?}");
        assert!(!world.written.contains(&true), "seed {seed}: it was overwritten, and goes on: {ends:?}");
    }
    if first == End::New {
        let lost: Vec<_> = world.there.difference(&world.here).collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?} of {:?} never came home: {ends:?}", world.there);
        assert!(world.marks.is_superset(&world.marked), "seed {seed}: {:?}, {:?}", world.marks, world.marked);
    }
    let is_written = |(end, written): (&End, &bool)| *end != End::New || *written;
    assert!(ends.iter().zip(&world.written).all(is_written), "seed {seed}: {ends:?}");
    if !may.1 {
        assert!(first != End::Lost, "seed {seed}: nobody's deputy or host failed, and all is lost");
        BROUGHT.fetch_add(world.marked.len() as u64, Ordering::Relaxed);
    }
    ENDS[first as usize].fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_family_goes_on_or_ends_as_one_whoever_dies() {
    for seed in 0..800 {
        play(seed, [0, 15, 60, 250][seed as usize % 4], [0, 40, 200][seed as usize % 3]);
    }
    let counts = ENDS.each_ref().map(|count| count.load(Ordering::Relaxed));
    // Otherwise the model would not show what it is for.
    assert!(counts[..3].iter().all(|count| *count > 20), "{counts:?}");
}

#[test]
fn a_member_may_be_killed_at_any_moment_and_the_others_lose_nothing() {
    for seed in 1000..1300 {
        play(seed, 0, [20, 60, 150][seed as usize % 3]);
    }
    let brought = BROUGHT.load(Ordering::Relaxed);
    assert!(brought > 20, "{brought}");
}

/// Words of one's own.
#[derive(Default)]
struct Cells(Mutex<BTreeMap<u32, u32>>);

impl Words for Cells {
    fn load(&self, word: Word) -> u32 {
        self.0.lock().expect("words").get(&key(word)).copied().unwrap_or(0)
    }
    fn swap(&self, word: Word, from: u32, to: u32) -> bool {
        let mut words = self.0.lock().expect("words");
        let cell = words.entry(key(word)).or_default();
        let is_it = *cell == from;
        if is_it {
            *cell = to;
        }
        is_it
    }
    fn changed(&self) {}
}

#[test]
fn a_call_that_was_refused_is_over_and_what_belonged_to_it_counts_no_more() {
    let ledger = Ledger::new(Cells::default(), 2);
    (0..2).for_each(|member| ledger.arrive(member, Stage::Away));
    assert_eq!(ledger.called(), None);
    ledger.call(1, How::Ordered);
    assert_eq!(ledger.called(), Some(Call { number: 0, by: 1, how: How::Ordered }));
    ledger.call(0, How::Urgent);
    ledger.call(1, How::Ordered);
    assert_eq!(ledger.called(), Some(Call { number: 0, by: 0, how: How::Urgent }));
    ledger.arrive(0, Stage::Quiet);
    assert_eq!((ledger.have_all(Stage::Quiet), ledger.go(0)), (false, None));
    assert!(ledger.refuse(0) && ledger.called().is_none());
    assert_eq!(ledger.go(0), Some(false));
    // The first has not yet heard of it when the next call comes.
    ledger.call(1, How::Urgent);
    ledger.arrive(1, Stage::Quiet);
    assert!(!ledger.have_all(Stage::Quiet) && !ledger.have_all(Stage::Bound) && ledger.have_all(Stage::Away));
    ledger.arrive(0, Stage::Quiet);
    assert_eq!(ledger.go(1), Some(true));
    assert!(!ledger.refuse(1), "it is too late");
}

#[test]
fn one_that_has_ended_is_not_waited_for() {
    let ledger = Ledger::new(Cells::default(), 3);
    ledger.arrive(0, Stage::Parked);
    assert_eq!(ledger.laggard(Stage::Parked), Some(1));
    ledger.arrive(2, Stage::Built);
    assert!(!ledger.have_all(Stage::Parked) && !ledger.is_untold());
    ledger.end(1);
    assert!(ledger.have_all(Stage::Parked) && ledger.is_untold());
    ledger.arrive(1, Stage::Away);
    assert_eq!(ledger.stage(1), Stage::Gone);
}

#[test]
fn one_that_ends_between_standing_still_and_having_written_takes_all_along() {
    for (stage, fate) in
        [(Stage::Quiet, Fate::Effects), (Stage::Still, Fate::Lost), (Stage::Written, Fate::Effects)]
    {
        let ledger = Ledger::new(Cells::default(), 2);
        assert!(ledger.commit());
        ledger.arrive(0, stage);
        ledger.end(0);
        assert_eq!((ledger.fate(), ledger.stage(0)), (fate, Stage::Gone), "{stage:?}");
    }
}

#[test]
fn what_is_final_stays() {
    let ledger = Ledger::new(Cells::default(), 1);
    assert!(ledger.commit() && ledger.commit());
    assert_eq!((ledger.give_up(), ledger.commit(), ledger.settle()), (Fate::Lost, false, Fate::Lost));
    let other = Ledger::new(Cells::default(), 1);
    assert_eq!((other.give_up(), other.commit(), other.give_up()), (Fate::Forgotten, false, Fate::Forgotten));
    let home = Ledger::new(Cells::default(), 1);
    assert!(home.commit());
    home.arrive(0, Stage::Returned);
    assert_eq!((home.settle(), home.give_up(), home.commit()), (Fate::Home, Fate::Home, false));
}
