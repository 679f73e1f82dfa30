//! A sorted map of which a copy is one pointer: copies share what is the same in them, and a change copies only the way to
//! what it changes.
//!
//! ```text
//! root ─▶ inner: (least key, child) … ─▶ inner … ─▶ leaf: (key, value) …      at most WIDTH in a node
//! ```
//! A node that no other copy shares is changed in place, so that building a map costs no copies.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

const WIDTH: usize = 32;

pub struct Map<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

#[derive(Clone)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    /// No key below a child is before its least key, and none is at or past that of the next child.
    Inner(Vec<(K, Arc<Node<K, V>>)>),
}

impl<K, V> Node<K, V> {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.len(),
        }
    }
}

/// The child that has a key, if any has.
fn child<K: Borrow<Q>, Q: Ord + ?Sized, V>(children: &[(K, Arc<Node<K, V>>)], key: &Q) -> usize {
    children.partition_point(|(least, _)| least.borrow() <= key).saturating_sub(1)
}

fn find<K: Borrow<Q>, Q: Ord + ?Sized, V>(entries: &[(K, V)], key: &Q) -> Result<usize, usize> {
    entries.binary_search_by(|(k, _)| k.borrow().cmp(key))
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K, V> Map<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => return find(entries, key).ok().map(|at| &entries[at].1),
                Node::Inner(children) => node = &children[child(children, key)].1,
            }
        }
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// In the order of the keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { above: Vec::new(), leaf: [].iter(), left: self.len };
        iter.descend(&self.root);
        iter
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Everything that is not before `key`, in order.
    pub fn range_from<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        // What is left is not known: more than there is does no harm to what is no exact size.
        let mut iter = Iter { above: Vec::new(), leaf: [].iter(), left: self.len };
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let from = find(entries, key).unwrap_or_else(|at| at);
                    iter.leaf = entries[from..].iter();
                    break;
                }
                Node::Inner(children) => {
                    let at = child(children, key);
                    iter.above.push(children[at + 1..].iter());
                    node = &children[at].1;
                }
            }
        }
        std::iter::from_fn(move || iter.step())
    }
}

impl<K: Ord + Clone, V: Clone> Map<K, V> {
    /// The value that the key had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (old, right) = insert(&mut self.root, key, value);
        if let Some(right) = right {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::Leaf(Vec::new())));
            let children = [left, right].map(|node| (least(&node), node));
            self.root = Arc::new(Node::Inner(children.into()));
        }
        self.len += usize::from(old.is_none());
        old
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Nothing is copied for a key that is not there.
        self.get(key)?;
        let old = remove(&mut self.root, key);
        self.len -= usize::from(old.is_some());
        loop {
            let only = match &*self.root {
                Node::Inner(children) if children.len() == 1 => children[0].1.clone(),
                _ => return old,
            };
            self.root = only;
        }
    }

    /// A value to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        let mut node = Arc::make_mut(&mut self.root);
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = find(entries, key).ok()?;
                    return Some(&mut entries[at].1);
                }
                Node::Inner(children) => {
                    let at = child(children, key);
                    node = Arc::make_mut(&mut children[at].1);
                }
            }
        }
    }
}

fn least<K: Clone, V>(node: &Node<K, V>) -> K {
    match node {
        Node::Leaf(entries) => entries[0].0.clone(),
        Node::Inner(children) => children[0].0.clone(),
    }
}

type Split<K, V> = Option<Arc<Node<K, V>>>;

/// The value that the key had, and a node to be put behind this one if it was split.
fn insert<K: Ord + Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    key: K,
    value: V,
) -> (Option<V>, Split<K, V>) {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => match find(entries, &key) {
            Ok(at) => (Some(std::mem::replace(&mut entries[at].1, value)), None),
            Err(at) => {
                entries.insert(at, (key, value));
                let right = (entries.len() > WIDTH).then(|| entries.split_off(split_at(at, entries.len())));
                (None, right.map(|entries| Arc::new(Node::Leaf(entries))))
            }
        },
        Node::Inner(children) => {
            let at = child(children, &key);
            if key < children[at].0 {
                children[at].0 = key.clone();
            }
            let (old, right) = insert(&mut children[at].1, key, value);
            let Some(right) = right else { return (old, None) };
            children.insert(at + 1, (least(&right), right));
            let right =
                (children.len() > WIDTH).then(|| children.split_off(split_at(at + 1, children.len())));
            (old, right.map(|children| Arc::new(Node::Inner(children))))
        }
    }
}

/// Where to split a node that has become too large by its entry at `at`: what is filled in order leaves full nodes.
fn split_at(at: usize, len: usize) -> usize {
    if at + 1 == len { len - 1 } else { len / 2 }
}

