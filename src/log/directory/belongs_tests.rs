use std::sync::Arc;

use crate::log::formats::checkpoint::PartitionState;
use crate::log::segment::SegmentMeta;
use crate::model::topic_config::TopicConfig;

use super::*;

/// Metadata of directory "ours": topic 1 is "orders", topic 2 was deleted.
#[derive(Clone)]
struct Metadata {
    version: u64,
    forgets: bool,
}

impl Topics for Metadata {
    fn partition(&self, id: PartitionId) -> Option<(Arc<str>, Arc<TopicConfig>)> {
        (id.topic == TopicId([1; 16]) && id.index < 4).then(|| ("orders".into(), Arc::default()))
    }

    fn was_deleted(&self, topic: TopicId) -> bool {
        topic == TopicId([2; 16])
    }

    fn has_name(&self, topic: &str, _: i32) -> bool {
        topic == "orders"
    }

    fn origin(&self) -> Origin {
        Origin { directory: "ours".into(), version: self.version }
    }

    fn forgets(&self) -> bool {
        self.forgets
    }

    fn partition_count(&self) -> usize {
        4
    }
}

const METADATA: Metadata = Metadata { version: 20, forgets: false };

fn state(topic: u8, index: i32, name: &str) -> PartitionState {
    let mut state = PartitionState::empty(PartitionId { topic: TopicId([topic; 16]), index }, name.into());
    state.log.segments.push(SegmentMeta { size: 100, next_offset: 10, ..SegmentMeta::new(0, 0) });
    state
}

fn checkpoint(shard: usize) -> Checkpoint {
    Checkpoint {
        lasting: 3,
        partitions: vec![state(1, shard as i32, "orders")],
        origin: Some(Origin { directory: "ours".into(), version: 20 }),
        number: 7,
        ..Checkpoint::empty(shard, 2, 1)
    }
}

/// Two shards, each with a partition of "orders", in order.
fn whole() -> Holdings {
    let journal = |shard| (shard, Journal { files: 2, checkpoint: Some(checkpoint(shard)) });
    Holdings {
        data_dir: "/d".into(),
        journals: [journal(0), journal(1)].into(),
        directories: ["orders-0".to_owned(), "orders-1".to_owned()].into(),
        seen: [(0, 7), (1, 6)].into(),
        ..Holdings::default()
    }
}

fn said(held: &Holdings) -> Vec<Objection> {
    held.judge(Some(&METADATA))
}

fn change(change: impl FnOnce(&mut Checkpoint)) -> Holdings {
    let mut held = whole();
    change(held.journals.get_mut(&1).unwrap().checkpoint.as_mut().unwrap());
    held
}

#[test]
fn what_belongs_together_is_not_objected_to() {
    assert_eq!(said(&whole()), []);
    assert_eq!(Holdings::default().judge(None), [], "a new directory");
    let fresh = Metadata { version: 1, ..METADATA };
    assert_eq!(Holdings::default().judge(Some(&fresh)).len(), 1, "topics and no journal");
    // Of versions that did not say where they come from.
    assert_eq!(said(&change(|c| (c.origin, c.number) = (None, 0))), []);
    // A deleted topic whose checkpoint is from before.
    assert_eq!(said(&change(|c| c.partitions.push(state(2, 0, "deleted")))), []);
    assert_eq!(said(&change(|c| c.closed = true)), []);
}

#[test]
fn metadata_that_is_missing_foreign_or_old_is_told() {
    let held = whole();
    let none = Objection::NoMetadata { data_dir: "/d".into(), topics: 1, journals: 2 };
    assert_eq!(held.judge(None), [none]);
    let only_journals = Holdings { directories: BTreeSet::new(), ..whole() };
    assert_eq!(only_journals.judge(None).len(), 1);
    let only_topics = Holdings { journals: BTreeMap::new(), ..whole() };
    assert_eq!(only_topics.judge(None).len(), 1);
    let old = Metadata { version: 19, ..METADATA };
    assert_eq!(held.judge(Some(&old)), [Objection::OldMetadata { has: 19, needs: 20, shard: 1 }]);
    let mut foreign = whole();
    for journal in foreign.journals.values_mut() {
        journal.checkpoint.as_mut().unwrap().origin.as_mut().unwrap().directory = "theirs".into();
    }
    let said = said(&foreign);
    assert!(
        matches!(&said[..], [Objection::ForeignMetadata { checkpoints, .. }] if checkpoints == "theirs"),
        "{said:?}"
    );
}

