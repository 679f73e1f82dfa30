//! What stays of a segment within which a log is cut.

use std::rc::Rc;

use crate::log::LogError;
use crate::wire::batch::BatchIter;

use super::extents::ExtentIndex;
use super::{Segment, SegmentMeta};

impl Segment {
    /// What is left of it if the log is to end at `to`, an offset past its first: where the log then ends, and the part,
    /// if there is one.
    pub async fn part_below(
        self: &Rc<Self>,
        to: i64,
    ) -> Result<(i64, Option<(SegmentMeta, ExtentIndex)>), LogError> {
        let old = self.meta();
        let index = match self.index().await {
            Ok(index) => index,
            // Its file is gone, and so is all that it had.
            Err(LogError::Corrupt { .. }) => return Ok((old.base_offset, None)),
            Err(e) => return Err(e),
        };
        let Some(number) = index.find_offset(self.relative(to)) else { return Ok((to, None)) };
        let extent = index.extents()[number];
        let mut part = (*index).clone();
        drop(index);
        part.cut(extent.position);
        let mut end = self.base_offset() + i64::from(extent.relative_offset);
        match self.read_extent(number).await {
            Ok(Some(bytes)) => {
                end = to;
                for (header, range) in BatchIter::new(&bytes).map_while(Result::ok) {
                    if header.next_offset() > to {
                        end = to.min(header.base_offset);
                        break;
                    }
                    let newest = if header.record_count > 0 { header.max_timestamp } else { -1 };
                    part.push_batch(self.relative(header.base_offset), newest, &bytes[range]);
                }
            }
            Ok(None) | Err(LogError::Corrupt { .. }) => {}
            Err(e) => return Err(e),
        }
        part.close();
        if part.extents().is_empty() {
            return Ok((end, None));
        }
        let mut meta = SegmentMeta { next_offset: end, size: part.end(), ..old };
        if meta.max_timestamp_offset >= end {
            self.find_newest(&part, &mut meta).await?;
        }
        Ok((end, Some((meta, part))))
    }

    /// The largest timestamp of what the index has, and the batch that has it first.
    async fn find_newest(
        self: &Rc<Self>,
        part: &ExtentIndex,
        meta: &mut SegmentMeta,
    ) -> Result<(), LogError> {
        let newest = part.extents().iter().map(|extent| extent.max_timestamp).max().unwrap_or(-1);
        (meta.max_timestamp, meta.max_timestamp_offset) = (newest.max(-1), meta.base_offset);
        let Some(number) = part.find_timestamp(0, newest).filter(|_| newest >= 0) else { return Ok(()) };
        let extent = part.extents()[number];
        meta.max_timestamp_offset = self.base_offset() + i64::from(extent.relative_offset);
        // The last extent of the part is the front of one of the segment's.
        match self.read_extent(number).await {
            Ok(Some(bytes)) => {
                let mut batches = BatchIter::new(&bytes).map_while(Result::ok);
                if let Some((header, _)) = batches.find(|(header, _)| header.max_timestamp == newest) {
                    meta.max_timestamp_offset = header.base_offset;
                }
                Ok(())
            }
            Ok(None) | Err(LogError::Corrupt { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
