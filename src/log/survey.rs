//! Looking through a data directory while no broker uses it: what is whole, what is damaged, what a repair would do.
//! Reads only.

use std::path::{Path, PathBuf};

use super::LogError;
use super::checkpoint::{Checkpoint, DamagedRange, PartitionState, file_paths};
use super::journal::{Known, inspect, survivors};
use super::placement::{Placements, by_partition};
use super::segment::offline::check_segment;
use super::segment::{LOG, file_name};
use super::store::{Topics, journal_dir, partition_dir};
use crate::model::PartitionId;
use crate::rt;

/// Something that is not as it should be.
#[derive(Clone, Debug)]
pub struct Finding {
    pub path: PathBuf,
    pub offset: u64,
    pub length: u64,
    /// The topic and partition, where one is known.
    pub partition: Option<String>,
    /// The record offsets `from..until` that are concerned.
    pub offsets: Option<(i64, i64)>,
    pub what: String,
    /// What a repair would do, or the next start by itself.
    pub remedy: String,
    /// Whether records are lost, rather than only a copy of what is elsewhere.
    pub loses: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub findings: Vec<Finding>,
    pub partitions: usize,
    pub segments: u64,
    pub segment_bytes: u64,
    pub journal_files: u64,
    pub journal_entries: u64,
}

/// The numbers of the shards that have journals.
pub fn shards(data_dir: &Path) -> Result<Vec<usize>, LogError> {
    let root = data_dir.join("journal");
    let names = rt::fs::read_dir_names(&root).map_err(|e| LogError::io(&root, e))?;
    let mut shards: Vec<usize> = names.iter().filter_map(|name| name.parse().ok()).collect();
    shards.sort_unstable();
    match shards.is_empty() {
        true => Err(LogError::corrupt(root, 0, "there are no journals; restore the directory from a backup")),
        false => Ok(shards),
    }
}

/// Looks through everything.
pub fn survey(data_dir: &Path, topics: &dyn Topics) -> Result<Survey, LogError> {
    let mut survey = Survey::default();
    for shard in shards(data_dir)? {
        let dir = journal_dir(data_dir, shard);
        let checkpoint = survey.checkpoint(&dir)?;
        let known = match &checkpoint {
            Some(checkpoint) => checkpoint.known(),
            None => survivors(&dir)?,
        };
        let mut placed = survey.journal(&dir, known, topics)?;
        for mut state in checkpoint.into_iter().flat_map(|c| c.partitions) {
            placed
                .remove(&state.id)
                .into_iter()
                .flatten()
                .for_each(|placement| placement.apply(&mut state.log));
            survey.partition(data_dir, &state, topics)?;
        }
    }
    Ok(survey)
}

impl Survey {
    fn checkpoint(&mut self, dir: &Path) -> Result<Option<Checkpoint>, LogError> {
        let mut whole: Option<Checkpoint> = None;
        let mut bad = Vec::new();
        for path in file_paths(dir) {
            let read = rt::fs::read_all(&path).map_err(|e| LogError::io(&path, e));
            match read.and_then(|bytes| Checkpoint::decode(&path, &bytes)) {
                Ok(checkpoint) => whole = whole.or(Some(checkpoint)),
                Err(e @ LogError::Newer { .. }) => return Err(e),
                Err(LogError::Io { source, .. }) => bad.push((path, source.to_string())),
                Err(LogError::Corrupt { what, .. }) => bad.push((path, what)),
                Err(e) => bad.push((path, e.to_string())),
            }
        }
        for (path, what) in bad {
            let remedy = match &whole {
                Some(_) => "made again from the other copy at the next start",
                None => {
                    "make it again of the segments and the journal; where DeleteRecords had cut a segment is forgotten"
                }
            };
            self.findings.push(Finding {
                path,
                offset: 0,
                length: 0,
                partition: None,
                offsets: None,
                what,
                remedy: remedy.into(),
                loses: whole.is_none(),
            });
        }
        Ok(whole)
    }

