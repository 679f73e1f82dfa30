//! Making a shard's log whole again by an operator's word: what is lost is given up, so that the rest is served.
//!
//! 1. The real recovery runs: what cannot follow on goes to `set-aside/`, what lost something is marked.
//! 2. Of a marked partition, what is set aside comes back behind an empty batch for what is missing; so does an end that
//!    was promised. No offset is given out twice.
//! 3. Damaged segments are sealed, a checkpoint says so, then they are written anew without what is damaged.
//! 4. The marks go, and the shard is closed, so that its checkpoint says what there is.
//!
//! What is taken away is kept in `set-aside/`.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;

use super::checkpoint::Checkpoint;
use super::store::{LogSettings, RecoveredPartition, ShardLog, Topics, journal_dir};
use super::{LogError, Lsn};
use crate::model::PartitionId;
use crate::rt;
use crate::wire::batch::{self, BatchHeader};
use crate::wire::control;
use crate::wire::records::empty_batch;

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
    let dir = journal_dir(data_dir, shard);
    let Some(loaded) = Checkpoint::load(&dir)? else {
        return Err(LogError::corrupt(dir, 0, "there is no checkpoint to begin with"));
    };
    let promised: HashMap<PartitionId, i64> =
        loaded.checkpoint.partitions.iter().map(|state| (state.id, state.end_offset)).collect();
    let shards = loaded.checkpoint.shards as usize;
    let (store, mut recovered) = ShardLog::open(data_dir, shard, shards, topics, settings.clone()).await?;
    let aside = data_dir.join("set-aside");
    let mut mended = Vec::new();
    for partition in &mut recovered {
        let id = partition.id;
        let Some(why) = partition.repair.clone() else { continue };
        if store.is_frozen(id) {
            mended.push(Mended { id, what: format!("cannot be mended: {why}") });
            continue;
        }
        let promised = promised.get(&id).copied().unwrap_or(0);
        let what =
            bring_back(partition, promised, &aside.join(id.to_string()), store.journal().last()).await?;
        mended.push(Mended { id, what: format!("{what} ({why})") });
    }
    let states: HashMap<_, _> =
        recovered.iter().filter_map(|p| Some((p.id, (p.log.end_offset(), producers(p)?)))).collect();
    let state = |id| states.get(&id).cloned();
    let mut damaged = Vec::new();
    for partition in recovered.iter().filter(|p| !store.is_frozen(p.id)) {
        if partition.log.has_damage().await? {
            partition.log.seal_all().await?;
            damaged.push(partition);
        }
    }
    if !damaged.is_empty() {
        store.checkpoint(state).await?;
    }
    for partition in damaged {
        for out in partition.log.take_out_damage(&aside).await? {
            let ranges: Vec<String> =
                out.offsets.iter().map(|(from, until)| format!("{from}..{until}")).collect();
            let kept = out
                .kept
                .map_or("it was gone".to_owned(), |kept| format!("the old file is {}", kept.display()));
            let what =
                format!("offsets {} taken out of segment {:020}; {kept}", ranges.join(", "), out.segment);
            mended.push(Mended { id: partition.id, what });
        }
    }
    store.clear_marks();
    store.close(state).await?;
    Ok(mended)
}

/// Appends what recovery could not: the batches set aside, and empty ones in the place of what is missing. Says what was
/// done.
async fn bring_back(
    partition: &mut RecoveredPartition,
    promised: i64,
    dir: &Path,
    lsn: Lsn,
) -> Result<String, LogError> {
    let log = partition.log.clone();
    let mut names = match rt::fs::exists(dir) {
        true => rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e))?,
        false => Vec::new(),
    };
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    let (mut records, mut lost) = (0, Vec::new());
    for name in names {
        let path = dir.join(name);
        let bytes = Bytes::from(rt::fs::read_all(&path).map_err(|e| LogError::io(&path, e))?);
        let mut at = 0;
        while let Ok(header) = BatchHeader::parse(&bytes[at..])
            && header.size() <= bytes.len() - at
        {
            let batch = bytes.slice(at..at + header.size());
            at += header.size();
            if header.base_offset < log.end_offset() || batch::checksum(&batch) != header.crc {
                continue;
            }
            lost.extend(skip_to(&log, header.base_offset, lsn));
            partition.replayed.push((header, control::decode(&batch, &header)));
            records += i64::from(header.record_count);
            log.append(&header, batch, lsn);
        }
        log.flush(None).await?;
    }
    lost.extend(skip_to(&log, promised, lsn));
    let lost: Vec<String> = lost.iter().map(|(from, until)| format!("{from}..{until}")).collect();
    Ok(match (records, lost.is_empty()) {
        (0, true) => "served again".to_owned(),
        (0, false) => format!("served again without offsets {}", lost.join(", ")),
        (_, true) => format!("served again with {records} records that were set aside"),
        (_, false) => {
            format!(
                "served again with {records} records that were set aside, without offsets {}",
                lost.join(", ")
            )
        }
    })
}

/// An empty batch up to `to`, if the log ends before; the range that it stands for.
fn skip_to(log: &super::PartitionLog, to: i64, lsn: Lsn) -> Option<(i64, i64)> {
    let from = log.end_offset();
    if to <= from {
        return None;
    }
    let empty = empty_batch(from, to, log.latest_epoch().unwrap_or(0)).freeze();
    let header = BatchHeader::parse(&empty).expect("a batch of our own");
    log.append(&header, empty, lsn);
    Some((from, to))
}
