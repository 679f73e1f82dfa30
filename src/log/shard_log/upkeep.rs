//! What wakes the maintenance of a shard's log, and whether it runs.

use std::cell::Cell;

use crate::rt::{Listen, Notify};

/// Reasons to look are kept until the maintenance has taken them, so that none is lost while it works.
pub struct Upkeep {
    wake: Notify,
    /// It is woken, and has not looked since.
    roused: Cell<bool>,
    ticked: Cell<bool>,
    /// The disk is short of room.
    pressed: Cell<bool>,
    /// New partitions are in no checkpoint yet, and others that came with them have had time to come.
    unnamed: Cell<bool>,
    running: Cell<bool>,
    closing: Cell<bool>,
    over: Notify,
}

impl Upkeep {
    pub fn new() -> Self {
        Self {
            wake: Notify::new(),
            roused: Cell::default(),
            ticked: Cell::default(),
            pressed: Cell::default(),
            unnamed: Cell::default(),
            running: Cell::default(),
            closing: Cell::default(),
            over: Notify::new(),
        }
    }

    /// Something crossed a bound.
    pub fn rouse(&self) {
        if !self.roused.replace(true) {
            self.wake.notify_all();
        }
    }

    /// An interval has passed.
    pub fn tick(&self) {
        self.ticked.set(true);
        self.rouse();
    }

    /// The disk is short of room.
    pub fn press(&self) {
        self.pressed.set(true);
        self.rouse();
    }

    /// It is time for the checkpoint that names new partitions.
    pub fn name(&self) {
        self.unnamed.set(true);
        self.rouse();
    }

    pub fn is_roused(&self) -> bool {
        self.roused.get()
    }

    /// The maintenance looks now; what comes from here on wakes it again.
    pub fn look(&self) -> Listen {
        let listen = self.wake.listen();
        self.roused.set(false);
        listen
    }

    pub fn take_ticked(&self) -> bool {
        self.ticked.replace(false)
    }

    pub fn take_pressed(&self) -> bool {
        self.pressed.replace(false)
    }

    pub fn take_unnamed(&self) -> bool {
        self.unnamed.replace(false)
    }

    pub fn is_running(&self) -> bool {
        self.running.get()
    }

    pub fn begin(&self) {
        self.running.set(true);
    }

    pub fn end(&self) {
        self.running.set(false);
        self.over.notify_all();
    }

    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Nothing new is begun.
    pub fn close(&self) {
        self.closing.set(true);
        self.wake.notify_all();
    }

    /// Returns once the maintenance has ended.
    pub async fn ended(&self) {
        while self.running.get() {
            self.over.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_to_look_is_lost_and_none_is_taken_twice() {
        let upkeep = Upkeep::new();
        drop(upkeep.look());
        upkeep.tick();
        upkeep.press();
        assert!(upkeep.is_roused());
        drop(upkeep.look());
        assert!(!upkeep.is_roused());
        upkeep.name();
        assert!(upkeep.is_roused(), "what comes while it works wakes it again");
        assert!(upkeep.take_ticked() && upkeep.take_pressed() && upkeep.take_unnamed());
        assert!(!upkeep.take_ticked() && !upkeep.take_pressed() && !upkeep.take_unnamed());
    }
}
