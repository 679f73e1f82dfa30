//! What Raft stores: the log and the vote in the files that a node which is alone has too, and the metadata image as the state.
//!
//! ```text
//! purged ≤ snapshot ≤ applied = image ≤ committed ≤ log's end          Raft reads all of it from memory
//! file:  snapshot │ entries        as it is in memory, or with an older snapshot and more entries
//! ```
//! What is committed is noted in the log's header, unsynced: a restart shows the image as of that note, and learns the rest from the
//! leader. The image is never stored by itself but follows from snapshot and entries (Q4).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::rc::Rc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, EntryPayload, ErrorSubject, ErrorVerb, RaftLogReader, StorageIOError};

use super::disk::Disk;
use super::types::{LogId, RaftEntry, StorageError, Types, Vote, applied_of, epoch, log_id, of_entry, place};
use crate::metadata::quorum::{self, Voter};
use crate::metadata::{Committed, StoreParts};

/// Records in one message to a follower, unless one entry has more.
const MOST_RECORDS: usize = 2000;

pub struct State {
    pub disk: Disk,
    pub dir: PathBuf,
    vote: Vote,
    /// Of the entry before the first in memory.
    pub(super) purged: Option<LogId>,
    entries: VecDeque<RaftEntry>,
    committed: Option<LogId>,
    pub applied: Committed,
    pub snapshot: Option<Committed>,
}

impl State {
    pub fn new(parts: StoreParts, dir: PathBuf) -> io::Result<Self> {
        let StoreParts { log, state, committed, before, entries, .. } = parts;
        let quorum::Vote { epoch, voted } = state.vote();
        // Whether a majority granted it is not stored: a leader that comes back has to be elected anew.
        let mut vote = Vote::default();
        (vote.leader_id.term, vote.leader_id.voted_for) = (u64::try_from(epoch).unwrap_or(0), voted);
        Ok(Self {
            disk: Disk::start(log, state)?,
            dir,
            vote,
            purged: log_id(before.0, before.1),
            entries: entries.into_iter().filter_map(of_entry).collect(),
            committed: applied_of(&committed),
            snapshot: applied_of(&committed).map(|_| committed.clone()),
            applied: committed,
        })
    }

    fn first_index(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.purged)
    }

    /// Offset and epoch of the last entry.
    pub fn end(&self) -> (u64, i32) {
        place(self.last())
    }

    pub fn begins_after(&self, at: LogId) -> bool {
        self.purged > Some(at)
    }

    /// Entries behind a snapshot, if the log has what the snapshot is of; what else it has contradicts it.
    pub fn behind(&self, snapshot: LogId) -> Option<Vec<RaftEntry>> {
        if self.purged == Some(snapshot) {
            return Some(self.entries.iter().cloned().collect());
        }
        let at = snapshot.index.checked_sub(self.first_index())? as usize;
        let same = self.entries.get(at).is_some_and(|entry| entry.log_id == snapshot);
        same.then(|| self.entries.range(at + 1..).cloned().collect())
    }

    /// The log begins after a snapshot that was installed.
    pub fn reset(&mut self, snapshot: LogId, entries: Vec<RaftEntry>) {
        self.purged = Some(snapshot);
        self.entries = entries.into();
        self.committed = self.committed.max(Some(snapshot));
    }

    fn range(&self, range: impl RangeBounds<u64>) -> Vec<RaftEntry> {
        let first = self.first_index();
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let from = (start.saturating_sub(first) as usize).min(self.entries.len());
        let to = (end.saturating_sub(first) as usize).clamp(from, self.entries.len());
        self.entries.range(from..to).cloned().collect()
    }
}

/// The log's side of the store; clones share it.
#[derive(Clone)]
pub struct LogStore(pub Rc<RefCell<State>>);

pub fn failed(
    subject: ErrorSubject<Voter>,
    verb: ErrorVerb,
    error: &(impl std::error::Error + 'static),
) -> StorageError {
    StorageIOError::new(subject, verb, AnyError::new(error)).into()
}

/// An entry that a proposal became: without effect where it is not the one that was decided on.
fn in_place(mut entry: RaftEntry) -> RaftEntry {
    if let EntryPayload::Normal(change) = &entry.payload
        && place(Some(entry.log_id)) != (change.offset, change.epoch)
    {
        entry.payload = EntryPayload::Blank;
    }
    entry
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug>(
        &mut self,
        range: R,
    ) -> Result<Vec<RaftEntry>, StorageError> {
        Ok(self.0.borrow().range(range))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, StorageError> {
        let mut entries = self.0.borrow().range(start..end);
        let mut records = 0;
        let few = entries.iter().take_while(|entry| {
            let fits = records < MOST_RECORDS;
            records +=
                if let EntryPayload::Normal(change) = &entry.payload { change.records.len() } else { 1 };
            fits
        });
        let few = few.count();
        entries.truncate(few);
        Ok(entries)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let state = self.0.borrow();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let (term, voted) = (vote.leader_id.term, vote.leader_id.voted_for);
        let written = self.0.borrow().disk.vote(quorum::Vote { epoch: epoch(term), voted });
        written.durable().await.map_err(|e| failed(ErrorSubject::Vote, ErrorVerb::Write, &e))?;
        self.0.borrow_mut().vote = *vote;
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote = self.0.borrow().vote;
        Ok((vote != Vote::default()).then_some(vote))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let mut state = self.0.borrow_mut();
        state.committed = committed;
        state.disk.note_committed(place(committed).0);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.0.borrow().committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = RaftEntry>,
    {
        let entries: Vec<RaftEntry> = entries.into_iter().map(in_place).collect();
        let mut state = self.0.borrow_mut();
        let next = state.last().map_or(0, |id| id.index + 1);
        if !entries.iter().map(|entry| entry.log_id.index).eq((next..).take(entries.len())) {
            let error = io::Error::other(format!("entries that do not follow index {next}"));
            return Err(failed(ErrorSubject::Logs, ErrorVerb::Write, &error));
        }
        state.entries.extend(entries.iter().cloned());
        state.disk.append(entries, flushed);
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        let written = {
            let mut state = self.0.borrow_mut();
            if state.committed.is_some_and(|committed| committed.index >= from.index) {
                let error = io::Error::other(format!("index {} is committed and to be cut", from.index));
                return Err(failed(ErrorSubject::Log(from), ErrorVerb::Delete, &error));
            }
            let kept = from.index.saturating_sub(state.first_index()) as usize;
            state.entries.truncate(kept);
            state.disk.truncate(from.index + 1)
        };
        written.durable().await.map_err(|e| failed(ErrorSubject::Log(from), ErrorVerb::Delete, &e))
    }

    /// The file may keep more: it lost what is in a snapshot when that was written.
    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        let mut state = self.0.borrow_mut();
        while state.entries.pop_front_if(|entry| entry.log_id.index <= upto.index).is_some() {}
        state.purged = state.purged.max(Some(upto));
        Ok(())
    }
}
