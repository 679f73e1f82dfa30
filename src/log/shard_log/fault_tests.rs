//! Disks that fail, fill, stall and write short, and descriptors that run out: what is decided for each.
//!
//! | fault | where | decided |
//! |---|---|---|
//! | EIO | journal; writing or syncing a segment | the journal acknowledges nothing any more |
//! | EIO | reading a segment | an error for who reads, nothing else |
//! | ENOSPC | a commit in a file that there is | waits, is written again, whole |
//! | EIO | checkpoint | the last one stays, and the journal acknowledges nothing any more |
//! | ENOSPC, EMFILE | checkpoint | the last one stays, it is tried again |
//! | ENOSPC, EMFILE | a new journal file, a segment | waits, tries again, goes on |
//! | ENOSPC, EMFILE | a segment that batches go straight to | the journal takes them |
//! | EIO | the same | the journal acknowledges nothing any more |
//! | short write | journal, segment | the rest is written, then it counts |
//! | seconds a commit | journal | what gathers meanwhile shares the next one; what is durable can be read |
//!
//! Each is counted: `weir_disk_errors_total` by operation and kind, a slow commit in the histogram of commits.

use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::log::{LogError, Lsn, PartitionLog};
use crate::model::Offset;
use crate::rt;
use crate::rt::errors::{Kind, seen};
use crate::rt::fault::{Fault, Op, inject};

use super::ShardLog;
use super::tests::{Cluster, append, bypassing_in, id, no_states, open, verify};

const ALWAYS: usize = usize::MAX;
/// Of a segment's file and of no journal's.
const SEGMENT: &str = "00.log";
const JOURNAL: &str = ".journal";

fn cluster() -> Cluster {
    Cluster::with(&[(1, "orders")])
}

/// What the metric of disk errors shows from some moment on. It counts for the whole process, where other tests have
/// their errors too; those that inject faults run one at a time.
struct Counted {
    before: Vec<u64>,
    _alone: MutexGuard<'static, ()>,
}

impl Counted {
    fn begin() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let all = Op::ALL.into_iter().flat_map(|op| Kind::ALL.into_iter().map(move |kind| seen(op, kind)));
        Self { before: all.collect(), _alone }
    }

    /// At least so many were counted since.
    fn has(&self, op: Op, kind: Kind, times: usize) {
        let grown = seen(op, kind) - self.before[op as usize * Kind::ALL.len() + kind as usize];
        assert!(times > 0 && grown >= times as u64, "{op:?} {kind:?}: {grown} of {times} counted");
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Rc<ShardLog>,
    log: Rc<PartitionLog>,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), &cluster()).await;
        let log = store.create(id(1, 0), "orders", Arc::default());
        let maintained = store.clone();
        rt::spawn(async move { maintained.maintain(no_states, |_| Offset(i64::MAX)).await });
        Self { dir, store, log }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Appends batches one after the other, as fast as there is room; ends at the first that is not acknowledged.
    async fn fill(&self, batches: usize, size: usize) -> Result<i64, String> {
        for _ in 0..batches {
            self.store.room(size).await;
            if let Some(why) = self.store.journal().failed() {
                return Err(why.to_string());
            }
            let lsn = append(&self.store, &self.log, size);
            self.store.journal().wait_durable(lsn).await.map_err(|e| e.to_string())?;
        }
        Ok(self.log.end_offset().0)
    }

    async fn flush(&self) -> Result<(), LogError> {
        self.log.flush(None).await
    }

    /// Ends as a killed process does, and opens again.
    async fn reopened(self) -> i64 {
        let Self { dir, store, log } = self;
        let _ = store.journal().close().await;
        drop((store, log));
        let (store, recovered) = open(dir.path(), &cluster()).await;
        assert!(recovered.iter().all(|p| p.repair.is_none()));
        verify(&store.create(id(1, 0), "orders", Arc::default())).await
    }
}

