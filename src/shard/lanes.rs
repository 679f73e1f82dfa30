//! Lines of those who wait for an earlier one of their kind: by producer, by partition, or one for all.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Those who wait in one line, in the order in which they came, and who to wake when one is the first.
type Lane = VecDeque<(u64, Option<Waker>)>;

struct Inner<K> {
    next: u64,
    lanes: HashMap<K, Lane>,
}

/// The lines, by what they are for.
pub(super) struct Lanes<K>(Rc<RefCell<Inner<K>>>);

/// A place in one line or several, given up when dropped.
pub(super) struct Place<K: Copy + Eq + Hash> {
    lanes: Rc<RefCell<Inner<K>>>,
    keys: Vec<K>,
    number: u64,
}

impl<K> Default for Lanes<K> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Inner { next: 0, lanes: HashMap::new() })))
    }
}

impl<K: Copy + Eq + Hash> Lanes<K> {
    /// Whether nobody is in the line.
    pub(super) fn is_free(&self, key: K) -> bool {
        let inner = self.0.borrow();
        inner.lanes.is_empty() || !inner.lanes.contains_key(&key)
    }

    /// Takes the last place in each of these lines at once: of two who meet in several, the same one is first in all.
    pub(super) fn enter(&self, mut keys: Vec<K>) -> Place<K> {
        let mut inner = self.0.borrow_mut();
        let number = inner.next;
        inner.next += 1;
        keys.retain(|key| {
            let lane = inner.lanes.entry(*key).or_default();
            let is_new = lane.back().is_none_or(|(last, _)| *last != number);
            if is_new {
                lane.push_back((number, None));
            }
            is_new
        });
        Place { lanes: self.0.clone(), keys, number }
    }
}

impl<K: Copy + Eq + Hash> Place<K> {
    /// Returns once this is the first in all of its lines.
    pub(super) async fn front(&self) {
        std::future::poll_fn(|cx| {
            let mut inner = self.lanes.borrow_mut();
            for key in &self.keys {
                let Some(lane) = inner.lanes.get_mut(key) else { continue };
                if lane.front().is_none_or(|(first, _)| *first == self.number) {
                    continue;
                }
                if let Some((_, waker)) = lane.iter_mut().find(|(number, _)| *number == self.number) {
                    *waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut inner = self.lanes.borrow_mut();
        for key in &self.keys {
            let Some(lane) = inner.lanes.get_mut(key) else { continue };
            lane.retain(|(number, _)| *number != self.number);
            match lane.front() {
                Some((_, Some(waker))) => waker.wake_by_ref(),
                Some(_) => {}
                None => drop(inner.lanes.remove(key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::rt;

    #[test]
    fn who_came_first_is_first_in_every_line_and_nobody_waits_for_whom_he_does_not_meet() {
        rt::block_on(async {
            let lanes: Lanes<u8> = Lanes::default();
            let order: Rc<RefCell<Vec<u8>>> = Rc::default();
            let first = lanes.enter(vec![1, 2, 1]);
            let wait = |name: u8, keys: Vec<u8>| {
                let (place, order) = (lanes.enter(keys), order.clone());
                rt::spawn(async move {
                    place.front().await;
                    order.borrow_mut().push(name);
                })
            };
            let waiting = [wait(1, vec![2]), wait(2, vec![3]), wait(3, vec![2, 3]), wait(4, vec![3, 1])];
            first.front().await;
            for _ in 0..10 {
                rt::yield_now().await;
            }
            assert_eq!(*order.borrow(), [2], "the only one who is in nobody's way");
            assert!(!lanes.is_free(1) && !lanes.is_free(3) && lanes.is_free(4));
            drop(first);
            for task in waiting {
                task.await;
            }
            let order = order.borrow();
            let at = |name| order.iter().position(|n| *n == name).unwrap();
            assert!(at(1) < at(3) && at(3) < at(4), "{order:?}");
            assert!([1, 2, 3].into_iter().all(|key| lanes.is_free(key)));
        });
    }

    #[test]
    fn a_place_that_is_given_up_lets_the_next_pass() {
        rt::block_on(async {
            let lanes: Lanes<()> = Lanes::default();
            let (first, second, third) =
                (lanes.enter(vec![()]), lanes.enter(vec![()]), lanes.enter(vec![()]));
            let passed = Rc::new(Cell::new(false));
            let task = rt::spawn({
                let passed = passed.clone();
                async move {
                    third.front().await;
                    passed.set(true);
                }
            });
            rt::yield_now().await;
            drop(second);
            rt::yield_now().await;
            assert!(!passed.get());
            drop(first);
            task.await;
        });
    }
}
