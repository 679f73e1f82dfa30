//! The metadata log: every change of the metadata, in order, on disk before it is told to anyone.
//!
//! There is one file, `metadata-<offset>.log`, named after the offset that its first frame, a snapshot, stands for. When
//! it has grown well past its snapshot a new file is written whole, made durable and renamed into place; then the old one
//! is removed. The file with the highest number is the log.
//!
//! ```text
//!    0  magic "WEIRMETA" │ format u32 │ first offset u64 │ CRC-32 u32          integers little-endian
//!  512  mark: length of the file that was durable at the last change u64 │ CRC-32 u32
//! 1024  committed: offset up to which changes are known to be committed u64 │ CRC-32 u32
//! 4096  frame │ frame │ …
//! frame: payload length u32 │ CRC-32 u32 │ offset u64 │ epoch i32 │ kind u8 │ 0 │ place u16 │ payload
//! kinds: 1 records │ 2 membership │ 3 blank │ 5 snapshot: membership, then records; the first frame, and no other
//!        4 snapshot without the membership's epoch: read, not written
//! ```
//! A frame's CRC covers all of it but itself. Offsets are dense, epochs never fall. Entries that are written at once count
//! their place in the write.
//!
//! The mark is written after each fdatasync and not synced itself: it may be stale, never ahead. What is broken past it is
//! a write that was cut short and was never acknowledged, and is dropped. What is broken below it, or has a sound frame of a
//! later write after it, is corruption: opening fails and says where, and nothing is changed on disk.
//!
//! What is committed is written after what it is of was synced, and not synced itself: it may be stale. A node that is not alone
//! knows by it what it may show before others have said more.
//!
//! Entries that were never committed can be taken back: the mark is lowered and synced first, then the file is cut.
//!
//! Format 1 had no epochs, kinds and membership, and other records (`v1`). It opens by being written anew under the next
//! number; versions that know only format 1 then refuse the file by its format.

use std::io;
use std::path::{Path, PathBuf};

pub use super::errors::MetadataError;
use super::files::{file_path, io_error, list, number_of};
use super::frame::{COMMITTED, HEADER, MARK, encode_entry, encode_header, encode_snapshot};
pub use super::frame::{Entry, FORMAT, Snapshot, What, put_entries, take_entries};
pub use super::scan::Content;
use super::scan::{Scanned, scan};
use crate::rt::fs::{self, BlockingFile};

/// A log is not rewritten before it has grown by this much, and by several times its snapshot.
const MIN_GROWTH: u64 = 1 << 20;
/// Entries in one write.
pub const MAX_GROUP: usize = 1 << 16;
/// Space that is reserved ahead of the changes.
const AHEAD: u64 = 256 << 10;

/// A log that was read and not opened.
pub struct Inspected {
    pub path: PathBuf,
    /// The number in its name.
    pub first: u64,
    pub content: Content,
    pub committed: u64,
}

/// A log that is written and is not yet the log.
#[derive(Debug)]
pub struct Prepared {
    dir: PathBuf,
    unfinished: PathBuf,
    file: BlockingFile,
    end: u64,
    offset: u64,
    epoch: i32,
}

#[derive(Debug)]
pub struct MetadataLog {
    dir: PathBuf,
    path: PathBuf,
    file: BlockingFile,
    /// Where the next frame goes; everything before it is durable.
    end: u64,
    first: u64,
    first_epoch: i32,
    next_offset: u64,
    last_epoch: i32,
    rewrite_at: u64,
    /// Up to here the file has its space on the disk.
    reserved: u64,
    poisoned: Option<String>,
}

impl MetadataLog {
    /// Reads the log in `dir` and changes nothing; `None` where there is none.
    pub fn inspect(dir: &Path) -> Result<Option<Inspected>, MetadataError> {
        let names = fs::read_dir_names(dir).map_err(io_error("list", dir))?;
        let Some(first) = names.iter().filter_map(|name| number_of(name)).max() else { return Ok(None) };
        let path = file_path(dir, first);
        let (_, Scanned { content, committed, .. }) = read(&path, first)?;
        Ok(Some(Inspected { path, first, content, committed }))
    }

