//! A cluster that has lost the majority of its voters for good: one survivor goes on alone, and the others follow it. Works on the
//! directories of nodes that are stopped, by an operator's word only: it is the one thing that may undo what was committed.
//!
//! ```text
//! go alone   all that the log has counts, and becomes a snapshot with this node as the only voter │ a recovery is drawn
//! follow     the log goes, the node waits to be given the metadata as one that joins does         │ the recovery is taken over
//! ```
//! Members of different recoveries do not speak with each other ([`super::quorum::Recovery`]): a survivor that was told nothing
//! neither votes for, nor takes from, nor gives to one that went on. What they had is kept elsewhere first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::committed::{known_committed, load};
use super::errors::{ApplyError, MetadataError};
use super::files::{io_error, number_of};
use super::image::{Image, Topic};
use super::log::{Content, Inspected, MetadataLog, What};
use super::node::Node;
use super::quorum::{Membership, QuorumState, Recovery, Vote, Voter};
use super::records::Record;
use crate::model::{BrokerId, LeaderEpoch, PartitionId};
use crate::rt::fs;

// What others had committed behind the survivor's log is not known. So that nothing is given out twice that they gave out:
const OFFSETS: u64 = 1 << 20;
const LEADER_EPOCHS: i32 = 1 << 10;
const PRODUCER_IDS: i64 = 1_000_000;

/// Says that what no topic of the metadata has is to be set aside, and no sign of metadata that is lost.
const FOLLOWED: &str = "followed";

/// What a stopped node has of the metadata.
#[derive(Clone, Debug)]
pub struct Survivor {
    pub me: Voter,
    pub cluster: String,
    pub recovery: Recovery,
    /// Of the last entry.
    pub epoch: i32,
    pub offset: u64,
    /// Up to here it is known to be committed.
    pub committed: u64,
    pub membership: Membership,
}

/// What a node that goes on alone starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub epoch: i32,
    pub offset: u64,
}

impl Survivor {
    /// Reads what there is in a metadata directory; `None` where no cluster's metadata ever was. `given` is the node's id where
    /// nothing in the directory says it.
    pub fn of(dir: &Path, given: Option<BrokerId>) -> Result<Option<Self>, MetadataError> {
        let Some(state) = QuorumState::open(dir)? else { return Ok(None) };
        let node = Node::read(dir)?;
        let mut found = Self {
            me: Voter { node: 0, directory: state.directory() },
            cluster: node.as_ref().map_or_else(String::new, |node| node.cluster.clone()),
            recovery: state.recovery(),
            epoch: 0,
            offset: 0,
            committed: 0,
            membership: Membership::default(),
        };
        if let Some(log) = MetadataLog::inspect(dir)? {
            found.read(log)?;
        }
        let is_me = |directory: &[u8; 16]| *directory == state.directory();
        let member = found.membership.members.iter().find(|member| is_me(&member.voter.directory));
        let id = node.map(|node| node.id).or(member.map(|member| member.voter.node)).or(given);
        found.me.node = id.unwrap_or(1);
        Ok(Some(found))
    }

    fn read(&mut self, Inspected { path, content, committed, .. }: Inspected) -> Result<(), MetadataError> {
        let Content::Now { snapshot, entries } = content else { return Ok(()) };
        let entries: Vec<_> = entries.into_iter().map(|(entry, _)| entry).collect();
        let last = entries.last().map_or((snapshot.offset, snapshot.epoch), |last| (last.offset, last.epoch));
        (self.offset, self.epoch) = last;
        self.committed = known_committed(&snapshot, &entries, committed);
        self.membership = snapshot.membership.clone();
        for entry in &entries {
            if let What::Membership(membership) = &entry.what {
                self.membership = membership.clone();
            }
        }
        let image = load(&path, snapshot, &entries, last.0)?.image;
        if !image.cluster_id.is_empty() {
            self.cluster = image.cluster_id.to_string();
        }
        Ok(())
    }

    /// Whether it decides by itself already.
    pub fn is_only_voter(&self) -> bool {
        matches!(&self.membership.voters[..], [one] if one[..] == [self.me])
    }

    /// It has nothing but who it is: it waits to be given the metadata.
    pub fn is_blank(&self) -> bool {
        self.offset == 0
    }
}

