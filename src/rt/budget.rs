//! Memory that the tasks of one shard share: it is taken before it is used, and given back when its guard is dropped.
//!
//! - [`Budget::take`] waits, first come first served, until there is room; what it grants lies between the least that
//!   is of use and the most that is wanted, and is at most half of what is free, so that a few large takers never leave
//!   nothing for the next.
//! - [`Budget::charge`] is for what is there already: it never waits, may pass the limit, and makes the others wait.
//! - A take of more than the limit is granted too, once three quarters are free: large work goes on, one at a time.
//!
//! Invariants: `used` is the sum of all guards; nobody is granted anything while somebody waits who came before. A task
//! that holds a guard of a budget must not wait for another of the same one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Notify;

/// A limit of bytes and what is taken of it. Clones share it.
#[derive(Clone)]
pub struct Budget(Rc<Inner>);

struct Inner {
    limit: Cell<usize>,
    used: Cell<usize>,
    queue: RefCell<VecDeque<Rc<Turn>>>,
    waits: Cell<u64>,
    freed: Notify,
}

/// One who waits.
struct Turn {
    least: usize,
    most: usize,
    granted: Cell<Option<usize>>,
    waker: RefCell<Option<Waker>>,
}

/// Bytes taken of a budget; they go back when this is dropped.
#[must_use = "what is dropped is given back"]
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

