//! The partitions of a shard, and which of them the next checkpoint has to look at.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::log::PartitionLog;
use crate::log::partition::changed::List;
use crate::model::PartitionId;

use super::held::Held;

/// Every partition's log follows the one list of those that differ from the last checkpoint.
pub struct Partitions {
    held: RefCell<HashMap<PartitionId, Held>>,
    changed: Rc<List>,
    /// Gone since the last checkpoint.
    gone: RefCell<Vec<PartitionId>>,
}

impl Partitions {
    /// As a start found them: `held` follow `changed`, and `gone` are in the last checkpoint and not here.
    pub fn new(held: HashMap<PartitionId, Held>, changed: Rc<List>, gone: Vec<PartitionId>) -> Self {
        Self { held: held.into(), changed, gone: gone.into() }
    }

    pub fn get(&self, id: PartitionId) -> Option<Rc<PartitionLog>> {
        self.with(id, |held| held.log().clone())
    }

    pub fn contains(&self, id: PartitionId) -> bool {
        self.held.borrow().contains_key(&id)
    }

    pub fn with<T>(&self, id: PartitionId, see: impl FnOnce(&Held) -> T) -> Option<T> {
        self.held.borrow().get(&id).map(see)
    }

    pub fn change(&self, id: PartitionId, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.held.borrow_mut().get_mut(&id) {
            change(held);
        }
    }

    pub fn each(&self, mut see: impl FnMut(PartitionId, &Held)) {
        self.held.borrow().iter().for_each(|(id, held)| see(*id, held));
    }

    pub fn change_each(&self, change: impl FnMut(&mut Held)) {
        self.held.borrow_mut().values_mut().for_each(change);
    }

    pub fn ids(&self) -> Vec<PartitionId> {
        self.held.borrow().keys().copied().collect()
    }

    /// The logs of those that this holds of.
    pub fn logs(&self, which: impl Fn(&Held) -> bool) -> Vec<Rc<PartitionLog>> {
        self.held.borrow().values().filter(|held| which(held)).map(|held| held.log().clone()).collect()
    }

    /// A new partition, which the next checkpoint is to name.
    pub fn add(&self, id: PartitionId, held: Held) {
        held.log().touch();
        held.log().follow_changes(&self.changed);
        self.held.borrow_mut().insert(id, held);
    }

    pub fn remove(&self, id: PartitionId) -> Option<Held> {
        self.gone.borrow_mut().push(id);
        self.held.borrow_mut().remove(&id)
    }

    /// Those that may differ from the last checkpoint, in order.
    pub fn changed(&self) -> Vec<PartitionId> {
        self.changed.ids()
    }

    /// Takes those off the list that differ no more.
    pub fn trim_changed(&self) {
        let held = self.held.borrow();
        self.changed.retain(|id| held.get(&id).is_some_and(|held| held.log().is_listed_changed()));
    }

    pub fn take_gone(&self) -> Vec<PartitionId> {
        self.gone.take()
    }

    /// A checkpoint that was to leave them out is not stored.
    pub fn give_back_gone(&self, gone: Vec<PartitionId>) {
        self.gone.borrow_mut().extend(gone);
    }

    /// The logs that the journal holds entries of, those with the oldest entry first.
    pub fn oldest_first(&self) -> Vec<Rc<PartitionLog>> {
        let held = self.held.borrow();
        let listed = self.changed.ids().into_iter().filter_map(|id| held.get(&id)).map(Held::log);
        let mut oldest: Vec<_> =
            listed.filter_map(|log| Some((log.oldest_tail_lsn()?, log.clone()))).collect();
        oldest.sort_by_key(|(lsn, _)| *lsn);
        oldest.into_iter().map(|(_, log)| log).collect()
    }
}
