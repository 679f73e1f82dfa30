//! Transactions as a pass meets them, batch by batch in log order: which batches were aborted, which markers have
//! outlived everything that they decided.
//!
//! A batch is aborted if it lies between the first offset and the marker of an aborted transaction of its producer, as
//! the partition lists them; whether the pass meets the marker, or the log still has it, makes no difference. An abort
//! marker goes only in a pass that began when its transaction was not listed any more.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::model::{Offset, ProducerId};
use crate::wire::batch::BatchHeader;

/// A transaction that was aborted: its first record's offset and its marker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    pub last_offset: Offset,
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

/// What the log has left of a transaction when its marker is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Something,
    /// Nothing, but readers are told of it until this pass is over: without its marker they would skip what the
    /// producer wrote afterwards.
    Listed,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Aborted {
    first_offset: Offset,
    /// The marker's.
    last_offset: Offset,
    /// The log still had a batch of it.
    seen: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Transactions {
    /// By producer, in order: one producer's transactions do not overlap. Those that the pass has left behind are gone.
    aborted: HashMap<ProducerId, VecDeque<Aborted>>,
    /// Producers of which there was a batch that was not aborted, since their last marker.
    committed: HashSet<ProducerId>,
    /// Offsets of listed abort markers of which nothing else is left.
    outlived: Vec<Offset>,
}

impl Transactions {
    pub fn new(aborted: &[AbortedTransaction]) -> Self {
        let mut listed = Self::default();
        for t in aborted {
            let one = Aborted { first_offset: t.first_offset, last_offset: t.last_offset, seen: false };
            listed.aborted.entry(t.producer_id).or_default().push_back(one);
        }
        for of_producer in listed.aborted.values_mut() {
            of_producer.make_contiguous().sort_by_key(|t| t.first_offset);
        }
        listed
    }

    /// The aborted transaction of its producer that a batch begins in, marker and all. Offsets only rise.
    fn listed(&mut self, header: &BatchHeader) -> Option<&mut Aborted> {
        let offset = Offset(header.base_offset);
        let of_producer = self.aborted.get_mut(&ProducerId(header.producer_id))?;
        while of_producer.front().is_some_and(|t| t.last_offset < offset) {
            of_producer.pop_front();
        }
        of_producer.front_mut().filter(|t| t.first_offset <= offset)
    }

    /// A batch of records: whether it belongs to an aborted transaction.
    pub fn on_batch(&mut self, header: &BatchHeader) -> bool {
        if !header.is_transactional() {
            return false;
        }
        match self.listed(header) {
            Some(transaction) if Offset(header.last_offset()) < transaction.last_offset => {
                transaction.seen = true;
                true
            }
            _ => {
                self.committed.insert(ProducerId(header.producer_id));
                false
            }
        }
    }

    /// In order.
    pub fn take_outlived(&mut self) -> Vec<Offset> {
        std::mem::take(&mut self.outlived)
    }

    /// A control batch, with its marker unless it was emptied before: what is left of what it decided.
    pub fn on_control(&mut self, header: &BatchHeader, marker: Option<Marker>) -> Left {
        let left = |something| if something { Left::Something } else { Left::Nothing };
        match marker {
            Some(Marker::Abort) => {
                // Without an entry in the list its records count as committed; they need their marker all the more.
                let unlisted = self.committed.remove(&ProducerId(header.producer_id));
                match self.listed(header) {
                    Some(transaction) if !transaction.seen => {
                        let marker = transaction.last_offset;
                        self.outlived.push(marker);
                        Left::Listed
                    }
                    listed => left(listed.is_some() || unlisted),
                }
            }
            Some(Marker::Commit) => left(self.committed.remove(&ProducerId(header.producer_id))),
            Some(Marker::Other) => Left::Something,
            None => Left::Nothing,
        }
    }
}
