//! A replica's log as the machines see it: what is in memory, and what of it a crash leaves.

use std::collections::VecDeque;

use weir::model::{LeaderEpoch, Offset};
use weir::partition::peer::Epochs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub epoch: LeaderEpoch,
    pub value: u64,
}

/// What a journal says, in order.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    Append(Record),
    Epoch(LeaderEpoch),
    Truncate(Offset),
    Reset(Offset),
}

/// What the entries so far make.
#[derive(Clone, Default)]
pub struct Log {
    pub base: i64,
    records: Vec<Record>,
    epochs: Vec<(LeaderEpoch, Offset)>,
}

impl Log {
    pub fn end(&self) -> Offset {
        Offset(self.base + self.records.len() as i64)
    }

    pub fn at(&self, offset: i64) -> Option<Record> {
        self.records.get(usize::try_from(offset - self.base).ok()?).copied()
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Append(record) => {
                self.note(record.epoch);
                self.records.push(record);
            }
            Entry::Epoch(epoch) => self.note(epoch),
            Entry::Truncate(to) => {
                self.records.truncate((to.0 - self.base).max(0) as usize);
                self.epochs.retain(|(_, start)| *start < to);
            }
            Entry::Reset(at) => (self.base, self.records, self.epochs) = (at.0, Vec::new(), Vec::new()),
        }
    }

    fn note(&mut self, epoch: LeaderEpoch) {
        let end = self.end();
        if self.latest().is_none_or(|latest| latest < epoch) {
            self.epochs.retain(|(_, start)| *start < end);
            self.epochs.push((epoch, end));
        }
    }
}

impl Epochs for Log {
    fn latest(&self) -> Option<LeaderEpoch> {
        Some(self.epochs.last()?.0)
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if self.latest()? < epoch {
            return None;
        }
        let after = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let end = self.epochs.get(after).map_or(self.end(), |(_, start)| *start);
        Some(after.checked_sub(1).map_or((epoch, end), |at| (self.epochs[at].0, end)))
    }
}

/// A log in memory, how much of it is on disk, and what the checkpoint says besides.
#[derive(Default)]
pub struct Disk {
    pub log: Log,
    pub durable: Log,
    pub unsynced: VecDeque<Entry>,
    /// High watermark and log start, as they were stored.
    pub stored: (Offset, Offset),
}

impl Disk {
    pub fn write(&mut self, entry: Entry) {
        self.unsynced.push_back(entry);
        self.log.apply(entry);
    }

    pub fn sync(&mut self, entries: usize) {
        let entries = entries.min(self.unsynced.len());
        self.unsynced.drain(..entries).for_each(|entry| self.durable.apply(entry));
    }

    /// What a crash leaves, with so many entries that nobody was promised.
    pub fn crash(&mut self, entries: usize) {
        self.sync(entries);
        self.unsynced.clear();
        self.log = self.durable.clone();
    }

    /// Up to where the log is on disk and not cut since.
    pub fn durable_end(&self) -> Offset {
        let cuts = self.unsynced.iter().filter_map(|entry| match entry {
            Entry::Truncate(at) | Entry::Reset(at) => Some(*at),
            _ => None,
        });
        cuts.min().unwrap_or(Offset(i64::MAX)).min(self.durable.end())
    }
}
