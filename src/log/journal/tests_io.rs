//! The journal with real files: commit, reopen, tear, damage, recycle.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::log::Lsn;
use crate::model::{Offset, PartitionId};
use crate::rt;
use crate::rt::record::{Event, Recording};

use super::tests::partition;
use super::{Journal, JournalSettings, Known, Recovery, Replayed};

fn settings() -> JournalSettings {
    JournalSettings {
        file_bytes: 256 << 10,
        max_files: 4,
        max_commit_bytes: 64 << 10,
        max_backlog_bytes: 1 << 20,
        replay_bytes: usize::MAX,
        zero_ahead_bytes: 64 << 10,
        set_aside: None,
    }
}

fn batch(n: i64) -> Vec<u8> {
    (0..n as usize % 3000 + 1).map(|i| (i as i64 * 31 + n) as u8).collect()
}

/// Offsets and batches of one partition, in order, checked to be what `batch` makes.
fn offsets(entries: &[(Lsn, PartitionId, i64, Vec<u8>)]) -> Vec<i64> {
    entries.iter().for_each(|e| assert_eq!(e.3, batch(e.2), "offset {}", e.2));
    assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
    entries.iter().map(|e| e.2).collect()
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

async fn fill(journal: &Journal, range: std::ops::Range<i64>) -> Lsn {
    let mut last = Lsn::ZERO;
    for n in range {
        last = journal.append(partition(0), Offset(n), None, &batch(n)).unwrap();
        if n % 7 == 0 {
            journal.wait_durable(last).await.unwrap();
        }
    }
    journal.wait_durable(last).await.unwrap();
    last
}

#[test]
fn what_was_durable_comes_back_however_often() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        for round in 0..4 {
            let (journal, entries) = Journal::open(dir.path(), settings(), Known::default()).await.unwrap();
            assert_eq!(offsets(&entries), (0..round * 50).collect::<Vec<_>>());
            let last = fill(&journal, round * 50..(round + 1) * 50).await;
            assert_eq!(journal.durable(), last);
            // Half of the rounds end without a close, as a killed process does.
            if round % 2 == 0 {
                journal.close().await.unwrap();
            }
        }
    });
}

#[test]
fn files_go_round_and_old_entries_never_come_back() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (journal, _) = Journal::open(dir.path(), settings(), Known::default()).await.unwrap();
        let mut floor = Lsn::ZERO;
        for round in 0..60 {
            let last = fill(&journal, round * 100..(round + 1) * 100).await;
            floor = last.next();
            if round < 59 {
                journal.release(floor);
            }
        }
        let last = fill(&journal, 6000..6010).await;
        assert!(files_of(dir.path()).len() <= 4, "{:?}", files_of(dir.path()));
        let (salt, generation) = journal.identity();
        assert!(generation > 20);
        let known = Known { floor, durable: last, generation, lasting: 0, salt: Some(salt), closed: false };
        drop(journal);
        let (journal, entries) = Journal::open(dir.path(), settings(), known).await.unwrap();
        assert_eq!(offsets(&entries), (6000..6010).collect::<Vec<_>>());
        let next = journal.append(partition(0), Offset(6010), None, &batch(6010)).unwrap();
        assert!(next > last, "lsns go on across a restart");
    });
}

#[test]
fn a_batch_larger_than_a_file_passes_through() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (journal, _) = Journal::open(dir.path(), settings(), Known::default()).await.unwrap();
        let large = vec![5; 3 << 20];
        journal.append(partition(0), Offset(0), None, b"a").unwrap();
        journal.append(partition(1), Offset(0), None, &large).unwrap();
        let last = journal.append(partition(0), Offset(1), None, b"b").unwrap();
        journal.wait_durable(last).await.unwrap();
        drop(journal);
        let (journal, entries) = Journal::open(dir.path(), settings(), Known::default()).await.unwrap();
        assert_eq!(entries.iter().map(|e| e.3.len()).collect::<Vec<_>>(), [1, large.len(), 1]);
        journal.release(last.next());
        rt::sleep(std::time::Duration::from_millis(20)).await;
        assert!(files_of(dir.path()).iter().all(|f| f.metadata().unwrap().len() == 256 << 10));
    });
}

#[test]
fn a_torn_tail_is_dropped_once_and_for_all() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (journal, _) = Journal::open(dir.path(), settings(), Known::default()).await.unwrap();
        let before = fill(&journal, 0..20).await;
        // One commit of several entries, which the tears below go through.
        let last = (20..30)
            .map(|n| journal.append(partition(0), Offset(n), None, &batch(n)).unwrap())
            .next_back()
            .unwrap();
        journal.wait_durable(last).await.unwrap();
        journal.close().await.unwrap();
        let path = &files_of(dir.path())[0];
        let whole = std::fs::read(path).unwrap();
        let (from, to) = (before.0.next_multiple_of(4096), last.0);
        for cut in (from..to).step_by(512 * 3) {
            let torn = tempfile::tempdir().unwrap();
            let copy = torn.path().join(path.file_name().unwrap());
            let mut bytes = whole.clone();
            bytes[cut as usize..].fill(0);
            std::fs::write(&copy, bytes).unwrap();
            let (journal, entries) = Journal::open(torn.path(), settings(), Known::default()).await.unwrap();
            let kept = offsets(&entries);
            assert_eq!(kept, (0..kept.len() as i64).collect::<Vec<_>>());
            assert!(kept.len() >= 20 && kept.len() < 30);
            fill(&journal, 100..105).await;
            drop(journal);
            let (_, entries) = Journal::open(torn.path(), settings(), Known::default()).await.unwrap();
            let expected: Vec<i64> = kept.into_iter().chain(100..105).collect();
            assert_eq!(offsets(&entries), expected);
        }
    });
}

