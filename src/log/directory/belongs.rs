//! What belongs to what in a data directory: whether metadata, journals and topics' directories are of one directory and of
//! one time. Pure; [`super::holdings`] reads what is judged.
//!
//! A part that is missing, foreign or old is not an empty one: going on would end in records given up in silence. So a
//! start says what does not fit and changes nothing; `weir log repair` and `recover-metadata` are an operator's word.
//!
//! - Metadata says what there is. Nothing but metadata makes a topic, and nothing but metadata deletes one.
//! - A checkpoint says under which metadata it was made: the directory's id, and how many changes there were.
//! - Metadata that is as new as a checkpoint knows, or deleted, every topic in it.
//! - What a checkpoint lists is in files, and no checkpoint of a shard is older than one that topics' files have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::log::formats::checkpoint::{Checkpoint, Origin};
use crate::model::{PartitionId, TopicId};

use super::Topics;

pub use super::objection::Objection;

/// One shard's directory below `journal/`.
#[derive(Debug, Default)]
pub struct Journal {
    /// Files that hold entries, or may.
    pub files: usize,
    /// `None` where there is none, or none that can be read.
    pub checkpoint: Option<Checkpoint>,
}

/// What a data directory holds besides metadata.
#[derive(Debug, Default)]
pub struct Holdings {
    pub data_dir: PathBuf,
    /// By the number that their directory says.
    pub journals: BTreeMap<usize, Journal>,
    /// Shards whose checkpoint is damaged.
    pub damaged: BTreeSet<usize>,
    /// The names below `topics/` that are those of a partition.
    pub directories: BTreeSet<String>,
    /// Partitions without a segment by the checkpoint of a clean close whose directory has some that no broker made since.
    pub unlisted: BTreeSet<PartitionId>,
    /// By shard: the newest checkpoint that topics' files have seen.
    pub seen: BTreeMap<usize, u64>,
}

