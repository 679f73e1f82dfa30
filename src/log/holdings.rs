//! Reading what a data directory holds, as far as it has to belong together. Blocking, changes nothing.
//!
//! Topics' files know the newest checkpoint of each shard by an empty file, `topics/checkpoints/<shard>-<number>`, that is
//! renamed once a checkpoint is in place. Its name may be behind, never ahead: a journal that comes back from an older copy
//! is told by it. A start makes the name durable, and checkpoints say from then on what number it has at least: topics that
//! come back from an older copy are told by that.

use std::path::{Path, PathBuf};

use super::LogError;
use super::belongs::{Holdings, Journal, split_name};
use super::checkpoint::Checkpoint;
use super::journal::is_journal_file;
use super::relayout::journals_dir;
use super::segment::is_log_name;
use super::store::{partition_dir, topics_dir};
use crate::rt;
use crate::rt::fs::BlockingFile;

/// Reads all of it. A checkpoint that is damaged is as if it were not there: its own shard's start says so.
pub fn holdings(data_dir: &Path) -> Result<Holdings, LogError> {
    let mut held = Holdings { data_dir: data_dir.to_owned(), ..Holdings::default() };
    let root = journals_dir(data_dir);
    for name in list(&root)? {
        let Ok(shard) = name.parse() else { continue };
        let dir = root.join(&name);
        let files = list(&dir)?.iter().filter(|name| is_journal_file(name)).count();
        let checkpoint = match Checkpoint::load(&dir) {
            Ok(loaded) => loaded.map(|loaded| loaded.checkpoint),
            Err(LogError::Corrupt { .. }) => {
                held.damaged.insert(shard);
                None
            }
            Err(e) => return Err(e),
        };
        held.journals.insert(shard, Journal { files, checkpoint });
    }
    held.directories =
        list(&topics_dir(data_dir))?.into_iter().filter(|name| split_name(name).is_some()).collect();
    held.seen = seen(data_dir)?;
    let closed =
        held.journals.values().filter_map(|journal| journal.checkpoint.as_ref()).filter(|c| c.closed);
    let empty = closed.flat_map(|c| &c.partitions).filter(|state| {
        let name = format!("{}-{}", state.topic, state.id.index);
        state.log.clean
            && state.log.segments.is_empty()
            && state.repair.is_none()
            && held.directories.contains(&name)
    });
    let mut unlisted = Vec::new();
    for state in empty {
        let dir = partition_dir(data_dir, &state.topic, state.id.index);
        if list(&dir)?.iter().any(|name| is_log_name(name)) {
            unlisted.push(state.id);
        }
    }
    held.unlisted.extend(unlisted);
    Ok(held)
}

fn list(dir: &Path) -> Result<Vec<String>, LogError> {
    rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e))
}

fn seen_dir(data_dir: &Path) -> PathBuf {
    topics_dir(data_dir).join("checkpoints")
}

fn parse_seen(name: &str) -> Option<(usize, u64)> {
    let (shard, number) = name.split_once('-')?;
    Some((shard.parse().ok()?, number.parse().ok()?))
}

/// By shard: the newest checkpoint that topics' files know of.
pub fn seen(data_dir: &Path) -> Result<std::collections::BTreeMap<usize, u64>, LogError> {
    let mut seen = std::collections::BTreeMap::new();
    for (shard, number) in list(&seen_dir(data_dir))?.iter().filter_map(|name| parse_seen(name)) {
        let newest = seen.entry(shard).or_insert(0);
        *newest = number.max(*newest);
    }
    Ok(seen)
}

/// As [`note_seen`]; durable when it returns.
pub fn note_seen_durably(data_dir: &Path, shard: usize, number: u64) -> std::io::Result<()> {
    note_seen(data_dir, shard, number)?;
    rt::fs::sync_dir(seen_dir(data_dir))?;
    rt::fs::sync_dir(topics_dir(data_dir))
}

/// Notes that a shard's checkpoint of this number is in place.
pub fn note_seen(data_dir: &Path, shard: usize, number: u64) -> std::io::Result<()> {
    let dir = seen_dir(data_dir);
    let new = dir.join(format!("{shard}-{number}"));
    let names = rt::fs::read_dir_names(&dir)?;
    let mut old = names.iter().filter(|name| parse_seen(name).is_some_and(|(its, _)| its == shard));
    match old.next() {
        Some(name) if dir.join(name) == new => {}
        Some(name) => rt::fs::rename(dir.join(name), &new)?,
        None => {
            rt::fs::create_dir_all(&dir)?;
            BlockingFile::create(&new)?;
        }
    }
    old.try_for_each(|name| rt::fs::unlink(dir.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_know_the_newest_checkpoint_of_each_shard() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("topics")).unwrap();
        assert!(seen(dir.path()).unwrap().is_empty());
        note_seen_durably(dir.path(), 0, 3).unwrap();
        note_seen(dir.path(), 1, 9).unwrap();
        note_seen(dir.path(), 0, 4).unwrap();
        note_seen(dir.path(), 0, 4).unwrap();
        assert_eq!(seen(dir.path()).unwrap(), [(0, 4), (1, 9)].into());
        let names = rt::fs::read_dir_names(seen_dir(dir.path())).unwrap();
        assert_eq!(names, ["0-4", "1-9"]);
        // Two copies mixed: the newer counts.
        std::fs::write(seen_dir(dir.path()).join("0-7"), "").unwrap();
        assert_eq!(seen(dir.path()).unwrap()[&0], 7);
        note_seen(dir.path(), 0, 8).unwrap();
        assert_eq!(rt::fs::read_dir_names(seen_dir(dir.path())).unwrap(), ["0-8", "1-9"]);
        assert!(holdings(dir.path()).unwrap().is_empty(), "that is nobody's records");
    }
}
