//! What is written into each file: from text to what is to be done. Pure.

use minka_node::protocol::{Advice, Decay as Forgetting, Job, Node, Pace, Steering};

use crate::place::{Admin, Decay, Place, Process};
use crate::why::Why;

/// Nothing longer is understood, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// With the node.
    Steer(Steering),
    /// One of the three figures of forgetting is set, and the others stay.
    Forget(Figure, u16),
    /// With a process.
    Advise(i32, Advice),
    /// A process moves.
    Move(i32, Destination),
}

/// A figure of forgetting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// The interval, in seconds.
    Interval,
    /// What is kept slowly, of a thousand.
    Slow,
    /// What is kept fast, of a thousand.
    Fast,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Home.
    Home,
    /// Where the balancer would have it.
    Best,
    /// A node, by its number, name or address.
    Node(String),
}

/// What it means that a process writes this there.
///
/// # Errors
/// When it means nothing.
pub fn order(place: Place, text: &[u8], writer: Option<i32>) -> Result<Order, Why> {
    let text = text.get(..TEXT_BYTES_MAX + 1).map_or(Ok(text), |_| Err(Why::NotUnderstood))?;
    let text = std::str::from_utf8(text).map_err(|_| Why::NotUnderstood)?.trim_ascii();
    match place {
        Place::AdminFile(file) => admin(file, text),
        Place::DecayFile(file) => {
            once(text)?;
            let advice = match file {
                Decay::Clear => Advice::Clear,
                Decay::Cpujob => Advice::Job { kind: Job::Cpu },
                Decay::Iojob => Advice::Job { kind: Job::Io },
                Decay::Slow => Advice::Decay { pace: Pace::Slow },
                Decay::Fast => Advice::Decay { pace: Pace::Fast },
            };
            Ok(Order::Advise(writer.ok_or(Why::Gone)?, advice))
        }
        Place::ProcessFile(pid, Process::Lock) => Ok(Order::Advise(pid, Advice::Lock { on: flag(text)? })),
        Place::ProcessFile(pid, Process::Goto | Process::Migrate) => Ok(Order::Move(pid, destination(text)?)),
        _ => Err(Why::WrongWay),
    }
}

fn admin(file: Admin, text: &str) -> Result<Order, Why> {
    let steering = match file {
        Admin::Block => Steering::Block { on: flag(text)? },
        Admin::Stay | Admin::Lstay => Steering::Stay { on: flag(text)? },
        Admin::Bring => once(text).map(|()| Steering::Bring)?,
        Admin::Expel => once(text).map(|()| Steering::Expel)?,
        Admin::Speed => Steering::Speed { speed: figure(text)? },
        Admin::DecayInterval => return Ok(Order::Forget(Figure::Interval, figure(text)?)),
        Admin::SlowDecay => return Ok(Order::Forget(Figure::Slow, figure(text)?)),
        Admin::FastDecay => return Ok(Order::Forget(Figure::Fast, figure(text)?)),
        Admin::Config | Admin::Mospe | Admin::Overheads | Admin::Version => return Err(Why::WrongWay),
    };
    Ok(Order::Steer(steering))
}

fn flag(text: &str) -> Result<bool, Why> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(Why::NotUnderstood),
    }
}

/// What is done and not undone is done by 1.
fn once(text: &str) -> Result<(), Why> {
    if text == "1" { Ok(()) } else { Err(Why::NotUnderstood) }
}

fn figure<T: std::str::FromStr>(text: &str) -> Result<T, Why> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(Why::NotUnderstood)
}

/// openMosix's way to say it, and ours.
fn destination(text: &str) -> Result<Destination, Why> {
    match text {
        "0" | "home" => Ok(Destination::Home),
        "-1" | "balance" | "best" => Ok(Destination::Best),
        "" => Err(Why::NotUnderstood),
        name if name.chars().any(|letter| letter.is_whitespace() || letter.is_control()) => {
            Err(Why::NotUnderstood)
        }
        name => Ok(Destination::Node(name.to_owned())),
    }
}

