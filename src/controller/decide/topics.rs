//! Creating, deleting and growing topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::placement::{check_live, check_replicas, factor, new_partition, place};
use super::{NewId, Occupied};
use crate::controller::request::{ControlError, ControlErrorKind as Kind, NewPartitions, NewTopic, TopicRef};
use crate::controller::rules::Rules;
use crate::metadata::image::{Image, Topic};
use crate::metadata::names::{check_topic_name, collision_key};
use crate::metadata::records::{Owner, Record};
use crate::model::internal::CLUSTER_METADATA;
use crate::model::limits::{MAX_PARTITIONS_PER_REQUEST, MAX_PARTITIONS_PER_TOPIC};
use crate::model::{BrokerId, BrokerSettings, TopicId};

type Results<T> = Vec<Result<T, ControlError>>;
type Replicas = Vec<Vec<BrokerId>>;

fn refuse<T>(kind: Kind, message: impl Into<String>) -> Result<T, ControlError> {
    Err(ControlError::new(kind, message))
}

pub fn create(
    image: &Image,
    (settings, rules): (&BrokerSettings, &Rules),
    topics: &[NewTopic],
    new_id: &mut NewId<'_>,
    occupied: &Occupied<'_>,
) -> (Vec<Record>, Results<TopicId>) {
    let repeated = repeated(topics.iter().map(|topic| topic.name.as_str()));
    let mut collisions = existing_keys(image, topics);
    let mut budget = MAX_PARTITIONS_PER_REQUEST;
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics {
        let id = new_id();
        let checked = if repeated.contains(topic.name.as_str()) {
            refuse(Kind::InvalidRequest, "Duplicate topic name.")
        } else {
            check_name(image, &collisions, &topic.name)
                .and_then(|()| check_configs(topic))
                .and_then(|()| placement(image, (settings, rules), topic, id, budget))
                .and_then(|replicas| free(&topic.name, 0, replicas, occupied))
        };
        let replicas = match checked {
            Ok(replicas) => replicas,
            Err(error) => {
                results.push(Err(error));
                continue;
            }
        };
        budget -= replicas.len();
        collisions.insert(collision_key(&topic.name), topic.name.clone());
        records.push(Record::Topic { id, name: topic.name.clone() });
        records.extend((0..).zip(replicas).map(|(index, ids)| new_partition(image, id, index, ids)));
        records.extend(topic.configs.iter().map(|(name, value)| Record::Config {
            owner: Owner::Topic(id),
            name: name.clone(),
            value: value.clone(),
        }));
        let auto = topic.replication_factor == -1 && topic.assignments.is_empty();
        records.extend(auto.then_some(Record::TopicRf { topic: id, auto }));
        results.push(Ok(id));
    }
    (records, results)
}

/// Names that are given more than once.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

/// The collision keys of the topics there are, where a new name could collide at all.
fn existing_keys(image: &Image, new: &[NewTopic]) -> BTreeMap<String, String> {
    if !new.iter().any(|topic| topic.name.contains(['.', '_'])) {
        return BTreeMap::new();
    }
    let named = image.topics().filter(|topic| topic.name.contains(['.', '_']));
    named.map(|topic| (collision_key(&topic.name), topic.name.to_string())).collect()
}

fn check_name(image: &Image, keys: &BTreeMap<String, String>, name: &str) -> Result<(), ControlError> {
    if let Err(message) = check_topic_name(name) {
        return refuse(Kind::InvalidTopic, message);
    }
    if name == CLUSTER_METADATA {
        return refuse(Kind::InvalidRequest, format!("Creation of internal topic {name} is prohibited."));
    }
    if image.topic(name).is_some() {
        return refuse(Kind::TopicExists, format!("Topic '{name}' already exists."));
    }
    match keys.get(&collision_key(name)) {
        Some(other) => {
            refuse(Kind::InvalidTopic, format!("Topic '{name}' collides with existing topic: {other}"))
        }
        None => Ok(()),
    }
}

