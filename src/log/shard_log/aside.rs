//! Journal entries that have no log to go to: kept as segment files under `set-aside/`, never deleted.
//!
//! `<data>/set-aside/<topic id>-<partition>/<base offset, 20 digits>.log` holds batches back to back. Replaying the same
//! entries again writes the same files again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::log::LogError;
use crate::model::PartitionId;
use crate::rt;

pub struct Aside {
    root: PathBuf,
    /// By partition: the first base offset and the batches.
    gathered: BTreeMap<PartitionId, (i64, Vec<u8>)>,
}

impl Aside {
    pub fn new(root: PathBuf) -> Self {
        Self { root, gathered: BTreeMap::new() }
    }

    pub fn push(&mut self, id: PartitionId, base_offset: i64, batch: &[u8]) {
        let (_, batches) = self.gathered.entry(id).or_insert_with(|| (base_offset, Vec::new()));
        batches.extend_from_slice(batch);
    }

    /// Writes what gathered. Durable when it returns.
    pub async fn flush(&mut self) -> Result<(), LogError> {
        for (id, (base_offset, batches)) in std::mem::take(&mut self.gathered) {
            let dir = self.root.join(id.to_string());
            let path = dir.join(format!("{base_offset:020}.log"));
            log::warn!("{}: {} bytes of journal entries set aside", path.display(), batches.len());
            let to = path.clone();
            rt::blocking(move || {
                rt::fs::create_dir_all(&dir)?;
                rt::fs::write_atomic(to, &batches)
            })
            .await
            .map_err(|e| LogError::io(path, e))?;
        }
        Ok(())
    }
}
