//! The messages of a session between a deputy program (home) and a host program.
//!
//! ```text
//!            home                                  host
//!  Control   Hello ───────────────────────────────►    shell, namespaces, identical files
//!                  ◄───────────── Prepared | Refused
//!            (the other lanes are opened, the process is stopped)
//!            Enter(image) ────────────────────────►    guest is built, with its first pages
//!                  ◄───────────────────────── Built   of a family, whose guests begin
//!            Run ─────────────────────────────────►    when all are built
//!                  ◄─────────────── Running | Failed
//!            Signal ──────────────────────────────►
//!                  ◄───────────────────── SignalTaken
//!                  ◄──────────────────────── Homeward   the guest asks for something only home can do
//!            GetAll ──────────────────────────────►    the home is short of memory
//!                  ◄────────────────────────── HasAll   what the home has of the guest's memory may go
//!            Precopy ─────────────────────────────►    changed pages come early, while the guest runs
//!            Recall ──────────────────────────────►    guest is stopped
//!                  ◄───────────────────────── Still   of a family, on the stream lane; and when all
//!            Collect ─────────────────────────────►    stand still their shared pages can be read
//!                  ◄───────────────── Leaving(return)
//!            Bye ─────────────────────────────────►    guest is killed
//!            End ─────────────────────────────────►    of a family, while the process is about to end
//!                  ◄────────────────────────── Gone
//!  Calls           ◄──────────────────────────── Taken   on one that is opened later
//!                  ◄───────────────────────────── Call
//!            Result ──────────────────────────────►
//!  Faults          ◄──────────────────────────── Fetch
//!            Pages ───────────────────────────────►
//!  Stream    Pages … ─────────────────────────────►    with the image
//!            Present, Pages …, End ───────────────►    while away
//!                  ◄──────────────────── Pages …, End  on the way home
//! ```
//!
//! Small messages are `postcard`; pages and call data travel raw behind a fixed header of their own.

use crate::frame::{BULK_KIND, CONTROL_BODY_BYTES_MAX, Header};
use crate::preamble::SessionSecret;
use minka_image::cpu::Features;
use minka_image::origin::Wanted;
use minka_image::process::{Image, Return};
use minka_image::xstate::Layout;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// Kinds of frames that carry raw bytes.
pub mod kind {
    use super::BULK_KIND;
    /// A [`super::FromHome`] message.
    pub const FROM_HOME: u16 = 1;
    /// A [`super::FromHost`] message.
    pub const FROM_HOST: u16 = 2;
    /// A forwarded call: the body is the marshaller's; the correlation is the thread's id at home.
    pub const CALL: u16 = BULK_KIND | 3;
    /// Its result.
    pub const RESULT: u16 = BULK_KIND | 4;
    /// A request for pages: [`super::Fetch`].
    pub const FETCH: u16 = 5;
    /// Pages: the correlation is the address of the first one, the body their content.
    pub const PAGES: u16 = BULK_KIND | 6;
    /// Which pages exist at home: pairs of little-endian words, start and end address.
    pub const PRESENT: u16 = 7;
    /// No more [`PRESENT`] frames follow: what was not named reads as zeros.
    pub const PRESENT_END: u16 = 8;
    /// No more [`PAGES`] follow.
    pub const END: u16 = 9;
    /// The pages sent early are all there; the rest follows when the guest has been stopped.
    pub const PRECOPIED: u16 = 11;
    /// Data of the write before it ([`super::BEHIND`]), raw; with the flag [`super::ENDS`] the last.
    pub const DATA: u16 = BULK_KIND | 12;
    /// A call of [`super::Special`] form.
    pub const SPECIAL: u16 = 10;
    /// The first word on a lane that was opened while the guest was running: its host has taken it in.
    pub const TAKEN: u16 = 13;
}

/// In the flags of a [`kind::CALL`] frame: the call was interrupted before, and its home's kernel remembers how to
/// go on with it (`restart_syscall(2)`). The body describes the call as it was first made.
pub const RESTART: u32 = 1;

