//! A checkpoint's two files: which of them to believe, and how they are written.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::LogError;
use crate::rt;

use super::changes::Merged;
use super::{Change, Checkpoint, Decoded, VERSION};

/// Changes may take so much before the base is made anew, however small it is.
const FEW: u64 = 64 << 10;

/// A checkpoint as it was found.
#[derive(Debug)]
pub struct Loaded {
    pub checkpoint: Checkpoint,
    /// Both copies are identical.
    pub twice: bool,
    /// Where a change goes; `None` where the files are not equal or of an earlier version.
    pub layout: Option<Layout>,
}

impl Loaded {
    /// Written by a version of Weir that cannot read what this one writes.
    pub fn is_of_old_format(&self) -> bool {
        self.checkpoint.origin.is_none()
    }
}

/// What was found of the two files.
pub struct Looked {
    /// What holds, if there is a checkpoint.
    pub loaded: Result<Option<Loaded>, LogError>,
    /// The files that cannot be used as they are, and why.
    pub bad: Vec<LogError>,
}

enum Found {
    Whole(Box<Decoded>),
    Missing,
    /// The number of the newest that can be read in it, if any can.
    Bad(Option<u64>, LogError),
}

/// Reads both files of a journal's directory.
pub fn look(journal_dir: &Path) -> Looked {
    let paths = file_paths(journal_dir);
    let [first, copy] = paths.each_ref().map(rt::fs::read_all);
    let equal = matches!((&first, &copy), (Ok(first), Ok(copy)) if first == copy);
    let size = first.as_ref().map_or(0, Vec::len) as u64;
    let first = find(&paths[0], first);
    let copy = match (&first, equal) {
        (Found::Whole(_), true) => None,
        _ => Some(find(&paths[1], copy)),
    };
    let mut looked = Looked { loaded: Ok(None), bad: Vec::new() };
    let (mut whole, mut newest_bad) = (None::<Box<Decoded>>, None);
    for (path, found) in paths.iter().zip([Some(first), copy]) {
        match found {
            Some(Found::Whole(decoded)) => {
                let newer = |held: &Decoded| decoded.checkpoint.number > held.checkpoint.number;
                if whole.as_deref().is_none_or(newer) {
                    whole = Some(decoded);
                }
            }
            Some(Found::Bad(_, e @ LogError::Newer { .. })) => {
                return Looked { loaded: Err(e), bad: Vec::new() };
            }
            Some(Found::Bad(number, e)) => {
                newest_bad = newest_bad.max(number);
                looked.bad.push(e);
            }
            Some(Found::Missing) => {
                looked.bad.push(LogError::io(path, io::ErrorKind::NotFound.into()));
            }
            None => {}
        }
    }
    looked.loaded = match whole {
        // What is whole is the newer one, or one of the two was changed by somebody else.
        Some(whole) if newest_bad.is_some_and(|bad| bad > whole.checkpoint.number) => Err(LogError::corrupt(
            &paths[0],
            0,
            "the newer of the checkpoint's two files cannot be read to its end",
        )),
        Some(whole) => {
            let Decoded { checkpoint, version, base, .. } = *whole;
            let layout = Layout { base: base as u64, changes: size.saturating_sub(base as u64) };
            Ok(Some(Loaded {
                checkpoint,
                twice: equal,
                layout: (equal && version == VERSION).then_some(layout),
            }))
        }
        None => match looked.bad.iter().find(|bad| !is_missing(bad)) {
            Some(LogError::Corrupt { path, offset, what }) => {
                Err(LogError::corrupt(path, *offset, what.clone()))
            }
            Some(LogError::Io { path, source }) => Err(LogError::io(path, again(source))),
            Some(e) => Err(LogError::corrupt(&paths[0], 0, e.to_string())),
            None => Ok(None),
        },
    };
    looked
}

/// The same error, to be told twice.
fn again(e: &io::Error) -> io::Error {
    e.raw_os_error().map_or_else(|| io::Error::new(e.kind(), e.to_string()), io::Error::from_raw_os_error)
}

