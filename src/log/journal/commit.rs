//! The journal at work: the task that commits.
//!
//! - One commit is in flight at a time: that a later one exists proves the earlier one durable (see `scan`).
//! - The first error of a write or fsync ends the journal. Only what lacks room is tried again: a commit counts for
//!   nothing before all of it was written and synced, so that writing all of it again is as good as having waited.
//! - A commit that catches up with zeros in flight waits for them.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::log::Lsn;
use crate::log::error::JournalFailed;
use crate::rt::{self, AlignedBuf, BLOCK, File, Notify, Ticks};

use super::files::{self, Discard, Files, Slot};
use super::gather::{Commit, Gather};
use super::promises::Promises;
use super::settings::JournalSettings;
use super::stats::JournalStats;
use crate::log::error::{is_full, is_out_of_files, may_pass};

/// How long to wait before trying a commit again on a full disk.
const SPACE_RETRY: Duration = Duration::from_millis(500);

pub struct Inner {
    pub settings: JournalSettings,
    pub salt: u32,
    pub gather: RefCell<Gather>,
    pub files: RefCell<Files>,
    pub durable: Cell<Lsn>,
    pub promises: RefCell<Promises>,
    /// Entries below are not needed any more.
    pub released: Cell<Lsn>,
    pub in_flight: RefCell<Option<InFlight>>,
    /// After each commit, and when the journal fails.
    pub advanced: Notify,
    /// The commit task sleeps until this; `resting` says that it does.
    pub wake: Notify,
    pub resting: Cell<bool>,
    pub keep: Notify,
    pub failed: RefCell<Option<Arc<str>>>,
    pub stalled: RefCell<Option<Stall>>,
    /// Rings when room was wanted and there was none.
    pub pinched: Notify,
    /// Rings when a file could not be opened for want of descriptors: somebody may give some up.
    pub starved: Notify,
    /// The disk is short of room: no more files are made than two, except for a batch that fits none.
    pub frugal: Cell<bool>,
    /// Files that may be kept.
    pub keep_files: Cell<usize>,
    pub closing: Cell<bool>,
    pub zeroing: RefCell<Option<(u32, Range<u64>)>>,
    /// The keeper makes a file; a commit that needs one waits for it rather than making another.
    pub making: Cell<bool>,
    /// The keeper finished a step.
    pub kept: Notify,
    pub stats: RefCell<JournalStats>,
    /// When the last commit that is durable began and ended.
    pub last_commit: Cell<Option<(Ticks, Ticks)>>,
}

/// Why a commit waits before it is tried again.
pub struct Stall {
    pub why: Arc<str>,
    /// For room, rather than for descriptors.
    pub is_full: bool,
}

pub struct InFlight {
    pub last: Lsn,
    pub done: Notify,
    pub bytes: usize,
    pub began: Instant,
}

impl Inner {
    pub fn new(settings: JournalSettings, salt: u32, gather: Gather, files: Files) -> Self {
        Self {
            keep_files: Cell::new(settings.max_files as usize),
            settings,
            salt,
            durable: Cell::new(gather.last()),
            promises: RefCell::default(),
            released: Cell::new(Lsn::ZERO),
            gather: RefCell::new(gather),
            files: RefCell::new(files),
            in_flight: RefCell::new(None),
            advanced: Notify::new(),
            wake: Notify::new(),
            resting: Cell::new(false),
            keep: Notify::new(),
            failed: RefCell::new(None),
            stalled: RefCell::new(None),
            pinched: Notify::new(),
            starved: Notify::new(),
            frugal: Cell::new(false),
            closing: Cell::new(false),
            zeroing: RefCell::new(None),
            making: Cell::new(false),
            kept: Notify::new(),
            stats: RefCell::new(JournalStats::new()),
            last_commit: Cell::new(None),
        }
    }

    /// The commit task.
    pub async fn run(self: Rc<Self>) {
        while self.failed.borrow().is_none() {
            let listen = self.wake.listen();
            let next = self.gather.borrow_mut().take(self.durable.get());
            match next {
                Some(commit) => self.commit(commit).await,
                None if self.closing.get() => return,
                None => {
                    self.resting.set(true);
                    listen.await;
                    self.resting.set(false);
                }
            }
        }
    }

    async fn commit(&self, commit: Commit) {
        let bytes = commit.buf.len();
        let (last, done) = (commit.last, commit.done.clone());
        let (started, began) = (rt::now(), Ticks::now());
        *self.in_flight.borrow_mut() = Some(InFlight { last, done: done.clone(), bytes, began: started });
        match self.write(commit).await {
            Ok(buf) => {
                self.resume();
                self.durable.set(last);
                self.last_commit.set(Some((began, Ticks::now())));
                self.stats.borrow_mut().record(started.elapsed(), bytes);
                *self.in_flight.borrow_mut() = None;
                done.notify_all();
                self.advanced.notify_all();
                self.gather.borrow_mut().recycle(buf, done);
                if self.has_chore() {
                    self.keep.notify_all();
                }
            }
            Err((path, error)) => {
                self.fail(&path, &error);
                *self.in_flight.borrow_mut() = None;
                done.notify_all();
            }
        }
    }

