use proptest::prelude::*;

use super::*;
use crate::NodeId;
use crate::load::Flags;

pub(super) fn candidate(process: u64, memory_mib: f64, computed_s: f64) -> Candidate {
    Candidate {
        process: ProcessId(process),
        uid: 1000,
        program: "work".to_owned(),
        cgroup: "/".to_owned(),
        started: false,
        locked: false,
        demand: Demand::new(&Prices::default(), 1.0, computed_s, memory_mib),
        computed_s,
        here_since: 0,
        calls_per_s: 0.0,
        home: None,
    }
}

fn room(tasks: f64, memory_mib: f64) -> Room {
    Room { cpus: 1.0, speed: 1.0, tasks, haste: tasks * 0.2, memory_mib, used_mib: 0.0 }
}

fn other(node: u16, room: Room) -> Other {
    Other { node: NodeId::new(node).unwrap(), room, flags: Flags::default() }
}

/// A node with these processes and nothing else.
fn holding(candidates: &[Candidate], memory_mib: f64) -> Room {
    candidates.iter().fold(room(0.0, memory_mib), |room, it| room.with(&it.demand))
}

fn wished(candidates: &[Candidate], others: &[Other]) -> Vec<(u64, u16)> {
    let here = holding(candidates, 1000.0);
    let wishes = wishes(&Settings::default(), &Prices::default(), 60_000, &here, candidates, others);
    wishes.iter().map(|wish| (wish.claim.process.0, wish.to.get())).collect()
}

#[test]
fn processes_spread_over_free_nodes_in_one_step() {
    let candidates: Vec<_> = (0..8).map(|process| candidate(process, 10.0, 5.0)).collect();
    let others = [2, 3, 4].map(|node| other(node, room(0.0, 1000.0)));
    let mut nodes: Vec<_> = wished(&candidates, &others).iter().map(|wish| wish.1).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [2, 2, 3, 3, 4, 4]);
}

#[test]
fn a_guest_whose_home_is_full_goes_nowhere_else() {
    let free = other(2, room(0.0, 1000.0));
    let gone = |home: Option<NodeId>, used_mib: f64| {
        let guest = |process| Candidate { home, ..candidate(process, 100.0, 5.0) };
        let home = Room { used_mib, ..room(9.0, 1000.0) };
        wished(&[guest(1), guest(2)], &[free, other(3, home)]).len()
    };
    let home = NodeId::new(3);
    assert_eq!((gone(home, 850.0), gone(home, 950.0)), (1, 0));
    assert_eq!(gone(NodeId::new(4), 0.0), 0, "nobody knows whether there is room");
    assert_eq!(gone(None, 950.0), 1, "who is at home leaves");
}

#[test]
fn of_a_thousand_those_that_cost_most_leave_first() {
    // Every tenth is young, and a delay matters to it.
    let computed = |process: u64| if process.is_multiple_of(10) { 1.0 } else { 1000.0 };
    let candidates: Vec<_> = (0..1000).map(|process| candidate(process, 0.1, computed(process))).collect();
    let moved = wished(&candidates, &[other(2, room(0.0, 1000.0)), other(3, room(0.0, 1000.0))]);
    assert_eq!(moved.len(), Settings::default().moves_max);
    assert!(moved.iter().all(|(process, _)| process.is_multiple_of(10)), "{moved:?}");
}

#[test]
fn a_node_that_is_as_busy_as_this_one_gets_nobody() {
    let candidates: Vec<_> = (0..2).map(|process| candidate(process, 10.0, 5.0)).collect();
    let busy = other(2, holding(&candidates[..1], 1000.0));
    assert_eq!(wished(&candidates, &[busy]), []);
    assert_eq!(wished(&candidates[..1], &[other(2, room(0.0, 1000.0))]), []);
}

#[test]
fn a_faster_node_draws_even_a_single_process() {
    let fast = Room { speed: 3.0, ..room(0.0, 1000.0) };
    assert_eq!(wished(&[candidate(1, 10.0, 5.0)], &[other(2, room(0.0, 1000.0)), other(3, fast)]), [(1, 3)]);
}

