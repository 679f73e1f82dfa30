//! What decisions about partitions look at.

use std::collections::BTreeSet;

use super::change::{Change, Election};
use crate::controller::index::Index;
use crate::metadata::records::Record;
use crate::metadata::{Image, Topic, cluster_config, min_insync};
use crate::model::{BrokerId, PartitionId};

#[derive(Clone, Copy)]
pub struct View<'a> {
    pub image: &'a Image,
    /// Of the image.
    pub index: &'a Index,
}

/// Who counts otherwise than the image has it, because that is about to change.
#[derive(Clone, Debug, Default)]
pub struct Other {
    /// May not lead.
    pub gone: BTreeSet<BrokerId>,
    /// May lead, though fenced still.
    pub come: Option<BrokerId>,
}

impl View<'_> {
    /// Whether a broker may be made a leader, and be taken for in sync.
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.image.broker(id).is_some_and(|broker| !broker.fenced && !broker.shutting_down)
    }

    fn is_there(&self, id: BrokerId) -> bool {
        self.image.broker(id).is_some_and(|broker| !broker.fenced)
    }

    /// Whether a topic would rather lose records than wait for those who have them.
    pub fn is_unclean(&self, topic: &Topic) -> bool {
        let name = "unclean.leader.election.enable";
        let value = cluster_config(self.image, &topic.overrides, name, name);
        value.is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    /// A change of a partition that may be, begun with nothing that changes. With a clean election, but where the topic has
    /// chosen otherwise.
    pub fn change(&self, id: PartitionId) -> Option<Change<'_>> {
        let topic = self.image.topic_by_id(id.topic)?;
        let partition = topic.partition(id.index)?;
        let mut change = Change::of(id, partition);
        if self.is_unclean(topic) {
            change.election = Election::Unclean;
        }
        Some(change)
    }

    /// The record of a change, if it changes anything.
    pub fn record(&self, change: Change<'_>, other: &Other) -> Option<Record> {
        let topic = self.image.topic_by_id(change.id.topic)?;
        let min_isr = |factor| min_insync(self.image, &topic.overrides, factor);
        let leads =
            |id: BrokerId| !other.gone.contains(&id) && (other.come == Some(id) || self.is_active(id));
        let stays = |id: BrokerId| !other.gone.contains(&id) && (other.come == Some(id) || self.is_there(id));
        change.record(&min_isr, &leads, &stays)
    }
}
