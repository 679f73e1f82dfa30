//! Room on the disk: what may still be appended before the reserve is touched.
//!
//! ```text
//! free = [ tails: their segments ][ reserve: journal, checkpoints, metadata, compaction of deletions ][ usable ]
//! usable > reserve: plenty │ 0 < usable ≤ reserve: producers are slowed │ usable ≤ 0: producers are refused
//! ```
//! The file system is asked once a second while something is appended, and every half second while room is short; in
//! between, what is appended is counted. Readers, retention and deletion never ask. A file system that cannot be asked
//! counts as roomy. Where it refuses what it seemed to have room for (a quota, no inodes), producers are refused with
//! its own words until something can be written again.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rt::{self, Notify};

/// How long a look at the file system is good for.
const LOOK: Duration = Duration::from_secs(1);
const SHORT_LOOK: Duration = Duration::from_millis(500);
/// How often what was deleted is asked to become room, while there is little.
const SETTLE: Duration = Duration::from_secs(2);
/// The longest that a slowed producer waits for its answer.
const MAX_DELAY: Duration = Duration::from_millis(50);
/// A file beside the checkpoint that is given up for one more checkpoint when even the reserve is gone, and made again
/// when there is plenty of room.
const BALLAST: &str = "ballast";
/// The most for one shard; all of them together take a quarter of the reserve at most.
const BALLAST_BYTES: u64 = 8 << 20;
const BALLAST_PART: u64 = 4;
/// The reserve is at most this part of the file system.
const RESERVE_PART: u64 = 10;

/// No room for what clients produce; why, and what helps.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct DiskFull(pub Arc<str>);

/// See the module's page.
pub struct Space {
    path: PathBuf,
    shards: u64,
    /// The setting; what holds is bounded by the file system's size.
    reserve: u64,
    /// Bytes that this shard may append; negative when the reserve is touched.
    usable: Cell<i64>,
    floor: Cell<u64>,
    free: Cell<u64>,
    looked: Cell<Instant>,
    settled: Cell<Instant>,
    full: RefCell<Option<Arc<str>>>,
    /// What a write was refused with that there should have been room for.
    denied: RefCell<Option<Arc<str>>>,
    /// Wakes the task that looks.
    due: Notify,
    roused: Cell<bool>,
    refused: Cell<u64>,
    has_ballast: Cell<bool>,
}

impl Space {
    pub fn new(path: PathBuf, reserve: u64, shards: usize) -> Rc<Self> {
        Rc::new(Self {
            path,
            shards: shards.max(1) as u64,
            reserve,
            usable: Cell::new(i64::MAX),
            floor: Cell::new(0),
            free: Cell::new(u64::MAX),
            looked: Cell::new(rt::now()),
            settled: Cell::new(rt::now()),
            full: RefCell::default(),
            denied: RefCell::default(),
            due: Notify::new(),
            roused: Cell::new(false),
            refused: Cell::default(),
            has_ballast: Cell::default(),
        })
    }

    /// Whether clients may append.
    pub fn check(&self) -> Result<(), DiskFull> {
        let why = self.full.borrow().as_ref().or(self.denied.borrow().as_ref()).cloned();
        match why {
            None => Ok(()),
            Some(why) => Err(self.refuse(why)),
        }
    }

    /// Counts a batch that is refused, and says why it is.
    pub fn refuse(&self, why: Arc<str>) -> DiskFull {
        self.refused.set(self.refused.get() + 1);
        DiskFull(why)
    }

    pub fn is_full(&self) -> bool {
        self.full.borrow().is_some() || self.denied.borrow().is_some()
    }

    /// Something could not be written for want of room, wherever the file system says that there is some.
    pub fn deny(&self, why: &dyn std::fmt::Display) {
        if self.denied.borrow().is_none() {
            let why = format!("{why}; producing resumes by itself when there is room again");
            *self.denied.borrow_mut() = Some(why.into());
        }
        self.look_soon();
    }

