//! The turn to change a log's files: one at a time has it.

use std::cell::Cell;

use crate::log::PartitionLog;
use crate::rt::Notify;

/// Who has it, and who waits.
pub(in crate::log) struct Turns {
    busy: Cell<bool>,
    idle: Notify,
}

impl Turns {
    pub fn new() -> Self {
        Self { busy: Cell::new(false), idle: Notify::new() }
    }
}

/// The turn; the next one's when dropped.
pub(in crate::log) struct Turn<'a> {
    log: &'a PartitionLog,
    /// What a checkpoint says may not be so any more.
    changes: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.changes {
            self.log.touch();
        }
        self.log.turns.busy.set(false);
        self.log.turns.idle.notify_all();
    }
}

impl PartitionLog {
    /// Waits for the turn to change files.
    pub(in crate::log) async fn turn(&self) -> Turn<'_> {
        self.await_turn().await;
        self.touch();
        Turn { log: self, changes: true }
    }

    /// As [`turn`](Self::turn), for what no checkpoint says, or the one that is being made does.
    pub(in crate::log) async fn quiet_turn(&self) -> Turn<'_> {
        self.await_turn().await;
        Turn { log: self, changes: false }
    }

    async fn await_turn(&self) {
        while self.turns.busy.replace(true) {
            self.turns.idle.notified().await;
        }
    }

    /// Whether somebody has the turn.
    pub(in crate::log) fn has_turn(&self) -> bool {
        self.turns.busy.get()
    }
}
