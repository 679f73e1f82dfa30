//! From the tail to the active segment's file: write, sync, roll, close.
//!
//! ```text
//! file    … block | block | partial block, padded |
//! write             [ partial block again | batches | pad ]     one aligned buffer, O_DIRECT
//! ```
//! The bytes of the last, partial block are kept in memory and written again in front of what follows. The pad is a
//! batch head that claims more bytes than any file has, then zeros: Kafka's tools stop there as at a batch cut short.
//! Sealing and closing cut it off.
//!
//! A failed write changes nothing and can be tried again. A failed sync cannot, but for want of room: what the disk holds
//! is unknown from then on, so the log takes no more writes, its tail stays in the journal, and every flush says why.

use std::rc::Rc;

use crate::log::error::is_out_of_files;
use crate::log::files::owner::make_directory;
use crate::log::segment::extents::ExtentIndex;
use crate::log::segment::{Segment, SegmentMeta, with_files};
use crate::log::{LogError, Lsn};
use crate::model::Offset;
use crate::rt::{self, AlignedBuf, BLOCK};

use super::PartitionLog;
use super::active::Active;
use super::roll::{NextBatch, lay_out, must_roll, next_batch};
use super::tail::TailBatch;

/// Batches written with one operation, unless a single one is larger: with the partial block in front and the padding
/// behind them they fill a buffer of 1 MiB.
const CHUNK_BYTES: usize = (1 << 20) - 2 * BLOCK;
/// Batches smaller than this on average are served from the chunk they were written with: they then no longer keep
/// the request frames that they came in.
const SMALL_BATCH_BYTES: usize = 16 << 10;
/// Ends the batches of an active segment: base offset −1, batch length `i32::MAX`.
const PAD: [u8; 12] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];

/// A chunk ready to be written: the partial block, then batches.
struct Chunk {
    buffer: AlignedBuf,
    /// Where the batches start, and one past their last byte.
    start: usize,
    end: usize,
    batches: usize,
    extents: ExtentIndex,
    first_lsn: Lsn,
    meta: SegmentMeta,
}

/// A write whose caller went away may still reach the file, after and over a later one: no later one may follow.
struct Underway<'a>(&'a PartitionLog);

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.condition.fail("a write was abandoned");
    }
}

impl PartitionLog {
    /// Moves the tail, up to and with the entry at `upto`, to the segment file and syncs it. Then the journal may
    /// forget it.
    pub async fn flush(&self, upto: Option<Lsn>) -> Result<(), LogError> {
        let _turn = self.turn().await;
        if self.is_removed() {
            return Ok(());
        }
        self.write_tail(upto).await?;
        if self.segments.unsynced().is_some() { self.sync().await } else { Ok(()) }
    }

    /// Syncs what was written, and writes nothing.
    pub async fn sync_written(&self) -> Result<(), LogError> {
        let _turn = self.turn().await;
        let nothing = self.is_removed() || self.segments.unsynced().is_none();
        if nothing { Ok(()) } else { self.sync().await }
    }

    /// As [`flush`](Self::flush) without the sync: frees the memory, but the journal still has to keep the entries.
    pub async fn write(&self, upto: Option<Lsn>) -> Result<(), LogError> {
        let _turn = self.turn().await;
        if self.is_removed() {
            return Ok(());
        }
        self.write_tail(upto).await
    }

    /// Flushes everything, cuts the padding and finishes pending deletions: the next start finds all in order.
    pub async fn close(&self) -> Result<(), LogError> {
        let _turn = self.turn().await;
        if self.is_removed() {
            return Ok(());
        }
        self.compaction.stop();
        // What cannot be finished now is finished by the next start.
        let _ = self.finish_replacement().await;
        self.write_tail(None).await?;
        if self.is_cut_halfway() {
            let e = std::io::Error::other("a truncation is not on disk");
            return Err(LogError::io(&*self.dir, e));
        }
        self.unlink_dead().await;
        if let Some(active) = self.segments.active()
            && !self.directory.is_in_order()
        {
            self.cut_padding(&active).await?;
            self.sync().await?;
        }
        self.directory.set_in_order(true);
        Ok(())
    }

    /// Writes the tail if a segment ends in it: what is to be compacted has to be in sealed segments.
    pub async fn write_what_rolls(&self) -> Result<(), LogError> {
        if self.is_removed() || !self.tail_rolls() {
            return Ok(());
        }
        self.write(None).await
    }

