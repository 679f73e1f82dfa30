//! The records of format 1, as they are in directories of versions before format 2: read once, and made records of today.
//! Frozen: bincode stores them by the order of their variants and fields.
//!
//! ```text
//! frame: payload length u32 │ CRC-32 u32 │ commit u64 │ payload (bincode: a list of records)      integers little-endian
//! ```
//! A frame's CRC covers its length, commit and payload. Header and mark are as in later formats.

use serde::{Deserialize, Serialize};

use super::errors::ApplyError;
use super::frame::{MAX_PAYLOAD, sound_behind};
use super::image::Image;
use super::records::{self, Owner};
use crate::model::{BrokerId, LeaderEpoch, TopicId};
use crate::security::quota::Entity;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The cluster's identity; the first record of all.
    Cluster {
        id: String,
    },
    /// A broker began to serve: the epochs of the partitions that it leads rise by one.
    BrokerStarted {
        broker: BrokerId,
    },
    /// A topic with the replicas of each of its partitions, the leader first.
    Topic {
        id: TopicId,
        name: String,
        replicas: Vec<Vec<BrokerId>>,
    },
    /// Further partitions of a topic.
    Partitions {
        topic: TopicId,
        replicas: Vec<Vec<BrokerId>>,
    },
    TopicDeleted {
        id: TopicId,
    },
    /// Sets a config override, or removes it.
    Config {
        owner: Owner,
        name: String,
        value: Option<String>,
    },
    /// Producer ids below this one are given out.
    ProducerIds {
        next: i64,
    },
    /// Snapshots only: the leader epochs of a topic's partitions.
    LeaderEpochs {
        topic: TopicId,
        epochs: Vec<i32>,
    },
    /// Snapshots only: topics that were deleted and not yet forgotten, oldest first.
    DeletedTopics {
        ids: Vec<TopicId>,
    },
    /// Sets a quota's limit, or removes it.
    Quota {
        entity: Entity,
        key: String,
        /// The bits of a double.
        value: Option<u64>,
    },
}

const FRAME_HEADER: usize = 16;

/// The size of the sound frame of this commit that starts here.
pub(super) fn sound_frame(bytes: &[u8], commit: u64) -> Option<usize> {
    sound_behind(FRAME_HEADER, bytes, commit)
}

/// The records of a sound frame; the error says what is wrong with them.
pub(super) fn decode(frame: &[u8]) -> Result<Vec<Record>, String> {
    let payload = &frame[FRAME_HEADER..];
    let config = bincode::config::standard().with_limit::<MAX_PAYLOAD>();
    match bincode::serde::decode_from_slice::<Vec<Record>, _>(payload, config) {
        Ok((records, used)) if used == payload.len() => Ok(records),
        Ok(_) => Err("a change is longer than its records".into()),
        Err(error) => Err(format!("a change cannot be read: {error}")),
    }
}

impl Record {
    /// Makes the change that it stands for.
    pub fn apply(self, image: &mut Image) -> Result<(), ApplyError> {
        use records::Record as New;
        let new = match self {
            Record::Cluster { id } => New::Cluster { id },
            Record::BrokerStarted { broker } => {
                let led: Vec<_> = image.led_by(broker).collect();
                let elected = led.into_iter().map(|id| New::elected(id.topic, id.index, broker));
                return image.apply_all(elected);
            }
            Record::Topic { id, name, replicas } => {
                let partitions = (0..).zip(&replicas);
                let partitions = partitions.map(|(index, ids)| New::new_partition(id, index, ids));
                return image.apply_all(std::iter::once(New::Topic { id, name }).chain(partitions));
            }
            Record::Partitions { topic, replicas } => {
                let first = image.topic_by_id(topic).map_or(0, |topic| topic.partitions.len() as i32);
                let new = |(index, ids): (i32, &Vec<BrokerId>)| New::new_partition(topic, index, ids);
                return image.apply_all((first..).zip(&replicas).map(new));
            }
            Record::LeaderEpochs { topic, epochs } => {
                let epochs: Vec<_> = epochs.into_iter().map(LeaderEpoch).collect();
                return image.raise_leader_epochs(topic, &epochs);
            }
            Record::TopicDeleted { id } => New::TopicDeleted { id },
            Record::Config { owner, name, value } => New::Config { owner, name, value },
            Record::ProducerIds { next } => New::ProducerIds { next },
            Record::DeletedTopics { ids } => New::DeletedTopics { ids },
            Record::Quota { entity, key, value } => New::Quota { entity, key, value },
        };
        image.apply_all([new])
    }
}
