//! How far checkpoints have come, and whether another would say anything new.

use std::cell::{Cell, RefCell};

use crate::log::Lsn;
use crate::log::formats::checkpoint::Origin;

/// The last checkpoint, and what the next one is made under.
pub struct Progress {
    /// The last lsn at the last checkpoint.
    lsn: Cell<Lsn>,
    /// Something that no lsn tells of has changed since.
    changed: Cell<bool>,
    /// Whether a checkpoint was written since the start.
    current: Cell<bool>,
    number: Cell<u64>,
    /// The metadata that is applied.
    origin: RefCell<Origin>,
    /// The number that topics' files are known to have.
    seen: u64,
}

impl Progress {
    /// As a start found it: the checkpoint `number` knows the entries up to `lsn`; `changed`: it lacks what is known.
    pub fn new(number: u64, lsn: Lsn, changed: bool, origin: Origin, seen: u64) -> Self {
        Self {
            lsn: Cell::new(lsn),
            changed: Cell::new(changed),
            current: Cell::new(false),
            number: Cell::new(number),
            origin: RefCell::new(origin),
            seen,
        }
    }

    /// Something changed that a checkpoint says and the journal does not.
    pub fn touch(&self) {
        self.changed.set(true);
    }

    pub fn is_touched(&self) -> bool {
        self.changed.get()
    }

    /// Whether a checkpoint would say anything new, if `last` is the last lsn.
    pub fn is_behind(&self, last: Lsn) -> bool {
        self.changed.get() || self.lsn.get() < last
    }

    /// A checkpoint takes in what is now: whether that was touched.
    pub fn take_touched(&self) -> bool {
        self.changed.replace(false)
    }

    /// It could not be stored, and what it took in is still to be said.
    pub fn give_back(&self, touched: bool) {
        self.changed.set(touched || self.changed.get());
    }

    /// The checkpoint `number` is stored; the last lsn was `last` when it was begun.
    pub fn stored(&self, number: u64, last: Lsn) {
        self.number.set(number);
        self.lsn.set(last);
        self.current.set(true);
    }

    pub fn next_number(&self) -> u64 {
        self.number.get() + 1
    }

    pub fn is_current(&self) -> bool {
        self.current.get()
    }

    pub fn origin(&self) -> Origin {
        self.origin.borrow().clone()
    }

    /// Checkpoints are made under this version of the metadata from now on.
    pub fn follow_metadata(&self, version: u64) {
        self.origin.borrow_mut().version = version;
    }

    pub fn seen(&self) -> u64 {
        self.seen
    }
}
