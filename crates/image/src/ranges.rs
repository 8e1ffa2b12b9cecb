//! A map from address ranges to values.

use std::collections::BTreeMap;

/// A value that can stand for the rest of its range when the front is cut off.
pub trait Cut: Clone + PartialEq {
    /// The value of the part that begins `offset` bytes further on.
    fn after(&self, offset: u64) -> Self;
}

impl Cut for () {
    fn after(&self, _: u64) -> Self {}
}

/// Disjoint half-open ranges `[start, end)` with a value each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges<V> {
    map: BTreeMap<u64, (u64, V)>,
}

impl<V: Cut> Default for Ranges<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Cut> Ranges<V> {
    /// An empty map.
    pub fn new() -> Self {
        Self { map: BTreeMap::new() }
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// All ranges in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64, &V)> {
        self.map.iter().map(|(start, (end, value))| (*start, *end, value))
    }

    /// Covers `[start, end)` with `value`, whatever was there.
    pub fn set(&mut self, start: u64, end: u64, value: V) {
        if start < end {
            self.clear(start, end);
            self.map.insert(start, (end, value));
        }
    }

    /// Uncovers `[start, end)`.
    pub fn clear(&mut self, start: u64, end: u64) {
        let reaching_in: Vec<u64> = self
            .map
            .range(..start)
            .next_back()
            .into_iter()
            .filter(|(_, (old_end, _))| *old_end > start)
            .map(|(old, _)| *old)
            .chain(self.map.range(start..end.max(start)).map(|(old, _)| *old))
            .collect();
        for old_start in reaching_in {
            let Some((old_end, value)) = self.map.remove(&old_start) else { continue };
            if old_end > end {
                self.map.insert(end, (old_end, value.after(end - old_start)));
            }
            if old_start < start {
                self.map.insert(old_start, (start, value));
            }
        }
    }

    /// The range around `address`: its end and the value there.
    pub fn get(&self, address: u64) -> Option<(u64, V)> {
        let (start, (end, value)) = self.map.range(..=address).next_back()?;
        (address < *end).then(|| (*end, value.after(address - start)))
    }

    /// The first covered part at or after `address`.
    pub fn next_from(&self, address: u64) -> Option<(u64, u64)> {
        if let Some((end, _)) = self.get(address) {
            return Some((address, end));
        }
        self.map.range(address..).next().map(|(start, (end, _))| (*start, *end))
    }

    /// The covered parts of `[start, end)`, cut to it.
    pub fn within(&self, start: u64, end: u64) -> Vec<(u64, u64, V)> {
        self.pieces(start, end).into_iter().filter_map(|(a, b, value)| Some((a, b, value?))).collect()
    }

    /// `[start, end)` cut at every border: covered parts with their value, gaps with `None`.
    pub fn pieces(&self, start: u64, end: u64) -> Vec<(u64, u64, Option<V>)> {
        let mut pieces = Vec::new();
        let mut at = start;
        while at < end {
            if let Some((covered_end, value)) = self.get(at) {
                let piece_end = covered_end.min(end);
                pieces.push((at, piece_end, Some(value)));
                at = piece_end;
            } else {
                let gap_end = self.map.range(at..end).next().map_or(end, |(next, _)| *next);
                pieces.push((at, gap_end, None));
                at = gap_end;
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Cut for u64 {
        fn after(&self, offset: u64) -> Self {
            self + offset
        }
    }

    proptest! {
        #[test]
        fn behaves_like_an_array(steps in proptest::collection::vec((0u64..64, 0u64..64, proptest::option::of(1000u64..2000)), 0..40)) {
            let mut ranges = Ranges::new();
            let mut cells = [None; 64];
            for (a, b, value) in steps {
                let (start, end) = (a.min(b), a.max(b));
                match value {
                    Some(value) => ranges.set(start, end, value),
                    None => ranges.clear(start, end),
                }
                for at in start..end {
                    cells[at as usize] = value.map(|value| value + (at - start));
                }
            }
            for at in 0..64u64 {
                prop_assert_eq!(ranges.get(at).map(|(_, value)| value), cells[at as usize]);
            }
            let covered: u64 = ranges.pieces(0, 64).iter().map(|(a, b, _)| b - a).sum();
            prop_assert_eq!(covered, 64);
            for (start, end, value) in ranges.within(10, 50) {
                for at in start..end {
                    prop_assert_eq!(cells[at as usize], Some(value + (at - start)));
                }
            }
        }
    }
}
