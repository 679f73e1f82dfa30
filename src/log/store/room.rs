//! Who waits for room, first come first served.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::rt::Notify;

/// A queue of waiters; only the front one may pass.
#[derive(Default)]
pub struct Gate {
    queue: RefCell<VecDeque<(u64, Notify)>>,
    next: Cell<u64>,
}

/// A place in the queue, given up when dropped.
pub struct Place<'a> {
    gate: &'a Gate,
    number: u64,
    turn: Notify,
}

impl Gate {
    pub fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    pub fn enter(&self) -> Place<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        let turn = Notify::new();
        self.queue.borrow_mut().push_back((number, turn.clone()));
        Place { gate: self, number, turn }
    }
}

impl Place<'_> {
    fn is_front(&self) -> bool {
        self.gate.queue.borrow().front().is_some_and(|(number, _)| *number == self.number)
    }

    pub async fn reach_front(&self) {
        while !self.is_front() {
            let listen = self.turn.listen();
            listen.await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.gate.queue.borrow_mut();
        queue.retain(|(number, _)| *number != self.number);
        if let Some((_, turn)) = queue.front() {
            turn.notify_all();
        }
    }
}
