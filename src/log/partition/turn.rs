//! The turn to change a log's files: one at a time has it.

use std::cell::{Cell, OnceCell};

use crate::rt::Notify;

use super::changed::Changed;

/// Who has it, and who waits.
pub struct Turns {
    busy: Cell<bool>,
    /// Once somebody has waited.
    idle: OnceCell<Notify>,
}

impl Turns {
    pub fn new() -> Self {
        Self { busy: Cell::new(false), idle: OnceCell::new() }
    }

    /// Waits for the turn. With `changed`, what a checkpoint says may not be so any more when it begins and when it ends.
    pub async fn wait<'a>(&'a self, changed: Option<&'a Changed>) -> Turn<'a> {
        while self.busy.replace(true) {
            self.idle.get_or_init(Notify::new).notified().await;
        }
        changed.inspect(|changed| changed.touch());
        Turn { turns: self, changed }
    }

    /// Whether somebody has the turn.
    pub fn is_taken(&self) -> bool {
        self.busy.get()
    }
}

/// The turn; the next one's when dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    changed: Option<&'a Changed>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.changed.inspect(|changed| changed.touch());
        self.turns.busy.set(false);
        self.turns.idle.get().inspect(|idle| idle.notify_all());
    }
}