/// Has a node agree with itself from now on, on all that its log has, committed or not. What is in `dir` was kept elsewhere.
pub fn go_alone(dir: &Path, survivor: &Survivor, recovery: Recovery) -> Result<Recovered, MetadataError> {
    let (Some(mut state), Some(log)) = (QuorumState::open(dir)?, MetadataLog::inspect(dir)?) else {
        return Err(damaged(dir, "there is no metadata"));
    };
    let Content::Now { snapshot, entries } = log.content else {
        return Err(damaged(&log.path, "it is of one broker, and of format 1"));
    };
    let entries: Vec<_> = entries.into_iter().map(|(entry, _)| entry).collect();
    let mut committed = load(&log.path, snapshot, &entries, survivor.offset)?;
    let me = survivor.me;
    let recovered =
        Recovered { epoch: state.vote().epoch.max(survivor.epoch) + 1, offset: survivor.offset + OFFSETS };
    committed.image = left_with(&committed.image, me.node).map_err(|e| damaged(&log.path, &e.to_string()))?;
    committed.set_membership(recovered.offset, recovered.epoch, Membership::of_one(me));
    // First it parts with the others: cut short behind this, it is of no quorum, and the command is repeated.
    state.follow(recovery, Vote { epoch: recovered.epoch, voted: Some(me) })?;
    MetadataLog::create(dir, &committed.snapshot())?;
    fs::remove_file(&log.path).map_err(io_error("remove", &log.path))?;
    fs::sync_dir(dir).map_err(io_error("sync", dir))?;
    Ok(recovered)
}

/// As it is where nobody but one broker is sure to be there: it leads what it is in sync with. Nothing that is counted up is at a number
/// that the others may have reached.
fn left_with(image: &Image, me: BrokerId) -> Result<Image, ApplyError> {
    let mut raised = image.clone();
    // A large change that was under way has lost who would end it.
    if raised.is_bracketed() {
        raised.apply(&[Record::Large { part: super::records::Bracket::Abort }])?;
    }
    raised.apply(&[Record::ProducerIds { next: image.next_producer_id.saturating_add(PRODUCER_IDS) }])?;
    let alone = |topic: &Arc<Topic>| {
        let all = topic.partition_ids().zip(topic.partitions.iter());
        let mine = all.filter(|(_, partition)| partition.isr().any(|id| id == me));
        mine.map(|(id, _)| only_in_sync(id, me)).collect::<Vec<_>>()
    };
    let records: Vec<Record> = image.topics().flat_map(alone).collect();
    raised.apply(&records)?;
    for topic in image.topics() {
        let higher = |p: &super::Partition| LeaderEpoch(p.leader_epoch.0.saturating_add(LEADER_EPOCHS));
        let epochs: Vec<LeaderEpoch> = topic.partitions.iter().map(higher).collect();
        raised.raise_leader_epochs(topic.id, &epochs)?;
    }
    Ok(raised)
}

/// A broker leads a partition, and is alone in sync: had others to be heard of first, it would leave them the partition.
fn only_in_sync(id: PartitionId, broker: BrokerId) -> Record {
    Record::PartitionChanged {
        topic: id.topic,
        index: id.index,
        leader: Some(Some(broker)),
        replicas: None,
        isr: Some(vec![broker]),
        elr: Some(Vec::new()),
        adding: None,
        removing: None,
        last_known: None,
        recovering: None,
    }
}

/// Has a node take the metadata from the quorum that another survivor went on with. What is in `dir` was kept elsewhere.
pub fn follow(dir: &Path, survivor: &Survivor, recovery: Recovery) -> Result<(), MetadataError> {
    let Some(mut state) = QuorumState::open(dir)? else { return Err(damaged(dir, "there is no metadata")) };
    Node { id: survivor.me.node, cluster: survivor.cluster.clone() }.write(dir)?;
    let mark = dir.join(FOLLOWED);
    fs::write_atomic(&mark, b"").map_err(io_error("write", &mark))?;
    // The log goes before the node follows: it never speaks for entries that the others do not have.
    for name in fs::read_dir_names(dir).map_err(io_error("list", dir))? {
        if number_of(&name).is_some() {
            let path = dir.join(name);
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    fs::sync_dir(dir).map_err(io_error("sync", dir))?;
    state.follow(recovery, Vote::default())
}

/// Copies all that is in a metadata directory, durably; to where.
pub fn keep(dir: &Path, aside: &Path, now_ms: i64) -> Result<PathBuf, MetadataError> {
    let to = aside.join(format!("meta-{now_ms}"));
    fs::create_dir_all_durable(&to).map_err(io_error("create", &to))?;
    for name in fs::read_dir_names(dir).map_err(io_error("list", dir))? {
        let from = dir.join(&name);
        let bytes = fs::read_all(&from).map_err(io_error("read", &from))?;
        let copy = to.join(name);
        fs::write_atomic(&copy, &bytes).map_err(io_error("write", &copy))?;
    }
    Ok(to)
}

/// Whether this node has followed a recovery, and may have what the metadata does not know.
pub fn has_followed(dir: &Path) -> bool {
    fs::exists(dir.join(FOLLOWED))
}

/// All that no topic has was set aside.
pub fn settled(dir: &Path) -> Result<(), MetadataError> {
    let mark = dir.join(FOLLOWED);
    fs::unlink(&mark).map_err(io_error("remove", &mark))
}

fn damaged(path: &Path, what: &str) -> MetadataError {
    MetadataError::Corrupt { path: path.to_path_buf(), offset: 0, what: what.into() }
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