#[test]
fn closed_and_full_nodes_are_not_asked() {
    let candidates: Vec<_> = (0..4).map(|process| candidate(process, 300.0, 5.0)).collect();
    let blocked = Other { flags: Flags { blocked: true, ..Flags::default() }, ..other(2, room(0.0, 1000.0)) };
    let leaving = Other { flags: Flags { leaving: true, ..Flags::default() }, ..blocked };
    assert_eq!(wished(&candidates, &[blocked, leaving, other(4, room(0.0, 200.0))]), []);
}

#[test]
fn a_process_that_asks_much_of_its_home_is_drawn_there() {
    let busy_home = other(2, room(1.0, 1000.0));
    let mut guest = Candidate { home: Some(busy_home.node), ..candidate(1, 10.0, 5.0) };
    assert_eq!(wished(&[guest.clone()], &[busy_home]), []);
    guest.calls_per_s = 50_000.0;
    assert_eq!(wished(&[guest], &[busy_home]), [(1, 2)]);
    // And one that is at home stays there.
    let candidates: Vec<_> =
        (0..2).map(|process| Candidate { calls_per_s: 50_000.0, ..candidate(process, 10.0, 5.0) }).collect();
    assert_eq!(wished(&candidates, &[other(3, room(0.0, 1000.0))]), []);
}

#[test]
fn what_takes_longer_to_move_than_it_gains_stays() {
    let others = [other(2, room(0.0, 1e6))];
    let here = |memory_mib: f64| {
        let candidates = [candidate(1, memory_mib, 1.0), candidate(2, memory_mib, 1.0)];
        let here = holding(&candidates, 1e6);
        wishes(&Settings::default(), &Prices::default(), 60_000, &here, &candidates, &others).len()
    };
    assert_eq!((here(10.0), here(10_000.0)), (1, 0));
}

#[test]
fn programs_are_started_where_there_is_room() {
    let others = [other(2, room(3.0, 1000.0)), other(3, room(0.0, 1000.0)), other(4, room(0.0, 5.0))];
    let placed = |tasks: f64| {
        let settings = Settings::default();
        let wishes =
            place(&settings, &Prices::default(), ProcessId(1), &room(tasks, 1000.0), Some(10.0), &others);
        wishes.iter().map(|wish| wish.to.get()).collect::<Vec<_>>()
    };
    assert_eq!(placed(0.0), []);
    assert_eq!(placed(2.0), [3]);
    assert_eq!(placed(9.0), [3, 2]);
}

#[test]
fn a_node_short_of_memory_sends_the_smallest_that_is_large_enough() {
    let candidates = [100.0, 400.0, 300.0, 800.0].map(|mib| candidate(mib as u64, mib, 0.0));
    let growth = Growth::default();
    let ushered = |memory_mib: f64, others: &[Other]| {
        let here = holding(&candidates, memory_mib);
        let wishes = usher(&Settings::default(), &here, &growth, &candidates, others);
        wishes.iter().map(|wish| (wish.claim.process.0, wish.to.get())).collect::<Vec<_>>()
    };
    let (large, fitting, small) =
        (other(2, room(0.0, 5000.0)), other(3, room(9.0, 320.0)), other(4, room(0.0, 150.0)));
    assert_eq!(ushered(1350.0, &[large, fitting, small]), [(300, 3)]);
    assert_eq!(ushered(1350.0, &[large, small]), [(300, 2)]);
    assert_eq!(ushered(1350.0, &[small]), [(100, 4)]);
    assert_eq!(ushered(1350.0, &[]), []);
    assert_eq!(ushered(1700.0, &[large]), []);
}

