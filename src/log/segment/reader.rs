//! Reading segments: whole batches, straight from disk, without a copy.
//!
//! A segment is read in *windows* ([`super::windows`]).
//!
//! Every extent is checked before anything of it is returned. An extent that fails is reported when a reader gets to
//! it; its neighbours stay readable.

use std::rc::Rc;

use bytes::Bytes;

use crate::log::LogError;
use crate::log::resources::window::Window;
use crate::wire::batch::BatchHeader;

use super::Segment;
use super::extents::{Extent, ExtentIndex};
use super::windows::{Ahead, Plan};

/// Which batches to return: from the one holding `offset` on, below `limit`, at most `max_bytes` of them, but the
/// first one anyway with `at_least_one`.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub offset: i64,
    pub limit: i64,
    pub max_bytes: usize,
    pub at_least_one: bool,
}

/// What was found, and the offset at which to go on.
#[derive(Debug, Default)]
pub struct Found {
    pub batches: Vec<Bytes>,
    pub bytes: usize,
    pub next_offset: i64,
    /// The limit or the byte bound was met: there is nothing to go on for.
    pub full: bool,
}

impl Segment {
    pub(super) fn corrupt(&self, extent: &Extent, what: &str) -> LogError {
        let offset = self.base_offset() + i64::from(extent.relative_offset);
        let what = format!("{what}, {} bytes from record offset {offset} on", extent.length);
        LogError::corrupt(self.path(), u64::from(extent.position), what)
    }

    /// Reads from this segment. The caller made sure that `wanted.offset` lies in it.
    pub async fn read(self: &Rc<Self>, wanted: Wanted) -> Result<Found, LogError> {
        let index = self.index().await?;
        let end_offset = self.meta().next_offset;
        if index.extents().is_empty() {
            return Ok(Found { next_offset: end_offset, ..Found::default() });
        }
        // Compaction may have taken the segment's first offsets.
        let first = index.find_offset(self.relative(wanted.offset)).unwrap_or(0);
        let skipped = index.extents()[first].length as usize;
        let plans = self.plan(&index, first, wanted.max_bytes.saturating_add(skipped), Some(wanted.limit));
        let after = self.end_of_plans(&index, &plans, end_offset);
        drop(index);
        let mut pick = Pick { segment: self, wanted, found: Found::default(), room: wanted.max_bytes };
        pick.found.next_offset = wanted.offset;
        let extents: Vec<Extent> = plans.iter().flat_map(|p| p.extents.iter().copied()).collect();
        let mut i = 0;
        let mut ahead = Ahead::new(self, &plans);
        for plan in &plans {
            let window = &ahead.next().await;
            let mut run = Run::default();
            for _ in &plan.extents {
                let end = extents.get(i + 1).map_or(after, |e| self.absolute(e));
                let more = pick.extent(window, &extents[i], end, &mut run)?;
                i += 1;
                if !more {
                    pick.flush(window, &mut run);
                    return Ok(pick.found);
                }
            }
            pick.flush(window, &mut run);
        }
        // Nothing here although something may follow: compaction leaves gaps.
        if pick.found.bytes == 0 {
            pick.found.next_offset = after.max(wanted.offset);
        }
        Ok(pick.found)
    }

    pub fn absolute(&self, extent: &Extent) -> i64 {
        self.base_offset() + i64::from(extent.relative_offset)
    }

    /// The offset at which the last extent planned for ends: where the next one starts, or the segment's end.
    fn end_of_plans(&self, index: &ExtentIndex, plans: &[Plan], end_offset: i64) -> i64 {
        let end = plans.last().map_or(0, |p| p.key.end);
        let next = index.extents().partition_point(|e| e.position < end);
        index.extents().get(next).map_or(end_offset, |e| self.absolute(e))
    }

    /// One extent's bytes.
    pub async fn read_extent(self: &Rc<Self>, number: usize) -> Result<Option<Bytes>, LogError> {
        let index = self.index().await?;
        let Some(extent) = index.extents().get(number).copied() else { return Ok(None) };
        let plans = self.plan(&index, number, 1, None);
        drop(index);
        let window = Ahead::new(self, &plans[..1]).next().await;
        window.extent(&extent, self).map(Some)
    }

    /// Where the extent behind the one that has `offset` begins, or the segment ends.
    pub fn next_extent_offset(&self, offset: i64) -> i64 {
        let end = self.meta().next_offset;
        let index = self.index.borrow();
        let Some(index) = index.as_ref() else { return end };
        let next = index.find_offset(self.relative(offset)).map_or(0, |number| number + 1);
        index.extents().get(next).map_or(end, |extent| self.absolute(extent))
    }

    /// The bytes that have to be read to return the batch that holds `offset`.
    pub async fn first_read(self: &Rc<Self>, offset: i64) -> Result<usize, LogError> {
        let index = self.index().await?;
        let first = index.find_offset(self.relative(offset)).unwrap_or(0);
        Ok(self.plan(&index, first, 1, None).first().map_or(0, Plan::bytes))
    }
}

/// A stretch of a window that is going out, as positions in the file.
#[derive(Default)]
struct Run {
    from: u32,
    to: u32,
}

/// Picks batches out of checked extents.
struct Pick<'a> {
    segment: &'a Segment,
    wanted: Wanted,
    found: Found,
    room: usize,
}

impl Pick<'_> {
    /// Takes what is wanted of one extent; false when there is nothing more to take.
    fn extent(
        &mut self,
        window: &Window,
        extent: &Extent,
        end: i64,
        run: &mut Run,
    ) -> Result<bool, LogError> {
        if end <= self.wanted.offset {
            return Ok(true);
        }
        let bytes = match window.extent(extent, self.segment) {
            Ok(bytes) => bytes,
            // What was found so far is good; the reader meets the error when it comes back for the rest.
            Err(_) if self.found.bytes > 0 => {
                self.found.full = true;
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        let started = self.found.next_offset > self.wanted.offset;
        if started && end <= self.wanted.limit && bytes.len() <= self.room {
            self.take(extent.position, bytes.len(), end, run);
            return Ok(true);
        }
        let mut at = 0;
        while at < bytes.len() {
            let header = BatchHeader::parse(&bytes[at..])
                .ok()
                .filter(|h| h.size() <= bytes.len() - at)
                .ok_or_else(|| self.segment.corrupt(extent, "no batch header where one has to be"))?;
            let size = header.size();
            if header.next_offset() > self.wanted.offset {
                if self.found.bytes == 0 && self.wanted.at_least_one {
                    self.room = self.room.max(size);
                }
                if header.base_offset >= self.wanted.limit || size > self.room {
                    self.found.full = true;
                    return Ok(false);
                }
                self.take(extent.position + at as u32, size, header.next_offset(), run);
            }
            at += size;
        }
        Ok(true)
    }

    fn take(&mut self, position: u32, size: usize, next_offset: i64, run: &mut Run) {
        if run.to == run.from {
            run.from = position;
        }
        run.to = position + size as u32;
        self.room -= size;
        self.found.bytes += size;
        self.found.next_offset = next_offset;
    }

    /// The run of the window just done becomes one slice.
    fn flush(&mut self, window: &Window, run: &mut Run) {
        if run.to > run.from
            && let Some(slice) = window.slice(run.from, run.to)
        {
            self.found.batches.push(slice);
        }
        *run = Run::default();
    }
}