fn is_missing(e: &LogError) -> bool {
    matches!(e, LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn find(path: &Path, read: io::Result<Vec<u8>>) -> Found {
    match read.map(|bytes| Decoded::of(path, &bytes)) {
        Ok(Ok(decoded)) => match decoded.unread {
            None => Found::Whole(Box::new(decoded)),
            Some(e) => Found::Bad(Some(decoded.checkpoint.number), e),
        },
        Ok(Err(e)) => Found::Bad(None, e),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Found::Missing,
        Err(e) => Found::Bad(None, LogError::io(path, e)),
    }
}

impl Checkpoint {
    /// The checkpoint in a journal's directory, if there is one.
    pub fn load(journal_dir: &Path) -> Result<Option<Loaded>, LogError> {
        let Looked { loaded, bad } = look(journal_dir);
        if let Ok(Some(_)) = &loaded {
            bad.iter().for_each(|e| log::warn!("{e}; it is made again from its copy"));
        }
        loaded
    }

    /// Replaces the checkpoint in a journal's directory. Durable when it returns.
    pub async fn store(&self, journal_dir: &Path) -> Result<Layout, LogError> {
        let (dir, bytes) = (journal_dir.to_owned(), self.encode());
        rt::blocking(move || replace(&dir, &bytes)).await
    }
}

/// Makes a base of these bytes, in both files.
fn replace(dir: &Path, bytes: &[u8]) -> Result<Layout, LogError> {
    rt::fs::write_atomic_each(&file_paths(dir), bytes).map_err(|e| LogError::io(file_path(dir), e))?;
    Ok(Layout { base: bytes.len() as u64, changes: 0 })
}

/// How long the parts of both files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    base: u64,
    changes: u64,
}

impl Layout {
    fn end(self) -> u64 {
        self.base + self.changes
    }

    /// With a change more; `None` once it is time for a new base.
    fn with(self, bytes: u64) -> Option<Self> {
        let changes = self.changes + bytes;
        (changes <= self.base.max(FEW)).then_some(Self { changes, ..self })
    }
}

/// What checkpoints have cost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesStats {
    /// Bytes that were written, to both files.
    pub bytes: u64,
    /// States of partitions that were encoded on the way.
    pub states: u64,
    pub bases: u64,
}

/// The files of a running shard. One write at a time.
pub struct Files {
    dir: PathBuf,
    /// `None`: the files may end in half a change, or differ. The next one makes a new base.
    layout: Cell<Option<Layout>>,
    /// The number of the last checkpoint that is in both files.
    number: Cell<u64>,
    stats: Cell<FilesStats>,
}

impl Files {
    pub fn new(dir: PathBuf, layout: Option<Layout>, number: u64) -> Self {
        Self { dir, layout: Cell::new(layout), number: Cell::new(number), stats: Cell::default() }
    }

    pub fn stats(&self) -> FilesStats {
        self.stats.get()
    }

    /// Makes the change durable. Its partitions are at least those that differ from what is in the files, so that
    /// it can be tried again after an error.
    pub async fn add(&self, change: Arc<Change>) -> Result<(), LogError> {
        // Whatever becomes of it, it counts as an attempt.
        let (dir, layout, number) = (self.dir.clone(), self.layout.take(), self.number.get());
        let next = change.now.number;
        let written = rt::blocking(move || write(&dir, layout, number, &change)).await?;
        self.note(written, next);
        Ok(())
    }

    /// As [`add`](Self::add), of all that there is, whatever is in the files.
    pub async fn replace(&self, change: Arc<Change>) -> Result<(), LogError> {
        self.layout.set(None);
        let (dir, next) = (self.dir.clone(), change.now.number);
        let written = rt::blocking(move || Written::base(&dir, &change.now)).await?;
        self.note(written, next);
        Ok(())
    }

    fn note(&self, written: Written, number: u64) {
        self.layout.set(Some(written.layout));
        self.number.set(number);
        let FilesStats { bytes, states, bases } = self.stats.get();
        let (bytes, states) = (bytes + written.bytes, states + written.states);
        self.stats.set(FilesStats { bytes, states, bases: bases + u64::from(written.layout.changes == 0) });
    }
}

struct Written {
    layout: Layout,
    bytes: u64,
    states: u64,
}

impl Written {
    fn base(dir: &Path, checkpoint: &Checkpoint) -> Result<Self, LogError> {
        let bytes = checkpoint.encode();
        let layout = replace(dir, &bytes)?;
        Ok(Self { layout, bytes: 2 * bytes.len() as u64, states: checkpoint.partitions.len() as u64 })
    }
}

/// Appends the change where the files are as they were left, else makes a new base of what they have and the change.
fn write(dir: &Path, layout: Option<Layout>, number: u64, change: &Change) -> Result<Written, LogError> {
    let paths = file_paths(dir);
    if let Some(layout) = layout.filter(|layout| paths.iter().all(|path| ends_at(path, *layout))) {
        let bytes = change.encode();
        if let Some(next) = layout.with(bytes.len() as u64) {
            for path in &paths {
                rt::fs::append(path, layout.end(), &bytes).map_err(|e| LogError::io(path, e))?;
            }
            let states = change.now.partitions.len() as u64;
            return Ok(Written { layout: next, bytes: 2 * bytes.len() as u64, states });
        }
    }
    let base = match look(dir).loaded? {
        Some(loaded) => loaded.checkpoint,
        None => Checkpoint::empty(change.now.shard as usize, change.now.shards as usize, change.now.salt),
    };
    if base.number < number {
        return Err(LogError::corrupt(
            file_path(dir),
            0,
            "the checkpoint is older than the last one written",
        ));
    }
    let mut merged = Merged::of(base);
    merged.apply(change.clone());
    Written::base(dir, &merged.finish())
}

fn ends_at(path: &Path, layout: Layout) -> bool {
    rt::fs::len(path).is_ok_and(|len| len == layout.end())
}

/// The two files, the first to be written first.
pub fn file_paths(journal_dir: &Path) -> [PathBuf; 2] {
    [file_path(journal_dir), journal_dir.join("checkpoint-copy")]
}

pub fn file_path(journal_dir: &Path) -> PathBuf {
    journal_dir.join("checkpoint")
}
