//! Taking damaged records out of a segment, so that consumers get past them. Offline, by an operator's word.
//!
//! The good extents are written to a new file that takes the old one's place; the old file is kept aside. Offsets stay as
//! they are: in the place of what was damaged is an empty batch, as compaction leaves them.
//!
//! The log is sealed, and a checkpoint says so, before any file is exchanged: no checksum then belongs to a file that is
//! not there any more. A crash between the exchange and the next checkpoint leaves a file that is shorter than the
//! checkpoint says, which the next repair sets right.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::log::files::owner::make_directory;
use crate::log::segment::extents::Extent;
use crate::log::segment::{Segment, SegmentMeta};
use crate::log::{LogError, PartitionLog};
use crate::model::{Offset, PartitionId};
use crate::rt;
use crate::wire::batch::{BatchHeader, BatchIter};
use crate::wire::records::empty_batch;

/// What a repair took out of one segment.
#[derive(Clone, Debug)]
pub struct TakenOut {
    pub segment: i64,
    /// The offsets that have no records now.
    pub offsets: Vec<(i64, i64)>,
    /// Where the old file is, if there was one.
    pub kept: Option<PathBuf>,
}

impl PartitionLog {
    /// Ends the active segment.
    pub async fn seal_all(&self) -> Result<(), LogError> {
        let _turn = self.turn().await;
        self.write_tail(None).await?;
        self.seal().await?;
        self.note_disorder();
        Ok(())
    }

    /// Whether something in the segments does not read back.
    pub async fn has_damage(&self) -> Result<bool, LogError> {
        for segment in self.every_segment() {
            let mut damaged = false;
            segment.each_extent(|_, bytes| damaged |= bytes.is_none()).await?;
            if damaged {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes what does not read back out of every segment; the old files go to `aside`. The log was sealed.
    pub async fn take_out_damage(&self, aside: &Path) -> Result<Vec<TakenOut>, LogError> {
        let _turn = self.turn().await;
        let mut taken = Vec::new();
        for segment in self.every_segment() {
            let epoch = self.epoch_at(Offset(segment.base_offset()));
            taken.extend(segment.take_out_damage(aside, self.id(), epoch.map_or(0, |epoch| epoch.0)).await?);
        }
        Ok(taken)
    }
}

impl Segment {
    /// Reads every extent; its bytes are none where they are not what was written.
    async fn each_extent(
        self: &Rc<Self>,
        mut see: impl FnMut(&Extent, Option<&[u8]>),
    ) -> Result<(), LogError> {
        let extents = match self.index().await {
            Ok(index) => index.extents().to_vec(),
            // Without its file and its sidecar all of the segment is one damaged extent.
            Err(LogError::Corrupt { .. }) => vec![Extent::condemned(0, 0, 0, self.meta().size)],
            Err(e) => return Err(e),
        };
        for extent in &extents {
            let bytes = match self.file(false) {
                Ok(file) => file.read(u64::from(extent.position), extent.length as usize).await.ok(),
                Err(_) => None,
            };
            see(extent, bytes.as_deref().filter(|bytes| extent.matches(bytes)));
        }
        Ok(())
    }

    async fn take_out_damage(
        self: &Rc<Self>,
        aside: &Path,
        id: PartitionId,
        epoch: i32,
    ) -> Result<Option<TakenOut>, LogError> {
        let (path, old) = (self.path(), self.meta());
        let io = |e| LogError::io(&path, e);
        let mut rest =
            Rest { batches: Vec::new(), ranges: Vec::new(), damaged_from: None, damaged: false, epoch };
        self.each_extent(|extent, bytes| rest.take(self.absolute(extent), bytes)).await?;
        if !rest.damaged {
            return Ok(None);
        }
        rest.end_gap(old.next_offset);
        let Rest { batches, ranges: offsets, .. } = rest;
        rt::fs::create_dir_all_durable(aside).map_err(io)?;
        let mut kept = None;
        if rt::fs::exists(&path) {
            // The topic's name may leave no room for more.
            let to = aside.join(format!("{id}.{:020}.log.{}", old.base_offset, rt::unix_ms()));
            rt::fs::write_atomic(&to, &rt::fs::read_all(&path).map_err(io)?).map_err(io)?;
            kept = Some(to);
        }
        make_directory(self.dir(), id).map_err(io)?;
        rt::fs::unlink(self.sidecar_path()).map_err(io)?;
        rt::fs::write_atomic(&path, &batches).map_err(io)?;
        self.refile(described(&batches, old));
        // Makes the index and its sidecar.
        self.index().await?;
        Ok(Some(TakenOut { segment: old.base_offset, offsets, kept }))
    }
}

/// What stays of a segment: its batches, with an empty one for each range that is damaged.
struct Rest {
    batches: Vec<u8>,
    ranges: Vec<(i64, i64)>,
    /// Where the damage begins that the last extents have.
    damaged_from: Option<i64>,
    damaged: bool,
    epoch: i32,
}

impl Rest {
    fn take(&mut self, from: i64, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.end_gap(from);
                self.epoch = BatchHeader::parse(bytes).map_or(self.epoch, |header| header.leader_epoch);
                self.batches.extend_from_slice(bytes);
            }
            None => {
                self.damaged = true;
                self.damaged_from.get_or_insert(from);
            }
        }
    }

    fn end_gap(&mut self, until: i64) {
        if let Some(from) = self.damaged_from.take()
            && from < until
        {
            self.batches.extend_from_slice(&empty_batch(from, until, self.epoch));
            self.ranges.push((from, until));
        }
    }
}

/// The metadata of a segment that holds these batches and ends where the old one did.
fn described(batches: &[u8], old: SegmentMeta) -> SegmentMeta {
    let mut meta = SegmentMeta::new(old.base_offset, old.created_ms);
    for (header, _) in BatchIter::new(batches).map_while(Result::ok) {
        meta.push(header.base_offset, header.next_offset(), header.max_timestamp, header.size());
    }
    SegmentMeta { next_offset: old.next_offset, written_ms: old.written_ms, ..meta }
}