    /// Opens the log in `dir` and reads all of it.
    pub fn open(dir: &Path) -> Result<Option<(Self, Content)>, MetadataError> {
        Ok(Self::open_at(dir)?.map(|(log, content, _)| (log, content)))
    }

    /// As [`Self::open`], with the offset up to which all is known to be committed.
    pub fn open_at(dir: &Path) -> Result<Option<(Self, Content, u64)>, MetadataError> {
        let mut numbers = list(dir)?;
        let Some(first) = numbers.pop() else { return Ok(None) };
        let path = file_path(dir, first);
        let (len, Scanned { content, snapshot_end, end, committed }) = read(&path, first)?;
        let file = BlockingFile::open(&path).map_err(io_error("open", &path))?;
        if end < len {
            log::warn!("dropping {} bytes of an unfinished change from {}", len - end, path.display());
            file.set_len(end).and_then(|()| file.sync()).map_err(io_error("cut", &path))?;
        }
        for number in numbers {
            let old = file_path(dir, number);
            fs::remove_file(&old).map_err(io_error("remove", &old))?;
        }
        let (count, first_epoch, last_epoch) = match &content {
            Content::Old(commits) => (commits.len() as u64 - 1, 0, 0),
            Content::Now { snapshot, entries } => {
                let last_epoch = entries.last().map_or(snapshot.epoch, |(entry, _)| entry.epoch);
                (entries.len() as u64, snapshot.epoch, last_epoch)
            }
        };
        let mut log = Self::at(dir, path, file, end, first, snapshot_end);
        (log.next_offset, log.first_epoch, log.last_epoch) = (first + 1 + count, first_epoch, last_epoch);
        log.write_mark(end);
        Ok(Some((log, content, committed)))
    }

    /// Writes a new log that begins with `snapshot`. Not the log of this directory until it is renamed, at the very end.
    pub fn create(dir: &Path, snapshot: &Snapshot) -> Result<Self, MetadataError> {
        Self::finish(Self::prepare(dir, snapshot)?, &[])
    }

