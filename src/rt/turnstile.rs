//! Turnstiles: who comes to one goes through after those who came before. Each key has a turnstile of its own; `()` makes one for
//! all.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Those who wait in one line, in the order in which they came, and who to wake when one is the first.
type Line = VecDeque<(u64, Option<Waker>)>;

struct Inner<K> {
    next: u64,
    lines: HashMap<K, Line>,
}

/// Who waits at each key; a key that nobody waits at takes no memory.
pub struct Turnstiles<K>(Rc<RefCell<Inner<K>>>);

/// A place in one line or several, given up when dropped.
pub struct Place<K: Copy + Eq + Hash> {
    lines: Rc<RefCell<Inner<K>>>,
    keys: Vec<K>,
    number: u64,
}

impl<K> Default for Turnstiles<K> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Inner { next: 0, lines: HashMap::new() })))
    }
}

impl<K: Copy + Eq + Hash> Turnstiles<K> {
    /// Whether nobody is in the line.
    pub fn is_free(&self, key: K) -> bool {
        let inner = self.0.borrow();
        inner.lines.is_empty() || !inner.lines.contains_key(&key)
    }

    /// Takes the last place in each of these lines at once: of two who meet in several, the same one is first in all.
    pub fn enter(&self, mut keys: Vec<K>) -> Place<K> {
        let mut inner = self.0.borrow_mut();
        let number = inner.next;
        inner.next += 1;
        keys.retain(|key| {
            let line = inner.lines.entry(*key).or_default();
            let is_new = line.back().is_none_or(|(last, _)| *last != number);
            if is_new {
                line.push_back((number, None));
            }
            is_new
        });
        Place { lines: self.0.clone(), keys, number }
    }
}

impl Turnstiles<()> {
    /// Takes the last place at the only one.
    pub fn enter_one(&self) -> Place<()> {
        self.enter(vec![()])
    }
}

impl<K: Copy + Eq + Hash> Place<K> {
    /// Returns once this is the first in all of its lines.
    pub async fn front(&self) {
        std::future::poll_fn(|cx| {
            let mut inner = self.lines.borrow_mut();
            for key in &self.keys {
                let Some(line) = inner.lines.get_mut(key) else { continue };
                if line.front().is_none_or(|(first, _)| *first == self.number) {
                    continue;
                }
                if let Some((_, waker)) = line.iter_mut().find(|(number, _)| *number == self.number) {
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
        let mut inner = self.lines.borrow_mut();
        for key in &self.keys {
            let Some(line) = inner.lines.get_mut(key) else { continue };
            line.retain(|(number, _)| *number != self.number);
            match line.front() {
                Some((_, Some(waker))) => waker.wake_by_ref(),
                Some(_) => {}
                None => drop(inner.lines.remove(key)),
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
            let lines: Turnstiles<u8> = Turnstiles::default();
            let order: Rc<RefCell<Vec<u8>>> = Rc::default();
            let first = lines.enter(vec![1, 2, 1]);
            let wait = |name: u8, keys: Vec<u8>| {
                let (place, order) = (lines.enter(keys), order.clone());
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
            assert!(!lines.is_free(1) && !lines.is_free(3) && lines.is_free(4));
            drop(first);
            for task in waiting {
                task.await;
            }
            let order = order.borrow();
            let at = |name| order.iter().position(|n| *n == name).unwrap();
            assert!(at(1) < at(3) && at(3) < at(4), "{order:?}");
            assert!([1, 2, 3].into_iter().all(|key| lines.is_free(key)));
        });
    }

    #[test]
    fn a_place_that_is_given_up_lets_the_next_pass() {
        rt::block_on(async {
            let lines: Turnstiles<()> = Turnstiles::default();
            let (first, second, third) =
                (lines.enter(vec![()]), lines.enter(vec![()]), lines.enter(vec![()]));
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
