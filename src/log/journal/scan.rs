//! Reading a journal file back. Pure: walks the bytes of one file and tells entries, tears and damage apart.
//!
//! A commit is known to be durable if something says so that was written after it: a later commit in the file that has it
//! among what is `acknowledged`, a later generation (`limit`), or a checkpoint (`known_durable`). An entry that does not
//! hold in a durable commit is *damage*, and reading goes on behind it; in any other commit it is a *tear*, and the journal
//! ends before it, whatever follows.

use crate::rt::BLOCK;

use super::format::{self, ALIGN, COMMIT_HEADER, CommitHeader, EntryHeader, FileHeader};

/// One file as it was read.
pub struct Source<'a> {
    /// The whole file, header block included.
    pub bytes: &'a [u8],
    pub header: FileHeader,
    pub salt: u32,
    /// The last lsn that counts in this file, if a later generation says.
    pub limit: Option<u64>,
    /// An lsn known to be durable from elsewhere; zero if none is.
    pub known_durable: u64,
}

#[derive(PartialEq, Eq, Debug)]
pub enum Item<'a> {
    Entry(EntryHeader, &'a [u8]),
    /// Durable positions `from..to` cannot be read; whose they were, if the entry's header holds.
    Damage {
        from: u64,
        to: u64,
        entry: Option<EntryHeader>,
    },
}

/// Where a file's entries end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// The last lsn that counts, `previous_end` if the file holds none.
    pub last: u64,
    /// Where a commit that never completed was dropped.
    pub torn_at: Option<u64>,
}

/// Calls `sink` for each entry and each damaged range, in order.
pub fn scan<'a>(source: &Source<'a>, sink: &mut dyn FnMut(Item<'a>)) -> End {
    let mut scan = Scan { source, sink, last: source.header.previous_end, acknowledged: None };
    let torn_at = scan.run();
    End { last: scan.last, torn_at }
}

/// The header that a damaged header block held, from the newest commit in the file.
pub fn rebuild_header(bytes: &[u8], salt: u32) -> Option<FileHeader> {
    let commits = (BLOCK..bytes.len()).step_by(BLOCK).filter_map(|at| {
        let commit = format::decode_commit(&bytes[at..], salt)?;
        (commit.file.file_offset(commit.start) == at as u64).then_some(commit.file)
    });
    commits.max_by_key(|file| file.generation)
}

struct Scan<'s, 'a> {
    source: &'s Source<'a>,
    sink: &'s mut dyn FnMut(Item<'a>),
    last: u64,
    /// What the commits in the file say of one another, once it matters.
    acknowledged: Option<u64>,
}

