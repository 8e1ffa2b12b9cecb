//! What stands in for a vDSO on a machine whose kernel provides another one.
//!
//! A program keeps addresses of the vDSO's functions wherever it likes, so they have to be where they were: the home's
//! image lies in the guest's memory, at the same place, and each function begins with the system call that it spares
//! programs natively. Its other code is as it was, for a thread that has to return through it. Nothing of the host's own
//! vDSO is there, so nothing can be left in it when the guest leaves: a thread that is between the beginning of a function
//! and its system call begins that function anew.
//!
//! Layouts: the ELF specification, chapter 4 and 5, with what x86-64 says of its classes; what Linux promises of the
//! functions is in vdso(7).

use crate::registers::Registers;

/// Most bytes of a vDSO's code, headers included.
pub const LENGTH_MAX: usize = 64 << 10;

/// A function by its name, without the `__vdso_` before it, and the instructions that do the same.
const CALLS: &[(&str, &[u8])] = &[
    ("clock_gettime", &[0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0xc3]),
    ("gettimeofday", &[0xb8, 96, 0, 0, 0, 0x0f, 0x05, 0xc3]),
    ("time", &[0xb8, 201, 0, 0, 0, 0x0f, 0x05, 0xc3]),
    ("clock_getres", &[0xb8, 229, 0, 0, 0, 0x0f, 0x05, 0xc3]),
    ("getcpu", &[0xb8, 0x35, 1, 0, 0, 0x0f, 0x05, 0xc3]),
    // Its caller asks first for the layout of a state that it is to keep (length −1, in r8), which no call tells: ENOSYS,
    // and it makes the call instead. The state itself is not needed.
    (
        "getrandom",
        &[
            0x49, 0x83, 0xf8, 0xff, 0x74, 0x08, 0xb8, 0x3e, 1, 0, 0, 0x0f, 0x05, 0xc3, 0xb8, 0xda, 0xff,
            0xff, 0xff, 0xc3,
        ],
    ),
    // No guest has an enclave: ENOSYS.
    ("sgx_enter_enclave", &[0xb8, 0xda, 0xff, 0xff, 0xff, 0xc3]),
];

/// The instruction `ret`.
const RETURN: u8 = 0xc3;
const PREFIX: &str = "__vdso_";

/// Why nothing can stand in for a vDSO.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// It is no ELF image as the kernel makes them.
    #[error("the home's vDSO cannot be read")]
    Image,
    /// A function is not known, or has no room.
    #[error("nothing stands in for the home's vDSO, which has {0}")]
    Function(String),
}

/// A changed image, and where its functions begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    image: Vec<u8>,
    /// Offset of the first byte of each function, and of the one behind its instructions.
    entries: Vec<(usize, usize)>,
}

impl StandIn {
    /// For a vDSO of which this is the image.
    ///
    /// # Errors
    /// When it has a function that is not known.
    pub fn of(image: &[u8]) -> Result<Self, Unknown> {
        let mut stand_in = Self { image: image.to_vec(), entries: Vec::new() };
        for Function { name, offset, room } in functions(image).ok_or(Unknown::Image)? {
            let known = CALLS.iter().find(|(known, _)| *known == name);
            let code = known.map(|(_, code)| *code).filter(|code| code.len() <= room);
            let code = code.ok_or_else(|| Unknown::Function(name.clone()))?;
            let end = offset + code.len();
            stand_in.image.get_mut(offset..end).ok_or(Unknown::Image)?.copy_from_slice(code);
            if !stand_in.entries.contains(&(offset, end)) {
                stand_in.entries.push((offset, end));
            }
        }
        Ok(stand_in)
    }

    /// The bytes to be put where the vDSO's were.
    #[must_use]
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// The registers with which a thread goes on where the vDSO itself is, at `base`. `read` reads the guest's memory.
    #[must_use]
    pub fn left(&self, base: u64, registers: &Registers, read: impl Fn(u64) -> Option<u64>) -> Registers {
        let at = registers.rip.wrapping_sub(base);
        let inside = |(start, end): &&(usize, usize)| (*start as u64..*end as u64).contains(&at);
        let Some((start, _)) = self.entries.iter().find(inside) else { return *registers };
        // Where it is about to return, it has its result. Up to there it has changed nothing but rax, rcx and r11, which a
        // function may.
        if self.image[at as usize] == RETURN
            && at != *start as u64
            && let Some(rip) = read(registers.rsp)
        {
            return Registers { rip, rsp: registers.rsp.wrapping_add(8), ..*registers };
        }
        Registers { rip: base + *start as u64, ..*registers }
    }
}

