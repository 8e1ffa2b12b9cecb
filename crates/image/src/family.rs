//! Processes that share memory move together: what their deputies decide in common.
//!
//! Each member of a family has a deputy of its own, which may be killed at any moment. What they decide together is
//! therefore in words that all of them see and that outlive them, the family's *ledger*. One word decides everything that
//! must not come out differently for two of them; it is only ever changed by compare-and-swap:
//!
//! ```text
//!            the first effect of any                all have their state at home
//!  Nothing ───────────────────────────► Effects ──────────────────────────────────► Home        each goes on from there
//!     │                                    │
//!     │ somebody gives up                  │ somebody gives up
//!     ▼                                    ▼
//!  Forgotten: each goes on from            Lost: each ends, as by SIGKILL
//!             where it was stopped
//! ```
//!
//! The last three are final. Before them stand *stages*: a member writes how far it has come, and waits for the others with
//! a limit, beyond which it gives up. One that has ended counts as having come anywhere.
//!
//! ```text
//!  Apart ► Prepared ► Parked ► Judged ► Built ► Away ► Bound ► Quiet ► Still ► Written ► Returned ► Gone
//!          a host     in the   it is    but     runs   sent    no call  its     what it   all of it
//!          is ready   agent    a family not run        ahead   at home  guest   wrote is  is at home
//! ```
//!
//! A member's own end costs the others nothing, whenever it comes. Up to *Quiet* its guest is ended, the others are told that
//! nobody knows any more what it had written, and collect all that there is. From *Still* on they may have begun to collect
//! without that: so it brings home what it has written, ended or not, and only then counts as gone ([`Ledger::end`]). What its
//! end itself changes in memory that the others have, too, comes when all of them have *Written*: nobody's older page can come
//! after it.
//!
//! Up to *Quiet* a member may find that it cannot come home at the moment. Then nobody does, and the *call* home is over
//! ([`Ledger::refuse`]); as soon as all are quiet nobody may refuse any more ([`Ledger::go`]).

/// How far a member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Stage {
    /// It has not begun.
    Apart,
    /// Its host is ready for it.
    Prepared,
    /// It is in the agent.
    Parked,
    /// It has been found that the family is what it was thought to be.
    Judged,
    /// Its guest is built, and has not executed an instruction.
    Built,
    /// Its guest runs.
    Away,
    /// What it changed of its own memory has been sent ahead: it may be stopped.
    Bound,
    /// It is in no call at home.
    Quiet,
    /// Its guest is stopped.
    Still,
    /// All that its guest wrote of what the family shares is at home.
    Written,
    /// All of it is at home, in the parked process.
    Returned,
    /// It is an ordinary process again, or has ended.
    Gone,
}

impl Stage {
    const ALL: [Self; 12] = [
        Self::Apart,
        Self::Prepared,
        Self::Parked,
        Self::Judged,
        Self::Built,
        Self::Away,
        Self::Bound,
        Self::Quiet,
        Self::Still,
        Self::Written,
        Self::Returned,
        Self::Gone,
    ];

    fn of(word: u32) -> Self {
        Self::ALL.get((word & 0xff) as usize).copied().unwrap_or(Self::Apart)
    }

    /// Whether it belongs to one call home, and to no other one.
    fn is_of_a_call(self) -> bool {
        matches!(self, Self::Bound | Self::Quiet)
    }
}

/// What has been decided for all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Fate {
    /// No guest has had an effect.
    Nothing,
    /// Some guest has.
    Effects,
    /// The guests are forgotten: each member goes on from where it was stopped.
    Forgotten,
    /// Everything is at home again: each member goes on from there.
    Home,
    /// What was computed is lost: each member ends.
    Lost,
}

impl Fate {
    fn of(word: u32) -> Self {
        match word {
            0 => Self::Nothing,
            1 => Self::Effects,
            2 => Self::Forgotten,
            3 => Self::Home,
            _ => Self::Lost,
        }
    }

