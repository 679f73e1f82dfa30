//! Records what a run does to the files below a directory, in order: from it a rig builds the disks that a power
//! cut could have left (`tests/crash`). Off it costs one relaxed load an operation; nothing in the broker turns it on.
//!
//! - An operation is an event when it begins and a [`Event::Done`] when the kernel said that it is over; one that has
//!   no `Done` yet may have reached the disk wholly, in part or not at all.
//! - Changes of names are events once they were made. Files are known by handle, so that names may change meanwhile.
//! - Only what goes through [`super::File`] and [`super::fs`] is seen.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

static ACTIVE: AtomicUsize = AtomicUsize::new(0);
static RECORDINGS: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());

/// What happened. Paths are relative to the recording's root.
#[derive(Clone, Debug)]
pub enum Event {
    Open {
        handle: u64,
        path: PathBuf,
        create: bool,
        truncate: bool,
    },
    Write {
        op: u64,
        handle: u64,
        at: u64,
        bytes: Vec<u8>,
    },
    /// The length was set.
    Resize {
        handle: u64,
        len: u64,
    },
    /// Space was reserved; the file is at least that long.
    Reserve {
        handle: u64,
        len: u64,
    },
    /// A sync of a file began: of what was done before it, or of the write `with` alone, which it came with.
    Sync {
        op: u64,
        handle: u64,
        with: Option<u64>,
    },
    SyncDir {
        op: u64,
        path: PathBuf,
    },
    Done {
        op: u64,
    },
    MakeDir {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
}

struct Shared {
    root: PathBuf,
    next: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl Shared {
    fn push(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// A recording under way; it ends when this is dropped.
pub struct Recording(Arc<Shared>);

impl Recording {
    /// Begins to record what happens below `root`.
    pub fn start(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let shared = Arc::new(Shared { root, next: AtomicU64::new(1), events: Mutex::default() });
        RECORDINGS.lock().unwrap_or_else(PoisonError::into_inner).push(shared.clone());
        ACTIVE.fetch_add(1, Ordering::SeqCst);
        Ok(Self(shared))
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the recording: what happened.
    pub fn finish(self) -> Vec<Event> {
        std::mem::take(&mut *self.0.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        ACTIVE.fetch_sub(1, Ordering::SeqCst);
        RECORDINGS.lock().unwrap_or_else(PoisonError::into_inner).retain(|r| !Arc::ptr_eq(r, &self.0));
    }
}

/// The recording that `path` belongs to, and the path below its root.
fn of(path: &Path) -> Option<(Arc<Shared>, PathBuf)> {
    if ACTIVE.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let recordings = RECORDINGS.lock().unwrap_or_else(PoisonError::into_inner);
    recordings.iter().find_map(|r| Some((r.clone(), path.strip_prefix(&r.root).ok()?.to_owned())))
}

/// Whether changes below `path` are recorded.
pub(super) fn covers(path: &Path) -> bool {
    of(path).is_some()
}

/// An open file of a recording.
pub(super) struct Track {
    shared: Arc<Shared>,
    handle: u64,
}

impl Track {
    pub(super) fn open(path: &Path, create: bool, truncate: bool) -> Option<Self> {
        let (shared, path) = of(path)?;
        let handle = shared.number();
        shared.push(Event::Open { handle, path, create, truncate });
        Some(Self { shared, handle })
    }

    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> u64 {
        let op = self.shared.number();
        self.shared.push(Event::Write { op, handle: self.handle, at, bytes: bytes.to_vec() });
        op
    }

    pub(super) fn sync(&self, with: Option<u64>) -> u64 {
        let op = self.shared.number();
        self.shared.push(Event::Sync { op, handle: self.handle, with });
        op
    }

    pub(super) fn resize(&self, len: u64) {
        self.shared.push(Event::Resize { handle: self.handle, len });
    }

    pub(super) fn reserve(&self, len: u64) {
        self.shared.push(Event::Reserve { handle: self.handle, len });
    }

    pub(super) fn done(&self, op: u64) {
        self.shared.push(Event::Done { op });
    }
}

pub(super) fn made_dir(path: &Path) {
    if let Some((shared, path)) = of(path) {
        shared.push(Event::MakeDir { path });
    }
}

pub(super) fn removed(path: &Path) {
    if let Some((shared, path)) = of(path) {
        shared.push(Event::Remove { path });
    }
}

pub(super) fn renamed(from: &Path, to: &Path) {
    if let (Some((shared, from)), Some((_, to))) = (of(from), of(to)) {
        shared.push(Event::Rename { from, to });
    }
}

/// Syncs a directory by `sync`, between its two events.
pub(super) fn sync_dir(path: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some((shared, path)) = of(path) else { return sync() };
    let op = shared.number();
    shared.push(Event::SyncDir { op, path });
    sync()?;
    shared.push(Event::Done { op });
    Ok(())
}
