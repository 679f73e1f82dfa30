//! Which logs wait to have their batches written directly, and how many are being written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::rt::Notify;

/// Logs in line for a lane; each is in line or in a lane once. Lanes take them in the order in which they came.
pub struct Lanes<T> {
    line: RefCell<VecDeque<Rc<T>>>,
    busy: Cell<usize>,
    come: Notify,
    done: Notify,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { line: RefCell::default(), busy: Cell::new(0), come: Notify::new(), done: Notify::new() }
    }
}

impl<T> Lanes<T> {
    pub fn enter(&self, log: Rc<T>) {
        self.line.borrow_mut().push_back(log);
        self.come.notify_all();
    }

    /// The next log in line; the lane is busy with it until [`leave`](Self::leave).
    pub fn take(&self) -> Option<Rc<T>> {
        let next = self.line.borrow_mut().pop_front()?;
        self.busy.set(self.busy.get() + 1);
        Some(next)
    }

    /// The lane is done with its log, or puts it `back` in line.
    pub fn leave(&self, back: Option<Rc<T>>) {
        if let Some(log) = back {
            self.enter(log);
        }
        self.busy.set(self.busy.get() - 1);
        self.done.notify_all();
    }

    pub fn is_idle(&self) -> bool {
        self.busy.get() == 0 && self.line.borrow().is_empty()
    }

    /// Rings when a log comes into line.
    pub fn come(&self) -> &Notify {
        &self.come
    }

    /// Rings when a lane is done with a log.
    pub fn done(&self) -> &Notify {
        &self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_busy_until_it_leaves_and_logs_keep_their_order() {
        let lanes = Lanes::default();
        assert!(lanes.is_idle() && lanes.take().is_none() && lanes.is_idle());
        lanes.enter(Rc::new(1));
        lanes.enter(Rc::new(2));
        let first = lanes.take().expect("the first");
        assert_eq!(*first, 1);
        lanes.leave(Some(first));
        let taken: Vec<i32> = std::iter::from_fn(|| lanes.take().map(|log| *log)).collect();
        assert_eq!(taken, [2, 1], "what goes back is last");
        lanes.leave(None);
        assert!(!lanes.is_idle());
        lanes.leave(None);
        assert!(lanes.is_idle());
    }
}