/// What a budget says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetFigures {
    pub used: u64,
    pub limit: u64,
    /// Takes that had to wait, ever.
    pub waits: u64,
    /// Takes that wait now.
    pub waiting: u64,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        let (limit, used) = (Cell::new(limit), Cell::default());
        Self(Rc::new(Inner {
            limit,
            used,
            queue: RefCell::default(),
            waits: Cell::default(),
            freed: Notify::new(),
        }))
    }

    pub fn limit(&self) -> usize {
        self.0.limit.get()
    }

    pub fn set_limit(&self, bytes: usize) {
        self.0.limit.set(bytes);
        self.0.freed.notify_all();
        self.serve();
    }

    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    pub fn is_over(&self) -> bool {
        self.used() > self.limit()
    }

    /// Whether a take waits.
    pub fn is_short(&self) -> bool {
        !self.0.queue.borrow().is_empty()
    }

    /// Rings when the budget is no longer over its limit, and when the limit changes.
    pub fn freed(&self) -> &Notify {
        &self.0.freed
    }

    pub fn figures(&self) -> BudgetFigures {
        BudgetFigures {
            used: self.used() as u64,
            limit: self.limit() as u64,
            waits: self.0.waits.get(),
            waiting: self.0.queue.borrow().len() as u64,
        }
    }

    /// Takes what is there already, or cannot wait.
    pub fn charge(&self, bytes: usize) -> Charge {
        self.add(bytes);
        Charge { budget: self.clone(), bytes }
    }

    /// What one may have now of `most` bytes, if it is `least` at least and nobody waits.
    pub fn offer(&self, least: usize, most: usize) -> Option<usize> {
        if self.is_short() { None } else { self.room(least, most) }
    }

    /// As [`take`](Self::take), but without waiting.
    pub fn try_take(&self, least: usize, most: usize) -> Option<Charge> {
        self.offer(least, most).map(|bytes| self.charge(bytes))
    }

    /// Takes at most `most` bytes, at least `least` (or `most`, where that is less); waits for its turn if need be.
    /// Dropped, it leaves the queue.
    pub fn take(&self, least: usize, most: usize) -> Take {
        let least = least.min(most);
        match self.try_take(least, most) {
            Some(charge) => Take { budget: self.clone(), state: TakeState::Taken(Some(charge)) },
            None => {
                self.0.waits.set(self.0.waits.get() + 1);
                let turn = Rc::new(Turn { least, most, granted: Cell::default(), waker: RefCell::default() });
                self.0.queue.borrow_mut().push_back(turn.clone());
                Take { budget: self.clone(), state: TakeState::Waiting(turn) }
            }
        }
    }

    fn room(&self, least: usize, most: usize) -> Option<usize> {
        let (limit, used) = (self.limit(), self.used());
        let free = limit.saturating_sub(used);
        (free >= least.min(limit - limit / 4).max(1)).then(|| most.min((free / 2).max(least)))
    }

    fn add(&self, bytes: usize) {
        self.0.used.set(self.0.used.get() + bytes);
    }

    fn give(&self, bytes: usize) {
        let before = self.0.used.get();
        self.0.used.set(before - bytes);
        let limit = self.limit();
        if before > limit && before - bytes <= limit {
            self.0.freed.notify_all();
        }
        if self.is_short() {
            self.serve();
        }
    }

    /// Grants whose turn has come.
    fn serve(&self) {
        loop {
            let mut queue = self.0.queue.borrow_mut();
            let Some(bytes) = queue.front().and_then(|turn| self.room(turn.least, turn.most)) else { return };
            let Some(turn) = queue.pop_front() else { return };
            drop(queue);
            self.add(bytes);
            turn.granted.set(Some(bytes));
            if let Some(waker) = turn.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Charge {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back or takes, without waiting, the difference to `bytes`.
    pub fn resize(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.add(more),
            None => self.budget.give(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give(self.bytes);
        }
    }
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Charge({})", self.bytes)
    }
}

/// The wait of [`Budget::take`].
pub struct Take {
    budget: Budget,
    state: TakeState,
}

enum TakeState {
    Taken(Option<Charge>),
    Waiting(Rc<Turn>),
}

impl Future for Take {
    type Output = Charge;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Charge> {
        match &mut self.state {
            TakeState::Taken(charge) => Poll::Ready(charge.take().expect("polled once more after its end")),
            TakeState::Waiting(turn) => match turn.granted.take() {
                Some(bytes) => {
                    self.state = TakeState::Taken(None);
                    Poll::Ready(Charge { budget: self.budget.clone(), bytes })
                }
                None => {
                    *turn.waker.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                }
            },
        }
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        let TakeState::Waiting(turn) = &self.state else { return };
        match turn.granted.take() {
            None => {
                self.budget.0.queue.borrow_mut().retain(|other| !Rc::ptr_eq(other, turn));
                // Whoever stood behind a large one may have room.
                self.budget.serve();
            }
            Some(granted) => self.budget.give(granted),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(take: &mut Take) -> Option<Charge> {
        match Pin::new(take).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(charge) => Some(charge),
            Poll::Pending => None,
        }
    }

    fn now(budget: &Budget, least: usize, most: usize) -> Option<Charge> {
        poll(&mut budget.take(least, most))
    }

    #[test]
    fn takers_get_half_of_what_is_free_and_what_they_need_at_least() {
        let budget = Budget::new(1000);
        let sizes =
            [now(&budget, 100, 900), now(&budget, 100, 900), now(&budget, 100, 900), now(&budget, 100, 50)]
                .map(|charge| charge.expect("there is room"));
        assert_eq!(sizes.each_ref().map(Charge::bytes), [500, 250, 125, 50]);
        assert_eq!(budget.used(), 925);
        assert!(now(&budget, 76, 900).is_none() && budget.try_take(76, 900).is_none());
        assert_eq!(now(&budget, 75, 900).map(|c| c.bytes()), Some(75));
        drop(sizes);
        assert_eq!((budget.used(), budget.figures().waits), (0, 1));
    }

    #[test]
    fn turns_come_in_order_and_small_ones_do_not_pass() {
        let budget = Budget::new(100);
        let held = budget.charge(80);
        let (mut large, mut small) = (budget.take(60, 60), budget.take(1, 1));
        assert!(poll(&mut large).is_none() && poll(&mut small).is_none());
        assert_eq!(budget.offer(1, 1), None, "others wait");
        drop(held);
        let (large, small) = (poll(&mut large), poll(&mut small));
        assert_eq!((large.map(|c| c.bytes()), small.map(|c| c.bytes())), (Some(60), Some(1)));
        assert_eq!(budget.figures(), BudgetFigures { used: 0, limit: 100, waits: 2, waiting: 0 });
    }

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let budget = Budget::new(100);
        let held = budget.charge(80);
        let (mut first, mut second) = (budget.take(50, 50), budget.take(20, 20));
        assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
        drop(first);
        let second = poll(&mut second).expect("the way is free");
        let third = budget.take(40, 40);
        drop(held);
        assert_eq!(budget.used(), 60);
        drop(third);
        assert_eq!(budget.used(), 20, "granted, and never taken up");
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn more_than_the_limit_is_for_one_at_a_time() {
        let budget = Budget::new(100);
        let held = budget.charge(26);
        let (mut one, mut other) = (budget.take(500, 500), budget.take(300, 900));
        assert!(poll(&mut one).is_none());
        drop(held);
        let one = poll(&mut one).expect("three quarters are free");
        assert!(poll(&mut other).is_none() && budget.is_over());
        drop(one);
        assert_eq!(poll(&mut other).map(|c| c.bytes()), Some(300));
    }

    #[test]
    fn what_is_charged_makes_others_wait_and_rings_when_it_is_gone() {
        let budget = Budget::new(100);
        let mut charge = budget.charge(150);
        let mut freed = std::pin::pin!(budget.freed().listen());
        let mut cx = Context::from_waker(Waker::noop());
        let mut take = budget.take(1, 10);
        charge.resize(101);
        assert!(poll(&mut take).is_none() && freed.as_mut().poll(&mut cx).is_pending());
        charge.resize(99);
        assert!(freed.as_mut().poll(&mut cx).is_ready());
        assert_eq!(poll(&mut take).map(|c| c.bytes()), Some(1));
        budget.set_limit(90);
        assert!(now(&budget, 1, 1).is_none());
        budget.set_limit(200);
        assert_eq!(now(&budget, 1, 400).map(|c| c.bytes()), Some(50));
        drop(charge);
    }
}
