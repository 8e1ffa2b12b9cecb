//! The seccomp filter of a guest: `here` calls pass, all others wake the host program.
//!
//! A binary search over the call's number comes first, and looks at nothing but the number: so the kernel finds
//! out at once which calls always pass and keeps them in a bitmap that spares running the program at all. Only
//! calls whose place depends on arguments look at these. Another entry than x86-64's (32-bit, x32) is not
//! refused but notified: the process goes home.

use crate::spec::{Case, Place, Spec};
use crate::table::CALLS;

/// One instruction of classic BPF, laid out as the kernel's `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// `SECCOMP_RET_ALLOW`: the call is performed.
pub const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_USER_NOTIF`: whoever holds the listener is asked.
pub const NOTIFY: u32 = 0x7fc0_0000;
/// `AUDIT_ARCH_X86_64`: the entry that the numbers of the table belong to.
pub const X86_64: u32 = 0xc000_003e;

// linux/bpf_common.h: load a word at an offset of `struct seccomp_data`, and with a constant, jump, return.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The filter.
#[must_use]
pub fn program() -> Vec<Instruction> {
    program_of(verdict)
}

/// Calls that pass by themselves, and that may unmap or protect memory which has to stay as it is.
pub const CHANGES_MAPPINGS: [u64; 3] = [9, 10, 11];

/// Futex operations that look for the thread which holds a lock, by its number (linux/futex.h): `LOCK_PI`, `UNLOCK_PI`,
/// `TRYLOCK_PI`, `WAIT_REQUEUE_PI`, `CMP_REQUEUE_PI`, `LOCK_PI2`.
const LENDS_PRIORITY: [u64; 6] = [6, 7, 8, 11, 12, 13];
/// `FUTEX_PRIVATE_FLAG` and all operations.
const PRIVATE_OR_OPERATION: u64 = 0xff;

/// Whether a call is about a lock that several processes may share and that lends its holder the priority of those who
/// wait. The kernel finds the holder only in the PID namespace of who asks.
#[must_use]
pub fn lends_priority(call: u64, arguments: &[u64; 6]) -> bool {
    call == u64::from(FUTEX) && LENDS_PRIORITY.contains(&(arguments[1] & PRIVATE_OR_OPERATION))
}

const FUTEX: u32 = 202;

/// The filter of a guest with such memory: these calls are notified as well, but for those at the host program's order. So
/// are those of [`lends_priority`].
#[must_use]
pub fn watching_program() -> Vec<Instruction> {
    const MMAP: u32 = 9;
    const MUNMAP: u32 = 11;
    program_of(|spec| match spec.number {
        FUTEX => {
            let test = Test { argument: 1, mask: PRIVATE_OR_OPERATION, values: &LENDS_PRIORITY };
            let mut code = Vec::new();
            guard(core::iter::once(test), vec![answer(NOTIFY)], &mut code);
            code.push(answer(ALLOW));
            code
        }
        MMAP => only_at_the_hosts_order(UPPER_FLAGS_OF_MMAP),
        MUNMAP => only_at_the_hosts_order(SIXTH),
        number if CHANGES_MAPPINGS.contains(&u64::from(number)) => vec![answer(NOTIFY)],
        _ => verdict(spec),
    })
}

fn program_of(verdict: impl Fn(&'static Spec) -> Vec<Instruction>) -> Vec<Instruction> {
    let mut leaves: Vec<(u32, Vec<Instruction>)> = vec![(0, vec![answer(NOTIFY)])];
    for number in 0..=CALLS.last().map_or(0, |spec| spec.number) + 1 {
        let code = crate::lookup(u64::from(number)).map_or_else(|| vec![answer(NOTIFY)], &verdict);
        if leaves.last().is_none_or(|(_, last)| *last != code) {
            leaves.push((number, code));
        }
    }
    let mut program = vec![
        Instruction { code: LOAD, jt: 0, jf: 0, k: ARCHITECTURE },
        Instruction { code: JUMP_EQUAL, jt: 1, jf: 0, k: X86_64 },
        answer(NOTIFY),
        Instruction { code: LOAD, jt: 0, jf: 0, k: NUMBER },
    ];
    search(&leaves, &mut program);
    program
}

fn answer(action: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: action }
}

/// A binary search among runs of numbers with the same code, each beginning at its number.
fn search(leaves: &[(u32, Vec<Instruction>)], program: &mut Vec<Instruction>) {
    let [(_, code)] = leaves else {
        let (low, high) = leaves.split_at(leaves.len() / 2);
        let Some((bound, _)) = high.first() else { return };
        let mut below = Vec::new();
        search(low, &mut below);
        if let Ok(skip) = u8::try_from(below.len()) {
            program.push(Instruction { code: JUMP_AT_LEAST, jt: skip, jf: 0, k: *bound });
        } else {
            program.push(Instruction { code: JUMP_AT_LEAST, jt: 0, jf: 1, k: *bound });
            program.push(Instruction { code: JUMP, jt: 0, jf: 0, k: below.len() as u32 });
        }
        program.append(&mut below);
        return search(high, program);
    };
    program.extend_from_slice(code);
}

/// In the sixth argument of a `mremap` or `munmap`, which have fewer, and in the upper half of the flags of a `mmap`, which
/// the kernel ignores: the host program has the guest make this call, and waits for it. A guest that says so itself changes
/// its memory without being asked whether another thread does at the same time, or whether it may, or maps a file of which it
/// has been given a descriptor for that: its own affair.
pub const AT_THE_HOSTS_ORDER: u32 = 0x6d6b_0019;

/// The code that decides about one call.
fn verdict(spec: &'static Spec) -> Vec<Instruction> {
    const MREMAP: u32 = 25;
    const MMAP: u32 = 9;
    let mut code = match spec.number {
        MREMAP => return only_at_the_hosts_order(SIXTH),
        MMAP => at_the_hosts_order(UPPER_FLAGS_OF_MMAP),
        _ => Vec::new(),
    };
    cases(spec, &mut code);
    if code.iter().all(|instruction| instruction.code != RETURN || instruction.k == NOTIFY) {
        return vec![answer(NOTIFY)];
    }
    code
}

const UPPER_FLAGS_OF_MMAP: u32 = ARGUMENTS + 3 * 8 + 4;
const SIXTH: u32 = ARGUMENTS + 5 * 8;

fn only_at_the_hosts_order(place_of_mark: u32) -> Vec<Instruction> {
    [at_the_hosts_order(place_of_mark), vec![answer(NOTIFY)]].concat()
}

/// What is not is decided by what follows.
fn at_the_hosts_order(place_of_mark: u32) -> Vec<Instruction> {
    vec![
        Instruction { code: LOAD, jt: 0, jf: 0, k: place_of_mark },
        Instruction { code: JUMP_EQUAL, jt: 0, jf: 1, k: AT_THE_HOSTS_ORDER },
        answer(ALLOW),
    ]
}

fn cases(spec: &'static Spec, code: &mut Vec<Instruction>) {
    let otherwise = vec![answer(action(spec.otherwise))];
    for (index, case) in spec.cases.iter().enumerate() {
        match case {
            Case::When(conditions, place) => {
                let tests = conditions.iter().map(|condition| Test {
                    argument: condition.argument,
                    mask: spec.mask(condition),
                    values: condition.values,
                });
                guard(tests, vec![answer(action(*place))], code);
            }
            Case::By(commands) => {
                for command in commands.list {
                    let inner = verdict(command);
                    if inner == otherwise && index + 1 == spec.cases.len() {
                        continue;
                    }
                    let (argument, mask) = (commands.argument, commands.mask.into());
                    let test = Test { argument, mask, values: &[command.number.into()] };
                    guard(core::iter::once(test), inner, code);
                }
            }
        }
    }
    code.extend(otherwise);
}

fn action(place: Place) -> u32 {
    if place == Place::Here { ALLOW } else { NOTIFY }
}

/// An argument, masked, is one of these.
struct Test<'t> {
    argument: u8,
    mask: u64,
    values: &'t [u64],
}

/// Emits `then` behind tests; what fails them goes on after it.
fn guard<'t>(
    tests: impl DoubleEndedIterator<Item = Test<'t>>,
    then: Vec<Instruction>,
    code: &mut Vec<Instruction>,
) {
    let mut guarded = then;
    for test in tests.rev() {
        let mut outer = Vec::new();
        compare(&test, &guarded, &mut outer);
        guarded = outer;
    }
    code.append(&mut guarded);
}

/// Emits `then` behind one test.
fn compare(test: &Test<'_>, then: &[Instruction], code: &mut Vec<Instruction>) {
    let argument = ARGUMENTS + 8 * u32::from(test.argument);
    let mut rest = then.to_vec();
    // Distances from the start of `rest` to where success and failure go.
    let (mut success, mut failure) = (0, rest.len());
    for value in test.values.iter().rev() {
        let mut block = Vec::new();
        let mut leaves = Vec::new();
        for (offset, shift) in [(argument, 0), (argument + 4, 32)] {
            let (wanted, mask) = ((value >> shift) as u32, (test.mask >> shift) as u32);
            if mask != 0 {
                block.push(Instruction { code: LOAD, jt: 0, jf: 0, k: offset });
                if mask != u32::MAX {
                    block.push(Instruction { code: AND, jt: 0, jf: 0, k: mask });
                }
                block.push(Instruction { code: JUMP_EQUAL, jt: 1, jf: 0, k: wanted });
                leaves.push(block.len());
                block.push(Instruction { code: JUMP, jt: 0, jf: 0, k: 0 });
            }
        }
        if success > 0 {
            block.push(Instruction { code: JUMP, jt: 0, jf: 0, k: success as u32 });
        }
        for leave in leaves {
            block[leave].k = (block.len() - leave - 1 + failure) as u32;
        }
        (success, failure) = (success + block.len(), 0);
        block.append(&mut rest);
        rest = block;
    }
    code.append(&mut rest);
}
