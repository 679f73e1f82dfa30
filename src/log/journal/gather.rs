//! Entries gather into commits. Pure: assigns positions, packs bytes, and says what goes into which file.
//!
//! - Commits leave in the order in which they were opened; at most the last one is still gathering.
//! - A commit never spans files. An entry that no regular file has room for gets a file of its own size.
//! - In steady state nothing is allocated: buffers and notifies go round.

use std::collections::VecDeque;

use crate::log::Lsn;
use crate::model::PartitionId;
use crate::rt::{AlignedBuf, BLOCK, Notify};

use super::format::{self, COMMIT_HEADER, CommitHeader, EntryHeader, EntryKind, FileHeader, entry_size};

/// A commit's first buffer; it doubles when a commit gathers more.
const SMALL_BUFFER: usize = 64 * 1024;
/// Spare buffers kept: one in flight, one gathering, one to spare.
const POOLED: usize = 2;

/// One contiguous write: the header block of its file if it is the first there, its own header, entries, padding.
pub struct Commit {
    pub buf: AlignedBuf,
    pub file: FileHeader,
    /// Whether the buffer begins with the file's header block.
    pub opens_file: bool,
    pub start: u64,
    pub entries: u32,
    pub last: Lsn,
    /// Notified once, when the commit is durable or the journal failed.
    pub done: Notify,
    gap: u32,
    /// Most bytes that the buffer may reach.
    limit: usize,
    /// Nothing more is added.
    sealed: bool,
}

impl Commit {
    /// Where in the file the buffer goes.
    pub fn file_offset(&self) -> u64 {
        if self.opens_file { 0 } else { self.file.file_offset(self.start) }
    }

    fn data_start(&self) -> usize {
        if self.opens_file { BLOCK } else { 0 }
    }

    /// The position just past the commit.
    fn end(&self) -> u64 {
        self.start + (self.buf.len() - self.data_start()).next_multiple_of(BLOCK) as u64
    }

    fn has_room(&self, need: usize) -> bool {
        !self.sealed && self.buf.len() + need <= self.limit
    }

    fn grow(&mut self, need: usize) {
        let wanted = self.buf.len() + need;
        if wanted <= self.buf.capacity() {
            return;
        }
        let mut buf = AlignedBuf::with_capacity(wanted.max((self.buf.capacity() * 2).min(self.limit)));
        buf.extend_from_slice(self.buf.as_slice());
        self.buf = buf;
    }

    fn seal(&mut self) {
        if !std::mem::replace(&mut self.sealed, true) {
            self.buf.pad_to_block();
        }
    }

