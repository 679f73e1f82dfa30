//! Reading what a data directory holds, as far as it has to belong together. Blocking, changes nothing.
//!
//! Topics' files know the newest checkpoint of each shard by an empty file, `topics/checkpoints/<shard>-<number>`, that is
//! renamed once a checkpoint is in place. Its name may be behind, never ahead: a journal that comes back from an older copy
//! is told by it. A start makes the name durable, with `-opened` behind it, and checkpoints say from then on what number it
//! has at least: topics that come back from an older copy are told by that. `-opened` behind the number of a clean close's
//! checkpoint says that files may be newer than the checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::log::LogError;
use crate::log::files::layout::{journals_dir, partition_dir, topics_dir};
use crate::log::files::names::parse_log_name;
use crate::log::formats::checkpoint::{Checkpoint, PartitionState};
use crate::log::journal::is_journal_file;
use crate::rt;
use crate::rt::fs::BlockingFile;

use super::belongs::{Holdings, Journal, split_name};

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
    let notes = notes(data_dir)?;
    held.seen = newest(&notes);
    let mut unlisted = Vec::new();
    for (shard, journal) in &held.journals {
        let Some(checkpoint) = journal.checkpoint.as_ref().filter(|checkpoint| checkpoint.closed) else {
            continue;
        };
        let opened = notes.contains(&Note { shard: *shard, number: checkpoint.number, opened: true });
        for state in checkpoint.partitions.iter().filter(|state| is_empty(state)) {
            let name = format!("{}-{}", state.topic, state.id.index);
            if held.directories.contains(&name) && has_unlisted(data_dir, state, opened)? {
                unlisted.push(state.id);
            }
        }
    }
    held.unlisted.extend(unlisted);
    Ok(held)
}

fn is_empty(state: &PartitionState) -> bool {
    state.log.clean && state.log.segments.is_empty() && state.repair.is_none()
}

/// Whether the directory of a partition without a segment has some that no broker made since the checkpoint. One that was
/// opened since may have made those that go on where the partition ended, for batches that were never acknowledged, too.
fn has_unlisted(data_dir: &Path, state: &PartitionState, opened: bool) -> Result<bool, LogError> {
    let names = list(&partition_dir(data_dir, &state.topic, state.id.index))?;
    let first = names.iter().filter_map(|name| parse_log_name(name)).min();
    Ok(first.is_some_and(|first| !opened || first < state.log.segment_durable_offset))
}

fn list(dir: &Path) -> Result<Vec<String>, LogError> {
    rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e))
}

fn seen_dir(data_dir: &Path) -> PathBuf {
    topics_dir(data_dir).join("checkpoints")
}

/// One shard's note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    shard: usize,
    number: u64,
    /// A broker has opened the shard's log since that checkpoint.
    opened: bool,
}

const OPENED: &str = "-opened";

impl Note {
    fn parse(name: &str) -> Option<Self> {
        let (rest, opened) = name.strip_suffix(OPENED).map_or((name, false), |rest| (rest, true));
        let (shard, number) = rest.split_once('-')?;
        Some(Self { shard: shard.parse().ok()?, number: number.parse().ok()?, opened })
    }

    fn name(self) -> String {
        let suffix = if self.opened { OPENED } else { "" };
        format!("{}-{}{suffix}", self.shard, self.number)
    }
}

fn notes(data_dir: &Path) -> Result<Vec<Note>, LogError> {
    Ok(list(&seen_dir(data_dir))?.iter().filter_map(|name| Note::parse(name)).collect())
}

/// By shard: the newest checkpoint that topics' files know of.
pub fn seen(data_dir: &Path) -> Result<BTreeMap<usize, u64>, LogError> {
    Ok(newest(&notes(data_dir)?))
}

fn newest(notes: &[Note]) -> BTreeMap<usize, u64> {
    let mut seen = BTreeMap::new();
    for note in notes {
        let newest = seen.entry(note.shard).or_insert(0);
        *newest = note.number.max(*newest);
    }
    seen
}

/// Whether a broker has opened the shard's log since this checkpoint was made: files may be newer than it then.
pub fn is_opened_since(data_dir: &Path, shard: usize, number: u64) -> Result<bool, LogError> {
    Ok(notes(data_dir)?.contains(&Note { shard, number, opened: true }))
}

/// Notes that a broker goes on from a shard's checkpoint of this number; durable when it returns.
pub fn note_opened(data_dir: &Path, shard: usize, number: u64) -> std::io::Result<()> {
    note(data_dir, Note { shard, number, opened: true })?;
    rt::fs::sync_dir(seen_dir(data_dir))?;
    rt::fs::sync_dir(topics_dir(data_dir))
}

/// Notes that a shard's checkpoint of this number is in place.
pub fn note_seen(data_dir: &Path, shard: usize, number: u64) -> std::io::Result<()> {
    note(data_dir, Note { shard, number, opened: false })
}

fn note(data_dir: &Path, note: Note) -> std::io::Result<()> {
    let dir = seen_dir(data_dir);
    let new = dir.join(note.name());
    let names = rt::fs::read_dir_names(&dir)?;
    let mut old = names.iter().filter(|name| Note::parse(name).is_some_and(|old| old.shard == note.shard));
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
        note_opened(dir.path(), 0, 3).unwrap();
        assert_eq!([2, 3].map(|n| is_opened_since(dir.path(), 0, n).unwrap()), [false, true]);
        note_seen(dir.path(), 1, 9).unwrap();
        note_seen(dir.path(), 0, 4).unwrap();
        note_seen(dir.path(), 0, 4).unwrap();
        assert_eq!([3, 4].map(|n| is_opened_since(dir.path(), 0, n).unwrap()), [false, false]);
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
