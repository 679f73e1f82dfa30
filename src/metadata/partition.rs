//! One partition as the controller has it: who holds it, who leads it, who is in sync.

use std::fmt;
use std::sync::Arc;

use super::errors::ApplyError;
use super::records::Record;
use crate::model::{BrokerId, LeaderEpoch, PartitionEpoch, PartitionId, TopicId};

/// Replicas that a partition may have: sets of them are bits.
pub const MAX_REPLICAS: usize = 32;
/// So many brokers are kept without memory of their own.
const INLINE: usize = 5;

/// The brokers that hold a partition, the preferred leader first.
#[derive(Clone, PartialEq, Eq)]
enum Replicas {
    Few(u8, [BrokerId; INLINE]),
    Many(Arc<[BrokerId]>),
}

impl Replicas {
    fn of(ids: &[BrokerId]) -> Self {
        let mut few = [0; INLINE];
        match few.get_mut(..ids.len()) {
            Some(place) => {
                place.copy_from_slice(ids);
                Self::Few(ids.len() as u8, few)
            }
            None => Self::Many(ids.into()),
        }
    }

    fn ids(&self) -> &[BrokerId] {
        match self {
            Self::Few(len, ids) => &ids[..usize::from(*len)],
            Self::Many(ids) => ids,
        }
    }
}

/// Invariants: every set is of replicas; a leader is in the ISR unless there is none.
#[derive(Clone, PartialEq, Eq)]
pub struct Partition {
    /// `None` while nobody may lead.
    pub leader: Option<BrokerId>,
    /// Rises with every election, also of the same leader.
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change of what is here.
    pub partition_epoch: PartitionEpoch,
    replicas: Replicas,
    /// Sets of replicas: a bit for each, by its place among them.
    isr: u32,
    elr: u32,
    adding: u32,
    removing: u32,
    /// The place of the replica that led last.
    last_known: u8,
    /// Its leader was elected out of sync and has not looked yet what became of its log.
    pub recovering: bool,
}

/// The place of no replica.
const NOBODY: u8 = u8::MAX;

/// What a record says of a partition in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub replicas: &'a [BrokerId],
    pub isr: &'a [BrokerId],
    pub elr: &'a [BrokerId],
    pub adding: &'a [BrokerId],
    pub removing: &'a [BrokerId],
    pub last_known: Option<BrokerId>,
    pub recovering: bool,
}

/// What one record changes of a partition; `None` leaves as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// A leader was elected, perhaps the same one again, or there is none any more.
    pub leader: Option<Option<BrokerId>>,
    pub replicas: Option<&'a [BrokerId]>,
    pub isr: Option<&'a [BrokerId]>,
    pub elr: Option<&'a [BrokerId]>,
    pub adding: Option<&'a [BrokerId]>,
    pub removing: Option<&'a [BrokerId]>,
    pub last_known: Option<Option<BrokerId>>,
    pub recovering: Option<bool>,
}

impl<'a> Change<'a> {
    /// What a record changes, if it is of a partition.
    pub fn of(record: &'a Record) -> Option<(PartitionId, Self)> {
        let Record::PartitionChanged {
            topic,
            index,
            leader,
            replicas,
            isr,
            elr,
            adding,
            removing,
            last_known,
            recovering,
        } = record
        else {
            return None;
        };
        let change = Self {
            leader: *leader,
            replicas: replicas.as_deref(),
            isr: isr.as_deref(),
            elr: elr.as_deref(),
            adding: adding.as_deref(),
            removing: removing.as_deref(),
            last_known: *last_known,
            recovering: *recovering,
        };
        Some((PartitionId { topic: *topic, index: *index }, change))
    }
}

impl Partition {
    pub fn new(topic: TopicId, parts: &Parts<'_>) -> Result<Self, ApplyError> {
        let has_twice = |(at, id)| parts.replicas[..at].contains(id);
        if parts.replicas.is_empty() {
            return Err(ApplyError::NoReplica(topic));
        }
        if parts.replicas.len() > MAX_REPLICAS || parts.replicas.iter().enumerate().any(has_twice) {
            return Err(ApplyError::BadReplicas(topic));
        }
        let replicas = Replicas::of(parts.replicas);
        let set = |ids: &[BrokerId]| bits(topic, &replicas, ids);
        let partition = Self {
            leader: parts.leader,
            leader_epoch: parts.leader_epoch,
            partition_epoch: parts.partition_epoch,
            isr: set(parts.isr)?,
            elr: set(parts.elr)?,
            adding: set(parts.adding)?,
            removing: set(parts.removing)?,
            last_known: parts.last_known.map_or(Ok(NOBODY), |id| place(topic, &replicas, id))?,
            recovering: parts.recovering,
            replicas,
        };
        match partition.leader {
            Some(leader) if !partition.isr().any(|id| id == leader) => {
                Err(ApplyError::NotAReplica { topic, broker: leader })
            }
            _ => Ok(partition),
        }
    }

