//! How many clients may be connected at a time, and how many of one user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Room for clients.
#[derive(Debug, Clone)]
pub struct Places {
    clients: Arc<Mutex<HashMap<u32, usize>>>,
    max: usize,
    of_one_max: usize,
}

/// A client's place among the others, given back when it goes.
#[derive(Debug)]
pub struct Place {
    clients: Arc<Mutex<HashMap<u32, usize>>>,
    uid: u32,
}

impl Places {
    /// Room for so many clients, and so many of one user who is not root.
    pub fn new(max: usize, of_one_max: usize) -> Self {
        Places { clients: Arc::default(), max, of_one_max }
    }

    /// A place for a client of this user; none if there is no room.
    pub fn take(&self, uid: u32) -> Option<Place> {
        let mut counts = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counts.values().sum::<usize>() >= self.max;
        let own = counts.get(&uid).copied().unwrap_or(0);
        if full || (uid != 0 && own >= self.of_one_max) {
            return None;
        }
        counts.insert(uid, own + 1);
        Some(Place { clients: Arc::clone(&self.clients), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_some_and_for_fewer_of_one_user() {
        let places = Places::new(4, 2);
        let own = [places.take(7), places.take(7), places.take(7)];
        assert_eq!(own.each_ref().map(Option::is_some), [true, true, false]);
        let root = [places.take(0), places.take(0), places.take(0)];
        assert_eq!(root.each_ref().map(Option::is_some), [true, true, false], "all places are taken");
        drop(own);
        assert!(places.take(0).is_some() && places.take(7).is_some());
    }
}