    /// Writes a new log that begins with `snapshot`, durably, and leaves the log there is what it is.
    pub fn prepare(dir: &Path, snapshot: &Snapshot) -> Result<Prepared, MetadataError> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        let path = file_path(dir, snapshot.offset);
        let unfinished = path.with_extension("tmp");
        let frame = encode_snapshot(snapshot)?;
        let file = BlockingFile::create(&unfinished).map_err(io_error("create", &unfinished))?;
        let mut header = vec![0; HEADER as usize];
        header[..24].copy_from_slice(&encode_header(snapshot.offset));
        let written = file
            .write_all_at(&header, 0)
            .and_then(|()| file.write_all_at(&frame, HEADER))
            .and_then(|()| file.sync());
        written.map_err(io_error("write", &unfinished))?;
        let end = HEADER + frame.len() as u64;
        let (dir, offset, epoch) = (dir.to_path_buf(), snapshot.offset, snapshot.epoch);
        Ok(Prepared { dir, unfinished, file, end, offset, epoch })
    }

    /// Gives a prepared log its name, with the entries that follow its snapshot.
    fn finish(prepared: Prepared, entries: &[Entry]) -> Result<Self, MetadataError> {
        let Prepared { dir, unfinished, file, end: snapshot_end, offset, epoch } = prepared;
        let mut frames = Vec::new();
        for (entry, place) in entries.iter().zip((0..MAX_GROUP).cycle()) {
            encode_entry(entry, place as u16, &mut frames)?;
        }
        if !frames.is_empty() {
            let written = file.write_all_at(&frames, snapshot_end).and_then(|()| file.sync());
            written.map_err(io_error("write", &unfinished))?;
        }
        let path = file_path(&dir, offset);
        fs::rename(&unfinished, &path).map_err(io_error("rename", &unfinished))?;
        sync_dir(&dir)?;
        let end = snapshot_end + frames.len() as u64;
        let mut log = Self::at(&dir, path, file, end, offset, snapshot_end);
        let last = entries.last().map_or((offset, epoch), |last| (last.offset, last.epoch));
        (log.next_offset, log.first_epoch, log.last_epoch) = (last.0 + 1, epoch, last.1);
        log.write_mark(end);
        Ok(log)
    }

    fn at(dir: &Path, path: PathBuf, file: BlockingFile, end: u64, first: u64, snapshot_end: u64) -> Self {
        let snapshot = snapshot_end - HEADER;
        Self {
            dir: dir.to_path_buf(),
            path,
            file,
            end,
            first,
            first_epoch: 0,
            next_offset: first + 1,
            last_epoch: 0,
            rewrite_at: end.max(HEADER + snapshot * 4 + MIN_GROWTH),
            reserved: end,
            poisoned: None,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Offset and epoch of the snapshot that it begins with.
    pub fn first(&self) -> (u64, i32) {
        (self.first, self.first_epoch)
    }

    /// Of the last entry.
    pub fn last_epoch(&self) -> i32 {
        self.last_epoch
    }

    /// The offset of the entry that comes next.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Makes entries durable, all by one write and one sync. After a failed sync nothing more is taken: what the disk holds is
    /// then unknown. An error means that none of them counts.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), MetadataError> {
        if let Some(why) = &self.poisoned {
            return Err(MetadataError::Poisoned(why.clone()));
        }
        let Some(last) = entries.last() else { return Ok(()) };
        assert!(entries.len() <= MAX_GROUP, "their places are counted");
        let mut frames = Vec::new();
        let mut epoch = self.last_epoch;
        for (place, (entry, offset)) in entries.iter().zip(self.next_offset..).enumerate() {
            assert!(
                entry.offset == offset && entry.epoch >= epoch,
                "offsets are dense and epochs never fall"
            );
            epoch = entry.epoch;
            encode_entry(entry, place as u16, &mut frames)?;
        }
        self.reserve(self.end + frames.len() as u64);
        if let Err(error) = self.file.write_all_at(&frames, self.end) {
            // Nothing was acknowledged: with the partial frames gone the log is as it was.
            if let Err(cut) = self.file.set_len(self.end) {
                self.poisoned = Some(cut.to_string());
            }
            return Err(io_error("write", &self.path)(error));
        }
        if let Err(error) = self.file.sync() {
            // A full disk may say so only now, of what is new. The log is as it was if that is gone for certain.
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if !full || self.file.set_len(self.end).and_then(|()| self.file.sync()).is_err() {
                self.poisoned = Some(error.to_string());
            }
            return Err(io_error("sync", &self.path)(error));
        }
        self.end += frames.len() as u64;
        (self.next_offset, self.last_epoch) = (last.offset + 1, last.epoch);
        self.write_mark(self.end);
        Ok(())
    }

    /// Takes back every entry from `offset` on, none of which was committed. When it returns they do not come back.
    pub fn truncate(&mut self, offset: u64) -> Result<(), MetadataError> {
        if let Some(why) = &self.poisoned {
            return Err(MetadataError::Poisoned(why.clone()));
        }
        assert!(offset > self.first, "a snapshot is committed");
        if offset >= self.next_offset {
            return Ok(());
        }
        let (_, Scanned { content, snapshot_end, .. }) = read(&self.path, self.first)?;
        let Content::Now { snapshot, entries } = content else { unreachable!("a log of this format") };
        let kept = entries.iter().take_while(|(entry, _)| entry.offset < offset).last();
        let end = kept.map_or(snapshot_end, |(_, end)| *end);
        // The mark first, and durably: were the file shorter than what it says, a start would take that for damage.
        let lowered = self.try_mark(end).and_then(|()| self.file.sync());
        lowered.map_err(io_error("write", &self.path))?;
        if let Err(error) = self.file.set_len(end).and_then(|()| self.file.sync()) {
            self.poisoned = Some(error.to_string());
            return Err(io_error("cut", &self.path)(error));
        }
        self.end = end;
        self.reserved = end;
        (self.next_offset, self.last_epoch) = (offset, kept.map_or(snapshot.epoch, |(entry, _)| entry.epoch));
        Ok(())
    }

    /// Has space for the next changes on the disk before they come, so that a full one still takes some: what is deleted
    /// to make room is such a change, and so is a start. Where it cannot be had, the write says why.
    fn reserve(&mut self, needed: u64) {
        if needed > self.reserved && self.file.reserve(needed + AHEAD).is_ok() {
            self.reserved = needed + AHEAD;
        }
    }

    /// Whether a snapshot would now be much smaller than the log.
    pub fn wants_rewrite(&self) -> bool {
        self.poisoned.is_none() && self.end > self.rewrite_at
    }

    /// Replaces the log by a snapshot of all that is in it.
    pub fn rewrite(&mut self, snapshot: &Snapshot) -> Result<(), MetadataError> {
        assert!(snapshot.offset + 1 == self.next_offset, "nothing is left out");
        match Self::prepare(&self.dir, snapshot) {
            Ok(prepared) => self.replace(prepared, &[]),
            Err(error) => {
                self.rewrite_at = self.end + MIN_GROWTH;
                Err(error)
            }
        }
    }

    /// Replaces the log by a prepared one and the entries that follow its snapshot, from the very next on.
    pub fn replace(&mut self, prepared: Prepared, entries: &[Entry]) -> Result<(), MetadataError> {
        if let Some(why) = &self.poisoned {
            return Err(MetadataError::Poisoned(why.clone()));
        }
        assert!(prepared.offset >= self.first, "a snapshot is never taken back");
        assert!(entries.iter().map(|entry| entry.offset).eq((prepared.offset + 1..).take(entries.len())));
        let target = file_path(&self.dir, prepared.offset);
        match Self::finish(prepared, entries) {
            Ok(new) => {
                let old = std::mem::replace(self, new);
                if old.path != self.path
                    && let Err(error) = fs::remove_file(&old.path)
                {
                    log::warn!("cannot remove the old metadata log {}: {error}", old.path.display());
                }
                Ok(())
            }
            Err(error) => {
                // Once the new file is in place it is the log, whatever failed after.
                if target.exists() {
                    self.poisoned = Some(error.to_string());
                }
                self.rewrite_at = self.end + MIN_GROWTH;
                Err(error)
            }
        }
    }

    /// Notes that changes up to an offset, which are all in the log, are committed. Not synced.
    pub fn note_committed(&self, offset: u64) {
        assert!(offset < self.next_offset, "what is committed is in the log");
        if let Err(error) = self.write_number(offset, COMMITTED) {
            log::warn!("cannot mark {}: {error}", self.path.display());
        }
    }

    fn write_mark(&self, end: u64) {
        if let Err(error) = self.try_mark(end) {
            log::warn!("cannot mark {}: {error}", self.path.display());
        }
    }

    fn try_mark(&self, end: u64) -> io::Result<()> {
        self.write_number(end, MARK)
    }

    fn write_number(&self, number: u64, at: u64) -> io::Result<()> {
        let mut mark = [0; 12];
        mark[..8].copy_from_slice(&number.to_le_bytes());
        let crc = crc32fast::hash(&mark[..8]);
        mark[8..].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&mark, at)
    }
}

/// A log's length, and what is in it.
fn read(path: &Path, first: u64) -> Result<(u64, Scanned), MetadataError> {
    let bytes = fs::read_all(path).map_err(io_error("read", path))?;
    Ok((bytes.len() as u64, scan(path, &bytes, first)?))
}

fn sync_dir(dir: &Path) -> Result<(), MetadataError> {
    fs::sync_dir(dir).map_err(io_error("sync", dir))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
