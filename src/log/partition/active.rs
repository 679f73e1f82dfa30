//! The end of a log that is being written.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::log::LogError;
use crate::log::segment::Segment;
use crate::log::segment::extents::Extent;
use crate::log::segment::meta::SegmentMeta;
use crate::rt::BLOCK;

/// The end of a log's last segment while it is being written.
pub struct Active {
    pub segment: Rc<Segment>,
    /// What was synced.
    pub(super) durable: Cell<SegmentMeta>,
    /// Checksums of the end of that, which the sidecar may lack.
    pub(super) extents: RefCell<Rc<[Extent]>>,
    /// The bytes behind the last whole block; `None` until they were read back.
    pub(super) last_block: RefCell<Option<Vec<u8>>>,
    /// The file is new: its directory has to be synced too.
    pub(super) created: Cell<bool>,
}

impl Active {
    /// The active segment of a log just opened: all of it is synced.
    pub fn reopened(segment: Rc<Segment>) -> Rc<Self> {
        let durable = Cell::new(segment.meta());
        let extents = RefCell::new(segment.unsaved_extents());
        Rc::new(Self { segment, durable, extents, last_block: RefCell::new(None), created: Cell::new(false) })
    }

    pub(super) fn new(segment: Rc<Segment>) -> Rc<Self> {
        let durable = Cell::new(segment.meta());
        Rc::new(Self {
            segment,
            durable,
            extents: RefCell::new(Rc::new([])),
            last_block: RefCell::new(Some(Vec::new())),
            created: Cell::new(true),
        })
    }

    pub fn durable(&self) -> SegmentMeta {
        self.durable.get()
    }

    pub fn durable_extents(&self) -> Rc<[Extent]> {
        self.extents.borrow().clone()
    }

    pub(super) async fn last_block(&self) -> Result<Vec<u8>, LogError> {
        if let Some(bytes) = self.last_block.borrow_mut().take() {
            return Ok(bytes);
        }
        let size = self.segment.meta().size as usize;
        let (start, len) = (size / BLOCK * BLOCK, size % BLOCK);
        if len == 0 {
            return Ok(Vec::new());
        }
        let path = self.segment.path();
        let file = self.segment.file(false)?;
        let bytes = file.read(start as u64, len).await.map_err(|e| LogError::io(&path, e))?;
        if bytes.len() < len {
            return Err(LogError::corrupt(path, start as u64, "the file is shorter than it was"));
        }
        Ok(bytes.to_vec())
    }
}
