//! Making checkpoints: one at a time, and never one that says more than what is on disk.

use std::io;
use std::rc::Rc;

use crate::log::checkpoint::Checkpoint;
use crate::log::holdings::note_seen;
use crate::log::journal::{is_out_of_files, may_pass};
use crate::log::{LogError, PartitionLog};
use crate::model::PartitionId;
use crate::rt;

use super::{OwnerState, ShardLog, States, journal_dir, topics_dir};

impl ShardLog {
    /// Replaces the checkpoint and lets the journal reuse what no longer is needed. `states` says what each partition's owner
    /// knows, as of its log end.
    pub async fn checkpoint<S: Into<OwnerState>>(
        &self,
        states: impl Fn(PartitionId) -> S,
    ) -> Result<(), LogError> {
        self.write_checkpoint(&|id| states(id).into(), false).await
    }

    pub(super) async fn write_checkpoint(&self, states: &States<'_>, closed: bool) -> Result<(), LogError> {
        while self.checkpointing.replace(true) {
            self.checkpointed.notified().await;
        }
        let written = self.replace_checkpoint(states, closed).await;
        self.checkpointing.set(false);
        self.checkpointed.notify_all();
        written
    }

    async fn replace_checkpoint(&self, states: &States<'_>, closed: bool) -> Result<(), LogError> {
        self.note_damage();
        let (last, entry) = (self.journal.last(), self.journal.last_entry());
        let (salt, generation) = self.journal.identity();
        let changed = self.changed.replace(false);
        let mut checkpoint = Checkpoint {
            generation,
            lasting: self.journal.lasting_generation(),
            floor: entry.next(),
            durable: entry,
            closed,
            origin: Some(self.origin.borrow().clone()),
            number: self.number.get() + 1,
            seen: self.seen,
            ..Checkpoint::empty(self.shard, self.shards, salt)
        };
        let (mut swaps, mut due, mut in_segments) = (Vec::new(), Vec::new(), true);
        for (id, held) in &*self.logs.borrow() {
            let replaced = held.log.compaction.swaps();
            if !replaced.is_empty() && held.frozen.is_none() {
                swaps.push((held.log.clone(), replaced));
            }
            if let Some(oldest) = held.log.oldest_tail_lsn() {
                checkpoint.floor = checkpoint.floor.min(oldest);
                checkpoint.closed = false;
                in_segments = false;
            }
            let state = held.state(*id, states, closed);
            if held.frozen.is_none() && held.log.wants_snapshot() {
                due.push((checkpoint.partitions.len(), held.log.clone()));
            }
            checkpoint.partitions.push(state);
        }
        let floor = checkpoint.floor;
        // What the states and end offsets cover must be on disk before they are.
        let stored = match self.journal.settle(last).await {
            // Where all of it is in segments that were synced, the journal may still wait: for this checkpoint, even,
            // which lets its files go.
            Ok(settled) if settled || in_segments => {
                keep_snapshots(&mut checkpoint, due).await;
                self.store_checkpoint(&checkpoint).await
            }
            Ok(_) => Err(self.unsettled()),
            Err(e) => Err(e.into()),
        };
        match stored {
            Ok(()) => {
                self.number.set(checkpoint.number);
                self.note_seen(checkpoint.number).await;
                self.checkpoint_lsn.set(last);
                self.current.set(true);
                self.journal.release(floor);
                for state in &checkpoint.partitions {
                    if let Some(log) = self.get(state.id) {
                        log.note_checkpointed(&state.log, entry);
                    }
                }
                for (log, bases) in swaps {
                    log.forget_swaps(bases).await;
                }
                Ok(())
            }
            Err(e) => {
                self.changed.set(changed || self.changed.get());
                // Without checkpoints the journal fills, and producers would wait for ever instead of being told.
                self.distrusts(&e);
                Err(e)
            }
        }
    }

    /// Topics' files know of the checkpoint, too. May fail: they then know less.
    async fn note_seen(&self, number: u64) {
        let (data_dir, shard) = (self.data_dir.clone(), self.shard);
        if let Err(e) = rt::blocking(move || note_seen(&data_dir, shard, number)).await {
            log::warn!(
                "{}: checkpoint {number} of shard {shard} is not noted: {e}",
                topics_dir(&self.data_dir).display()
            );
        }
    }

    /// There is no checkpoint while the journal waits, nor does anybody else wait for one: what makes room is to go on.
    fn unsettled(&self) -> LogError {
        let why = self.journal.stalled().map_or_else(|| "commits wait".to_owned(), |why| why.to_string());
        LogError::io(journal_dir(&self.data_dir, self.shard), io::Error::new(io::ErrorKind::StorageFull, why))
    }

    /// On a full disk the ballast makes room: without checkpoints nothing could be deleted.
    async fn store_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), LogError> {
        let dir = journal_dir(&self.data_dir, self.shard);
        loop {
            match checkpoint.store(&dir).await {
                Err(LogError::Io { source, .. })
                    if is_out_of_files(&source) && self.cache.close_some_files() => {}
                Err(LogError::Io { path, source }) if !is_out_of_files(&source) && may_pass(&source) => {
                    let dropped = self.space.drop_ballast().await;
                    return if dropped {
                        checkpoint.store(&dir).await
                    } else {
                        Err(LogError::io(path, source))
                    };
                }
                stored => return stored,
            }
        }
    }

    /// Whether a checkpoint would say anything new.
    pub(super) fn is_behind(&self) -> bool {
        self.changed.get() || self.checkpoint_lsn.get() < self.journal.last()
    }
}

/// Puts producers' state of these partitions into files of its own, and those into the checkpoint's list.
async fn keep_snapshots(checkpoint: &mut Checkpoint, due: Vec<(usize, Rc<PartitionLog>)>) {
    for (at, log) in due {
        let state = &mut checkpoint.partitions[at];
        let (offset, producers) = match &state.producers {
            Some((offset, producers)) => (*offset, Some(producers.clone())),
            None => (state.end_offset, None),
        };
        if log.keep_snapshot(offset, checkpoint.durable, producers).await {
            state.snapshots = log.snapshots();
        }
    }
}
