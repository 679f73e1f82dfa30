//! Reads a metadata log whole, of any format: what is acknowledged and damaged is told from what a crash cut short.

use std::path::Path;

use super::errors::MetadataError;
use super::frame::{
    COMMITTED, Entry, FORMAT, Frame, HEADER, MAGIC, MARK, Snapshot, place, sound_frame, u32_at, u64_at,
};
use super::records::RecordError;
use super::v1;

/// A log that was read.
#[derive(Debug)]
pub enum Content {
    /// Of format 1: its commits, numbered from that of its name on.
    Old(Vec<Vec<v1::Record>>),
    /// Of this format, with where each entry ends.
    Now { snapshot: Snapshot, entries: Vec<(Entry, u64)> },
}

#[derive(Debug)]
pub struct Scanned {
    pub content: Content,
    /// Where the snapshot ends.
    pub snapshot_end: u64,
    /// Where the last frame ends.
    pub end: u64,
    /// A change up to which all are known to be committed; 0 where that is not said.
    pub committed: u64,
}

/// `first` is the number in the file's name.
pub fn scan(path: &Path, bytes: &[u8], first: u64) -> Result<Scanned, MetadataError> {
    let scan = Scan { path, bytes, first };
    match scan.check_header()? {
        1 => scan.old(),
        _ => scan.now(),
    }
}

struct Scan<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    first: u64,
}

impl Scan<'_> {
    fn corrupt(&self, offset: usize, what: impl Into<String>) -> MetadataError {
        MetadataError::Corrupt { path: self.path.to_path_buf(), offset: offset as u64, what: what.into() }
    }

    fn now(&self) -> Result<Scanned, MetadataError> {
        let (frames, end) = self.frames(sound_frame, place)?;
        let mut entries = Vec::with_capacity(frames.len());
        let (at, len) = frames[0];
        let snapshot = Frame::of(&self.bytes[at..at + len]).snapshot().map_err(|e| self.unreadable(at, e))?;
        let mut epoch = snapshot.epoch;
        for (at, len) in &frames[1..] {
            let entry = Frame::of(&self.bytes[*at..at + len]).entry().map_err(|e| self.unreadable(*at, e))?;
            if entry.epoch < epoch {
                return Err(self.corrupt(*at, format!("epoch {} comes after epoch {epoch}", entry.epoch)));
            }
            epoch = entry.epoch;
            entries.push((entry, (at + len) as u64));
        }
        let content = Content::Now { snapshot, entries };
        let committed = self.checked(COMMITTED);
        Ok(Scanned { content, snapshot_end: (at + len) as u64, end, committed })
    }

    fn old(&self) -> Result<Scanned, MetadataError> {
        let (frames, end) = self.frames(v1::sound_frame, |_| 0)?;
        let commit = |(at, len): &(usize, usize)| {
            v1::decode(&self.bytes[*at..at + len]).map_err(|why| self.corrupt(*at, why))
        };
        let commits = frames.iter().map(commit).collect::<Result<_, _>>()?;
        let (at, len) = frames[0];
        Ok(Scanned { content: Content::Old(commits), snapshot_end: (at + len) as u64, end, committed: 0 })
    }

    /// Where each frame is and how long, and where the last ends; there is one at least. `place` is a frame's place in its
    /// write: of one that was cut short any frame may be whole, also behind one that is not.
    fn frames(
        &self,
        sound: impl Fn(&[u8], u64) -> Option<usize>,
        place: impl Fn(&[u8]) -> u64,
    ) -> Result<(Vec<(usize, usize)>, u64), MetadataError> {
        // How far the file was durable at least.
        let marked = self.checked(MARK);
        let mut frames = Vec::new();
        let mut at = HEADER as usize;
        while let Some(len) = sound(&self.bytes[at..], self.first + frames.len() as u64) {
            frames.push((at, len));
            at += len;
        }
        if (at as u64) < marked {
            return Err(self.corrupt(at, format!("a change that was on disk up to byte {marked} is gone")));
        }
        if frames.is_empty() {
            return Err(self.corrupt(at, "the snapshot at the start is broken"));
        }
        let near = self.first + frames.len() as u64;
        let later = (at + 1..self.bytes.len()).find(|&later| {
            let bytes = &self.bytes[later..];
            let offset = u64_at(bytes, 8).filter(|offset| (near..near + 1024).contains(offset));
            offset.is_some_and(|offset| {
                sound(bytes, offset).is_some() && offset.saturating_sub(place(bytes)) > near
            })
        });
        match later {
            Some(later) => {
                Err(self.corrupt(at, format!("broken, with a sound change after it at byte {later}")))
            }
            None => Ok((frames, at as u64)),
        }
    }

    fn unreadable(&self, at: usize, error: RecordError) -> MetadataError {
        match error {
            RecordError::Malformed => self.corrupt(at, "a change cannot be read"),
            RecordError::Newer { .. } => {
                MetadataError::NewerRecord { path: self.path.to_path_buf(), offset: at as u64, error }
            }
        }
    }

    /// The file's format.
    fn check_header(&self) -> Result<u32, MetadataError> {
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
            return Err(MetadataError::NewerFormat { path: self.path.to_path_buf(), found, known: FORMAT });
        }
        if u64_at(header, 12) != Some(self.first) {
            return Err(self.corrupt(0, "the header does not belong to a file of this name"));
        }
        Ok(found)
    }

    /// A number of the header; 0 where it says nothing.
    fn checked(&self, at: u64) -> u64 {
        let mark = &self.bytes[at as usize..at as usize + 12];
        match u32_at(mark, 8) {
            Some(crc) if crc == crc32fast::hash(&mark[..8]) => u64_at(mark, 0).unwrap_or(0),
            _ => 0,
        }
    }
}
