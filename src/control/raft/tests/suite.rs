//! openraft's own tests of a store, on ours.

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::RangeBounds;
use std::rc::Rc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{RaftLogReader, StorageError};
use tempfile::TempDir;

use super::super::machine::Machine;
use super::super::store::{LogStore, State};
use super::super::types::{LogId, RaftEntry, Types, Vote, log_id};
use crate::metadata::Store;
use crate::metadata::log::MetadataLog;
use crate::metadata::quorum::Voter;

/// openraft's tests number their nodes.
impl From<u64> for Voter {
    fn from(number: u64) -> Self {
        Voter { node: number as i32, directory: [0; 16] }
    }
}

struct InDirectories;

/// The store, for tests that begin a log anywhere: Raft does so only behind a snapshot, which this puts there.
struct Anywhere(LogStore);

fn blank(like: LogId, index: u64) -> RaftEntry {
    RaftEntry { log_id: LogId { index, ..like }, payload: openraft::EntryPayload::Blank }
}

impl Anywhere {
    async fn begin_at(&self, index: u64) {
        let (dir, mut committed) = {
            let state = self.0.0.borrow();
            (state.dir.clone(), state.applied.clone())
        };
        (committed.image.version, committed.epoch) = (index, 0);
        let prepared = MetadataLog::prepare(&dir, &committed.snapshot()).unwrap();
        let replaced = {
            let mut state = self.0.0.borrow_mut();
            state.purged = state.purged.max(log_id(index, 0));
            state.disk.replace(prepared, Vec::new())
        };
        replaced.durable().await.unwrap();
    }
}

impl RaftLogReader<Types> for Anywhere {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug>(
        &mut self,
        range: R,
    ) -> Result<Vec<RaftEntry>, StorageError<Voter>> {
        self.0.try_get_log_entries(range).await
    }
}

impl RaftLogStorage<Types> for Anywhere {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<Voter>> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError<Voter>> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError<Voter>> {
        self.0.read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError<Voter>> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError<Voter>> {
        self.0.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Result<(), StorageError<Voter>>
    where
        I: IntoIterator<Item = RaftEntry>,
    {
        let mut entries: Vec<RaftEntry> = entries.into_iter().collect();
        let mut end = self.0.0.borrow().end().0;
        if let Some(first) = entries.first().map(|first| first.log_id) {
            if end == 0 && first.index > 0 {
                self.begin_at(first.index).await;
                end = first.index;
            }
            // Raft leaves nothing out and goes back to nothing that is purged, and those tests do.
            entries.retain(|entry| entry.log_id.index >= end);
            drop(entries.splice(0..0, (end..first.index).map(|index| blank(first, index))));
        }
        self.0.append(entries, flushed).await
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError<Voter>> {
        self.0.truncate(from).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError<Voter>> {
        let end = self.0.0.borrow().end().0;
        self.0.purge(upto).await?;
        if upto.index >= end {
            // In Raft that is what comes of a snapshot that was installed.
            self.begin_at(upto.index + 1).await;
        }
        Ok(())
    }
}

impl StoreBuilder<Types, Anywhere, Machine, TempDir> for InDirectories {
    async fn build(&self) -> Result<(TempDir, Anywhere, Machine), StorageError<Voter>> {
        let dir = tempfile::tempdir().unwrap();
        let parts = Store::join(dir.path(), 0).unwrap().into_parts();
        let state = Rc::new(RefCell::new(State::new(parts, dir.path().to_path_buf()).unwrap()));
        // Nobody listens, and nobody is waited for.
        let (tell, _) = flume::bounded(1);
        Ok((dir, Anywhere(LogStore(state.clone())), Machine { state, tell }))
    }
}

#[test]
fn openraft_is_content_with_the_store() {
    Suite::test_all(InDirectories).unwrap();
}
