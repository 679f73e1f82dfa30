//! Reading what a data directory holds, as far as it has to belong together. Blocking, changes nothing.
//!
//! Topics' files know the newest checkpoint of each shard by an empty file, `topics/checkpoints/<shard>-<number>`, that is
//! renamed once a checkpoint is in place. Its name may be behind, never ahead: a journal that comes back from an older copy
//! is told by it. A start makes the name durable, and checkpoints say from then on what number it has at least: topics that
//! come back from an older copy are told by that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::LogError;
use super::belongs::{Holdings, Journal, split_name};
use super::checkpoint::{Checkpoint, PartitionState};
use super::journal::{Known, inspect, is_journal_file};
use super::relayout::journals_dir;
use super::segment::parse_log_name;
use super::store::{partition_dir, topics_dir};
use crate::model::PartitionId;
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
    let journals =
        held.journals.iter().filter_map(|(shard, journal)| Some((shard, journal.checkpoint.as_ref()?)));
    let mut unlisted = Vec::new();
    for (shard, checkpoint) in journals.filter(|(_, checkpoint)| checkpoint.closed) {
        let at_hand = |state: &&PartitionState| {
            held.directories.contains(&format!("{}-{}", state.topic, state.id.index))
        };
        let empty = checkpoint.partitions.iter().filter(|state| is_empty(state)).filter(at_hand);
        unlisted.extend(unlisted_of(data_dir, &root.join(shard.to_string()), checkpoint.known(), empty)?);
    }
    held.unlisted.extend(unlisted);
    Ok(held)
}

fn is_empty(state: &PartitionState) -> bool {
    state.log.clean && state.log.segments.is_empty() && state.repair.is_none()
}

/// Those of the partitions without a segment whose directory has some that this broker did not make. It has made those
/// that go on where the partition ended and whose records the journal has.
fn unlisted_of<'a>(
    data_dir: &Path,
    journal: &Path,
    known: Known,
    empty: impl Iterator<Item = &'a PartitionState>,
) -> Result<Vec<PartitionId>, LogError> {
    let mut unlisted = Vec::new();
    let mut written: Option<BTreeSet<PartitionId>> = None;
    for state in empty {
        let names = list(&partition_dir(data_dir, &state.topic, state.id.index))?;
        let Some(first) = names.iter().filter_map(|name| parse_log_name(name)).min() else { continue };
        let written = match &mut written {
            Some(written) => written,
            none => none.insert(written_since(journal, known)?),
        };
        if first < state.log.segment_durable_offset || !written.contains(&state.id) {
            unlisted.push(state.id);
        }
    }
    Ok(unlisted)
}

/// The partitions of the journal's entries that are newer than a checkpoint of a clean close.
fn written_since(journal: &Path, known: Known) -> Result<BTreeSet<PartitionId>, LogError> {
    let files = inspect(journal, known)?;
    let entries = files.iter().filter(|file| file.needed).flat_map(|file| &file.entries);
    Ok(entries.map(|(entry, _)| entry.partition).collect())
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
