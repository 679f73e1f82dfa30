//! Format, gathering and scanning together, without files.

use crate::log::Lsn;
use crate::model::{PartitionId, TopicId};
use crate::rt::BLOCK;

use super::format::EntryKind;
use super::gather::{Gather, GatherLimits};
use super::scan::{End, Item, Source, scan};

const SALT: u32 = 0x5eed;
const CAPACITY: u64 = 64 * 4096;

pub fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId([9; 16]), index }
}

fn gather() -> Gather {
    let limits = GatherLimits { max_commit_bytes: 16384, file_capacity: CAPACITY };
    Gather::new(SALT, limits, 0, 4096, Lsn::ZERO)
}

/// A file's image: `commits` commits, commit `i` of `i % 4 + 1` entries of growing size. Also where commits begin.
fn image(commits: usize) -> (Vec<u8>, Vec<u64>, Vec<(Lsn, i64)>) {
    let mut gather = gather();
    let mut file = vec![0; BLOCK + CAPACITY as usize];
    let (mut starts, mut entries, mut acknowledged) = (Vec::new(), Vec::new(), Lsn::ZERO);
    for i in 0..commits {
        for j in 0..i % 4 + 1 {
            let offset = (i * 10 + j) as i64;
            entries.push((
                gather.append(EntryKind::Batch, partition(j as i32), offset, 0, &vec![i as u8; i * 300 + j]),
                offset,
            ));
        }
        let commit = gather.take(acknowledged).expect("gathered");
        acknowledged = commit.last;
        let at = commit.file_offset() as usize;
        file[at..at + commit.buf.len()].copy_from_slice(commit.buf.as_slice());
        starts.push(commit.start);
        gather.recycle(commit.buf, commit.done);
    }
    (file, starts, entries)
}

/// From, to, whose.
type Hole = (u64, u64, Option<(PartitionId, i64)>);

#[derive(Default, PartialEq, Eq, Debug)]
struct Read {
    entries: Vec<(Lsn, i64)>,
    damage: Vec<Hole>,
}

fn read(bytes: &[u8], limit: Option<u64>, known_durable: u64) -> (Read, End) {
    let header = super::scan::rebuild_header(bytes, SALT).expect("some commit holds");
    let mut read = Read::default();
    let end = scan(&Source { bytes, header, salt: SALT, limit, known_durable }, &mut |item| match item {
        Item::Entry(header, _) => read.entries.push((header.lsn, header.base_offset)),
        Item::Damage { from, to, entry } => {
            read.damage.push((from, to, entry.map(|entry| (entry.partition, entry.base_offset))));
        }
    });
    (read, end)
}

#[test]
fn what_was_gathered_is_read_back() {
    let (file, _, entries) = image(12);
    let (header, salt) = super::format::decode_file_header(&file).expect("a header");
    assert_eq!((header.generation, header.first, salt), (1, 4096, SALT));
    let (read, end) = read(&file, None, 0);
    assert_eq!(read, Read { entries: entries.clone(), damage: vec![] });
    assert_eq!(end, End { last: entries.last().unwrap().0.0, torn_at: None });
}

#[test]
fn a_tear_of_the_last_commit_keeps_what_came_before() {
    let (file, starts, entries) = image(8);
    let last_start = *starts.last().unwrap() as usize;
    for cut in (last_start..last_start + 12288).step_by(512) {
        for fill in [0, 0xa5] {
            let mut torn = file.clone();
            torn[cut..].fill(fill);
            let (read, end) = read(&torn, None, 0);
            assert!(read.damage.is_empty());
            assert_eq!(read.entries[..], entries[..read.entries.len()]);
            assert!(entries.iter().filter(|e| e.0.0 <= last_start as u64).count() <= read.entries.len());
            assert_eq!(end.last, read.entries.last().unwrap().0.0);
            // The next generation remembers where the tear was cut; reading again finds the same and no damage.
            let (again, _) = self::read(&torn, Some(end.last), end.last);
            assert_eq!(again, read);
        }
    }
}

#[test]
fn every_damaged_sector_below_the_last_commit_is_found() {
    let (file, starts, entries) = image(8);
    let last = entries.last().unwrap().0.0;
    for limited in [false, true] {
        let until = if limited { last } else { *starts.last().unwrap() };
        for at in (4096..until as usize).step_by(512) {
            let mut bad = file.clone();
            bad[at..at + 512].iter_mut().for_each(|b| *b ^= 0xff);
            let (read, end) = read(&bad, limited.then_some(last), 0);
            assert_eq!(end, End { last, torn_at: None }, "at {at}");
            let lost: Vec<_> = entries.iter().filter(|e| !read.entries.contains(e)).collect();
            assert_eq!(lost.len() + read.entries.len(), entries.len());
            for entry in lost {
                assert!(
                    read.damage.iter().any(|d| d.0 < entry.0.0 && entry.0.0 <= d.1),
                    "at {at}: {entry:?} is gone without a word"
                );
            }
        }
    }
}

