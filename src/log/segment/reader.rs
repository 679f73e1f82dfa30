//! Reading segments: whole batches, straight from disk, without a copy.
//!
//! A segment is read in *windows*: the extents that start in the same [`WINDOW_BYTES`] of the file. Windows are the
//! same for every reader, so consumers that follow each other share reads; neighbouring windows that are missing are
//! read with one operation of up to [`READ_BYTES`]. A load runs in its own task: a reader that goes away leaves its
//! window to the next one, and the buffer to the kernel until the read is done.
//!
//! Every extent is checked before anything of it is returned. An extent that fails is reported when a reader gets to
//! it; its neighbours stay readable.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use crate::log::LogError;
use crate::log::cache::WindowKey;
use crate::rt::{self, Notify};
use crate::wire::batch::BatchHeader;

use super::Segment;
use super::extents::{Extent, ExtentIndex};

/// The unit in which what was read is shared and kept.
pub const WINDOW_BYTES: u32 = 256 << 10;
/// The largest single read, unless one window is larger.
const READ_BYTES: usize = 1 << 20;

/// Which batches to return: from the one holding `offset` on, below `limit`, at most `max_bytes` of them, but the
/// first one anyway with `at_least_one`.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub offset: i64,
    pub limit: i64,
    pub max_bytes: usize,
    pub at_least_one: bool,
}

/// What was found, and the offset at which to go on.
#[derive(Debug, Default)]
pub struct Found {
    pub batches: Vec<Bytes>,
    pub bytes: usize,
    pub next_offset: i64,
    /// The limit or the byte bound was met: there is nothing to go on for.
    pub full: bool,
}

/// A stretch of a segment in memory, or on its way there.
pub struct Window {
    state: RefCell<State>,
    ready: Notify,
}

enum State {
    Loading,
    Ready { bytes: Bytes, start: u32, bad: Vec<u32> },
    Failed(Failure),
}

#[derive(Clone)]
enum Failure {
    Io(std::io::ErrorKind, String),
    Removed,
    Missing,
}

impl Window {
    async fn loaded(&self) {
        while matches!(*self.state.borrow(), State::Loading) {
            self.ready.notified().await;
        }
    }

    fn set(&self, state: State) {
        *self.state.borrow_mut() = state;
        self.ready.notify_all();
    }

    /// The bytes of one extent, if they are what was written.
    fn extent(&self, extent: &Extent, segment: &Segment) -> Result<Bytes, LogError> {
        match &*self.state.borrow() {
            State::Ready { bytes, start, bad } if !bad.contains(&extent.position) => {
                let from = (extent.position - start) as usize;
                Ok(bytes.slice(from..from + extent.length as usize))
            }
            State::Ready { .. } => Err(segment.corrupt(extent, "the checksum does not match")),
            State::Failed(Failure::Removed) => Err(LogError::Removed),
            State::Failed(Failure::Missing) => Err(segment.corrupt(extent, "the file is missing")),
            State::Failed(Failure::Io(kind, what)) => {
                Err(LogError::io(segment.path(), std::io::Error::new(*kind, what.clone())))
            }
            State::Loading => Err(LogError::Removed),
        }
    }
}

/// The extents of one window.
struct Plan {
    key: WindowKey,
    extents: Vec<Extent>,
}

impl Segment {
    fn corrupt(&self, extent: &Extent, what: &str) -> LogError {
        let offset = self.base_offset() + i64::from(extent.relative_offset);
        let what = format!("{what}, {} bytes from record offset {offset} on", extent.length);
        LogError::corrupt(self.path(), u64::from(extent.position), what)
    }

    /// Reads from this segment. The caller made sure that `wanted.offset` lies in it.
    pub async fn read(self: &Rc<Self>, wanted: Wanted) -> Result<Found, LogError> {
        let index = self.index().await?;
        let end_offset = self.meta().next_offset;
        if index.extents().is_empty() {
            return Ok(Found { next_offset: end_offset, ..Found::default() });
        }
        // Compaction may have taken the segment's first offsets.
        let first = index.find_offset(self.relative(wanted.offset)).unwrap_or(0);
        let skipped = index.extents()[first].length as usize;
        let plans = self.plan(&index, first, wanted.max_bytes.saturating_add(skipped), Some(wanted.limit));
        let after = self.end_of_plans(&index, &plans, end_offset);
        drop(index);
        let windows = self.windows(&plans);
        let mut pick = Pick { segment: self, wanted, found: Found::default(), room: wanted.max_bytes };
        pick.found.next_offset = wanted.offset;
        let extents: Vec<Extent> = plans.iter().flat_map(|p| p.extents.iter().copied()).collect();
        let mut i = 0;
        for (plan, window) in plans.iter().zip(&windows) {
            window.loaded().await;
            let mut run = Run::default();
            for _ in &plan.extents {
                let end = extents.get(i + 1).map_or(after, |e| self.absolute(e));
                let more = pick.extent(window, &extents[i], end, &mut run)?;
                i += 1;
                if !more {
                    pick.flush(window, &mut run);
                    return Ok(pick.found);
                }
            }
            pick.flush(window, &mut run);
        }
        // Nothing here although something may follow: compaction leaves gaps.
        if pick.found.bytes == 0 {
            pick.found.next_offset = after.max(wanted.offset);
        }
        Ok(pick.found)
    }

