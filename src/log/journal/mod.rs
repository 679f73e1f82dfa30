//! A shard's journal: makes the appends of all of its partitions durable with one write and one fdatasync a commit.
//!
//! ```text
//! append ──► gather (packs entries into aligned commits) ──► commit task: write + fdatasync ──► waiters
//!                                                            keeper task: makes and zeroes files ahead of it
//! promise ──► (written elsewhere) ──► append, keep ──► as above
//! open ──► recovery (reads headers, scans live files) ──► replay, then a journal that goes on in a new generation
//! ```
//!
//! - Owned by one shard. Nobody else writes to its directory.
//! - An lsn is acknowledged only after the fdatasync that covers it; the first failed write ends acknowledging for ever.
//! - A commit is one contiguous write that never spans files. A batch that no regular file holds gets a file
//!   of its own size, removed when its entries are in segments.
//! - A steady-state commit changes no file metadata: files are written once with zeros ahead and then reused,
//!   each time with a new generation in the header.
//! - Room that is only reserved is given back when the disk is short of it. A commit that finds none waits and is tried
//!   again, whole; it has not failed.
//! - Nothing runs while nothing is appended.

mod commit;
mod files;
mod format;
mod gather;
mod inspect;
mod keeper;
mod promises;
mod recovery;
mod replayed;
mod scan;
mod scarcity;
mod settings;
pub mod sizing;
mod stats;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_io;
mod turns;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::log::{JournalFailed, LogError, Lsn};
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::rt::{self, Notify, Task};

use commit::Inner;

pub use crate::log::error::{is_full, is_out_of_files, may_pass};
pub use files::is_journal_file;
pub use format::EntryKind;
pub use inspect::{Inspected, inspect, survivors};
pub use recovery::{Known, Recovery, draw_salt};
pub use replayed::{Damage, Entry, Replayed, ReplayedFile};
pub use settings::JournalSettings;
pub use stats::JournalStats;

pub struct Journal {
    inner: Rc<Inner>,
    tasks: RefCell<Vec<Task<()>>>,
}

impl Journal {
    /// Opens a journal and returns every batch at or past the floor. Damage is an error; who wants to go on
    /// despite it, or to replay without holding everything in memory, uses [`Recovery`].
    pub async fn open(
        dir: &Path,
        settings: JournalSettings,
        known: Known,
    ) -> Result<(Self, Vec<(Lsn, PartitionId, i64, Vec<u8>)>), LogError> {
        let mut recovery = Recovery::open(dir, settings, known).await?;
        let mut entries = Vec::new();
        while let Some(file) = recovery.next().await? {
            for item in file.items() {
                match item {
                    Replayed::Entry(entry, batch) if entry.kind == EntryKind::Batch => {
                        entries.push((entry.lsn, entry.partition, entry.base_offset, batch.to_vec()));
                    }
                    Replayed::Entry(..) => {}
                    Replayed::Damage(d) => {
                        return Err(LogError::corrupt(&d.path, d.offset, "unreadable entry"));
                    }
                }
            }
        }
        Ok((recovery.finish(), entries))
    }

    fn start(inner: Inner) -> Self {
        let inner = Rc::new(inner);
        let tasks = vec![rt::spawn(inner.clone().run()), rt::spawn(inner.clone().keep())];
        Self { inner, tasks: RefCell::new(tasks) }
    }

    /// Adds a batch to the commit that gathers. Nothing is durable until [`Journal::wait_durable`] says so.
    pub fn append(
        &self,
        partition: PartitionId,
        base_offset: Offset,
        leader_epoch: Option<LeaderEpoch>,
        batch: &[u8],
    ) -> Result<Lsn, JournalFailed> {
        self.append_as(EntryKind::Batch, partition, base_offset, leader_epoch, batch)
    }