    async fn write(&self, mut commit: Commit) -> Result<AlignedBuf, (PathBuf, io::Error)> {
        loop {
            let (number, path, file) = self.file_for(&commit).await?;
            let at = commit.file_offset();
            let range = at..at + commit.buf.len() as u64;
            self.await_zeros(number, &range).await;
            let (written, buf) = file.write_durable(at, commit.buf).await;
            match written {
                Ok(()) => return Ok(buf),
                // A file system that copies what is overwritten needs room for that too.
                Err(e) if is_full(&e) && !self.closing.get() => {
                    commit.buf = buf;
                    self.stall(&path, &e).await;
                }
                Err(e) => return Err((path, e)),
            }
        }
    }

    /// The file that the commit goes to, made if there is none free.
    async fn file_for(&self, commit: &Commit) -> Result<(u32, PathBuf, File), (PathBuf, io::Error)> {
        let describe = |slot: &Slot| (slot.number, slot.path.clone(), slot.file.clone());
        loop {
            let kept = self.kept.listen();
            {
                let mut files = self.files.borrow_mut();
                if let Some(slot) = files.current(commit.file.generation) {
                    return Ok(describe(slot));
                }
                assert!(commit.opens_file, "a generation begins with its first commit");
                files.complete(&commit.file);
                if let Some(slot) = files.begin(commit.file) {
                    return Ok(describe(slot));
                }
            }
            if self.making.get() {
                kept.await;
                continue;
            }
            let bytes = commit.file.capacity + BLOCK as u64;
            match self.create(bytes).await {
                Ok(()) => {}
                // Free files are too small for the batch: it comes first.
                Err((_, e)) if is_full(&e) && self.give_back(0).await => {}
                Err((path, e)) if may_pass(&e) && !self.closing.get() => self.stall(&path, &e).await,
                Err(failed) => return Err(failed),
            }
        }
    }

    pub async fn create(&self, bytes: u64) -> Result<(), (PathBuf, io::Error)> {
        let (dir, number) = {
            let mut files = self.files.borrow_mut();
            files.next_number += 1;
            (files.dir.clone(), files.next_number - 1)
        };
        let slot = files::create(&dir, number, bytes).await.map_err(|e| {
            if is_out_of_files(&e) {
                self.starved.notify_all();
            }
            (files::file_path(&dir, number), e)
        })?;
        self.files.borrow_mut().free.push(slot);
        Ok(())
    }

    async fn await_zeros(&self, number: u32, range: &Range<u64>) {
        loop {
            let listen = self.kept.listen();
            let overlaps = self.zeroing.borrow().as_ref().is_some_and(|(zeroing, zeros)| {
                *zeroing == number && zeros.start < range.end && range.start < zeros.end
            });
            if !overlaps {
                return;
            }
            listen.await;
        }
    }

    pub fn fail(&self, path: &Path, error: &io::Error) {
        let why: Arc<str> = format!("{}: {error}", path.display()).into();
        log::error!("the journal stops acknowledging for ever: {why}");
        self.failed.borrow_mut().get_or_insert(why);
        self.gather.borrow().notify_all();
        self.advanced.notify_all();
    }

    /// The commit has to wait for what is scarce; returns when it is to be tried again.
    async fn stall(&self, path: &Path, error: &io::Error) {
        let is_full = is_full(error);
        if self.stalled.borrow().as_ref().is_none_or(|stall| stall.is_full != is_full) {
            let why: Arc<str> = format!("{}: {error}", path.display()).into();
            log::error!("the journal waits: {why}");
            *self.stalled.borrow_mut() = Some(Stall { why, is_full });
        }
        if is_full {
            self.pinched.notify_all();
        }
        // Who waits in line is told.
        self.advanced.notify_all();
        rt::sleep(SPACE_RETRY).await;
    }

    fn resume(&self) {
        if self.stalled.borrow().is_some()
            && let Some(stall) = self.stalled.take()
        {
            log::info!("the journal goes on; it waited: {}", stall.why);
        }
    }

    pub fn check(&self) -> Result<(), JournalFailed> {
        match &*self.failed.borrow() {
            Some(why) => Err(JournalFailed(why.clone())),
            None => Ok(()),
        }
    }

    /// Whether anything may be appended: not after it has failed, nor once it is to end, when nobody would write it.
    pub fn accepts(&self) -> Result<(), JournalFailed> {
        self.check()?;
        match self.closing.get() {
            true => Err(JournalFailed("the log is being closed".into())),
            false => Ok(()),
        }
    }

    /// Frees the files below `floor`; damaged ones go to `set_aside`, odd-sized ones away.
    pub fn release(&self, floor: Lsn) {
        self.released.set(self.released.get().max(floor));
        let discard = self.files.borrow_mut().release(floor);
        if self.frugal.get() {
            self.keep.notify_all();
        }
        for file in discard {
            let set_aside = self.settings.set_aside.clone();
            rt::spawn(rt::blocking(move || {
                let (path, result) = match file {
                    Discard::Remove(path) => (path.clone(), rt::fs::remove_file(path)),
                    Discard::SetAside(path) => (path.clone(), set_file_aside(&path, set_aside)),
                };
                if let Err(e) = result {
                    log::warn!("{}: {e}", path.display());
                }
            }));
        }
    }
}

fn set_file_aside(path: &Path, set_aside: Option<PathBuf>) -> io::Result<()> {
    let Some(to) = set_aside else { return Ok(()) };
    rt::fs::create_dir_all(&to)?;
    let shard = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    rt::fs::rename(path, to.join(format!("journal-{shard}-{}-{name}", rt::unix_ms())))
}