    pub(super) fn absolute(&self, extent: &Extent) -> i64 {
        self.base_offset() + i64::from(extent.relative_offset)
    }

    /// The offset at which the last extent planned for ends: where the next one starts, or the segment's end.
    fn end_of_plans(&self, index: &ExtentIndex, plans: &[Plan], end_offset: i64) -> i64 {
        let end = plans.last().map_or(0, |p| p.key.end);
        let next = index.extents().partition_point(|e| e.position < end);
        index.extents().get(next).map_or(end_offset, |e| self.absolute(e))
    }

    /// Windows from extent `first` on for at least `bytes`, not past `limit`.
    fn plan(&self, index: &ExtentIndex, first: usize, bytes: usize, limit: Option<i64>) -> Vec<Plan> {
        let extents = index.extents();
        let mut plans = Vec::new();
        let Some(extent) = extents.get(first) else { return plans };
        let from = extent.position as usize;
        let mut next =
            extents.partition_point(|e| e.position < extent.position / WINDOW_BYTES * WINDOW_BYTES);
        while let Some(start) = extents.get(next) {
            let reached = start.position as usize >= from.saturating_add(bytes);
            if !plans.is_empty() && (reached || limit.is_some_and(|limit| self.absolute(start) >= limit)) {
                break;
            }
            let number = start.position / WINDOW_BYTES;
            let end = next + extents[next..].partition_point(|e| e.position / WINDOW_BYTES == number);
            let extents = extents[next..end].to_vec();
            let key = WindowKey {
                segment: self.uid(),
                start: start.position,
                end: extents[extents.len() - 1].end(),
            };
            plans.push(Plan { key, extents });
            next = end;
        }
        plans
    }

    /// The windows of the plans; those nobody has are being loaded.
    fn windows(self: &Rc<Self>, plans: &[Plan]) -> Vec<Rc<Window>> {
        let mut windows = Vec::with_capacity(plans.len());
        let mut missing: Vec<(Rc<Window>, WindowKey, Vec<Extent>)> = Vec::new();
        for plan in plans {
            let window = self.cache.window(plan.key).unwrap_or_else(|| {
                let window = Rc::new(Window { state: RefCell::new(State::Loading), ready: Notify::new() });
                self.cache.keep_window(plan.key, window.clone());
                if let (Some(first), Some(last)) = (missing.first(), missing.last())
                    && (last.1.end != plan.key.start || (plan.key.end - first.1.start) as usize > READ_BYTES)
                {
                    self.spawn_load(std::mem::take(&mut missing));
                }
                missing.push((window.clone(), plan.key, plan.extents.clone()));
                window
            });
            windows.push(window);
        }
        self.spawn_load(missing);
        windows
    }

    fn spawn_load(self: &Rc<Self>, windows: Vec<(Rc<Window>, WindowKey, Vec<Extent>)>) {
        if !windows.is_empty() {
            drop(rt::spawn(self.clone().load(windows)));
        }
    }

