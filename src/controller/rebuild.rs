//! Metadata made anew, for want of what was: topics and ids from what checkpoints, directories and journals tell. Decides
//! purely; `weir log recover-metadata` reads and writes.
//!
//! Configurations, quotas and deletions are gone with the metadata. So that nothing more goes, topics that are made anew
//! keep everything until somebody configures them again.

use std::collections::BTreeMap;

use crate::log::FoundTopic;
use crate::metadata::records::{Owner, Record};
use crate::metadata::{ApplyError, Image};
use crate::model::{BrokerId, LeaderEpoch, TopicId};

/// What keeps everything: neither time nor size deletes, and nothing is compacted.
const KEEPS_ALL: [(&str, &str); 3] =
    [("cleanup.policy", "delete"), ("retention.bytes", "-1"), ("retention.ms", "-1")];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub id: TopicId,
    pub name: String,
    pub partitions: i32,
    /// What is to be said of it, if anything.
    pub note: Option<String>,
}

/// What is to be done to get metadata that knows all that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub topics: Vec<NewTopic>,
    /// Topics of the metadata there is that get more partitions: how many, with those they have.
    pub grown: Vec<(TopicId, String, i32)>,
    /// What is taken for deleted, and why.
    pub left_out: Vec<(TopicId, String, String)>,
}

/// `base` is the metadata there is, if it is this directory's.
pub fn plan(base: Option<&Image>, found: Vec<FoundTopic>, new_id: &mut dyn FnMut() -> TopicId) -> Plan {
    let mut plan = Plan::default();
    // By name: the topic that has most to say for itself.
    let mut best: BTreeMap<String, (TopicId, FoundTopic)> = BTreeMap::new();
    let (with_id, without): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.id.is_some());
    for found in with_id {
        let Some(id) = found.id else { continue };
        if let Some(topic) = base.and_then(|base| base.topic_by_id(id)) {
            plan.grow(id, &topic.name, topic.partitions.len() as i32, found.partitions);
            continue;
        }
        if base.is_some_and(|base| base.was_deleted(id)) {
            continue;
        }
        let name = found.name.clone().unwrap_or_else(|| format!("recovered-{id}"));
        if found.missing > 0 && found.directories == 0 && !found.journaled {
            plan.left_out.push((id, name, "its directories are gone".into()));
            continue;
        }
        let taken = base.is_some_and(|base| base.topic(&name).is_some());
        let rank = |found: &FoundTopic| (found.directories > 0, found.version, found.journaled);
        match best.get(&name) {
            Some((_, other)) if taken || rank(other) >= rank(&found) => plan.outlived(id, name),
            _ if taken => plan.outlived(id, name),
            _ => {
                if let Some((other, _)) = best.insert(name.clone(), (id, found)) {
                    plan.outlived(other, name);
                }
            }
        }
    }
    for found in without {
        let Some(name) = found.name.clone() else { continue };
        if let Some(topic) = base.and_then(|base| base.topic(&name)) {
            plan.grow(topic.id, &name, topic.partitions.len() as i32, found.partitions);
        } else {
            best.insert(name, (new_id(), found));
        }
    }
    for (name, (id, found)) in best {
        let note = match (&found.name, found.id) {
            (None, _) => Some("only a journal has records of it, and its name is lost".into()),
            (_, None) => {
                Some("nothing tells its id: it is another topic for clients that remember it".into())
            }
            _ => None,
        };
        plan.topics.push(NewTopic { id, name, partitions: found.partitions.max(1), note });
    }
    plan
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.grown.is_empty() && self.left_out.is_empty()
    }

    fn grow(&mut self, id: TopicId, name: &str, has: i32, needs: i32) {
        if needs > has {
            self.grown.push((id, name.to_owned(), needs));
        }
    }

    fn outlived(&mut self, id: TopicId, name: String) {
        self.left_out.push((id, name, "a later topic has its name".into()));
    }

    /// The metadata that comes of it.
    pub fn image(
        &self,
        base: Option<&Image>,
        directory: &str,
        version: u64,
        broker: BrokerId,
    ) -> Result<Image, ApplyError> {
        let mut records = base.map_or_else(Vec::new, Image::snapshot);
        records.push(Record::Cluster { id: directory.to_owned() });
        for topic in &self.topics {
            records.push(Record::Topic { id: topic.id, name: topic.name.clone() });
            let indexes = 0..topic.partitions;
            records.extend(indexes.map(|index| Record::new_partition(topic.id, index, &[broker])));
            records.extend(KEEPS_ALL.map(|(name, value)| Record::Config {
                owner: Owner::Topic(topic.id),
                name: name.into(),
                value: Some(value.into()),
            }));
        }
        for (id, _, partitions) in &self.grown {
            let has = base.and_then(|base| base.topic_by_id(*id)).map_or(0, |topic| topic.partitions.len());
            let indexes = has as i32..*partitions;
            records.extend(indexes.map(|index| Record::new_partition(*id, index, &[broker])));
        }
        records.push(Record::DeletedTopics { ids: self.left_out.iter().map(|(id, _, _)| *id).collect() });
        let (mut image, _) = Image::empty().with(&records)?;
        image.version = version;
        Ok(image)
    }
}

