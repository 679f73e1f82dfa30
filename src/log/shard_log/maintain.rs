//! What a shard's log does on its own: writes chunks to segments, makes room, checkpoints, applies retention.
//!
//! Sleeps until an append crosses a bound, or a tick comes; an idle shard's tick finds nothing to do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::log::error::{is_full, is_out_of_files};
use crate::log::{LogError, Lsn, PartitionLog};
use crate::model::{Offset, PartitionId};
use crate::rt::{self, AlignedBuf};

use super::held::States;
use super::{OwnerState, ShardLog};

/// Files written at a time: commits wait behind them at the disk.
const WRITES: usize = 1;
/// Files synced at a time: the file system commits, and the disk flushes, for many at once.
const SYNCS: usize = 32;
/// How often old segments are looked for while the disk is short of room.
const PRESSED_RETENTION: Duration = Duration::from_secs(2);
/// How long maintenance rests after a failure before it tries again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long a new partition waits for its checkpoint at least, for others that are created with it.
const SOONEST_CHECKPOINT: Duration = Duration::from_millis(100);
/// How often, and after what rest, a step is taken again in a row while there is no descriptor for it.
const MOST_TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// What to do to a log.
#[derive(Clone, Copy)]
enum Step {
    /// Write the tail, or what is in it up to this lsn, without a sync: frees memory.
    Write(Option<Lsn>),
    /// Sync what was written: frees the journal.
    Sync,
    Close,
}

impl Step {
    /// How many logs take it at a time.
    fn lanes(self) -> usize {
        match self {
            Step::Write(_) => WRITES,
            Step::Sync | Step::Close => SYNCS,
        }
    }

    async fn take(self, log: &PartitionLog) -> Result<(), LogError> {
        match self {
            Step::Write(upto) => log.write(upto).await,
            Step::Sync => log.sync_written().await,
            Step::Close => log.close().await,
        }
    }
}

fn wants_files(failure: &LogError) -> bool {
    matches!(failure, LogError::Io { source, .. } if is_out_of_files(source))
}

fn wants_room(failure: &LogError) -> bool {
    matches!(failure, LogError::Io { source, .. } if is_full(source))
}

impl ShardLog {
    /// Runs until [`ShardLog::close`]. `states` is as for [`ShardLog::checkpoint`]; `committed` tells a partition's high
    /// watermark.
    pub async fn maintain<S: Into<OwnerState>>(
        self: &Rc<Self>,
        states: impl Fn(PartitionId) -> S + 'static,
        committed: impl Fn(PartitionId) -> Offset + 'static,
    ) {
        let states = |id| states(id).into();
        self.upkeep.begin();
        self.start_ticking();
        self.watch_space();
        self.start_scrubbing();
        self.spare_files();
        self.mind_the_journal();
        self.start_lanes();
        self.watch_created();
        let mut last_retention = rt::now();
        let mut last_checkpoint = rt::now();
        let mut commits = 0;
        while !self.upkeep.is_closing() {
            let listen = self.upkeep.look();
            let mut done = self.make_room(&states).await;
            let pressed = self.upkeep.take_pressed() && last_retention.elapsed() >= PRESSED_RETENTION;
            if pressed {
                last_retention = rt::now();
                done = done.and(self.apply_retention(&states, &committed).await);
            }
            if self.upkeep.take_unnamed() && done.is_ok() {
                last_checkpoint = rt::now();
                done = self.checkpoint_if_behind(&states).await;
            }
            if self.upkeep.take_ticked() {
                self.note_damage();
                self.resources.files().allow_more();
                if done.is_ok() && last_checkpoint.elapsed() >= self.settings.checkpoint_interval {
                    last_checkpoint = rt::now();
                    done = self.checkpoint_if_behind(&states).await;
                }
                if last_retention.elapsed() >= self.settings.retention_interval {
                    last_retention = rt::now();
                    done = done.and(self.apply_retention(&states, &committed).await);
                }
                if self.journal.commits() == commits {
                    self.journal.trim();
                    AlignedBuf::trim();
                }
                commits = self.journal.commits();
            }
            if let Err(e) = done {
                if self.journal.failed().is_some() {
                    break;
                }
                log::error!("shard {}: {e}", self.shard);
                if wants_room(&e) {
                    self.space.deny(&e);
                }
                self.space.look_soon();
                rt::sleep(AFTER_FAILURE).await;
                self.upkeep.rouse();
            } else {
                self.space.allow();
            }
            if !self.upkeep.is_roused() && !self.upkeep.is_closing() {
                listen.await;
            }
        }
        self.upkeep.end();
    }