/// In the flags of a [`kind::CALL`] frame: a signal waits in the guest for the thread that makes it, so it is made as one
/// that is interrupted at once. What need not wait is done all the same.
pub const INTERRUPTED: u32 = 2;

/// Where the flags of a [`kind::CALL`] frame hold how many of the lookups that were foretold last ([`FORETELLS`]) the thread
/// has made since, one after the other from the first.
pub const TRUE_SHIFT: u32 = 2;
/// The bits of that number.
pub const TRUE_MASK: u32 = 0x7f;

/// In the flags of a [`kind::CALL`] frame: the call is a write that was granted ([`GRANTED`]), and the thread has been told
/// that all of it is written. There is no result. Where the body is no more than the call itself, its data follow in frames of the kind
/// [`kind::DATA`].
pub const BEHIND: u32 = 1 << 9;

/// In the flags of a [`kind::DATA`] frame: no more data follow, though there are fewer than were announced.
pub const ENDS: u32 = 1;

/// The most bytes of a write that is told to be made before it is.
pub const BEHIND_MAX: u64 = 2 << 20;

/// Where the flags of a [`kind::CALL`] frame hold, in 16 bits, how many signals had been handed to the thread when it
/// made the call: as long as the home has handed over more, the call is one that a signal has interrupted since.
pub const SIGNALS_SHIFT: u32 = 16;

/// In the flags of a [`kind::RESULT`] frame: the guest is about to be recalled, and signals wait for it at home that
/// it would have taken before this call returned. It must not execute another instruction until then.
pub const HOLD: u32 = 1;

/// In the flags of a [`kind::RESULT`] frame: the recall of the guest has cut the call short, and nothing else has. What
/// of its data it has carried is its result; the rest is carried when the thread makes the call again.
pub const CUT: u32 = 2;

/// In the flags of a [`kind::RESULT`] frame: behind the result stand lookups that the thread is likely to make next, with their
/// results (`minka_syscalls::foretell`), and behind them their length in bytes, in four.
pub const FORETELLS: u32 = 4;

/// In the flags of a [`kind::CALL`] frame with [`BEHIND`]: there is a result all the same, when this write and those before it have been
/// made. Nobody waits for it right now.
pub const ASKS: u32 = 1 << 10;

/// In the flags of a [`kind::RESULT`] frame: the call was a write, and those that follow to its descriptor within [`GRANT_TIME`] will find
/// room. So the host may tell the thread that they have been made, and send them afterwards ([`BEHIND`]).
pub const GRANTED: u32 = 8;

/// In the flags of a [`kind::RESULT`] frame: what has been granted before ([`GRANTED`]) still is. Any result without this takes
/// all of that back.
pub const GRANTS_STAND: u32 = 16;

/// For how long a grant is good.
pub const GRANT_TIME: Duration = Duration::from_millis(50);

/// How many bytes of such writes may be on their way, or in the home's hands, without a result: as much as keeps both sides busy. With
/// more the data are no longer near any processor when they are used.
pub const WINDOW: u64 = 2 << 20;

/// Descriptors that are granted at a time, at most.
pub const GRANTS_MAX: usize = 4;

/// A file of the home that the host may have too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOffer {
    /// Its path at home.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of its content.
    pub digest: [u8; 32],
}

/// What the home says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// PID at home.
    pub pid: i32,
    /// Command name.
    pub command: String,
    /// The kernel's boot id: equal on both sides means one machine.
    pub boot_id: String,
    /// Monotonic and boot-time clocks at home, nanoseconds.
    pub clocks: (i64, i64),
    /// The processor's features at home, those that the process may use.
    pub features: Features,
    /// Where its extended registers are.
    pub layout: Layout,
    /// SHA-256 of the vDSO's code at home.
    pub vdso_digest: [u8; 32],
    /// That code, all of its pages: at most [`minka_image::vdso::LENGTH_MAX`] bytes.
    pub vdso_code: Vec<u8>,
    /// Lowest address of the vDSO and its data, and the bytes from there to the vDSO's code.
    pub vdso: (u64, u64),
    /// Where nothing is mapped at home, for the workbench.
    pub workbench: u64,
    /// Files whose pages the host may have.
    pub files: Vec<FileOffer>,
    /// The family of which it is a member: the others come, too.
    pub family: Option<crate::local::FamilyId>,
}

