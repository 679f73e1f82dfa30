//! What a group is asked about offsets: who may commit, what is told, what goes.

use super::codec::{self, StoredOffset};
use super::kept::Offsets;
use super::state::{Group, Phase};
use super::types::{
    Commit, CommitPartition, Fetch, FetchedOffset, FetchedTopic, GroupError, Member, Name, Reply,
};
use super::{Cx, Groups};
use crate::coordinator::{Effects, Ms, Record, Token};
use crate::model::{Producer, TopicId};

/// Whether a commit may come from who sent it.
pub fn check_commit(group: &Group, from: &Member, transactional: bool) -> Result<(), GroupError> {
    // Administration, and consumers that assign themselves, commit only while nobody else could.
    if from.generation < 0 && group.phase == Phase::Empty {
        return Ok(());
    }
    if from.generation >= 0 || !from.member.is_empty() || from.instance.is_some() {
        group.check_member(&from.member, from.instance.as_ref())?;
        if from.generation != group.generation {
            return Err(GroupError::IllegalGeneration);
        }
    } else if !transactional && group.phase != Phase::Empty {
        return Err(GroupError::UnknownMember);
    }
    // The member knows of the generation, but not yet of its assignment.
    if !transactional && group.phase == Phase::Completing {
        return Err(GroupError::RebalanceInProgress);
    }
    Ok(())
}

