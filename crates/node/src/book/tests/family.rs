//! Families: all get their orders, or none.

use super::*;

const ID: [u8; 16] = [9; 16];

fn family() -> Family {
    Family { id: ID, members: vec![PID, PID + 1] }
}

fn together(to: &str) -> DeputyOrder {
    DeputyOrder::Move { to: to.into(), at_exec: false, family: Some(family()), needs_all: false }
}

fn leave(world: &mut World, to: &str) -> Ticket {
    let ticket = world.book.ticket();
    let members = vec![identity(PID), identity(PID + 1)];
    let target = world.book.target(to).unwrap();
    world.book.migrate_family(ticket, Departure { pid: PID, members, id: ID, target });
    ticket
}

fn answered(ticket: Ticket, at: &str, freeze_us: u64) -> Effect {
    let moved = freeze_us > 0;
    let with = vec![PID + 1];
    Effect::Answer(ticket, Answer::Migrated(Migrated { pid: PID, at: at.into(), moved, freeze_us, with }))
}

/// Two that are away together.
fn away() -> World {
    let mut world = World::new();
    let ticket = leave(&mut world, "b");
    let orders: Vec<_> =
        world.effects().into_iter().filter(|effect| matches!(effect, Effect::Order(..))).collect();
    assert_eq!(
        orders
            .iter()
            .filter(|effect| matches!(effect, Effect::Order(_, order) if *order == together("b")))
            .count(),
        2
    );
    assert_eq!(world.report(2, arrived(Some("b"), None)), []);
    assert_eq!(world.report(1, arrived(Some("b"), None)), [answered(ticket, "b", 900)]);
    world
}

#[test]
fn they_leave_together_and_come_home_together() {
    let mut world = away();
    assert_eq!(world.book.away_with_family(PID + 1), Some("b"));
    let home = world.ask("home");
    let both = [DeputyId(1), DeputyId(2)].map(|id| Effect::Order(id, DeputyOrder::Home));
    assert_eq!(world.effects(), both);
    assert_eq!(world.report(2, arrived(None, None)), []);
    assert_eq!(world.report(1, arrived(None, None)), [answered(home, "a", 900)]);
    let still = world.ask("home");
    assert_eq!(world.effects(), [answered(still, "a", 0)]);
    assert!(
        (1..3).all(|deputy| world.report(deputy, ended()).is_empty() && world.gone(deputy, true).is_empty())
    );
    assert_eq!(world.wait(Duration::from_secs(60)), [], "nobody wants them away");
}

#[test]
fn none_is_ordered_if_one_cannot_be() {
    let mut world = World::new();
    world.ask_for(identity(PID + 1), "c", false);
    world.effects();
    let ticket = leave(&mut world, "b");
    assert_eq!(world.effects(), [refused(ticket, Refusal::Busy { pid: PID + 1 })]);
    let mut world = World::new();
    world.book.helper_started(PID + 1);
    let ticket = leave(&mut world, "b");
    assert!(
        matches!(&world.effects()[..], [Effect::Answer(of, Answer::Refused(Refusal::CannotMove { .. }))] if *of == ticket)
    );
}

#[test]
fn away_they_are_not_moved_on_by_themselves() {
    let mut world = away();
    let on = world.ask("c");
    assert!(
        matches!(&world.effects()[..], [Effect::Answer(of, Answer::Refused(Refusal::CannotMove { .. }))] if *of == on)
    );
    let there = world.ask("b");
    assert_eq!(world.effects(), [answered(there, "b", 0)]);
}

#[test]
fn whoever_comes_home_by_itself_leaves_again_with_those_who_share_by_then() {
    let mut world = away();
    world.report(1, arrived(None, Some("fork")));
    world.report(1, ended());
    world.gone(1, true);
    let gather = || Effect::Gather(identity(PID), Target::Node("b".into()));
    assert_eq!(world.wait(BACK_OFF_FIRST), [gather()]);
    // Until that has come to something it is tried again, ever more seldom.
    assert_eq!(world.wait(BACK_OFF_FIRST), []);
    assert_eq!(world.wait(BACK_OFF_FIRST), [gather()]);
    let ticket = world.ask("b");
    world.effects();
    world.report(3, arrived(Some("b"), None));
    assert!(world.book.away_with_family(PID).is_none(), "{ticket:?}: alone this time");
}

#[test]
fn who_was_refused_for_sharing_leaves_with_others() {
    let mut world = World::away_at("b");
    world.report(1, arrived(None, Some("fork")));
    world.report(1, ended());
    world.gone(1, true);
    assert_eq!(world.wait(BACK_OFF_FIRST), start(2, go("b")));
    world.report(2, DeputyReport::Refused { reason: "it shares".into(), shares: true });
    assert_eq!(world.wait(BACK_OFF_MAX), [Effect::Gather(identity(PID), Target::Node("b".into()))]);
}

#[test]
fn the_others_are_told_when_one_is_killed_together_with_its_deputy() {
    let mut world = away();
    for deputy in [1, 3, 4] {
        let effects = world.gone(deputy, false);
        let id = DeputyId(deputy.max(2) + 1);
        let rescue = DeputyOrder::Rescue { pid: PID, config: "/node.toml".into(), family: Some(family()) };
        assert!(effects.contains(&Effect::Order(id, rescue)), "{effects:?}");
    }
    // Enough is enough: there is nothing to be put right.
    assert_eq!(world.gone(5, false), []);
    let view = world.view();
    let reason = "deputy program died while the process was away on b";
    assert_eq!((view.state, view.reason.as_deref()), (State::Ended, Some(reason)));
}

#[test]
fn a_rescuer_is_told_of_the_family() {
    let mut world = away();
    let effects = world.gone(1, true);
    let rescue = DeputyOrder::Rescue { pid: PID, config: "/node.toml".into(), family: Some(family()) };
    assert!(effects.contains(&Effect::Order(DeputyId(3), rescue)), "{effects:?}");
}
