//! Making checkpoints: one at a time, and never one that says more than what is on disk.

use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::log::directory::holdings::note_seen;
use crate::log::error::{is_out_of_files, may_pass};
use crate::log::files::layout::{journal_dir, topics_dir};
use crate::log::formats::checkpoint::{Change, Checkpoint, PartitionState};
use crate::log::{LogError, PartitionLog};
use crate::model::PartitionId;
use crate::rt;

use super::held::States;
use super::{OwnerState, ShardLog};

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
        let turn = self.checkpointing.enter_one();
        turn.front().await;
        self.replace_checkpoint(states, closed).await
    }

    async fn replace_checkpoint(&self, states: &States<'_>, closed: bool) -> Result<(), LogError> {
        let mut all = closed;
        loop {
            match self.store_next(states, closed, all).await {
                // What was written cannot be read back: it is written anew from what is known here.
                Err(e @ LogError::Corrupt { .. }) if !all => log::error!("shard {}: {e}", self.shard),
                stored => return stored,
            }
            all = true;
        }
    }

    /// Makes the next checkpoint of what differs, or of `all` partitions.
    async fn store_next(&self, states: &States<'_>, closed: bool, all: bool) -> Result<(), LogError> {
        self.note_damage();
        let last = self.journal.last();
        let touched = self.progress.take_touched();
        let Next { mut change, ids, mut swaps, due, in_segments } = self.gather(states, closed, all);
        let removed = change.removed.clone();
        let (number, floor, entry) = (change.now.number, change.now.floor, change.now.durable);
        #[cfg(test)]
        let expected = self.every_state(closed);
        // What the states and end offsets cover must be on disk before they are.
        let stored = match self.journal.settle(last).await {
            // Where all of it is in segments that were synced, the journal may still wait: for this checkpoint, even,
            // which lets its files go.
            Ok(settled) if settled || in_segments => {
                keep_snapshots(&mut change.now, due).await;
                let change = Arc::new(change);
                self.store_change(&change, all).await.map(|()| change)
            }
            Ok(_) => Err(self.unsettled()),
            Err(e) => Err(e.into()),
        };
        self.settle_changes(&ids, stored.as_ref().ok().map(|change| &change.now.partitions[..]));
        match stored {
            Ok(change) => {
                #[cfg(test)]
                self.check_stored(&expected);
                self.note_seen(number).await;
                self.progress.stored(number, last);
                self.journal.release(floor);
                for state in &change.now.partitions {
                    if let Some(log) = self.get(state.id) {
                        log.note_checkpointed(&state.log, entry);
                    }
                }
                for (log, bases) in swaps.drain(..) {
                    log.forget_swaps(bases).await;
                }
                Ok(())
            }
            Err(e) => {
                self.progress.give_back(touched);
                self.partitions.give_back_gone(removed);
                // Without checkpoints the journal fills, and producers would wait for ever instead of being told.
                self.distrusts(&e);
                Err(e)
            }
        }
    }

    /// What the next checkpoint says: all at one moment.
    fn gather(&self, states: &States<'_>, closed: bool, all: bool) -> Next {
        let entry = self.journal.last_entry();
        let (salt, generation) = self.journal.identity();
        let ids = if all { self.partitions.ids() } else { self.partitions.changed() };
        let mut now = Checkpoint {
            generation,
            lasting: self.journal.lasting_generation(),
            floor: entry.next(),
            durable: entry,
            closed,
            origin: Some(self.progress.origin()),
            number: self.progress.next_number(),
            seen: self.progress.seen(),
            ..Checkpoint::empty(self.shard, self.shards, salt)
        };
        let (mut swaps, mut due, mut in_segments) = (Vec::new(), Vec::new(), true);
        for id in &ids {
            self.partitions.with(*id, |held| {
                let log = held.log();
                if let Some(oldest) = log.oldest_tail_lsn() {
                    now.floor = now.floor.min(oldest);
                    now.closed = false;
                    in_segments = false;
                }
                if !log.take_changed() && !all {
                    return;
                }
                let replaced = log.compaction().swaps();
                if !replaced.is_empty() && !held.is_frozen() {
                    swaps.push((log.clone(), replaced));
                }
                if !held.is_frozen() && log.wants_snapshot() {
                    due.push((now.partitions.len(), log.clone()));
                }
                now.partitions.push(held.state(*id, states, closed));
            });
        }
        let removed = self.partitions.take_gone();
        Next { change: Change { now, removed }, ids, swaps, due, in_segments }
    }

    /// The partitions that were gathered are as `stored` says, or as before. What is not committed yet will be.
    fn settle_changes(&self, ids: &[PartitionId], stored: Option<&[PartitionState]>) {
        let uncommitted = |state: &&PartitionState| state.high_watermark < state.end_offset;
        let differ: HashSet<PartitionId> = match stored {
            Some(states) => states.iter().filter(uncommitted).map(|state| state.id).collect(),
            None => ids.iter().copied().collect(),
        };
        for log in ids.iter().filter_map(|id| self.get(*id)) {
            log.settle_changed(differ.contains(&log.id()));
        }
        self.partitions.trim_changed();
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
    async fn store_change(&self, change: &Arc<Change>, all: bool) -> Result<(), LogError> {
        let store = async || match all {
            true => self.checkpoints.replace(change.clone()).await,
            false => self.checkpoints.add(change.clone()).await,
        };
        loop {
            match store().await {
                Err(LogError::Io { source, .. })
                    if is_out_of_files(&source) && self.resources.files().close_some() => {}
                Err(LogError::Io { path, source }) if !is_out_of_files(&source) && may_pass(&source) => {
                    let dropped = self.space.drop_ballast().await;
                    return if dropped { store().await } else { Err(LogError::io(path, source)) };
                }
                stored => return stored,
            }
        }
    }

    /// Whether a checkpoint would say anything new.
    pub(super) fn is_behind(&self) -> bool {
        self.progress.is_behind(self.journal.last())
    }
}

