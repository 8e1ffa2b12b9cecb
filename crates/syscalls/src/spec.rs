//! What the table says about one call: data only, so that every use of it is a walk.
//!
//! A [`Spec`] is one line of the table. Calls with sub-commands (ioctl, fcntl, prctl, …) have a further [`Spec`]
//! for each command; [`Spec::resolve`] finds the one that describes given arguments, and everything else starts
//! from there.

use core::fmt;

/// Where a call is performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the guest, natively: it touches only the guest's own memory and threads. The filter lets it pass.
    Here,
    /// At home first, then natively in the guest too, because both keep the state it changes.
    Both,
    /// At home, or answered from a copy on the host as long as the copy is exact.
    Cached,
    /// At home.
    Home,
    /// By code of its own in the supervisors; the table describes its arguments all the same.
    Own,
    /// Natively, in the original process: the guest goes home first.
    Homeward,
}

impl Place {
    /// All places, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Here, Self::Both, Self::Cached, Self::Home, Self::Own, Self::Homeward];

    /// The word the table uses.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Both => "both",
            Self::Cached => "cached",
            Self::Home => "home",
            Self::Own => "own",
            Self::Homeward => "homeward",
        }
    }

    /// Whether the marshaller may carry such a call to the home.
    #[must_use]
    pub const fn is_forwarded(self) -> bool {
        matches!(self, Self::Both | Self::Cached | Self::Home)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// One call, or one command of a call that has commands.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    /// The call's number on x86-64; for a command, the value that selects it.
    pub number: u32,
    /// The call's number, for a command too.
    pub call: u32,
    /// The kernel's name for it.
    pub name: &'static str,
    /// The arguments in register order, at most six.
    pub arguments: &'static [Argument],
    /// What the result is when it is not an error.
    pub outcome: Outcome,
    /// Exceptions to `otherwise`, the first that holds decides.
    pub cases: &'static [Case],
    /// Where it runs when no case holds.
    pub otherwise: Place,
    /// What else is true of it.
    pub marks: Marks,
    /// Why it is where it is, for people; may be empty.
    pub note: &'static str,
}

/// Properties of a call that are either there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// It may sleep for long, waiting for someone else.
    pub blocks: bool,
    /// A result smaller than asked for is legitimate, so one transfer may carry a part of the data.
    pub short: bool,
    /// No x86-64 kernel has it: the answer is always ENOSYS.
    pub absent: bool,
}

impl Marks {
    /// No property.
    pub const NONE: Self = Self { blocks: false, short: false, absent: false };
}

/// One argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The kernel's name for it, or a clearer one.
    pub name: &'static str,
    /// What the register holds.
    pub kind: Kind,
    /// When what it points to is written, if it is written at all.
    pub when: When,
}

/// What an argument register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Value(Format),
    /// A descriptor of the home.
    Fd,
    /// The address of a NUL-terminated string of at most 4096 bytes, as paths and names are.
    Str,
    /// An address that no forwarded call follows.
    Address,
    /// The address of data whose size the call's arguments or result give.
    Data(Data),
    /// The address of an array of `struct iovec`; the argument with this index counts its elements.
    Vector(Direction, u8),
    /// The address of a `struct msghdr`.
    Message(Direction),
    /// The address of an array of `struct mmsghdr`; the argument with this index counts its elements.
    Messages(Direction, u8),
    /// The address of a bit set (`fd_set`), read and written as whole 64-bit words; the argument with this index
    /// counts its bits.
    Bits(u8),
    /// The address of `{ const sigset_t *set; size_t size }`: the sixth argument of pselect6.
    MaskPair,
    /// The address of a vector of strings that a null pointer ends, as argv is.
    Strings,
    /// The address of a structure whose first 32-bit word tells its size.
    Counted(Counted),
}

impl Kind {
    /// Whether the register holds an address.
    #[must_use]
    pub const fn is_pointer(&self) -> bool {
        !matches!(self, Self::Value(_) | Self::Fd)
    }
}

/// Which way data travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The kernel reads it.
    In,
    /// The kernel writes it.
    Out,
    /// The kernel reads it and writes it, or writes only parts of it.
    InOut,
}

impl Direction {
    /// Whether the bytes must be sent to the home.
    #[must_use]
    pub const fn is_read(self) -> bool {
        !matches!(self, Self::Out)
    }

    /// Whether bytes come back.
    #[must_use]
    pub const fn is_written(self) -> bool {
        !matches!(self, Self::In)
    }
}

/// An array behind a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// Which way it travels.
    pub direction: Direction,
    /// Name of the element's type, as the table has it.
    pub element: &'static str,
    /// Size of one element in bytes.
    pub size: u32,
    /// How many elements there are.
    pub length: Length,
    /// Bytes in front of the elements that the length does not count.
    pub head: u32,
    /// The kernel never touches more bytes than this, however large the length.
    pub most: u32,
}

/// How many elements an array has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// This many.
    Fixed(u32),
    /// As many as the argument with this index says.
    Argument(u8),
    /// Room for as many as the argument with this index says; after the call, as many as its result says.
    Returned(u8),
    /// As the 32-bit number at the address in the argument with this index says: before the call the room, after
    /// it the use.
    Pointee(u8),
    /// Exactly this many when the argument with the index says so too; otherwise the kernel refuses the call
    /// without looking: `sigset_t` and its size.
    Exactly(u32, u8),
    /// As the size bits of the ioctl command in the argument with this index say.
    Encoded(u8),
}

/// A structure that tells its own size: `base` plus its first 32-bit word, within the bounds the kernel allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Which way it travels.
    pub direction: Direction,
    /// Bytes that the word does not count.
    pub base: u32,
    /// The kernel takes smaller sizes for this one, or refuses them.
    pub least: u32,
    /// The kernel refuses larger sizes.
    pub most: u32,
}