    /// As it is after a change: its epoch rises, that of its leader if one was elected.
    pub fn changed(&self, topic: TopicId, change: &Change<'_>) -> Result<Self, ApplyError> {
        let sets =
            [self.isr, self.elr, self.adding, self.removing].map(|set| self.members(set).collect::<Vec<_>>());
        let [isr, elr, adding, removing] = &sets;
        let replicas = change.replicas.unwrap_or(self.replicas());
        // One that holds the partition no more will not lead it again.
        let still = self.last_known().filter(|id| replicas.contains(id));
        Self::new(
            topic,
            &Parts {
                leader: change.leader.unwrap_or(self.leader),
                leader_epoch: if change.leader.is_some() {
                    self.leader_epoch.next()
                } else {
                    self.leader_epoch
                },
                partition_epoch: self.partition_epoch.next(),
                replicas,
                isr: change.isr.unwrap_or(isr),
                elr: change.elr.unwrap_or(elr),
                adding: change.adding.unwrap_or(adding),
                removing: change.removing.unwrap_or(removing),
                last_known: change.last_known.unwrap_or(still),
                recovering: change.recovering.unwrap_or(self.recovering),
            },
        )
    }

    /// The brokers that hold it, the preferred leader first.
    pub fn replicas(&self) -> &[BrokerId] {
        self.replicas.ids()
    }

    pub fn has_replica(&self, broker: BrokerId) -> bool {
        self.replicas().contains(&broker)
    }

    /// The replicas that are in sync, in the order of the replicas.
    pub fn isr(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.members(self.isr)
    }

    /// The replicas out of sync that may lead all the same (KIP-966).
    pub fn elr(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.members(self.elr)
    }

    /// The replicas that a reassignment adds.
    pub fn adding(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.members(self.adding)
    }

    /// The replicas that a reassignment takes away.
    pub fn removing(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.members(self.removing)
    }

    /// Who led last, where nobody may lead.
    pub fn last_known(&self) -> Option<BrokerId> {
        self.replicas().get(usize::from(self.last_known)).copied()
    }

    /// Whether it is being moved to other brokers.
    pub fn is_moving(&self) -> bool {
        self.adding | self.removing != 0
    }

    /// How many are in the ISR.
    pub fn isr_len(&self) -> usize {
        self.isr.count_ones() as usize
    }

    /// Whether a broker is in sync, or may lead all the same.
    pub fn counts(&self, broker: BrokerId) -> bool {
        self.members(self.isr | self.elr).any(|id| id == broker)
    }

    fn members(&self, set: u32) -> impl Iterator<Item = BrokerId> + '_ {
        self.replicas().iter().enumerate().filter(move |(at, _)| set >> at & 1 == 1).map(|(_, id)| *id)
    }
}

fn place(topic: TopicId, replicas: &Replicas, id: BrokerId) -> Result<u8, ApplyError> {
    let at = replicas.ids().iter().position(|replica| *replica == id);
    at.map(|at| at as u8).ok_or(ApplyError::NotAReplica { topic, broker: id })
}

fn bits(topic: TopicId, replicas: &Replicas, ids: &[BrokerId]) -> Result<u32, ApplyError> {
    ids.iter().try_fold(0, |set, id| Ok(set | 1 << place(topic, replicas, *id)?))
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |set| self.members(set).collect::<Vec<_>>();
        f.debug_struct("Partition")
            .field("leader", &self.leader)
            .field("leader_epoch", &self.leader_epoch.0)
            .field("partition_epoch", &self.partition_epoch.0)
            .field("replicas", &self.replicas())
            .field("isr", &set(self.isr))
            .field("elr", &set(self.elr))
            .field("adding", &set(self.adding))
            .field("removing", &set(self.removing))
            .field("last_known", &self.last_known())
            .field("recovering", &self.recovering)
            .finish()
    }
}

/// Partitions that a chunk holds: one that changes copies its chunk.
const CHUNK: usize = 64;

/// A topic's partitions by index, dense from 0. A copy is one pointer; a change copies one chunk and the list of chunks.
#[derive(Clone, Debug, Default)]
pub struct Partitions {
    chunks: Arc<Vec<Arc<Vec<Partition>>>>,
    len: usize,
}

