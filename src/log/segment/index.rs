//! A segment's extent index: loaded from its sidecar when first needed, completed from the batches where the sidecar
//! is missing, behind or invalid, and written out as the segment grows.

use std::io;
use std::rc::Rc;

use crate::log::LogError;
use crate::rt::{self, AlignedBuf, BLOCK, File, OpenOptions};

use super::extents::{Extent, ExtentIndex, PER_BLOCK, Sidecar, decode_sidecar, encode_block};
use super::scan::{SCAN_BYTES, Scanner};
use super::{Segment, SegmentMeta};

/// An active segment shorter than this has no sidecar, and a sidecar may be behind by as much: the checkpoint has the rest,
/// and without one a single read makes up for it.
const SIDECAR_BYTES: u32 = 1 << 20;

/// What of the index is in the sidecar.
#[derive(Default)]
pub struct SidecarState {
    /// Checksums of the blocks that will not change any more.
    blocks: Vec<u32>,
    /// The file position up to which the sidecar goes.
    covered: u32,
}

/// Lets the next one load when a load ends, also when it is cancelled.
struct Loading<'a>(&'a Segment);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.loading.set(false);
        self.0.loaded.notify_all();
    }
}

impl Segment {
    /// The index of everything written so far. Do not hold it across an await: the writer would have to copy it.
    pub async fn index(self: &Rc<Self>) -> Result<Rc<ExtentIndex>, LogError> {
        loop {
            if let Some(index) = self.index.borrow().clone() {
                if self.sealed.get() {
                    self.resources.keep_index(self.uid, self, index.memory());
                }
                return Ok(index);
            }
            if self.loading.replace(true) {
                self.loaded.notified().await;
                continue;
            }
            let _loading = Loading(self);
            let index = self.load_index().await?;
            *self.index.borrow_mut() = Some(Rc::new(index));
        }
    }

    async fn load_index(&self) -> Result<ExtentIndex, LogError> {
        let meta = self.meta.get();
        let path = self.sidecar_path();
        let bytes = rt::blocking(move || rt::fs::read_all(path)).await;
        let sidecar = decode_sidecar(meta.base_offset, &self.sidecar_bytes(bytes));
        let mut index = self.adopt_sidecar(&sidecar, meta.size);
        if !self.sealed.get() && sidecar.extents.last().is_some_and(|e| e.end() > meta.size) {
            self.cut_sidecar().await?;
        }
        let vouched = self.vouched.borrow().clone();
        if index.end() < meta.size
            && let Some(first) = vouched.first()
        {
            index = self.adopt_sidecar(&sidecar, first.position);
            if index.end() < first.position {
                index = self.complete(meta, index, first.position).await?;
            }
            index.extend(&vouched);
        }
        if index.end() < meta.size {
            index = self.complete(meta, index, meta.size).await?;
        }
        if self.sidecar.borrow().covered < meta.size && self.sealed.get() {
            self.put_index(index.clone());
            self.save_sidecar().await;
        }
        Ok(index)
    }

    fn sidecar_bytes(&self, read: io::Result<Vec<u8>>) -> Vec<u8> {
        read.unwrap_or_else(|e| {
            if e.kind() != io::ErrorKind::NotFound {
                log::warn!("{}: {e}; the index is made again", self.sidecar_path().display());
            }
            Vec::new()
        })
    }

    /// What a sidecar says about the first `size` bytes of the segment.
    fn adopt_sidecar(&self, sidecar: &Sidecar, size: u32) -> ExtentIndex {
        let mut index = ExtentIndex::from_extents(sidecar.extents.clone());
        index.cut(size);
        let mut blocks = sidecar.blocks.clone();
        blocks.truncate(final_blocks(&index));
        *self.sidecar.borrow_mut() = SidecarState { blocks, covered: index.end() };
        index
    }

    /// Cuts off what the sidecar says of bytes that did not come to count. Durable before others are in their place: a
    /// power cut may take the sidecar's next state, and leave this one.
    async fn cut_sidecar(&self) -> Result<(), LogError> {
        let path = self.sidecar_path();
        let keep = (self.sidecar.borrow().blocks.len() * BLOCK) as u64;
        let options = OpenOptions { write: true, create: false, truncate: false, direct: false };
        let cut = async {
            let file = File::open(&path, options)?;
            file.set_len(keep).await?;
            file.fdatasync().await
        };
        cut.await.map_err(|e| LogError::io(&path, e))
    }