    /// As [`append`](Self::append), with what `kind` says in place of a batch.
    pub fn append_as(
        &self,
        kind: EntryKind,
        partition: PartitionId,
        base_offset: Offset,
        leader_epoch: Option<LeaderEpoch>,
        bytes: &[u8],
    ) -> Result<Lsn, JournalFailed> {
        self.inner.accepts()?;
        let (offset, epoch) = (base_offset.0, LeaderEpoch::to_wire(leader_epoch));
        let lsn = self.inner.gather.borrow_mut().append(kind, partition, offset, epoch, bytes);
        if self.inner.resting.get() {
            self.inner.wake.notify_all();
        }
        Ok(lsn)
    }

    /// The lsn of something that is made durable elsewhere: it is once the entry is on disk that [`keep`](Self::keep)
    /// names.
    pub fn promise(&self) -> Result<Lsn, JournalFailed> {
        self.inner.accepts()?;
        let mut gather = self.inner.gather.borrow_mut();
        let lsn = gather.promise();
        self.inner.promises.borrow_mut().give(lsn, gather.last());
        Ok(lsn)
    }

    /// What was promised at each of `promised` is durable when the entry at `entry` is.
    pub fn keep(&self, promised: impl IntoIterator<Item = Lsn>, entry: Lsn) {
        let mut promises = self.inner.promises.borrow_mut();
        promised.into_iter().for_each(|lsn| promises.keep(lsn, entry));
        drop(promises);
        if entry <= self.inner.durable.get() {
            self.inner.advanced.notify_all();
        }
    }

    /// Everything up to and including this lsn is on disk.
    pub fn durable(&self) -> Lsn {
        self.inner.promises.borrow_mut().durable(self.inner.durable.get())
    }

    /// Every entry up to and including this lsn is on disk.
    pub fn durable_entries(&self) -> Lsn {
        self.inner.durable.get()
    }

    /// Whether what has this lsn is on disk, whatever is before it.
    pub fn is_durable(&self, lsn: Lsn) -> bool {
        let entries = self.durable_entries();
        if lsn.is_promised() { self.inner.promises.borrow().is_kept(lsn, entries) } else { lsn <= entries }
    }

    /// The last lsn given out.
    pub fn last(&self) -> Lsn {
        self.inner.gather.borrow().given()
    }

    /// The last entry's lsn.
    pub fn last_entry(&self) -> Lsn {
        self.inner.gather.borrow().last()
    }

    /// Returns once `lsn` is on disk. A waiter is woken once, by the commit that covers it.
    pub async fn wait_durable(&self, lsn: Lsn) -> Result<(), JournalFailed> {
        self.wait(lsn, || self.durable()).await
    }

    /// Returns once every entry up to `lsn` is on disk, whatever was promised.
    pub async fn wait_entries(&self, lsn: Lsn) -> Result<(), JournalFailed> {
        self.wait(lsn, || self.durable_entries()).await
    }

    async fn wait(&self, lsn: Lsn, durable: impl Fn() -> Lsn) -> Result<(), JournalFailed> {
        loop {
            if durable() >= lsn {
                return Ok(());
            }
            self.inner.check()?;
            let listen = self.notify_for(lsn).listen();
            listen.await;
        }
    }

    fn notify_for(&self, lsn: Lsn) -> Notify {
        if let Some(in_flight) = &*self.inner.in_flight.borrow()
            && in_flight.last >= lsn
        {
            return in_flight.done.clone();
        }
        self.inner.gather.borrow().notify_for(lsn).unwrap_or(&self.inner.advanced).clone()
    }

    /// Notified after each commit and when the journal fails: for one task that serves many waiters.
    pub fn advanced(&self) -> &Notify {
        &self.inner.advanced
    }

    /// The first failed write: which file and why. From then on nothing is acknowledged.
    pub fn failed(&self) -> Option<Arc<str>> {
        self.inner.failed.borrow().clone()
    }

    /// Ends the journal because of a failure elsewhere on its disk, as a failed write of its own would.
    pub fn poison(&self, path: &Path, error: &std::io::Error) {
        self.inner.fail(path, error);
    }