/// From the home, on the control lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromHome {
    /// The first message: an offer, and what the keys of the session's other lanes come from.
    Hello(Box<Hello>, SessionSecret),
    /// Build the guest and let it run.
    Enter {
        /// What it is built from.
        image: Box<Image>,
        /// So many [`kind::PAGES`] frames come on the stream lane at once, before all others: the pages that the guest
        /// needs first.
        first: u32,
    },
    /// A signal for a thread: number and the kernel's `siginfo_t`.
    Signal {
        /// Thread id at home.
        tid: i32,
        /// Signal number.
        signal: i32,
        /// The kernel's `siginfo_t`, 128 bytes.
        info: Vec<u8>,
    },
    /// The guest is going to be recalled: send early what it has changed so far.
    Precopy,
    /// Stop the guest and send back what it changed.
    Recall,
    /// The session is over: the guest is not needed any more.
    Bye,
    /// The guest is not recalled after all: threads that were held ([`HOLD`]) go on.
    GoOn,
    /// Get all pages that the guest still misses, and say when the home's are not needed any more ([`FromHost::HasAll`]).
    GetAll,
    /// The guests of all members are built: let this one run.
    Run,
    /// The guests of all members stand still: send what this one has changed.
    Collect {
        /// One of them has ended, and nobody knows what it had written: everything that they share counts as written.
        all: bool,
    },
    /// The process is about to end: end its guest, which shares memory with others, as its kernel would.
    End,
}

impl FromHome {
    /// What it is called, for people: its content is not for them.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(..) => "Hello",
            Self::Enter { .. } => "Enter",
            Self::Signal { .. } => "Signal",
            Self::Precopy => "Precopy",
            Self::Recall => "Recall",
            Self::Bye => "Bye",
            Self::GoOn => "GoOn",
            Self::GetAll => "GetAll",
            Self::Run => "Run",
            Self::Collect { .. } => "Collect",
            Self::End => "End",
        }
    }
}

/// From the host, on the control lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromHost {
    /// The shell is ready.
    Prepared {
        /// For each offered file: whether an identical one is here.
        files: Vec<bool>,
        /// This host cannot serve missing pages: all of them have to come before the guest runs.
        eager: bool,
        /// This host runs on the home's own machine, so that its files are the very same.
        same_machine: bool,
        /// The components of extended state (bits of XCR0) that it keeps.
        states: u64,
    },
    /// This host cannot take the process.
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// The guest runs.
    Running,
    /// The guest could not be built.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// The signal is pending in the guest: the call that it interrupted may return.
    SignalTaken,
    /// The guest is at an instruction that this host's processor does not know: recall it.
    UnknownInstruction,
    /// The guest cannot go on here: recall it.
    Homeward {
        /// Why, for people.
        reason: String,
    },
    /// The guest is stopped; its pages follow on the stream lane.
    Leaving(Box<Leaving>),
    /// Every page of private anonymous memory that the home had is here, and counts as written: all of them go home with
    /// the guest, so what the home has of them may go.
    HasAll,
    /// The guest of a member of a family is built; it runs when it is told to.
    Built,
    /// It is stopped.
    Still,
    /// It is no more, and has not executed an instruction since.
    Gone,
}

impl FromHost {
    /// What it is called, for people: its content is not for them.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepared { .. } => "Prepared",
            Self::Refused { .. } => "Refused",
            Self::Running => "Running",
            Self::Failed { .. } => "Failed",
            Self::SignalTaken => "SignalTaken",
            Self::UnknownInstruction => "UnknownInstruction",
            Self::Homeward { .. } => "Homeward",
            Self::Leaving(_) => "Leaving",
            Self::HasAll => "HasAll",
            Self::Built => "Built",
            Self::Still => "Still",
            Self::Gone => "Gone",
        }
    }
}