    fn start_ticking(self: &Rc<Self>) {
        let every = self.settings.retention_interval.min(self.settings.checkpoint_interval);
        let store = Rc::downgrade(self);
        rt::spawn(async move {
            loop {
                rt::sleep(every).await;
                let Some(store) = store.upgrade().filter(|store| !store.upkeep.is_closing()) else { return };
                store.upkeep.tick();
            }
        });
    }

    /// Ends the maintenance and leaves the directory as a kill would: nothing of this store touches it any more when another
    /// one opens it.
    #[cfg(test)]
    pub(super) async fn abandon(&self) {
        self.upkeep.close();
        self.upkeep.ended().await;
    }

    /// Keeps an eye on the disk. While room is short, old segments are looked for more often, and the journal makes do
    /// with the files that it has.
    fn watch_space(self: &Rc<Self>) {
        let (store, space) = (Rc::downgrade(self), self.space.clone());
        rt::spawn(async move {
            while let Some(store) = store.upgrade().filter(|store| !store.upkeep.is_closing()) {
                space.look(store.tail_bytes() as u64).await;
                let shortage = space.shortage();
                store.journal.set_shortage(shortage);
                if shortage.is_some() {
                    store.upkeep.press();
                    // Who waits for room is told that there is none.
                    store.resources.freed().notify_all();
                }
                drop(store);
                space.until_due().await;
            }
        });
    }

    /// Has a checkpoint made soon after partitions were created, one for all of a while.
    fn watch_created(self: &Rc<Self>) {
        let (store, created) = (Rc::downgrade(self), self.created.clone());
        let soon = (self.settings.checkpoint_interval / 60).max(SOONEST_CHECKPOINT);
        rt::spawn(async move {
            loop {
                let listen = created.listen();
                if store.upgrade().is_none_or(|store| !store.progress.is_touched()) {
                    listen.await;
                }
                rt::sleep(soon).await;
                let Some(store) = store.upgrade().filter(|store| !store.upkeep.is_closing()) else { return };
                store.upkeep.name();
            }
        });
    }

    /// The journal's files come before those of segments.
    fn spare_files(self: &Rc<Self>) {
        let (store, starved) = (Rc::downgrade(self), self.journal.starved().clone());
        rt::spawn(async move {
            loop {
                starved.notified().await;
                let Some(store) = store.upgrade().filter(|store| !store.upkeep.is_closing()) else { return };
                store.resources.files().close_some();
            }
        });
    }

    /// While the journal wants for room, its entries go to segments, so that it can go on in the files that it has.
    fn mind_the_journal(self: &Rc<Self>) {
        let (store, pinched) = (Rc::downgrade(self), self.journal.pinched().clone());
        rt::spawn(async move {
            loop {
                pinched.notified().await;
                let Some(store) = store.upgrade().filter(|store| !store.upkeep.is_closing()) else { return };
                store.space.look_soon();
                store.upkeep.press();
            }
        });
    }

    async fn make_room(&self, states: &States<'_>) -> Result<(), LogError> {
        let mut done = self.write_ready().await;
        if self.memory_is_short() {
            done = done.and(self.relieve_memory().await);
        }
        if let Some(target) = self.journal.reclaim_target() {
            done = done.and(self.reclaim(target, states).await);
        }
        done
    }

    async fn write_ready(&self) -> Result<(), LogError> {
        let ids = self.ready.take();
        if ids.is_empty() {
            return Ok(());
        }
        let logs = ids.into_iter().filter_map(|id| self.get(id)).collect();
        self.each(logs, Step::Write(None)).await
    }

    /// Writes the tails with the oldest batches until a quarter of the bound is left.
    async fn relieve_memory(&self) -> Result<(), LogError> {
        let mut excess = self.resources.pinned_bytes().saturating_sub(self.settings.tail_bytes / 4) as u64;
        let mut logs = self.partitions.oldest_first();
        logs.retain(|log| {
            let wanted = excess > 0 && log.tail_bytes() > 0;
            excess = excess.saturating_sub(if wanted { log.tail_bytes() } else { 0 });
            wanted
        });
        self.each(logs, Step::Write(None)).await
    }

