use super::*;
use crate::balance::{Demand, Mode, Prices};

fn id(node: u16) -> NodeId {
    NodeId::new(node).unwrap()
}

fn peer(node: u16) -> Peer {
    Peer { node: id(node), address: SocketAddr::from(([10, 0, 0, 1], node)), epoch: 1 }
}

fn candidates(count: u64) -> Vec<Candidate> {
    let candidate = |process| Candidate {
        process: ProcessId(process),
        uid: 1000,
        program: "work".to_owned(),
        cgroup: "/".to_owned(),
        started: false,
        locked: false,
        demand: Demand::new(&Prices::default(), 1.0, 10.0, 50.0),
        computed_s: 10.0,
        here_since: 0,
        calls_per_s: 0.0,
        home: None,
    };
    (0..count).map(candidate).collect()
}

fn sample(tasks: u64) -> Sample {
    Sample {
        load: Load::of_tasks(tasks as f64),
        used_percent: 100,
        io_stall: 0,
        memory_mib: [4000, 3000, 3000 - 50 * tasks as u32],
        candidates: candidates(tasks),
        presence: Presence { minute: 0, idle_s: None },
        devices: None,
    }
}

/// Nodes and the datagrams between them, which arrive at once.
struct Net {
    nodes: Vec<Node>,
    samples: Vec<Sample>,
    now: Millis,
    seen: Vec<(u16, Action)>,
}

impl Net {
    /// Nodes that know nobody.
    fn alone(count: u16) -> Self {
        let nodes = (1..=count).map(|node| Node::new(Config::new(peer(node), 7))).collect();
        let samples = vec![sample(0); usize::from(count)];
        Net { nodes, samples, now: 10_000, seen: Vec::new() }
    }

    /// Nodes of which all others ask the first one to be taken in.
    fn new(count: u16) -> Self {
        let mut net = Self::alone(count);
        for node in 1..usize::from(count) {
            let actions = net.nodes[node].join(net.now, peer(1));
            net.carry(node, actions);
        }
        net
    }

    fn carry(&mut self, from: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(to, address, bytes) => {
                    assert_eq!(address, peer(to.get()).address);
                    let (to, from_id) = (usize::from(to.get()) - 1, id(from as u16 + 1));
                    let actions = self.nodes[to].on_datagram(self.now, from_id, &bytes);
                    // The membership sometimes sends what the other has no use for any more.
                    self.carry(to, actions.unwrap_or_default());
                }
                other => self.seen.push((from as u16 + 1, other)),
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now += 100;
            for node in 0..self.nodes.len() {
                let step = self.now % 1000 == 100 * (node as u64 % 10);
                let actions = if step {
                    self.nodes[node].on_step(self.now, &self.samples[node])
                } else {
                    self.nodes[node].on_time(self.now)
                };
                self.carry(node, actions);
            }
        }
    }

    fn moves(&self) -> Vec<(u16, u64, u16)> {
        let moves = self.seen.iter().filter_map(|(from, action)| match action {
            Action::Move(process, to, Why::Balance) => Some((*from, process.0, to.get())),
            _ => None,
        });
        moves.collect()
    }
}

#[test]
fn nodes_find_each_other_and_know_each_other_s_load() {
    let mut net = Net::new(8);
    net.run(20);
    for node in &net.nodes {
        assert_eq!((node.membership().up().len(), node.vector().len()), (7, 8));
    }
    let ups = net.seen.iter().filter(|(_, action)| matches!(action, Action::Up(_))).count();
    assert_eq!(ups, 8 * 7);
}

#[test]
fn parts_of_a_cluster_that_know_only_themselves_meet() {
    let mut net = Net::alone(6);
    for pair in [[0, 1], [2, 3], [4, 5]] {
        let actions = net.nodes[pair[0]].join(net.now, peer(pair[1] as u16 + 1));
        net.carry(pair[0], actions);
    }
    assert!(net.nodes.iter().all(|node| node.membership().up().len() == 1));
    for node in &mut net.nodes {
        (1..=6).for_each(|other| node.expect(peer(other)));
    }
    net.run(10);
    let known: Vec<usize> = net.nodes.iter().map(|node| node.membership().up().len()).collect();
    assert_eq!(known, [5; 6]);
}