/// A checkpoint to be.
struct Next {
    change: Change,
    /// The partitions that were looked at.
    ids: Vec<PartitionId>,
    /// Groups of segments that it lists as they are now.
    swaps: Vec<(Rc<PartitionLog>, Vec<i64>)>,
    /// Those of its partitions whose producers' state should be kept.
    due: Vec<(usize, Rc<PartitionLog>)>,
    /// No entry of the journal is needed.
    in_segments: bool,
}

/// Puts producers' state of these partitions into files of its own, and those into the checkpoint's list.
async fn keep_snapshots(checkpoint: &mut Checkpoint, due: Vec<(usize, Rc<PartitionLog>)>) {
    for (at, log) in due {
        let state = &mut checkpoint.partitions[at];
        let (offset, producers) = match &state.producers {
            Some((offset, producers)) => (*offset, Some(producers.clone())),
            None => (state.end_offset, None),
        };
        // The log was being cut: the state is of what is gone.
        if offset > state.end_offset {
            continue;
        }
        if log.keep_snapshot(offset, checkpoint.durable, producers).await {
            state.snapshots = log.snapshots();
        }
    }
}

#[cfg(test)]
impl ShardLog {
    /// What a checkpoint of all partitions would say now, but for what owners and snapshots say.
    fn every_state(&self, closed: bool) -> Vec<PartitionState> {
        let mut states = Vec::new();
        self.partitions.each(|id, held| states.push(held.state(id, &|_| OwnerState::default(), closed)));
        states
    }

    /// The files say what they would if all of it had been written.
    fn check_stored(&self, expected: &[PartitionState]) {
        let loaded = Checkpoint::load(&journal_dir(&self.data_dir, self.shard)).unwrap().unwrap();
        assert!(loaded.twice && loaded.layout.is_some());
        let (mut found, mut expected) = (loaded.checkpoint.partitions, expected.to_vec());
        for states in [&mut found, &mut expected] {
            states.sort_by_key(|state| state.id);
            for state in states.iter_mut() {
                state.snapshots.clear();
                (state.producers, state.high_watermark) = (None, 0);
                state.log.clean &= loaded.checkpoint.closed;
            }
        }
        assert_eq!(found, expected);
    }
}
