//! A C program that checks itself: memory, signals, time, calls, one property at a time (`probe/*.c`).
//!
//! Each check prints the same line natively and shaken, or the first thing that was not as it has to be.

use std::time::Duration;

use minka_programs_tests::build;
use minka_programs_tests::program::Program;

/// How often a check is moved: its parts are short.
const INTERVAL: Duration = Duration::from_millis(50);

fn probe(check: &str) -> Program {
    let seconds = minka_programs_tests::sized("0.5", "5");
    let program = build::c_program("probe");
    Program::new([program.as_os_str(), check.as_ref(), seconds.as_ref()])
        .called(format!("probe {check}"))
        .every(INTERVAL)
}

/// Checks of which each may be moved.
macro_rules! moves {
    ($($name:ident $check:literal),* $(,)?) => {
        $(#[test] fn $name() { probe($check).moves().holds() })*
        const MOVES: &[&str] = &[$($check),*];
    };
}

/// Checks that stay at home for most of their time, or all of it, and have to be right there.
macro_rules! may_stay {
    ($($name:ident $check:literal),* $(,)?) => {
        $(#[test] fn $name() { probe($check).may_stay().holds() })*
        const MAY_STAY: &[&str] = &[$($check),*];
    };
}

moves! {
    heap "heap",
    break_moves "break",
    sparse "sparse",
    rewriting "rewriting",
    deep_stack "deep-stack",
    long_jumps "long-jumps",
    holes "holes",
    replaced "replaced",
    remapped "remapped",
    many_mappings "many-mappings",
    locked "locked",
    swapped "swapped",
    protection "protection",
    discarded "discarded",
    made_code "made-code",
    private_file "private-file",
    shortened_file "shortened-file",
    cut_by_others "cut-by-others",
    own_signals "own-signals",
    own_faults "own-faults",
    changed_context "changed-context",
    nested_handlers "nested-handlers",
    handler_flags "handler-flags",
    alternate_stack "alternate-stack",
    no_alternate_stack "no-alternate-stack",
    polled_stack "polled-stack",
    stack_overflow "stack-overflow",
    jump_out_of_handler "jump-out-of-handler",
    blocked_signals "blocked-signals",
    restarted_calls "restarted-calls",
    queued_values "queued-values",
    temporary_masks "temporary-masks",
    child_signals "child-signals",
    interrupted_calls "interrupted-calls",
    ignored_signals "ignored-signals",
    alarm "alarm",
    interval_timer "interval-timer",
    posix_timer "posix-timer",
    fast_timer "fast-timer",
    timer_descriptor "timer-descriptor",
    clocks "clocks",
    processor_time "processor-time",
    sleeps "sleeps",
    timed_poll "timed-poll",
    timed_ppoll "timed-ppoll",
    timed_select "timed-select",
    timed_pselect "timed-pselect",
    timed_epoll "timed-epoll",
    timed_epoll_pwait2 "timed-epoll-pwait2",
    timed_sigtimedwait "timed-sigtimedwait",
    timed_semaphore "timed-semaphore",
    timed_recv "timed-recv",
    timed_read_of_socket "timed-read-of-socket",
    waited_for_signals "waited-for-signals",
    timed_futex "timed-futex",
    timed_futex_until "timed-futex-until",
    blocked_read "blocked-read",
    blocked_receive "blocked-receive",
    blocked_poll "blocked-poll",
    blocked_select "blocked-select",
    blocked_epoll "blocked-epoll",
    blocked_wait "blocked-wait",
    blocked_accept "blocked-accept",
    blocked_semaphore "blocked-semaphore",
    blocked_message "blocked-message",
    blocked_open "blocked-open",
    blocked_event "blocked-event",
    blocked_write "blocked-write",
    blocked_writev "blocked-writev",
    blocked_send "blocked-send",
    interrupted_write "interrupted-write",
    positions "positions",
    vectors "vectors",
    big_transfers "big-transfers",
    without_waiting "without-waiting",
    directories "directories",
    notices "notices",
    descriptors "descriptors",
    passed_descriptors "passed-descriptors",
    through_pipes "through-pipes",
    through_socketpair "through-socketpair",
    through_tcp "through-tcp",
    by_the_kernel "by-the-kernel",
    packets "packets",
    from_memory_that_ends "from-memory-that-ends",
    record_locks "record-locks",
    awaited_record_lock "awaited-record-lock",
    awaited_file_lock "awaited-file-lock",
    general_registers "general-registers",
    vector_registers "vector-registers",
    floating_point "floating-point",
    known_results "known-results",
    segment_bases "segment-bases",
    processor_number "processor-number",
    maps "maps",
    status "status",
    stat_line "stat-line",
    names "names",
    open_files "open-files",
    identity "identity",
    limits "limits",
    endings "endings",
    copies "copies",
    programs "programs",
    exec "exec",
    bad_addresses "bad-addresses",
    bad_names "bad-names",
    bad_arguments "bad-arguments",
    shared_with_child "shared-with-child",
    anonymous_file "anonymous-file",
    names_and_marks "names-and-marks",
    stopped_child "stopped-child",
    epoll_kinds "epoll-kinds",
    event_counter "event-counter",
    signal_descriptor "signal-descriptor",
    awaited_notices "awaited-notices",
    process_descriptors "process-descriptors",
    tcp_states "tcp-states",
    tcp_ends "tcp-ends",
    udp_states "udp-states",
    credentials "credentials",
    terminal "terminal",
    letters "letters",
    leases "leases",
    open_file_locks "open-file-locks",
    own_shared "own-shared",
    beside_own_shared "beside-own-shared",
    own_sparse "own-sparse",
    own_shared_changed "own-shared-changed",
    own_twice "own-twice",
    own_shared_inherited "own-shared-inherited",
    own_shared_locks "own-shared-locks",
    own_memfd "own-memfd",
    own_memfd_by_name "own-memfd-by-name",
    own_posix_memory "own-posix-memory",
    shared_by_name "shared-by-name",
    shared_file "shared-file",
    named_file "named-file",
    named_memory "named-memory",
    watched_file "watched-file",
    watched_memory "watched-memory",
    named_family "named-family",
    cut_file "cut-file",
    cut_memory "cut-memory",
    family_counts "family-counts",
    family_turns "family-turns",
    family_robust "family-robust",
    family_ends "family-ends",
    family_signals "family-signals",
    family_memfd "family-memfd",
    family_unlinked "family-unlinked",
    family_passed "family-passed",
    family_opened "family-opened",
    searches "searches",
    searches_of_two "searches-of-two",
    searches_of_threads "searches-of-threads",
    read_and_changed "read-and-changed",
    read_and_cut_short "read-and-cut-short",
    read_and_moved "read-and-moved",
    read_and_written "read-and-written",
    read_to_bad_buffers "read-to-bad-buffers",
    written_in_order "written-in-order",
    written_in_turns "written-in-turns",
    written_up_to_a_limit "written-up-to-a-limit",
    written_from_bad_buffers "written-from-bad-buffers",
    written_to_another_file "written-to-another-file",
    written_until_stopped "written-until-stopped",
}

may_stay! {
    shared_reader "shared-reader",
    shared_segments "shared-segments",
    locked_memory "locked-memory",
    processor_timers "processor-timers",
    threads "threads",
    beyond_the_end "beyond-the-end",
    own_memfd_passed "own-memfd-passed",
    own_memfd_after_exec "own-memfd-after-exec",
    family_priority "family-priority",
    family_changed "family-changed",
}

/// A check that nobody runs would not be one.
#[test]
fn every_check_is_here() {
    let list =
        std::process::Command::new(build::c_program("probe")).arg("list").output().expect("start the probe");
    let mut there: Vec<String> = String::from_utf8_lossy(&list.stdout).lines().map(str::to_owned).collect();
    let mut here: Vec<&str> = MOVES.iter().chain(MAY_STAY).copied().collect();
    there.sort();
    here.sort();
    assert_eq!(there, here);
}
