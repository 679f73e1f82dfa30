//! Looking through a data directory while no broker uses it: what is whole, what is damaged, what a repair would do.
//! Reads only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::LogError;
use crate::log::directory::belongs::is_unknown;
use crate::log::directory::holdings::holdings;
use crate::log::directory::{Objection, Topics};
use crate::log::files::layout::{journals_dir, partition_dir, topics_dir};
use crate::log::files::names::{LOG, file_name, parse_log_name};
use crate::log::files::owner::foreign;
use crate::log::formats::checkpoint::{self, Checkpoint, Looked, PartitionState, look};
use crate::log::journal::{EntryKind, Known, inspect, survivors};
use crate::log::resources::damage::DamagedRange;
use crate::log::shard_log::history::{Histories, by_partition};
use crate::log::shard_log::strays;
use crate::model::topic_config::TopicConfig;
use crate::model::{PartitionId, TopicId};
use crate::rt;

use super::check::check_segment;
use super::set_aside::set_aside;

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
    /// Files and directories in `set-aside/`.
    pub set_aside: usize,
    /// What does not belong together; each is among the findings, too.
    pub objections: Vec<Objection>,
}

impl Finding {
    /// Of a whole file or directory.
    fn of(path: PathBuf, what: String, remedy: &str, loses: bool) -> Self {
        let (offset, length, partition, offsets, remedy) = (0, 0, None, None, remedy.into());
        Self { path, offset, length, partition, offsets, what, remedy, loses }
    }
}

/// Metadata that is not there: nothing is known, and nothing was deleted.
struct NoTopics;

impl Topics for NoTopics {
    fn partition(&self, _: PartitionId) -> Option<(Arc<str>, Arc<TopicConfig>)> {
        None
    }

    fn was_deleted(&self, _: TopicId) -> bool {
        false
    }

    fn has_name(&self, _: &str, _: i32) -> bool {
        false
    }
}

/// Looks through everything. `partitions` are those that the metadata has, if there is any.
pub fn survey(
    data_dir: &Path,
    metadata: Option<&dyn Topics>,
    partitions: &[PartitionId],
) -> Result<Survey, LogError> {
    let topics = metadata.unwrap_or(&NoTopics);
    let held = holdings(data_dir)?;
    let mut survey = Survey { objections: held.judge(metadata), ..Survey::default() };
    survey.object(data_dir);
    let mut ends = HashMap::new();
    for (shard, journal) in &held.journals {
        let dir = journals_dir(data_dir).join(shard.to_string());
        let checkpoint = survey.checkpoint(&dir)?;
        let known = match &checkpoint {
            Some(checkpoint) => checkpoint.known(),
            None => survivors(&dir)?,
        };
        // Without files there is an objection already.
        let mut placed = match journal.files {
            0 => Histories::new(),
            _ => survey.journal(&dir, known, topics, &mut ends)?,
        };
        let closed = checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.closed);
        for mut state in checkpoint.into_iter().flat_map(|c| c.partitions) {
            let history = placed.remove(&state.id).unwrap_or_default();
            // What cannot be read is among the damage.
            let _ = history.apply(&mut state.log, known.durable);
            let end: &mut i64 = ends.entry(state.id).or_default();
            *end = history.promised(state.end_offset, known.durable).max(*end);
            survey.partition(data_dir, &state, closed, topics)?;
        }
    }
    if metadata.is_some() {
        survey.strays(data_dir, topics)?;
        survey.set_aside(data_dir, topics, partitions, &ends)?;
    }
    Ok(survey)
}

impl Survey {
    fn checkpoint(&mut self, dir: &Path) -> Result<Option<Checkpoint>, LogError> {
        let Looked { loaded, bad } = look(dir);
        let whole = match loaded {
            Ok(loaded) => loaded.map(|loaded| loaded.checkpoint),
            Err(e @ LogError::Newer { .. }) => return Err(e),
            Err(_) => None,
        };
        for e in bad {
            let (path, what) = match e {
                LogError::Io { path, source } => (path, source.to_string()),
                LogError::Corrupt { path, what, .. } => (path, what),
                e => (checkpoint::file_path(dir), e.to_string()),
            };
            let remedy = match &whole {
                Some(_) => "made again from the other copy at the next start",
                None => {
                    "make it again of the segments and the journal; where DeleteRecords had cut a segment is forgotten"
                }
            };
            self.findings.push(Finding::of(path, what, remedy, whole.is_none()));
        }
        Ok(whole)
    }

    fn object(&mut self, data_dir: &Path) {
        let finding = |o: &Objection| Finding::of(data_dir.join(o.place()), o.to_string(), o.repair(), true);
        self.findings.extend(self.objections.iter().map(finding));
    }

