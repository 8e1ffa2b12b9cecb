use minka_node::protocol::{Decay, Overheads};

use super::*;

/// A node with two others, of which the third is down, and three processes: 7 at home, 8 away, and the guest 9.
struct Fixture {
    part: bool,
}

fn named(name: &str, number: u16) -> Node {
    Node {
        name: name.to_owned(),
        address: format!("10.77.0.{number}:4660"),
        this: number == 1,
        reachable: true,
        guests: 0,
        number: Some(number),
        member: true,
        figures: None,
    }
}

fn running(pid: i32, at: &str, state: State) -> Process {
    Process {
        pid,
        uid: Some(1000),
        command: "awk".to_owned(),
        home: if state == State::Guest { "node2" } else { "node1" }.to_owned(),
        home_pid: if state == State::Guest { 4242 } else { pid },
        at: at.to_owned(),
        state,
        moves: 5,
        wanted: (state == State::Away).then(|| "node2".to_owned()),
        freeze_us: None,
        reason: None,
        cantmove: Vec::new(),
        memory: None,
        locked: (state != State::Guest).then_some(state == State::Home),
    }
}

impl Facts for Fixture {
    fn status(&self) -> Result<Status, Why> {
        let overheads = Overheads { move_us: 20_000, move_mib_s: 100, call_ns: 50_000, measured: false };
        let part = Part { number: 1, stays: true, blocked: false, speed: 12_000, yard: 10_000, overheads };
        Ok(Status {
            node: "node1".to_owned(),
            release: "9.9".to_owned(),
            pid: 1,
            listen: "10.77.0.1:4660".to_owned(),
            uptime_s: 1,
            away: 3,
            guests: 2,
            decay: Some(Decay { interval_s: 5, slow: 900, fast: 800 }),
            pool: None,
            part: self.part.then_some(part),
        })
    }

    fn nodes(&self) -> Result<Vec<Node>, Why> {
        let figures = Figures {
            age_ms: 1,
            load: 1.5,
            running: 1.0,
            standard_load: 150,
            cpus: 4,
            speed: 20_000,
            utilisation: 33,
            io_stall: 0,
            memory_mib: 8000,
            free_mib: 1000,
            available_mib: 4000,
            blocked: true,
            stays: true,
            leaving: false,
            devices: None,
        };
        let two = Node { figures: Some(figures.clone()), ..named("node2", 2) };
        let down = Node { figures: Some(figures), member: false, ..named("node3", 3) };
        Ok(vec![named("node1", 1), two, down])
    }

    fn process(&self, pid: i32) -> Result<Process, Why> {
        match pid {
            7 => Ok(running(7, "node1", State::Home)),
            8 => Ok(running(8, "node2", State::Away)),
            9 => Ok(running(9, "node1", State::Guest)),
            _ => Err(Why::Gone),
        }
    }

    fn reasons(&self, pid: i32) -> Result<Vec<String>, Why> {
        match pid {
            7 => Ok(vec!["it is traced".to_owned(), "it has a device mapped".to_owned()]),
            8 => Ok(Vec::new()),
            _ => Err(Why::NotPermitted),
        }
    }

    fn proc_file(&self, _: i32, name: &str) -> Result<String, Why> {
        Ok(match name {
            "statm" => "10 9 8 7 0 6 0\n".to_owned(),
            _ => format!("9 (a) b) R {}", (4..=52).map(|field| format!("{field} ")).collect::<String>()),
        })
    }
}

fn read(path: &str) -> Result<String, Why> {
    let place = path.split('/').fold(Place::Root, |place, name| place.child(name).unwrap());
    content(place, &Fixture { part: true })
}

#[test]
fn each_file_says_what_the_tools_say() {
    for (path, expected) in [
        ("admin/block", "0\n"),
        ("admin/stay", "1\n"),
        ("admin/lstay", "1\n"),
        ("admin/bring", "3\n"),
        ("admin/expel", "2\n"),
        ("admin/mospe", "1\n"),
        ("admin/speed", "12000\n"),
        ("admin/decay-interval", "5\n"),
        ("admin/slow-decay", "900\n"),
        ("admin/fast-decay", "800\n"),
        ("admin/version", "Minka 9.9\n"),
        ("admin/overheads", "move_us\t20000\nmove_mib_s\t100\ncall_ns\t50000\nmeasured\t0\n"),
        ("admin/config", "1\t10.77.0.1\t1\n2\t10.77.0.2\t1\n3\t10.77.0.3\t1\n"),
        ("nodes/2/CPUs", "4\n"),
        ("nodes/2/load", "150\n"),
        ("nodes/2/mem", "4000\n"),
        ("nodes/2/rmem", "1000\n"),
        ("nodes/2/tmem", "8000\n"),
        ("nodes/2/speed", "20000\n"),
        ("nodes/2/util", "33\n"),
        ("nodes/2/status", "up stay block\n"),
        ("nodes/1/status", "up\n"),
        ("nodes/3/status", "down\n"),
        ("proc/7/cantmove", "it is traced\nit has a device mapped\n"),
        ("proc/8/cantmove", ""),
        ("proc/7/where", "0\n"),
        ("proc/8/where", "2\n"),
        ("proc/9/where", "1\n"),
        ("proc/7/goto", "0\n"),
        ("proc/8/goto", "2\n"),
        ("proc/8/migrate", "2\n"),
        ("proc/7/lock", "1\n"),
        ("proc/8/lock", "0\n"),
        ("proc/8/nmigs", "5\n"),
        ("remote/9/from", "2\n"),
        ("remote/9/identity", "node\tnode2\npid\t4242\ncommand\tawk\n"),
        ("remote/9/statm", "10 9 8 7 0 6 0\n"),
        ("remote/9/stats", "utime\t14\nstime\t15\n"),
    ] {
        assert_eq!(read(path).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn what_is_not_known_is_no_zero() {
    for (path, why) in [
        ("nodes/1/load", Why::Unknown),
        ("nodes/3/load", Why::Unknown),
        ("nodes/4/load", Why::Nowhere),
        ("remote/7/from", Why::Nowhere),
        ("remote/1/from", Why::Gone),
        ("proc/1/where", Why::Gone),
        ("proc/9/lock", Why::Unknown),
        ("proc/9/cantmove", Why::NotPermitted),
        ("decay/slow", Why::WrongWay),
        ("proc", Why::WrongWay),
    ] {
        assert_eq!(read(path), Err(why), "{path}");
    }
    let alone = Fixture { part: false };
    let block = Place::Admin.child("block").unwrap();
    assert_eq!(content(block, &alone), Err(Why::Unknown), "it takes no part");
}