impl Image {
    /// As it is with no leader epoch below `epoch`, and no producer id given out below `producer_id`.
    pub fn raised(&self, epoch: i32, producer_id: i64) -> Result<Image, ApplyError> {
        let (mut raised, _) = self.with(&[Record::ProducerIds { next: producer_id }])?;
        for topic in self.topics() {
            raised.raise_leader_epochs(topic.id, &vec![LeaderEpoch(epoch); topic.partitions.len()])?;
        }
        raised.version = self.version;
        Ok(raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> TopicId {
        TopicId([n; 16])
    }

    fn found(n: u8, name: &str, partitions: i32) -> FoundTopic {
        FoundTopic {
            id: Some(id(n)),
            name: Some(name.into()),
            partitions,
            version: 10,
            directories: 1,
            ..FoundTopic::default()
        }
    }

    fn planned(base: Option<&Image>, all: Vec<FoundTopic>) -> Plan {
        plan(base, all, &mut || id(99))
    }

    #[test]
    fn topics_come_back_with_their_ids_and_keep_everything() {
        let plan = planned(None, vec![found(1, "orders", 3), found(2, "clicks", 1)]);
        let image = plan.image(None, "d", 40, 7).unwrap();
        assert_eq!((image.version, &*image.cluster_id), (40, "d"));
        let orders = image.topic("orders").unwrap();
        assert_eq!((orders.id, orders.partitions.len(), orders.partitions[2].leader), (id(1), 3, Some(7)));
        let set = |name: &str| orders.overrides[name].as_str();
        assert_eq!(
            [set("retention.ms"), set("retention.bytes"), set("cleanup.policy")],
            ["-1", "-1", "delete"]
        );
        let raised = image.raised(5, 2000).unwrap();
        assert_eq!((raised.version, raised.next_producer_id), (40, 2000));
        assert!(
            raised.topics().all(|topic| topic.partitions.iter().all(|p| p.leader_epoch == LeaderEpoch(5)))
        );
    }

    #[test]
    fn one_topic_has_a_name_and_the_others_count_as_deleted() {
        let old = FoundTopic { version: 5, directories: 0, ..found(1, "orders", 3) };
        let gone = FoundTopic { directories: 0, missing: 2, ..found(3, "gone", 2) };
        for order in [[old.clone(), found(2, "orders", 1)], [found(2, "orders", 1), old]] {
            let plan = planned(None, [order.to_vec(), vec![gone.clone()]].concat());
            assert_eq!(plan.topics.iter().map(|t| (t.id, &*t.name)).collect::<Vec<_>>(), [(id(2), "orders")]);
            let mut out: Vec<TopicId> = plan.left_out.iter().map(|(id, _, _)| *id).collect();
            out.sort();
            assert_eq!(out, [id(1), id(3)]);
            assert!(plan.image(None, "d", 1, 1).unwrap().was_deleted(id(3)));
        }
    }

    #[test]
    fn what_nothing_names_gets_a_name_or_an_id() {
        let journal_only = FoundTopic { name: None, directories: 0, journaled: true, ..found(1, "", 1) };
        let unnamed = FoundTopic { id: None, ..found(0, "copied", 2) };
        let plan = planned(None, vec![journal_only, unnamed]);
        let names: Vec<_> = plan.topics.iter().map(|t| (t.id, t.name.clone(), t.note.is_some())).collect();
        assert_eq!(names, [(id(99), "copied".into(), true), (id(1), format!("recovered-{}", id(1)), true)]);
    }

    #[test]
    fn metadata_that_is_there_keeps_what_it_says() {
        let base = planned(None, vec![found(1, "orders", 2), found(4, "doomed", 1)]);
        let base = base.image(None, "d", 10, 1).unwrap();
        let base = base.with(&[Record::TopicDeleted { id: id(4) }]).unwrap().0;
        let all =
            vec![found(1, "orders", 3), found(2, "clicks", 1), found(4, "doomed", 1), found(5, "orders", 1)];
        let plan = planned(Some(&base), all);
        assert_eq!(plan.topics.iter().map(|t| &*t.name).collect::<Vec<_>>(), ["clicks"]);
        assert_eq!(plan.grown, [(id(1), "orders".into(), 3)]);
        assert_eq!(plan.left_out.iter().map(|(id, _, _)| *id).collect::<Vec<_>>(), [id(5)]);
        let image = plan.image(Some(&base), "d", 20, 1).unwrap();
        assert_eq!(image.topic("orders").unwrap().partitions.len(), 3);
        assert!(image.was_deleted(id(4)) && image.topic("clicks").is_some());
        assert!(planned(Some(&image), vec![found(1, "orders", 3)]).is_empty());
    }
}
