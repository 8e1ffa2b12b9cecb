//! Guests of other nodes.

use minka_wire::local::HostReport;
use minka_wire::preamble::SessionId;

use super::*;
use crate::book::guests::UNREPORTED_MAX;

fn session(number: u8) -> SessionId {
    SessionId([number; 16])
}

fn guest() -> HostReport {
    HostReport::Guest { home: "b".into(), pid: 40, local_pid: PID, command: "work".into() }
}

#[test]
fn guests_are_admitted_up_to_a_limit_of_silent_ones() {
    let mut world = World::new();
    let first = world.book.admit(session(0)).unwrap();
    assert_eq!(world.book.admit(session(0)), None, "the session exists");
    for number in 1..u8::try_from(UNREPORTED_MAX).unwrap() {
        assert!(world.book.admit(session(number)).is_some());
    }
    assert_eq!(world.book.admit(session(200)), None);
    world.book.host_report(first, guest());
    assert!(world.book.admit(session(200)).is_some());
}

#[test]
fn a_guest_is_moved_by_its_home_only_and_can_be_expelled() {
    let mut world = World::new();
    let host = world.book.admit(session(1)).unwrap();
    assert_eq!(world.book.host_of_session(session(1)), Some(host));
    world.book.host_report(host, guest());
    assert_eq!(world.view().state, State::Guest);
    world.ask("b");
    let effects = world.effects();
    assert!(matches!(&effects[..], [Effect::Answer(_, Answer::Refused(Refusal::CannotMove { .. }))]));
    let expelled = world.ask("home");
    assert_eq!(world.effects(), [Effect::Expel(host)]);
    world.book.host_report(host, HostReport::Ended { reason: None });
    assert_eq!(world.book.host_of_session(session(1)), None);
    world.book.host_gone(host);
    let left = Migrated { pid: PID, at: "b".into(), moved: true, freeze_us: 0, with: Vec::new() };
    assert_eq!(world.effects(), [Effect::Answer(expelled, Answer::Migrated(left))]);
    assert_eq!(world.book.processes(), []);
}

#[test]
fn the_death_of_a_host_program_is_remembered() {
    let mut world = World::new();
    let host = world.book.admit(session(1)).unwrap();
    world.book.host_report(host, guest());
    world.book.host_gone(host);
    let view = world.view();
    assert_eq!((view.state, view.reason.as_deref()), (State::Ended, Some("host program died")));
}
