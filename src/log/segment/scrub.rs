//! Reading a segment back to see whether it is what was written, past every cache.

use std::rc::Rc;

use crate::log::LogError;
use crate::log::resources::damage::DamagedRange;

use super::extents::Extent;
use super::{Segment, SegmentMeta};

/// Read with one operation, unless a single extent is larger.
const SCRUB_BYTES: u32 = 256 << 10;

/// What one step found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scrubbed {
    pub bytes: u64,
    pub extents: u64,
    pub damaged: u64,
    /// The extent to go on with; none if that was all.
    pub next: Option<usize>,
}

impl Segment {
    /// Reads and checks the extents from number `first` on, as many as one read holds.
    pub async fn scrub(self: &Rc<Self>, first: usize) -> Result<Scrubbed, LogError> {
        let index = self.index().await?;
        let Some(from) = index.extents().get(first).map(|e| e.position) else {
            return Ok(Scrubbed::default());
        };
        let fits = |e: &&Extent| e.position == from || e.end() - from <= SCRUB_BYTES;
        let extents: Vec<Extent> = index.extents()[first..].iter().take_while(fits).copied().collect();
        let next = Some(first + extents.len()).filter(|next| *next < index.extents().len());
        drop(index);
        let end = extents.last().map_or(from, Extent::end);
        let bytes = match self.file(false) {
            Ok(file) => file.read(u64::from(from), (end - from) as usize).await.unwrap_or_default(),
            Err(LogError::Removed) => return Err(LogError::Removed),
            Err(_) => Default::default(),
        };
        if self.is_history() {
            return Err(LogError::Removed);
        }
        let at = |position: u32| ((position - from) as usize).min(bytes.len());
        let mut found =
            Scrubbed { bytes: u64::from(end - from), extents: extents.len() as u64, damaged: 0, next };
        for extent in extents.iter().filter(|e| !e.matches(&bytes[at(e.position)..at(e.end())])) {
            found.damaged += 1;
            self.note_damage(extent);
        }
        Ok(found)
    }

    /// Remembers that an extent cannot be read, for the partition's mark.
    pub(super) fn note_damage(&self, extent: &Extent) {
        if self.superseded.get() {
            return;
        }
        let next = self.index.borrow().as_ref().and_then(|index| {
            let at = index.extents().partition_point(|e| e.position <= extent.position);
            index.extents().get(at).copied()
        });
        let range = damaged_range(&self.meta(), extent, next.as_ref());
        self.resources.damage().note(self.dir.clone(), range);
    }
}

/// What cannot be read where an extent cannot: up to the next extent, or the segment's end.
pub fn damaged_range(meta: &SegmentMeta, extent: &Extent, next: Option<&Extent>) -> DamagedRange {
    let offset = |e: &Extent| meta.base_offset + i64::from(e.relative_offset);
    DamagedRange {
        segment: meta.base_offset,
        position: extent.position,
        length: extent.length,
        from: offset(extent),
        until: next.map_or(meta.next_offset, offset),
    }
}
