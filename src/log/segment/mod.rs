//! Segments: a partition's bytes at rest.
//!
//! ```text
//! topics/<topic>-<partition>/
//!   00000000000000000000.log        whole Kafka v2 batches back to back, nothing else; sealed: exact length
//!   00000000000000000000.extents    index and checksums (see `extents`); disposable
//!   00000000000000812345.log        the active segment: its last block is padded (see `writer`)
//!   00000000000000000000.log.deleted   on its way out (see `retention`)
//!   <topic id>.topic                whose directory it is (see `owner`); empty
//! ```
//! A segment is *active* while the writer appends to it, then *sealed* and never written again. At most the last
//! segment of a log is active. Files are created when the first batch is written, so an empty partition has none.
//!
//! Invariants: a segment's metadata describes only bytes whose write completed; the index covers exactly those bytes;
//! no batch is returned from a file whose extent does not match its checksum; a sealed segment is deleted by
//! retention or with its topic, never because it is damaged.

mod cut;
pub mod epochs;
pub mod extents;
pub mod index;
pub mod meta;
pub mod reader;
pub mod scan;
pub mod scrub;
#[cfg(test)]
pub mod testing;
pub mod timestamps;
mod windows;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::log::LogError;
use crate::log::error::is_out_of_files;
use crate::log::files::names::{EXTENTS, LOG, file_name};
use crate::log::resources::{Indexed, Resources};
use crate::rt::{self, File, Notify, OpenOptions};

use extents::{Extent, ExtentIndex};

pub use meta::{Limits, SegmentMeta};

/// One segment. The log, readers and pending loads share it; a reader may outlive the segment's deletion.
pub struct Segment {
    uid: u64,
    dir: Rc<Path>,
    resources: Rc<Resources>,
    meta: Cell<SegmentMeta>,
    sealed: Cell<bool>,
    deleted: Cell<bool>,
    /// Its file was not there: said once.
    missed: Cell<bool>,
    /// Another file has its place: only readers that were in it still are.
    superseded: Cell<bool>,
    /// Its name is gone or another's: who reads it goes on with this.
    held: RefCell<Option<File>>,
    index: RefCell<Option<Rc<ExtentIndex>>>,
    /// What the checkpoint says of the segment's end.
    vouched: RefCell<Rc<[Extent]>>,
    sidecar: RefCell<index::SidecarState>,
    loading: Cell<bool>,
    loaded: Notify,
}

impl Segment {
    pub fn new(dir: Rc<Path>, resources: Rc<Resources>, meta: SegmentMeta, sealed: bool) -> Rc<Self> {
        // What is not in a file yet needs no loading.
        let index = (meta.size == 0).then(Rc::default);
        Rc::new(Self {
            uid: resources.next_uid(),
            dir,
            resources,
            meta: Cell::new(meta),
            sealed: Cell::new(sealed),
            deleted: Cell::new(false),
            missed: Cell::new(false),
            superseded: Cell::new(false),
            held: RefCell::new(None),
            index: RefCell::new(index),
            vouched: RefCell::new(Rc::new([])),
            sidecar: RefCell::default(),
            loading: Cell::new(false),
            loaded: Notify::new(),
        })
    }

    pub fn uid(&self) -> u64 {
        self.uid
    }

    pub fn meta(&self) -> SegmentMeta {
        self.meta.get()
    }

    pub fn base_offset(&self) -> i64 {
        self.meta.get().base_offset
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self) -> PathBuf {
        file_name(&self.dir, self.base_offset(), LOG)
    }

    pub fn sidecar_path(&self) -> PathBuf {
        file_name(&self.dir, self.base_offset(), EXTENTS)
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted.get()
    }

    /// Whether its file is on its way out: who comes to read it is told that it is gone.
    pub fn set_deleted(&self, deleted: bool) {
        self.deleted.set(deleted);
    }

    /// What the file has by now, written by whoever owns the log's end.
    pub fn set_meta(&self, meta: SegmentMeta) {
        self.meta.set(meta);
    }

    /// Ends writing to it: its file is opened for reading only, and its index may be evicted.
    pub fn set_sealed(&self) {
        self.sealed.set(true);
        self.resources.files().close(self.uid);
    }