#[test]
fn a_busy_node_sends_processes_to_idle_ones_and_asks_before() {
    let mut net = Net::new(4);
    net.run(15);
    net.samples[0] = sample(8);
    net.run(1);
    let mut moves = net.moves();
    let targets: Vec<u16> = moves.iter().map(|(_, _, to)| *to).collect();
    assert_eq!(moves.len(), 6, "{moves:?}");
    assert!([2, 3, 4].iter().all(|node| targets.iter().filter(|to| *to == node).count() == 2), "{moves:?}");
    moves.dedup_by_key(|(_, process, _)| *process);
    assert_eq!(moves.len(), 6);
    // Until somebody says how these moves ended, nobody is moved again, and nobody else comes to where they go.
    net.run(3);
    assert_eq!(net.moves().len(), 6);
}

#[test]
fn many_busy_nodes_do_not_flood_the_one_that_is_idle() {
    let mut net = Net::new(9);
    for node in 1..9 {
        net.samples[node] = sample(3);
    }
    net.nodes.iter_mut().for_each(|node| node.config_mut().settings.mode = Mode::None);
    net.run(15);
    net.nodes.iter_mut().for_each(|node| node.config_mut().settings.mode = Mode::All);
    net.run(1);
    let moves = net.moves();
    assert!((1..=3).contains(&moves.len()) && moves.iter().all(|(_, _, to)| *to == 1), "{moves:?}");
}

#[test]
fn a_program_is_placed_where_there_is_room_or_stays() {
    let mut net = Net::new(3);
    net.samples[0] = sample(4);
    net.samples[2] = sample(9);
    net.nodes.iter_mut().for_each(|node| node.config_mut().settings.mode = Mode::None);
    net.run(15);
    let placed = |net: &mut Net, node: usize, process| {
        let actions = net.nodes[node].place(net.now, ProcessId(process), Some(10.0));
        net.carry(node, actions);
        net.seen.pop()
    };
    assert_eq!(placed(&mut net, 0, 99), Some((1, Action::Place(ProcessId(99), Some(id(2))))));
    assert_eq!(placed(&mut net, 1, 98), Some((2, Action::Place(ProcessId(98), None))));
    // Nobody answers: it begins here in the end.
    let lost = net.nodes[0].place(net.now, ProcessId(97), None);
    assert!(matches!(lost[..], [Action::Send(..)]));
    net.run(5);
    assert!(net.seen.contains(&(1, Action::Place(ProcessId(97), None))));
}

/// Processes that have just begun, of a program that is known, at a node which computes something else.
#[test]
fn programs_that_begin_are_spread_at_once_and_those_that_have_ended_make_room() {
    let mut net = Net::new(3);
    net.run(15);
    let begins = |net: &mut Net, process| {
        net.seen.clear();
        let candidate = Candidate { here_since: net.now, computed_s: 0.0, ..candidates(1).remove(0) };
        let demand = Demand::new(&Prices::default(), 1.0, 0.0, 40.0);
        let candidate = Candidate { process: ProcessId(process), demand, ..candidate };
        let actions = net.nodes[0].begins(net.now, candidate);
        net.carry(0, actions);
        let to = net.seen.iter().find_map(|(_, action)| match action {
            Action::Move(_, to, why) => Some((to.get(), *why)),
            _ => None,
        });
        if let Some((to, _)) = to {
            // It arrives at once, and is not looked at for a second.
            net.nodes[0].settled(ProcessId(process));
            net.nodes[0].gone(ProcessId(process));
            let guest = |demand| Candidate { process: ProcessId(process), demand, ..candidates(1).remove(0) };
            net.nodes[usize::from(to) - 1].received(ProcessId(process), guest);
        }
        to
    };
    let spread: Vec<_> = (10..16).map(|process| begins(&mut net, process)).collect();
    let at = |node| spread.iter().filter(|to| to.is_some_and(|(to, _)| to == node)).count();
    assert_eq!((spread[0], at(2), at(3)), (None, 2, 2), "{spread:?}");
    assert!(spread.iter().flatten().all(|(_, why)| *why == Why::Beginning));
    // Who has ended here is counted no more as soon as that is known, and the next one stays.
    net.nodes[0].keep(|process| process != ProcessId(10));
    assert_eq!(begins(&mut net, 20), None);
    // The same of one that was away: the next goes where it was.
    let (place, ended) = spread.iter().zip(10..).find_map(|(to, process)| Some(((*to)?.0, process))).unwrap();
    let demand = Demand::new(&Prices::default(), 1.0, 0.0, 40.0);
    net.nodes[usize::from(place) - 1].gone(ProcessId(ended));
    net.nodes[0].left(net.now, id(place), &demand);
    assert_eq!(begins(&mut net, 21), Some((place, Why::Beginning)));
    // A node that keeps its own keeps these.
    net.nodes[0].config_mut().flags.stays = true;
    net.run(2);
    (30..40).for_each(|process| assert_eq!(begins(&mut net, process), None));
}

