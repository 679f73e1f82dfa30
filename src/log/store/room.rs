//! Who waits for room, first come first served.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::ShardLog;
use super::space::DiskFull;
use crate::rt::{Notify, either};

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

impl ShardLog {
    /// Whether a batch of this size may be appended now, nobody being in line before it.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.gate.is_empty() && self.fits(bytes)
    }

    /// A failed journal and a full disk have room: appending says what is wrong.
    fn fits(&self, bytes: usize) -> bool {
        let tail = self.settings.tail_bytes;
        let memory = self.cache.pinned_bytes() + bytes.min(tail / 2) <= tail;
        (memory && self.journal.has_room(bytes))
            || self.journal.failed().is_some()
            || self.space.is_full()
            || self.journal.wants_room().is_some()
    }

    /// Whether the disk has room for what clients append. Not while commits wait for it: nobody knows for how long.
    pub fn check_disk(&self) -> Result<(), DiskFull> {
        self.space.check()?;
        match self.journal.wants_room() {
            None => Ok(()),
            Some(why) => {
                let why = format!("the journal waits for room: {why}; producing resumes by itself");
                Err(self.space.refuse(why.into()))
            }
        }
    }

    /// Waits in line for room. What is appended must be appended before the next await.
    pub async fn room(&self, bytes: usize) {
        if self.has_room(bytes) {
            return;
        }
        let place = self.gate.enter();
        place.reach_front().await;
        loop {
            let (freed, advanced) = (self.cache.freed().listen(), self.journal.advanced().listen());
            if self.fits(bytes) {
                return;
            }
            self.rouse();
            either(freed, advanced).await;
        }
    }
}
