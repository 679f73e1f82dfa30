//! Reading segments in slices, and writing the one that takes their place.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;

use crate::log::error::is_out_of_files;
use crate::log::files::names::file_name;
use crate::log::segment::extents::{Extent, ExtentIndex};
use crate::log::segment::{Segment, SegmentMeta};
use crate::log::{LogError, PartitionLog};
use crate::rt::{self, AlignedBuf, BLOCK, File, OpenOptions};
use crate::wire::batch::{self, BatchIter};

use super::manifest::CLEANED;

/// Read and worked on at a time, unless one batch is larger.
const SLICE_BYTES: u32 = 256 << 10;
const WRITE_BYTES: usize = 1 << 20;

/// Whole extents of a segment, in order.
pub(super) struct Slices {
    segment: Rc<Segment>,
    extents: Vec<Extent>,
    next: usize,
}

pub(super) struct Slice {
    pub bytes: Bytes,
    pub extents: Vec<Extent>,
}

impl Slice {
    /// The position, from the slice's start, of the first extent that is not what was written.
    pub fn check(&self) -> Result<(), usize> {
        let start = self.extents[0].position;
        let bad = self.extents.iter().find(|e| {
            let range = (e.position - start) as usize..(e.end() - start) as usize;
            !self.bytes.get(range).is_some_and(|bytes| e.matches(bytes))
        });
        bad.map_or(Ok(()), |e| Err((e.position - start) as usize))
    }
}

impl Slices {
    pub async fn of(segment: &Rc<Segment>) -> Result<Self, LogError> {
        let extents = segment.index().await?.extents().to_vec();
        Ok(Self { segment: segment.clone(), extents, next: 0 })
    }

    pub async fn next(&mut self) -> Result<Option<Slice>, LogError> {
        let Some(first) = self.extents.get(self.next) else { return Ok(None) };
        let start = first.position;
        let taken = self.extents[self.next..].partition_point(|e| e.end() - start <= SLICE_BYTES).max(1);
        let extents = self.extents[self.next..self.next + taken].to_vec();
        self.next += taken;
        let length = (extents[taken - 1].end() - start) as usize;
        let file = self.segment.file(false)?;
        let bytes =
            file.read(u64::from(start), length).await.map_err(|e| LogError::io(self.segment.path(), e))?;
        Ok(Some(Slice { bytes, extents }))
    }
}

/// The new segment as it is written. Its file is unlinked unless it is kept.
pub(super) struct Output {
    file: File,
    path: PathBuf,
    buffer: Option<AlignedBuf>,
    /// Where the buffer goes; a block boundary.
    position: u64,
    meta: SegmentMeta,
    index: ExtentIndex,
    most_bytes: u32,
    /// Set when the output exceeded its size limit; the file is discarded.
    over: bool,
    pub kept: bool,
}

impl Output {
    pub fn create(log: &PartitionLog, group: &[Rc<Segment>], most_bytes: u32) -> Result<Self, LogError> {
        let first = group[0].meta();
        let path = file_name(log.dir(), first.base_offset, CLEANED);
        let options = OpenOptions { write: true, create: true, truncate: true, direct: true };
        let mut file = File::open(&path, options);
        while file.as_ref().is_err_and(is_out_of_files) && log.resources().files().close_some() {
            file = File::open(&path, options);
        }
        let file = file.map_err(|e| LogError::io(&path, e))?;
        Ok(Self {
            file,
            path,
            buffer: Some(AlignedBuf::recycled(WRITE_BYTES)),
            position: 0,
            meta: SegmentMeta::new(first.base_offset, first.created_ms),
            index: ExtentIndex::default(),
            most_bytes,
            over: false,
            kept: false,
        })
    }

    /// Whether so much more is too much, now or before.
    pub fn is_over(&mut self, bytes: usize) -> bool {
        self.over |= u64::from(self.meta.size) + bytes as u64 > u64::from(self.most_bytes);
        self.over
    }

    pub async fn push(&mut self, batches: &[u8]) -> Result<(), LogError> {
        for batch in BatchIter::new(batches) {
            let (header, range) = batch.map_err(|e| LogError::corrupt(&self.path, 0, e.to_string()))?;
            let newest = if header.record_count > 0 { header.max_timestamp } else { batch::NO_TIMESTAMP };
            let relative = (header.base_offset - self.meta.base_offset) as u32;
            self.index.push_batch(relative, newest, &batches[range.clone()]);
            self.meta.push(header.base_offset, header.next_offset(), newest, range.len());
        }
        let mut rest = batches;
        while !rest.is_empty() {
            let buffer = self.buffer.get_or_insert_with(|| AlignedBuf::recycled(WRITE_BYTES));
            let taken = rest.len().min(buffer.capacity() - buffer.len());
            buffer.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if buffer.len() == buffer.capacity() {
                self.write().await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), LogError> {
        let Some(buffer) = self.buffer.take() else { return Ok(()) };
        let length = buffer.len() as u64;
        let (written, mut buffer) = self.file.write(self.position, buffer).await;
        written.map_err(|e| LogError::io(&self.path, e))?;
        buffer.truncate(0);
        self.buffer = Some(buffer);
        self.position += length;
        Ok(())
    }

    /// Syncs the file; what it holds, or `None` if that is nothing.
    pub async fn finish(
        &mut self,
        group: &[Rc<Segment>],
    ) -> Result<Option<(SegmentMeta, ExtentIndex)>, LogError> {
        if self.meta.size == 0 {
            return Ok(None);
        }
        if let Some(buffer) = &mut self.buffer {
            buffer.pad_to_block();
        }
        self.write().await?;
        let io = |e| LogError::io(&self.path, e);
        self.file.set_len(u64::from(self.meta.size)).await.map_err(io)?;
        self.file.fdatasync().await.map_err(io)?;
        let last = group[group.len() - 1].meta();
        self.meta.next_offset = last.next_offset;
        self.meta.written_ms = last.written_ms;
        self.index.close();
        Ok(Some((self.meta, std::mem::take(&mut self.index))))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.kept {
            let _ = rt::fs::remove_file(&self.path);
        }
    }
}

const _: () = assert!(WRITE_BYTES.is_multiple_of(BLOCK));
