//! The family of a process that moves with others: its ledger, and waiting for each other.
//!
//! The rules are [`minka_image::family`]'s. The words are in a file of the run directory that every member's deputy maps, and
//! that is there when all of them are dead:
//!
//! ```text
//!  0    4     8     12      16      20       64                320     512
//! ┌────┬─────┬─────┬───────┬───────┬────────┬─────────────────┬───────┬──────────────┐
//! │news│fate │call │untold │blamed │length  │ members, 64 × 4 │       │ why, as text │
//! └────┴─────┴─────┴───────┴───────┴────────┴─────────────────┴───────┴──────────────┘
//! ```
//!
//! Every change counts `news` up and wakes all who wait there. Nobody waits without a limit; what counts against it is the
//! time without news.

use crate::eligible;
use crate::fault::{Fault, Result};
use crate::tracee;
use minka_image::family::{Call, Fate, How, Ledger, MEMBERS_MAX, Stage, Word, Words};
use minka_kernel::futex;
use minka_kernel::process::Bell;
use minka_kernel::procfs::Status;
use minka_kernel::shared::Shared;
use minka_kernel::spawn::ProcessHandle;
use minka_wire::local::Family;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const LENGTH: usize = 4096;
const NEWS: usize = 0;
const BLAMED: usize = 16;
const WHY_LENGTH: usize = 20;
const MEMBERS: usize = 64;
const WHY: usize = 512;
const WHY_MAX: usize = 512;

/// How long one waits at a time: somebody may be killed between a change and telling of it.
const NAP: Duration = Duration::from_millis(100);

/// The same of who only wants to know.
const LONG_NAP: Duration = Duration::from_secs(5);

/// The words of a ledger.
#[derive(Debug)]
struct Page(Shared);

impl Page {
    fn word(&self, word: Word) -> &AtomicU32 {
        self.0.word(match word {
            Word::Fate => 4,
            Word::Call => 8,
            Word::Untold => 12,
            Word::Member(index) => MEMBERS + 4 * index.min(MEMBERS_MAX - 1),
        })
    }
}

impl Words for Page {
    fn load(&self, word: Word) -> u32 {
        self.word(word).load(Ordering::SeqCst)
    }

    fn swap(&self, word: Word, from: u32, to: u32) -> bool {
        self.word(word).compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn changed(&self) {
        let news = self.0.word(NEWS);
        news.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(news);
    }
}

/// A member's part in its family.
#[derive(Debug)]
pub(crate) struct Kin {
    family: Family,
    me: usize,
    ledger: Ledger<Page>,
    path: PathBuf,
    /// Nothing is to be waited for any more.
    over: AtomicBool,
}

impl Kin {
    /// Opens the ledger of a family; whoever comes first makes it.
    pub(crate) fn open(run_dir: &Path, family: &Family, pid: i32) -> Result<Self> {
        let io = |error| Fault::Io("open the ledger of its family", error);
        let me = family.members.iter().position(|member| *member == pid);
        let me = me.filter(|_| family.members.len() <= MEMBERS_MAX);
        let me = me.ok_or_else(|| Fault::Said("it is no member of its family".to_owned()))?;
        let path = run_dir.join(family.ledger());
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(io)?;
        // Whoever does it first makes zeros, and nobody else changes anything by it.
        minka_kernel::shared::resize(file.as_fd(), LENGTH).map_err(io)?;
        let page = Page(Shared::map(file.as_fd(), LENGTH).map_err(io)?);
        let ledger = Ledger::new(page, family.members.len());
        Ok(Self { family: family.clone(), me, ledger, path, over: AtomicBool::new(false) })
    }

    /// The family.
    pub(crate) fn family(&self) -> &Family {
        &self.family
    }

    /// What has been decided.
    pub(crate) fn fate(&self) -> Fate {
        self.ledger.fate()
    }

    /// A guest is about to have an effect. False if it must not.
    pub(crate) fn commit(&self) -> bool {
        self.ledger.commit()
    }

    /// This member, or what is left of it, cannot go on.
    pub(crate) fn give_up(&self, why: &str) -> Fate {
        if self.fate().is_open() {
            self.blame(self.me, why);
        }
        self.ledger.give_up()
    }

    /// Writes down why, if nobody has before.
    fn blame(&self, member: usize, why: &str) {
        let page = &self.ledger.words().0;
        let blamed = page.word(BLAMED);
        if blamed.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        let text = format!("process {}: {why}", self.family.members[member]);
        let text = &text.as_bytes()[..text.len().min(WHY_MAX)];
        page.write(WHY, text);
        page.word(WHY_LENGTH).store(text.len() as u32, Ordering::SeqCst);
        blamed.store(2, Ordering::SeqCst);
    }

    /// Why the family did not move, or has ended.
    pub(crate) fn why(&self) -> Fault {
        let page = &self.ledger.words().0;
        if page.word(BLAMED).load(Ordering::SeqCst) != 2 {
            return Fault::Said("a process that shares its memory could not go on".to_owned());
        }
        let length = page.word(WHY_LENGTH).load(Ordering::SeqCst) as usize;
        let mut text = vec![0; length.min(WHY_MAX)];
        page.read(WHY, &mut text);
        let text = minka_wire::tidy(&String::from_utf8_lossy(&text));
        Fault::Said(format!("a process that shares its memory could not go on: {text}"))
    }