/// The replicas of new partitions from `first` on, if nothing is where their files would go.
fn free(name: &str, first: usize, new: Replicas, occupied: &Occupied<'_>) -> Result<Replicas, ControlError> {
    let taken = (first..first + new.len()).find(|index| occupied(name, *index as i32));
    match taken {
        None => Ok(new),
        Some(index) => refuse(
            Kind::Occupied,
            format!(
                "The directory {name}-{index} has files that belong to no topic, and they are not to be lost: \
                 `weir log verify` tells what they are."
            ),
        ),
    }
}

fn check_configs(topic: &NewTopic) -> Result<(), ControlError> {
    let nulls: Vec<_> =
        topic.configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if !nulls.is_empty() {
        return refuse(
            Kind::InvalidConfig,
            format!("Null value not supported for topic configs: {}", nulls.join(",")),
        );
    }
    let values =
        topic.configs.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()));
    super::configs::check_topic_configs(values)
}

/// The replicas of each partition of a new topic.
fn placement(
    image: &Image,
    (settings, rules): (&BrokerSettings, &Rules),
    topic: &NewTopic,
    id: TopicId,
    budget: usize,
) -> Result<Replicas, ControlError> {
    if !topic.assignments.is_empty() {
        return assigned(image, topic, budget);
    }
    let factor = factor(image, topic, rules.default_replication_factor)?;
    let count = match topic.partitions {
        -1 => settings.num_partitions,
        count if count <= 0 => {
            return refuse(
                Kind::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.",
            );
        }
        count => count,
    };
    within_budget(count as usize, budget)?;
    Ok(place(image, id, factor, 0, count as usize))
}

fn within_budget(count: usize, budget: usize) -> Result<(), ControlError> {
    if count <= budget {
        return Ok(());
    }
    refuse(
        Kind::TooManyPartitions,
        format!(
            "Excessively large number of partitions per request: {MAX_PARTITIONS_PER_REQUEST} are allowed."
        ),
    )
}

fn assigned(image: &Image, topic: &NewTopic, budget: usize) -> Result<Replicas, ControlError> {
    let wanted = "A manual partition assignment was specified, but";
    if topic.replication_factor != -1 {
        return refuse(Kind::InvalidRequest, format!("{wanted} replication factor was not set to -1."));
    }
    if topic.partitions != -1 {
        return refuse(Kind::InvalidRequest, format!("{wanted} numPartitions was not set to -1."));
    }
    within_budget(topic.assignments.len(), budget)?;
    let mut by_index = BTreeMap::new();
    let factor = topic.assignments.first().map_or(0, |(_, replicas)| replicas.len());
    for (index, replicas) in &topic.assignments {
        check_replicas(image, replicas)?;
        check_factor(replicas, factor)?;
        if by_index.insert(*index, replicas.clone()).is_some() {
            let why = format!("Found multiple manual partition assignments for partition {index}");
            return refuse(Kind::InvalidReplicaAssignment, why);
        }
    }
    if !by_index.keys().copied().eq(0..by_index.len() as i32) {
        let why = "partitions should be a consecutive 0-based integer sequence";
        return refuse(Kind::InvalidReplicaAssignment, why);
    }
    let all: Replicas = by_index.into_values().collect();
    check_live(image, 0, &all)?;
    Ok(all)
}

fn check_factor(replicas: &[BrokerId], factor: usize) -> Result<(), ControlError> {
    if replicas.len() == factor {
        return Ok(());
    }
    let why = format!(
        "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
         previous partitions, which have {factor} replica(s).",
        replicas.len()
    );
    refuse(Kind::InvalidReplicaAssignment, why)
}

pub fn delete(
    image: &Image,
    settings: &BrokerSettings,
    topics: &[TopicRef],
) -> (Vec<Record>, Results<Arc<Topic>>) {
    let mut seen = BTreeMap::new();
    let found: Vec<_> = topics.iter().map(|wanted| find(image, settings, wanted)).collect();
    for topic in found.iter().flatten() {
        *seen.entry(topic.id).or_insert(0) += 1;
    }
    let mut records = Vec::new();
    let results = found.into_iter().map(|result| {
        let topic = result?;
        if seen[&topic.id] > 1 {
            let why = "The provided topic name maps to an ID that was already supplied.";
            return refuse(Kind::InvalidRequest, why);
        }
        records.push(Record::TopicDeleted { id: topic.id });
        Ok(topic)
    });
    let results = results.collect();
    (records, results)
}