#[test]
fn a_damaged_batch_names_its_partition() {
    let (mut file, starts, entries) = image(8);
    let at = starts[6] as usize + 64 + 64 + 10;
    file[at] ^= 1;
    let (read, _) = read(&file, None, 0);
    let lost = entries.iter().find(|e| e.1 == 60).unwrap();
    assert_eq!(read.damage, [(starts[6] + 64, lost.0.0, Some((partition(0), 60)))]);
    assert_eq!(read.entries.len(), entries.len() - 1);
}

#[test]
fn a_damaged_commit_header_alone_loses_nothing() {
    let (mut file, starts, entries) = image(8);
    file[starts[3] as usize + 20] ^= 1;
    assert_eq!(read(&file, None, 0).0, Read { entries, damage: vec![] });
}

#[test]
fn an_entry_larger_than_a_file_gets_a_file_of_its_own() {
    let mut gather = gather();
    let small = gather.append(EntryKind::Batch, partition(0), 0, 0, b"small");
    let large = gather.append(EntryKind::Batch, partition(0), 1, 0, &vec![1; CAPACITY as usize * 2 - 128]);
    let after = gather.append(EntryKind::Batch, partition(0), 2, 0, b"after");
    assert!(small < large && large < after);
    let mut take = || gather.take(Lsn::ZERO);
    let (a, b, c) = (take().unwrap(), take().unwrap(), take().unwrap());
    assert!(take().is_none());
    assert!(a.opens_file && b.opens_file && c.opens_file);
    assert_eq!((a.file.capacity, c.file.capacity), (CAPACITY, CAPACITY));
    assert_eq!(b.file.capacity as usize, b.buf.len() - BLOCK);
    assert_eq!([b.file.previous_end, c.file.previous_end], [small.0, large.0]);
}

#[test]
fn commits_are_bounded_and_contiguous() {
    let mut gather = gather();
    for i in 0..500 {
        gather.append(EntryKind::Batch, partition(0), i, 0, &[3; 1000]);
    }
    let mut next = 4096;
    while let Some(commit) = gather.take(Lsn::ZERO) {
        assert_eq!(commit.start, next);
        let data = commit.buf.len() - if commit.opens_file { BLOCK } else { 0 };
        assert!(data <= 16384);
        next += data as u64;
        assert!(next <= commit.file.first + commit.file.capacity);
        gather.recycle(commit.buf, commit.done);
    }
    assert_eq!(gather.end(), next);
}

/// Several commits were in flight at once: what of them cannot be read is damage as far as a later one says that it was
/// acknowledged, and the journal's end past that, whatever was written behind it.
#[test]
fn a_hole_above_what_was_acknowledged_is_the_end_and_one_below_is_damage() {
    let mut gather = gather();
    let mut file = vec![0; BLOCK + CAPACITY as usize];
    let (mut starts, mut lasts) = (Vec::new(), Vec::new());
    for i in 0..8 {
        gather.append(EntryKind::Batch, partition(0), i, 0, &[i as u8; 1000]);
        // Each is handed over while the two before it are on their way.
        let acknowledged = lasts.len().checked_sub(3).map_or(Lsn::ZERO, |at| lasts[at]);
        let commit = gather.take(acknowledged).expect("gathered");
        let at = commit.file_offset() as usize;
        file[at..at + commit.buf.len()].copy_from_slice(commit.buf.as_slice());
        starts.push(commit.start);
        lasts.push(commit.last);
    }
    for hole in 0..8 {
        for whole in [false, true] {
            let mut bad = file.clone();
            let at = starts[hole] as usize;
            match whole {
                true => bad[at..at + 4096].fill(0),
                false => bad[at + 200] ^= 1,
            }
            let (read, end) = read(&bad, None, 0);
            let offsets: Vec<i64> = read.entries.iter().map(|(_, offset)| *offset).collect();
            if hole < 5 {
                assert_eq!(offsets, (0..8).filter(|i| *i != hole as i64).collect::<Vec<_>>());
                assert_eq!((read.damage.len(), end.last), (1, lasts[7].0), "{hole}");
            } else {
                assert_eq!(offsets, (0..hole as i64).collect::<Vec<_>>());
                assert_eq!((read.damage.len(), end.last), (0, lasts[hole - 1].0), "{hole}");
            }
            // The checkpoint may know better.
            let (known, _) = self::read(&bad, None, lasts[7].0);
            assert_eq!((known.entries.len(), known.damage.len()), (7, 1), "{hole}");
        }
    }
}