    /// What is to be written is.
    pub fn allow(&self) {
        if self.denied.borrow().is_some() {
            *self.denied.borrow_mut() = None;
        }
    }

    /// Takes note of appended bytes.
    pub fn spend(&self, bytes: usize) {
        let left = self.usable.get().saturating_sub(bytes as i64);
        self.usable.set(left);
        if left <= 0 && self.full.borrow().is_none() {
            self.fill();
        }
        if !self.roused.get() && (left <= 0 || self.looked.get().elapsed() > LOOK) {
            self.look_soon();
        }
    }

    /// How much later than otherwise a producer is answered.
    pub fn delay(&self) -> Option<Duration> {
        self.missing().map(|missing| MAX_DELAY.mul_f64(missing))
    }

    /// What is missing of the reserve's worth of room over the reserve, from 0 to 1; `None` where there is plenty.
    fn missing(&self) -> Option<f64> {
        let (usable, floor) = (self.usable.get(), (self.floor.get() / self.shards) as i64);
        (usable <= floor && floor > 0).then(|| (floor - usable.max(0)) as f64 / floor as f64)
    }

    /// How short of room the disk is, from 0 to 1; `None` where it is not.
    pub fn shortage(&self) -> Option<f64> {
        if self.is_full() { Some(1.0) } else { self.missing() }
    }

    pub fn is_short(&self) -> bool {
        self.shortage().is_some()
    }

    /// Whether so many bytes more can be written for a while.
    pub fn fits(&self, bytes: u64) -> bool {
        !self.is_full() && self.usable.get() > i64::try_from(bytes).unwrap_or(i64::MAX)
    }

    /// Batches refused; bytes free when it was last looked.
    pub fn figures(&self) -> (u64, u64) {
        (self.refused.get(), self.free.get())
    }

    fn fill(&self) {
        let why = format!(
            "the file system of {} has {} MiB left, of which {} MiB are kept for the journal and metadata; producing \
             resumes by itself when there is more",
            self.path.display(),
            self.free.get() >> 20,
            self.floor.get() >> 20,
        );
        log::error!("{why}");
        *self.full.borrow_mut() = Some(why.into());
    }

    /// Asks the file system. `pending` bytes are promised to segments.
    pub async fn look(&self, pending: u64) {
        let path = self.path.clone();
        let settles = self.is_short() && self.settled.get().elapsed() > SETTLE;
        let room = rt::blocking(move || {
            if settles && let Err(e) = rt::fs::settle_deletions(&path) {
                log::debug!("{}: {e}", path.display());
            }
            rt::fs::space(path)
        })
        .await;
        self.looked.set(rt::now());
        if settles {
            self.settled.set(rt::now());
        }
        let rt::fs::Space { usable: free, total } = match room {
            Ok(room) => room,
            Err(e) => return self.assume_room(&e),
        };
        let floor = self.reserve.min(total / RESERVE_PART);
        self.free.set(free);
        self.floor.set(floor);
        let usable = i64::try_from(free).unwrap_or(i64::MAX) - i64::try_from(floor).unwrap_or(i64::MAX);
        let share = usable / self.shards as i64 - pending as i64;
        self.usable.set(share);
        let was_full = self.full.borrow().is_some();
        match (share > 0, was_full) {
            (false, false) => self.fill(),
            // A little more than nothing, so that it does not go to and fro with every batch.
            (true, true) if share > (floor / self.shards / 8) as i64 => {
                log::info!(
                    "{}: there is room again, {} MiB; producing resumes",
                    self.path.display(),
                    free >> 20
                );
                *self.full.borrow_mut() = None;
            }
            _ => {}
        }
        if !self.has_ballast.get() && floor > 0 && self.delay().is_none() {
            self.make_ballast(BALLAST_BYTES.min(floor / BALLAST_PART / self.shards)).await;
        }
    }