/// When output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// When the result is not an error.
    Success,
    /// Whatever the result.
    Always,
    /// When a signal interrupted the call: EINTR or one of the kernel's restart codes.
    Interrupted,
    /// When the result is greater than this.
    Above(u32),
}

impl When {
    /// Whether a call with this result wrote the output.
    #[must_use]
    pub const fn holds(self, result: i64) -> bool {
        match self {
            Self::Success => !is_error(result),
            Self::Always => true,
            Self::Interrupted => matches!(result, -4 | -516..=-512),
            Self::Above(bound) => result > bound as i64,
        }
    }
}

/// Whether a raw result is an error number (which includes the kernel's restart codes, 512 to 516).
#[must_use]
pub const fn is_error(result: i64) -> bool {
    result < 0 && result >= -4095
}

/// What a result is when it is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A number.
    Value,
    /// A new descriptor of the home.
    Fd,
}

/// How a number is to be read and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// C's `int`: the kernel looks at the low half only.
    I32,
    /// C's `unsigned int`: the kernel looks at the low half only.
    U32,
    /// A signed register.
    I64,
    /// An unsigned register.
    U64,
    /// A size or a count.
    Usize,
    /// A register best shown in hexadecimal.
    Hex,
    /// 32 bits best shown in hexadecimal.
    Hex32,
    /// A place in a file: it moves on when a transfer is split.
    Position,
    /// 32 bits with names.
    Symbols(&'static crate::symbols::Symbols),
}

impl Format {
    /// Whether the kernel looks at the whole register.
    #[must_use]
    pub const fn is_wide(self) -> bool {
        matches!(self, Self::I64 | Self::U64 | Self::Usize | Self::Hex | Self::Position)
    }
}

/// An exception to the place of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// When all conditions hold, the call runs at the place.
    When(&'static [Condition], Place),
    /// The command in an argument selects a [`Spec`] that then stands for the call.
    By(Commands),
}

/// A sub-table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commands {
    /// Index of the argument that holds the command (its low 32 bits).
    pub argument: u8,
    /// The bits of it that select.
    pub mask: u32,
    /// The commands, ascending.
    pub list: &'static [Spec],
}

impl Commands {
    /// The command that these arguments select.
    #[must_use]
    pub fn find(&self, arguments: &[u64; 6]) -> Option<&'static Spec> {
        let command = arguments[usize::from(self.argument)] as u32 & self.mask;
        let index = self.list.binary_search_by_key(&command, |spec| spec.number).ok()?;
        self.list.get(index)
    }
}

/// A test of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Index of the argument.
    pub argument: u8,
    /// The bits that are looked at, of those that the kernel looks at.
    pub mask: u64,
    /// It holds when they equal one of these.
    pub values: &'static [u64],
}

impl Spec {
    /// The line that describes a call with these arguments: this one, or that of the command they select.
    #[must_use]
    pub fn resolve(&self, arguments: &[u64; 6]) -> &Self {
        self.settle(arguments).0
    }

    /// Where a call with these arguments runs.
    #[must_use]
    pub fn decide(&self, arguments: &[u64; 6]) -> Place {
        self.settle(arguments).1
    }

    /// [`Spec::resolve`] and [`Spec::decide`] in one.
    #[must_use]
    pub fn settle(&self, arguments: &[u64; 6]) -> (&Self, Place) {
        for case in self.cases {
            match case {
                Case::When(conditions, place) if self.holds(conditions, arguments) => {
                    return (self, *place);
                }
                Case::When(..) => {}
                Case::By(commands) => {
                    if let Some(command) = commands.find(arguments) {
                        return command.settle(arguments);
                    }
                }
            }
        }
        (self, self.otherwise)
    }

    fn holds(&self, conditions: &[Condition], arguments: &[u64; 6]) -> bool {
        conditions.iter().all(|condition| {
            let bits = arguments[usize::from(condition.argument)] & self.mask(condition);
            condition.values.contains(&bits)
        })
    }

    /// The bits of the register that a condition of this call looks at: the kernel ignores the upper half of an
    /// `int`, so a test must too.
    #[must_use]
    pub fn mask(&self, condition: &Condition) -> u64 {
        match self.arguments.get(usize::from(condition.argument)).map(|argument| argument.kind) {
            Some(Kind::Value(format)) if !format.is_wide() => condition.mask & 0xffff_ffff,
            Some(Kind::Fd) => condition.mask & 0xffff_ffff,
            _ => condition.mask,
        }
    }

    /// The argument that holds the address of a signal mask which the kernel sets for the time of the call only
    /// (ppoll, epoll_pwait, rt_sigsuspend, …). For pselect6 the address is that of the mask's address.
    #[must_use]
    pub fn temporary_mask(&self) -> Option<usize> {
        let waits = matches!(self.call, 130 | 270 | 271 | 281 | 333 | 441);
        let is_mask = |argument: &Argument| argument.name == "sigmask";
        if waits { self.arguments.iter().position(is_mask) } else { None }
    }

    /// The number in the argument with this index as the kernel reads it; `None` when it is negative.
    #[must_use]
    pub fn number_in(&self, arguments: &[u64; 6], index: u8) -> Option<u64> {
        let raw = *arguments.get(usize::from(index))?;
        match self.arguments.get(usize::from(index)).map(|argument| argument.kind) {
            Some(Kind::Value(Format::I32)) => u64::try_from(raw as u32 as i32).ok(),
            Some(Kind::Value(format)) if !format.is_wide() => Some(u64::from(raw as u32)),
            Some(Kind::Value(Format::I64)) => u64::try_from(raw as i64).ok(),
            _ => Some(raw),
        }
    }
}
