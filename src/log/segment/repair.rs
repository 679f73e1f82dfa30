//! Taking damaged records out of a segment, so that consumers get past them. Offline, by an operator's word.
//!
//! The good extents are written to a new file that takes the old one's place; the old file is kept aside. Offsets stay
//! as they are: what was damaged becomes a gap, as compaction leaves them. A crash between the exchange of the files and
//! the checkpoint after it leaves a file that is shorter than the checkpoint says, which the next repair sets right.

use std::path::Path;
use std::rc::Rc;

use crate::log::{LogError, PartitionLog};
use crate::rt;
use crate::wire::batch::BatchHeader;

use super::{Segment, SegmentMeta};

/// What a repair took out of one segment.
#[derive(Clone, Debug)]
pub struct TakenOut {
    pub segment: i64,
    pub bytes: u64,
    pub extents: usize,
    /// Where the old file is.
    pub kept: std::path::PathBuf,
}

impl PartitionLog {
    /// Takes what does not read back out of every segment; the old files go to `aside`.
    pub async fn take_out_damage(&self, aside: &Path) -> Result<Vec<TakenOut>, LogError> {
        let _turn = self.turn().await;
        self.write_tail(None).await?;
        self.seal().await?;
        let segments: Vec<Rc<Segment>> = self.state.borrow().segments.iter().cloned().collect();
        let mut taken = Vec::new();
        for segment in segments {
            if let Some(out) = segment.take_out_damage(aside).await? {
                taken.push(out);
            }
        }
        let mut state = self.state.borrow_mut();
        state.segments.retain(|s| s.meta().size > 0);
        state.clean = false;
        Ok(taken)
    }
}

impl Segment {
    async fn take_out_damage(self: &Rc<Self>, aside: &Path) -> Result<Option<TakenOut>, LogError> {
        let (path, old) = (self.path(), self.meta());
        let io = |e| LogError::io(&path, e);
        let mut good: Vec<u8> = Vec::new();
        let mut bad = 0;
        let extents = match self.index().await {
            Ok(index) => index.extents().to_vec(),
            Err(LogError::Corrupt { .. }) => {
                bad = 1;
                Vec::new()
            }
            Err(e) => return Err(e),
        };
        let file = self.file(false).ok();
        for extent in &extents {
            let bytes = match &file {
                Some(file) => {
                    file.read(u64::from(extent.position), extent.length as usize).await.unwrap_or_default()
                }
                None => Default::default(),
            };
            match extent.matches(&bytes) {
                true => good.extend_from_slice(&bytes),
                false => bad += 1,
            }
        }
        drop(file);
        if bad == 0 {
            return Ok(None);
        }
        let kept = aside.join(format!(
            "{}.{:020}.log.{}",
            self.dir.file_name().unwrap_or_default().to_string_lossy(),
            old.base_offset,
            rt::unix_ms()
        ));
        rt::fs::create_dir_all_durable(aside).map_err(io)?;
        if rt::fs::exists(&path) {
            rt::fs::write_atomic(&kept, &rt::fs::read_all(&path).map_err(io)?).map_err(io)?;
        }
        if good.is_empty() {
            rt::fs::remove_file(&path).or_else(ignore_missing).map_err(io)?;
        } else {
            rt::fs::write_atomic(&path, &good).map_err(io)?;
        }
        rt::fs::remove_file(self.sidecar_path()).or_else(ignore_missing).map_err(io)?;
        rt::fs::sync_dir(&*self.dir).map_err(io)?;
        self.cache.close_file(self.uid());
        let meta = described(&good, old);
        let bytes = u64::from(old.size - meta.size);
        self.meta.set(meta);
        *self.index.borrow_mut() = None;
        *self.sidecar.borrow_mut() = Default::default();
        Ok(Some(TakenOut { segment: old.base_offset, bytes, extents: bad, kept }))
    }
}

/// The metadata of a segment that holds these batches and ends where the old one did.
fn described(batches: &[u8], old: SegmentMeta) -> SegmentMeta {
    let mut meta = SegmentMeta::new(old.base_offset, old.created_ms);
    let mut rest = batches;
    while let Ok(header) = BatchHeader::parse(rest)
        && header.size() <= rest.len()
    {
        meta.push(header.base_offset, header.next_offset(), header.max_timestamp, header.size());
        rest = &rest[header.size()..];
    }
    SegmentMeta { next_offset: old.next_offset, written_ms: old.written_ms, ..meta }
}

fn ignore_missing(e: std::io::Error) -> std::io::Result<()> {
    if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}
