//! Finding a log's segments at start.
//!
//! With a checkpoint only the active segment is touched: what lies past its valid position is cut, the journal has it.
//! After an orderly close not even the directory is listed; the active segment has to be as long as it was. Without a checkpoint nothing is known, so every batch is
//! read and checked, and what cannot be used is set aside, not deleted.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::log::LogError;
use crate::log::compact::settle::{Settled, settle};
use crate::log::files::dead::{self, dead_below, unlink_dead};
use crate::log::files::names::{EXTENTS, LOG, file_name, parse_log_name};
use crate::log::formats::PartitionCheckpoint;
use crate::log::resources::Resources;
use crate::log::segment::epochs::EpochList;
use crate::log::segment::extents::ExtentIndex;
use crate::log::segment::scan::{SCAN_BYTES, Scanned, Scanner, Step};
use crate::log::segment::{Segment, SegmentMeta};
use crate::model::{LeaderEpoch, Offset};
use crate::rt::{self, AlignedBuf, BLOCK, File, OpenOptions};

use super::active::Active;

/// Ends the names of files that no checkpoint accounts for.
const ASIDE: &str = "aside";
/// What follows the last valid batch of a log without checkpoint is copied aside up to this size.
const MAX_ASIDE_BYTES: usize = 64 << 20;

pub struct Recovered {
    pub segments: VecDeque<Rc<Segment>>,
    pub active: Option<Rc<Active>>,
    pub epochs: EpochList,
    pub start_offset: i64,
    pub end_offset: i64,
    pub clean: bool,
    /// Producers' batches, where all were read.
    pub(in crate::log) batches: Vec<Scanned>,
    /// What was replaced past the checkpoint.
    pub settled: Settled,
}

pub fn recover(
    dir: &Rc<Path>,
    resources: &Rc<Resources>,
    checkpoint: Option<PartitionCheckpoint>,
) -> Result<Recovered, LogError> {
    match checkpoint {
        Some(checkpoint) if checkpoint.clean => {
            let mut found = adopt(dir, resources, checkpoint);
            check_active(&mut found)?;
            Ok(found)
        }
        Some(checkpoint) => {
            let (checkpoint, settled) = tidy(dir, checkpoint)?;
            let mut found = adopt(dir, resources, checkpoint);
            found.settled = settled;
            cut_active(&mut found)?;
            Ok(found)
        }
        None => scan_all(dir, resources),
    }
}

/// Takes the checkpoint's word.
fn adopt(dir: &Rc<Path>, resources: &Rc<Resources>, checkpoint: PartitionCheckpoint) -> Recovered {
    let PartitionCheckpoint {
        segment_durable_offset,
        start_offset,
        epochs,
        segments,
        active,
        extents,
        clean,
        was_reset: _,
    } = checkpoint;
    let last = segments.len().wrapping_sub(1);
    let segments: VecDeque<Rc<Segment>> = segments
        .into_iter()
        .enumerate()
        .map(|(i, meta)| Segment::new(dir.clone(), resources.clone(), meta, !(active && i == last)))
        .collect();
    if let Some(last) = segments.back().filter(|_| active) {
        last.vouch(extents.into());
    }
    let active = segments.back().filter(|_| active).cloned().map(Active::reopened);
    let (end_offset, batches) = (segment_durable_offset, Vec::new());
    let settled = Settled::default();
    Recovered { segments, active, epochs, start_offset, end_offset, clean, batches, settled }
}

/// Brings the directory and the checkpoint's list together.
fn tidy(dir: &Path, mut checkpoint: PartitionCheckpoint) -> Result<(PartitionCheckpoint, Settled), LogError> {
    let list = || rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e));
    let (start, end) = (checkpoint.start_offset, checkpoint.segment_durable_offset);
    let listed = (&mut checkpoint.segments, start, end);
    let settled = settle(dir, &list()?, Some(listed))?;
    let mut names = list()?;
    if checkpoint.was_reset {
        dead::forget_dead_of_before(dir, &mut names, &checkpoint.segments)?;
    }
    let dead_below = dead_below(&names);
    if let Some(bound) = dead_below {
        begin_at(bound, &names, &settled, &mut checkpoint);
    }
    unlink_dead(dir, &names).map_err(|e| LogError::io(dir, e))?;
    let is_listed = |base: &i64| checkpoint.segments.iter().any(|s| s.base_offset == *base);
    let mut unlisted: Vec<i64> = names.iter().filter_map(|name| parse_log_name(name)).collect();
    unlisted.retain(|base| !is_listed(base));
    let sync = || rt::fs::sync_dir(dir).map_err(|e| LogError::io(dir, e));
    let any = !unlisted.is_empty();
    // The oldest may say where the log starts: a crash must not leave a later one alone.
    while let Some(base) = unlisted.pop() {
        if unlisted.is_empty() && dead_below.is_some() {
            sync()?;
        }
        settle_unlisted(dir, base, &checkpoint)?;
    }
    // What goes must not come back behind a checkpoint of a clean close: nobody would know whose it is.
    if any {
        sync()?;
    }
    Ok((checkpoint, settled))
}

