//! The metadata log of a single node: every change of the metadata, in order, on disk before it is told
//! to anyone.
//!
//! There is one file, `metadata-<commit>.log`, named after the commit that its first frame, a snapshot,
//! stands for. When it has grown well past its snapshot a new file is written whole, made durable and
//! renamed into place; then the old one is removed. The file with the highest number is the log.
//!
//! ```text
//!    0  magic "WEIRMETA" │ format u32 │ first commit u64 │ CRC-32 u32          integers little-endian
//!  512  mark: length of the file that was durable at the last commit u64 │ CRC-32 u32
//! 4096  frame │ frame │ …
//! frame: payload length u32 │ CRC-32 u32 │ commit u64 │ payload (bincode: a list of records)
//! ```
//! A frame's CRC covers its length, commit and payload. Commits are numbered without gaps.
//!
//! The mark is written after each fdatasync and not synced itself: it may be stale, never ahead. What is
//! broken past it is a write that was cut short and was never acknowledged, and is dropped. What is broken
//! below it, or has a sound frame after it, is corruption: opening fails and says where, and nothing is
//! changed on disk.
//!
//! Format 1 is the first. A newer format refuses to open; a reader of an older one would convert it by
//! writing a snapshot in its own.

use std::io;
use std::path::{Path, PathBuf};

pub use super::frame::FORMAT;
use super::frame::{
    FRAME_HEADER, MAGIC, MAX_PAYLOAD, encode_frame, encode_header, frame_len, sound_frame, u32_at, u64_at,
};
use super::records::Record;
use crate::rt::fs::{self, BlockingFile};

const HEADER: u64 = 4096;
const MARK: u64 = 512;
/// A log is not rewritten before it has grown by this much, and by several times its snapshot.
const MIN_GROWTH: u64 = 1 << 20;
/// Space that is reserved ahead of the changes.
const AHEAD: u64 = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error("cannot {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the metadata log {path} is damaged at byte {offset}: {what}. Nothing was changed. Restore the file \
         from a backup or a copy of the disk; starting without it would lose topics"
    )]
    Corrupt { path: PathBuf, offset: u64, what: String },
    #[error(
        "the metadata log {path} has format {found}, and this version of Weir reads up to {FORMAT}: it was \
         written by a newer version. Start that version, or use another data directory"
    )]
    NewerFormat { path: PathBuf, found: u32 },
    #[error("the data directory belongs to broker {stored}, but this broker's id is {configured}")]
    OtherBroker { stored: i32, configured: i32 },
    #[error("one change of {0} bytes is too large for the metadata log")]
    TooLarge(usize),
    #[error("the metadata log failed earlier and takes no more changes until a restart: {0}")]
    Poisoned(String),
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> MetadataError + 'a {
    move |source| MetadataError::Io { doing, path: path.to_path_buf(), source }
}

/// One commit read back: its number and what it changed.
pub type Commit = (u64, Vec<Record>);

#[derive(Debug)]
pub struct MetadataLog {
    dir: PathBuf,
    path: PathBuf,
    file: BlockingFile,
    /// Where the next frame goes; everything before it is durable.
    end: u64,
    next_commit: u64,
    rewrite_at: u64,
    /// Up to here the file has its space on the disk.
    reserved: u64,
    poisoned: Option<String>,
}

impl MetadataLog {
    /// Opens the log in `dir` and reads all of it; `None` where there is none.
    pub fn open(dir: &Path) -> Result<Option<(Self, Vec<Commit>)>, MetadataError> {
        let mut numbers = list(dir)?;
        let Some(newest) = numbers.pop() else { return Ok(None) };
        let path = file_path(dir, newest);
        let (bytes, commits, end) = read(&path, newest)?;
        let file = BlockingFile::open(&path).map_err(io_error("open", &path))?;
        if end < bytes.len() as u64 {
            log::warn!(
                "dropping {} bytes of an unfinished change from {}",
                bytes.len() as u64 - end,
                path.display()
            );
            file.set_len(end).and_then(|()| file.sync()).map_err(io_error("cut", &path))?;
        }
        for number in numbers {
            let old = file_path(dir, number);
            fs::remove_file(&old).map_err(io_error("remove", &old))?;
        }
        let snapshot_bytes = frame_len(&bytes[HEADER as usize..]).unwrap_or(0);
        let next_commit = newest + commits.len() as u64;
        let log = Self::at(dir, path, file, end, next_commit, snapshot_bytes);
        log.write_mark();
        Ok(Some((log, commits)))
    }