/// The name of the node that somebody means by a number, a name or an address.
///
/// # Errors
/// When there is none.
pub fn meant<'a>(nodes: &'a [Node], word: &str) -> Result<&'a str, Why> {
    let is_it = |node: &&Node| {
        let host = node.address.rsplit_once(':').map_or(node.address.as_str(), |(host, _)| host);
        node.number.is_some_and(|number| number.to_string() == word) || node.name == word || host == word
    };
    nodes.iter().find(is_it).map(|node| node.name.as_str()).ok_or(Why::NoSuchNode)
}

/// How a node forgets when one figure is set.
pub fn forgetting(before: Forgetting, which: Figure, value: u16) -> Forgetting {
    match which {
        Figure::Interval => Forgetting { interval_s: value, ..before },
        Figure::Slow => Forgetting { slow: value, ..before },
        Figure::Fast => Forgetting { fast: value, ..before },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Place {
        path.split('/').fold(Place::Root, |place, name| place.child(name).unwrap())
    }

    fn told(path: &str, text: &str) -> Result<Order, Why> {
        order(at(path), text.as_bytes(), Some(9))
    }

    #[test]
    fn what_the_manual_writes_is_understood() {
        let check = |path, text, expected| assert_eq!(told(path, text), Ok(expected), "{path}");
        let node = |name: &str| Destination::Node(name.to_owned());
        check("admin/block", "1\n", Order::Steer(Steering::Block { on: true }));
        check("admin/block", "0\n", Order::Steer(Steering::Block { on: false }));
        check("admin/bring", "1\n", Order::Steer(Steering::Bring));
        check("admin/expel", "1", Order::Steer(Steering::Expel));
        check("admin/stay", "1\n", Order::Steer(Steering::Stay { on: true }));
        check("admin/lstay", "0\n", Order::Steer(Steering::Stay { on: false }));
        check("admin/speed", "12000\n", Order::Steer(Steering::Speed { speed: 12_000 }));
        check("admin/slow-decay", "975\n", Order::Forget(Figure::Slow, 975));
        check("decay/cpujob", "1\n", Order::Advise(9, Advice::Job { kind: Job::Cpu }));
        check("decay/clear", "1\n", Order::Advise(9, Advice::Clear));
        check("proc/7/lock", "0\n", Order::Advise(7, Advice::Lock { on: false }));
        check("proc/7/goto", "3\n", Order::Move(7, node("3")));
        check("proc/7/migrate", " node3 \n", Order::Move(7, node("node3")));
        check("proc/7/goto", "0\n", Order::Move(7, Destination::Home));
        check("proc/7/goto", "balance\n", Order::Move(7, Destination::Best));
    }

    #[test]
    fn what_means_nothing_does_nothing() {
        let long = "1".repeat(TEXT_BYTES_MAX + 1);
        for text in ["", "\n", "2", "on", "1 1", "1\n0\n", "-1x\0", "\u{1F600}", &long] {
            for path in ["admin/block", "admin/bring", "decay/slow", "proc/7/lock"] {
                assert_eq!(told(path, text), Err(Why::NotUnderstood), "{path} {text:?}");
            }
        }
        for text in ["", "1 2", "a\nb", "\u{7}", &long] {
            assert_eq!(told("proc/7/goto", text), Err(Why::NotUnderstood), "{text:?}");
        }
        for text in ["", "-1", "+1", "65536", "1e3", "x"] {
            assert_eq!(told("admin/decay-interval", text), Err(Why::NotUnderstood), "{text:?}");
        }
        assert_eq!(order(at("admin/block"), &[0xff, b'1'], None), Err(Why::NotUnderstood));
        assert_eq!(told("admin/bring", "0"), Err(Why::NotUnderstood), "nobody takes it back");
        assert_eq!(order(at("decay/slow"), b"1", None), Err(Why::Gone), "nobody knows who writes");
        for path in ["admin/mospe", "admin/version", "nodes/2/load", "remote/7/from", "proc/7/where", "proc"]
        {
            assert_eq!(told(path, "1"), Err(Why::WrongWay), "{path}");
        }
    }

    #[test]
    fn one_figure_of_forgetting_is_set_and_the_others_stay() {
        let before = Forgetting { interval_s: 1, slow: 975, fast: 926 };
        let after = forgetting(forgetting(before, Figure::Interval, 5), Figure::Fast, 800);
        assert_eq!(after, Forgetting { interval_s: 5, slow: 975, fast: 800 });
    }
}
