//! What a node knows of the others.

use crate::NodeId;
use crate::load::Info;

/// Milliseconds of a node's own clock, which never goes back and goes on while the machine sleeps.
pub type Millis = u64;

/// Most entries of a window: with these, header and the seal of a secure channel, one datagram fits an Ethernet frame.
pub const WINDOW_MAX: usize = 32;

/// The largest count: six bytes, which milliseconds do not fill in eight thousand years.
pub(super) const SEQUENCE_MAX: u64 = u64::MAX >> 16;

/// What is told of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whom it is about.
    pub node: NodeId,
    /// That node's own count of its entries; it only ever grows.
    pub sequence: u64,
    /// How long ago that node made it.
    pub age_ms: u32,
    /// What it said.
    pub info: Info,
}

/// What is known of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Whom it is about.
    pub node: NodeId,
    /// What it said of itself.
    pub info: Info,
    sequence: u64,
    /// When it was made, by the clock of this node; may be before that began.
    born_ms: i64,
}

impl Known {
    /// How old it is.
    pub fn age_ms(&self, now: Millis) -> u64 {
        u64::try_from(signed(now) - self.born_ms).unwrap_or(0)
    }
}

fn signed(time: Millis) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// What a node knows of itself and the others: of each node its newest entry that came by.
#[derive(Debug, Clone)]
pub struct Vector {
    own: NodeId,
    sequence: u64,
    window: usize,
    capacity: usize,
    /// By node number: one more than the position in `known`, 0 where nothing is known.
    index: Vec<u16>,
    known: Vec<Known>,
    /// The newest of `known`, newest first.
    newest: Vec<Rank>,
    /// Room to make the next `newest` in.
    spare: Vec<Rank>,
}

/// An entry among the newest. It is out of date when another one of its node is known.
#[derive(Debug, Clone, Copy)]
struct Rank {
    born_ms: i64,
    sequence: u64,
    node: NodeId,
}

impl From<&Known> for Rank {
    fn from(known: &Known) -> Self {
        Rank { born_ms: known.born_ms, sequence: known.sequence, node: known.node }
    }
}

impl Vector {
    /// Nothing is known. `sequence` has to be larger than any count that this node has used before (its system's time
    /// in milliseconds is); windows have `window` entries and no more than [`WINDOW_MAX`]; no more than `capacity`
    /// nodes are remembered, those with the newest entries.
    pub fn new(own: NodeId, sequence: u64, window: usize, capacity: usize) -> Self {
        let window = window.clamp(1, WINDOW_MAX);
        Self {
            own,
            sequence: sequence.min(SEQUENCE_MAX),
            window,
            capacity: capacity.clamp(2 * window, usize::from(u16::MAX)),
            index: Vec::new(),
            known: Vec::new(),
            newest: Vec::with_capacity(window),
            spare: Vec::with_capacity(window),
        }
    }

    /// Makes the node's own entry anew. At the beginning of each step.
    pub fn refresh(&mut self, now: Millis, info: Info) {
        self.sequence = (self.sequence + 1).min(SEQUENCE_MAX);
        let own = Known { node: self.own, info, sequence: self.sequence, born_ms: signed(now) };
        self.put(own);
        self.rank(&[Rank::from(&own)]);
    }

    /// The newest entries, newest first.
    pub fn window(&self, now: Millis) -> impl Iterator<Item = Entry> {
        self.newest.iter().filter_map(move |rank| self.get(rank.node)).map(move |known| Entry {
            node: known.node,
            sequence: known.sequence,
            age_ms: u32::try_from(known.age_ms(now)).unwrap_or(u32::MAX),
            info: known.info,
        })
    }