/// It has not read what it needs yet, and will want the processor all the same.
#[test]
fn who_has_just_begun_counts_before_it_may_leave() {
    let mut net = Net::new(2);
    net.run(15);
    let young = |net: &Net, process| {
        let demand = Demand::new(&Prices::default(), 1.0, 0.0, 40.0);
        Candidate { process: ProcessId(process), demand, here_since: net.now, ..candidates(1).remove(0) }
    };
    let ready = |net: &Net, process| Candidate { computed_s: 0.0, ..young(net, process) };
    let candidate = ready(&net, 10);
    assert_eq!(net.nodes[0].begins(net.now, candidate), []);
    for process in [11, 12] {
        let candidate = Candidate { locked: true, ..young(&net, process) };
        net.nodes[0].came(candidate);
    }
    let candidate = ready(&net, 10);
    assert!(matches!(net.nodes[0].begins(net.now, candidate)[..], [Action::Send(..)]));
}

#[test]
fn a_pool_that_closes_sends_its_guests_home() {
    let mut node = Node::new(Config {
        pool: Pool::Adaptive { schedules: Vec::new(), idle_s: 60 },
        ..Config::new(peer(1), 7)
    });
    let mut sample = sample(2);
    sample.candidates[1].home = Some(id(2));
    sample.presence.idle_s = Some(300);
    assert_eq!(node.on_step(1000, &sample), []);
    sample.presence.idle_s = Some(0);
    assert_eq!(node.on_step(2000, &sample), [Action::SendHome(ProcessId(1))]);
    assert!(node.vector().get(id(1)).unwrap().info.flags.blocked);
}

#[test]
fn what_is_not_what_it_seems_is_refused() {
    let mut net = Net::new(2);
    net.run(5);
    let mut window = Vec::new();
    Datagram::write(id(2), net.nodes[1].vector().window(net.now), &mut window);
    let answer = Answer {
        process: ProcessId(0),
        outcome: Ok(()),
        room: Room { cpus: 1.0, speed: 1.0, tasks: 0.0, haste: 0.0, memory_mib: 1.0, used_mib: 0.0 },
    };
    let now = net.now;
    let node = &mut net.nodes[0];
    assert!(matches!(node.on_datagram(now, id(3), &window), Err(NodeError::Sender)));
    assert!(node.on_datagram(now, id(2), &window).unwrap().is_empty());
    assert!(matches!(node.on_datagram(now, id(2), &answer.write(id(9))), Err(NodeError::Sender)));
    // Nobody was asked, so nothing moves.
    assert_eq!(node.on_datagram(now, id(2), &answer.write(id(2))).unwrap(), []);
    for garbage in [&[][..], &[1], &[1, b'M'], &[1, b'M', 9, 9, 9], &[2, b'W', 0, 0, 0, 0], &[0xff; 1500]] {
        assert!(node.on_datagram(now, id(2), garbage).is_err(), "{garbage:?}");
    }
}
