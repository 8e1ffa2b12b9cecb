//! How much of the system-call interface runs where.

use crate::spec::{Case, Place, Spec};
use crate::table::CALLS;

/// Numbers of calls by place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Calls in the table.
    pub calls: usize,
    /// Calls that always run at one place, in the order of [`Place::ALL`].
    pub at: [usize; 6],
    /// Calls whose place depends on their arguments.
    pub depending: usize,
    /// Commands that have a line of their own (of ioctl, fcntl, prctl, …).
    pub commands: usize,
    /// Calls that can be made without going home, for some arguments at least.
    pub away: usize,
}

/// Counts the table.
#[must_use]
pub fn coverage() -> Coverage {
    let mut coverage = Coverage { calls: CALLS.len(), ..Coverage::default() };
    for spec in CALLS {
        let places = places(spec);
        match places.as_slice() {
            [place] => coverage.at[*place as usize] += 1,
            _ => coverage.depending += 1,
        }
        coverage.commands += commands(spec).count();
        coverage.away += usize::from(places.iter().any(|place| *place != Place::Homeward));
    }
    coverage
}

/// The places that a call may run at, depending on its arguments; sorted.
#[must_use]
pub fn places(spec: &Spec) -> Vec<Place> {
    let mut all = vec![spec.otherwise];
    for case in spec.cases {
        match case {
            Case::When(_, place) => all.push(*place),
            Case::By(commands) => all.extend(commands.list.iter().flat_map(places)),
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The commands of a call that have lines of their own.
pub fn commands(spec: &'static Spec) -> impl Iterator<Item = &'static Spec> {
    spec.cases.iter().flat_map(|case| match case {
        Case::By(commands) => commands.list,
        Case::When(..) => &[],
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_call_is_counted_once() {
        let coverage = coverage();
        assert_eq!(coverage.at.iter().sum::<usize>() + coverage.depending, coverage.calls);
        assert!(coverage.away > coverage.at[Place::Here as usize]);
    }

    #[test]
    fn places_are_in_the_order_of_their_list() {
        assert!(Place::ALL.iter().enumerate().all(|(index, place)| *place as usize == index));
    }
}
