//! The table against what others know: the `syscalls` crate, glibc's structures, and the running kernel.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use minka_syscalls::spec::{Case, Kind, Place, Spec};
use minka_syscalls::table::CALLS;
use minka_syscalls::{decide, lookup};
use std::io::Write;
use std::path::{Path, PathBuf};
use syscalls::Sysno;

#[test]
fn numbers_and_names_are_the_kernels() {
    for spec in CALLS {
        let known =
            Sysno::new(spec.number as usize).unwrap_or_else(|| panic!("no call has number {}", spec.number));
        assert_eq!(spec.name, known.name(), "name of call {}", spec.number);
    }
    for known in Sysno::iter() {
        assert!(lookup(known.id() as u64).is_some(), "{known} has no line");
    }
    assert!(CALLS.len() >= 250);
}

#[test]
fn lookup_finds_every_line_and_nothing_else() {
    for spec in CALLS {
        assert_eq!(lookup(spec.number.into()).unwrap().number, spec.number);
    }
    let listed = |number| CALLS.iter().any(|spec| u64::from(spec.number) == number);
    for number in (0..600).chain([u64::MAX, 1 << 30, 1 << 32, (1 << 32) + 1]) {
        assert_eq!(lookup(number).is_some(), listed(number));
        if !listed(number) {
            assert_eq!(decide(number, &[0; 6]), Place::Homeward);
        }
    }
}

/// All commands of a call.
fn commands(spec: &'static Spec) -> impl Iterator<Item = &'static Spec> {
    let by = |case: &'static Case| if let Case::By(commands) = case { commands.list } else { &[] };
    spec.cases.iter().flat_map(by)
}

/// All lines, those of the commands too.
fn lines() -> impl Iterator<Item = &'static Spec> {
    CALLS.iter().flat_map(|spec| std::iter::once(spec).chain(commands(spec)))
}

#[test]
fn commands_agree_with_their_call() {
    for spec in CALLS {
        for command in commands(spec) {
            assert_eq!(command.call, spec.number, "{}", command.name);
            assert!(command.arguments.len() <= spec.arguments.len(), "{}", command.name);
            for (argument, of_call) in command.arguments.iter().zip(spec.arguments) {
                let selector = spec.cases.iter().any(|case| {
                    matches!(case, Case::By(by) if spec.arguments[usize::from(by.argument)].name == of_call.name)
                });
                assert!(!selector || argument.kind == of_call.kind, "{}: {}", command.name, argument.name);
            }
        }
    }
}

#[test]
fn forwarded_calls_hide_no_addresses() {
    let forwarded = |spec: &&Spec| {
        let case = |case: &Case| matches!(case, Case::When(_, place) if place.is_forwarded());
        spec.otherwise.is_forwarded() || spec.cases.iter().any(case)
    };
    for spec in lines().filter(forwarded) {
        for argument in spec.arguments {
            // mq_notify is forwarded with a null pointer only.
            assert!(
                argument.kind != Kind::Address || spec.name == "mq_notify",
                "{}: {}",
                spec.name,
                argument.name
            );
        }
    }
}