    /// Completes the index from the batches between its end and `to`.
    async fn complete(
        &self,
        meta: SegmentMeta,
        index: ExtentIndex,
        to: u32,
    ) -> Result<ExtentIndex, LogError> {
        let path = self.path();
        let file = self.file(false)?;
        let mut scanner = Scanner::new(partial_meta(meta, &index), index, true);
        let mut want = SCAN_BYTES;
        while scanner.index.end() < to {
            let at = scanner.index.end();
            let left = (to - at) as usize;
            let len = want.max(SCAN_BYTES).min(left);
            let bytes = file.read(u64::from(at), len).await.map_err(|e| LogError::io(&path, e))?;
            let problem = match scanner.go_on(&bytes, len, left) {
                Ok(need) => {
                    want = need;
                    continue;
                }
                Err(problem) => problem,
            };
            let bad = scanner.index.end();
            log::error!("{} is corrupt at {bad}: {problem}; nothing behind can be read", path.display());
            let crc = crc32fast::hash(&bytes);
            let relative = (scanner.meta.next_offset - meta.base_offset) as u32;
            scanner.index.push_condemned(relative, crc, to - bad);
        }
        scanner.index.close();
        Ok(scanner.index)
    }

    /// Takes the checkpoint's word for the segment's end.
    pub fn vouch(&self, extents: Rc<[Extent]>) {
        *self.vouched.borrow_mut() = extents;
    }

    /// What the sidecar lacks of the index, and the end of the last extent that it has.
    pub fn unsaved_extents(&self) -> Rc<[Extent]> {
        match &*self.index.borrow() {
            Some(index) => index.beyond(self.sidecar.borrow().covered).into(),
            None => self.vouched.borrow().clone(),
        }
    }

    pub fn put_index(&self, index: ExtentIndex) {
        *self.index.borrow_mut() = Some(Rc::new(index));
    }

    /// Changes the loaded index of the active segment.
    pub fn with_index(&self, change: impl FnOnce(&mut ExtentIndex)) {
        if let Some(index) = self.index.borrow_mut().as_mut() {
            change(Rc::make_mut(index));
        }
    }

    /// Whether so much was written since the sidecar was that it should be written again.
    pub fn sidecar_is_behind(&self) -> bool {
        self.meta.get().size - self.sidecar.borrow().covered >= SIDECAR_BYTES
    }

    /// Writes what the sidecar lacks of the loaded index. A failure is only logged: the index can be made again.
    pub async fn save_sidecar(&self) {
        if (self.meta.get().size < SIDECAR_BYTES && !self.sealed.get()) || self.is_held() {
            return;
        }
        let Some((position, buffer, state)) = self.encode_sidecar() else { return };
        let path = self.sidecar_path();
        let options = OpenOptions { write: true, create: true, truncate: false, direct: false };
        let result = match File::open(&path, options) {
            Ok(file) => file.write(position, buffer).await.0,
            Err(e) => Err(e),
        };
        match result {
            Ok(()) => *self.sidecar.borrow_mut() = state,
            Err(e) => log::warn!("{}: {e}; the index will be made again when it is needed", path.display()),
        }
    }

    fn encode_sidecar(&self) -> Option<(u64, AlignedBuf, SidecarState)> {
        let index = self.index.borrow().clone()?;
        let mut blocks = self.sidecar.borrow().blocks.clone();
        let first = blocks.len();
        let count = index.extents().len().div_ceil(PER_BLOCK).checked_sub(first).filter(|n| *n > 0)?;
        let mut buffer = AlignedBuf::with_capacity(count * BLOCK);
        buffer.set_len(count * BLOCK);
        for (i, block) in buffer.as_mut_slice().chunks_exact_mut(BLOCK).enumerate() {
            let previous = blocks.last().copied().unwrap_or(0);
            blocks.push(encode_block(self.base_offset(), first + i, previous, index.extents(), block));
        }
        blocks.truncate(final_blocks(&index));
        Some(((first * BLOCK) as u64, buffer, SidecarState { blocks, covered: index.end() }))
    }
}

/// The full blocks without the last extent, which may still grow.
fn final_blocks(index: &ExtentIndex) -> usize {
    index.extents().len().saturating_sub(1) / PER_BLOCK
}

/// Metadata from which a scan can go on behind a partial index: the next offset is not known, only its lower bound.
pub fn partial_meta(meta: SegmentMeta, index: &ExtentIndex) -> SegmentMeta {
    let mut partial = SegmentMeta::new(meta.base_offset, meta.created_ms);
    partial.size = index.end();
    if let Some(last) = index.extents().last() {
        partial.next_offset = meta.base_offset + i64::from(last.relative_offset) + 1;
    }
    partial
}
