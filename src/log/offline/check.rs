//! Checking a segment that nobody has open, by blocking reads: for tools.

use std::io;
use std::path::Path;

use crate::log::files::names::{EXTENTS, LOG, file_name};
use crate::log::resources::damage::DamagedRange;
use crate::log::segment::SegmentMeta;
use crate::log::segment::extents::{Extent, ExtentIndex, decode_sidecar};
use crate::log::segment::index::partial_meta;
use crate::log::segment::scan::{SCAN_BYTES, Scanner};
use crate::log::segment::scrub::damaged_range;
use crate::rt;

/// What was found of one segment.
#[derive(Debug, Default)]
pub struct Checked {
    pub bytes: u64,
    pub extents: u64,
    pub damaged: Vec<DamagedRange>,
}

/// Verifies a segment. `vouched`: the checkpoint's checksums for its end.
pub fn check_segment(dir: &Path, meta: &SegmentMeta, vouched: &[Extent]) -> io::Result<Checked> {
    let path = file_name(dir, meta.base_offset, LOG);
    let sidecar = rt::fs::read_all(file_name(dir, meta.base_offset, EXTENTS)).unwrap_or_default();
    let mut index = ExtentIndex::from_extents(decode_sidecar(meta.base_offset, &sidecar).extents);
    index.cut(meta.size);
    if index.end() < meta.size
        && let Some(first) = vouched.first()
    {
        index.cut(first.position);
        index = complete(&path, meta, index, first.position)?;
        index.extend(vouched);
    }
    let index = complete(&path, meta, index, meta.size)?;
    let mut checked = Checked { bytes: u64::from(meta.size), ..Checked::default() };
    for (i, extent) in index.extents().iter().enumerate() {
        checked.extents += 1;
        let bytes = read(&path, extent.position, extent.length as usize)?;
        if extent.matches(&bytes) {
            continue;
        }
        checked.damaged.push(damaged_range(meta, extent, index.extents().get(i + 1)));
    }
    Ok(checked)
}

/// The index up to `to`; what has no batches is condemned.
fn complete(path: &Path, meta: &SegmentMeta, index: ExtentIndex, to: u32) -> io::Result<ExtentIndex> {
    let mut scanner = Scanner::new(partial_meta(*meta, &index), index, true);
    let mut want = SCAN_BYTES;
    while scanner.index.end() < to {
        let at = scanner.index.end();
        let left = (to - at) as usize;
        let len = want.max(SCAN_BYTES).min(left);
        let bytes = read(path, at, len)?;
        match scanner.go_on(&bytes, len, left) {
            Ok(need) => want = need,
            Err(_) => {
                let bad = scanner.index.end();
                let relative = (scanner.meta.next_offset - meta.base_offset) as u32;
                let rest = read(path, bad, (to - bad) as usize)?;
                scanner.index.push_condemned(relative, crc32fast::hash(&rest), to - bad);
            }
        }
    }
    Ok(scanner.index)
}

/// What the file has of these bytes; nothing of a file that is not there.
fn read(path: &Path, at: u32, len: usize) -> io::Result<Vec<u8>> {
    match rt::fs::read_range(path, u64::from(at), len) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}
