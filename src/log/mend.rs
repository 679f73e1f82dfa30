//! Making a shard's log whole again by an operator's word: what is lost is given up, so that the rest is served.
//!
//! The real recovery runs first; then damaged records are taken out of segments, marks are cleared, and the shard is
//! closed, so that its checkpoint says what there is. What is taken away is kept in `set-aside/`.

use std::path::Path;

use super::LogError;
use super::checkpoint::Checkpoint;
use super::store::{LogSettings, RecoveredPartition, ShardLog, Topics};
use crate::model::PartitionId;

/// What was done to one partition.
#[derive(Clone, Debug)]
pub struct Mended {
    pub id: PartitionId,
    pub what: String,
}

/// Mends one shard; nobody else has the data directory. `producers` is as for [`super::relayout()`].
pub async fn mend(
    data_dir: &Path,
    shard: usize,
    topics: &dyn Topics,
    settings: &LogSettings,
    producers: impl Fn(&RecoveredPartition) -> Option<Vec<u8>>,
) -> Result<Vec<Mended>, LogError> {
    let dir = super::store::journal_dir(data_dir, shard);
    let Some(loaded) = Checkpoint::load(&dir)? else {
        return Err(LogError::corrupt(dir, 0, "there is no checkpoint to begin with"));
    };
    let shards = loaded.checkpoint.shards as usize;
    let (store, recovered) = ShardLog::open(data_dir, shard, shards, topics, settings.clone()).await?;
    let aside = data_dir.join("set-aside");
    let mut mended = Vec::new();
    for partition in &recovered {
        for out in partition.log.take_out_damage(&aside).await? {
            let what = format!(
                "{} bytes in {} places taken out of segment {:020}; the old file is {}",
                out.bytes,
                out.extents,
                out.segment,
                out.kept.display()
            );
            mended.push(Mended { id: partition.id, what });
        }
    }
    for (id, why) in store.clear_marks() {
        mended.push(Mended { id, what: format!("served again without what was lost: {why}") });
    }
    let states: Vec<_> =
        recovered.iter().filter_map(|p| Some((p.id, (p.log.end_offset(), producers(p)?)))).collect();
    store.close(|id| states.iter().find(|(of, _)| *of == id).map(|(_, state)| state.clone())).await?;
    Ok(mended)
}
