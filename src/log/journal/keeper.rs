//! The task that keeps files ready ahead of the commits, and gives them back when the disk is short of room.
//!
//! - Zeros are never written over a commit: they stay ahead of what has gathered.
//! - The first file is made for the first commit: a shard that journals nothing takes no room.
//! - What it cannot do for want of room it tries again; producers wait until segments have taken over from what is there.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::rt::{self, AlignedBuf, BLOCK, File};

use super::commit::Inner;
use super::files::{Files, Slot};
use crate::log::error::{is_full, may_pass};

/// Zeros written at once. Commits wait behind them at the disk, so they are few; the buffer stays.
const ZERO_CHUNK: u64 = 256 << 10;
/// How long to wait before trying again what no commit needs yet.
const RETRY: Duration = Duration::from_secs(2);
/// Files that a journal has to have to go round: one is written while the other one's entries go to segments.
const FRUGAL_FILES: usize = 2;

/// What the keeper finds to do.
enum Chore {
    GiveBack,
    Create,
    Zero { number: u32, file: File, range: Range<u64> },
}

impl Inner {
    /// The keeper task.
    pub async fn keep(self: Rc<Self>) {
        let mut zeros = None;
        while !self.closing.get() && self.failed.borrow().is_none() {
            let listen = self.keep.listen();
            let done = match self.chore() {
                Some(Chore::GiveBack) => {
                    self.give_back(self.keep_files.get()).await;
                    Ok(())
                }
                Some(Chore::Create) => self.make_ahead().await,
                Some(Chore::Zero { number, file, range }) => {
                    let buf = zeros.take().unwrap_or_else(zero_buffer);
                    let (result, buf) = self.zero(number, file, range, buf).await;
                    zeros = Some(buf);
                    result
                }
                None => {
                    listen.await;
                    Ok(())
                }
            };
            match done {
                Ok(()) => {}
                Err(e) if may_pass(&e) => rt::sleep(RETRY).await,
                // The commit that comes to it meets the same, and decides.
                Err(_) => return,
            }
        }
    }

    async fn make_ahead(&self) -> io::Result<()> {
        let bytes = self.files.borrow().regular_bytes;
        self.making.set(true);
        let made = self.create(bytes).await;
        self.making.set(false);
        self.kept.notify_all();
        made.map_err(|(path, e)| {
            if is_full(&e) {
                self.frugal.set(true);
                self.pinched.notify_all();
            }
            log::warn!("{}: no file ready ahead: {e}", path.display());
            e
        })
    }

    pub fn set_shortage(&self, shortage: Option<f64>) {
        self.frugal.set(shortage.is_some());
        let most = self.settings.max_files as usize;
        let spare = most.saturating_sub(FRUGAL_FILES) as f64 * (1.0 - shortage.unwrap_or(0.0));
        self.keep_files.set(if shortage.is_some() { FRUGAL_FILES + spare as usize } else { most });
        self.keep.notify_all();
    }

    /// Gives free files back to the file system until `keep` are left; says whether there were any to give.
    pub async fn give_back(&self, keep: usize) -> bool {
        let given = self.files.borrow_mut().give_back(keep);
        if given.is_empty() {
            return false;
        }
        let dir = self.files.borrow().dir.clone();
        log::info!("{}: {} journal files are given back to the disk", dir.display(), given.len());
        let paths: Vec<PathBuf> = given.into_iter().map(|slot| slot.path).collect();
        rt::blocking(move || {
            for path in paths {
                if let Err(e) = rt::fs::unlink(&path) {
                    log::warn!("{}: {e}", path.display());
                }
            }
        })
        .await;
        true
    }

    /// Without a second file nothing can be let go. It is made as soon as the first is used, while there is room.
    fn is_short_of_files(&self) -> bool {
        let files = self.files.borrow();
        !files.used.is_empty() && files.count() < FRUGAL_FILES
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

    /// Whether there is work.
    pub fn has_chore(&self) -> bool {
        self.chore().is_some()
    }

    /// Zeros are due when less than half of what should be ahead is left: one write for many commits.
    fn chore(&self) -> Option<Chore> {
        if self.frugal.get() && self.files.borrow().may_give_back(self.keep_files.get()) {
            return Some(Chore::GiveBack);
        }
        if self.is_short_of_files() {
            return Some(Chore::Create);
        }
        let gather = self.gather.borrow();
        let files = self.files.borrow();
        if files.count() == 0 {
            return None;
        }
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
            return (!self.frugal.get()).then_some(Chore::Create);
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
        if let Err(e) = &result {
            log::warn!("zeroing a journal file ahead failed: {e}");
            return (result, buf);
        }
        let mut files = self.files.borrow_mut();
        let Files { used, free, .. } = &mut *files;
        if let Some(slot) = used.iter_mut().chain(free).find(|slot| slot.number == number) {
            slot.written = slot.written.max(range.end);
        }
        (result, buf)
    }
}

fn zero_chore(slot: &Slot, from: u64, goal: u64) -> Chore {
    let to = goal.min(from + ZERO_CHUNK).min(slot.bytes);
    Chore::Zero { number: slot.number, file: slot.file.clone(), range: from..to }
}

fn zero_buffer() -> AlignedBuf {
    AlignedBuf::with_capacity(ZERO_CHUNK as usize)
}
