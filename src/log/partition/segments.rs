//! The segments of one log, oldest first, and the end of the last one while it is written to.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::log::Lsn;
use crate::log::segment::{Segment, SegmentMeta};

use super::active::Active;

/// At most the last segment is *active*; all others are sealed. Base offsets rise.
#[derive(Default)]
pub struct Segments {
    list: RefCell<VecDeque<Rc<Segment>>>,
    active: RefCell<Option<Rc<Active>>>,
    /// The oldest batch that was written to a segment and not synced.
    unsynced: Cell<Option<Lsn>>,
}

impl Segments {
    /// As a start found them: all of it is synced.
    pub fn found(list: VecDeque<Rc<Segment>>, active: Option<Rc<Active>>) -> Self {
        Self { list: list.into(), active: active.into(), unsynced: Cell::default() }
    }

    pub fn len(&self) -> usize {
        self.list.borrow().len()
    }

    pub fn bytes(&self) -> u64 {
        self.list.borrow().iter().map(|segment| u64::from(segment.meta().size)).sum()
    }

    pub fn active(&self) -> Option<Rc<Active>> {
        self.active.borrow().clone()
    }

    pub fn unsynced(&self) -> Option<Lsn> {
        self.unsynced.get()
    }

    pub fn first(&self) -> Option<Rc<Segment>> {
        self.list.borrow().front().cloned()
    }

    pub fn last(&self) -> Option<Rc<Segment>> {
        self.list.borrow().back().cloned()
    }

    /// The segment to read for `offset`: the one that holds it, else the next one.
    pub fn at(&self, offset: i64) -> Option<Rc<Segment>> {
        let list = self.list.borrow();
        let at = list.partition_point(|s| s.base_offset() <= offset).saturating_sub(1);
        list.range(at.min(list.len())..).find(|s| s.meta().next_offset > offset).cloned()
    }

    pub fn all(&self) -> Vec<Rc<Segment>> {
        self.list.borrow().iter().cloned().collect()
    }

    pub fn sealed(&self) -> Vec<Rc<Segment>> {
        self.list.borrow().range(..self.sealed_count()).cloned().collect()
    }

    pub fn sealed_count(&self) -> usize {
        self.len() - usize::from(self.active.borrow().is_some())
    }

    pub fn metas(&self) -> Vec<SegmentMeta> {
        self.list.borrow().iter().map(|segment| segment.meta()).collect()
    }

    /// The largest timestamp, −1 for none, and the offset of the first batch that has it.
    pub fn newest_timestamp(&self) -> (i64, i64) {
        let newest = |best: (i64, i64), meta: SegmentMeta| match meta.max_timestamp > best.0 {
            true => (meta.max_timestamp, meta.max_timestamp_offset),
            false => best,
        };
        self.list.borrow().iter().map(|segment| segment.meta()).fold((-1, i64::MIN), newest)
    }

    /// How many segments end at or below `to`, and the one after them.
    pub fn split_at(&self, to: i64) -> (usize, Option<Rc<Segment>>) {
        let list = self.list.borrow();
        let whole = list.partition_point(|segment| segment.meta().next_offset <= to);
        (whole, list.get(whole).cloned())
    }

    /// The log goes on in a new segment.
    pub fn begin(&self, active: Rc<Active>) {
        self.list.borrow_mut().push_back(active.segment.clone());
        *self.active.borrow_mut() = Some(active);
    }

    /// Nothing is written to the active segment any more.
    pub fn end(&self) {
        *self.active.borrow_mut() = None;
    }

    /// As [`end`](Self::end), of one that has nothing: it goes.
    pub fn end_empty(&self) {
        if self.active.take().is_some() {
            self.list.borrow_mut().pop_back();
        }
    }

    /// A batch whose entry is at `lsn` was written to the active segment.
    pub fn note_written(&self, lsn: Lsn) {
        if self.unsynced.get().is_none() {
            self.unsynced.set(Some(lsn));
        }
    }

    pub fn note_synced(&self) {
        self.unsynced.set(None);
    }

    pub fn drop_first(&self) {
        self.list.borrow_mut().pop_front();
    }

    /// Whether these segments are in the list, side by side.
    pub fn has(&self, neighbours: &[Rc<Segment>]) -> bool {
        let list = self.list.borrow();
        let Some(at) = list.iter().position(|s| s.uid() == neighbours[0].uid()) else { return false };
        list.range(at..).zip(neighbours).filter(|(a, b)| a.uid() == b.uid()).count() == neighbours.len()
    }

    /// Puts `new` in the place of the `count` segments from the one at `base` on.
    pub fn replace(&self, base: i64, count: usize, new: Option<Rc<Segment>>) {
        let mut list = self.list.borrow_mut();
        let at = list.partition_point(|segment| segment.base_offset() < base);
        list.drain(at..at + count);
        if let Some(new) = new {
            list.insert(at, new);
        }
    }

    /// Keeps the `whole` oldest, sealed, with `part` behind them; returns the others.
    pub fn cut(&self, whole: usize, part: Option<Rc<Segment>>) -> Vec<Rc<Segment>> {
        self.end();
        self.note_synced();
        let mut list = self.list.borrow_mut();
        let gone = list.drain(whole..).collect();
        list.extend(part);
        gone
    }
}