fn remove<K: Ord + Clone + Borrow<Q>, V: Clone, Q: Ord + ?Sized>(
    node: &mut Arc<Node<K, V>>,
    key: &Q,
) -> Option<V> {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => find(entries, key).ok().map(|at| entries.remove(at).1),
        Node::Inner(children) => {
            let at = child(children, key);
            let old = remove(&mut children[at].1, key);
            // With its neighbour, where both fit one node with room to grow.
            let left = at.min(children.len().saturating_sub(2));
            if children[at].1.len() == 0 && children.len() > 1 {
                children.remove(at);
            } else if children.len() > 1 && children[left].1.len() + children[left + 1].1.len() <= WIDTH / 2 {
                let (_, right) = children.remove(left + 1);
                join(Arc::make_mut(&mut children[left].1), Arc::unwrap_or_clone(right));
            }
            old
        }
    }
}

fn join<K, V>(left: &mut Node<K, V>, right: Node<K, V>) {
    match (left, right) {
        (Node::Leaf(left), Node::Leaf(right)) => left.extend(right),
        (Node::Inner(left), Node::Inner(right)) => left.extend(right),
        _ => unreachable!("neighbours are of one height"),
    }
}

type Children<'a, K, V> = std::slice::Iter<'a, (K, Arc<Node<K, V>>)>;

pub struct Iter<'a, K, V> {
    above: Vec<Children<'a, K, V>>,
    leaf: std::slice::Iter<'a, (K, V)>,
    left: usize,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn descend(&mut self, node: &'a Node<K, V>) {
        let mut node = node;
        loop {
            match node {
                Node::Leaf(entries) => return self.leaf = entries.iter(),
                Node::Inner(children) => {
                    let mut rest = children.iter();
                    let Some((_, first)) = rest.next() else { return };
                    self.above.push(rest);
                    node = first;
                }
            }
        }
    }

    fn step(&mut self) -> Option<(&'a K, &'a V)> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                self.left = self.left.saturating_sub(1);
                return Some((key, value));
            }
            match self.above.last_mut()?.next() {
                Some((_, node)) => self.descend(node),
                None => drop(self.above.pop()),
            }
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.step()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Map<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        entries.into_iter().for_each(|(key, value)| drop(map.insert(key, value)));
        map
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A generator that a seed repeats.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }
    }

    fn same(map: &Map<u64, u64>, model: &BTreeMap<u64, u64>, seed: u64) {
        assert!(map.iter().map(|(k, v)| (*k, *v)).eq(model.iter().map(|(k, v)| (*k, *v))), "seed {seed}");
        assert_eq!((map.len(), map.iter().len()), (model.len(), model.len()), "seed {seed}");
    }

    #[test]
    fn it_is_a_sorted_map_and_old_copies_stay_as_they_were() {
        for seed in 0..40 {
            let (mut random, mut map, mut model) = (Random(seed), Map::default(), BTreeMap::new());
            let mut kept = Vec::new();
            let keys = 1 + random.below(3000);
            for step in 0..4000 {
                let key = random.below(keys);
                // Grows first, then shrinks.
                match random.below(10) < if step < 2000 { 7 } else { 2 } {
                    true => assert_eq!(map.insert(key, step), model.insert(key, step), "seed {seed}"),
                    false => assert_eq!(map.remove(&key), model.remove(&key), "seed {seed}"),
                }
                if let Some(value) = map.get_mut(&(key / 2)) {
                    *value += 1;
                    *model.get_mut(&(key / 2)).unwrap() += 1;
                }
                assert_eq!(map.get(&key), model.get(&key), "seed {seed}");
                if step % 500 == 0 {
                    kept.push((map.clone(), model.clone()));
                    let from = random.below(keys);
                    assert!(map.range_from(&from).eq(model.range(from..)), "seed {seed}");
                }
            }
            kept.push((map, model));
            kept.iter().for_each(|(map, model)| same(map, model, seed));
        }
    }

    #[test]
    fn a_change_copies_only_the_way_to_it() {
        let map: Map<u64, u64> = (0..100_000).map(|n| (n, n)).collect();
        let mut changed = map.clone();
        changed.insert(50_000, 0);
        fn nodes(node: &Arc<Node<u64, u64>>, all: &mut Vec<usize>) {
            all.push(Arc::as_ptr(node) as usize);
            if let Node::Inner(children) = &**node {
                children.iter().for_each(|(_, child)| nodes(child, all));
            }
        }
        let (mut before, mut after) = (Vec::new(), Vec::new());
        nodes(&map.root, &mut before);
        nodes(&changed.root, &mut after);
        before.sort_unstable();
        let new = after.iter().filter(|node| before.binary_search(node).is_err()).count();
        assert!(before.len() > 3000 && new <= 4, "{new} new nodes of {}", before.len());
    }
}
