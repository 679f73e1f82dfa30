use std::fs;

use super::super::frame::FRAME_HEADER;
use super::super::quorum::{Membership, Voter};
use super::super::records::Record;
use super::*;

fn voter() -> Voter {
    Voter { node: 1, directory: [5; 16] }
}

fn snapshot() -> Snapshot {
    Snapshot {
        offset: 1,
        epoch: 0,
        membership: Membership::of_one(voter()),
        membership_at: 1,
        membership_epoch: 0,
        records: vec![Record::Cluster { id: "cluster".into() }],
    }
}

/// Entries of every kind, in groups that are written at once.
fn groups() -> Vec<Vec<Entry>> {
    let samples = super::super::records::tests::samples();
    let records = |epoch, records: &[Record]| (epoch, What::Records(records.to_vec()));
    let groups = [
        vec![records(0, &samples[1..3])],
        vec![records(0, &samples[3..5]), (1, What::Blank), records(1, &samples[5..9])],
        vec![(1, What::Membership(Membership::of_one(voter())))],
        vec![records(1, &[]), records(3, &samples[9..])],
    ];
    let mut offset = 1;
    let mut entry = |(epoch, what)| {
        offset += 1;
        Entry { offset, epoch, what }
    };
    groups.into_iter().map(|group| group.into_iter().map(&mut entry).collect()).collect()
}

fn entries() -> Vec<Entry> {
    groups().concat()
}

fn write_all(dir: &Path) -> MetadataLog {
    let mut log = MetadataLog::create(dir, &snapshot()).unwrap();
    groups().iter().for_each(|group| log.append(group).unwrap());
    log
}

fn open(dir: &Path) -> Result<(MetadataLog, Vec<Entry>), MetadataError> {
    let (log, content) = MetadataLog::open(dir)?.expect("a log");
    let Content::Now { snapshot: found, entries } = content else { panic!("of this format") };
    assert_eq!(found, snapshot());
    Ok((log, entries.into_iter().map(|(entry, _)| entry).collect()))
}

fn read_back(dir: &Path) -> Result<Vec<Entry>, MetadataError> {
    open(dir).map(|(_, entries)| entries)
}

/// The bytes of a log of all entries, where its snapshot and each group end, and how many entries there are up to there.
fn sample() -> (Vec<u8>, Vec<(usize, usize)>) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MetadataLog::create(dir.path(), &snapshot()).unwrap();
    let mut ends = vec![(log.end as usize, 0)];
    for group in groups() {
        log.append(&group).unwrap();
        ends.push((log.end as usize, ends.last().unwrap().1 + group.len()));
    }
    (fs::read(log.path()).unwrap(), ends)
}

fn open_bytes(bytes: &[u8]) -> Result<Vec<Entry>, MetadataError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(file_path(dir.path(), 1), bytes).unwrap();
    read_back(dir.path())
}

fn set_mark(bytes: &mut [u8], end: u64) {
    let at = MARK as usize;
    bytes[at..at + 8].copy_from_slice(&end.to_le_bytes());
    let crc = crc32fast::hash(&bytes[at..at + 8]);
    bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn what_was_appended_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    assert!(MetadataLog::open(&dir.path().join("none")).unwrap().is_none());
    drop(write_all(dir.path()));
    assert_eq!(read_back(dir.path()).unwrap(), entries());
    let (mut log, _) = open(dir.path()).unwrap();
    let entry = Entry { offset: log.next_offset(), epoch: 3, what: What::Blank };
    log.append(std::slice::from_ref(&entry)).unwrap();
    assert_eq!(read_back(dir.path()).unwrap().last(), Some(&entry));
}

#[test]
fn a_crash_at_any_byte_of_a_write_keeps_all_that_was_acknowledged() {
    let (bytes, ends) = sample();
    for cut in ends[0].0..bytes.len() {
        let (marked, acked) = *ends.iter().rfind(|(end, _)| *end <= cut).unwrap();
        let mut torn = bytes[..cut].to_vec();
        set_mark(&mut torn, marked as u64);
        let found = open_bytes(&torn).unwrap();
        assert!(found.len() >= acked && entries().starts_with(&found), "cut at {cut}");
        // Space that was allocated and never written.
        torn.resize(cut + 700, 0);
        let found = open_bytes(&torn).unwrap();
        assert!(found.len() >= acked && entries().starts_with(&found), "cut at {cut}, then zeros");
    }
}

