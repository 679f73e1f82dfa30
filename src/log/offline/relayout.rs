//! Another number of shards than at the last start: every journal is replayed, then partitions are placed anew.
//!
//! ```text
//! journal/<old shards>            every old shard recovered and closed: all data in segments
//! journal.new/<new shards>        new checkpoints, complete before the next step
//! journal → journal.old, journal.new → journal, journal.old removed
//! ```
//! A crash at any step leaves either the old layout, whole, or a rename to finish at the next start.

use std::collections::HashMap;
use std::path::Path;

use crate::log::directory::Topics;
use crate::log::directory::holdings::seen;
use crate::log::files::layout::{Paths, journal_dir, sync};
use crate::log::formats::checkpoint::{Checkpoint, PartitionState};
use crate::log::journal::draw_salt;
use crate::log::shard_log::{LogSettings, RecoveredPartition, ShardLog, sweep};
use crate::log::{LogError, Lsn};
use crate::model::shard_of;
use crate::rt;

/// Brings the data directory to `shards` shards, if it has another number; says whether it did. To be called before
/// any shard opens its log. `producers` makes a partition's state of what was recovered: the checkpoint's and the
/// batches after it.
pub async fn relayout(
    data_dir: &Path,
    shards: usize,
    topics: &dyn Topics,
    settings: &LogSettings,
    producers: impl Fn(&RecoveredPartition) -> Option<Vec<u8>>,
) -> Result<bool, LogError> {
    let paths = Paths::of(data_dir);
    paths.finish_interrupted()?;
    let Some(old) = old_shards(&paths.current)?.filter(|old| *old != shards) else { return Ok(false) };
    log::info!("{}: from {old} to {shards} shards", data_dir.display());
    sweep(data_dir, topics)?;
    let mut states = Vec::new();
    let mut durable = Lsn::ZERO;
    // Above what topics' files have seen of any shard.
    let mut number = seen(data_dir)?.into_values().max().unwrap_or(0);
    let mut marked = false;
    for shard in 0..old {
        let dir = journal_dir(data_dir, shard);
        if !rt::fs::exists(&dir) {
            continue;
        }
        settle(data_dir, shard, old, topics, settings, &producers).await?;
        let Some(checkpoint) = Checkpoint::load(&dir)?.map(|loaded| loaded.checkpoint) else { continue };
        durable = durable.max(checkpoint.durable);
        number = number.max(checkpoint.number);
        marked |=
            checkpoint.partitions.iter().any(|state| state.repair.is_some() || !state.damaged.is_empty());
        states.extend(checkpoint.partitions);
    }
    let like = Checkpoint {
        floor: durable.next(),
        durable,
        closed: true,
        origin: Some(topics.origin()),
        number: number + 1,
        ..Checkpoint::empty(0, shards, 0)
    };
    write_new(&paths, states, like).await?;
    paths.switch(marked)?;
    Ok(true)
}

/// Recovers one old shard and closes it, so that its checkpoint says everything.
async fn settle(
    data_dir: &Path,
    shard: usize,
    shards: usize,
    topics: &dyn Topics,
    settings: &LogSettings,
    producers: &impl Fn(&RecoveredPartition) -> Option<Vec<u8>>,
) -> Result<(), LogError> {
    let (store, recovered) = ShardLog::open(data_dir, shard, shards, topics, settings.clone()).await?;
    let state = |p: &RecoveredPartition| Some((p.id, (p.log.end_offset(), producers(p)?)));
    let states: HashMap<_, _> = recovered.iter().filter_map(state).collect();
    store.close(|id| states.get(&id).cloned()).await
}

/// The number of shards that the journals were made by.
fn old_shards(journal: &Path) -> Result<Option<usize>, LogError> {
    let names = rt::fs::read_dir_names(journal).map_err(|e| LogError::io(journal, e))?;
    for name in names {
        if let Some(loaded) = Checkpoint::load(&journal.join(name))? {
            return Ok(Some(loaded.checkpoint.shards as usize));
        }
    }
    Ok(None)
}

async fn write_new(paths: &Paths, states: Vec<PartitionState>, like: Checkpoint) -> Result<(), LogError> {
    let shards = like.shards as usize;
    if rt::fs::exists(&paths.new) {
        rt::fs::remove_dir_all(&paths.new).map_err(|e| LogError::io(&paths.new, e))?;
    }
    let mut checkpoints: Vec<Checkpoint> = (0..shards)
        .map(|shard| Checkpoint { shard: shard as u32, salt: draw_salt(), ..like.clone() })
        .collect();
    for state in states {
        checkpoints[shard_of(state.id, shards)].partitions.push(state);
    }
    for (shard, checkpoint) in checkpoints.iter().enumerate() {
        let dir = paths.new.join(shard.to_string());
        rt::fs::create_dir_all(&dir).map_err(|e| LogError::io(&dir, e))?;
        checkpoint.store(&dir).await?;
    }
    // The new journals are there for certain before the old ones go.
    sync(&paths.new)?;
    sync(&paths.data)
}
