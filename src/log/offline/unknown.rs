//! Partitions that no topic of the metadata has, of a broker whose cluster went on without what made them (`weir cluster recover`):
//! all of them is kept in `set-aside/`, and the rest starts without them. Before the log is opened.

use std::path::{Path, PathBuf};

use crate::log::LogError;
use crate::log::directory::holdings::holdings;
use crate::log::directory::{Holdings, Topics};
use crate::log::files::layout::{SET_ASIDE, finish_interrupted, journal_dir, partition_dir, topics_dir};
use crate::log::files::owner::foreign;
use crate::log::formats::checkpoint::{Checkpoint, PartitionState};
use crate::rt;

/// Puts them aside; to where each directory went.
pub async fn put_unknown_aside(data_dir: &Path, topics: &dyn Topics) -> Result<Vec<PathBuf>, LogError> {
    finish_interrupted(data_dir)?;
    let (held, mut gone) = (holdings(data_dir)?, Vec::new());
    let aside = data_dir.join(SET_ASIDE).join(rt::unix_ms().to_string());
    for (shard, known) in known_only(&held, topics) {
        let (checkpoint, unknown) = known;
        for state in &unknown {
            gone.extend(put_aside(data_dir, &aside, state)?);
        }
        // Where this is cut short they are unknown still, and their directories gone already.
        checkpoint.store(&journal_dir(data_dir, shard)).await?;
    }
    Ok(gone)
}

/// Checkpoints that list unknown partitions, without these.
fn known_only(held: &Holdings, topics: &dyn Topics) -> Vec<(usize, (Checkpoint, Vec<PartitionState>))> {
    let is_unknown =
        |state: &PartitionState| topics.partition(state.id).is_none() && !topics.was_deleted(state.id.topic);
    let split = |(shard, checkpoint): (usize, &Checkpoint)| {
        let (unknown, partitions): (Vec<_>, Vec<_>) =
            checkpoint.partitions.iter().cloned().partition(is_unknown);
        let without = Checkpoint { partitions, ..checkpoint.clone() };
        (!unknown.is_empty()).then_some((shard, (without, unknown)))
    };
    held.checkpoints().filter_map(split).collect()
}

fn put_aside(data_dir: &Path, aside: &Path, state: &PartitionState) -> Result<Option<PathBuf>, LogError> {
    let dir = partition_dir(data_dir, &state.topic, state.id.index);
    let io = |e| LogError::io(&dir, e);
    if !rt::fs::exists(&dir) || foreign(&dir, state.id.topic).map_err(io)?.is_some() {
        return Ok(None);
    }
    let to = aside.join(format!("{}-{}", state.topic, state.id.index));
    rt::fs::create_dir_all_durable(aside).map_err(io)?;
    rt::fs::rename(&dir, &to).map_err(io)?;
    rt::fs::sync_dir(aside).and_then(|()| rt::fs::sync_dir(topics_dir(data_dir))).map_err(io)?;
    Ok(Some(to))
}
