//! What a journal says and hears while it lacks something: room on the disk, descriptors, a disk that does its work.

use std::sync::Arc;
use std::time::Duration;

use crate::log::{JournalFailed, Lsn};
use crate::rt::Notify;

use super::Journal;

/// A disk that has had a commit for longer is stuck.
const HELD_UP: Duration = Duration::from_secs(5);

impl Journal {
    /// How short of room the disk is, from 0 to 1; `None` where it is not. The journal then makes no more files and gives
    /// back those that it can do without, the more the shorter; two stay.
    pub fn set_shortage(&self, shortage: Option<f64>) {
        self.inner.set_shortage(shortage);
    }

    /// Rings when the journal wants for descriptors.
    pub fn starved(&self) -> &Notify {
        &self.inner.starved
    }

    /// Rings when a commit, or a file for those to come, wants for room on the disk.
    pub fn pinched(&self) -> &Notify {
        &self.inner.pinched
    }

    /// Why commits wait at the moment: for room on the disk, or for descriptors.
    pub fn stalled(&self) -> Option<Arc<str>> {
        self.inner.stalled.borrow().as_ref().map(|stall| stall.why.clone())
    }

    /// Why nothing becomes durable at the moment: commits wait, or one has been at the disk for too long.
    pub fn held_up(&self) -> Option<String> {
        if let Some(why) = self.stalled() {
            return Some(why.to_string());
        }
        let began = self.inner.in_flight.borrow().as_ref().map(|commit| commit.began)?;
        let took = began.elapsed();
        let dir = self.inner.files.borrow().dir.display().to_string();
        (took > HELD_UP).then(|| format!("{dir}: the disk has had a commit for {} s", took.as_secs()))
    }

    /// As [`stalled`](Self::stalled), where it is for room: nobody knows for how long.
    pub fn wants_room(&self) -> Option<Arc<str>> {
        self.inner.stalled.borrow().as_ref().filter(|stall| stall.is_full).map(|stall| stall.why.clone())
    }

    /// As [`wait_durable`](Self::wait_durable); false as soon as commits wait for something else than the disk's work.
    pub async fn settle(&self, lsn: Lsn) -> Result<bool, JournalFailed> {
        loop {
            let listen = self.inner.advanced.listen();
            if self.durable() >= lsn {
                return Ok(true);
            }
            self.inner.check()?;
            if self.inner.stalled.borrow().is_some() {
                return Ok(false);
            }
            listen.await;
        }
    }
}