impl<'a> Scan<'_, 'a> {
    fn run(&mut self) -> Option<u64> {
        let mut at = self.source.header.first;
        let bound = self.bound();
        while at < bound {
            if self.is_cut_at(at) {
                break;
            }
            if let Some(commit) = self.commit_at(at) {
                let end = at + u64::from(commit.length);
                if let Err(torn) = self.entries(&commit, end) {
                    return Some(torn);
                }
                at = end;
            } else if let Some(next) = self.next_commit(at + BLOCK as u64) {
                let (before, durable) = (next.before().max(at), self.durable());
                if durable < before {
                    self.lost(at, durable);
                    return Some(durable.max(at));
                }
                self.lost(at, before);
                at = next.start;
            } else {
                let durable = self.durable().min(self.data_end());
                self.lost(at, durable);
                return None;
            }
        }
        if self.is_cut_at(at) {
            self.lost(at, self.data_end());
            self.damage(at.max(self.data_end()), self.capacity_end(), None);
        }
        None
    }

    /// Whether the file ends where a commit may have been: all of its length was on disk before its first commit.
    fn is_cut_at(&self, at: u64) -> bool {
        let end = self.data_end();
        if self.source.limit.is_some() || end == self.capacity_end() {
            return false;
        }
        let reaches_on = |commit: CommitHeader| {
            let its = commit.file == self.source.header && commit.start == at;
            its && at + u64::from(commit.length) > end
        };
        at + COMMIT_HEADER as u64 > end
            || format::decode_commit(self.bytes_at(at), self.source.salt).is_some_and(reaches_on)
    }

    /// The entries of one commit. Fails with the position of a tear.
    fn entries(&mut self, commit: &CommitHeader, end: u64) -> Result<(), u64> {
        let mut at = commit.start + COMMIT_HEADER as u64;
        for _ in 0..commit.entries {
            if self.source.limit.is_some_and(|limit| at >= limit) {
                return Ok(());
            }
            let entry = self.entry_at(at, end);
            if let Some((header, Some(batch))) = entry {
                self.entry(header, batch);
                at = header.lsn.0;
                continue;
            }
            let Some(durable_end) = self.durable_end(at, end) else { return Err(at) };
            match entry {
                Some((header, None)) => {
                    let to = header.lsn.0;
                    self.damage(at, to, Some(header));
                    at = to;
                }
                _ => {
                    self.lost(at, durable_end);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Where what counts ends in the commit that ends at `end`, if its entry at `at` is known to have been durable.
    fn durable_end(&mut self, at: u64, end: u64) -> Option<u64> {
        let durable = self.durable();
        if durable <= at {
            return None;
        }
        let next = self.next_commit(end).filter(|next| durable >= next.before() && next.start == end);
        Some(next.map_or(durable.min(end), |next| next.before().max(at)))
    }

    /// Up to where everything is known to have been durable.
    fn durable(&mut self) -> u64 {
        if let Some(limit) = self.source.limit {
            return limit;
        }
        let by_commits = match self.acknowledged {
            Some(known) => known,
            None => self.commits(self.source.header.first).map(|c| c.acknowledged).max().unwrap_or(0),
        };
        self.acknowledged = Some(by_commits);
        by_commits.max(self.source.known_durable)
    }

    /// Walks `from..to`, if there is that, whose structure is lost, for entries that hold.
    fn lost(&mut self, from: u64, to: u64) {
        let (mut at, mut hole) = (from, from);
        while at < to {
            let Some((header, Some(batch))) = self.entry_at(at, to) else {
                at += ALIGN as u64;
                continue;
            };
            let only_commit_header = hole.is_multiple_of(BLOCK as u64) && at - hole == COMMIT_HEADER as u64;
            if hole < at && !only_commit_header {
                self.damage(hole, at, None);
            }
            self.entry(header, batch);
            at = header.lsn.0;
            hole = at;
        }
        if hole < to {
            self.damage(hole, to, None);
        }
    }

    fn entry(&mut self, header: EntryHeader, batch: &'a [u8]) {
        self.last = header.lsn.0;
        (self.sink)(Item::Entry(header, batch));
    }

    fn damage(&mut self, from: u64, to: u64, entry: Option<EntryHeader>) {
        self.last = to;
        (self.sink)(Item::Damage { from, to, entry });
    }

    fn data_end(&self) -> u64 {
        let held = (self.source.bytes.len() as u64).saturating_sub(BLOCK as u64);
        self.source.header.first + held.min(self.source.header.capacity)
    }

    fn capacity_end(&self) -> u64 {
        self.source.header.first + self.source.header.capacity
    }

    /// No commit that counts begins at or past this position.
    fn bound(&self) -> u64 {
        self.source.limit.unwrap_or(u64::MAX).min(self.data_end())
    }

    /// The file's bytes from `position` on.
    fn bytes_at(&self, position: u64) -> &'a [u8] {
        let at = self.source.header.file_offset(position) as usize;
        self.source.bytes.get(at..).unwrap_or_default()
    }

    fn commit_at(&self, position: u64) -> Option<CommitHeader> {
        let commit = format::decode_commit(self.bytes_at(position), self.source.salt)?;
        let end = position + u64::from(commit.length);
        (commit.file == self.source.header && commit.start == position && end <= self.data_end())
            .then_some(commit)
    }

    fn next_commit(&self, from: u64) -> Option<CommitHeader> {
        self.commits(from.next_multiple_of(BLOCK as u64)).next()
    }

    fn commits(&self, from: u64) -> impl Iterator<Item = CommitHeader> {
        (from..self.bound()).step_by(BLOCK).filter_map(|position| self.commit_at(position))
    }

    /// The entry at `position` that ends at or before `end`, and its batch if that is whole.
    fn entry_at(&self, position: u64, end: u64) -> Option<(EntryHeader, Option<&'a [u8]>)> {
        let bytes = self.bytes_at(position);
        let header = format::decode_entry(bytes, self.source.salt)?;
        let fits = header.generation == self.source.header.generation as u32
            && header.lsn.0 == position + header.size()
            && header.lsn.0 <= end;
        let length = header.length as usize;
        let batch = bytes.get(format::ENTRY_HEADER..format::ENTRY_HEADER + length);
        fits.then(|| (header, batch.filter(|batch| format::batch_crc(batch) == header.batch_crc)))
    }
}