/// Takes what was deleted after the checkpoint, all below `bound`, off its list; the log starts where the oldest segment that is left does.
fn begin_at(bound: i64, names: &[String], settled: &Settled, checkpoint: &mut PartitionCheckpoint) {
    let dead = checkpoint.segments.iter().take_while(|s| s.base_offset < bound).count();
    let listed = checkpoint.segments.get(dead).map(|s| s.base_offset);
    if dead == 0 && listed.is_some() {
        // The checkpoint knew of it.
        return;
    }
    // Segments that were made and deleted after the checkpoint are known by what is left of them.
    let live = names.iter().filter_map(|name| parse_log_name(name)).filter(|base| *base >= bound);
    // The log still begins before what compaction left nothing of.
    let emptied = settled.emptied.iter().copied().filter(|base| *base >= bound);
    let start = listed.or(live.min()).into_iter().chain(emptied).min();
    let start = start.unwrap_or(checkpoint.segment_durable_offset);
    checkpoint.start_offset = checkpoint.start_offset.max(start);
    checkpoint.epochs.cut_front(Offset(start));
    checkpoint.segments.drain(..dead);
    checkpoint.active &= !checkpoint.segments.is_empty();
}

/// Deals with a segment file that the checkpoint does not list: what the journal brings back and what lies before the
/// log's start goes; anything else is nobody's to delete.
fn settle_unlisted(dir: &Path, base: i64, checkpoint: &PartitionCheckpoint) -> Result<(), LogError> {
    let (path, sidecar) = (file_name(dir, base, LOG), file_name(dir, base, EXTENTS));
    let next = checkpoint.segments.iter().map(|s| s.base_offset).find(|b| *b > base);
    let end = next.unwrap_or(checkpoint.segment_durable_offset);
    if base >= checkpoint.segment_durable_offset || end <= checkpoint.start_offset {
        unlink(&sidecar)?;
        return unlink(&path);
    }
    log::error!("{}: no checkpoint knows this segment; it is left as it is and not served", path.display());
    Ok(())
}