fn find(image: &Image, settings: &BrokerSettings, wanted: &TopicRef) -> Result<Arc<Topic>, ControlError> {
    if !settings.delete_topics {
        return refuse(Kind::DeletionDisabled, "Topic deletion is disabled.");
    }
    let unknown = "This server does not host this";
    match wanted {
        TopicRef::Name(name) => image
            .topic(name)
            .cloned()
            .ok_or_else(|| ControlError::new(Kind::UnknownTopic, format!("{unknown} topic-partition."))),
        TopicRef::Id(id) => image
            .topic_by_id(*id)
            .cloned()
            .ok_or_else(|| ControlError::new(Kind::UnknownTopicId, format!("{unknown} topic ID."))),
    }
}

pub fn grow(image: &Image, topics: &[NewPartitions], occupied: &Occupied<'_>) -> (Vec<Record>, Results<()>) {
    let repeated = repeated(topics.iter().map(|topic| topic.topic.as_str()));
    let mut budget = MAX_PARTITIONS_PER_REQUEST;
    let mut records = Vec::new();
    let results = topics.iter().map(|wanted| {
        if repeated.contains(wanted.topic.as_str()) {
            return refuse(Kind::InvalidRequest, "Duplicate topic name.");
        }
        let Some(topic) = image.topic(&wanted.topic) else {
            return refuse(Kind::UnknownTopic, "This server does not host this topic-partition.");
        };
        let replicas = added(image, topic, wanted, budget)?;
        let replicas = free(&topic.name, topic.partitions.len(), replicas, occupied)?;
        budget -= replicas.len();
        let first = topic.partitions.len() as i32;
        records
            .extend((first..).zip(replicas).map(|(index, ids)| new_partition(image, topic.id, index, ids)));
        Ok(())
    });
    let results = results.collect();
    (records, results)
}

fn added(
    image: &Image,
    topic: &Topic,
    wanted: &NewPartitions,
    budget: usize,
) -> Result<Replicas, ControlError> {
    let have = topic.partitions.len() as i32;
    if wanted.total == have {
        return refuse(Kind::InvalidPartitions, format!("Topic already has {have} partition(s)."));
    }
    if wanted.total < have {
        return refuse(
            Kind::InvalidPartitions,
            format!(
                "The topic {} currently has {have} partition(s); {} would not be an increase.",
                topic.name, wanted.total
            ),
        );
    }
    if wanted.total > MAX_PARTITIONS_PER_TOPIC {
        return refuse(
            Kind::TooManyPartitions,
            format!("A topic may have {MAX_PARTITIONS_PER_TOPIC} partitions at most."),
        );
    }
    let more = (wanted.total - have) as usize;
    within_budget(more, budget)?;
    let factor = topic
        .partitions
        .first()
        .map_or(1, |partition| partition.replicas().len() - partition.adding().count());
    let Some(assignments) = &wanted.assignments else {
        let placed = place(image, topic.id, factor, have as usize, more);
        return if placed.len() == more && placed.iter().all(|ids| ids.len() == factor) {
            Ok(placed)
        } else {
            refuse(
                Kind::InvalidReplicationFactor,
                format!(
                    "There are fewer brokers than the topic's partitions have replicas, which is {factor}."
                ),
            )
        };
    };
    if assignments.len() != more {
        return refuse(
            Kind::InvalidReplicaAssignment,
            format!(
                "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            ),
        );
    }
    for replicas in assignments {
        check_replicas(image, replicas)?;
        check_factor(replicas, factor)?;
    }
    check_live(image, have as usize, assignments)?;
    Ok(assignments.clone())
}