    /// Looks through the journal; what it says of segments.
    fn journal(&mut self, dir: &Path, known: Known, topics: &dyn Topics) -> Result<Placements, LogError> {
        let mut placed = Vec::new();
        for file in inspect(dir, known)? {
            self.journal_files += 1;
            if !file.needed {
                continue;
            }
            placed.extend(file.placements.iter().filter(|(entry, _)| entry.lsn >= known.floor).cloned());
            self.journal_entries +=
                file.entries.iter().filter(|(entry, _)| entry.lsn >= known.floor).count() as u64;
            for damage in &file.damage {
                let of = damage
                    .entry
                    .map(|(id, base)| (name_of(topics, id), (base, file.next_of(id, damage.to, base))));
                self.findings.push(Finding {
                    path: damage.path.clone(),
                    offset: damage.offset,
                    length: damage.to.0.saturating_sub(damage.from.0),
                    partition: of.as_ref().map(|(name, _)| name.clone()),
                    offsets: of.map(|(_, offsets)| offsets),
                    what: "journal entries that were durable cannot be read".into(),
                    remedy: "mark the partitions concerned and serve them without these, behind a gap".into(),
                    loses: true,
                });
            }
        }
        Ok(by_partition(placed))
    }

    fn partition(
        &mut self,
        data_dir: &Path,
        state: &PartitionState,
        topics: &dyn Topics,
    ) -> Result<(), LogError> {
        let Some((topic, _)) = topics.partition(state.id) else { return Ok(()) };
        let name = format!("{topic}-{}", state.id.index);
        let dir = partition_dir(data_dir, &topic, state.id.index);
        self.partitions += 1;
        if let Some(why) = &state.repair {
            self.findings.push(Finding {
                path: dir.clone(),
                offset: 0,
                length: 0,
                partition: Some(name.clone()),
                offsets: None,
                what: format!("marked for repair: {why}"),
                remedy: "serve it with the records that there are, also in set-aside/, behind a gap for the others".into(),
                loses: true,
            });
        }
        let last = state.log.segments.last().filter(|_| state.log.active).map(|meta| meta.base_offset);
        for meta in &state.log.segments {
            let vouched = if last == Some(meta.base_offset) { &state.log.extents[..] } else { &[] };
            self.segments += 1;
            let path = file_name(&dir, meta.base_offset, LOG);
            let checked = check_segment(&dir, meta, vouched).map_err(|e| LogError::io(&path, e))?;
            self.segment_bytes += checked.bytes;
            for range in checked.damaged.iter().filter(|range| range.until > state.log.start_offset) {
                self.findings.push(Finding {
                    path: path.clone(),
                    offset: u64::from(range.position),
                    length: u64::from(range.length),
                    partition: Some(name.clone()),
                    offsets: Some((range.from, range.until)),
                    what: "the records do not read back as they were written".into(),
                    remedy: "take them out, keeping the old file in set-aside/".into(),
                    loses: true,
                });
            }
            let is_known =
                |mark: &&DamagedRange| checked.damaged.iter().any(|range| range.position == mark.position);
            let marks =
                state.damaged.iter().filter(|mark| mark.segment == meta.base_offset && !is_known(mark));
            self.findings.extend(marks.map(|mark| Finding {
                path: path.clone(),
                offset: u64::from(mark.position),
                length: u64::from(mark.length),
                partition: Some(name.clone()),
                offsets: Some((mark.from, mark.until)),
                what: "marked as damaged, and reads back as it was written".into(),
                remedy: "take the mark away".into(),
                loses: false,
            }));
        }
        Ok(())
    }
}

fn name_of(topics: &dyn Topics, id: PartitionId) -> String {
    topics.partition(id).map_or_else(|| id.to_string(), |(topic, _)| format!("{topic}-{}", id.index))
}
