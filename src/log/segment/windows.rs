//! Windows of a segment: the unit in which it is read, shared and kept.
//!
//! Windows are the same for every reader, so consumers that follow each other share reads; neighbouring windows that are
//! missing are read with one operation of up to [`READ_BYTES`]. A load runs in its own task: a reader that goes away
//! leaves its window to the next one, and the buffer to the kernel until the read is done. Its memory is taken before
//! it begins, from the cache's budget for reads; readers wait for that in turn, and load ahead only what has room.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use crate::log::LogError;
use crate::log::resources::WindowKey;
use crate::log::resources::window::{Failure, State, Window};
use crate::rt::{self, Charge};

use super::Segment;
use super::extents::{Extent, ExtentIndex};

/// The extents that start in the same so many bytes of the file are one window.
pub const WINDOW_BYTES: u32 = 256 << 10;
/// The largest single read, unless one window is larger.
const READ_BYTES: usize = 1 << 20;

impl Window {
    /// The bytes of one extent, if they are what was written.
    pub(super) fn extent(&self, extent: &Extent, segment: &Segment) -> Result<Bytes, LogError> {
        match &*self.state.borrow() {
            State::Ready { bytes, start, bad } if !bad.contains(&extent.position) => {
                let from = (extent.position - start) as usize;
                Ok(bytes.slice(from..from + extent.length as usize))
            }
            // The log was cut in it.
            State::Ready { .. } if segment.is_history() => Err(LogError::Removed),
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
pub(super) struct Plan {
    pub key: WindowKey,
    pub extents: Vec<Extent>,
}

impl Plan {
    pub fn bytes(&self) -> usize {
        (self.key.end - self.key.start) as usize
    }
}

/// The windows of plans, one after the other; what comes next is loaded meanwhile, as far as there is memory for it.
pub(super) struct Ahead<'a> {
    segment: &'a Rc<Segment>,
    plans: &'a [Plan],
    /// The plans that are loaded, or being loaded, and not handed out.
    started: VecDeque<Rc<Window>>,
    /// The first plan that is not started.
    next: usize,
}

impl<'a> Ahead<'a> {
    pub fn new(segment: &'a Rc<Segment>, plans: &'a [Plan]) -> Self {
        Self { segment, plans, started: VecDeque::new(), next: 0 }
    }

    /// The next window, loaded; there has to be one.
    pub async fn next(&mut self) -> Rc<Window> {
        if self.started.is_empty() && !self.start_now() {
            let bytes = self.missing().iter().map(Plan::bytes).sum();
            let charge = self.segment.resources.reading().take(bytes, bytes).await;
            // Others may have begun to load it meanwhile.
            if !self.start_cached() {
                self.start(charge);
            }
        }
        while self.start_now() {}
        let window = self.started.pop_front().expect("one was started");
        window.loaded().await;
        window
    }

    /// Starts what can be started without waiting; false if there is nothing more, or no memory.
    pub fn start_now(&mut self) -> bool {
        if self.start_cached() {
            return true;
        }
        let bytes = self.missing().iter().map(Plan::bytes).sum();
        match self.segment.resources.reading().try_take(bytes, bytes) {
            Some(charge) if bytes > 0 => {
                self.start(charge);
                true
            }
            _ => false,
        }
    }

    fn start_cached(&mut self) -> bool {
        let Some(window) = self.plans.get(self.next).and_then(|p| self.segment.resources.window(p.key))
        else {
            return false;
        };
        self.started.push_back(window);
        self.next += 1;
        true
    }

    /// The plans that one operation brings: those from the next one on that nobody has, side by side.
    fn missing(&self) -> &'a [Plan] {
        let plans = &self.plans[self.next..];
        let Some(first) = plans.first() else { return plans };
        let most = READ_BYTES.min(self.segment.resources.reading().limit() / 8);
        let fits = |(at, plan): &(usize, &Plan)| {
            *at == 0
                || (plan.key.start == plans[at - 1].key.end
                    && (plan.key.end - first.key.start) as usize <= most
                    && self.segment.resources.window(plan.key).is_none())
        };
        &plans[..plans.iter().enumerate().take_while(fits).count()]
    }

    fn start(&mut self, mut charge: Charge) {
        let plans = self.missing();
        charge.resize(plans.iter().map(Plan::bytes).sum());
        let load = |plan: &Plan| {
            let window = Window::loading();
            self.segment.resources.keep_window(plan.key, window.clone());
            (window, plan.key, plan.extents.clone())
        };
        let windows: Vec<_> = plans.iter().map(load).collect();
        self.started.extend(windows.iter().map(|(window, ..)| window.clone()));
        self.next += plans.len();
        drop(rt::spawn(self.segment.clone().load(windows, charge)));
    }
}

impl Segment {
    /// Windows from extent `first` on for at least `bytes`, not past `limit`.
    pub(super) fn plan(
        &self,
        index: &ExtentIndex,
        first: usize,
        bytes: usize,
        limit: Option<i64>,
    ) -> Vec<Plan> {
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

    async fn load(self: Rc<Self>, windows: Vec<(Rc<Window>, WindowKey, Vec<Extent>)>, _memory: Charge) {
        let (start, end) = (windows[0].1.start, windows[windows.len() - 1].1.end);
        let read = match self.file(false) {
            Ok(file) => {
                file.read(u64::from(start), (end - start) as usize).await.map_err(|e| self.io_failure(&e))
            }
            Err(LogError::Removed) => Err(Failure::Removed),
            Err(LogError::Io { source, .. }) => Err(self.io_failure(&source)),
            Err(_) => Err(Failure::Missing),
        };
        self.resources.count_disk_read(read.as_ref().map_or(0, |bytes| bytes.len()));
        for (window, key, extents) in windows {
            match &read {
                Ok(bytes) => {
                    let at = |position: u32| ((position - start) as usize).min(bytes.len());
                    let matches = |e: &Extent| e.matches(&bytes[at(e.position)..at(e.end())]);
                    let bad: Vec<u32> = extents.iter().filter(|e| !matches(e)).map(|e| e.position).collect();
                    if !bad.is_empty() {
                        self.resources.drop_window(key);
                        // What is deleted is cut before it goes.
                        if self.is_deleted() {
                            window.set(State::Failed(Failure::Removed));
                            continue;
                        }
                        if !self.is_history() {
                            log::error!(
                                "{}: extents at {bad:?} do not match their checksums",
                                self.path().display()
                            );
                        }
                    }
                    extents.iter().filter(|e| bad.contains(&e.position)).for_each(|e| self.note_damage(e));
                    window.set(State::Ready { bytes: bytes.slice(at(key.start)..), start: key.start, bad });
                }
                Err(failure) => {
                    if !matches!(failure, Failure::Removed) {
                        extents.iter().for_each(|e| self.note_damage(e));
                    }
                    self.resources.drop_window(key);
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
            let mut ahead = Ahead::new(self, &plans);
            while ahead.start_now() {}
        }
    }
}
