//! A truncation between its plan and its end: what is cut, and what is left to do to files.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::log::Lsn;
use crate::log::compact::manifest::SWAP;
use crate::log::files::dead::parse_dead;
use crate::log::files::names::{EXTENTS, LOG, file_name};
use crate::log::formats::cut::Cut;
use crate::log::segment::extents::ExtentIndex;
use crate::log::segment::{Segment, SegmentMeta};
use crate::model::Offset;
use crate::rt;
use crate::rt::fs::unlink;

use super::snapshots::snapshot_name;

/// Where a log is cut.
pub struct Plan {
    /// Where it ends afterwards, and starts, if it begins anew.
    pub to: Offset,
    pub resets: bool,
    /// How many of the oldest segments stay whole; all of them where only the tail is cut.
    pub(super) whole: usize,
    /// What stays of the one after them.
    pub(super) part: Option<(SegmentMeta, ExtentIndex)>,
    /// Whether segments are cut.
    pub(super) in_segments: bool,
    /// What the journal says of it.
    pub cut: Cut,
}

/// What is to be done to files.
pub struct Halfway {
    pub(super) lsn: Lsn,
    /// Base offsets of the segments that are gone.
    pub(super) gone: Vec<i64>,
    pub(super) part: Option<Rc<Segment>>,
    /// Groups whose replacement is void.
    pub(super) swaps: Vec<i64>,
    pub(super) snapshots: Vec<i64>,
    /// Marks of deleted segments from here on are void.
    pub(super) resets_to: Option<i64>,
}

/// What a log knows of its truncations.
#[derive(Default)]
pub struct Cutting {
    /// The entry of the last one.
    last: Cell<Lsn>,
    halfway: RefCell<Option<Box<Halfway>>>,
    /// The entry of the one that is half-way is on disk.
    durable: Cell<bool>,
}

impl Cutting {
    /// The entry of the last truncation or reset since the start.
    pub fn last(&self) -> Lsn {
        self.last.get()
    }

    pub fn is_halfway(&self) -> bool {
        self.halfway.borrow().is_some()
    }

    /// The entry of a reset whose files are not done.
    pub fn reset_underway(&self) -> Option<Lsn> {
        let halfway = self.halfway.borrow();
        halfway.as_ref().filter(|cut| cut.resets_to.is_some()).map(|cut| cut.lsn)
    }

    /// The log was cut by the entry at `lsn`; with something `left` to do to files, it is half-way.
    pub fn begin(&self, lsn: Lsn, left: Option<Halfway>) {
        self.last.set(lsn);
        if let Some(left) = left {
            self.durable.set(false);
            *self.halfway.borrow_mut() = Some(Box::new(left));
        }
    }

    /// The entries up to `lsn` are on disk.
    pub fn note_durable(&self, lsn: Lsn) {
        if self.halfway.borrow().as_ref().is_some_and(|cut| cut.lsn <= lsn) {
            self.durable.set(true);
        }
    }

    /// The entry of the cut that is half-way, and what is left to do; `Err` while the entry is on its way to the disk.
    pub fn job(&self) -> Result<Option<(Lsn, Job)>, OnItsWay> {
        match &*self.halfway.borrow() {
            None => Ok(None),
            Some(_) if !self.durable.get() => Err(OnItsWay),
            Some(cut) => Ok(Some((cut.lsn, cut.job()))),
        }
    }

    /// Files are done of the cut whose entry is at `lsn`.
    pub fn finish(&self, lsn: Lsn) -> Option<Box<Halfway>> {
        self.halfway.borrow_mut().take_if(|cut| cut.lsn == lsn)
    }
}

/// The entry of a truncation is not on disk yet.
pub struct OnItsWay;

/// As [`Halfway`], for another thread.
#[derive(Clone)]
pub struct Job {
    pub gone: Vec<i64>,
    part: Option<(i64, u32)>,
    swaps: Vec<i64>,
    snapshots: Vec<i64>,
    resets_to: Option<i64>,
}

impl Halfway {
    fn job(&self) -> Job {
        let part = self.part.as_ref().map(|part| (part.base_offset(), part.meta().size));
        let (gone, swaps, snapshots) = (self.gone.clone(), self.swaps.clone(), self.snapshots.clone());
        Job { gone, part, swaps, snapshots, resets_to: self.resets_to }
    }
}

impl Job {
    /// Any number of times.
    pub fn carry_out(&self, dir: &Path) -> io::Result<()> {
        if !rt::fs::exists(dir) {
            return Ok(());
        }
        if !self.swaps.is_empty() {
            // A start that found one beside what comes would take that for what was replaced.
            self.swaps.iter().try_for_each(|base| unlink(file_name(dir, *base, SWAP)))?;
            rt::fs::sync_dir(dir)?;
        }
        for base in &self.gone {
            unlink(file_name(dir, *base, EXTENTS))?;
            unlink(file_name(dir, *base, LOG))?;
        }
        if let Some((base, size)) = self.part {
            unlink(file_name(dir, base, EXTENTS))?;
            rt::fs::cut(file_name(dir, base, LOG), size.into())?;
        }
        self.snapshots.iter().try_for_each(|offset| unlink(dir.join(snapshot_name(*offset))))?;
        if let Some(to) = self.resets_to {
            let names = rt::fs::read_dir_names(dir)?;
            let dead = |name: &&String| parse_dead(name).is_some_and(|base| base >= to);
            names.iter().filter(dead).try_for_each(|name| unlink(dir.join(name)))?;
        }
        rt::fs::sync_dir(dir)
    }
}