    fn strays(&mut self, data_dir: &Path, topics: &dyn Topics) -> Result<(), LogError> {
        for name in strays(data_dir, topics)? {
            let what = "no topic has this directory; it is not served".into();
            let remedy = "nothing: move it away, or let `weir log recover-metadata` make a topic of it";
            self.findings.push(Finding::of(topics_dir(data_dir).join(name), what, remedy, false));
        }
        Ok(())
    }

    /// What was set aside and could come back. `ends` are those of the partitions' logs, as far as they are known.
    fn set_aside(
        &mut self,
        data_dir: &Path,
        topics: &dyn Topics,
        partitions: &[PartitionId],
        ends: &HashMap<PartitionId, i64>,
    ) -> Result<(), LogError> {
        let aside = set_aside(data_dir)?;
        self.set_aside = aside.count;
        for id in partitions {
            let Some((topic, _)) = topics.partition(*id) else { continue };
            let (name, end) = (format!("{topic}-{}", id.index), ends.get(id).copied().unwrap_or(0));
            let entries =
                aside.entries.iter().filter(|entries| entries.id == *id && entries.end_offset > end);
            let mut found: Vec<Finding> = entries
                .map(|entries| {
                    let what = format!("records up to offset {} were set aside", entries.end_offset);
                    Finding::of(
                        entries.dir.clone(),
                        what,
                        "serve them again, behind a gap if one is left",
                        true,
                    )
                })
                .collect();
            if let Some(dir) = aside.directory_of(&topic, id.index).filter(|_| end == 0) {
                let what =
                    format!("{} bytes of segments were set aside, and the partition is empty", dir.log_bytes);
                found.push(Finding::of(dir.dir.clone(), what, "take them back as the partition's", true));
            }
            found.iter_mut().for_each(|finding| finding.partition = Some(name.clone()));
            self.findings.extend(found);
        }
        Ok(())
    }

    /// Looks through the journal; what it says of segments. Where its entries end goes to `ends`.
    fn journal(
        &mut self,
        dir: &Path,
        known: Known,
        topics: &dyn Topics,
        ends: &mut HashMap<PartitionId, i64>,
    ) -> Result<Histories, LogError> {
        let mut placed = Vec::new();
        for file in inspect(dir, known)? {
            self.journal_files += 1;
            if !file.needed {
                continue;
            }
            for (entry, _) in file.entries.iter().filter(|(entry, _)| entry.kind == EntryKind::Batch) {
                let end = ends.entry(entry.partition).or_default();
                *end = (entry.base_offset + 1).max(*end);
            }
            placed.extend(file.marks.iter().filter(|(entry, _)| entry.lsn >= known.floor).cloned());
            self.journal_entries +=
                file.entries.iter().filter(|(entry, _)| entry.lsn >= known.floor).count() as u64;
            for damage in &file.damage {
                let of = damage.entry.map(|entry| {
                    (name_of(topics, entry.partition), (entry.base_offset, file.next_of(&entry)))
                });
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
        closed: bool,
        topics: &dyn Topics,
    ) -> Result<(), LogError> {
        let known = topics.partition(state.id).map(|(topic, _)| topic);
        let unknown = is_unknown(topics, state.id.topic).then(|| state.topic.as_str().into());
        let Some(topic) = known.or(unknown) else { return Ok(()) };
        let name = format!("{topic}-{}", state.id.index);
        let dir = partition_dir(data_dir, &topic, state.id.index);
        self.partitions += 1;
        if let Some(other) = foreign(&dir, state.id.topic).map_err(|e| LogError::io(&dir, e))? {
            let what = format!("the directory holds files of topic {other}, not of this one");
            let mut finding = Finding::of(dir.clone(), what, "move them to set-aside/", true);
            finding.partition = Some(name.clone());
            self.findings.push(finding);
        }
        self.unlisted(&dir, &name, state, closed)?;
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

impl Survey {
    /// Segments that the checkpoint does not list and no journal brings back.
    fn unlisted(
        &mut self,
        dir: &Path,
        name: &str,
        state: &PartitionState,
        closed: bool,
    ) -> Result<(), LogError> {
        let names = rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e))?;
        let is_listed = |base: i64| state.log.segments.iter().any(|segment| segment.base_offset == base);
        let bases = names.iter().filter_map(|name| parse_log_name(name)).filter(|base| !is_listed(*base));
        // A partition that has none by its checkpoint is another matter.
        if state.log.segments.is_empty() {
            return Ok(());
        }
        for base in bases.filter(|base| closed || *base < state.log.segment_durable_offset) {
            let what = "no checkpoint lists this segment; it is not served".into();
            let remedy = "nothing: `weir log dump` shows what it holds; move it away";
            let mut finding = Finding::of(file_name(dir, base, LOG), what, remedy, false);
            finding.partition = Some(name.to_owned());
            self.findings.push(finding);
        }
        Ok(())
    }
}

fn name_of(topics: &dyn Topics, id: PartitionId) -> String {
    topics.partition(id).map_or_else(|| id.to_string(), |(topic, _)| format!("{topic}-{}", id.index))
}