impl Partitions {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, index: usize) -> Option<&Partition> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    pub fn first(&self) -> Option<&Partition> {
        self.get(0)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    pub(super) fn push(&mut self, partition: Partition) {
        let chunks = Arc::make_mut(&mut self.chunks);
        match chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => Arc::make_mut(chunk).push(partition),
            None => chunks.push(Arc::new(vec![partition])),
        }
        self.len += 1;
    }

    pub(super) fn set(&mut self, index: usize, partition: Partition) {
        let chunks = Arc::make_mut(&mut self.chunks);
        Arc::make_mut(&mut chunks[index / CHUNK])[index % CHUNK] = partition;
    }
}

impl std::ops::Index<usize> for Partitions {
    type Output = Partition;

    fn index(&self, index: usize) -> &Partition {
        self.get(index).expect("a partition of this index")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId([1; 16]);

    fn parts<'a>(replicas: &'a [BrokerId], isr: &'a [BrokerId]) -> Parts<'a> {
        Parts { leader: isr.first().copied(), replicas, isr, ..Parts::default() }
    }

    #[test]
    fn sets_are_of_replicas_in_their_order() {
        let all: Vec<BrokerId> = (0..MAX_REPLICAS as i32).map(|n| 1000 - n).collect();
        for count in [1, 2, INLINE, INLINE + 1, MAX_REPLICAS] {
            let partition = Partition::new(TOPIC, &parts(&all[..count], &all[..count])).unwrap();
            assert!(
                partition.replicas() == &all[..count] && partition.isr().eq(all[..count].iter().copied())
            );
        }
        let partition = Partition::new(TOPIC, &parts(&[3, 1, 2], &[2, 1])).unwrap();
        assert_eq!((partition.leader, partition.isr().collect::<Vec<_>>()), (Some(2), vec![1, 2]));
        assert!(size_of::<Partition>() <= 64, "{}", size_of::<Partition>());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let many: Vec<BrokerId> = (0..=MAX_REPLICAS as i32).collect();
        for (replicas, isr) in [(&[][..], &[][..]), (&[1, 1], &[1]), (&[1, 2], &[3]), (&many, &[1])] {
            assert!(Partition::new(TOPIC, &parts(replicas, isr)).is_err(), "{replicas:?} {isr:?}");
        }
        let deposed = Parts { leader: Some(2), replicas: &[1, 2], isr: &[1], ..Parts::default() };
        assert!(Partition::new(TOPIC, &deposed).is_err(), "a leader that is not in sync");
    }

    #[test]
    fn an_election_raises_both_epochs_and_a_shrink_only_one() {
        let partition = Partition::new(TOPIC, &parts(&[1, 2, 3], &[1, 2, 3])).unwrap();
        let shrunk = partition.changed(TOPIC, &Change { isr: Some(&[1, 2]), ..Change::default() }).unwrap();
        assert_eq!((shrunk.leader_epoch, shrunk.partition_epoch), (LeaderEpoch(0), PartitionEpoch(1)));
        let again = shrunk.changed(TOPIC, &Change { leader: Some(Some(1)), ..Change::default() }).unwrap();
        assert_eq!((again.leader, again.leader_epoch.0, again.partition_epoch.0), (Some(1), 1, 2));
        let moved =
            Change { replicas: Some(&[4, 2]), isr: Some(&[2]), leader: Some(Some(2)), ..Change::default() };
        let moved = again.changed(TOPIC, &moved).unwrap();
        assert_eq!((moved.replicas(), moved.leader, moved.leader_epoch.0), (&[4, 2][..], Some(2), 2));
        let none = Change { leader: Some(None), isr: Some(&[]), elr: Some(&[2]), ..Change::default() };
        let none = moved.changed(TOPIC, &none).unwrap();
        assert_eq!((none.leader, none.elr().collect::<Vec<_>>()), (None, vec![2]));
        assert!(moved.changed(TOPIC, &Change { isr: Some(&[9]), ..Change::default() }).is_err());
    }

    #[test]
    fn partitions_share_what_did_not_change() {
        let mut partitions = Partitions::default();
        let one = Partition::new(TOPIC, &parts(&[1], &[1])).unwrap();
        (0..200).for_each(|_| partitions.push(one.clone()));
        let before = partitions.clone();
        partitions.set(70, Partition { leader_epoch: LeaderEpoch(9), ..one });
        assert_eq!((before[70].leader_epoch.0, partitions[70].leader_epoch.0), (0, 9));
        assert!(Arc::ptr_eq(&before.chunks[0], &partitions.chunks[0]));
        assert!(!Arc::ptr_eq(&before.chunks[1], &partitions.chunks[1]));
        assert_eq!((partitions.len(), partitions.iter().count()), (200, 200));
        assert!(partitions.get(200).is_none());
    }
}
