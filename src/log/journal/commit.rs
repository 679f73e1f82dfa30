//! The journal at work: one task that commits, one that keeps files ready ahead of it.
//!
//! - One commit is in flight at a time: that a later one exists proves the earlier one durable (see `scan`).
//! - The first error of a write or fsync ends the journal. Only making room for a new file is tried again, because
//!   nothing was written then.
//! - Zeros are never written over a commit: the keeper stays ahead of what has gathered, and a commit that catches
//!   up with zeros in flight waits for them.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::log::Lsn;
use crate::log::error::JournalFailed;
use crate::rt::{self, AlignedBuf, BLOCK, File, Notify, Ticks};

use super::JournalSettings;
use super::files::{self, Discard, Files, Slot};
use super::gather::{Commit, Gather};
use super::promises::Promises;
use super::stats::JournalStats;

/// Zeros written at once. Commits wait behind them at the disk, so they are few; the buffer stays.
const ZERO_CHUNK: u64 = 256 << 10;
/// How long to wait before trying again to make a file on a full disk.
const SPACE_RETRY: Duration = Duration::from_millis(500);
/// The same, where a commit does not need the file yet.
const SPARE_RETRY: Duration = Duration::from_secs(2);

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
    /// Why no file can be had at the moment.
    pub stalled: RefCell<Option<Arc<str>>>,
    /// Rings when a file could not be opened for want of descriptors: somebody may give some up.
    pub starved: Notify,
    /// No more files are made than [`FRUGAL_FILES`], except for a batch that fits none.
    pub frugal: Cell<bool>,
    pub closing: Cell<bool>,
    zeroing: RefCell<Option<(u32, Range<u64>)>>,
    /// The keeper makes a file; a commit that needs one waits for it rather than making another.
    making: Cell<bool>,
    /// The keeper finished a step.
    kept: Notify,
    pub stats: RefCell<JournalStats>,
    /// When the last commit that is durable began and ended.
    pub last_commit: Cell<Option<(Ticks, Ticks)>>,
}

pub struct InFlight {
    pub last: Lsn,
    pub done: Notify,
    pub bytes: usize,
}

/// Files that a journal has to have to go round: one is written while the other one's entries go to segments.
const FRUGAL_FILES: usize = 2;

/// What the keeper finds to do.
enum Chore {
    Create,
    Zero { number: u32, file: File, range: Range<u64> },
}

