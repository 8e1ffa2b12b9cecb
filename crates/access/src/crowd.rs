//! How many may be connected at a time, and who has to go when there are too many.
//!
//! Anybody may connect and ask nothing. So a newcomer is always let in while somebody is connected who asks nothing: of
//! those the one that has been idle for longest has to go, of the same caller's if this one has its full share, and else
//! of all. Only where everybody is being answered is a newcomer turned away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Those who are connected; `K` says whose a connection is.
#[derive(Debug)]
pub struct Crowd<K> {
    inner: Arc<Mutex<Inner<K>>>,
    max: usize,
    of_one_max: usize,
}

impl<K> Clone for Crowd<K> {
    fn clone(&self) -> Self {
        Crowd { inner: Arc::clone(&self.inner), ..*self }
    }
}

#[derive(Debug)]
struct Inner<K> {
    last: u64,
    members: BTreeMap<u64, Member<K>>,
    shares: BTreeMap<K, usize>,
    /// Those that ask nothing, the one that has been idle for longest first: when, and who.
    idle: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Member<K> {
    key: K,
    /// Its place among the idle.
    idle: Option<u64>,
    busy: usize,
    leave: Arc<Notify>,
}

/// A connection's place, given back when this is dropped.
#[derive(Debug)]
pub struct Place<K: Ord + Clone> {
    inner: Arc<Mutex<Inner<K>>>,
    number: u64,
    leave: Arc<Notify>,
}

fn lock<K>(inner: &Mutex<Inner<K>>) -> MutexGuard<'_, Inner<K>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Ord + Clone> Crowd<K> {
    /// Room for so many, and so many of one caller.
    pub fn new(max: usize, of_one_max: usize) -> Self {
        let inner =
            Inner { last: 0, members: BTreeMap::new(), shares: BTreeMap::new(), idle: BTreeMap::new() };
        Crowd { inner: Arc::new(Mutex::new(inner)), max, of_one_max }
    }

    /// A place for a newcomer, if need be that of somebody who asks nothing.
    pub fn enter(&self, key: K) -> Option<Place<K>> {
        let mut inner = lock(&self.inner);
        let full = inner.shares.get(&key).copied().unwrap_or(0) >= self.of_one_max;
        if full || inner.members.len() >= self.max {
            let idle = inner.idle.values().copied();
            let of_key = |number: &u64| inner.members.get(number).is_some_and(|member| member.key == key);
            let victim = if full { idle.into_iter().find(of_key) } else { idle.into_iter().next() };
            let leave = inner.remove(victim?)?.leave;
            leave.notify_one();
        }
        inner.last += 1;
        let (number, leave) = (inner.last, Arc::new(Notify::new()));
        inner.members.insert(
            number,
            Member { key: key.clone(), idle: Some(number), busy: 0, leave: Arc::clone(&leave) },
        );
        inner.idle.insert(number, number);
        *inner.shares.entry(key).or_default() += 1;
        Some(Place { inner: Arc::clone(&self.inner), number, leave })
    }
}

impl<K: Ord + Clone> Inner<K> {
    fn remove(&mut self, number: u64) -> Option<Member<K>> {
        let member = self.members.remove(&number)?;
        if let Some(idle) = member.idle {
            self.idle.remove(&idle);
        }
        if let Some(count) = self.shares.get_mut(&member.key) {
            *count -= 1;
            if *count == 0 {
                self.shares.remove(&member.key);
            }
        }
        Some(member)
    }
}

impl<K: Ord + Clone> Place<K> {
    /// A request begins to be answered.
    pub fn begin(&self) {
        let inner = &mut *lock(&self.inner);
        let Some(member) = inner.members.get_mut(&self.number) else { return };
        member.busy += 1;
        if let Some(idle) = member.idle.take() {
            inner.idle.remove(&idle);
        }
    }

    /// It is answered.
    pub fn end(&self) {
        let inner = &mut *lock(&self.inner);
        let Some(member) = inner.members.get_mut(&self.number) else { return };
        member.busy = member.busy.saturating_sub(1);
        if member.busy == 0 && member.idle.is_none() {
            inner.last += 1;
            member.idle = Some(inner.last);
            inner.idle.insert(inner.last, self.number);
        }
    }

    /// Returns when this connection has to go.
    pub async fn told_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl<K: Ord + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        // Gone already if somebody else has got the place.
        lock(&self.inner).remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<K: Ord + Clone>(place: &Place<K>) -> bool {
        let mut waiting = std::pin::pin!(place.told_to_leave());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        waiting.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn who_asks_nothing_for_longest_makes_room() {
        let crowd = Crowd::new(3, 3);
        let places: Vec<_> = (0..3).filter_map(|key| crowd.enter(key)).collect();
        places[0].begin();
        let newcomer = crowd.enter(7).unwrap();
        assert_eq!(places.iter().map(told).collect::<Vec<_>>(), [false, true, false]);
        // Who has been answered last is the last to go.
        places[0].end();
        let _another = crowd.enter(8).unwrap();
        assert!(told(&places[2]) && !told(&places[0]) && !told(&newcomer));
    }

    #[test]
    fn a_caller_with_its_full_share_makes_room_itself() {
        let crowd = Crowd::new(10, 2);
        let other = crowd.enter('b').unwrap();
        let own: Vec<_> = (0..2).filter_map(|_| crowd.enter('a')).collect();
        let third = crowd.enter('a').unwrap();
        assert!(told(&own[0]) && !told(&own[1]) && !told(&other));
        own[1].begin();
        third.begin();
        assert!(crowd.enter('a').is_none(), "all its connections are being answered");
        assert!(crowd.enter('b').is_some());
    }

    #[test]
    fn places_are_given_back() {
        let crowd = Crowd::new(1, 1);
        for _ in 0..3 {
            let place = crowd.enter(0).unwrap();
            place.begin();
            assert!(crowd.enter(1).is_none());
        }
        assert!(lock(&crowd.inner).members.is_empty() && lock(&crowd.inner).shares.is_empty());
        assert!(lock(&crowd.inner).idle.is_empty());
    }
}