    /// Moves the entries up to `target` into segments, then lets the journal reuse their files. A log that has such
    /// entries is flushed with all that it holds by now: it is not come back to for as long as possible. All are written
    /// before the first is synced: the file system then commits once for all of them.
    async fn reclaim(&self, target: Lsn, states: &States<'_>) -> Result<(), LogError> {
        let now = self.journal.last();
        let mut logs = self.partitions.oldest_first();
        logs.retain(|log| log.oldest_tail_lsn().is_some_and(|oldest| oldest <= target));
        // Whatever fails, the entries of the others can go.
        let written = self.each(logs.clone(), Step::Write(Some(now))).await;
        let synced = self.each(logs, Step::Sync).await;
        self.write_checkpoint(states, false).await.and(written).and(synced)
    }

    /// Takes a step with each log, several at a time; goes on past a failure and returns the most severe failure. What fails for want
    /// of descriptors is done again, one at a time.
    async fn each(&self, logs: Vec<Rc<PartitionLog>>, step: Step) -> Result<(), LogError> {
        let lanes = logs.len().min(step.lanes());
        let work = Rc::new((Cell::new(0), logs, RefCell::new(Vec::new())));
        let tasks: Vec<_> = (0..lanes)
            .map(|_| {
                let work = work.clone();
                rt::spawn(async move {
                    let (next, logs, failures) = &*work;
                    while let Some(log) = logs.get(next.replace(next.get() + 1)) {
                        if let Err(e) = step.take(log).await {
                            failures.borrow_mut().push((log.clone(), e));
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        let (mut worst, mut tries) = (None, MOST_TRIES);
        for (log, failure) in work.2.take() {
            let failure = match wants_files(&failure) {
                true => self.take_again(&log, step, &mut tries).await.err(),
                false => Some(failure),
            };
            match failure {
                None => {}
                Some(failure) if self.distrusts(&failure) => worst = Some(failure),
                Some(failure) => drop(worst.get_or_insert(failure)),
            }
        }
        worst.map_or(Ok(()), Err)
    }

    /// Takes a step for which there was no descriptor; as often as there are tries left, and once in any case.
    async fn take_again(&self, log: &PartitionLog, step: Step, tries: &mut u32) -> Result<(), LogError> {
        loop {
            self.resources.files().close_some();
            let done = step.take(log).await;
            *tries = tries.saturating_sub(1);
            if *tries == 0 || !done.as_ref().is_err_and(wants_files) {
                return done;
            }
            rt::sleep(BETWEEN_TRIES).await;
        }
    }

    async fn checkpoint_if_behind(&self, states: &States<'_>) -> Result<(), LogError> {
        if self.is_behind() { self.write_checkpoint(states, false).await } else { Ok(()) }
    }

    async fn apply_retention(
        &self,
        states: &States<'_>,
        committed: &dyn Fn(PartitionId) -> Offset,
    ) -> Result<(), LogError> {
        if !self.progress.is_current() {
            // The last checkpoint may say that files are exactly as it lists them. Deleting would make that untrue.
            self.write_checkpoint(states, false).await?;
        }
        let logs = self.partitions.logs(|_| true);
        let mut done = Ok(());
        for log in logs {
            let before = log.start_offset();
            // One log's trouble is no reason to keep what the others need not.
            done = done.and(log.retention(rt::wall(), || committed(log.id())).await.map(drop));
            if log.start_offset() != before {
                self.progress.touch();
            }
            rt::yield_now().await;
        }
        done
    }

    /// Brings everything into segments and says so in the checkpoint: the next start replays nothing.
    pub async fn close<S: Into<OwnerState>>(
        &self,
        states: impl Fn(PartitionId) -> S,
    ) -> Result<(), LogError> {
        let states = |id| states(id).into();
        self.upkeep.close();
        self.space.look_soon();
        self.upkeep.ended().await;
        self.await_placed().await;
        self.cuts.close();
        // What has not told the journal is refused, what has is told to be on disk, full as that may be.
        self.journal.stop();
        self.cuts.over().await;
        self.await_cuts().await;
        let logs = self.partitions.logs(|held| !held.is_frozen());
        // Where this fails, closing does.
        let _ = self.each(logs.clone(), Step::Write(None)).await;
        let closed = self.each(logs, Step::Close).await;
        let written = self.write_checkpoint(&states, closed.is_ok()).await;
        let ended = self.journal.close().await;
        closed.and(written).and(ended.map_err(LogError::from))
    }
}