    /// This member has come so far.
    pub(crate) fn arrive(&self, stage: Stage) {
        tracing::debug!(pid = self.family.members[self.me], ?stage, "with its family");
        self.ledger.arrive(self.me, stage);
    }

    /// It is still at work on what the others wait for.
    pub(crate) fn is_at_work(&self) {
        self.ledger.words().changed();
    }

    /// Whether all have come so far.
    pub(crate) fn have_all(&self, stage: Stage) -> bool {
        self.ledger.have_all(stage)
    }

    /// This member has come so far, and waits until all have. If they do not, nobody goes on from here.
    pub(crate) fn meet(&self, stage: Stage, limit: Duration) -> Result<()> {
        self.arrive(stage);
        self.wait_for(stage, limit)
    }

    /// Waits until all have come so far.
    pub(crate) fn wait_for(&self, stage: Stage, limit: Duration) -> Result<()> {
        self.wait(limit, stage, || self.fate().is_open() && self.have_all(stage))
    }

    /// Waits until it is this member's turn to look at what all share, if the first one has to be alone with it. Says whether this
    /// member has to judge it.
    pub(crate) fn turn_to_judge(&self, limit: Duration) -> Result<bool> {
        const FIRST: usize = 0;
        if self.me != FIRST {
            self.wait(limit, Stage::Judged, || self.ledger.stage(FIRST) >= Stage::Judged)?;
        }
        // One that has ended meanwhile may have done so before.
        Ok(self.me == FIRST || self.ledger.stage(FIRST) == Stage::Gone)
    }

    /// All of this member is at home. Waits until that holds for all: only then does any go on.
    pub(crate) fn all_home(&self, limit: Duration) -> Result<()> {
        self.arrive(Stage::Returned);
        self.wait(limit, Stage::Returned, || self.ledger.settle() == Fate::Home)
    }

    /// Waits for something that the others do, as long as there is news of them within the limit.
    fn wait(&self, limit: Duration, stage: Stage, done: impl Fn() -> bool) -> Result<()> {
        let mut last = None;
        let mut until = Instant::now();
        loop {
            let word = self.ledger.words().0.word(NEWS);
            let news = word.load(Ordering::SeqCst);
            if done() {
                return Ok(());
            }
            if !self.fate().is_open() {
                return Err(self.why());
            }
            if last != Some(news) {
                last = Some(news);
                until = Instant::now() + limit;
            }
            if Instant::now() > until {
                self.too_late(stage);
                return if done() { Ok(()) } else { Err(self.why()) };
            }
            futex::wait(word, news, Some(NAP));
        }
    }

    /// Somebody has not come so far in time.
    pub(crate) fn too_late(&self, stage: Stage) {
        if let Some(laggard) = self.ledger.laggard(stage) {
            self.blame(laggard, "it did not get ready in time");
        }
        self.ledger.give_up();
    }

    /// The call home, if there is one.
    pub(crate) fn called(&self) -> Option<Call> {
        self.ledger.called()
    }

    /// Calls everybody home, unless that has been done.
    pub(crate) fn call(&self, how: How) {
        self.ledger.call(self.me, how);
    }

    /// Whether it was this member that called.
    pub(crate) fn is_caller(&self, call: Call) -> bool {
        call.by == self.me
    }

    /// Why this member comes home, if nobody has asked for it.
    pub(crate) fn reason(&self, call: Call) -> Option<String> {
        let caller = self.family.members.get(call.by)?;
        (call.how != How::Ordered)
            .then(|| format!("process {caller}, which shares its memory, has to be at home"))
    }

    /// This member cannot come home at the moment. False if it is too late for that.
    pub(crate) fn refuse(&self, call: Call) -> bool {
        self.ledger.refuse(call.number)
    }

    /// Whether all go home, or nobody does; nothing as long as that is open.
    pub(crate) fn go(&self, call: Call) -> Option<bool> {
        self.ledger.go(call.number)
    }

    /// This member's guest has ended, and its process is about to. The others need not wait for that.
    pub(crate) fn ended(&self) {
        if self.fate().is_open() {
            self.ledger.end(self.me);
        }
    }

    /// This member's process is about to end, and its guest stands still for good. Says whether it is so with all.
    pub(crate) fn is_ending(&self) -> bool {
        self.ledger.is_ending(self.me)
    }

    /// Whether nothing of this member is to be waited for any more.
    pub(crate) fn has_left(&self) -> bool {
        self.ledger.stage(self.me) == Stage::Gone
    }

    /// Whether a member has ended, so that nobody knows what it had written.
    pub(crate) fn is_untold(&self) -> bool {
        self.ledger.is_untold()
    }

    /// Rings when there is news, until this member has left.
    pub(crate) fn watch(self: &Arc<Self>, bell: &Arc<Bell>) {
        let (kin, bell) = (Arc::clone(self), Arc::clone(bell));
        std::thread::spawn(move || {
            while !kin.over.load(Ordering::SeqCst) {
                let word = kin.ledger.words().0.word(NEWS);
                let news = word.load(Ordering::SeqCst);
                bell.ring();
                futex::wait(word, news, Some(LONG_NAP));
            }
        });
    }