#[test]
fn a_node_that_is_going_to_be_short_sends_those_that_grow_as_many_as_it_takes() {
    // The first two take 20 MiB in a second, the third 40, the fourth nothing.
    let at = |seconds: f64| -> Vec<Candidate> {
        let rates = [20.0, 20.0, 40.0, 0.0];
        (0..).zip(rates).map(|(process, rate)| candidate(process, 60.0 + rate * seconds, 0.0)).collect()
    };
    let mut growth = Growth::default();
    for now in 0..3 {
        let candidates = at(now as f64);
        growth.observe(now * 1000, holding(&candidates, 0.0).used_mib, &candidates);
    }
    let others = [other(2, room(0.0, 200.0)), other(3, room(0.0, 300.0))];
    let ushered = |candidates: &[Candidate], memory_mib: f64| {
        let here = holding(candidates, memory_mib);
        let wishes = usher(&Settings::default(), &here, &growth, candidates, &others);
        wishes.iter().map(|wish| (wish.claim.process.0, wish.to.get())).collect::<Vec<_>>()
    };
    let candidates = at(2.0);
    // There are 400 in use, and 240 more in three seconds.
    assert_eq!(ushered(&candidates, 650.0), []);
    assert_eq!(ushered(&candidates, 600.0), [(2, 3)]);
    assert_eq!(ushered(&candidates, 500.0), [(2, 3), (0, 2)]);
    // What a guest has written would have to pass through a home that has no room for it.
    let guests: Vec<_> =
        candidates.iter().map(|it| Candidate { home: NodeId::new(2), ..it.clone() }).collect();
    assert_eq!(ushered(&guests, 600.0), [(0, 3)]);
}

#[test]
fn growth_is_seen_at_once_and_forgotten_slowly() {
    let mut growth = Growth::default();
    let mut leads = Vec::new();
    for (now, used) in [(0, 100.0), (1000, 100.0), (3000, 140.0), (4000, 140.0), (5000, 100.0), (6000, 400.0)]
    {
        growth.observe(now, used, &[]);
        leads.push(growth.lead_mib(1000.0));
    }
    assert_eq!(leads, [0.0, 0.0, 60.0, 30.0, 15.0, 500.0]);
    let mut growth = Growth::default();
    growth.observe(0, 100.0, &[]);
    growth.expect(300.0);
    growth.observe(1000, 400.0, &[]);
    assert_eq!(growth.lead_mib(1000.0), 0.0, "who comes does not grow");
}

proptest! {
    /// However the nodes and processes are, carrying out what is wished makes the whole cheaper, and nobody swaps.
    #[test]
    fn what_is_wished_makes_the_whole_cheaper(
        processes in prop::collection::vec((0.0..400.0, 0.0..100.0), 0..20),
        others in prop::collection::vec((0.0..10.0, 100.0..4000.0, 0.2..4.0, 1..8_u8), 0..10)
    ) {
        let candidates: Vec<_> = processes.iter().enumerate()
            .map(|(n, (mib, computed))| candidate(n as u64, *mib, *computed)).collect();
        let mut here = holding(&candidates, 2000.0);
        let mut others: Vec<_> = others.iter().enumerate().map(|(n, (tasks, mib, speed, cpus))| {
            other(n as u16 + 2, Room { speed: *speed, cpus: f64::from(*cpus), ..room(*tasks, *mib) })
        }).collect();
        let (settings, prices) = (Settings::default(), Prices::default());
        let wishes = wishes(&settings, &prices, 60_000, &here, &candidates, &others);
        prop_assert!(wishes.len() <= settings.moves_max);
        for wish in &wishes {
            let to = others.iter_mut().find(|other| other.node == wish.to).unwrap();
            let before = here.cost(&prices) + to.room.cost(&prices);
            here = here.without(&wish.claim.demand);
            to.room = to.room.with(&wish.claim.demand);
            prop_assert!(here.cost(&prices) + to.room.cost(&prices) < before);
            prop_assert!(to.room.left_mib() >= 0.0 && wish.gain > 0.0);
        }
        // Once it is done there is nothing left to wish that would undo it.
        let mut moved: Vec<_> = wishes.iter().map(|wish| wish.claim.process).collect();
        moved.sort_unstable();
        moved.dedup();
        prop_assert_eq!(moved.len(), wishes.len());
    }
}