/// A write of several entries reaches the disk in any order: what is whole behind what is not was acknowledged to nobody.
#[test]
fn any_sectors_of_a_torn_group_are_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MetadataLog::create(dir.path(), &snapshot()).unwrap();
    let before = log.end as usize;
    let large = |offset| {
        let value = Some("x".repeat(700));
        let config =
            Record::Config { owner: super::super::records::Owner::EveryBroker, name: "n".into(), value };
        Entry { offset, epoch: 0, what: What::Records(vec![config]) }
    };
    let group: Vec<Entry> = (2..8).map(large).collect();
    log.append(&group).unwrap();
    let bytes = fs::read(log.path()).unwrap();
    let sectors = bytes.len().div_ceil(512) - before / 512;
    for mask in 0..1u32 << sectors {
        let mut torn = bytes.clone();
        set_mark(&mut torn, before as u64);
        for sector in (0..sectors).filter(|n| mask >> n & 1 == 0) {
            let from = ((before / 512 + sector) * 512).max(before);
            let to = ((before / 512 + sector + 1) * 512).min(bytes.len());
            torn[from..to].fill(0);
        }
        let found = open_bytes(&torn).unwrap_or_else(|e| panic!("mask {mask:b}: {e}"));
        assert!(group.starts_with(&found));
    }
}

#[test]
fn a_torn_log_goes_on_where_it_was_cut() {
    let (bytes, ends) = sample();
    let (from, acked) = ends[2];
    for cut in from + 1..ends[3].0 {
        let dir = tempfile::tempdir().unwrap();
        let mut torn = bytes[..cut].to_vec();
        set_mark(&mut torn, from as u64);
        fs::write(file_path(dir.path(), 1), &torn).unwrap();
        let (mut log, found) = open(dir.path()).unwrap();
        assert_eq!(found.len(), acked);
        log.append(&groups()[2]).unwrap();
        assert_eq!(read_back(dir.path()).unwrap(), entries()[..ends[3].1]);
    }
}