/// A function that the image exports.
#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    offset: usize,
    room: usize,
}

/// The functions whose names begin with `__vdso_`: each has another name for the same place.
fn functions(image: &[u8]) -> Option<Vec<Function>> {
    const MAGIC: &[u8] = b"\x7fELF\x02\x01\x01";
    const PT_LOAD: u32 = 1;
    const PT_DYNAMIC: u32 = 2;
    const SYMBOL: usize = 24;
    const SYMBOLS_MAX: usize = 1000;
    const FUNCTION: u8 = 2;
    image.starts_with(MAGIC).then_some(())?;
    let (table, size, count) = (long(image, 32)?, half(image, 54)?, half(image, 56)?);
    // What the image says of itself is a place only if it lies in the image; so no sum below can be too large.
    let place = |at: usize| Some(at).filter(|at| *at < image.len());
    let (mut dynamic, mut base) = (None, None);
    for index in 0..count {
        let at = place(place(table)? + index * size)?;
        match word(image, at)? as u32 {
            PT_LOAD => base = base.or(Some(long(image, at + 16)?.checked_sub(long(image, at + 8)?)?)),
            PT_DYNAMIC => dynamic = Some((place(long(image, at + 8)?)?, place(long(image, at + 32)?)?)),
            _ => {}
        }
    }
    let (base, (dynamic, dynamic_bytes)) = (base?, dynamic?);
    let entry = |tag: usize| {
        let entries = (0..dynamic_bytes / 16).map(|index| dynamic + 16 * index);
        let mut found = entries.take_while(|at| long(image, *at).is_some_and(|tag| tag != 0));
        let found = found.find(|at| long(image, *at) == Some(tag));
        place(long(image, found? + 8)?.checked_sub(base)?)
    };
    // DT_HASH, DT_STRTAB, DT_SYMTAB. The second word of the hash table is the number of symbols.
    let (hash, strings, symbols) = (entry(4)?, entry(5)?, entry(6)?);
    let count = word(image, hash + 4)?;
    let mut functions = Vec::new();
    for index in 1..count.min(SYMBOLS_MAX) {
        let at = symbols + index * SYMBOL;
        let name = image.get(strings + word(image, at)?..)?.split(|byte| *byte == 0).next()?;
        let name = std::str::from_utf8(name).ok()?;
        let is_function = image.get(at + 4)? & 0xf == FUNCTION;
        if let Some(name) = name.strip_prefix(PREFIX).filter(|_| is_function) {
            let offset = place(long(image, at + 8)?.checked_sub(base)?)?;
            functions.push(Function { name: name.to_owned(), offset, room: long(image, at + 16)? });
        }
    }
    (!functions.is_empty()).then_some(functions)
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image as the kernel makes them, with functions at these offsets that have so many bytes, all of them `nop`.
    fn image(functions: &[(&str, usize, usize)]) -> Vec<u8> {
        const HASH: usize = 0x100;
        const SYMBOLS: usize = 0x200;
        const DYNAMIC: usize = 0x400;
        const STRINGS: usize = 0x600;
        let mut image = vec![0x90; 0x1200];
        image[..0x800].fill(0);
        let mut put = |at: usize, value: u64, bytes: usize| {
            image[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        };
        put(32, 64, 8);
        put(54, 56, 2);
        put(56, 2, 2);
        put(64, 1, 4);
        put(64 + 56, 2, 4);
        put(64 + 56 + 8, DYNAMIC as u64, 8);
        put(64 + 56 + 32, 0x60, 8);
        for (index, (tag, value)) in [(5, STRINGS), (6, SYMBOLS), (4, HASH)].into_iter().enumerate() {
            put(DYNAMIC + 16 * index, tag, 8);
            put(DYNAMIC + 16 * index + 8, value as u64, 8);
        }
        put(HASH + 4, functions.len() as u64 + 1, 4);
        let mut names = 1;
        for (index, (name, offset, room)) in functions.iter().enumerate() {
            let at = SYMBOLS + 24 * (index + 1);
            put(at, names as u64, 4);
            put(at + 4, 0x12, 1);
            put(at + 8, *offset as u64, 8);
            put(at + 16, *room as u64, 8);
            names += name.len() + 1;
        }
        let mut at = STRINGS + 1;
        for (name, ..) in functions {
            image[at..at + name.len()].copy_from_slice(name.as_bytes());
            at += name.len() + 1;
        }
        image[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        image
    }

    const ALL: &[(&str, usize, usize)] = &[
        ("clock_gettime", 0x900, 100),
        ("__vdso_clock_gettime", 0x900, 100),
        ("__vdso_time", 0xa00, 40),
        ("__vdso_getcpu", 0xb00, 38),
        ("__vdso_getrandom", 0xc00, 900),
        ("__vdso_sgx_enter_enclave", 0x1100, 50),
    ];

    #[test]
    fn functions_begin_with_their_calls_and_nothing_else_changes() {
        let original = image(ALL);
        let stand_in = StandIn::of(&original).unwrap();
        let changed = |at: usize| stand_in.image()[at] != original[at];
        assert_eq!(stand_in.image()[0x900..0x908], [0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0xc3]);
        assert_eq!(stand_in.image()[0xb00..0xb08], [0xb8, 0x35, 1, 0, 0, 0x0f, 0x05, 0xc3]);
        let inside = |at: &usize| stand_in.entries.iter().any(|(start, end)| (*start..*end).contains(at));
        assert_eq!((0..original.len()).filter(|at| changed(*at) && !inside(at)).count(), 0);
        assert_eq!(stand_in.entries.len(), 5, "each once");
    }

    #[test]
    fn what_is_not_known_has_nothing_that_stands_in_for_it() {
        let unknown = image(&[("__vdso_clock_gettime", 0x900, 100), ("__vdso_teleport", 0xa00, 40)]);
        assert_eq!(StandIn::of(&unknown), Err(Unknown::Function("teleport".to_owned())));
        let narrow = image(&[("__vdso_getcpu", 0xb00, 7)]);
        assert_eq!(StandIn::of(&narrow), Err(Unknown::Function("getcpu".to_owned())));
        let beyond = image(&[("__vdso_getcpu", 0x11fc, 38)]);
        assert_eq!(StandIn::of(&beyond), Err(Unknown::Image));
        for broken in [&b""[..], b"\x7fELF\x02\x01\x01", &[0; 5000], &image(&[])] {
            assert_eq!(StandIn::of(broken), Err(Unknown::Image));
        }
    }

    #[test]
    fn a_thread_in_a_function_begins_it_anew_and_one_at_its_end_returns() {
        let stand_in = StandIn::of(&image(ALL)).unwrap();
        const BASE: u64 = 0x7f00_0000_0000;
        let left = |rip: u64| {
            let registers = Registers { rip: BASE + rip, rsp: 0x1000, rax: 7, ..Registers::default() };
            let next = stand_in.left(BASE, &registers, |address| (address == 0x1000).then_some(0x4444));
            assert_eq!(next.rax, 7);
            (next.rip, next.rsp)
        };
        for within in [0x900, 0x905] {
            assert_eq!(left(within), (BASE + 0x900, 0x1000));
        }
        assert_eq!(left(0x907), (0x4444, 0x1008));
        assert_eq!(left(0xc00 + 19), (0x4444, 0x1008));
        for elsewhere in [0x8ff, 0x908, 0x950, 0x5000] {
            assert_eq!(left(elsewhere), (BASE + elsewhere, 0x1000));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(at in 0usize..0x700, word: u64, length in 0usize..0x1200) {
            let mut image = image(ALL);
            image[at..at + 8].copy_from_slice(&word.to_le_bytes());
            let _ = StandIn::of(&image);
            let _ = StandIn::of(&image[..length]);
        }
    }
}