    /// What was computed is lost: waits until all others have ended, and sees to those whose deputies do not.
    pub(crate) fn see_out(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let left = |member: &&usize| self.ledger.stage(**member) != Stage::Gone;
        let others: Vec<usize> = (0..self.family.members.len()).filter(|member| *member != self.me).collect();
        loop {
            let word = self.ledger.words().0.word(NEWS);
            let news = word.load(Ordering::SeqCst);
            if !others.iter().any(|member| left(&member)) {
                return;
            }
            if Instant::now() > until {
                break;
            }
            futex::wait(word, news, Some(NAP));
        }
        // A process that waits for its deputy, also on its way out, is not ended by a signal. Without that deputy it is, by
        // who comes to put it right.
        for member in others.iter().filter(left) {
            let tracer = Status::read(self.family.members[*member]).map_or(0, |status| status.tracer);
            if eligible::is_deputy(tracer) {
                tracing::error!(deputy = tracer, "a deputy that does not do its part is ended");
                // It may just have ended by itself.
                let deputy = ProcessHandle::open(tracer.cast_unsigned());
                let _ = deputy.and_then(|deputy| deputy.signal(tracee::libc_signal::KILL));
            }
        }
    }

    /// This member is an ordinary process again, or has ended. The last one takes the ledger away.
    pub(crate) fn leave(&self) {
        self.over.store(true, Ordering::SeqCst);
        if self.fate().is_open() {
            self.ledger.end(self.me);
        } else {
            self.arrive(Stage::Gone);
        }
        if self.have_all(Stage::Gone) {
            // Two may see that they are the last.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(name: u8) -> Family {
        Family { id: [name; 16], members: vec![10, 20] }
    }

    fn both(directory: &tempfile::TempDir, name: u8) -> (Kin, Kin) {
        let open = |pid| Kin::open(directory.path(), &family(name), pid).expect("a ledger");
        (open(10), open(20))
    }

    #[test]
    fn members_meet_and_the_last_takes_the_ledger_away() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, other) = both(&directory, 1);
        let path = directory.path().join("family-01010101010101010101010101010101");
        assert!(path.exists());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| one.meet(Stage::Parked, Duration::from_secs(10)));
            other.meet(Stage::Parked, Duration::from_secs(10)).expect("both are there");
            waits.join().expect("no panic").expect("both are there");
        });
        assert!(one.commit());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| one.all_home(Duration::from_secs(10)));
            other.all_home(Duration::from_secs(10)).expect("both are at home");
            waits.join().expect("no panic").expect("both are at home");
        });
        one.leave();
        assert!(path.exists());
        other.leave();
        assert!(!path.exists());
    }

    #[test]
    fn the_first_one_looks_alone_at_what_all_share() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, other) = both(&directory, 4);
        assert!(one.turn_to_judge(Duration::ZERO).expect("it is the first"));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| other.turn_to_judge(Duration::from_secs(10)));
            one.arrive(Stage::Judged);
            assert!(!waits.join().expect("no panic").expect("the first one has looked"));
        });
        // Whether one that has ended had looked, nobody knows.
        let (one, other) = both(&directory, 5);
        one.ended();
        assert!(other.turn_to_judge(Duration::from_secs(10)).expect("it is the first that is left"));
    }

    #[test]
    fn the_last_one_that_is_about_to_end_hears_that_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, other) = both(&directory, 6);
        one.call(How::Urgent);
        one.arrive(Stage::Quiet);
        assert!(!one.is_ending());
        other.arrive(Stage::Quiet);
        assert!(
            one.have_all(Stage::Quiet) && !one.have_all(Stage::Still),
            "that is told apart from how far it is"
        );
        assert!(other.is_ending() && one.is_ending());
        let (one, other) = both(&directory, 7);
        other.ended();
        assert!(one.is_ending(), "the other one has ended");
    }

    #[test]
    fn whoever_waits_in_vain_gives_up_for_all_and_says_for_whom_it_waited() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, other) = both(&directory, 2);
        let failed = one.meet(Stage::Built, Duration::from_millis(150)).expect_err("nobody comes");
        let text =
            "a process that shares its memory could not go on: process 20: it did not get ready in time";
        assert_eq!(failed.to_string(), text);
        assert_eq!((other.fate(), other.commit()), (Fate::Forgotten, false));
        assert_eq!(
            other.meet(Stage::Built, Duration::from_secs(9)).expect_err("it is over").to_string(),
            text
        );
    }

    #[test]
    fn the_first_reason_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, other) = both(&directory, 3);
        assert!(other.commit());
        assert_eq!(other.give_up("its host was lost"), Fate::Lost);
        assert_eq!(one.give_up("too late"), Fate::Lost);
        assert!(one.why().to_string().ends_with("process 20: its host was lost"), "{}", one.why());
        assert!(Kin::open(directory.path(), &family(3), 30).is_err(), "no member");
    }
}