    /// Takes in somebody else's window, newest first. What is said of this node itself is left out.
    pub fn merge(&mut self, now: Millis, entries: impl IntoIterator<Item = Entry>) {
        let mut taken = [Rank { born_ms: 0, sequence: 0, node: self.own }; WINDOW_MAX];
        let mut count = 0;
        for entry in entries.into_iter().take(WINDOW_MAX) {
            if entry.node == self.own {
                // Somebody still knows of counts that were used before this node was started.
                self.sequence = self.sequence.max(entry.sequence.min(SEQUENCE_MAX));
                continue;
            }
            let born_ms = signed(now) - i64::from(entry.age_ms);
            let known = self.get(entry.node);
            if entry.sequence > SEQUENCE_MAX || known.is_some_and(|known| known.sequence >= entry.sequence) {
                continue;
            }
            let known = Known { node: entry.node, info: entry.info, sequence: entry.sequence, born_ms };
            self.put(known);
            taken[count] = Rank::from(&known);
            count += 1;
        }
        if count > 0 {
            self.rank(&taken[..count]);
            self.evict();
        }
    }

    /// What is known of a node.
    pub fn get(&self, node: NodeId) -> Option<&Known> {
        let position = self.index.get(node.index()).copied().unwrap_or(0);
        self.known.get(usize::from(position).checked_sub(1)?)
    }

    /// Everything that is known, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.iter()
    }

    /// The newest of what is known, newest first: as much as a window has.
    pub fn newest(&self) -> impl Iterator<Item = &Known> {
        self.newest.iter().filter_map(|rank| self.get(rank.node))
    }

    /// How many nodes something is known of.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Nothing is known, not even of this node itself.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets a node, because it is down.
    pub fn forget(&mut self, node: NodeId) {
        let Some(slot) = self.index.get_mut(node.index()) else { return };
        let Some(position) = usize::from(std::mem::take(slot)).checked_sub(1) else { return };
        self.known.swap_remove(position);
        if let Some(moved) = self.known.get(position) {
            self.index[moved.node.index()] = position_plus_one(position);
        }
        self.newest.retain(|rank| rank.node != node);
    }

    fn put(&mut self, known: Known) {
        let index = known.node.index();
        if self.index.len() <= index {
            self.index.resize(index + 1, 0);
        }
        match usize::from(self.index[index]).checked_sub(1) {
            Some(position) => self.known[position] = known,
            None => {
                self.known.push(known);
                self.index[index] = position_plus_one(self.known.len() - 1);
            }
        }
    }

    /// Merges entries that were just put, newest first, into the newest ones. An entry only ever gets a later birth, so
    /// nothing that is not among the newest can come to be among them but by being put.
    fn rank(&mut self, put: &[Rank]) {
        self.spare.clear();
        let (known, index) = (&self.known, &self.index);
        let current = |rank: &&Rank| {
            let position = usize::from(index[rank.node.index()]).checked_sub(1);
            position.and_then(|position| known.get(position)).is_some_and(|it| it.sequence == rank.sequence)
        };
        let mut old = self.newest.iter().filter(current).peekable();
        let mut new = put.iter().filter(current).peekable();
        while self.spare.len() < self.window {
            let next = match (old.peek(), new.peek()) {
                (Some(a), Some(b)) if a.born_ms > b.born_ms => old.next(),
                (Some(_), None) => old.next(),
                (_, Some(_)) => new.next(),
                (None, None) => break,
            };
            self.spare.extend(next);
        }
        std::mem::swap(&mut self.newest, &mut self.spare);
    }

    /// Forgets the oldest entries when there are too many: a quarter at a time, so that this is seldom.
    fn evict(&mut self) {
        if self.known.len() <= self.capacity {
            return;
        }
        let mut order: Vec<_> = self.known.iter().map(|known| (known.born_ms, known.node)).collect();
        let excess = self.known.len() - (self.capacity - self.capacity / 4);
        order.select_nth_unstable(excess);
        for (_, node) in order.into_iter().take(excess) {
            if node != self.own {
                self.forget(node);
            }
        }
    }
}

