//! The seccomp filter, run by a small interpreter of its own and compared with `decide`, and by the kernel.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use minka_syscalls::decide;
use minka_syscalls::filter::{
    ALLOW, AT_THE_HOSTS_ORDER, CHANGES_MAPPINGS, Instruction, NOTIFY, X86_64, lends_priority, program,
    watching_program,
};
use minka_syscalls::spec::{Case, Place, Spec};
use minka_syscalls::table::CALLS;
use proptest::prelude::*;

/// `struct seccomp_data` (linux/seccomp.h).
fn data(number: u32, architecture: u32, arguments: &[u64; 6]) -> Vec<u8> {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend(0x1234_5678_u64.to_le_bytes());
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    data
}

/// Runs a program as the kernel would; panics where the kernel would refuse it. Also tells whether arguments
/// were looked at.
fn run(program: &[Instruction], data: &[u8]) -> (u32, bool) {
    let (mut accumulator, mut at, mut looked) = (0_u32, 0, false);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        match code {
            0x20 => {
                let offset = k as usize;
                assert!(offset.is_multiple_of(4) && offset < data.len(), "load from {offset}");
                looked |= offset >= 16;
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += usize::from(if accumulator == k { jt } else { jf }),
            0x35 => at += usize::from(if accumulator >= k { jt } else { jf }),
            0x06 => return (k, looked),
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn agrees(program: &[Instruction], number: u32, arguments: &[u64; 6]) {
    let (action, _) = run(program, &data(number, X86_64, arguments));
    let expected = if decide(number.into(), arguments) == Place::Here { ALLOW } else { NOTIFY };
    assert_eq!(action, expected, "call {number} with {arguments:x?}");
}

#[test]
fn it_fits_the_kernels_limits() {
    let program = program();
    assert!(program.len() < 1024, "{} instructions", program.len());
    for (index, instruction) in program.iter().enumerate() {
        let furthest = match instruction.code {
            0x05 => instruction.k as usize,
            0x15 | 0x35 => usize::from(instruction.jt.max(instruction.jf)),
            _ => 0,
        };
        assert!(index + 1 + furthest < program.len() || instruction.code == 0x06, "jump out of the program");
    }
}

#[test]
fn every_number_is_decided_as_the_table_says() {
    let program = program();
    for number in (0..1000).chain([0x4000_0000, 0x4000_0001, 0x4000_000c, u32::MAX]) {
        agrees(&program, number, &[0; 6]);
        agrees(&program, number, &[u64::MAX; 6]);
    }
}

#[test]
fn the_watching_filter_notifies_what_changes_mappings_and_nothing_else_more() {
    let (plain, watching) = (program(), watching_program());
    assert!(watching.len() < 1024, "{} instructions", watching.len());
    for number in 0..600 {
        for arguments in [[0; 6], [u64::MAX; 6], [0, 0, 3, 0x22, u64::MAX, 0], [0, 0, 3, 0x32, u64::MAX, 0]] {
            let [plain, watching] =
                [&plain, &watching].map(|one| run(one, &data(number, X86_64, &arguments)).0);
            let is_watched = CHANGES_MAPPINGS.contains(&number.into());
            assert_eq!(
                watching,
                if is_watched { NOTIFY } else { plain },
                "call {number} with {arguments:x?}"
            );
        }
    }
    let munmap = |mark| run(&watching, &data(11, X86_64, &[0x1000, 0x1000, 0, 0, 0, mark])).0;
    assert_eq!((munmap(0), munmap(AT_THE_HOSTS_ORDER.into())), (NOTIFY, ALLOW));
    let mmap =
        |mark: u64| run(&watching, &data(9, X86_64, &[0x1000, 0x1000, 3, mark << 32 | 0x32, u64::MAX, 0])).0;
    assert_eq!((mmap(0), mmap(AT_THE_HOSTS_ORDER.into())), (NOTIFY, ALLOW));
    for operation in 0..0x200 {
        let arguments = [0x1000, operation, 0, 0, 0, 0];
        let found = run(&watching, &data(202, X86_64, &arguments)).0;
        assert_eq!(found == NOTIFY, lends_priority(202, &arguments), "{operation:#x}");
    }
    let operations = |operations: &[u64]| {
        operations
            .iter()
            .map(|operation| lends_priority(202, &[0, *operation, 0, 0, 0, 0]))
            .collect::<Vec<_>>()
    };
    assert_eq!(operations(&[6, 7, 8, 11, 12, 13, 13 | 0x100]), [true; 7]);
    assert_eq!(operations(&[0, 1, 9, 10, 6 | 0x80, 13 | 0x80]), [false; 6]);
}

#[test]
fn other_entries_are_notified() {
    let program = program();
    for number in 0..600 {
        for architecture in [0x4000_0003, 0xc000_00b7, 0] {
            assert_eq!(run(&program, &data(number, architecture, &[0; 6])).0, NOTIFY);
        }
        // x32 has the number's bit 30 set.
        assert_eq!(run(&program, &data(number | 0x4000_0000, X86_64, &[0; 6])).0, NOTIFY);
    }
}

#[test]
fn memory_is_moved_unasked_at_the_hosts_order_alone() {
    let program = program();
    let answer = |sixth: u64| run(&program, &data(25, X86_64, &[1, 2, 3, 4, 5, sixth])).0;
    assert_eq!(answer(u64::from(AT_THE_HOSTS_ORDER)), ALLOW);
    assert_eq!([0, 1, u64::MAX].map(answer), [NOTIFY; 3]);
}

#[test]
fn files_are_mapped_at_the_hosts_order_alone() {
    let program = program();
    let answer = |flags: u64| run(&program, &data(9, X86_64, &[0x1000, 0x1000, 1, flags, 3, 0])).0;
    const PRIVATE: u64 = 2;
    let order = u64::from(AT_THE_HOSTS_ORDER);
    assert_eq!(answer(order << 32 | PRIVATE), ALLOW);
    assert_eq!([PRIVATE, 1 << 32 | PRIVATE, order].map(answer), [NOTIFY; 3]);
}

#[test]
fn calls_that_always_pass_are_decided_by_number_alone() {
    let program = program();
    let mut constant = Vec::new();
    // One call is marked by the host program when it is its own order.
    let is_marked = |spec: &&Spec| spec.name == "mremap";
    for spec in CALLS.iter().filter(|spec| spec.cases.is_empty() && !is_marked(spec)) {
        let (action, looked) = run(&program, &data(spec.number, X86_64, &[0; 6]));
        assert!(!looked, "{} looks at arguments", spec.name);
        constant.extend((action == ALLOW).then_some(spec.name));
    }
    for name in ["futex", "brk", "munmap", "mprotect", "sched_yield", "getpid", "gettid", "getcpu"] {
        assert!(constant.contains(&name), "{name} is not among {constant:?}");
    }
}

/// Numbers that some line of the table looks for in an argument, and others close to them.
fn interesting() -> Vec<u64> {
    let mut values = vec![0, 1, u64::MAX];
    for spec in CALLS {
        for case in spec.cases {
            match case {
                Case::When(conditions, _) => {
                    values.extend(conditions.iter().flat_map(|condition| condition.values.iter().copied()));
                }
                Case::By(commands) => {
                    values.extend(commands.list.iter().map(|command| u64::from(command.number)))
                }
            }
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn random_arguments_are_decided_as_the_table_says(
        line in prop::sample::select(CALLS.iter().filter(|spec| !spec.cases.is_empty()).collect::<Vec<_>>()),
        picks in prop::array::uniform6((prop::sample::select(interesting()), 0..8_u8, any::<u64>(), 0..64_u8)),
    ) {
        let program = program();
        let arguments = picks.map(|(value, way, noise, bit)| match way {
            0..3 => value,
            3 => value | noise << 32,
            4 => value ^ 1 << bit,
            5 => value | 1 << bit,
            6 => value.wrapping_add(1),
            _ => noise,
        });
        agrees(&program, line.number, &arguments);
    }
}

/// A child that installs the filter: getpid passes, and a call of another place waits for an answer that nobody
/// gives. Only what needs no privilege is used.
#[test]
#[allow(unsafe_code)]
fn the_kernel_takes_it() {
    let program = program();
    let header =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr() as *mut libc::sock_filter };
    // SAFETY: between fork and exit the child makes system calls only, with pointers to memory that it has.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
            let listener =
                libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const header);
            let passes = listener >= 0 && libc::syscall(libc::SYS_getpid) > 0;
            let mut time = [0_u64; 2];
            let passes = passes && libc::syscall(libc::SYS_clock_gettime, 1, time.as_mut_ptr()) == 0;
            // exit_group would wait for ever: end by a fault instead, with a number that tells.
            if passes {
                std::arch::asm!("ud2", options(noreturn));
            }
            std::ptr::null_mut::<u8>().write_volatile(0);
        }
        unreachable!();
    }
    let mut status = 0;
    // SAFETY: our own child, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(
        libc::WTERMSIG(status),
        libc::SIGILL,
        "the filter was refused, or a call that should pass did not"
    );
}