/// What a guest leaves with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Its threads and borders.
    pub state: Return,
    /// The address space that the home has to have.
    pub space: Vec<Piece>,
    /// Threads that the home has made and the guest has not: the call that was to make them is made again.
    pub unmade: Vec<i32>,
    /// Of a guest that shares memory with others: the robust locks in it that its threads hold, each the thread that does (by
    /// its id at home) and the lock's word.
    pub locks: Vec<(i32, u64)>,
    /// So many writes were sent behind their threads' back ([`BEHIND`]): all of them are to be made before the threads go on.
    pub behind: u64,
}

/// A [`Wanted`] piece of address space, as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// Protection bits.
    pub protection: u8,
    /// Part of the main thread's stack.
    pub stack: bool,
    /// Where the home has it; `None` for new anonymous memory.
    pub source: Option<u64>,
}

impl From<Wanted> for Piece {
    fn from(wanted: Wanted) -> Self {
        let Wanted { start, end, protection, stack, source } = wanted;
        Self { start, end, protection, stack, source }
    }
}

impl From<Piece> for Wanted {
    fn from(piece: Piece) -> Self {
        let Piece { start, end, protection, stack, source } = piece;
        Self { start, end, protection, stack, source }
    }
}

/// A request for pages, on the faults lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// First address at home, on a page border.
    pub address: u64,
    /// Bytes, whole pages, at most [`FETCH_MAX`].
    pub length: u32,
}

/// Most frames of pages that come with an image.
pub const FIRST_MAX: u32 = 64;

/// Most bytes of one [`Fetch`].
pub const FETCH_MAX: u32 = 2 << 20;

/// Something other than a system call that the home does for a guest's thread, on the calls lane. Answered with a
/// [`kind::RESULT`] frame like a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Special {
    /// Open a file at home, for reading, that shows what a `/proc/self` file would: the home's view with the guest's
    /// in it.
    Proc {
        /// Which file.
        file: ProcFile,
        /// The flags of the `open`.
        flags: u32,
    },
    /// Map a file at a fixed address, privately or shared for reading; [`NOT_EXACT`] is an answer. Behind the result
    /// there may be a [`FileOffer`]: the host may have that file too, and map it instead of asking for its pages.
    MapFile {
        /// Address, length, protection, flags, descriptor, offset.
        arguments: [u64; 6],
    },
    /// The thread's signal mask has changed without a call that could be forwarded.
    Mask {
        /// Blocked signals, bit `n - 1` for signal `n`.
        mask: u64,
    },
    /// Make a thread; the answer is its id, or [`NOT_EXACT`] where there is no room for another one.
    MakeThread,
    /// End a thread that was made and that the guest could not have after all.
    EndThread {
        /// Its id.
        tid: i32,
    },
}

/// The answer to a [`Special`] when only the home itself could do it exactly. No system call returns it.
pub const NOT_EXACT: i64 = i64::MIN;

/// A `/proc/self` file, with what the guest adds to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcFile {
    /// `maps`.
    Maps {
        /// The guest's address space.
        space: Vec<Piece>,
        /// Its heap: first address and the one after the last.
        heap: (u64, u64),
    },
    /// `status`, as the host's kernel shows the guest.
    Status {
        /// The text.
        guest: String,
    },
    /// `stat`, as the host's kernel shows the guest.
    Stat {
        /// The text.
        guest: String,
    },
    /// A file that the guest's memory holds whole.
    Whole {
        /// The content.
        content: String,
    },
}

/// Why a body is no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Another kind of frame than this point of the protocol allows.
    #[error("understand a frame of kind {found:#06x} where {expected} was due")]
    Kind {
        /// The frame's kind.
        found: u16,
        /// What was due.
        expected: &'static str,
    },
    /// The body does not decode.
    #[error("decode a message")]
    Body(#[from] postcard::Error),
    /// A message of many frames does not end.
    #[error("accept a message of more than {LONG_MAX} bytes")]
    TooLong,
}

/// In the flags of a frame of the kinds [`kind::FROM_HOME`] and [`kind::FROM_HOST`]: its message goes on in the next one.
pub const MORE: u32 = 1;

/// The longest message, in bytes: a process may have a million mappings, and hundreds of threads.
pub const LONG_MAX: usize = 64 << 20;

