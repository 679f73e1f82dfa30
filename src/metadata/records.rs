//! The records that metadata is made of.
//!
//! They are stored, each as `kind │ version │ length │ fields` (varints, then bytes). A kind keeps its number and the meaning
//! of its fields; it gains fields at its end, each with the version from which on it is there, and older records are read with
//! its default. What a build does not know was written by a newer one, and is refused: what a node cannot apply it must not
//! pass over.

use super::codec::{Field, Malformed, Reader, fields};
pub use super::owner::Owner;
use crate::model::{BrokerId, TopicId};
use crate::security::quota::Entity;

/// Where one listener of a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub listener: String,
    pub host: String,
    pub port: u16,
    /// Kafka's number of the security protocol; 0 is plain text.
    pub security: i16,
}
fields!(Endpoint { listener, host, port, security });

/// The levels of a feature that a broker can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureRange {
    pub name: String,
    pub min: i16,
    pub max: i16,
}
fields!(FeatureRange { name, min, max });

/// Where one change that is spread over commits begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bracket {
    Begin,
    End,
    /// The rest will not come: whoever wrote the beginning has lost its office.
    Abort,
}

impl Field for Bracket {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.bytes(1)?[0] {
            0 => Ok(Self::Begin),
            1 => Ok(Self::End),
            2 => Ok(Self::Abort),
            _ => Err(Malformed),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a record is malformed")]
    Malformed,
    #[error("a record of kind {kind}, version {version}, which only a newer version of Weir knows")]
    Newer { kind: u64, version: u64 },
}

impl From<Malformed> for RecordError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Makes an enum of records: `Name = kind, newest version { field: type, … }`, a field behind `[n]` being there from
/// version n on.
macro_rules! records {
    ($(#[$outer:meta])* $enum:ident {
        $( $(#[$doc:meta])* $name:ident = $kind:literal, $version:literal {
            $( $(#[$field_doc:meta])* $([$since:literal])? $field:ident: $ty:ty, )*
        } )*
    }) => {
        $(#[$outer])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $enum {
            $( $(#[$doc])* $name { $( $(#[$field_doc])* $field: $ty, )* }, )*
        }

        impl $enum {
            pub fn encode(&self, out: &mut Vec<u8>) {
                let mut body = Vec::new();
                let (kind, version): (u64, u64) = match self {
                    $( $enum::$name { $($field),* } => {
                        $( $field.put(&mut body); )*
                        ($kind, $version)
                    } )*
                };
                kind.put(out);
                version.put(out);
                (body.len() as u64).put(out);
                out.extend_from_slice(&body);
            }

            /// The next record of these bytes.
            #[allow(clippy::absurd_extreme_comparisons, reason = "the newest version may be 0")]
            pub fn decode(from: &mut Reader<'_>) -> Result<Self, RecordError> {
                let (kind, version) = (u64::take(from)?, u64::take(from)?);
                let len = usize::try_from(u64::take(from)?).map_err(|_| Malformed)?;
                let mut body = Reader(from.bytes(len)?);
                let record = match kind {
                    $( $kind if version <= $version => $enum::$name {
                        $( $field: records!(@take body version $([$since])? $ty), )*
                    }, )*
                    _ => return Err(RecordError::Newer { kind, version }),
                };
                if body.is_empty() { Ok(record) } else { Err(RecordError::Malformed) }
            }
        }
    };
    (@take $body:ident $version:ident [$since:literal] $ty:ty) => {
        if $version >= $since { <$ty as Field>::take(&mut $body)? } else { <$ty>::default() }
    };
    (@take $body:ident $version:ident $ty:ty) => { <$ty as Field>::take(&mut $body)? };
}

records! {
    Record {
        /// The cluster's identity; the first record of all.
        Cluster = 1, 0 {
            id: String,
        }
        /// The level at which a feature runs, everywhere.
        FeatureLevel = 2, 0 {
            name: String,
            level: i16,
        }
        /// A broker began to serve, fenced at first. What it leads it does not lead until it is elected again.
        BrokerRegistered = 3, 0 {
            id: BrokerId,
            /// Drawn by each process: tells this life of the broker from earlier ones.
            incarnation: [u8; 16],
            /// The offset of the commit that this record is in.
            epoch: u64,
            /// Of the directory that holds its metadata.
            directory: [u8; 16],
            endpoints: Vec<Endpoint>,
            rack: Option<String>,
            shards: u32,
            features: Vec<FeatureRange>,
            build: String,
        }
        /// Of a registration that is the broker's last; what is `None` stays as it is.
        BrokerChanged = 4, 0 {
            id: BrokerId,
            epoch: u64,
            fenced: Option<bool>,
            draining: Option<bool>,
            shutting_down: Option<bool>,
        }
        BrokerUnregistered = 5, 0 {
            id: BrokerId,
            epoch: u64,
        }
        /// A topic without partitions; they follow.
        Topic = 6, 0 {
            id: TopicId,
            name: String,
        }
        /// A new partition, of the index after its topic's last, in full.
        Partition = 7, 1 {
            topic: TopicId,
            index: i32,
            leader: Option<BrokerId>,
            leader_epoch: i32,
            partition_epoch: i32,
            /// The preferred leader first.
            replicas: Vec<BrokerId>,
            isr: Vec<BrokerId>,
            elr: Vec<BrokerId>,
            adding: Vec<BrokerId>,
            removing: Vec<BrokerId>,
            /// Who led last, where nobody may lead.
            [1] last_known: Option<BrokerId>,
            /// Its leader was elected out of sync and has not looked yet what became of its log.
            [1] recovering: bool,
        }
        /// What is `None` stays as it is. Raises the partition's epoch, and with a leader, also the same one, the leader's.
        PartitionChanged = 8, 1 {
            topic: TopicId,
            index: i32,
            leader: Option<Option<BrokerId>>,
            replicas: Option<Vec<BrokerId>>,
            isr: Option<Vec<BrokerId>>,
            elr: Option<Vec<BrokerId>>,
            adding: Option<Vec<BrokerId>>,
            removing: Option<Vec<BrokerId>>,
            [1] last_known: Option<Option<BrokerId>>,
            [1] recovering: Option<bool>,
        }
        TopicDeleted = 9, 0 {
            id: TopicId,
        }
        /// Snapshots only: topics that were deleted and not yet forgotten, oldest first.
        DeletedTopics = 10, 0 {
            ids: Vec<TopicId>,
        }
        /// Sets a config override, or removes it.
        Config = 11, 0 {
            owner: Owner,
            name: String,
            value: Option<String>,
        }
        /// Sets a quota's limit, or removes it.
        Quota = 12, 0 {
            entity: Entity,
            key: String,
            /// The bits of a double.
            value: Option<u64>,
        }
        /// Producer ids below this one are given out.
        ProducerIds = 13, 0 {
            next: i64,
        }
        /// Whether a topic has as many replicas as the cluster has by default, also when there are more brokers later.
        TopicRf = 14, 0 {
            topic: TopicId,
            auto: bool,
        }
        /// What eligible leaders outside of the ISR rested on has changed: there are none any more.
        ClearElr = 15, 0 {
            /// `None` for all topics.
            topic: Option<TopicId>,
            /// Only where the partition has a leader. Where it has none nothing was committed since, and they stay eligible.
            led: bool,
        }
        /// A change of many records is applied at its end, whatever number of commits it takes: what is between the begin and
        /// the end is applied at the end, or never.
        Large = 16, 0 {
            part: Bracket,
        }
        /// Whether an operator chooses who votes on the metadata, or the controller does.
        VotersByHand = 17, 0 {
            is: bool,
        }
    }
}

impl Record {
    /// A new partition that its first replica leads, all of them in sync.
    pub fn new_partition(topic: TopicId, index: i32, replicas: &[BrokerId]) -> Self {
        Record::Partition {
            topic,
            index,
            leader: replicas.first().copied(),
            leader_epoch: 0,
            partition_epoch: 0,
            replicas: replicas.to_vec(),
            isr: replicas.to_vec(),
            elr: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            last_known: None,
            recovering: false,
        }
    }

    /// A leader is elected; nothing else changes.
    pub fn elected(topic: TopicId, index: i32, leader: BrokerId) -> Self {
        Record::PartitionChanged {
            topic,
            index,
            leader: Some(Some(leader)),
            replicas: None,
            isr: None,
            elr: None,
            adding: None,
            removing: None,
            last_known: None,
            recovering: None,
        }
    }

    /// Every record of these bytes.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, RecordError> {
        let mut reader = Reader(bytes);
        let mut records = Vec::new();
        while !reader.is_empty() {
            records.push(Self::decode(&mut reader)?);
        }
        Ok(records)
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
pub mod tests;