    fn tail_rolls(&self) -> bool {
        let (segments, sealed) = self.layout(rt::unix_ms());
        segments.len() > sealed + 1
    }

    /// The segments that there are once all of the tail is written, and how many of them are sealed already.
    pub(super) fn layout(&self, now_ms: i64) -> (Vec<SegmentMeta>, usize) {
        let tail = self.tail.borrow();
        let (mut segments, sealed) = (self.segments.metas(), self.segments.sealed_count());
        let open = segments.len() > sealed;
        lay_out(&mut segments, open, tail.pinned().map(|b| next_batch(&b, now_ms)), &self.limits());
        (segments, sealed)
    }

    /// Writes up to an entry, or all that is there now. Never what is appended meanwhile: under load that would not end,
    /// and the journal would fill.
    pub(in crate::log) async fn write_tail(&self, upto: Option<Lsn>) -> Result<(), LogError> {
        if !self.finish_cut().await? {
            // What follows on a truncation is on disk no earlier than it.
            return Ok(());
        }
        let end = self.end_offset().0;
        while self.write_chunk(upto, end).await? {}
        Ok(())
    }

    /// Writes the next chunk; false if there is nothing to write.
    async fn write_chunk(&self, upto: Option<Lsn>, end: i64) -> Result<bool, LogError> {
        self.check_usable()?;
        let wanted = |b: &TailBatch<'_>| b.base_offset < end && upto.is_none_or(|upto| b.lsn <= upto);
        let now_ms = rt::unix_ms();
        let first = self.tail.borrow().pinned().next().filter(wanted).map(|b| next_batch(&b, now_ms));
        let Some(first) = first else { return Ok(false) };
        let active = self.active_for(&first).await?;
        let segment = &active.segment;
        let extents = segment.index().await?.ahead();
        let partial = active.last_block().await?;
        let mut chunk = self.gather(segment.meta(), extents, &partial, first.bytes, wanted);
        *active.last_block.borrow_mut() = Some(partial);
        let file = segment.file(true)?;
        self.note_disorder();
        let position = segment.meta().size as usize / BLOCK * BLOCK;
        let underway = Underway(self);
        let written;
        (written, chunk.buffer) = file.write(position as u64, chunk.buffer).await;
        std::mem::forget(underway);
        if let Err(e) = written {
            return Err(LogError::io(segment.path(), e));
        }
        self.note_written(&active, chunk);
        if segment.sidecar_is_behind() {
            segment.save_sidecar().await;
        }
        Ok(true)
    }