    /// Whether it can still become another one.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Nothing | Self::Effects)
    }
}

/// The family is called home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Which call it is.
    pub number: u32,
    /// The member that called.
    pub by: usize,
    /// What has become of it.
    pub how: How,
}

/// How the family is called home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// In good order: memory is sent ahead first.
    Ordered,
    /// At once: somebody waits.
    Urgent,
    /// All are quiet, and nobody may refuse any more.
    Going,
}

/// A word of the ledger. A new ledger is all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// [`Fate`].
    Fate,
    /// The call home: its number above, who called, and how.
    Call,
    /// Whether a member has ended while it was away, and with it the knowledge of what it had written.
    Untold,
    /// How far a member has come; beside that, for stages that belong to a call, its number.
    Member(usize),
}

/// Most members of a family.
pub const MEMBERS_MAX: usize = 64;

/// Where the words are. Both operations are sequentially consistent.
pub trait Words {
    /// What it holds.
    fn load(&self, word: Word) -> u32;
    /// Changes it if it holds `from`.
    fn swap(&self, word: Word, from: u32, to: u32) -> bool;
    /// Tells those who wait that something has changed.
    fn changed(&self);
}

/// The rules.
#[derive(Debug)]
pub struct Ledger<W> {
    words: W,
    members: usize,
}

/// In a member's word: it is about to end, and its guest stands still.
const ENDING: u32 = 1 << 31;
const NUMBER_SHIFT: u32 = 16;
const BY_SHIFT: u32 = 8;

impl<W: Words> Ledger<W> {
    /// Of a family of so many members.
    pub fn new(words: W, members: usize) -> Self {
        Self { words, members: members.min(MEMBERS_MAX) }
    }

    /// Its words.
    pub fn words(&self) -> &W {
        &self.words
    }

    /// What has been decided.
    pub fn fate(&self) -> Fate {
        Fate::of(self.words.load(Word::Fate))
    }

    fn decide(&self, from: Fate, to: Fate) -> bool {
        let decided = self.words.swap(Word::Fate, from as u32, to as u32);
        if decided {
            self.words.changed();
        }
        decided
    }

    /// A guest is about to have an effect. False if it must not have any.
    pub fn commit(&self) -> bool {
        match self.fate() {
            Fate::Nothing => self.decide(Fate::Nothing, Fate::Effects) || self.fate() == Fate::Effects,
            fate => fate == Fate::Effects,
        }
    }

    /// Somebody cannot go on, for itself or for a member whose deputy has been killed. What comes of it holds for all.
    pub fn give_up(&self) -> Fate {
        loop {
            let to = match self.fate() {
                Fate::Nothing => Fate::Forgotten,
                Fate::Effects => Fate::Lost,
                fate => return fate,
            };
            let from = if to == Fate::Forgotten { Fate::Nothing } else { Fate::Effects };
            if self.decide(from, to) {
                return to;
            }
        }
    }

    /// A member has come so far. It never goes back, but from a call home that was refused.
    pub fn arrive(&self, member: usize, stage: Stage) {
        let number = if stage.is_of_a_call() { self.words.load(Word::Call) >> NUMBER_SHIFT } else { 0 };
        let word = Word::Member(member);
        loop {
            let before = self.words.load(word);
            if Stage::of(before) == Stage::Gone
                || self.words.swap(word, before, before & ENDING | number << BY_SHIFT | stage as u32)
            {
                break;
            }
        }
        self.words.changed();
    }

    /// A member is about to end, and its guest stands still for good. Says whether that, or the end, holds for all members by now:
    /// whoever is the last to say so hears it.
    pub fn is_ending(&self, member: usize) -> bool {
        let word = Word::Member(member);
        loop {
            let before = self.words.load(word);
            if self.words.swap(word, before, before | ENDING) {
                break;
            }
        }
        (0..self.members).all(|member| {
            let word = self.words.load(Word::Member(member));
            word & ENDING != 0 || Stage::of(word) == Stage::Gone
        })
    }

