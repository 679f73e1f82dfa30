//! The state that Raft keeps: the metadata image. It tells what is applied to whoever follows the quorum.

#![expect(clippy::result_large_err, reason = "the error is openraft's")]

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flume::Sender;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{EntryPayload, ErrorSubject, ErrorVerb, RaftSnapshotBuilder};

use super::disk::io_error;
use super::store::{State, failed};
use super::types::{
    LogId, RaftEntry, SnapshotMeta, StorageError, StoredMembership, Types, applied_of, membership_of,
    meta_of, place, to_membership,
};
use crate::metadata::log::{MetadataLog, Prepared};
use crate::metadata::quorum::{Commit, Membership};
use crate::metadata::{Committed, Image};

/// Between tries to store a snapshot on a full disk.
const AGAIN: Duration = Duration::from_secs(1);

/// What happened, in the order in which it did.
pub enum Told {
    Committed(Vec<Commit>),
    Snapshot(Arc<Image>),
    Leader(super::leading::Leadership),
    /// This node takes no part any more, whatever others do.
    Ended(String),
}

pub struct Machine {
    pub state: Rc<RefCell<State>>,
    pub tell: Sender<Told>,
}

impl Machine {
    fn apply_one(&self, entry: &RaftEntry) -> Result<Commit, StorageError> {
        let (offset, epoch) = place(Some(entry.log_id));
        let applied = &mut self.state.borrow_mut().applied;
        let records = match &entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(change) => change.records.to_vec(),
            EntryPayload::Membership(membership) => {
                applied.set_membership(offset, epoch, to_membership(membership));
                return Ok(Commit { offset, epoch, records: Vec::new() });
            }
        };
        // Whoever proposed it has applied it to the same image.
        applied
            .apply(offset, epoch, &records)
            .map_err(|e| failed(ErrorSubject::Apply(entry.log_id), ErrorVerb::Write, &e))?;
        Ok(Commit { offset, epoch, records })
    }

    /// The log begins with a snapshot from now on.
    async fn replace(&self, snapshot: &Committed, at: LogId) -> io::Result<()> {
        let prepared = prepare(&self.state, snapshot).await?;
        let replaced = {
            let mut state = self.state.borrow_mut();
            let entries = state.behind(at).unwrap_or_default();
            state.reset(at, entries.clone());
            state.disk.replace(prepared, entries)
        };
        replaced.durable().await
    }

    async fn tell(&self, told: Told) {
        // Nobody listens any more when the broker stops.
        drop(self.tell.send_async(told).await);
    }
}

/// Writes a log that begins with a snapshot, on a thread that may wait for the disk.
async fn prepare(state: &Rc<RefCell<State>>, committed: &Committed) -> io::Result<Prepared> {
    let (dir, committed) = (state.borrow().dir.clone(), committed.clone());
    let write = move || MetadataLog::prepare(&dir, &committed.snapshot());
    let written = tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?;
    written.map_err(io_error)
}

fn snapshot_of(committed: Committed) -> Snapshot<Types> {
    Snapshot { meta: meta_of(&committed), snapshot: Box::new(committed) }
}

pub struct Builder(Rc<RefCell<State>>);

impl Builder {
    /// The log's file becomes this snapshot and what follows it.
    async fn store(&self, committed: &Committed, at: LogId) -> io::Result<()> {
        let prepared = prepare(&self.0, committed).await?;
        let replaced = {
            let state = self.0.borrow();
            if state.begins_after(at) {
                // A newer one was installed meanwhile.
                return Ok(());
            }
            state.disk.replace(prepared, state.behind(at).unwrap_or_default())
        };
        replaced.durable().await
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let committed = self.0.borrow().applied.clone();
        if let Some(at) = applied_of(&committed)
            && let Err(error) = self.store(&committed, at).await
        {
            // The old file says the same and goes on growing.
            log::error!("the metadata log could not be rewritten: {error}");
        }
        self.0.borrow_mut().snapshot = Some(committed.clone());
        Ok(snapshot_of(committed))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let state = self.state.borrow();
        Ok((applied_of(&state.applied), membership_of(&state.applied)))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = RaftEntry>,
    {
        let entries = entries.into_iter();
        let commits = entries.map(|entry| self.apply_one(&entry)).collect::<Result<Vec<_>, _>>()?;
        let results = vec![(); commits.len()];
        self.tell(Told::Committed(commits)).await;
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(self.state.clone())
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Committed>, StorageError> {
        let membership = Membership::default();
        let image = Image::empty();
        Ok(Box::new(Committed { image, epoch: 0, membership, membership_at: 0, membership_epoch: 0 }))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Committed>,
    ) -> Result<(), StorageError> {
        let failed = |e: io::Error| failed(ErrorSubject::Snapshot(None), ErrorVerb::Write, &e);
        let is_full = |written: &io::Result<()>| {
            written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
        };
        let Some(at) = meta.last_log_id.filter(|id| applied_of(&snapshot) == Some(*id)) else {
            return Err(failed(io::Error::other("a snapshot that is not of what it says")));
        };
        let mut written = self.replace(&snapshot, at).await;
        while is_full(&written) {
            log::error!("there is no room for the metadata that this broker was given: {written:?}");
            tokio::time::sleep(AGAIN).await;
            written = self.replace(&snapshot, at).await;
        }
        written.map_err(failed)?;
        let image = Arc::new(snapshot.image.clone());
        {
            let mut state = self.state.borrow_mut();
            state.snapshot = Some((*snapshot).clone());
            state.applied = *snapshot;
        }
        self.tell(Told::Snapshot(image)).await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        Ok(self.state.borrow().snapshot.clone().map(snapshot_of))
    }
}