    fn assume_room(&self, why: &std::io::Error) {
        if self.full.take().is_some() {
            log::warn!("{}: {why}; how much room there is is not known", self.path.display());
        }
        self.usable.set(i64::MAX);
    }

    /// Gives the ballast up; false if there is none.
    pub async fn drop_ballast(&self) -> bool {
        self.has_ballast.set(false);
        let path = self.path.clone();
        rt::blocking(move || drop_ballast(&path)).await
    }

    async fn make_ballast(&self, bytes: u64) {
        self.has_ballast.set(true);
        let path = self.path.join(BALLAST);
        let made = rt::blocking(move || rt::fs::allocate(path, bytes)).await;
        if let Err(e) = made {
            log::warn!("{}: no ballast: {e}", self.path.display());
        }
    }

    /// Something said that the disk is full, or may have: it is asked without delay.
    pub fn look_soon(&self) {
        self.roused.set(true);
        self.due.notify_all();
    }

    /// Returns when a look is due.
    pub async fn until_due(&self) {
        if self.is_short() {
            return rt::sleep(SHORT_LOOK).await;
        }
        let due = self.due.listen();
        if !self.roused.get() {
            due.await;
        }
        self.roused.set(false);
    }
}

/// Gives up the ballast in a journal's directory; false if there is none. Blocks.
pub fn drop_ballast(journal: &Path) -> bool {
    let dropped = rt::fs::remove_file(journal.join(BALLAST)).is_ok();
    if dropped {
        log::error!("{}: the ballast is given up: the disk is full", journal.display());
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_are_slowed_then_refused_then_let_in_again() {
        rt::block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let rt::fs::Space { usable: free, total } = rt::fs::space(dir.path()).unwrap();
            assert!(0 < free && free <= total);
            let reserve = (total / RESERVE_PART).min(free / 4);
            let space = Space::new(dir.path().to_owned(), reserve, 2);
            space.look(0).await;
            assert!(space.check().is_ok() && space.delay().is_none() && space.fits(1));
            let usable = space.usable.get();
            space.spend((usable - reserve as i64 / 4) as usize);
            let delay = space.delay().expect("short of room");
            assert!(delay > Duration::ZERO && delay < MAX_DELAY, "{delay:?}");
            assert!(space.check().is_ok());
            space.spend(reserve as usize / 2);
            let refused = space.check().expect_err("nothing is left");
            assert!(refused.to_string().contains("resumes by itself"), "{refused}");
            assert_eq!((space.delay(), space.figures().0), (Some(MAX_DELAY), 1));
            space.look(free).await;
            assert!(space.check().is_err(), "what the tails need is not to be had");
            space.look(0).await;
            assert!(space.check().is_ok() && space.delay().is_none());
        });
    }

    #[test]
    fn what_the_disk_refuses_is_told_until_it_takes_it() {
        rt::block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let space = Space::new(dir.path().to_owned(), 0, 1);
            space.look(0).await;
            assert!(space.check().is_ok() && !space.is_short());
            space.deny(&"a.log: Disk quota exceeded (os error 122)");
            space.deny(&"another");
            let why = space.check().expect_err("refused").to_string();
            assert!(why.contains("quota exceeded") && why.contains("resumes by itself"), "{why}");
            assert_eq!((space.shortage(), space.fits(1)), (Some(1.0), false));
            space.allow();
            assert!(space.check().is_ok() && space.shortage().is_none());
        });
    }

    #[test]
    fn a_file_system_that_cannot_be_asked_counts_as_roomy() {
        rt::block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let space = Space::new(dir.path().join("gone"), 1 << 20, 1);
            std::fs::create_dir(&space.path).unwrap();
            space.look(0).await;
            space.look(u64::MAX / 4).await;
            assert!(space.is_full() && space.is_short());
            std::fs::remove_dir_all(&space.path).unwrap();
            space.look(0).await;
            assert!(space.check().is_ok() && space.delay().is_none() && !space.is_short());
        });
    }
}
