//! Which logs have a chunk's worth to write.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};

use crate::model::PartitionId;

/// Each once, in the order in which they came.
#[derive(Default)]
pub struct Ready(RefCell<(VecDeque<PartitionId>, HashSet<PartitionId>)>);

impl Ready {
    pub fn add(&self, id: PartitionId) {
        let (line, known) = &mut *self.0.borrow_mut();
        if known.insert(id) {
            line.push_back(id);
        }
    }

    pub fn take(&self) -> Vec<PartitionId> {
        let (line, known) = &mut *self.0.borrow_mut();
        known.clear();
        line.drain(..).collect()
    }
}