    /// Takes another file in its place, of which no index is known.
    pub fn refile(&self, meta: SegmentMeta) {
        self.resources.forget_segment(self.uid);
        self.resources.files().close(self.uid);
        self.meta.set(meta);
        *self.index.borrow_mut() = None;
        *self.sidecar.borrow_mut() = Default::default();
        self.vouch(Rc::new([]));
    }

    /// The log was cut: nothing new is read of it; if it is gone as a whole, nothing at all.
    pub fn end_of_life(&self, gone: bool) {
        self.supersede();
        self.deleted.set(gone);
        self.resources.files().close(self.uid);
    }

    /// Cuts what the file has past the segment's end, if it is there.
    pub fn cut_to_size(&self) -> Result<(), LogError> {
        let path = self.path();
        rt::fs::cut(&path, self.meta().size.into()).map_err(|e| LogError::io(path, e))
    }

    /// Whether its file is not the log's any more, or not as it was.
    pub fn is_history(&self) -> bool {
        self.deleted.get() || self.superseded.get()
    }

    /// The offset counted from the segment's first; bounded by what an extent can say.
    pub fn relative(&self, offset: i64) -> u32 {
        u32::try_from(offset - self.base_offset()).unwrap_or(if offset < self.base_offset() {
            0
        } else {
            u32::MAX
        })
    }

    /// The segment's file, open for reading; for writing too while it is active. `create` says that it may be new.
    pub fn file(&self, create: bool) -> Result<File, LogError> {
        if let Some(file) = &*self.held.borrow() {
            return Ok(file.clone());
        }
        if let Some(file) = self.resources.files().get(self.uid) {
            return Ok(file);
        }
        let write = !self.sealed.get();
        let options = OpenOptions { write, create: create && write, truncate: false, direct: true };
        let path = self.path();
        let mut opened = File::open(&path, options);
        // Out of descriptors: those of segments that nobody reads at the moment are given up for this one.
        while opened.as_ref().is_err_and(is_out_of_files) && self.resources.files().close_some() {
            opened = File::open(&path, options);
        }
        match opened {
            Ok(file) => {
                self.resources.files().keep(self.uid, file.clone());
                Ok(file)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.deleted.get() => Err(LogError::Removed),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if !self.missed.replace(true) {
                    log::error!("{}: the file is missing, its records cannot be read", path.display());
                }
                Err(LogError::corrupt(path, 0, "the file is missing"))
            }
            Err(e) => Err(LogError::io(path, e)),
        }
    }

    /// Keeps the file open for who reads it, before its name goes.
    pub fn hold(&self) -> Result<(), LogError> {
        let file = self.file(false)?;
        *self.held.borrow_mut() = Some(file);
        Ok(())
    }

    /// As [`hold`](Self::hold), with the index: nothing is read by name any more.
    pub async fn freeze(self: &Rc<Self>) -> Result<(), LogError> {
        self.hold()?;
        self.index().await.map(drop)
    }

    pub fn thaw(&self) {
        *self.held.borrow_mut() = None;
    }

    /// Its place is another's from now on. What was found damaged of it no longer matters.
    pub fn supersede(&self) {
        self.superseded.set(true);
        self.resources.damage().forget(&self.dir, self.base_offset());
    }

    fn is_held(&self) -> bool {
        self.held.borrow().is_some()
    }
}

impl Indexed for Segment {
    /// Frees the index of a sealed segment; it is read again when needed.
    fn drop_index(&self) {
        if self.sealed.get() && !self.is_held() {
            *self.index.borrow_mut() = None;
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.resources.forget_segment(self.uid);
    }
}

/// Does a blocking job that opens files. While there is no descriptor for them, those of segments that nobody reads at
/// the moment are given up.
pub async fn with_files<T: Send + 'static>(
    resources: &Resources,
    job: impl Fn() -> io::Result<T> + Clone + Send + 'static,
) -> io::Result<T> {
    loop {
        let done = rt::blocking(job.clone()).await;
        if !done.as_ref().is_err_and(is_out_of_files) || !resources.files().close_some() {
            return done;
        }
    }
}