impl Inner {
    pub fn new(settings: JournalSettings, salt: u32, gather: Gather, files: Files) -> Self {
        Self {
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
            let next = self.gather.borrow_mut().take();
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
        *self.in_flight.borrow_mut() = Some(InFlight { last, done: done.clone(), bytes });
        let (started, began) = (rt::now(), Ticks::now());
        match self.write(commit).await {
            Ok(buf) => {
                self.durable.set(last);
                self.last_commit.set(Some((began, Ticks::now())));
                self.stats.borrow_mut().record(started.elapsed(), bytes);
                *self.in_flight.borrow_mut() = None;
                done.notify_all();
                self.advanced.notify_all();
                self.gather.borrow_mut().recycle(buf, done);
                if self.chore().is_some() {
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

    async fn write(&self, commit: Commit) -> Result<AlignedBuf, (PathBuf, io::Error)> {
        let (number, path, file) = self.file_for(&commit).await?;
        let at = commit.file_offset();
        let range = at..at + commit.buf.len() as u64;
        self.await_zeros(number, &range).await;
        let (written, buf) = file.write_durable(at, commit.buf).await;
        written.map(|()| buf).map_err(|e| (path, e))
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
                if let Some(slot) = files.begin(commit.file) {
                    *self.stalled.borrow_mut() = None;
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
                Err((path, e)) if may_pass(&e) && !self.closing.get() => {
                    self.stall(&path, &e);
                    rt::sleep(SPACE_RETRY).await;
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    async fn create(&self, bytes: u64) -> Result<(), (PathBuf, io::Error)> {
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

    fn stall(&self, path: &Path, error: &io::Error) {
        if self.stalled.borrow().is_none() {
            let why: Arc<str> = format!("{}: {error}", path.display()).into();
            log::error!("the journal waits for disk space: {why}");
            *self.stalled.borrow_mut() = Some(why);
        }
    }

    pub fn check(&self) -> Result<(), JournalFailed> {
        match &*self.failed.borrow() {
            Some(why) => Err(JournalFailed(why.clone())),
            None => Ok(()),
        }
    }

    /// The keeper task: writes zeros ahead of the commits and has the next file ready.
    pub async fn keep(self: Rc<Self>) {
        let mut zeros = None;
        while !self.closing.get() && self.failed.borrow().is_none() {
            let listen = self.keep.listen();
            match self.chore() {
                Some(Chore::Create) => {
                    let bytes = self.files.borrow().regular_bytes;
                    self.making.set(true);
                    let made = self.create(bytes).await;
                    self.making.set(false);
                    self.kept.notify_all();
                    if let Err((path, e)) = made {
                        // What is there has to do: producers wait until segments have taken over from it.
                        self.frugal.set(true);
                        log::warn!("{}: no file ready ahead: {e}", path.display());
                        rt::sleep(SPARE_RETRY).await;
                    }
                }
                Some(Chore::Zero { number, file, range }) => {
                    let buf = zeros.take().unwrap_or_else(zero_buffer);
                    let (result, buf) = self.zero(number, file, range, buf).await;
                    zeros = Some(buf);
                    if let Err(e) = result {
                        log::warn!("zeroing a journal file ahead failed: {e}");
                        return;
                    }
                }
                None => listen.await,
            }
        }
    }

    /// Without a second file nothing can be let go. It is made as soon as the first is used, while there is room.
    fn is_short_of_files(&self) -> bool {
        let files = self.files.borrow();
        !files.used.is_empty() && files.used.len() + files.free.len() < FRUGAL_FILES
    }

    fn may_grow(&self) -> bool {
        !self.frugal.get() || self.files.borrow().used.is_empty()
    }

    /// Logical bytes that may hold entries that segments do not have yet: producers wait past them.
    pub fn max_bytes(&self) -> u64 {
        let most = self.settings.max_bytes();
        if !self.frugal.get() {
            return most;
        }
        let files = self.files.borrow();
        let regular = |slot: &&Slot| slot.bytes == files.regular_bytes;
        let count = files.used.iter().chain(&files.free).filter(regular).count().max(FRUGAL_FILES);
        most.min(self.settings.file_bytes * (count as u64 - 1))
    }

    /// Zeros are due when less than half of what should be ahead is left: one write for many commits.
    fn chore(&self) -> Option<Chore> {
        if self.is_short_of_files() {
            return Some(Chore::Create);
        }
        let gather = self.gather.borrow();
        let files = self.files.borrow();
        let ahead = self.settings.zero_ahead_bytes;
        let mut wanted = ahead;
        if let Some(slot) = files.used.back().filter(|slot| slot.last.is_none()) {
            let end = slot.header.file_offset(gather.end()).min(slot.bytes);
            let from = slot.written.max((end + ahead / 4).next_multiple_of(BLOCK as u64));
            if from < (end + ahead / 2).min(slot.bytes) {
                return Some(zero_chore(slot, from, end + ahead));
            }
            wanted = (end + ahead).saturating_sub(slot.bytes);
        }
        if wanted == 0 {
            return None;
        }
        let Some(spare) = files.free.iter().rfind(|slot| slot.bytes == files.regular_bytes) else {
            return self.may_grow().then_some(Chore::Create);
        };
        (spare.written < wanted.saturating_sub(ahead / 2).min(spare.bytes))
            .then(|| zero_chore(spare, spare.written, wanted.next_multiple_of(BLOCK as u64)))
    }

    async fn zero(
        &self,
        number: u32,
        file: File,
        range: Range<u64>,
        mut buf: AlignedBuf,
    ) -> (io::Result<()>, AlignedBuf) {
        buf.set_len((range.end - range.start) as usize);
        *self.zeroing.borrow_mut() = Some((number, range.clone()));
        // Durable by itself, or the next commit's sync would have the new extents to write as well.
        let (result, buf) = file.write_durable(range.start, buf).await;
        *self.zeroing.borrow_mut() = None;
        self.kept.notify_all();
        let mut files = self.files.borrow_mut();
        let Files { used, free, .. } = &mut *files;
        if let Some(slot) = used.iter_mut().chain(free).find(|slot| slot.number == number) {
            slot.written = slot.written.max(range.end);
        }
        (result, buf)
    }

    /// Frees the files below `floor`; damaged ones go to `set_aside`, odd-sized ones away.
    pub fn release(&self, floor: Lsn) {
        self.released.set(self.released.get().max(floor));
        let discard = self.files.borrow_mut().release(floor);
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

/// Whether the disk is only full, or files have run out: what may pass without anybody looking at the disk.
pub fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded) || is_out_of_files(error)
}

/// No descriptor is left, for this process or for all.
pub fn is_out_of_files(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

fn zero_chore(slot: &Slot, from: u64, goal: u64) -> Chore {
    let to = goal.min(from + ZERO_CHUNK).min(slot.bytes);
    Chore::Zero { number: slot.number, file: slot.file.clone(), range: from..to }
}

fn zero_buffer() -> AlignedBuf {
    AlignedBuf::with_capacity(ZERO_CHUNK as usize)
}