impl Holdings {
    /// Whether nothing is there that metadata would have to know.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.journals.values().all(Journal::is_empty)
    }

    /// How many shards the journals are of; the newest checkpoint has the say.
    pub fn shards(&self) -> Option<usize> {
        let newest = self.checkpoints().max_by_key(|(_, checkpoint)| checkpoint.number);
        newest.map(|(_, checkpoint)| checkpoint.shards as usize)
    }

    pub fn checkpoints(&self) -> impl Iterator<Item = (usize, &Checkpoint)> {
        self.journals.iter().filter_map(|(shard, journal)| Some((*shard, journal.checkpoint.as_ref()?)))
    }

    /// The ids of the directories that checkpoints are of, with the newest version of each.
    pub fn origins(&self) -> BTreeMap<&str, u64> {
        let mut origins = BTreeMap::new();
        for origin in self.checkpoints().filter_map(|(_, checkpoint)| checkpoint.origin.as_ref()) {
            let version = origins.entry(origin.directory.as_str()).or_insert(0);
            *version = origin.version.max(*version);
        }
        origins
    }

    /// Everything that does not fit; the first matters most.
    pub fn judge(&self, metadata: Option<&dyn Topics>) -> Vec<Objection> {
        let Some(topics) = metadata else { return self.without_metadata() };
        let origin = topics.origin();
        let mut found = self.identity(&origin);
        if found.is_empty() {
            found.extend(self.ages(&origin));
            found.extend(self.unknown(topics));
        }
        found.extend(self.journals(topics));
        found.extend(self.directories(topics));
        found
    }

    fn without_metadata(&self) -> Vec<Objection> {
        if self.is_empty() {
            return Vec::new();
        }
        let topics: BTreeSet<&str> =
            self.directories.iter().filter_map(|name| Some(split_name(name)?.0)).collect();
        let journals = self.journals.values().filter(|journal| !journal.is_empty()).count();
        vec![Objection::NoMetadata { data_dir: self.data_dir.clone(), topics: topics.len(), journals }]
    }

    fn identity(&self, ours: &Origin) -> Vec<Objection> {
        let origins = self.origins();
        if ours.directory.is_empty() || origins.is_empty() {
            return Vec::new();
        }
        if !origins.contains_key(ours.directory.as_str()) {
            let checkpoints = origins.keys().copied().collect::<Vec<_>>().join(", ");
            return vec![Objection::ForeignMetadata { metadata: ours.directory.clone(), checkpoints }];
        }
        let foreign = |(shard, checkpoint): (usize, &Checkpoint)| {
            let directory = &checkpoint.origin.as_ref()?.directory;
            let objection = Objection::ForeignJournal { shard, directory: directory.clone() };
            (*directory != ours.directory).then_some(objection)
        };
        self.checkpoints().filter_map(foreign).collect()
    }

    fn ages(&self, ours: &Origin) -> Option<Objection> {
        let needs = |(shard, checkpoint): (usize, &Checkpoint)| {
            checkpoint.origin.as_ref().map(|origin| (origin.version, shard))
        };
        let (needs, shard) = self.checkpoints().filter_map(needs).max()?;
        (needs > ours.version).then_some(Objection::OldMetadata { has: ours.version, needs, shard })
    }

    fn unknown(&self, topics: &dyn Topics) -> Option<Objection> {
        if topics.forgets() {
            return None;
        }
        let mut unknown = BTreeMap::new();
        for (shard, checkpoint) in self.checkpoints() {
            for state in checkpoint.partitions.iter().filter(|state| is_unknown(topics, state.id.topic)) {
                unknown.entry(state.id.topic).or_insert((shard, &state.topic));
            }
        }
        let count = unknown.len();
        let (shard, topic) = unknown.into_values().next()?;
        Some(Objection::UnknownTopics { shard, first: topic.clone(), count })
    }

    fn journals(&self, topics: &dyn Topics) -> Vec<Objection> {
        let mut found = Vec::new();
        for (shard, checkpoint) in self.checkpoints() {
            let (its, of) = (checkpoint.shard as usize, checkpoint.shards as usize);
            let files = self.journals[&shard].files;
            let seen = self.seen.get(&shard).copied().unwrap_or(0);
            if its != shard || Some(of) != self.shards() {
                found.push(Objection::MisplacedJournal { shard, its, of });
            } else if checkpoint.origin.is_some() && checkpoint.number < seen {
                found.push(Objection::OldJournal { shard, number: checkpoint.number, seen });
            } else if files == 0 && checkpoint.lasting > 0 {
                found.push(Objection::NoJournalFiles { shard });
            }
        }
        for (shard, journal) in self.journals.iter().filter(|(_, journal)| journal.checkpoint.is_none()) {
            let damaged = self.damaged.contains(shard);
            if journal.files > 0 || damaged {
                found.push(Objection::NoCheckpoint { shard: *shard, damaged });
            }
        }
        // Every shard has a checkpoint before the first topic is made.
        let shards = match self.shards() {
            Some(shards) => shards,
            None if self.journals.values().any(|journal| !journal.is_empty()) => 0,
            None => self.seen.len().max(1),
        };
        if topics.partition_count() > 0 {
            let is_missing = |shard: &usize| {
                self.journals.get(shard).is_none_or(Journal::is_empty) && !self.damaged.contains(shard)
            };
            let missing = (0..shards).filter(is_missing);
            found.extend(missing.map(|shard| Objection::NoJournal { shard, shards }));
        }
        found
    }

    fn directories(&self, topics: &dyn Topics) -> Vec<Objection> {
        let (mut missing, mut of, mut found) = (Vec::new(), 0, Vec::new());
        let old = self.checkpoints().find_map(|(shard, checkpoint)| {
            let (seen, needs) = (self.seen.get(&shard).copied().unwrap_or(0), checkpoint.seen);
            (seen < needs).then_some(Objection::OldTopics { shard, seen, needs })
        });
        found.extend(old);
        for state in self.checkpoints().flat_map(|(_, checkpoint)| &checkpoint.partitions) {
            let Some((topic, _)) = topics.partition(state.id) else { continue };
            let name = format!("{topic}-{}", state.id.index);
            if self.unlisted.contains(&state.id) {
                found.push(Objection::Unlisted { directory: name });
            } else if state.repair.is_none() && state.log.segments.iter().any(|segment| segment.size > 0) {
                of += 1;
                missing.extend((!self.directories.contains(&name)).then_some(name));
            }
        }
        if let Some(first) = missing.first() {
            found.push(Objection::NoDirectories { first: first.clone(), count: missing.len(), of });
        }
        found
    }
}

impl Journal {
    fn is_empty(&self) -> bool {
        self.files == 0 && self.checkpoint.is_none()
    }
}

/// Whether there never was such a topic, as far as the metadata tells.
pub fn is_unknown(topics: &dyn Topics, id: TopicId) -> bool {
    topics.partition(PartitionId { topic: id, index: 0 }).is_none() && !topics.was_deleted(id)
}

/// The topic and the partition that a directory's name says.
pub fn split_name(name: &str) -> Option<(&str, i32)> {
    let (topic, index) = name.rsplit_once('-')?;
    let is_number = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
    (is_number && !topic.is_empty()).then(|| index.parse().ok())?.map(|index| (topic, index))
}

#[cfg(test)]
#[path = "belongs_tests.rs"]
mod tests;