#[test]
fn places_depend_on_arguments() {
    let at = |number: i64, args: &[u64]| {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        decide(number as u64, &all)
    };
    let map = |flags: i32| at(libc::SYS_mmap, &[0, 4096, 3, flags as u64, u64::MAX, 0]);
    assert_eq!(map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), Place::Here);
    assert_eq!(map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED), Place::Here);
    assert_eq!(map(libc::MAP_PRIVATE), Place::Own);
    assert_eq!(map(libc::MAP_SHARED | libc::MAP_ANONYMOUS), Place::Own);
    assert_eq!(map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED), Place::Own);
    assert_eq!(map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB), Place::Own);
    assert_eq!(at(libc::SYS_madvise, &[0, 0, libc::MADV_HUGEPAGE as u64]), Place::Here);
    assert_eq!(at(libc::SYS_madvise, &[0, 0, libc::MADV_DONTNEED as u64]), Place::Own);
    assert_eq!(at(libc::SYS_madvise, &[0, 0, libc::MADV_REMOVE as u64]), Place::Homeward);
    // The kernel looks at the low half of an int.
    assert_eq!(at(libc::SYS_madvise, &[0, 0, (7 << 32) | libc::MADV_REMOVE as u64]), Place::Homeward);
    for clock in [0, 1, 4, 5, 6, 7, 11] {
        assert_eq!(at(libc::SYS_clock_gettime, &[clock]), Place::Here);
    }
    for clock in [2, 3, (-10_i64) as u64] {
        assert_eq!(at(libc::SYS_clock_gettime, &[clock]), Place::Own);
    }
    assert_eq!(at(libc::SYS_ioctl, &[0, libc::TCGETS]), Place::Home);
    assert_eq!(at(libc::SYS_ioctl, &[0, 0x4010_4501]), Place::Homeward);
    assert_eq!(at(libc::SYS_ioctl, &[0, 0x8100_4506]), Place::Home, "EVIOCGNAME(256)");
    assert_eq!(at(libc::SYS_ioctl, &[0, 0x8100_4804]), Place::Home, "HIDIOCGRAWNAME(256)");
    assert_eq!(at(libc::SYS_ioctl, &[0, 0x8004_48d2]), Place::Homeward, "HCIGETDEVLIST");
    assert_eq!(at(libc::SYS_ioctl, &[0, 0x8024_6a22]), Place::Homeward, "JSIOCGCORR");
    assert_eq!(at(libc::SYS_fcntl, &[0, libc::F_SETLKW as u64]), Place::Home);
    assert_eq!(at(libc::SYS_fcntl, &[0, 77]), Place::Homeward);
    assert_eq!(at(libc::SYS_prctl, &[libc::PR_SET_NAME as u64]), Place::Both);
    assert_eq!(at(libc::SYS_prctl, &[libc::PR_SET_VMA as u64]), Place::Here);
    assert_eq!(at(libc::SYS_prctl, &[libc::PR_SET_MM as u64]), Place::Homeward);
    assert_eq!(at(libc::SYS_arch_prctl, &[0x1002]), Place::Here);
    assert_eq!(at(libc::SYS_arch_prctl, &[0x1023]), Place::Homeward);
    assert_eq!(at(libc::SYS_setsockopt, &[3, 1, libc::SO_REUSEADDR as u64]), Place::Home);
    assert_eq!(at(libc::SYS_setsockopt, &[3, 1, libc::SO_ATTACH_FILTER as u64]), Place::Homeward);
    assert_eq!(at(libc::SYS_setsockopt, &[3, 0, 64]), Place::Homeward, "IPT_SO_SET_REPLACE");
    assert_eq!(at(libc::SYS_setsockopt, &[3, 0, libc::IP_TTL as u64]), Place::Home);
    assert_eq!(at(libc::SYS_setsockopt, &[3, 283, 4]), Place::Homeward, "XDP_UMEM_REG");
    assert_eq!(at(libc::SYS_getsockopt, &[3, 6, 35]), Place::Homeward, "TCP_ZEROCOPY_RECEIVE");
    assert_eq!(at(libc::SYS_sendmsg, &[3, 0, libc::MSG_ZEROCOPY as u64]), Place::Homeward);
    assert_eq!(at(libc::SYS_mq_notify, &[3, 0]), Place::Home);
    assert_eq!(at(libc::SYS_mq_notify, &[3, 1 << 32]), Place::Homeward);
}

#[test]
fn calls_with_a_temporary_mask_are_known() {
    let names: Vec<_> =
        CALLS.iter().filter(|spec| spec.temporary_mask().is_some()).map(|spec| spec.name).collect();
    let expected = ["rt_sigsuspend", "pselect6", "ppoll", "epoll_pwait", "io_pgetevents", "epoll_pwait2"];
    assert_eq!(names, expected);
}

// --- the running kernel ---

/// Where the kernel tells the arguments of its calls, if we may look.
fn events() -> Result<PathBuf, String> {
    let path = Path::new("/sys/kernel/tracing");
    let events = path.join("events/syscalls");
    if !events.is_dir() {
        let mounted = std::process::Command::new("mount").args(["-t", "tracefs", "none"]).arg(path).output();
        let mounted = mounted.map_err(|error| error.to_string())?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).trim().into());
        }
    }
    std::fs::read_dir(&events).map_err(|error| error.to_string()).map(|_| events)
}

/// The kernel's own name for a call, where it differs from the one that programs use.
fn kernel_name(name: &str) -> &str {
    match name {
        "stat" => "newstat",
        "fstat" => "newfstat",
        "lstat" => "newlstat",
        "uname" => "newuname",
        "sendfile" => "sendfile64",
        "umount2" => "umount",
        other => other,
    }
}

/// Name and type of the arguments, from a `format` file.
fn arguments(format: &str) -> Vec<String> {
    let fields = format.lines().filter_map(|line| line.trim().strip_prefix("field:"));
    let declared = fields.filter_map(|field| field.split(';').next());
    declared.skip_while(|field| !field.ends_with("__syscall_nr")).skip(1).map(str::to_owned).collect()
}

#[test]
fn arity_and_pointers_are_the_kernels() {
    let events = match events() {
        Ok(events) => events,
        Err(reason) => {
            // Past the test harness, which shows only what failing tests print.
            let mut stderr = std::io::stderr().lock();
            writeln!(stderr, "SKIPPED: the kernel's description of its calls cannot be read: {reason}")
                .unwrap();
            return;
        }
    };
    let (mut compared, mut complaints) = (0, Vec::new());
    for spec in CALLS {
        let path = events.join(format!("sys_enter_{}/format", kernel_name(spec.name)));
        let Ok(format) = std::fs::read_to_string(path) else { continue };
        let kernel = arguments(&format);
        compared += 1;
        if spec.arguments.len() != kernel.len() {
            complaints.push(format!("{}: {} arguments, not {kernel:?}", spec.name, spec.arguments.len()));
        }
        for (argument, declared) in spec.arguments.iter().zip(&kernel) {
            // capget's and capset's types are names of pointers.
            let points = declared.contains('*') || declared.contains("cap_user_");
            if argument.kind.is_pointer() != points {
                complaints.push(format!("{}: {} is `{declared}`", spec.name, argument.name));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(compared > 250, "only {compared} calls could be compared");
}
