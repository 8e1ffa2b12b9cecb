//! Which of a cluster's nodes share what: the pools of openMosix's manual.

use crate::load::Flags;

/// Minutes of a week.
const WEEK_MIN: u16 = 7 * 24 * 60;

/// A time of the week when a node takes part, in minutes since the beginning of Monday, local time. One that ends
/// before it begins goes on over the end of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// When it begins.
    pub from_min: u16,
    /// When it has ended.
    pub until_min: u16,
}

impl Schedule {
    fn holds(&self, minute: u16) -> bool {
        let minute = minute % WEEK_MIN;
        if self.from_min <= self.until_min {
            (self.from_min..self.until_min).contains(&minute)
        } else {
            minute >= self.from_min || minute < self.until_min
        }
    }
}

/// What is known of the people who use a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// Minutes since the beginning of Monday, local time.
    pub minute: u16,
    /// Seconds since somebody last used the machine's own keyboard or screen; `None` if it has none, or nobody ever did.
    pub idle_s: Option<u64>,
}

/// How a node takes part in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pool {
    /// All nodes are for everybody.
    #[default]
    Single,
    /// This node is one that computes for the others.
    Server,
    /// It is one of those whose processes go to servers, and takes none.
    Client,
    /// It takes part only now and then.
    Adaptive {
        /// At these times, or always if there are none.
        schedules: Vec<Schedule>,
        /// And only if nobody has used the machine for so many seconds; 0 if that does not matter.
        idle_s: u64,
    },
}

/// Why a node takes no guests at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It is a client.
    Client,
    /// It is not the time for it.
    Time,
    /// Somebody uses the machine.
    Used,
}

impl Pool {
    /// Why the node takes no guests at this time; `None` if it takes some. When it ceases to, those that it has are sent
    /// home.
    pub fn closed(&self, presence: &Presence) -> Option<Closed> {
        match self {
            Pool::Single | Pool::Server => None,
            Pool::Client => Some(Closed::Client),
            Pool::Adaptive { schedules, idle_s } => {
                let time = schedules.is_empty() || schedules.iter().any(|it| it.holds(presence.minute));
                let free = presence.idle_s.is_none_or(|idle| idle >= *idle_s);
                let used = (!free).then_some(Closed::Used);
                if time { used } else { Some(Closed::Time) }
            }
        }
    }

    /// The node's flags with this in them; what its owner has said stays said.
    pub fn flags(&self, presence: &Presence, owner: Flags) -> Flags {
        Flags {
            blocked: owner.blocked || self.closed(presence).is_some(),
            server: owner.server || *self == Pool::Server,
            ..owner
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: Schedule = Schedule { from_min: 20 * 60, until_min: 24 * 60 };
    const WEEKEND: Schedule = Schedule { from_min: 5 * 24 * 60, until_min: 8 * 60 };

    fn takes(pool: &Pool, minute: u16, idle_s: Option<u64>) -> bool {
        pool.closed(&Presence { minute, idle_s }).is_none()
    }

    #[test]
    fn an_adaptive_node_takes_part_by_the_clock() {
        let pool = Pool::Adaptive { schedules: vec![NIGHT, WEEKEND], idle_s: 0 };
        let check = |minute, expected| assert_eq!(takes(&pool, minute, Some(0)), expected, "{minute}");
        check(0, true);
        check(8 * 60 - 1, true);
        check(8 * 60, false);
        check(20 * 60, true);
        check(24 * 60, false);
        check(6 * 24 * 60, true);
        check(WEEK_MIN, true);
    }

    #[test]
    fn somebody_who_sits_down_gets_the_machine() {
        let pool = Pool::Adaptive { schedules: Vec::new(), idle_s: 300 };
        assert!(!takes(&pool, 0, Some(299)) && takes(&pool, 0, Some(300)) && takes(&pool, 0, None));
        let pool = Pool::Adaptive { schedules: vec![NIGHT], idle_s: 300 };
        let closed = |minute, idle_s| pool.closed(&Presence { minute, idle_s: Some(idle_s) });
        assert_eq!(
            (closed(0, 0), closed(1300, 0), closed(1300, 300)),
            (Some(Closed::Time), Some(Closed::Used), None)
        );
    }

    #[test]
    fn servers_serve_and_clients_do_not() {
        let presence = Presence { minute: 0, idle_s: None };
        let flags = |pool: Pool| pool.flags(&presence, Flags { stays: true, ..Flags::default() });
        assert_eq!(flags(Pool::Single), Flags { stays: true, ..Flags::default() });
        assert_eq!(flags(Pool::Server), Flags { stays: true, server: true, ..Flags::default() });
        assert_eq!(flags(Pool::Client), Flags { stays: true, blocked: true, ..Flags::default() });
        let blocked = Flags { blocked: true, ..Flags::default() };
        assert!(Pool::Single.flags(&presence, blocked).blocked);
    }
}
