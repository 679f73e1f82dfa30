//! Directories under `topics/` that belong to no partition: renamed to what a removal leaves if their topic was deleted,
//! else set aside.

use std::collections::HashMap;
use std::path::Path;

use crate::log::LogError;
use crate::log::checkpoint::Checkpoint;
use crate::log::segment::removed_directory;
use crate::model::PartitionId;
use crate::rt;

use super::{SET_ASIDE, Topics, topics_dir};

/// Goes through all of `topics/`. Before any shard opens its log: what is here under a name that a later topic has,
/// too, must be gone before that topic's data comes. Durable when it returns.
pub fn sweep(data_dir: &Path, topics: &dyn Topics) -> Result<(), LogError> {
    let root = topics_dir(data_dir);
    let names = rt::fs::read_dir_names(&root).map_err(|e| LogError::io(&root, e))?;
    if names.is_empty() {
        return Ok(());
    }
    go_through(data_dir, topics, &root, names);
    rt::fs::sync_dir(&root).map_err(|e| LogError::io(&root, e))
}

fn go_through(data_dir: &Path, topics: &dyn Topics, root: &Path, names: Vec<String>) {
    let owners = owners(data_dir);
    for name in names {
        let dir = root.join(&name);
        let Some((topic, index)) = split_name(&name) else { continue };
        let Some(owners) = owners.get(&name) else {
            if !topics.has_name(topic, index) {
                set_directory_aside(data_dir, &dir, "it belongs to no known topic");
            }
            continue;
        };
        let (mut live, mut deleted) = (false, false);
        for id in owners {
            live |= topics.partition(*id).is_some();
            deleted |= topics.was_deleted(id.topic);
        }
        match (live, deleted) {
            (true, _) => {}
            (false, true) => remove(&dir, owners[0]),
            (false, false) => set_directory_aside(data_dir, &dir, "its topic is not known any more"),
        }
    }
}

/// Directory names and the partitions that the shards' checkpoints know by them. A checkpoint that cannot be read
/// stops its own shard's start, with a message.
fn owners(data_dir: &Path) -> HashMap<String, Vec<PartitionId>> {
    let root = data_dir.join("journal");
    let names = rt::fs::read_dir_names(&root).unwrap_or_default();
    let mut owners: HashMap<String, Vec<PartitionId>> = HashMap::new();
    for loaded in names.iter().filter_map(|name| Checkpoint::load(&root.join(name)).ok().flatten()) {
        for state in loaded.checkpoint.partitions {
            owners.entry(format!("{}-{}", state.topic, state.id.index)).or_default().push(state.id);
        }
    }
    owners
}

/// The topic and the partition that a directory's name says.
fn split_name(name: &str) -> Option<(&str, i32)> {
    let (topic, index) = name.rsplit_once('-')?;
    Some((topic, index.parse().ok()?))
}

/// Moves a directory out of the way, keeping what it holds.
pub fn set_directory_aside(data_dir: &Path, dir: &Path, why: &str) {
    let root = data_dir.join(SET_ASIDE);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let to = root.join(format!("{name}.{}", rt::unix_ms()));
    match rt::fs::create_dir_all(&root).and_then(|()| rt::fs::rename(dir, &to)) {
        Ok(()) => log::warn!("{} was set aside as {}: {why}", dir.display(), to.display()),
        Err(e) => log::error!("{} cannot be set aside ({why}): {e}", dir.display()),
    }
}

/// The first shard gives the space back once it runs.
fn remove(dir: &Path, id: PartitionId) {
    log::info!("{}: removed, its topic was deleted", dir.display());
    if let Err(e) = rt::fs::rename(dir, removed_directory(dir, id)) {
        log::warn!("{}: {e}", dir.display());
    }
}
