//! Who waits for room, first come first served.

use crate::rt::race;

use super::ShardLog;
use super::space::DiskFull;

impl ShardLog {
    /// Whether a batch of this size may be appended now, nobody being in line before it.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.gate.is_free(()) && self.fits(bytes)
    }

    /// A failed journal and a full disk have room: appending says what is wrong.
    fn fits(&self, bytes: usize) -> bool {
        let tail = self.settings.tail_bytes;
        let memory = self.resources.pinned_bytes() + bytes.min(tail / 2) <= tail;
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
        let place = self.gate.enter_one();
        place.front().await;
        loop {
            let (freed, advanced) = (self.resources.freed().listen(), self.journal.advanced().listen());
            if self.fits(bytes) {
                return;
            }
            self.upkeep.rouse();
            race(freed, advanced).await;
        }
    }
}