    fn max_bytes(&self) -> u64 {
        self.inner.max_bytes()
    }

    /// Bytes appended and not yet on disk.
    pub fn backlog_bytes(&self) -> usize {
        let in_flight = self.inner.in_flight.borrow().as_ref().map_or(0, |commit| commit.bytes);
        in_flight + self.inner.gather.borrow().queued_bytes()
    }

    /// Whether a batch of this size may be appended now. A batch that is large for the bounds may exceed them.
    pub fn has_room(&self, bytes: usize) -> bool {
        let settings = &self.inner.settings;
        let backlog = self.backlog_bytes() + bytes.min(settings.max_backlog_bytes / 2);
        let held = self.held_bytes() + (bytes as u64).min(self.max_bytes() / 4);
        backlog <= settings.max_backlog_bytes && held <= self.max_bytes() && self.stalled().is_none()
    }

    /// Waits for [`Journal::has_room`]. Whoever owns the partitions must flush and release meanwhile.
    pub async fn room(&self, bytes: usize) {
        loop {
            let listen = self.inner.advanced.listen();
            if self.has_room(bytes) || self.failed().is_some() {
                return;
            }
            listen.await;
        }
    }

    /// Logical bytes from the oldest entry that is needed, or the file that it would be in, to the end.
    fn held_bytes(&self) -> u64 {
        let end = self.inner.gather.borrow().end();
        let first = self.inner.files.borrow().first_position().unwrap_or(end);
        end.saturating_sub(first.max(self.inner.released.get().0))
    }

    /// If the journal is more than half full: entries up to here should reach segments, so that files become free.
    /// Several at a time: each reclaiming ends with a checkpoint. A journal that is nearly full asks for all.
    pub fn reclaim_target(&self) -> Option<Lsn> {
        let (held, max) = (self.held_bytes(), self.max_bytes());
        let end = self.inner.gather.borrow().end();
        match held {
            _ if held > max / 4 * 3 || self.wants_room().is_some() => Some(Lsn(end)),
            _ if held > max / 2 => Some(Lsn(end - max / 8 * 3)),
            _ => None,
        }
    }

    /// Entries below `floor` are in segments, and a checkpoint says so: their files may be reused.
    pub fn release(&self, floor: Lsn) {
        self.inner.release(floor);
        self.inner.advanced.notify_all();
    }

    /// The newest generation that a start will find a file of, unless somebody takes it away.
    pub fn lasting_generation(&self) -> u64 {
        self.inner.files.borrow().lasting_generation()
    }

    /// The salt and the newest generation, for the checkpoint.
    pub fn identity(&self) -> (u32, u64) {
        (self.inner.salt, self.inner.gather.borrow().file().generation)
    }

    pub fn stats(&self) -> JournalStats {
        let mut stats = self.inner.stats.borrow().clone();
        let files = self.inner.files.borrow();
        (stats.files_used, stats.files_free) = (files.used.len(), files.free.len());
        stats
    }

    /// When the last durable commit began and ended.
    pub fn last_commit(&self) -> Option<(rt::Ticks, rt::Ticks)> {
        self.inner.last_commit.get()
    }

    /// Commits so far: cheap, for telling whether anything happened.
    pub fn commits(&self) -> u64 {
        self.inner.stats.borrow().commits
    }

    /// Gives spare buffers back, for a journal that has become idle.
    pub fn trim(&self) {
        self.inner.gather.borrow_mut().trim();
    }

    /// Commits what gathered and ends the tasks.
    pub async fn close(&self) -> Result<(), JournalFailed> {
        self.stop();
        let committed = self.wait_entries(self.last_entry()).await;
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for task in tasks {
            task.await;
        }
        committed
    }

    /// What gathered is still committed, but nothing waits for disk space any more. Nothing can be appended after.
    pub fn stop(&self) {
        self.inner.closing.set(true);
        self.inner.wake.notify_all();
        self.inner.keep.notify_all();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop();
    }
}
