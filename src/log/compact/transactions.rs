//! Transactions as a pass meets them, batch by batch in log order: which batches were aborted, which markers have
//! outlived everything that they decided.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::wire::batch::BatchHeader;

/// A transaction that was aborted: its first record's offset and its marker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
    pub last_offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    Abort,
    Commit,
    /// Of another kind: not ours to judge.
    Other,
}

impl Marker {
    /// From a control record's key: version i16, type i16.
    pub fn from_key(key: &[u8]) -> Self {
        match key.get(2..4) {
            Some([0, 0]) => Self::Abort,
            Some([0, 1]) => Self::Commit,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Transactions {
    /// Not begun yet where the pass stands, by first offset.
    ahead: VecDeque<AbortedTransaction>,
    /// By producer: whether the log still had a batch of it.
    aborted: HashMap<i64, bool>,
    committed: HashSet<i64>,
    /// Offsets of abort markers of which nothing else is left.
    outlived: Vec<i64>,
}

impl Transactions {
    pub fn new(aborted: &[AbortedTransaction]) -> Self {
        let mut ahead = aborted.to_vec();
        ahead.sort_by_key(|t| t.first_offset);
        Self { ahead: ahead.into(), ..Self::default() }
    }

    fn begin_up_to(&mut self, offset: i64) {
        while let Some(transaction) = self.ahead.front().filter(|t| t.first_offset <= offset) {
            self.aborted.entry(transaction.producer_id).or_insert(false);
            self.ahead.pop_front();
        }
    }

    /// A batch of records: whether it belongs to an aborted transaction.
    pub fn on_batch(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some(seen) => {
                *seen = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// In order.
    pub fn take_outlived(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.outlived)
    }

    /// A control batch, with its marker unless it was emptied before: whether nothing is left that it decided.
    pub fn on_control(&mut self, header: &BatchHeader, marker: Option<Marker>) -> bool {
        self.begin_up_to(header.last_offset());
        match marker {
            Some(Marker::Abort) => {
                let outlived = self.aborted.remove(&header.producer_id) != Some(true);
                if outlived {
                    self.outlived.push(header.base_offset);
                }
                outlived
            }
            Some(Marker::Commit) => !self.committed.remove(&header.producer_id),
            Some(Marker::Other) => false,
            None => true,
        }
    }
}
