//! Requests of one shard that wait until what they appended counts as stored: how many of their partitions are still
//! to say so, and until when. Partitions tell ([`super::acks`]); whoever waits is woken once, by the last of them.
//!
//! Places are used again: a wait costs no memory of its own once as many were there before.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Until when something is waited for: the number of a sweep of the shard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due(pub u64);

impl Due {
    pub const NEVER: Self = Self(u64::MAX);
}

/// Why what was appended does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// This broker does not lead the partition any more, or leads it anew: what was appended may be gone.
    Deposed,
    /// Its ISR is too small by now.
    TooFewReplicas,
    /// The partition was deleted.
    Gone,
    /// It may still come to count: time is up, or the journal has failed.
    Unsettled,
}

/// One entry of one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    place: u32,
    /// Of the place: it has had other waits.
    use_number: u32,
    /// The entry's number in its request.
    entry: u32,
}

#[derive(Default)]
struct Place {
    use_number: u32,
    taken: bool,
    due: u64,
    left: usize,
    /// The entries that are left, a bit each.
    open: Vec<u64>,
    failed: Vec<(u32, Failure)>,
    waker: Option<Waker>,
    /// It is not waited for any longer.
    over: bool,
}

#[derive(Default)]
pub struct Waits {
    places: RefCell<Vec<Place>>,
    free: RefCell<Vec<u32>>,
    closed: Cell<bool>,
}

impl Waits {
    pub fn begin(self: &Rc<Self>, due: Due) -> Wait {
        let mut places = self.places.borrow_mut();
        let at = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(Place::default());
            places.len() as u32 - 1
        });
        let place = &mut places[at as usize];
        (place.taken, place.over, place.due) = (true, false, due.0);
        Wait { waits: self.clone(), place: at, use_number: place.use_number }
    }

    fn with<T>(&self, ticket: Ticket, change: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let mut places = self.places.borrow_mut();
        let place = &mut places[ticket.place as usize];
        (place.use_number == ticket.use_number).then(|| change(place))
    }

    /// The entry is waited for.
    pub(super) fn expect(&self, ticket: Ticket) {
        self.with(ticket, |place| {
            let (word, bit) = (ticket.entry as usize / 64, 1 << (ticket.entry % 64));
            place.open.resize(place.open.len().max(word + 1), 0);
            place.left += usize::from(place.open[word] & bit == 0);
            place.open[word] |= bit;
        });
    }

    /// The entry counts, or never will.
    pub(super) fn settle(&self, ticket: Ticket, outcome: Result<(), Failure>) {
        self.with(ticket, |place| {
            let (word, bit) = (ticket.entry as usize / 64, 1 << (ticket.entry % 64));
            if place.open[word] & bit == 0 {
                return;
            }
            place.open[word] &= !bit;
            place.left -= 1;
            if let Err(failure) = outcome {
                place.failed.push((ticket.entry, failure));
            }
            if place.left == 0
                && let Some(waker) = place.waker.take()
            {
                waker.wake();
            }
        });
    }

    pub fn is_waited_for(&self) -> bool {
        self.places.borrow().len() > self.free.borrow().len()
    }

    /// Ends the waits that are due.
    pub fn end_due(&self, is_over: impl Fn(Due) -> bool) {
        for place in
            self.places.borrow_mut().iter_mut().filter(|place| place.taken && is_over(Due(place.due)))
        {
            place.over = true;
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }

    /// Nothing will count from now on.
    pub fn close(&self) {
        self.closed.set(true);
        self.end_due(|_| true);
    }
}

/// A request's wait. It resolves when nothing is left of it to wait for, or it is due, or nothing will count any more;
/// [`Wait::failures`] tells.
pub struct Wait {
    waits: Rc<Waits>,
    place: u32,
    use_number: u32,
}

impl Wait {
    /// For the request's n-th entry.
    pub fn ticket(&self, entry: usize) -> Ticket {
        Ticket { place: self.place, use_number: self.use_number, entry: entry as u32 }
    }

