//! Signals that come while a program is moved: none is lost, and none leaves the program in the call that it was to end.

use std::time::Duration;

use minka_programs_tests::program::Program;
use minka_programs_tests::{build, sized};

#[test]
fn every_signal_is_answered() {
    let rounds = sized("210", "4200");
    Program::new([build::c_program("answers").as_os_str(), rounds.as_ref()])
        .called("answers")
        .every(Duration::from_millis(50))
        .moves()
        .holds();
}

/// A host may be so busy that a signal is there before anybody has heard of the call that it is to end.
#[test]
fn a_signal_ends_also_a_call_of_which_nobody_has_heard() {
    Program::new([build::c_program("answers").as_os_str(), sized("105", "2100").as_ref()])
        .called("answers with late hosts")
        .every(Duration::from_millis(50))
        .on_nodes_with("faults = [\"host.listening#*:delay=20\"]")
        .moves()
        .holds();
}