#[test]
fn an_error_of_the_journals_disk_ends_acknowledging_for_good() {
    rt::block_on(async {
        let (counted, f) = (Counted::begin(), Fixture::new().await);
        let acked = f.fill(5, 1000).await.unwrap();
        // Until the commit has met it: zeros ahead of the commits may come first.
        let fault = inject(f.path(), JOURNAL, Op::Write, Fault::Error(libc::EIO), ALWAYS);
        let lsn = append(&f.store, &f.log, 100);
        assert!(f.store.journal().wait_durable(lsn).await.is_err());
        assert!(fault.met() > 0);
        drop(fault);
        counted.has(Op::Write, Kind::Failed, 1);
        let why = f.store.journal().failed().expect("it has failed");
        assert!(why.contains(JOURNAL), "{why}");
        assert!(f.fill(1, 100).await.is_err(), "the disk works again, and cannot be trusted");
        assert!(f.reopened().await >= acked);
    });
}

#[test]
fn an_error_of_a_segments_disk_ends_acknowledging_and_the_journal_has_the_records() {
    for op in [Op::Write, Op::Sync] {
        rt::block_on(async move {
            let (counted, f) = (Counted::begin(), Fixture::new().await);
            let fault = inject(f.path(), SEGMENT, op, Fault::Error(libc::EIO), ALWAYS);
            let mut acked = 0;
            let failed = loop {
                match f.fill(1, 30_000).await {
                    Ok(end) => acked = end,
                    Err(why) => break why,
                }
                assert!(acked < 3000, "{op:?}: the failure is noticed");
            };
            assert!(failed.contains(".log"), "{op:?}: {failed}");
            assert!(fault.met() > 0 && acked > 0);
            counted.has(op, Kind::Failed, fault.met());
            drop(fault);
            assert!(f.reopened().await >= acked, "{op:?}");
        });
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_an_error_for_its_reader_alone() {
    rt::block_on(async {
        let (counted, f) = (Counted::begin(), Fixture::new().await);
        f.fill(10, 30_000).await.unwrap();
        f.store.close(no_states).await.unwrap();
        let Fixture { dir, store, log } = f;
        drop((store, log));
        let (store, _) = open(dir.path(), &cluster()).await;
        let log = store.create(id(1, 0), "orders", Arc::default());
        let fault = inject(dir.path(), SEGMENT, Op::Read, Fault::Error(libc::EIO), ALWAYS);
        let read = log.read(Offset(0), log.end_offset(), 1 << 20, true).await;
        assert!(matches!(read, Err(LogError::Io { .. })), "{:?}", read.map(|r| r.len()));
        let lsn = append(&store, &log, 100);
        store.journal().wait_durable(lsn).await.unwrap();
        counted.has(Op::Read, Kind::Failed, fault.met());
        drop(fault);
        assert_eq!(verify(&log).await, log.end_offset().0);
    });
}

#[test]
fn without_room_or_descriptors_the_journal_waits_and_goes_on() {
    let faults = [(Op::Allocate, libc::ENOSPC, Kind::NoSpace), (Op::Open, libc::EMFILE, Kind::NoDescriptors)];
    for (op, number, kind) in faults {
        rt::block_on(async move {
            let (counted, f) = (Counted::begin(), Fixture::new().await);
            let fault = inject(f.path(), JOURNAL, op, Fault::Error(number), 2);
            let end = f.fill(60, 30_000).await.unwrap();
            assert_eq!(fault.met(), 2, "{op:?}");
            counted.has(op, kind, 2);
            assert!(f.store.journal().failed().is_none());
            assert_eq!(f.reopened().await, end);
        });
    }
}

#[test]
fn a_commit_that_found_no_room_is_written_again_whole() {
    for number in [libc::ENOSPC, libc::EDQUOT] {
        rt::block_on(async move {
            let (counted, f) = (Counted::begin(), Fixture::new().await);
            let acked = f.fill(5, 1000).await.unwrap();
            let fault = inject(f.path(), JOURNAL, Op::Write, Fault::Error(number), ALWAYS);
            let lsn = append(&f.store, &f.log, 30_000);
            rt::sleep(Duration::from_millis(50)).await;
            assert!(f.store.journal().held_up().is_some() && f.store.has_room(1), "who appends is told");
            let why = f.store.check_disk().expect_err("there is no room").to_string();
            assert!(why.contains(JOURNAL) && why.contains("resumes by itself"), "{why}");
            assert!(!f.store.journal().is_durable(lsn));
            counted.has(Op::Write, Kind::NoSpace, fault.met());
            drop(fault);
            f.store.journal().wait_durable(lsn).await.unwrap();
            assert!(f.store.journal().held_up().is_none() && f.store.check_disk().is_ok());
            assert_eq!(f.reopened().await, acked + 3);
        });
    }
}

#[test]
fn a_journal_that_gets_no_more_files_goes_on_in_those_it_has() {
    rt::block_on(async {
        let f = Fixture::new().await;
        f.fill(1, 1000).await.unwrap();
        let fault = inject(f.path(), JOURNAL, Op::Allocate, Fault::Error(libc::ENOSPC), ALWAYS);
        // Many times what one or two files hold.
        let end = f.fill(100, 30_000).await.unwrap();
        assert!(fault.met() > 0 && f.store.journal().failed().is_none());
        let files = f.store.journal().stats();
        assert!(files.files_used + files.files_free <= 2, "{} files", files.files_used);
        drop(fault);
        assert_eq!(f.reopened().await, end);
    });
}

#[test]
fn files_that_are_only_kept_ready_are_given_back_and_nothing_is_missed() {
    rt::block_on(async {
        let f = Fixture::new().await;
        let count = |f: &Fixture| {
            let stats = f.store.journal().stats();
            (stats.files_used + stats.files_free, stats.files_used)
        };
        let mut end = 0;
        while count(&f).0 < 4 {
            end = f.fill(1, 30_000).await.unwrap();
            assert!(end < 3000, "the journal grows to four files: {:?}", count(&f));
        }
        f.store.journal().set_shortage(Some(1.0));
        f.flush().await.unwrap();
        f.store.checkpoint(no_states).await.unwrap();
        rt::sleep(Duration::from_millis(100)).await;
        assert_eq!(count(&f).0, 2, "two stay to go round");
        let names = rt::fs::read_dir_names(f.path().join("journal/0")).unwrap();
        assert_eq!(names.iter().filter(|name| name.ends_with(JOURNAL)).count(), 2, "{names:?}");
        end = f.fill(20, 30_000).await.unwrap().max(end);
        assert_eq!(count(&f).0, 2, "none is made while room is short");
        f.store.journal().set_shortage(None);
        end = f.fill(40, 30_000).await.unwrap().max(end);
        assert_eq!(f.reopened().await, end, "and none of those that went is taken for lost");
    });
}

#[test]
fn without_room_or_descriptors_segments_wait_and_go_on() {
    let faults = [(Op::Open, libc::EMFILE, Kind::NoDescriptors), (Op::Write, libc::ENOSPC, Kind::NoSpace)];
    for (op, number, kind) in faults {
        rt::block_on(async move {
            let (counted, f) = (Counted::begin(), Fixture::new().await);
            let fault = inject(f.path(), SEGMENT, op, Fault::Error(number), 3);
            let end = f.fill(60, 30_000).await.unwrap();
            rt::sleep(Duration::from_millis(50)).await;
            assert!(fault.met() > 0, "{op:?}");
            counted.has(op, kind, fault.met());
            drop(fault);
            assert!(f.store.journal().failed().is_none(), "{:?}", f.store.journal().failed());
            f.flush().await.unwrap();
            assert_eq!(f.reopened().await, end);
        });
    }
}

#[test]
fn a_write_that_ends_early_is_finished_before_it_counts() {
    rt::block_on(async {
        let (counted, f) = (Counted::begin(), Fixture::new().await);
        let journal = inject(f.path(), JOURNAL, Op::Write, Fault::Short(4096), 40);
        let segment = inject(f.path(), SEGMENT, Op::Write, Fault::Short(8192), 40);
        let end = f.fill(40, 20_000).await.unwrap();
        f.flush().await.unwrap();
        assert!(journal.met() > 30 && segment.met() > 10, "{} and {}", journal.met(), segment.met());
        counted.has(Op::Write, Kind::Short, 41);
        assert_eq!(verify(&f.log).await, end);
        assert_eq!(f.reopened().await, end);
    });
}

#[test]
fn a_slow_commit_holds_up_acknowledgements_and_nothing_else() {
    const SLOW: Duration = Duration::from_millis(700);
    rt::block_on(async {
        let f = Fixture::new().await;
        let before = f.fill(5, 1000).await.unwrap();
        let commits = f.store.journal().commits();
        let fault = inject(f.path(), JOURNAL, Op::Write, Fault::Slow(SLOW), 1);
        let began = Instant::now();
        let mut last = Lsn::ZERO;
        for _ in 0..50 {
            last = append(&f.store, &f.log, 500);
            rt::sleep(Duration::from_millis(1)).await;
        }
        let read = f.log.read(Offset(0), Offset(before), 1 << 20, true).await.unwrap();
        assert!(!read.is_empty() && began.elapsed() < SLOW, "reading does not wait for the disk");
        f.store.journal().wait_durable(last).await.unwrap();
        assert!(began.elapsed() >= SLOW && fault.met() == 1);
        let stats = f.store.journal().stats();
        assert!(f.store.journal().commits() - commits <= 3, "what gathered is one commit");
        assert!(stats.commit_us.max() >= SLOW.as_micros() as u64, "the metric shows it");
        let end = f.log.end_offset().0;
        assert_eq!(f.reopened().await, end);
    });
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_last_one() {
    for (number, kind) in [(libc::ENOSPC, Kind::NoSpace), (libc::EMFILE, Kind::NoDescriptors)] {
        rt::block_on(async move {
            let (counted, f) = (Counted::begin(), Fixture::new().await);
            f.fill(10, 20_000).await.unwrap();
            f.store.checkpoint(no_states).await.unwrap();
            let end = f.fill(10, 20_000).await.unwrap();
            let fault = inject(f.path(), "checkpoint", Op::Open, Fault::Error(number), 4);
            let mut tries = 0;
            while f.store.checkpoint(no_states).await.is_err() {
                tries += 1;
                assert!(tries <= 4, "error {number} is over");
            }
            assert!(fault.met() > 0 && f.store.journal().failed().is_none(), "error {number}");
            counted.has(Op::Open, kind, fault.met());
            assert_eq!(f.reopened().await, end);
        });
    }
}

#[test]
fn a_disk_that_refuses_a_checkpoint_ends_acknowledging() {
    for op in [Op::Open, Op::Write, Op::Sync] {
        rt::block_on(async move {
            let (counted, f) = (Counted::begin(), Fixture::new().await);
            let end = f.fill(10, 20_000).await.unwrap();
            let _fault = inject(f.path(), "checkpoint", op, Fault::Error(libc::EIO), 1);
            assert!(f.store.checkpoint(no_states).await.is_err(), "{op:?}");
            counted.has(op, Kind::Failed, 1);
            assert!(f.store.journal().failed().is_some_and(|why| why.contains("checkpoint")), "{op:?}");
            assert!(f.fill(1, 1000).await.is_err(), "nothing is acknowledged after {op:?}");
            assert_eq!(f.reopened().await, end, "{op:?}");
        });
    }
}

/// A partition that goes straight to its segment, from the first batch on.
async fn bypassing() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let (store, log) = bypassing_in(dir.path(), &cluster()).await;
    Fixture { dir, store, log }
}

#[test]
fn without_room_or_descriptors_the_journal_takes_what_was_to_go_straight() {
    let faults = [(Op::Open, libc::EMFILE, Kind::NoDescriptors), (Op::Write, libc::ENOSPC, Kind::NoSpace)];
    for (op, number, kind) in faults {
        rt::block_on(async move {
            let (counted, f) = (Counted::begin(), bypassing().await);
            let fault = inject(f.path(), SEGMENT, op, Fault::Error(number), 3);
            let end = f.fill(40, 30_000).await.unwrap();
            assert!(fault.met() > 0, "{op:?}");
            counted.has(op, kind, fault.met());
            drop(fault);
            assert!(f.store.journal().failed().is_none(), "{:?}", f.store.journal().failed());
            assert!(f.store.bypass_bytes() > 0, "{op:?}");
            assert_eq!(f.reopened().await, end, "{op:?}");
        });
    }
}

#[test]
fn an_error_of_the_disk_that_batches_go_straight_to_ends_acknowledging() {
    for op in [Op::Write, Op::Sync] {
        rt::block_on(async move {
            let f = bypassing().await;
            let acked = f.fill(10, 30_000).await.unwrap();
            assert!(f.store.bypass_bytes() > 0);
            let fault = inject(f.path(), SEGMENT, op, Fault::Error(libc::EIO), ALWAYS);
            assert!(f.fill(10, 30_000).await.is_err(), "{op:?}");
            assert!(fault.met() > 0 && f.store.journal().failed().is_some_and(|why| why.contains(".log")));
            drop(fault);
            assert!(f.reopened().await >= acked, "{op:?}");
        });
    }
}
