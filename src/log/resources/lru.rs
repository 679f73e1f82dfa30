//! A map that gives up what was used least recently.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// A map that knows which entry was used least recently, and the sum of its entries' weights.
pub struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    order: BTreeMap<u64, K>,
    clock: u64,
    weight: usize,
}

struct Entry<V> {
    value: V,
    used: u64,
    weight: usize,
}

impl<K, V> Default for Lru<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, weight: 0 }
    }
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn weight(&self) -> usize {
        self.weight
    }

    pub fn get(&mut self, key: &K) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        self.order.remove(&entry.used);
        self.order.insert(self.clock, *key);
        entry.used = self.clock;
        Some(&entry.value)
    }

    pub fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        self.clock += 1;
        self.order.insert(self.clock, key);
        self.entries.insert(key, Entry { value, used: self.clock, weight });
        self.weight += weight;
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.used);
        self.weight -= entry.weight;
        Some(entry.value)
    }

    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.first_key_value()?;
        let key = *key;
        self.remove(&key).map(|value| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lru_order_and_weight() {
        let mut lru = Lru::default();
        for key in 0..3 {
            lru.insert(key, key * 10, 5);
        }
        assert_eq!(lru.get(&0), Some(&0));
        lru.insert(1, 11, 7);
        assert_eq!((lru.len(), lru.weight()), (3, 17));
        assert_eq!(lru.pop_oldest(), Some((2, 20)));
        assert_eq!(lru.pop_oldest(), Some((0, 0)));
        assert_eq!(lru.pop_oldest(), Some((1, 11)));
        assert_eq!((lru.pop_oldest(), lru.weight()), (None, 0));
    }
}
