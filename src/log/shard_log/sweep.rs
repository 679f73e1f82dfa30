//! Directories under `topics/` that belong to no partition: those of deleted topics are renamed to what a removal leaves,
//! all others stay where they are. Nothing but metadata that says "deleted" takes a directory away.

use std::collections::HashMap;
use std::path::Path;

use crate::log::LogError;
use crate::log::directory::Topics;
use crate::log::directory::belongs::split_name;
use crate::log::files::dead::removed_directory;
use crate::log::files::layout::{journals_dir, topics_dir};
use crate::log::files::owner::{Owner, owner};
use crate::log::formats::checkpoint::Checkpoint;
use crate::model::{PartitionId, TopicId};
use crate::rt;

/// Goes through all of `topics/`; the names of the directories that nobody knows. Before any shard opens its log: what is
/// here under a name that a later topic has, too, must be gone before that topic's data comes. Durable when it returns.
pub fn sweep(data_dir: &Path, topics: &dyn Topics) -> Result<Vec<String>, LogError> {
    let root = topics_dir(data_dir);
    let mut strays = Vec::new();
    for (name, fate) in fates(data_dir, topics)? {
        let dir = root.join(&name);
        match fate {
            Fate::Kept => {}
            Fate::Deleted(id) => remove(&dir, id),
            Fate::Stray => {
                let dir = dir.display();
                log::error!("{dir}: no topic has this directory; it is left as it is and not served");
                strays.push(name);
            }
        }
    }
    // The last run's renames may not be durable yet, either.
    if rt::fs::exists(&root) {
        rt::fs::sync_dir(&root).map_err(|e| LogError::io(&root, e))?;
    }
    Ok(strays)
}

/// The directories that no topic has. Changes nothing.
pub fn strays(data_dir: &Path, topics: &dyn Topics) -> Result<Vec<String>, LogError> {
    let fates = fates(data_dir, topics)?.into_iter();
    Ok(fates.filter(|(_, fate)| *fate == Fate::Stray).map(|(name, _)| name).collect())
}

fn fates(data_dir: &Path, topics: &dyn Topics) -> Result<Vec<(String, Fate)>, LogError> {
    let root = topics_dir(data_dir);
    let names = rt::fs::read_dir_names(&root).map_err(|e| LogError::io(&root, e))?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let owners = owners(data_dir);
    let mut fates = Vec::new();
    for name in names {
        let Some((topic, index)) = split_name(&name) else { continue };
        let dir = root.join(&name);
        let listed = owners.get(&name).map_or(&[][..], Vec::as_slice);
        let known = Known { topics, topic, index, listed };
        // Most are known by their checkpoint: their directories need not be looked into.
        if !known.is_listed() {
            let fate = known.fate(owner(&dir).map_err(|e| LogError::io(&dir, e))?);
            fates.push((name, fate));
        }
    }
    Ok(fates)
}

/// What is known of a directory by its name.
struct Known<'a> {
    topics: &'a dyn Topics,
    topic: &'a str,
    index: i32,
    /// The partitions that checkpoints list by this name.
    listed: &'a [PartitionId],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Deleted(PartitionId),
    Stray,
}

impl Known<'_> {
    fn is_listed(&self) -> bool {
        self.listed.iter().any(|id| self.is_live(*id))
    }

    fn is_live(&self, id: PartitionId) -> bool {
        self.topics.partition(id).is_some_and(|(name, _)| *name == *self.topic)
    }

    fn of(&self, topic: TopicId) -> PartitionId {
        PartitionId { topic, index: self.index }
    }

    fn fate(&self, owner: Owner) -> Fate {
        match owner {
            Owner::Topic(id) if self.is_live(self.of(id)) => Fate::Kept,
            Owner::Topic(id) if self.topics.was_deleted(id) => Fate::Deleted(self.of(id)),
            Owner::Topic(_) => Fate::Stray,
            Owner::Nobody | Owner::Unnamed => {
                let deleted = |id: &&PartitionId| self.topics.was_deleted(id.topic);
                match self.listed.iter().find(deleted) {
                    Some(id) if self.listed.iter().all(|id| deleted(&id)) => Fate::Deleted(*id),
                    _ if self.topics.has_name(self.topic, self.index) || owner == Owner::Nobody => Fate::Kept,
                    _ => Fate::Stray,
                }
            }
        }
    }
}

/// Directory names and the partitions that the shards' checkpoints know by them. A checkpoint that cannot be read
/// stops its own shard's start, with a message.
fn owners(data_dir: &Path) -> HashMap<String, Vec<PartitionId>> {
    let root = journals_dir(data_dir);
    let names = rt::fs::read_dir_names(&root).unwrap_or_default();
    let mut owners: HashMap<String, Vec<PartitionId>> = HashMap::new();
    for loaded in names.iter().filter_map(|name| Checkpoint::load(&root.join(name)).ok().flatten()) {
        for state in loaded.checkpoint.partitions {
            owners.entry(format!("{}-{}", state.topic, state.id.index)).or_default().push(state.id);
        }
    }
    owners
}

/// The first shard gives the space back once it runs.
fn remove(dir: &Path, id: PartitionId) {
    log::info!("{}: removed, its topic was deleted", dir.display());
    if let Err(e) = rt::fs::rename(dir, removed_directory(dir, id)) {
        log::warn!("{}: {e}", dir.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::shard_log::tests::{Cluster, id};

    #[test]
    fn only_what_metadata_deleted_goes() {
        let mut cluster = Cluster::with(&[(1, "orders"), (2, "clicks"), (3, "gone")]);
        cluster.delete(3);
        let topic = |n: u8| TopicId([n; 16]);
        let check = |name: &str, listed: &[PartitionId], owner: Owner| {
            let (topic, index) = split_name(name).unwrap();
            Known { topics: &cluster, topic, index, listed }.fate(owner)
        };
        // By the mark in the directory, whatever checkpoints say.
        assert_eq!(check("orders-0", &[], Owner::Topic(topic(1))), Fate::Kept);
        assert_eq!(check("orders-0", &[id(3, 0)], Owner::Topic(topic(1))), Fate::Kept);
        assert_eq!(check("gone-2", &[], Owner::Topic(topic(3))), Fate::Deleted(id(3, 2)));
        assert_eq!(check("orders-0", &[], Owner::Topic(topic(3))), Fate::Deleted(id(3, 0)));
        assert_eq!(check("orders-0", &[], Owner::Topic(topic(9))), Fate::Stray);
        assert_eq!(
            check("orders-0", &[], Owner::Topic(topic(2))),
            Fate::Stray,
            "another topic's, by its name"
        );
        // Without a mark, by what checkpoints say.
        assert_eq!(check("gone-0", &[id(3, 0)], Owner::Unnamed), Fate::Deleted(id(3, 0)));
        assert_eq!(check("gone-0", &[id(3, 0), id(9, 0)], Owner::Unnamed), Fate::Stray);
        assert_eq!(check("lost-0", &[id(9, 0)], Owner::Unnamed), Fate::Stray);
        assert_eq!(check("lost-0", &[], Owner::Unnamed), Fate::Stray);
        assert_eq!(check("lost-0", &[], Owner::Nobody), Fate::Kept, "it is empty");
        assert_eq!(check("orders-0", &[], Owner::Unnamed), Fate::Kept, "made after the checkpoint");
        assert_eq!(check("orders-99", &[], Owner::Unnamed), Fate::Stray);
    }
}
