//! Which topics there were.

use crate::model::TopicId;
use crate::model::map::Map;

/// Deleted topics that are remembered. With so many, what a journal still holds of a topic that is not known may be of
/// one deleted before them: recovery then sets it aside, and does not take the metadata for another's.
const MAX_DELETED: usize = 10_000;

/// Ids of deleted topics, the oldest forgotten first.
#[derive(Clone, Debug, Default)]
pub(super) struct Deleted {
    order: Map<u64, TopicId>,
    ids: Map<TopicId, ()>,
    next: u64,
}

impl Deleted {
    pub(super) fn contains(&self, id: TopicId) -> bool {
        self.ids.contains_key(&id)
    }

    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= MAX_DELETED
    }

    pub(super) fn remember(&mut self, id: TopicId) {
        if self.ids.insert(id, ()).is_some() {
            return;
        }
        self.order.insert(self.next, id);
        self.next += 1;
        if self.order.len() > MAX_DELETED
            && let Some((first, oldest)) = self.order.iter().next().map(|(first, id)| (*first, *id))
        {
            self.order.remove(&first);
            self.ids.remove(&oldest);
        }
    }

    pub(super) fn oldest_first(&self) -> Vec<TopicId> {
        self.order.values().copied().collect()
    }
}