    /// Copies as many pinned batches as fit into a chunk and into the segment behind the partial block.
    fn gather(
        &self,
        mut meta: SegmentMeta,
        mut extents: ExtentIndex,
        partial: &[u8],
        first_bytes: usize,
        wanted: impl Fn(&TailBatch<'_>) -> bool,
    ) -> Chunk {
        let tail = self.tail.borrow();
        let limits = self.limits();
        let now_ms = rt::unix_ms();
        let most = (tail.pinned_bytes() as usize).min(CHUNK_BYTES).max(first_bytes);
        let mut buffer = AlignedBuf::recycled(partial.len() + most + BLOCK);
        buffer.extend_from_slice(partial);
        let mut batches = 0;
        let mut first_lsn = Lsn::ZERO;
        for batch in tail.pinned().take_while(wanted) {
            let full = buffer.len() - partial.len() + batch.bytes.len() > most;
            let next = next_batch(&batch, now_ms);
            if batches > 0 && (full || must_roll(&meta, &next, &limits)) {
                break;
            }
            if batches == 0 {
                first_lsn = batch.lsn;
            }
            buffer.extend_from_slice(batch.bytes);
            next.push_to(&mut meta, &limits);
            // Now that the bytes are in the processor's cache, their checksum costs little.
            let relative_offset = (batch.base_offset - meta.base_offset) as u32;
            extents.push_batch(relative_offset, batch.max_timestamp, batch.bytes);
            batches += 1;
        }
        let end = buffer.len();
        if end.next_multiple_of(BLOCK) - end >= PAD.len() {
            buffer.extend_from_slice(&PAD);
        }
        buffer.pad_to_block();
        Chunk { buffer, start: partial.len(), end, batches, extents, first_lsn, meta }
    }

    /// The chunk is in the file: the segment, its index and the tail say so, in one step.
    fn note_written(&self, active: &Active, chunk: Chunk) {
        let Chunk { buffer, start, end, batches, extents, first_lsn, meta } = chunk;
        let bytes = buffer.as_slice();
        active.segment.with_index(|index| index.join(extents));
        active.segment.set_meta(meta);
        *active.last_block.borrow_mut() = Some(bytes[end / BLOCK * BLOCK..end].to_vec());
        self.segments.note_written(first_lsn);
        let small = (end - start) / batches < SMALL_BATCH_BYTES;
        let (cost, below) = if small && buffer.capacity() / 2 <= end {
            let chunk = buffer.freeze();
            self.tail.borrow_mut().mark_written(batches, Some((&chunk, start)))
        } else {
            self.tail.borrow_mut().mark_written(batches, None)
        };
        self.resources.unpin(self.evictable(), below, cost);
    }

    /// The segment that takes the batch `next`: the active one, or a new one after a roll.
    async fn active_for(&self, next: &NextBatch) -> Result<Rc<Active>, LogError> {
        if let Some(active) = self.segments.active() {
            if !must_roll(&active.segment.meta(), next, &self.limits()) {
                return Ok(active);
            }
            self.seal().await?;
        }
        if !self.directory.is_made() {
            let (dir, id) = (self.dir.to_path_buf(), self.id());
            let made = rt::blocking(move || make_directory(&dir, id)).await;
            made.map_err(|e| LogError::io(&self.dir, e))?;
        }
        let meta = SegmentMeta::new(next.base_offset, next.written_ms);
        let segment = Segment::new(self.dir.clone(), self.resources.clone(), meta, false);
        let active = Active::new(segment);
        self.segments.begin(active.clone());
        Ok(active)
    }

    /// Ends the active segment: exact length, synced, never written again.
    pub(in crate::log) async fn seal(&self) -> Result<(), LogError> {
        let Some(active) = self.segments.active() else { return Ok(()) };
        let segment = &active.segment;
        if segment.meta().size == 0 {
            self.segments.end_empty();
            return Ok(());
        }
        self.cut_padding(&active).await?;
        self.sync().await?;
        segment.set_sealed();
        self.segments.end();
        // Its index may be evicted from now on.
        segment.index().await?;
        segment.save_sidecar().await;
        Ok(())
    }

    async fn cut_padding(&self, active: &Active) -> Result<(), LogError> {
        let segment = &active.segment;
        if segment.meta().size == 0 {
            return Ok(());
        }
        let file = segment.file(false)?;
        let size = u64::from(segment.meta().size);
        file.set_len(size).await.map_err(|e| LogError::io(segment.path(), e))
    }

    /// Makes durable what was written. Everything but the active segment already is.
    pub(in crate::log) async fn sync(&self) -> Result<(), LogError> {
        self.check_usable()?;
        let Some(active) = self.segments.active() else { return Ok(()) };
        let (meta, extents) = (active.segment.meta(), active.segment.unsaved_extents());
        if meta.size == 0 {
            return Ok(());
        }
        let file = active.segment.file(false)?;
        if let Err(e) = file.fdatasync().await {
            return Err(self.fail_to_sync(active.segment.path(), e));
        }
        if active.created.get() {
            self.sync_directories().await?;
            active.created.set(false);
        }
        active.durable.set(meta);
        *active.extents.borrow_mut() = extents;
        self.ends.sync(Offset(meta.next_offset));
        self.segments.note_synced();
        Ok(())
    }

    /// A new file's name is durable once its directory is, and a new directory's once its parent is.
    async fn sync_directories(&self) -> Result<(), LogError> {
        let mut directories = vec![self.dir.to_path_buf()];
        if !self.directory.is_made() {
            directories.extend(self.dir.parent().map(|p| p.to_path_buf()));
        }
        let synced = with_files(&self.resources, move || directories.iter().try_for_each(rt::fs::sync_dir));
        match synced.await {
            Ok(()) => {
                self.directory.set_made();
                Ok(())
            }
            // Nothing was synced, and nothing failed to be.
            Err(e) if is_out_of_files(&e) => Err(LogError::io(&*self.dir, e)),
            Err(e) => Err(self.fail_to_sync(self.dir.to_path_buf(), e)),
        }
    }
}
