//! The files of a journal: which hold entries, which are free, and how new ones come to be.
//!
//! `<dir>/<number, 8 digits>.journal`; a file keeps its name for life and changes only its generation.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::log::Lsn;
use crate::rt::{self, BLOCK, File, OpenOptions};

use super::format::FileHeader;

const SUFFIX: &str = ".journal";
/// A file that is being made.
const PARTIAL: &str = ".journal.partial";

/// One file, open.
pub struct Slot {
    pub number: u32,
    pub path: PathBuf,
    pub file: File,
    /// Length of the file, header block included.
    pub bytes: u64,
    pub header: FileHeader,
    /// The last lsn in it, once nothing more is written to it.
    pub last: Option<Lsn>,
    /// Blocks before this offset have been written once, so that a commit there changes no metadata.
    pub written: u64,
    /// Holds damage: kept for inspection rather than reused.
    pub damaged: bool,
}

pub struct Files {
    pub dir: PathBuf,
    /// Length of a regular file.
    pub regular_bytes: u64,
    /// Files that hold entries that are needed, oldest first; the last one may still be written to.
    pub used: VecDeque<Slot>,
    pub free: Vec<Slot>,
    pub next_number: u32,
}

/// What [`Files::release`] could not do on the spot.
pub enum Discard {
    Remove(PathBuf),
    SetAside(PathBuf),
}

pub fn file_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}{SUFFIX}"))
}

pub fn number_of(name: &str) -> Option<u32> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// Whether a name is that of a journal's file.
pub fn is_journal_file(name: &str) -> bool {
    number_of(name).is_some()
}

/// Opens for direct I/O, or without where the file system has none.
pub fn open_file(path: &Path, create: bool) -> io::Result<File> {
    let options = OpenOptions { write: true, create, truncate: false, direct: true };
    match File::open(path, options) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
            File::open(path, OpenOptions { direct: false, ..options })
        }
        opened => opened,
    }
}

pub fn is_partial(name: &str) -> bool {
    name.ends_with(PARTIAL)
}

/// Whether a file has lost its content to something else than a crash: it gets its name when its length is durable, and
/// has two blocks at least.
pub fn is_cut(bytes: u64, has_header: bool) -> bool {
    !has_header && bytes < 2 * BLOCK as u64
}

/// Creates a file of `bytes` whose space is reserved but not yet written.
pub async fn create(dir: &Path, number: u32, bytes: u64) -> io::Result<Slot> {
    let path = file_path(dir, number);
    let partial = dir.join(format!("{number:08}{PARTIAL}"));
    let made = async {
        let file = open_file(&partial, true)?;
        file.write_in_place();
        match file.allocate(bytes).await {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => file.set_len(bytes).await?,
            allocated => allocated?,
        }
        // A file that is shorter than its header says was cut by something else than a crash.
        file.fdatasync().await?;
        let (from, to, dir) = (partial.clone(), path.clone(), dir.to_owned());
        rt::blocking(move || rt::fs::rename(from, to).and_then(|()| rt::fs::sync_dir(dir))).await?;
        Ok(file)
    };
    match made.await {
        Ok(file) => {
            let header = FileHeader::default();
            Ok(Slot { number, path, file, bytes, header, last: None, written: 0, damaged: false })
        }
        Err(e) => {
            // Nothing was written to it yet; a leftover is removed by the next start.
            let left = [partial, path];
            rt::blocking(move || left.iter().for_each(|path| drop(rt::fs::unlink(path)))).await;
            Err(e)
        }
    }
}

impl Files {
    /// The file that commits of `generation` go to, if it has been chosen.
    pub fn current(&mut self, generation: u64) -> Option<&mut Slot> {
        self.used.back_mut().filter(|slot| slot.header.generation == generation)
    }

    /// Another generation comes next: nothing more is written to the last file, which may be let go.
    pub fn complete(&mut self, next: &FileHeader) {
        if let Some(previous) = self.used.back_mut() {
            previous.last.get_or_insert(Lsn(next.previous_end));
            let end = previous.header.file_offset(next.first).min(previous.bytes);
            previous.written = previous.written.max(end);
        }
    }

    /// Begins a generation in a free file that is large enough. The one before it is complete.
    pub fn begin(&mut self, header: FileHeader) -> Option<&Slot> {
        let bytes = header.capacity + BLOCK as u64;
        let at = self.free.iter().rposition(|slot| slot.bytes >= bytes)?;
        let mut slot = self.free.remove(at);
        slot.header = header;
        slot.last = None;
        self.used.push_back(slot);
        self.used.back()
    }

    /// Frees the files all of whose entries lie below `floor`.
    pub fn release(&mut self, floor: Lsn) -> Vec<Discard> {
        let mut discard = Vec::new();
        while self.used.front().and_then(|slot| slot.last).is_some_and(|last| last < floor) {
            let Some(slot) = self.used.pop_front() else { break };
            if slot.damaged {
                discard.push(Discard::SetAside(slot.path));
            } else if slot.bytes != self.regular_bytes {
                discard.push(Discard::Remove(slot.path));
            } else {
                self.free.push(slot);
            }
        }
        discard
    }

    pub fn count(&self) -> usize {
        self.used.len() + self.free.len()
    }

    pub fn may_give_back(&self, keep: usize) -> bool {
        self.count() > keep && self.dispensable().is_some()
    }

    /// The free file that is missed least. The newest generation stays: a checkpoint may say that it is there.
    fn dispensable(&self) -> Option<usize> {
        let generations = self.used.iter().chain(&self.free).map(|slot| slot.header.generation);
        let newest = generations.max().unwrap_or(0);
        let free = self.free.iter().enumerate().map(|(at, slot)| (slot.header.generation, at));
        free.filter(|(generation, _)| *generation < newest || newest == 0).min().map(|(_, at)| at)
    }

    /// Takes out free files until `keep` files are left.
    pub fn give_back(&mut self, keep: usize) -> Vec<Slot> {
        let mut given = Vec::new();
        while self.count() > keep
            && let Some(at) = self.dispensable()
        {
            given.push(self.free.remove(at));
        }
        given
    }

    /// The newest generation whose header stays on disk until a later one takes its place.
    pub fn lasting_generation(&self) -> u64 {
        let last = self.used.back().filter(|slot| slot.last.is_none()).map_or(0, |s| s.header.generation);
        let kept = |slot: &&Slot| !slot.damaged && slot.bytes == self.regular_bytes;
        let kept = self.used.iter().chain(&self.free).filter(kept).map(|slot| slot.header.generation);
        kept.max().unwrap_or(0).max(last)
    }

    pub fn first_position(&self) -> Option<u64> {
        self.used.front().map(|slot| slot.header.first)
    }
}
