//! Records: who is remembered, forgotten and traced.

use super::*;

#[test]
fn a_pid_that_passes_to_another_process_begins_a_new_record() {
    let mut world = World::away_at("b");
    world.report(1, arrived(None, None));
    world.report(1, ended());
    world.gone(1, true);
    let other = Identity { start: 6, command: "other".into(), ..identity(PID) };
    world.ask_for(other, "b", false);
    assert_eq!(world.effects(), start(2, go("b")));
    let views = world.book.processes();
    let commands: Vec<_> = views.iter().map(|view| (view.command.as_str(), view.state)).collect();
    assert_eq!(commands, [("other", State::Moving), ("work", State::Ended)]);
    world.book.process_over(&identity(PID));
    assert_eq!(world.book.processes().len(), 2, "the first one's end does not touch the second");
}

#[test]
fn a_process_is_shown_under_the_name_it_has_now() {
    let mut world = World::away_at("b");
    world.book.renamed(Identity { command: "after-exec".into(), ..identity(PID) });
    world.book.renamed(Identity { command: "stranger".into(), start: 6, ..identity(PID) });
    assert_eq!(world.view().command, "after-exec");
}

#[test]
fn why_it_once_came_home_is_not_why_it_ended() {
    let mut world = World::away_at("b");
    world.report(1, arrived(None, Some("fork")));
    world.report(1, ended());
    world.gone(1, false);
    let view = world.view();
    assert_eq!((view.state, view.reason), (State::Ended, None));
}

#[test]
fn only_so_many_ended_processes_are_remembered() {
    let mut world = World::new();
    for pid in 1000..1000 + i32::try_from(ENDED_MAX).unwrap() + 5 {
        world.ask_for(identity(pid), "b", false);
        let Effect::Spawn(id) = world.effects()[0] else { panic!("no deputy for {pid}") };
        world.report(id.0, arrived(Some("b"), None));
        world.report(id.0, ended());
        world.gone(id.0, false);
    }
    let views = world.book.processes();
    assert_eq!(views.len(), ENDED_MAX);
    assert_eq!(views[0].pid, 1005);
}

#[test]
fn there_is_a_limit_to_processes_and_idle_ones_make_room() {
    let mut world = World::new();
    let last = 1000 + i32::try_from(PROCESSES_MAX).unwrap();
    for pid in 1000..last {
        world.ask_for(identity(pid), "b", false);
    }
    world.effects();
    let refusal = Refusal::TooManyProcesses { limit: PROCESSES_MAX };
    let ticket = world.ask_for(identity(last), "b", false);
    assert_eq!(world.effects(), [refused(ticket, refusal)]);
    world.report(1, DeputyReport::Refused { reason: "no".into(), shares: false });
    world.report(1, ended());
    world.gone(1, true);
    world.ask_for(identity(last), "b", false);
    assert!(matches!(world.effects()[0], Effect::Spawn(_)));
}

#[test]
fn those_who_trace_hear_what_happens() {
    let mut world = World::away_at("b");
    let call = |line: &str| DeputyReport::Trace { line: line.into() };
    assert_eq!(world.report(1, call("unheard")), []);
    world.book.watch(identity(PID)).unwrap();
    assert_eq!(world.effects(), [Effect::Order(DeputyId(1), DeputyOrder::Trace { on: true })]);
    let heard = Effect::Publish(PID, Event::Call { line: "getppid() = 1".into() });
    assert_eq!(world.report(1, call("getppid() = 1")), [heard]);
    world.report(1, arrived(None, Some("fork")));
    world.report(1, ended());
    world.gone(1, true);
    let id = DeputyId(2);
    let effects = world.wait(BACK_OFF_FIRST);
    assert!(effects.contains(&Effect::Order(id, DeputyOrder::Trace { on: true })), "{effects:?}");
    world.book.unwatch(&identity(PID));
    assert_eq!(world.effects(), [Effect::Order(id, DeputyOrder::Trace { on: false })]);
}

#[test]
fn a_traced_end_is_told() {
    let mut world = World::away_at("b");
    world.book.watch(identity(PID)).unwrap();
    world.effects();
    world.report(1, ended());
    assert_eq!(world.gone(1, false), [Effect::Publish(PID, Event::Ended { reason: None })]);
}
