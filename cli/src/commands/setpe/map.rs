//! openMosix's map of a cluster: which numbers nodes have, and at which addresses they are.
//!
//! ```text
//! # first number   address or name   how many
//! 1                192.168.1.1       4         four nodes, 1 to 4, at 192.168.1.1 to 192.168.1.4
//! 7                gateway           1
//! 7                10.0.0.1          ALIAS     another address of number 7
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// More lines were never read.
const LINES_MAX: usize = 256;

/// Nodes that a map can name.
const NODES_MAX: usize = 65_535;

/// What is wrong with a map.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MapError {
    #[error("line {0}: expected a number, an address and how many")]
    Words(usize),
    #[error("line {0}: numbers go from 1 to 65535")]
    Number(usize),
    #[error("line {0}: there is no such address")]
    Address(usize),
    #[error("line {0}: only numeric addresses can be counted on, and none beyond 255")]
    Count(usize),
    #[error("line {0}: number {1} was there already")]
    Twice(usize, u16),
    #[error("line {0}: there is no number {1} of which this could be another address")]
    Alias(usize, u16),
    #[error("there are more than {LINES_MAX} lines")]
    Long,
    #[error("it names nobody")]
    Empty,
}

/// The addresses of all nodes by their numbers, the first of each first. Names are looked up by `resolve`.
pub(super) fn parse(
    text: &str,
    resolve: impl Fn(&str) -> Option<IpAddr>,
) -> Result<BTreeMap<u16, Vec<IpAddr>>, MapError> {
    let mut nodes: BTreeMap<u16, Vec<IpAddr>> = BTreeMap::new();
    let mut entries = 0;
    for (index, line) in text.lines().enumerate() {
        let at = index + 1;
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [number, host, count] = words[..] else {
            if words.is_empty() {
                continue;
            }
            return Err(MapError::Words(at));
        };
        entries += 1;
        if entries > LINES_MAX {
            return Err(MapError::Long);
        }
        let number: u16 = number.parse().ok().filter(|it| *it > 0).ok_or(MapError::Number(at))?;
        let numeric = host.parse().ok();
        let address = numeric.or_else(|| resolve(host)).ok_or(MapError::Address(at))?;
        if count.eq_ignore_ascii_case("alias") {
            nodes.get_mut(&number).ok_or(MapError::Alias(at, number))?.push(address);
            continue;
        }
        let count: u16 = count.parse().ok().filter(|it| *it > 0).ok_or(MapError::Words(at))?;
        for step in 0..count {
            let number = number.checked_add(step).ok_or(MapError::Number(at))?;
            let address = match (step, numeric) {
                (0, _) => address,
                (_, Some(IpAddr::V4(address))) => following(address, step).ok_or(MapError::Count(at))?,
                _ => return Err(MapError::Count(at)),
            };
            if nodes.len() >= NODES_MAX || nodes.insert(number, vec![address]).is_some() {
                return Err(MapError::Twice(at, number));
            }
        }
    }
    if nodes.is_empty() { Err(MapError::Empty) } else { Ok(nodes) }
}

/// The address so many steps on, with another last part only.
fn following(address: Ipv4Addr, steps: u16) -> Option<IpAddr> {
    let [a, b, c, last] = address.octets();
    let last = u8::try_from(u16::from(last).checked_add(steps)?).ok()?;
    Some(IpAddr::from([a, b, c, last]))
}

/// The map of these nodes, those that follow each other on one line.
pub(super) fn write(nodes: &BTreeMap<u16, IpAddr>) -> String {
    let mut lines: Vec<(u16, IpAddr, u16)> = Vec::new();
    for (number, address) in nodes {
        let next = lines.last().and_then(|(first, start, count)| {
            let IpAddr::V4(start) = start else { return None };
            Some((first.checked_add(*count)?, following(*start, *count)?))
        });
        match lines.last_mut() {
            Some((_, _, count)) if next == Some((*number, *address)) => *count += 1,
            _ => lines.push((*number, *address, 1)),
        }
    }
    lines.iter().map(|(first, start, count)| format!("{first}\t{start}\t{count}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn read(text: &str) -> Result<BTreeMap<u16, Vec<IpAddr>>, MapError> {
        parse(text, |name| (name == "gateway").then(|| address("10.1.1.1")))
    }

    #[test]
    fn ranges_names_and_other_addresses_are_read() {
        let nodes = read("# a map\n\n 1 192.168.1.1 3\n7 gateway 1 # door\n7 10.0.0.1 ALIAS\n").unwrap();
        let expected: BTreeMap<u16, Vec<IpAddr>> = [
            (1, vec![address("192.168.1.1")]),
            (2, vec![address("192.168.1.2")]),
            (3, vec![address("192.168.1.3")]),
            (7, vec![address("10.1.1.1"), address("10.0.0.1")]),
        ]
        .into();
        assert_eq!(nodes, expected);
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        let check = |text: &str, expected| assert_eq!(read(text), Err(expected), "{text}");
        check("", MapError::Empty);
        check("1 10.0.0.1", MapError::Words(1));
        check("\n1 10.0.0.1 none", MapError::Words(2));
        check("0 10.0.0.1 1", MapError::Number(1));
        check("65535 10.0.0.1 2", MapError::Number(1));
        check("1 nowhere 1", MapError::Address(1));
        check("1 gateway 2", MapError::Count(1));
        check("1 10.0.0.254 3", MapError::Count(1));
        check("1 10.0.0.1 2\n2 10.0.0.9 1", MapError::Twice(2, 2));
        check("1 10.0.0.1 ALIAS", MapError::Alias(1, 1));
        check(&"1 10.0.0.1 1\n1 10.0.0.1 ALIAS\n".repeat(200), MapError::Twice(3, 1));
    }

    #[test]
    fn what_is_written_can_be_read_and_is_short() {
        let nodes: BTreeMap<u16, IpAddr> =
            [(1, "10.0.0.1"), (2, "10.0.0.2"), (3, "10.0.0.4"), (9, "10.0.0.5"), (10, "fe80::1")]
                .map(|(number, text)| (number, address(text)))
                .into();
        let text = write(&nodes);
        assert_eq!(text, "1\t10.0.0.1\t2\n3\t10.0.0.4\t1\n9\t10.0.0.5\t1\n10\tfe80::1\t1\n");
        let read: BTreeMap<u16, IpAddr> =
            read(&text).unwrap().into_iter().map(|(number, addresses)| (number, addresses[0])).collect();
        assert_eq!(read, nodes);
    }
}