#[test]
fn damage_below_the_end_is_reported_with_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (journal, _) = Journal::open(dir.path(), settings(), Known::default()).await.unwrap();
        let last = fill(&journal, 0..1000).await;
        let (salt, generation) = journal.identity();
        journal.close().await.unwrap();
        let known = Known {
            floor: Lsn::ZERO,
            durable: last,
            generation,
            lasting: 0,
            salt: Some(salt),
            closed: false,
        };
        let paths = files_of(dir.path());
        for (file, at) in [(0, 0), (0, 4096), (0, 98_304), (1, 20_480), (1, 0), (2, 4096), (2, 0)] {
            let whole = std::fs::read(&paths[file]).unwrap();
            let mut bytes = whole.clone();
            bytes[at..at + 4096].fill(0xee);
            std::fs::write(&paths[file], bytes).unwrap();
            let (entries, damage) = replay(dir.path(), known).await;
            std::fs::write(&paths[file], whole).unwrap();
            if at == 0 {
                assert_eq!((entries.len(), damage.len()), (1000, 0), "a header block is rebuilt");
            } else {
                assert!(entries.len() < 1000 && !damage.is_empty());
                assert!(damage.iter().all(|d| d.path == paths[file] && d.offset.abs_diff(at as u64) < 16384));
            }
        }
        // A whole file gone, first, middle and last.
        for path in &paths[..3] {
            let whole = std::fs::read(path).unwrap();
            std::fs::remove_file(path).unwrap();
            let (entries, damage) = replay(dir.path(), known).await;
            assert!(entries.len() < 1000 && damage.len() == 1, "{path:?}");
            std::fs::write(path, whole).unwrap();
        }
        assert_eq!(replay(dir.path(), known).await.0.len(), 1000);
    });
}

async fn replay(dir: &Path, known: Known) -> (Vec<i64>, Vec<super::Damage>) {
    let mut recovery = Recovery::open(dir, settings(), known).await.unwrap();
    let (mut entries, mut damage) = (Vec::new(), Vec::new());
    while let Some(file) = recovery.next().await.unwrap() {
        for item in file.items() {
            match item {
                Replayed::Entry(entry, _) => entries.push(entry.base_offset),
                Replayed::Damage(d) => damage.push(d.clone()),
            }
        }
    }
    (entries, damage)
}

#[test]
fn a_failed_write_ends_acknowledging() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (journal, _) = Journal::open(dir.path(), settings(), Known::default()).await.unwrap();
        fill(&journal, 0..3).await;
        // A descriptor that cannot be written to stands for a disk that fails.
        {
            let mut files = journal.inner.files.borrow_mut();
            let slot = files.used.back_mut().unwrap();
            slot.file = rt::File::open(&slot.path, rt::OpenOptions::default()).unwrap();
        }
        let lsn = journal.append(partition(0), Offset(3), None, &batch(3)).unwrap();
        let later = journal.append(partition(0), Offset(4), None, &batch(4)).unwrap();
        assert!(journal.wait_durable(lsn).await.is_err());
        assert!(journal.wait_durable(later).await.is_err());
        let why = journal.failed().unwrap();
        assert!(why.contains("/00000000.journal: "), "{why}");
        assert!(journal.append(partition(0), Offset(5), None, &batch(5)).is_err());
        assert!(journal.close().await.is_err());
    });
}

#[test]
fn one_commit_covers_what_gathered_while_another_was_under_way() {
    let dir = tempfile::tempdir().unwrap();
    rt::block_on(async move {
        let (journal, _) = Journal::open(dir.path(), settings(), Known::default()).await.unwrap();
        let journal = Rc::new(journal);
        let mut tasks = Vec::new();
        for n in 0..200 {
            let journal = journal.clone();
            tasks.push(rt::spawn(async move {
                for round in 0..5 {
                    let lsn = journal.append(partition(n), Offset(round), None, &batch(round)).unwrap();
                    journal.wait_durable(lsn).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await;
        }
        assert!(journal.commits() < 200, "{} commits for 1000 appends", journal.commits());
        assert_eq!(journal.backlog_bytes(), 0);
    });
}

#[test]
fn zeros_ahead_are_written_for_many_commits_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::start(dir.path()).unwrap();
    let path = dir.path().to_owned();
    let commits = 48;
    rt::block_on(async move {
        let (journal, _) = Journal::open(&path, settings(), Known::default()).await.unwrap();
        for n in 0..commits {
            let lsn = journal.append(partition(0), Offset(n), None, &batch(n)).unwrap();
            journal.wait_durable(lsn).await.unwrap();
        }
        journal.close().await.unwrap();
    });
    let zeros =
        |event: &Event| matches!(event, Event::Write { bytes, .. } if bytes.iter().all(|byte| *byte == 0));
    let written = recording.finish().iter().filter(|event| zeros(event)).count();
    // A block a commit, and half of 64 KiB a write.
    assert!(
        (1..=commits as usize / 8 + 4).contains(&written),
        "{written} writes of zeros for {commits} commits"
    );
}