    /// Reads the log in `dir` and changes nothing; `None` where there is none.
    pub fn inspect(dir: &Path) -> Result<Option<(PathBuf, Vec<Commit>)>, MetadataError> {
        let names = fs::read_dir_names(dir).map_err(io_error("list", dir))?;
        let newest = names.iter().filter_map(|name| number_of(name)).max();
        let Some(newest) = newest else { return Ok(None) };
        let path = file_path(dir, newest);
        let (_, commits, _) = read(&path, newest)?;
        Ok(Some((path, commits)))
    }

    /// Writes a new log that begins with `snapshot` as commit number `commit`. Not the log of this
    /// directory until it is renamed, at the very end.
    pub fn create(dir: &Path, commit: u64, snapshot: &[Record]) -> Result<Self, MetadataError> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        let path = file_path(dir, commit);
        let unfinished = path.with_extension("tmp");
        let frame = encode_frame(commit, snapshot)?;
        let file = BlockingFile::create(&unfinished).map_err(io_error("create", &unfinished))?;
        let mut header = vec![0; HEADER as usize];
        header[..24].copy_from_slice(&encode_header(commit));
        let written = file
            .write_all_at(&header, 0)
            .and_then(|()| file.write_all_at(&frame, HEADER))
            .and_then(|()| file.sync());
        written.map_err(io_error("write", &unfinished))?;
        fs::rename(&unfinished, &path).map_err(io_error("rename", &unfinished))?;
        sync_dir(dir)?;
        let end = HEADER + frame.len() as u64;
        let log = Self::at(dir, path, file, end, commit + 1, frame.len());
        log.write_mark();
        Ok(log)
    }

    fn at(
        dir: &Path,
        path: PathBuf,
        file: BlockingFile,
        end: u64,
        next_commit: u64,
        snapshot: usize,
    ) -> Self {
        let rewrite_at = end.max(HEADER + snapshot as u64 * 4 + MIN_GROWTH);
        let (reserved, poisoned) = (end, None);
        Self { dir: dir.to_path_buf(), path, file, end, next_commit, rewrite_at, reserved, poisoned }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes one commit durable and returns its number. After a failed sync nothing more is taken: what
    /// the disk holds is then unknown.
    pub fn append(&mut self, records: &[Record]) -> Result<u64, MetadataError> {
        if let Some(why) = &self.poisoned {
            return Err(MetadataError::Poisoned(why.clone()));
        }
        let frame = encode_frame(self.next_commit, records)?;
        self.reserve(self.end + frame.len() as u64);
        if let Err(error) = self.file.write_all_at(&frame, self.end) {
            // Nothing was acknowledged: with the partial frame gone the log is as it was.
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
        self.end += frame.len() as u64;
        let commit = self.next_commit;
        self.next_commit += 1;
        self.write_mark();
        Ok(commit)
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

    /// Replaces the log by a snapshot of all that was committed.
    pub fn rewrite(&mut self, snapshot: &[Record]) -> Result<(), MetadataError> {
        let commit = self.next_commit - 1;
        let target = file_path(&self.dir, commit);
        match Self::create(&self.dir, commit, snapshot) {
            Ok(new) => {
                let old = std::mem::replace(self, new);
                if let Err(error) = fs::remove_file(&old.path) {
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

    fn write_mark(&self) {
        let mut mark = [0; 12];
        mark[..8].copy_from_slice(&self.end.to_le_bytes());
        let crc = crc32fast::hash(&mark[..8]);
        mark[8..].copy_from_slice(&crc.to_le_bytes());
        if let Err(error) = self.file.write_all_at(&mark, MARK) {
            log::warn!("cannot mark {}: {error}", self.path.display());
        }
    }
}

fn file_path(dir: &Path, commit: u64) -> PathBuf {
    dir.join(format!("metadata-{commit:020}.log"))
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("metadata-")?.strip_suffix(".log")?.parse().ok()
}

/// A log's bytes, its commits, and where they end.
fn read(path: &Path, first: u64) -> Result<(Vec<u8>, Vec<Commit>, u64), MetadataError> {
    let bytes = fs::read_all(path).map_err(io_error("read", path))?;
    let (commits, end) = Scan { path, bytes: &bytes, first }.run()?;
    Ok((bytes, commits, end))
}

/// The numbers of the logs in `dir`, rising. Unfinished files are removed.
fn list(dir: &Path) -> Result<Vec<u64>, MetadataError> {
    let mut numbers = Vec::new();
    for name in fs::read_dir_names(dir).map_err(io_error("list", dir))? {
        if let Some(number) = number_of(&name) {
            numbers.push(number);
        } else if name.starts_with("metadata-") && name.ends_with(".tmp") {
            let path = dir.join(&name);
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn sync_dir(dir: &Path) -> Result<(), MetadataError> {
    fs::sync_dir(dir).map_err(io_error("sync", dir))
}

/// Reads a whole file.
struct Scan<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    first: u64,
}

impl Scan<'_> {
    fn corrupt(&self, offset: usize, what: impl Into<String>) -> MetadataError {
        MetadataError::Corrupt { path: self.path.to_path_buf(), offset: offset as u64, what: what.into() }
    }

    /// The commits, and where the last of them ends.
    fn run(&self) -> Result<(Vec<Commit>, u64), MetadataError> {
        self.check_header()?;
        let marked = self.mark();
        let mut commits: Vec<Commit> = Vec::new();
        let mut at = HEADER as usize;
        while at < self.bytes.len() {
            let commit = self.first + commits.len() as u64;
            let Some(len) = sound_frame(&self.bytes[at..], commit) else { break };
            let payload = &self.bytes[at + FRAME_HEADER..at + len];
            commits.push((commit, self.decode(at, payload)?));
            at += len;
        }
        if (at as u64) < marked {
            return Err(self.corrupt(at, format!("a change that was on disk up to byte {marked} is gone")));
        }
        if commits.is_empty() {
            return Err(self.corrupt(at, "the snapshot at the start is broken"));
        }
        let next = self.first + commits.len() as u64;
        if let Some(later) = self.find_later(at + 1, next) {
            return Err(self.corrupt(at, format!("broken, with a sound change after it at byte {later}")));
        }
        Ok((commits, at as u64))
    }

    fn check_header(&self) -> Result<(), MetadataError> {
        let Some(header) = self.bytes.get(..HEADER as usize) else {
            return Err(self.corrupt(self.bytes.len(), "the file ends inside its header"));
        };
        if &header[..8] != MAGIC {
            return Err(self.corrupt(0, "this is not a metadata log"));
        }
        if u32_at(header, 20) != Some(crc32fast::hash(&header[..20])) {
            return Err(self.corrupt(0, "the header's checksum is wrong"));
        }
        let found = u32_at(header, 8).unwrap_or(0);
        if found > FORMAT {
            return Err(MetadataError::NewerFormat { path: self.path.to_path_buf(), found });
        }
        if u64_at(header, 12) != Some(self.first) {
            return Err(self.corrupt(0, "the header does not belong to a file of this name"));
        }
        Ok(())
    }

    /// How far the file was durable at least; 0 where the mark says nothing.
    fn mark(&self) -> u64 {
        let mark = &self.bytes[MARK as usize..MARK as usize + 12];
        match u32_at(mark, 8) {
            Some(crc) if crc == crc32fast::hash(&mark[..8]) => u64_at(mark, 0).unwrap_or(0),
            _ => 0,
        }
    }

    fn find_later(&self, from: usize, commit: u64) -> Option<usize> {
        let near = commit..commit + 1024;
        (from..self.bytes.len()).find(|&at| {
            let bytes = &self.bytes[at..];
            u64_at(bytes, 8).is_some_and(|c| near.contains(&c) && sound_frame(bytes, c).is_some())
        })
    }

    fn decode(&self, at: usize, payload: &[u8]) -> Result<Vec<Record>, MetadataError> {
        let config = bincode::config::standard().with_limit::<MAX_PAYLOAD>();
        match bincode::serde::decode_from_slice::<Vec<Record>, _>(payload, config) {
            Ok((records, used)) if used == payload.len() => Ok(records),
            Ok(_) => Err(self.corrupt(at, "a change is longer than its records")),
            Err(error) => Err(self.corrupt(at, format!("a change cannot be read: {error}"))),
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
