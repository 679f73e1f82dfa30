//! Deadlines that move often, and the heap that holds them.
//!
//! A member's session is renewed at every heartbeat. The heap is not told: an entry that comes up before the
//! deadline it stands for is put back at the new one, so a renewal costs nothing and the heap holds one entry for
//! each deadline.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Ms;

/// A point in time that may be moved or dropped, and whether the heap has an entry that will ask about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadline {
    at: Option<Ms>,
    armed: Option<Ms>,
}

impl Deadline {
    /// Moves the deadline; returns when the heap has to be told to come back, if it does not know yet.
    #[must_use]
    pub fn set(&mut self, at: Ms) -> Option<Ms> {
        self.at = Some(at);
        if self.armed.is_some_and(|armed| armed <= at) {
            return None;
        }
        self.armed = Some(at);
        Some(at)
    }

    pub fn clear(&mut self) {
        self.at = None;
    }

    pub fn at(&self) -> Option<Ms> {
        self.at
    }

    /// An entry of the heap came up.
    pub fn fired(&mut self, now: Ms) -> Fired {
        // An older entry, left behind by a deadline that was moved forward in time.
        if self.armed.is_none_or(|armed| armed > now) {
            return Fired::Nothing;
        }
        self.armed = None;
        match self.at {
            None => Fired::Nothing,
            Some(at) if at <= now => {
                self.at = None;
                Fired::Due
            }
            Some(at) => {
                self.armed = Some(at);
                Fired::Again(at)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// It was dropped, or another entry stands for it.
    Nothing,
    Due,
    /// It was moved: come back then.
    Again(Ms),
}

/// Entries by time, then by the order in which they came.
pub struct TimerHeap<T> {
    heap: BinaryHeap<Entry<T>>,
    next: u64,
}

struct Entry<T> {
    at: Ms,
    number: u64,
    what: T,
}

impl<T> Default for TimerHeap<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), next: 0 }
    }
}

impl<T> TimerHeap<T> {
    /// Returns whether this entry is now the first.
    pub fn push(&mut self, at: Ms, what: T) -> bool {
        let first = self.heap.peek().is_none_or(|entry| at < entry.at);
        self.heap.push(Entry { at, number: self.next, what });
        self.next += 1;
        first
    }

    pub fn next_at(&self) -> Option<Ms> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub fn pop_due(&mut self, now: Ms) -> Option<T> {
        self.heap.peek().filter(|entry| entry.at <= now)?;
        self.heap.pop().map(|entry| entry.what)
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap's largest is the earliest.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_deadline_keeps_one_entry() {
        let (mut heap, mut deadline) = (TimerHeap::default(), Deadline::default());
        for now in 0..1000 {
            if let Some(at) = deadline.set(now + 10) {
                heap.push(at, ());
            }
            while heap.pop_due(now).is_some() {
                if let Fired::Again(at) = deadline.fired(now) {
                    heap.push(at, ());
                }
            }
            assert_eq!(heap.len(), 1);
        }
        assert!(heap.next_at() <= Some(1009), "in time for the deadline");
        assert_eq!(deadline.fired(1009), Fired::Due);
        assert_eq!(deadline.fired(1009), Fired::Nothing);
    }

    #[test]
    fn a_deadline_that_comes_nearer_fires_once() {
        let mut deadline = Deadline::default();
        assert_eq!(deadline.set(100), Some(100));
        assert_eq!(deadline.set(50), Some(50));
        assert_eq!(deadline.fired(50), Fired::Due);
        assert_eq!(deadline.fired(100), Fired::Nothing, "the older entry");
        assert_eq!(deadline.set(200), Some(200));
        deadline.clear();
        assert_eq!(deadline.fired(200), Fired::Nothing);
    }

    #[test]
    fn the_heap_gives_in_order_of_time() {
        let mut heap = TimerHeap::default();
        let firsts: Vec<bool> =
            [(5, 'a'), (3, 'b'), (5, 'c'), (9, 'd')].map(|(at, c)| heap.push(at, c)).into();
        assert_eq!(firsts, [true, true, false, false]);
        let due: String = std::iter::from_fn(|| heap.pop_due(5)).collect();
        assert_eq!((due.as_str(), heap.next_at()), ("bac", Some(9)));
    }
}