/// The frames of a message, of which one may not hold all: their headers, and what they carry.
pub fn frames(kind: u16, message: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let parts = message.chunks(CONTROL_BODY_BYTES_MAX as usize);
    let last = parts.len().saturating_sub(1);
    parts.enumerate().map(move |(number, part)| {
        let flags = if number < last { MORE } else { 0 };
        (Header { flags, ..Header::new(kind, 0) }, part)
    })
}

/// What has come of a message so far that goes on in further frames.
#[derive(Debug, Default)]
pub struct Unfinished(Vec<u8>);

impl Unfinished {
    /// Takes in a frame; gives the whole message when that was its last.
    pub fn add<'a>(
        &mut self,
        header: &Header,
        body: &'a [u8],
    ) -> Result<Option<Cow<'a, [u8]>>, MessageError> {
        let is_last = header.flags & MORE == 0;
        if self.0.is_empty() && is_last {
            return Ok(Some(Cow::Borrowed(body)));
        }
        if self.0.len() + body.len() > LONG_MAX {
            return Err(MessageError::TooLong);
        }
        self.0.extend_from_slice(body);
        Ok(is_last.then(|| Cow::Owned(std::mem::take(&mut self.0))))
    }
}

/// The body of a small message.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    // Into a vector nothing can fail but the serialiser, and these types have no fallible one.
    postcard::to_allocvec(message).expect("messages serialise")
}

/// A small message from its frame.
pub fn decode<'a, T: Deserialize<'a>>(
    header: &Header,
    body: &'a [u8],
    kind: u16,
    expected: &'static str,
) -> Result<T, MessageError> {
    if header.kind != kind {
        return Err(MessageError::Kind { found: header.kind, expected });
    }
    Ok(postcard::from_bytes(body)?)
}

/// What stands behind the head of a frame's body.
pub fn decode_part<'a, T: Deserialize<'a>>(part: &'a [u8]) -> Result<T, MessageError> {
    Ok(postcard::from_bytes(part)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetch_keeps_its_bytes() {
        let bytes = encode(&Fetch { address: 0x7f00_0000_1000, length: 65536 });
        assert_eq!(bytes, [0x80, 0xa0, 0x80, 0x80, 0x80, 0xe0, 0x1f, 0x80, 0x80, 0x04]);
    }

    #[test]
    fn what_is_longer_than_a_frame_goes_in_several() {
        let limit = CONTROL_BODY_BYTES_MAX as usize;
        for length in [1, limit, limit + 1, 2 * limit, 3 * limit + 7] {
            let message: Vec<u8> = (0..length).map(|at| (at / 3) as u8).collect();
            let mut unfinished = Unfinished::default();
            let mut whole = Vec::new();
            for (header, part) in frames(kind::FROM_HOST, &message) {
                assert!(header.with_length(part.len()).is_ok());
                whole.extend(unfinished.add(&header, part).expect("not too long"));
            }
            assert!(whole.len() == 1 && *whole[0] == message, "{length}");
        }
    }

    #[test]
    fn what_does_not_end_is_refused() {
        let (mut unfinished, part) = (Unfinished::default(), vec![0; CONTROL_BODY_BYTES_MAX as usize]);
        let header = Header { flags: MORE, ..Header::new(kind::FROM_HOST, 0) };
        let ends =
            (0..=LONG_MAX / part.len()).map(|_| unfinished.add(&header, &part).is_err()).position(|bad| bad);
        assert_eq!(ends, Some(LONG_MAX / part.len()));
    }

    #[test]
    fn garbage_is_refused() {
        let header = Header::new(kind::FROM_HOME, 0);
        let refused = |body: &[u8]| decode::<FromHome>(&header, body, kind::FROM_HOME, "a message").is_err();
        assert!(refused(&[]));
        assert!(refused(&[250, 1, 2]));
        let other = decode::<FromHome>(&header, &encode(&FromHome::Bye), kind::FROM_HOST, "a message");
        assert!(matches!(other, Err(MessageError::Kind { .. })));
    }
}