#[test]
fn acknowledged_bytes_that_are_missing_are_reported() {
    let (bytes, _) = sample();
    for cut in 0..bytes.len() {
        let error = open_bytes(&bytes[..cut]).unwrap_err();
        assert!(matches!(error, MetadataError::Corrupt { .. }), "cut at {cut}: {error}");
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let (bytes, _) = sample();
    for at in (0..24).chain(MARK as usize..MARK as usize + 12).chain(HEADER as usize..bytes.len()) {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            match open_bytes(&bad) {
                Ok(got) => {
                    assert!((MARK as usize..HEADER as usize).contains(&at), "byte {at} bit {bit}");
                    assert_eq!(got, entries());
                }
                Err(MetadataError::Corrupt { offset, .. }) => {
                    assert!(offset <= at as u64, "byte {at} reported at {offset}");
                }
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
    }
}

#[test]
fn without_a_mark_a_sound_change_after_a_broken_one_is_still_corruption() {
    let (mut bytes, ends) = sample();
    set_mark(&mut bytes, 0);
    bytes[ends[2].0 + FRAME_HEADER] ^= 1;
    let error = open_bytes(&bytes).unwrap_err();
    assert!(matches!(error, MetadataError::Corrupt { offset, .. } if offset == ends[2].0 as u64), "{error}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (mut bytes, _) = sample();
    bytes[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    let error = open_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("newer version") && error.contains("format 3"), "{error}");
}

#[test]
fn a_record_of_a_newer_version_is_not_taken_for_damage() {
    let (mut bytes, ends) = sample();
    let (at, end) = (ends[3].0, ends[4].0);
    // The first entry of the group has no records: the second one's first record.
    let frame = at + FRAME_HEADER;
    bytes[frame + FRAME_HEADER] = 0x7f;
    let crc = super::super::frame::frame_crc(&bytes[frame..end]);
    bytes[frame + 4..frame + 8].copy_from_slice(&crc.to_le_bytes());
    let error = open_bytes(&bytes).unwrap_err();
    assert!(matches!(error, MetadataError::NewerRecord { offset, .. } if offset == frame as u64), "{error}");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn what_was_never_committed_is_taken_back_for_good() {
    let all = entries();
    for from in 2..=all.last().unwrap().offset + 1 {
        let dir = tempfile::tempdir().unwrap();
        let mut log = write_all(dir.path());
        log.truncate(from).unwrap();
        assert_eq!(log.next_offset(), from);
        assert_eq!(read_back(dir.path()).unwrap(), all[..from as usize - 2]);
        let new = Entry { offset: from, epoch: 9, what: What::Blank };
        log.append(std::slice::from_ref(&new)).unwrap();
        assert_eq!(read_back(dir.path()).unwrap().last(), Some(&new));
        let error = log.truncate(from);
        assert!(error.is_ok() && log.next_offset() == from);
    }
}

#[test]
fn a_rewrite_leaves_one_smaller_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = write_all(dir.path());
    while !log.wants_rewrite() {
        let id = "x".repeat(10_000);
        let what = What::Records(vec![Record::Cluster { id }]);
        log.append(&[Entry { offset: log.next_offset(), epoch: 3, what }]).unwrap();
    }
    let offset = log.next_offset() - 1;
    let small = Snapshot { offset, epoch: 3, ..snapshot() };
    log.rewrite(&small).unwrap();
    assert!(!log.wants_rewrite());
    let entry = Entry { offset: offset + 1, epoch: 3, what: What::Blank };
    log.append(std::slice::from_ref(&entry)).unwrap();
    drop(log);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let (_, content) = MetadataLog::open(dir.path()).unwrap().unwrap();
    let Content::Now { snapshot, entries } = content else { panic!("of this format") };
    assert_eq!((snapshot, entries.len(), &entries[0].0), (small, 1, &entry));
}

#[test]
fn a_rewrite_cut_short_by_a_crash_is_undone_or_finished() {
    let dir = tempfile::tempdir().unwrap();
    drop(write_all(dir.path()));
    // Before the rename: an unfinished file.
    fs::write(dir.path().join("metadata-00000000000000000008.tmp"), b"half").unwrap();
    assert_eq!(read_back(dir.path()).unwrap(), entries());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // After it: both files.
    let later = Snapshot { offset: 8, ..snapshot() };
    drop(MetadataLog::create(dir.path(), &later).unwrap());
    let (_, content) = MetadataLog::open(dir.path()).unwrap().unwrap();
    assert!(matches!(content, Content::Now { snapshot, entries } if snapshot == later && entries.is_empty()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Format 2 as it was first written. `WEIR_WRITE_FIXTURES=1` writes it anew, which only a new format may.
#[test]
fn format_two_is_as_it_was_first_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metadata/fixtures/metadata-2.log");
    if std::env::var_os("WEIR_WRITE_FIXTURES").is_some() {
        fs::write(&path, sample().0).unwrap();
    }
    assert_eq!(open_bytes(&fs::read(&path).unwrap()).unwrap(), entries());
    assert_eq!(sample().0, fs::read(&path).unwrap(), "what is written changed: raise FORMAT");
    // Records have gained fields since, and there are more kinds; the second is a snapshot without its membership's epoch.
    for older in ["metadata-2-first.log", "metadata-2-lone.log"] {
        let bytes = fs::read(path.with_file_name(older)).unwrap();
        assert_eq!(open_bytes(&bytes).unwrap(), of_first_records(entries()), "{older}");
    }
}

/// Without what the first records did not have.
fn of_first_records(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        let What::Records(records) = &mut entry.what else { continue };
        records.retain(|record| {
            !matches!(record, Record::TopicRf { .. } | Record::ClearElr { .. } | Record::Large { .. })
        });
        for record in records {
            match record {
                Record::Partition { last_known, recovering, .. } => {
                    (*last_known, *recovering) = (None, false)
                }
                Record::PartitionChanged { last_known, recovering, .. } => {
                    (*last_known, *recovering) = (None, None);
                }
                _ => {}
            }
        }
    }
    entries
}

#[test]
fn what_is_committed_is_noted_and_follows_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = write_all(dir.path());
    let noted = |dir: &Path| MetadataLog::open_at(dir).unwrap().unwrap().2;
    assert_eq!(noted(dir.path()), 0, "nothing is said");
    log.note_committed(4);
    assert_eq!(noted(dir.path()), 4);
    let last = log.next_offset() - 1;
    let from_five = Snapshot { offset: 5, epoch: 1, ..snapshot() };
    let prepared = MetadataLog::prepare(dir.path(), &from_five).unwrap();
    let rest: Vec<Entry> = entries().into_iter().filter(|entry| entry.offset > 5).collect();
    assert_eq!(MetadataLog::inspect(dir.path()).unwrap().unwrap().first, 1, "not before it has its name");
    log.replace(prepared, &rest).unwrap();
    assert_eq!(log.next_offset(), last + 1);
    log.append(&[Entry { offset: last + 1, epoch: 9, what: What::Blank }]).unwrap();
    drop(log);
    let (mut log, content, committed) = MetadataLog::open_at(dir.path()).unwrap().unwrap();
    let Content::Now { snapshot, entries } = content else { panic!("of this format") };
    assert_eq!((snapshot, committed, entries.len()), (from_five, 0, rest.len() + 1));
    assert!(entries.iter().map(|(entry, _)| entry).zip(&rest).all(|(one, other)| one == other));
    log.truncate(7).unwrap();
    assert_eq!(log.next_offset(), 7);
}

#[test]
fn entries_are_told_as_frames_and_checked() {
    let mut told = Vec::new();
    put_entries(&entries(), &mut told).unwrap();
    assert_eq!(take_entries(&told, 2).unwrap(), entries());
    assert!(take_entries(&told, 3).is_err(), "of other offsets");
    for at in 0..told.len() {
        let mut bad = told.clone();
        bad[at] ^= 0x40;
        assert!(take_entries(&bad, 2).is_err(), "byte {at}");
    }
    let whole = snapshot().encode().unwrap();
    assert_eq!(Snapshot::decode(&whole).unwrap(), snapshot());
    (0..whole.len()).for_each(|len| assert!(Snapshot::decode(&whole[..len]).is_err()));
}
