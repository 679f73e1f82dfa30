//! Each key's last offset, in bounded memory: the key's 128-bit hash stands for the key.
//!
//! The hash is keyed anew for each map, so that nobody can prepare two keys that collide: with 2^24 keys the odds that
//! any two do are 1 in 2^81.

use std::hash::{BuildHasher, RandomState};

#[derive(Clone, Copy)]
struct Slot {
    hash: (u64, u64),
    /// −1: empty.
    offset: i64,
}

const EMPTY: Slot = Slot { hash: (0, 0), offset: -1 };
const FIRST_SLOTS: usize = 1 << 10;

/// See the module's page.
pub struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    most_slots: usize,
    keys: (RandomState, RandomState),
    /// The last offset that the map accounts for; −1 if none.
    latest: i64,
}

impl OffsetMap {
    /// A map that never takes more than `bytes`, also while it grows.
    pub fn new(bytes: usize) -> Self {
        let most_slots = (bytes / size_of::<Slot>() * 2 / 3).max(FIRST_SLOTS);
        Self {
            slots: vec![EMPTY; FIRST_SLOTS],
            used: 0,
            most_slots,
            keys: (RandomState::new(), RandomState::new()),
            latest: -1,
        }
    }

    pub fn latest(&self) -> i64 {
        self.latest
    }

    pub fn advance(&mut self, latest: i64) {
        self.latest = self.latest.max(latest);
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.keys.0.hash_one(key), self.keys.1.hash_one(key))
    }

    /// Notes that `key` was written at `offset`; false if there is no room for another key.
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        if self.is_full() && !self.grow() {
            // A key that is known already still takes its offset.
            let hash = self.hash(key);
            let at = self.find(hash);
            if self.slots[at].offset < 0 {
                return false;
            }
            self.slots[at].offset = offset;
            return true;
        }
        let hash = self.hash(key);
        let at = self.find(hash);
        self.used += usize::from(self.slots[at].offset < 0);
        self.slots[at] = Slot { hash, offset };
        true
    }

    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let offset = self.slots[self.find(self.hash(key))].offset;
        (offset >= 0).then_some(offset)
    }

    fn is_full(&self) -> bool {
        self.used >= self.slots.len() / 10 * 9
    }

    fn grow(&mut self) -> bool {
        let double = self.slots.len() * 2;
        let size = if double * 2 > self.most_slots { self.most_slots } else { double };
        if size <= self.slots.len() {
            return false;
        }
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; size]);
        for slot in old.into_iter().filter(|slot| slot.offset >= 0) {
            let at = self.find(slot.hash);
            self.slots[at] = slot;
        }
        true
    }

    /// The slot that has the hash, or the empty one that would take it. One in ten is empty, so there is one.
    fn find(&self, hash: (u64, u64)) -> usize {
        let len = self.slots.len();
        let mut at = ((u128::from(hash.0) * len as u128) >> 64) as usize;
        while self.slots[at].offset >= 0 && self.slots[at].hash != hash {
            at = if at + 1 == len { 0 } else { at + 1 };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_offset_of_every_key_while_it_grows() {
        let mut map = OffsetMap::new(16 << 20);
        let key = |i: i64| i.to_le_bytes();
        for offset in 0..300_000 {
            assert!(map.put(&key(offset % 100_000), offset));
        }
        assert_eq!(map.used, 100_000);
        assert!((0..100_000).all(|i| map.get(&key(i)) == Some(200_000 + i)));
        assert_eq!(map.get(b"another"), None);
        assert!((map.slots.capacity() * size_of::<Slot>()) <= 16 << 20);
    }

    #[test]
    fn never_takes_more_than_it_may() {
        for bytes in [0, 100_000, 1 << 20, 5_000_000] {
            let mut map = OffsetMap::new(bytes);
            let mut fitted = 0_i64;
            while map.put(&fitted.to_le_bytes(), fitted) {
                fitted += 1;
            }
            let bound = bytes.max(FIRST_SLOTS * size_of::<Slot>());
            assert!(
                (map.slots.capacity() * size_of::<Slot>()) <= bound,
                "{} of {bound}",
                (map.slots.capacity() * size_of::<Slot>())
            );
            assert!(fitted as usize >= bound / 48, "{fitted} keys in {bound} bytes");
            assert!(map.put(&0_i64.to_le_bytes(), 1 << 40), "a known key needs no room");
            assert_eq!(map.get(&0_i64.to_le_bytes()), Some(1 << 40));
            assert!((1..fitted).all(|i| map.get(&i.to_le_bytes()) == Some(i)));
        }
    }
}