    /// Whether anything has to be waited for.
    pub fn is_open(&self) -> bool {
        self.waits.places.borrow()[self.place as usize].left > 0
    }

    /// The entries that do not count, each once.
    pub fn failures(&self, mut tell: impl FnMut(usize, Failure)) {
        let places = self.waits.places.borrow();
        let place = &places[self.place as usize];
        place.failed.iter().for_each(|(entry, failure)| tell(*entry as usize, *failure));
        for (nth, word) in place.open.iter().enumerate().filter(|_| place.left > 0) {
            (0..64)
                .filter(|bit| word >> bit & 1 == 1)
                .for_each(|bit| tell(nth * 64 + bit, Failure::Unsettled));
        }
    }
}

impl Future for &Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut places = self.waits.places.borrow_mut();
        let place = &mut places[self.place as usize];
        if place.left == 0 || place.over || self.waits.closed.get() {
            return Poll::Ready(());
        }
        match &mut place.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut places = self.waits.places.borrow_mut();
        let place = &mut places[self.place as usize];
        place.use_number = place.use_number.wrapping_add(1);
        (place.taken, place.left, place.waker) = (false, 0, None);
        place.open.clear();
        place.failed.clear();
        self.waits.free.borrow_mut().push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll(wait: &Wait) -> bool {
        let mut wait = pin!(wait);
        wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn failures(wait: &Wait) -> Vec<(usize, Failure)> {
        let mut failures = Vec::new();
        wait.failures(|entry, failure| failures.push((entry, failure)));
        failures
    }

    #[test]
    fn the_last_entry_ends_a_wait() {
        let waits = Rc::new(Waits::default());
        let wait = waits.begin(Due::NEVER);
        assert!(poll(&wait) && !wait.is_open(), "there is nothing to wait for");
        let entries = [0, 3, 64, 200];
        entries.iter().for_each(|entry| waits.expect(wait.ticket(*entry)));
        for entry in [3, 0, 200] {
            waits.settle(wait.ticket(entry), Ok(()));
            waits.settle(wait.ticket(entry), Err(Failure::Gone));
            assert!(!poll(&wait) && wait.is_open());
        }
        assert_eq!(failures(&wait), [(64, Failure::Unsettled)]);
        waits.settle(wait.ticket(64), Err(Failure::Deposed));
        assert!(poll(&wait));
        assert_eq!(failures(&wait), [(64, Failure::Deposed)]);
    }

    #[test]
    fn a_place_is_used_again_and_its_old_tickets_are_void() {
        let waits = Rc::new(Waits::default());
        let wait = waits.begin(Due::NEVER);
        let old = wait.ticket(0);
        waits.expect(old);
        drop(wait);
        assert!(!waits.is_waited_for());
        let wait = waits.begin(Due::NEVER);
        assert_eq!(waits.places.borrow().len(), 1);
        waits.expect(wait.ticket(0));
        waits.settle(old, Ok(()));
        waits.expect(old);
        assert!(!poll(&wait));
        waits.settle(wait.ticket(0), Ok(()));
        assert!(poll(&wait) && failures(&wait).is_empty());
    }

    #[test]
    fn who_is_due_goes_and_in_the_end_everybody() {
        let waits = Rc::new(Waits::default());
        let [soon, late] = [Due(3), Due(5)].map(|due| waits.begin(due));
        for wait in [&soon, &late] {
            waits.expect(wait.ticket(0));
        }
        waits.end_due(|due| due <= Due(3));
        assert!(poll(&soon) && !poll(&late));
        assert_eq!(failures(&soon), [(0, Failure::Unsettled)]);
        waits.close();
        assert!(poll(&late));
        let after = waits.begin(Due::NEVER);
        waits.expect(after.ticket(0));
        assert!(poll(&after), "nothing counts any more");
    }
}