fn set_aside(path: &Path) -> Result<(), LogError> {
    rt::fs::rename(path, with_suffix(path, ASIDE)).map_err(|e| LogError::io(path, e))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

fn unlink(path: &Path) -> Result<(), LogError> {
    rt::fs::unlink(path).map_err(|e| LogError::io(path, e))
}

/// As [`cut_active`] after an orderly close, when the file is exactly as long as was written. Nothing is cut.
fn check_active(found: &mut Recovered) -> Result<(), LogError> {
    let Some(active) = &found.active else { return Ok(()) };
    let segment = active.segment.clone();
    let (path, size) = (segment.path(), u64::from(segment.meta().size));
    let options = OpenOptions { write: true, ..OpenOptions::default() };
    let length = match File::open(&path, options).and_then(|file| file.len()) {
        Ok(length) => length,
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(LogError::io(path, e)),
    };
    if length != size {
        log::error!("{} is corrupt: it has {length} bytes where {size} were written", path.display());
        segment.set_sealed();
        found.active = None;
    }
    Ok(())
}

/// Cuts the active segment to its valid length. One that lost bytes is left as it is, sealed: readers of what is
/// missing get an error, and the log goes on in a new segment. A last segment that is not active may have been cut by a
/// truncation that did not get to its file.
fn cut_active(found: &mut Recovered) -> Result<(), LogError> {
    let Some(active) = &found.active else {
        return found.segments.back().map_or(Ok(()), |last| last.cut_to_size());
    };
    let segment = active.segment.clone();
    let (path, size) = (segment.path(), u64::from(segment.meta().size));
    let options = OpenOptions { write: true, ..OpenOptions::default() };
    let length = match File::open(&path, options) {
        Ok(file) => {
            let length = file.len().map_err(|e| LogError::io(&path, e))?;
            if length > size {
                file.set_len_blocking(size).map_err(|e| LogError::io(&path, e))?;
            }
            length
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(LogError::io(path, e)),
    };
    if length < size {
        log::error!("{} is corrupt: it has {length} bytes where {size} were durable", path.display());
        segment.set_sealed();
        found.active = None;
    }
    Ok(())
}

/// Reads every segment in the directory.
pub(in crate::log) fn scan_all(dir: &Rc<Path>, resources: &Rc<Resources>) -> Result<Recovered, LogError> {
    let names = rt::fs::read_dir_names(&**dir).map_err(|e| LogError::io(&**dir, e))?;
    settle(dir, &names, None)?;
    let names = rt::fs::read_dir_names(&**dir).map_err(|e| LogError::io(&**dir, e))?;
    unlink_dead(dir, &names).map_err(|e| LogError::io(&**dir, e))?;
    let mut sizes = BTreeMap::new();
    for name in &names {
        let path = dir.join(name);
        if let Some(base) = parse_log_name(name) {
            let file = File::open(&path, OpenOptions::default()).map_err(|e| LogError::io(&path, e))?;
            sizes.insert(base, file.len().map_err(|e| LogError::io(&path, e))?);
        }
    }
    let mut found = Recovered {
        segments: VecDeque::new(),
        active: None,
        epochs: EpochList::default(),
        start_offset: sizes.keys().next().copied().unwrap_or(0),
        end_offset: sizes.keys().next().copied().unwrap_or(0),
        clean: false,
        batches: Vec::new(),
        settled: Settled::default(),
    };
    let count = sizes.len();
    for (i, (base, size)) in sizes.into_iter().enumerate() {
        let last = i + 1 == count;
        scan_segment(dir, resources, base, size, last, &mut found)?;
    }
    Ok(found)
}

fn scan_segment(
    dir: &Rc<Path>,
    resources: &Rc<Resources>,
    base: i64,
    length: u64,
    last: bool,
    found: &mut Recovered,
) -> Result<(), LogError> {
    let path = file_name(dir, base, LOG);
    let file = File::open(&path, OpenOptions { write: true, direct: true, ..OpenOptions::default() })
        .map_err(|e| LogError::io(&path, e))?;
    let mut scanner = Scanner::new(SegmentMeta::new(base, rt::unix_ms()), ExtentIndex::default(), !last);
    scanner.batches = Some(Vec::new());
    let what = scan_file(&file, &mut scanner, length).map_err(|e| LogError::io(&path, e))?;
    let size = u64::from(scanner.meta.size);
    if base < found.end_offset || (size < length && !last) {
        log::error!("{} is not a whole segment ({what}); it is set aside", path.display());
        unlink(&file_name(dir, base, EXTENTS))?;
        return set_aside(&path);
    }
    for (epoch, offset) in &scanner.epochs {
        if let Some(epoch) = LeaderEpoch::from_wire(*epoch) {
            found.epochs.note(epoch, Offset(*offset));
        }
    }
    if size < length {
        save_rest(&file, &path, size, length)?;
        file.set_len_blocking(size).map_err(|e| LogError::io(&path, e))?;
    }
    found.end_offset = scanner.meta.next_offset.max(base);
    found.batches.extend(scanner.batches.take().into_iter().flatten());
    // The index is made again when it is needed; an old one may say something else.
    unlink(&file_name(dir, base, EXTENTS))?;
    let segment = Segment::new(dir.clone(), resources.clone(), scanner.meta, !last);
    found.active = last.then(|| Active::reopened(segment.clone()));
    found.segments.push_back(segment);
    Ok(())
}

/// Feeds the file to the scanner; says why it stopped.
fn scan_file(file: &File, scanner: &mut Scanner, length: u64) -> io::Result<&'static str> {
    let mut want = SCAN_BYTES;
    loop {
        let at = u64::from(scanner.meta.size);
        let bytes = read_blocking(file, at, want.max(SCAN_BYTES))?;
        match scanner.feed(&bytes.as_slice()[(at % BLOCK as u64) as usize..]) {
            Step::End { what, .. } => return Ok(what),
            Step::Need { bytes, .. } if u64::from(scanner.meta.size) + bytes as u64 > length => {
                return Ok("it ends within a batch");
            }
            Step::Need { bytes, .. } => want = bytes,
        }
    }
}

/// Reads from the block that holds `at` on.
fn read_blocking(file: &File, at: u64, len: usize) -> io::Result<AlignedBuf> {
    let start = at / BLOCK as u64 * BLOCK as u64;
    let mut buffer = AlignedBuf::with_capacity(len + BLOCK);
    let got = file.read_blocking(start, &mut buffer)?;
    buffer.set_len(got.max((at - start) as usize));
    Ok(buffer)
}

/// Keeps what follows the valid batches, unless it is padding.
fn save_rest(file: &File, path: &Path, from: u64, to: u64) -> Result<(), LogError> {
    let rest = (to - from) as usize;
    if rest > MAX_ASIDE_BYTES {
        return Err(LogError::corrupt(
            path,
            from,
            format!("{rest} bytes are not batches, and no checkpoint is left"),
        ));
    }
    let bytes = read_blocking(file, from, rest).map_err(|e| LogError::io(path, e))?;
    let rest = &bytes.as_slice()[(from % BLOCK as u64) as usize..];
    let padding = rest.iter().skip(12).all(|b| *b == 0) && rest.len() < BLOCK;
    if padding {
        return Ok(());
    }
    let aside = with_suffix(path, ASIDE);
    log::error!(
        "{} is corrupt at {from}: the {} bytes from there on are in {}",
        path.display(),
        rest.len(),
        aside.display()
    );
    rt::fs::write_atomic(&aside, rest).map_err(|e| LogError::io(aside, e))
}