    async fn load(self: Rc<Self>, windows: Vec<(Rc<Window>, WindowKey, Vec<Extent>)>) {
        let (start, end) = (windows[0].1.start, windows[windows.len() - 1].1.end);
        let read = match self.file(false) {
            Ok(file) => {
                file.read(u64::from(start), (end - start) as usize).await.map_err(|e| self.io_failure(&e))
            }
            Err(LogError::Removed) => Err(Failure::Removed),
            Err(LogError::Io { source, .. }) => Err(self.io_failure(&source)),
            Err(_) => Err(Failure::Missing),
        };
        self.cache.count_disk_read(read.as_ref().map_or(0, |bytes| bytes.len()));
        for (window, key, extents) in windows {
            match &read {
                Ok(bytes) => {
                    let at = |position: u32| ((position - start) as usize).min(bytes.len());
                    let matches = |e: &Extent| e.matches(&bytes[at(e.position)..at(e.end())]);
                    let bad: Vec<u32> = extents.iter().filter(|e| !matches(e)).map(|e| e.position).collect();
                    if !bad.is_empty() {
                        self.cache.drop_window(key);
                        // What is deleted is cut before it goes.
                        if self.is_deleted() {
                            window.set(State::Failed(Failure::Removed));
                            continue;
                        }
                        log::error!(
                            "{}: extents at {bad:?} do not match their checksums",
                            self.path().display()
                        );
                    }
                    extents.iter().filter(|e| bad.contains(&e.position)).for_each(|e| self.note_damage(e));
                    window.set(State::Ready { bytes: bytes.slice(at(key.start)..), start: key.start, bad });
                }
                Err(failure) => {
                    if !matches!(failure, Failure::Removed) {
                        extents.iter().for_each(|e| self.note_damage(e));
                    }
                    self.cache.drop_window(key);
                    window.set(State::Failed(failure.clone()));
                }
            }
        }
    }

    fn io_failure(&self, e: &std::io::Error) -> Failure {
        log::error!("{}: {e}", self.path().display());
        Failure::Io(e.kind(), e.to_string())
    }

    /// Starts reading what a sequential reader will want next.
    pub fn prefetch(self: &Rc<Self>, offset: i64, bytes: usize) {
        // Without the index at hand it is not worth waiting for.
        let Some(index) = self.index.borrow().clone() else { return };
        if let Some(first) = index.find_offset(self.relative(offset)) {
            let plans = self.plan(&index, first, bytes, None);
            drop(index);
            self.windows(&plans);
        }
    }

    /// One extent's bytes.
    pub async fn read_extent(self: &Rc<Self>, number: usize) -> Result<Option<Bytes>, LogError> {
        let index = self.index().await?;
        let Some(extent) = index.extents().get(number).copied() else { return Ok(None) };
        let plans = self.plan(&index, number, 1, None);
        drop(index);
        let windows = self.windows(&plans[..1]);
        windows[0].loaded().await;
        windows[0].extent(&extent, self).map(Some)
    }
}

/// A stretch of a window that is going out, as positions in the file.
#[derive(Default)]
struct Run {
    from: u32,
    to: u32,
}

/// Picks batches out of checked extents.
struct Pick<'a> {
    segment: &'a Segment,
    wanted: Wanted,
    found: Found,
    room: usize,
}

impl Pick<'_> {
    /// Takes what is wanted of one extent; false when there is nothing more to take.
    fn extent(
        &mut self,
        window: &Window,
        extent: &Extent,
        end: i64,
        run: &mut Run,
    ) -> Result<bool, LogError> {
        if end <= self.wanted.offset {
            return Ok(true);
        }
        let bytes = match window.extent(extent, self.segment) {
            Ok(bytes) => bytes,
            // What was found so far is good; the reader meets the error when it comes back for the rest.
            Err(_) if self.found.bytes > 0 => {
                self.found.full = true;
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        let started = self.found.next_offset > self.wanted.offset;
        if started && end <= self.wanted.limit && bytes.len() <= self.room {
            self.take(extent.position, bytes.len(), end, run);
            return Ok(true);
        }
        let mut at = 0;
        while at < bytes.len() {
            let header = BatchHeader::parse(&bytes[at..])
                .ok()
                .filter(|h| h.size() <= bytes.len() - at)
                .ok_or_else(|| self.segment.corrupt(extent, "no batch header where one has to be"))?;
            let size = header.size();
            if header.next_offset() > self.wanted.offset {
                if self.found.bytes == 0 && self.wanted.at_least_one {
                    self.room = self.room.max(size);
                }
                if header.base_offset >= self.wanted.limit || size > self.room {
                    self.found.full = true;
                    return Ok(false);
                }
                self.take(extent.position + at as u32, size, header.next_offset(), run);
            }
            at += size;
        }
        Ok(true)
    }

    fn take(&mut self, position: u32, size: usize, next_offset: i64, run: &mut Run) {
        if run.to == run.from {
            run.from = position;
        }
        run.to = position + size as u32;
        self.room -= size;
        self.found.bytes += size;
        self.found.next_offset = next_offset;
    }

    /// The run of the window just done becomes one slice.
    fn flush(&mut self, window: &Window, run: &mut Run) {
        if run.to > run.from
            && let State::Ready { bytes, start, .. } = &*window.state.borrow()
        {
            let slice = bytes.slice((run.from - start) as usize..(run.to - start) as usize);
            self.found.batches.push(slice);
        }
        *run = Run::default();
    }
}