/// `capacity` sees to it that there are no more positions than this can name.
fn position_plus_one(position: usize) -> u16 {
    u16::try_from(position + 1).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::Load;

    fn id(id: u16) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn entry(node: u16, sequence: u64, age_ms: u32) -> Entry {
        Entry { node: id(node), sequence, age_ms, info: Info::default() }
    }

    fn nodes(vector: &Vector) -> Vec<u16> {
        vector.newest().map(|known| known.node.get()).collect()
    }

    #[test]
    fn a_window_has_the_newest_entries_first() {
        let mut vector = Vector::new(id(1), 0, 3, 100);
        vector.merge(1000, [entry(2, 1, 10), entry(3, 1, 20), entry(4, 1, 500)]);
        vector.refresh(1000, Info::default());
        assert_eq!(nodes(&vector), [1, 2, 3]);
        vector.merge(1000, [entry(4, 2, 5), entry(3, 1, 7)]);
        assert_eq!(nodes(&vector), [1, 4, 2]);
        assert_eq!(vector.get(id(3)).unwrap().age_ms(1500), 520);
    }

    #[test]
    fn what_is_older_or_about_oneself_changes_nothing() {
        let mut vector = Vector::new(id(1), 10, 4, 100);
        vector.refresh(0, Info { load: Load(7), ..Info::default() });
        vector.merge(0, [entry(2, 5, 100)]);
        vector.merge(0, [entry(2, 4, 0), entry(1, 900, 0), entry(3, u64::MAX, 0)]);
        assert_eq!((vector.len(), vector.get(id(2)).unwrap().age_ms(0)), (2, 100));
        assert_eq!(vector.get(id(1)).unwrap().info.load, Load(7));
        // The next own entry is newer than what others still remember from before a restart.
        vector.refresh(1, Info::default());
        assert_eq!(vector.window(1).next().unwrap().sequence, 901);
    }

    #[test]
    fn a_node_that_is_down_is_forgotten() {
        let mut vector = Vector::new(id(1), 0, 4, 100);
        vector.refresh(0, Info::default());
        vector.merge(0, [entry(2, 1, 0), entry(3, 1, 1), entry(4, 1, 2)]);
        vector.forget(id(2));
        vector.forget(id(2));
        vector.forget(id(60_000));
        assert_eq!(nodes(&vector), [1, 3, 4]);
        assert_eq!((vector.len(), vector.get(id(2))), (3, None));
        vector.merge(5, [entry(2, 1, 3)]);
        assert_eq!(vector.len(), 4);
    }

    proptest! {
        /// Whatever comes by, the window is what sorting all that is known would give.
        #[test]
        fn the_newest_are_kept_without_looking_at_all(
            windows in prop::collection::vec(
                (0..50_u64, prop::collection::vec((2..40_u16, 0..1000_u64), 0..12), 0..60_u16), 1..60)
        ) {
            let mut vector = Vector::new(id(1), 0, 5, 20);
            let mut now = 10_000;
            let mut forgot = false;
            for (pause, entries, forgotten) in windows {
                now += pause;
                // The count of an entry is the time when it was made.
                let entries = entries.into_iter().map(|(n, born)| entry(n, born, (now - 10 * born) as u32));
                let mut entries: Vec<_> = entries.collect();
                entries.sort_by_key(|entry| entry.age_ms);
                vector.refresh(now, Info::default());
                vector.merge(now, entries);
                prop_assert!(vector.len() <= 20);
                let mut ages: Vec<_> = vector.iter().map(|known| known.age_ms(now)).collect();
                ages.sort_unstable();
                ages.truncate(5);
                let newest: Vec<_> = vector.newest().map(|known| known.age_ms(now)).collect();
                prop_assert_eq!(newest.first(), Some(&0));
                if forgot {
                    // The window may be short until the next entries come.
                    prop_assert!(newest.is_sorted() && newest.len() <= ages.len());
                } else {
                    prop_assert_eq!(newest, ages);
                }
                for known in vector.iter() {
                    prop_assert_eq!(vector.get(known.node), Some(known));
                }
                if forgotten > 55 {
                    vector.forget(id(forgotten - 50));
                    forgot = true;
                }
            }
        }
    }
}