#[test]
fn topics_that_metadata_never_heard_of_are_told() {
    let strange = change(|c| c.partitions.push(state(9, 0, "strange")));
    let unknown = Objection::UnknownTopics { shard: 1, first: "strange".into(), count: 1 };
    assert_eq!(said(&strange)[0], unknown);
    let forgetful = Metadata { forgets: true, ..METADATA };
    assert!(!strange.judge(Some(&forgetful)).contains(&unknown), "it may have been deleted");
}

#[test]
fn journals_that_are_missing_foreign_or_old_are_told() {
    let origin = Origin { directory: "theirs".into(), version: 900 };
    let foreign = Objection::ForeignJournal { shard: 1, directory: "theirs".into() };
    assert_eq!(said(&change(|c| c.origin = Some(origin))), [foreign]);
    assert_eq!(said(&change(|c| c.shard = 0)), [Objection::MisplacedJournal { shard: 1, its: 0, of: 2 }]);
    assert_eq!(said(&change(|c| c.number = 5)), [Objection::OldJournal { shard: 1, number: 5, seen: 6 }]);
    let mut held = whole();
    held.journals.get_mut(&1).unwrap().files = 0;
    assert_eq!(said(&held), [Objection::NoJournalFiles { shard: 1 }]);
    let journal = Journal { files: 2, checkpoint: None };
    held.journals.insert(1, journal);
    assert_eq!(said(&held), [Objection::NoCheckpoint { shard: 1, damaged: false }]);
    held.damaged.insert(1);
    assert_eq!(said(&held), [Objection::NoCheckpoint { shard: 1, damaged: true }]);
    held.damaged.clear();
    held.journals.remove(&1);
    assert_eq!(said(&held), [Objection::NoJournal { shard: 1, shards: 2 }]);
    held.journals.remove(&0);
    assert_eq!(said(&held).len(), 2, "as many as topics' files have seen");
}

#[test]
fn directories_that_are_missing_are_told_at_once() {
    let mut held = whole();
    held.directories.remove("orders-1");
    let one = Objection::NoDirectories { first: "orders-1".into(), count: 1, of: 2 };
    assert_eq!(said(&held), [one]);
    held.directories.clear();
    assert!(matches!(&said(&held)[..], [Objection::NoDirectories { count: 2, of: 2, .. }]));
    let old = Objection::OldTopics { shard: 1, seen: 6, needs: 7 };
    assert_eq!(said(&change(|c| c.seen = 7)), [old]);
    let mut told = change(|c| c.partitions[0].repair = Some("told before".into()));
    told.directories.remove("orders-1");
    assert_eq!(said(&told), []);
    let mut held = change(|c| c.partitions[0].log.segments.clear());
    held.unlisted.insert(PartitionId { topic: TopicId([1; 16]), index: 1 });
    assert_eq!(said(&held), [Objection::Unlisted { directory: "orders-1".into() }]);
}

#[test]
fn every_objection_says_what_to_do() {
    let all = [
        Objection::NoMetadata { data_dir: "/d".into(), topics: 1, journals: 1 },
        Objection::ForeignMetadata { metadata: "a".into(), checkpoints: "b".into() },
        Objection::ForeignJournal { shard: 0, directory: "b".into() },
        Objection::OldMetadata { has: 1, needs: 2, shard: 0 },
        Objection::UnknownTopics { shard: 0, first: "x".into(), count: 1 },
        Objection::MisplacedJournal { shard: 0, its: 1, of: 2 },
        Objection::NoJournal { shard: 0, shards: 2 },
        Objection::NoJournalFiles { shard: 0 },
        Objection::NoCheckpoint { shard: 0, damaged: true },
        Objection::OldJournal { shard: 0, number: 1, seen: 2 },
        Objection::OldTopics { shard: 0, seen: 1, needs: 2 },
        Objection::NoDirectories { first: "x-0".into(), count: 1, of: 1 },
        Objection::Unlisted { directory: "x-0".into() },
    ];
    for objection in all {
        let command = if objection.is_for_repair() { "`weir log repair`" } else { "recover-metadata`" };
        assert!(objection.remedy().starts_with("Nothing was changed. "), "{objection:?}");
        assert!(objection.remedy().contains(command), "{objection:?}");
        assert!(
            !objection.repair().is_empty()
                && !objection.place().is_empty()
                && !objection.to_string().is_empty()
        );
    }
}

#[test]
fn names_of_partitions() {
    for (name, expected) in [
        ("orders-3", Some(("orders", 3))),
        ("a-b-12", Some(("a-b", 12))),
        ("checkpoints", None),
        ("orders-", None),
        ("-3", None),
        ("orders-+3", None),
        ("orders-3x", None),
        ("orders-99999999999", None),
        ("AAAAAAAAAAAAAAAAAAAAAA-0.deleted", None),
    ] {
        assert_eq!(split_name(name), expected, "{name}");
    }
}
