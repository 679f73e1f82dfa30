//! What a data directory tells of topics without metadata: from checkpoints, the marks in directories, and journals.
//! Reads only.

use std::collections::BTreeMap;

use crate::log::LogError;
use crate::log::directory::belongs::{Holdings, split_name};
use crate::log::files::layout::{journals_dir, topics_dir};
use crate::log::files::owner::{Owner, owner};
use crate::log::formats::checkpoint::Checkpoint;
use crate::log::journal::{inspect, survivors};
use crate::model::TopicId;

/// One topic, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundTopic {
    /// `None`: there are directories, and nothing says whose they are.
    pub id: Option<TopicId>,
    /// `None`: only a journal knows of it.
    pub name: Option<String>,
    /// One more than the highest partition.
    pub partitions: i32,
    /// The newest metadata of which a checkpoint that lists it was made; zero if none does or none says.
    pub version: u64,
    /// Directories that are its own.
    pub directories: usize,
    /// Directories that have its records by a checkpoint, and are not there.
    pub missing: usize,
    /// A journal has records of it that a start needs.
    pub journaled: bool,
}

impl FoundTopic {
    fn reaches(&mut self, index: i32) {
        self.partitions = self.partitions.max(index.saturating_add(1));
    }
}

/// Every topic that something tells of, those with ids first.
pub fn evidence(held: &Holdings) -> Result<Vec<FoundTopic>, LogError> {
    let mut known: BTreeMap<TopicId, FoundTopic> = BTreeMap::new();
    for (_, checkpoint) in held.checkpoints() {
        listed(held, checkpoint, &mut known);
    }
    let mut unnamed: BTreeMap<String, FoundTopic> = BTreeMap::new();
    for name in &held.directories {
        let Some((topic, index)) = split_name(name) else { continue };
        let dir = topics_dir(&held.data_dir).join(name);
        let found = match owner(&dir).map_err(|e| LogError::io(&dir, e))? {
            Owner::Nobody => continue,
            // Another topic's under a name of its own is a copy that was renamed.
            Owner::Topic(id) if is_renamed(&known, id, topic) => continue,
            Owner::Topic(id) => known.entry(id).or_default(),
            Owner::Unnamed => {
                let of_name = known.values_mut().filter(|found| found.name.as_deref() == Some(topic));
                match of_name.max_by_key(|found| found.version) {
                    Some(found) => found,
                    None => unnamed.entry(topic.to_owned()).or_default(),
                }
            }
        };
        found.name.get_or_insert_with(|| topic.to_owned());
        found.directories += 1;
        found.reaches(index);
    }
    journaled(held, &mut known)?;
    let with_ids = known.into_iter().map(|(id, found)| FoundTopic { id: Some(id), ..found });
    Ok(with_ids.chain(unnamed.into_values()).collect())
}

fn is_renamed(known: &BTreeMap<TopicId, FoundTopic>, id: TopicId, topic: &str) -> bool {
    known.get(&id).and_then(|found| found.name.as_deref()).is_some_and(|name| name != topic)
}

fn listed(held: &Holdings, checkpoint: &Checkpoint, known: &mut BTreeMap<TopicId, FoundTopic>) {
    let version = checkpoint.origin.as_ref().map_or(0, |origin| origin.version);
    for state in &checkpoint.partitions {
        let found = known.entry(state.id.topic).or_default();
        found.name = Some(state.topic.clone());
        found.version = found.version.max(version);
        found.reaches(state.id.index);
        let has_records = state.log.segments.iter().any(|segment| segment.size > 0);
        let is_there = held.directories.contains(&format!("{}-{}", state.topic, state.id.index));
        found.missing += usize::from(has_records && !is_there);
    }
}

fn journaled(held: &Holdings, known: &mut BTreeMap<TopicId, FoundTopic>) -> Result<(), LogError> {
    for (shard, journal) in held.journals.iter().filter(|(_, journal)| journal.files > 0) {
        let dir = journals_dir(&held.data_dir).join(shard.to_string());
        let needed = match &journal.checkpoint {
            Some(checkpoint) => checkpoint.known(),
            None => survivors(&dir)?,
        };
        for file in inspect(&dir, needed)?.into_iter().filter(|file| file.needed) {
            for (entry, _) in file.entries.iter().filter(|(entry, _)| entry.lsn >= needed.floor) {
                let found = known.entry(entry.partition.topic).or_default();
                found.journaled = true;
                found.reaches(entry.partition.index);
            }
        }
    }
    Ok(())
}