/// Java's length of a string.
fn utf16_len(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Takes a commit; of a producer's transaction, if there is one.
pub fn commit(group: &mut Group, token: Token, commit: &Commit, producer: Option<Producer>, cx: &mut Cx<'_>) {
    if let Err(why) = check_commit(group, &commit.from, producer.is_some()) {
        return cx.fx.reply_settled(token, Reply::Commit(Err(why)));
    }
    cx.fx.producer = producer;
    if producer.is_none() && matches!(group.phase, Phase::Stable | Phase::Preparing) {
        super::rebalance::touch_session(group, &commit.from.member, cx);
    }
    let expires_at = (commit.retention_ms >= 0).then(|| cx.fx.wall.saturating_add(commit.retention_ms));
    let mut results = Vec::with_capacity(commit.topics.len());
    for topic in &commit.topics {
        let one = |partition: &CommitPartition| {
            if utf16_len(&partition.metadata) > cx.settings.offset_metadata_max {
                return Err(GroupError::MetadataTooLarge);
            }
            let mut offset = stored(partition, topic.id, cx.fx.wall, expires_at);
            let record = codec::offset_record(&group.id, &topic.name, partition.index, &offset);
            offset.record_offset = cx.fx.write(record);
            match producer {
                Some(p) => group.offsets.commit_pending(p.id, &topic.name, partition.index, offset),
                None => group.offsets.commit(&topic.name, partition.index, offset),
            }
            Ok(())
        };
        results.push(topic.partitions.iter().map(one).collect());
    }
    cx.fx.reply_settled(token, Reply::Commit(Ok(results)));
}

/// A commit as it is stored; where its record lies is filled in when it is written.
pub fn stored(
    partition: &CommitPartition,
    topic_id: TopicId,
    wall: Ms,
    expires_at: Option<Ms>,
) -> StoredOffset {
    StoredOffset {
        offset: partition.offset,
        // The version that knows an expiry knows no epoch: what is kept in memory is what a restart would find.
        leader_epoch: if expires_at.is_some() { -1 } else { partition.leader_epoch },
        metadata: partition.metadata.clone(),
        committed_at: wall,
        expires_at,
        topic_id: if expires_at.is_some() { TopicId::ZERO } else { topic_id },
        record_offset: -1,
    }
}

/// What a group has committed. A group that is not there has committed nothing.
pub fn fetch(group: Option<&Group>, fetch: &Fetch) -> Vec<FetchedTopic> {
    match (&fetch.topics, group) {
        (None, None) => Vec::new(),
        (None, Some(group)) => {
            let all = group.offsets.committed.iter().map(|(name, partitions)| {
                let fetched =
                    partitions.keys().map(|i| (*i, fetch_one(Some(group), name, TopicId::ZERO, *i, fetch)));
                let id = partitions.values().map(|offset| offset.topic_id).find(|id| !id.is_zero());
                FetchedTopic { name: name.clone(), id: id.unwrap_or_default(), partitions: fetched.collect() }
            });
            all.collect()
        }
        (Some(topics), group) => {
            let asked = topics.iter().map(|(name, id, partitions)| FetchedTopic {
                name: name.clone(),
                id: *id,
                partitions: partitions.iter().map(|i| (*i, fetch_one(group, name, *id, *i, fetch))).collect(),
            });
            asked.collect()
        }
    }
}

fn fetch_one(
    group: Option<&Group>,
    topic: &str,
    id: TopicId,
    partition: i32,
    fetch: &Fetch,
) -> Result<Option<FetchedOffset>, GroupError> {
    let Some(group) = group else { return Ok(None) };
    if fetch.require_stable && group.offsets.is_pending(topic, partition) {
        return Err(GroupError::UnstableOffset);
    }
    let found = group.offsets.get(topic, partition).filter(|offset| {
        // An offset of a topic that was deleted since says nothing of its successor.
        id.is_zero() || offset.topic_id.is_zero() || offset.topic_id == id
    });
    Ok(found.map(|offset| FetchedOffset {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
    }))
}

pub fn delete(group: &mut Group, topics: &[(Name, Vec<i32>)], fx: &mut Effects<Groups>) -> Reply {
    if group.phase != Phase::Empty && !group.is_consumer() {
        return Reply::DeleteOffsets(Err(GroupError::NonEmpty));
    }
    let mut results = Vec::with_capacity(topics.len());
    for (topic, partitions) in topics {
        if group.reads(topic) {
            results.push(vec![Err(GroupError::SubscribedToTopic); partitions.len()]);
            continue;
        }
        for partition in partitions {
            if group.offsets.get(topic, *partition).is_some() || group.offsets.is_pending(topic, *partition) {
                fx.write(codec::offset_tombstone(&group.id, topic, *partition));
                group.offsets.remove(topic, *partition);
            }
        }
        results.push(vec![Ok(()); partitions.len()]);
    }
    Reply::DeleteOffsets(Ok(results))
}

/// Tombstones for all that the group has, which it then has no more.
pub fn delete_all(group: &mut Group) -> Vec<Record> {
    let partitions = group.offsets.partitions();
    group.offsets = Offsets::default();
    partitions.iter().map(|(topic, i)| codec::offset_tombstone(&group.id, topic, *i)).collect()
}

/// Forgets the offsets of topics that are gone.
pub fn delete_topics(group: &mut Group, names: &[String]) -> Vec<Record> {
    let gone =
        group.offsets.partitions().into_iter().filter(|(topic, _)| names.iter().any(|n| **n == **topic));
    let gone: Vec<_> = gone.collect();
    for (topic, partition) in &gone {
        group.offsets.remove(topic, *partition);
    }
    gone.iter().map(|(topic, i)| codec::offset_tombstone(&group.id, topic, *i)).collect()
}

/// Forgets offsets whose time is over.
pub fn expire(group: &mut Group, wall: Ms, retention: Ms) -> Vec<Record> {
    // Since when an offset has been of no use to anybody; not known while members come and go.
    let since = |group: &Group, offset: &StoredOffset| match (&group.protocol_type, group.phase) {
        (None, _) => Some(offset.committed_at),
        (Some(_), Phase::Empty) => Some(group.since.unwrap_or(offset.committed_at)),
        (Some(_), Phase::Stable) if group.is_consumer() && group.topics.is_some() => {
            Some(offset.committed_at)
        }
        _ => None,
    };
    let is_expired = |topic: &Name, partition: i32, offset: &StoredOffset| {
        let Some(since) = since(group, offset) else { return false };
        let over = match offset.expires_at {
            Some(at) => wall >= at,
            None => wall.saturating_sub(since) >= retention,
        };
        over && !group.reads(topic) && !group.offsets.is_pending(topic, partition)
    };
    let mut expired = Vec::new();
    for (topic, partitions) in &group.offsets.committed {
        let over = partitions.iter().filter(|(i, offset)| is_expired(topic, **i, offset));
        expired.extend(over.map(|(i, _)| (topic.clone(), *i)));
    }
    for (topic, partition) in &expired {
        group.offsets.remove_committed(topic, *partition);
    }
    expired.iter().map(|(topic, i)| codec::offset_tombstone(&group.id, topic, *i)).collect()
}