    /// A member has ended while it was away, and its guest has. From now on nobody is told of what it had written. If the
    /// others may have begun to collect in the belief that it would tell, and it has not, that is lost.
    pub fn end(&self, member: usize) {
        // In this order: whoever sees the end sees this.
        while self.words.load(Word::Untold) == 0 && !self.words.swap(Word::Untold, 0, 1) {}
        if self.stage(member) == Stage::Still {
            self.give_up();
        }
        self.arrive(member, Stage::Gone);
    }

    /// Whether somebody has ended.
    pub fn is_untold(&self) -> bool {
        self.words.load(Word::Untold) != 0
    }

    /// How far a member has come.
    pub fn stage(&self, member: usize) -> Stage {
        Stage::of(self.words.load(Word::Member(member)))
    }

    /// Whether all members have come so far.
    pub fn have_all(&self, stage: Stage) -> bool {
        let number = self.words.load(Word::Call) >> NUMBER_SHIFT;
        (0..self.members).all(|member| {
            let word = self.words.load(Word::Member(member)) & !ENDING;
            let found = Stage::of(word);
            found >= stage && (!found.is_of_a_call() || !stage.is_of_a_call() || word >> BY_SHIFT == number)
        })
    }

    /// The first member that has not come so far.
    pub fn laggard(&self, stage: Stage) -> Option<usize> {
        (0..self.members).find(|member| self.stage(*member) < stage)
    }

    /// All have their state at home, if they have: then each goes on from there.
    pub fn settle(&self) -> Fate {
        if self.have_all(Stage::Returned) {
            self.decide(Fate::Effects, Fate::Home);
        }
        self.fate()
    }

    /// The call home, if there is one.
    pub fn called(&self) -> Option<Call> {
        let word = self.words.load(Word::Call);
        let how = match word & 0xff {
            0 => return None,
            1 => How::Ordered,
            2 => How::Urgent,
            _ => How::Going,
        };
        Some(Call { number: word >> NUMBER_SHIFT, by: (word >> BY_SHIFT & 0xff) as usize, how })
    }

    /// Calls everybody home. A call that is more urgent takes the place of one that is less.
    pub fn call(&self, by: usize, how: How) {
        loop {
            let before = self.words.load(Word::Call);
            let kind = if how == How::Ordered { 1 } else { 2 };
            if before & 0xff >= kind {
                return;
            }
            let number = before >> NUMBER_SHIFT;
            if self.words.swap(Word::Call, before, number << NUMBER_SHIFT | (by as u32) << BY_SHIFT | kind) {
                return self.words.changed();
            }
        }
    }

    /// A member cannot come home at the moment, so nobody does. False if it is too late for that.
    pub fn refuse(&self, number: u32) -> bool {
        loop {
            let before = self.words.load(Word::Call);
            if before >> NUMBER_SHIFT != number || before & 0xff == 0 {
                return true;
            }
            if before & 0xff > 2 {
                return false;
            }
            let next = (number + 1) & 0xffff;
            if self.words.swap(Word::Call, before, next << NUMBER_SHIFT) {
                self.words.changed();
                return true;
            }
        }
    }

    /// What has become of a call: whether all go (`Some(true)`), or nobody does; `None` as long as that is open.
    pub fn go(&self, number: u32) -> Option<bool> {
        loop {
            let before = self.words.load(Word::Call);
            match before & 0xff {
                _ if before >> NUMBER_SHIFT != number => return Some(false),
                0 => return Some(false),
                3 => return Some(true),
                _ => {}
            }
            if !self.have_all(Stage::Quiet) {
                return None;
            }
            if self.words.swap(Word::Call, before, before & !0xff | 3) {
                self.words.changed();
                return Some(true);
            }
        }
    }
}

#[cfg(test)]
mod tests;