    /// Makes it ready to be handed to the disk, which has everything up to `acknowledged`.
    fn finish(&mut self, salt: u32, acknowledged: Lsn) {
        self.seal();
        let at = self.data_start();
        let header = CommitHeader {
            file: self.file,
            start: self.start,
            length: (self.buf.len() - at) as u32,
            entries: self.entries,
            gap: self.gap,
            acknowledged: acknowledged.0,
        };
        format::encode_commit(&header, salt, &mut self.buf.as_mut_slice()[at..]);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct GatherLimits {
    /// Most bytes of one commit, unless a single entry is larger.
    pub max_commit_bytes: usize,
    /// Data bytes of a regular file.
    pub file_capacity: u64,
}

pub struct Gather {
    salt: u32,
    limits: GatherLimits,
    /// The generation being filled; none holds data before the first commit after a start.
    file: FileHeader,
    /// Where the next commit begins, if the queue is empty.
    position: u64,
    /// The last entry's.
    last: Lsn,
    /// The last that was given out, for an entry or for the promise of one.
    given: Lsn,
    queue: VecDeque<Commit>,
    buffers: Vec<AlignedBuf>,
    notifies: Vec<Notify>,
}

impl Gather {
    /// Continues after `last`, the last lsn that counts, in a new generation after `generation`.
    pub fn new(salt: u32, limits: GatherLimits, generation: u64, position: u64, last: Lsn) -> Self {
        assert!(position.is_multiple_of(BLOCK as u64) && position >= last.0);
        let file = FileHeader { generation, first: position, previous_end: last.0, capacity: 0 };
        let (queue, buffers, notifies) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { salt, limits, file, position, last, given: last, queue, buffers, notifies }
    }

    /// Adds an entry to the commit that gathers, opening one if need be.
    pub fn append(
        &mut self,
        kind: EntryKind,
        partition: PartitionId,
        base_offset: i64,
        leader_epoch: i32,
        batch: &[u8],
    ) -> Lsn {
        let need = entry_size(batch.len());
        if !self.queue.back().is_some_and(|c| c.has_room(need)) {
            self.open(need);
        }
        let salt = self.salt;
        let commit = self.queue.back_mut().expect("a commit was just opened");
        commit.grow(need);
        let at = commit.buf.len();
        let lsn = Lsn(commit.start + (at - commit.data_start() + need) as u64);
        let header = EntryHeader {
            kind,
            generation: commit.file.generation as u32,
            lsn,
            partition,
            leader_epoch,
            base_offset,
            length: batch.len() as u32,
            batch_crc: format::batch_crc(batch),
        };
        commit.buf.extend_from_slice(&format::encode_entry(&header, salt));
        commit.buf.extend_from_slice(batch);
        commit.buf.set_len(at + need);
        commit.buf.as_mut_slice()[at + format::ENTRY_HEADER + batch.len()..].fill(0);
        commit.entries += 1;
        commit.last = lsn;
        (self.last, self.given) = (lsn, lsn);
        lsn
    }

    /// An lsn behind every entry so far and before every later one: for what a later entry will make durable. Each has
    /// its own, unless there are too many for the gap between two entries.
    pub fn promise(&mut self) -> Lsn {
        let most = self.last.0 + format::ENTRY_HEADER as u64 - 1;
        let next = self.given.next();
        let next = if next.is_promised() { next } else { next.next() };
        self.given = next.min(Lsn(most));
        self.given
    }

    fn open(&mut self, need: usize) {
        if let Some(commit) = self.queue.back_mut() {
            commit.seal();
            self.position = commit.end();
        }
        let whole = (COMMIT_HEADER + need).next_multiple_of(BLOCK);
        let opens_file = self.position + whole as u64 > self.file.first + self.file.capacity;
        if opens_file {
            self.file = FileHeader {
                generation: self.file.generation + 1,
                first: self.position,
                previous_end: self.last.0,
                capacity: self.limits.file_capacity.max(whole as u64),
            };
        }
        let data_start = if opens_file { BLOCK } else { 0 };
        let left = self.file.first + self.file.capacity - self.position;
        let limit = data_start + self.limits.max_commit_bytes.max(whole).min(left as usize);
        let mut buf = self
            .buffers
            .pop()
            // The last commit of a file may have had a buffer too small for one that opens the next.
            .filter(|buf| buf.capacity() >= data_start + whole)
            .unwrap_or_else(|| AlignedBuf::with_capacity((data_start + whole).max(SMALL_BUFFER.min(limit))));
        buf.set_len(data_start);
        if opens_file {
            format::encode_file_header(&self.file, self.salt, buf.as_mut_slice());
        }
        buf.set_len(data_start + COMMIT_HEADER);
        self.queue.push_back(Commit {
            buf,
            file: self.file,
            opens_file,
            start: self.position,
            entries: 0,
            last: self.last,
            done: self.notifies.pop().unwrap_or_default(),
            gap: u32::try_from(self.position - self.last.0).unwrap_or(u32::MAX),
            limit,
            sealed: false,
        });
    }

    /// The next commit to write, if anything gathered. Everything up to `acknowledged` is on disk.
    pub fn take(&mut self, acknowledged: Lsn) -> Option<Commit> {
        let mut commit = self.queue.pop_front()?;
        commit.finish(self.salt, acknowledged);
        if self.queue.is_empty() {
            self.position = commit.end();
        }
        Some(commit)
    }

    /// Takes back what a written commit no longer needs.
    pub fn recycle(&mut self, buf: AlignedBuf, done: Notify) {
        let regular = buf.capacity() <= self.limits.max_commit_bytes.max(SMALL_BUFFER) + BLOCK;
        if self.buffers.len() < POOLED && regular {
            self.buffers.push(buf);
        }
        if self.notifies.len() < POOLED {
            self.notifies.push(done);
        }
    }

    /// Lets the spare buffers go; says whether there were any.
    pub fn trim(&mut self) -> bool {
        !std::mem::take(&mut self.buffers).is_empty()
    }

    /// What to listen to for the commit that will cover `lsn`, if it has not been taken yet.
    pub fn notify_for(&self, lsn: Lsn) -> Option<&Notify> {
        self.queue.iter().find(|c| c.last >= lsn).map(|c| &c.done)
    }

    pub fn notify_all(&self) {
        self.queue.iter().for_each(|c| c.done.notify_all());
    }

    pub fn last(&self) -> Lsn {
        self.last
    }

    pub fn given(&self) -> Lsn {
        self.given
    }

    /// The position just past everything gathered.
    pub fn end(&self) -> u64 {
        self.queue.back().map_or(self.position, Commit::end)
    }

    pub fn file(&self) -> FileHeader {
        self.file
    }

    pub fn queued_bytes(&self) -> usize {
        self.queue.iter().map(|c| c.buf.len()).sum()
    }
}
