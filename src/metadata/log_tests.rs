use std::fs;

use super::*;
use crate::metadata::records::Owner;
use crate::model::TopicId;

fn changes() -> Vec<Vec<Record>> {
    let id = TopicId([7; 16]);
    vec![
        vec![Record::Cluster { id: "cluster".into() }],
        vec![Record::Topic { id, name: "orders".into(), replicas: vec![vec![1], vec![1]] }],
        vec![Record::Config {
            owner: Owner::Topic(id),
            name: "retention.ms".into(),
            value: Some("5".into()),
        }],
        vec![
            Record::Config { owner: Owner::EveryBroker, name: "log.segment.bytes".into(), value: None },
            Record::Config { owner: Owner::Broker(3), name: "x".into(), value: Some(String::new()) },
        ],
        vec![Record::BrokerStarted { broker: 1 }, Record::ProducerIds { next: 1000 }],
        vec![Record::Partitions { topic: id, replicas: vec![vec![1]] }],
        vec![Record::LeaderEpochs { topic: id, epochs: vec![1, 1, 0] }],
        vec![Record::TopicDeleted { id }, Record::DeletedTopics { ids: vec![TopicId([9; 16])] }],
    ]
}

fn write_all(dir: &Path) -> MetadataLog {
    let changes = changes();
    let mut log = MetadataLog::create(dir, 1, &changes[0]).unwrap();
    for (i, change) in changes[1..].iter().enumerate() {
        assert_eq!(log.append(change).unwrap(), i as u64 + 2);
    }
    log
}

fn read(dir: &Path) -> Result<Vec<Vec<Record>>, MetadataError> {
    let (_, commits) = MetadataLog::open(dir)?.expect("a log");
    assert!(commits.iter().enumerate().all(|(i, (number, _))| *number == i as u64 + 1));
    Ok(commits.into_iter().map(|(_, records)| records).collect())
}

/// The bytes of a log of all changes, and where each commit ends.
fn sample() -> (Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let mut ends = Vec::new();
    let changes = changes();
    let mut log = MetadataLog::create(dir.path(), 1, &changes[0]).unwrap();
    ends.push(log.end as usize);
    for change in &changes[1..] {
        log.append(change).unwrap();
        ends.push(log.end as usize);
    }
    (fs::read(log.path()).unwrap(), ends)
}

fn open_bytes(bytes: &[u8]) -> Result<Vec<Vec<Record>>, MetadataError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(file_path(dir.path(), 1), bytes).unwrap();
    read(dir.path())
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
    assert_eq!(read(dir.path()).unwrap(), changes());
    let (mut log, _) = MetadataLog::open(dir.path()).unwrap().unwrap();
    log.append(&[Record::ProducerIds { next: 9 }]).unwrap();
    assert_eq!(read(dir.path()).unwrap().len(), changes().len() + 1);
}

#[test]
fn a_crash_at_any_byte_of_a_write_keeps_all_that_was_acknowledged() {
    let (bytes, ends) = sample();
    for cut in ends[0]..bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut torn = bytes[..cut].to_vec();
        set_mark(&mut torn, ends[whole - 1] as u64);
        assert_eq!(open_bytes(&torn).unwrap(), changes()[..whole], "cut at {cut}");
        // Space that was allocated and never written.
        torn.resize(cut + 700, 0);
        // Where only zeros were missing, the zeros make the write whole.
        let whole =
            ends.iter().filter(|end| torn.get(HEADER as usize..**end) == bytes.get(HEADER as usize..**end));
        let whole = whole.count();
        assert_eq!(open_bytes(&torn).unwrap(), changes()[..whole], "cut at {cut}, then zeros");
    }
}

#[test]
fn a_torn_log_goes_on_where_it_was_cut() {
    let (bytes, ends) = sample();
    for cut in ends[2] + 1..ends[3] {
        let dir = tempfile::tempdir().unwrap();
        let mut torn = bytes[..cut].to_vec();
        set_mark(&mut torn, ends[2] as u64);
        fs::write(file_path(dir.path(), 1), &torn).unwrap();
        let (mut log, commits) = MetadataLog::open(dir.path()).unwrap().unwrap();
        assert_eq!(commits.len(), 3);
        assert_eq!(log.append(&changes()[3]).unwrap(), 4);
        assert_eq!(read(dir.path()).unwrap(), changes()[..4]);
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
    let (bytes, ends) = sample();
    for at in (0..24).chain(MARK as usize..MARK as usize + 12).chain(HEADER as usize..bytes.len()) {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            match open_bytes(&bad) {
                Ok(got) => {
                    assert!((MARK as usize..HEADER as usize).contains(&at), "byte {at} bit {bit}");
                    assert_eq!(got, changes());
                }
                Err(MetadataError::Corrupt { offset, .. }) => {
                    assert!(offset <= at as u64, "byte {at} reported at {offset}");
                    assert!(at < HEADER as usize || ends.contains(&(offset as usize)) || offset == HEADER);
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
    bytes[ends[2] + FRAME_HEADER] ^= 1;
    let error = open_bytes(&bytes).unwrap_err();
    assert!(matches!(error, MetadataError::Corrupt { offset, .. } if offset == ends[2] as u64), "{error}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (mut bytes, _) = sample();
    bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    let error = open_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("newer version") && error.contains("format 2"), "{error}");
}

#[test]
fn a_rewrite_leaves_one_smaller_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = write_all(dir.path());
    while !log.wants_rewrite() {
        let name = "x".repeat(10_000);
        log.append(&[Record::Config { owner: Owner::EveryBroker, name, value: None }]).unwrap();
    }
    let commit = log.next_commit - 1;
    log.rewrite(&[Record::Cluster { id: "small".into() }]).unwrap();
    assert!(!log.wants_rewrite());
    assert_eq!(log.append(&[Record::ProducerIds { next: 1 }]).unwrap(), commit + 1);
    drop(log);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let (_, commits) = MetadataLog::open(dir.path()).unwrap().unwrap();
    let numbers: Vec<_> = commits.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [commit, commit + 1]);
}

#[test]
fn a_rewrite_cut_short_by_a_crash_is_undone_or_finished() {
    let dir = tempfile::tempdir().unwrap();
    drop(write_all(dir.path()));
    // Before the rename: an unfinished file.
    fs::write(dir.path().join("metadata-00000000000000000008.tmp"), b"half").unwrap();
    assert_eq!(read(dir.path()).unwrap(), changes());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // After it: both files.
    drop(MetadataLog::create(dir.path(), 8, &changes()[0]).unwrap());
    let (_, commits) = MetadataLog::open(dir.path()).unwrap().unwrap();
    assert_eq!(commits, [(8, changes()[0].clone())]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Format 1 as it was first written. `WEIR_WRITE_FIXTURES=1` writes it anew, which only a new format may.
#[test]
fn format_one_is_still_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metadata/fixtures/metadata-1.log");
    if std::env::var_os("WEIR_WRITE_FIXTURES").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, sample().0).unwrap();
    }
    assert_eq!(open_bytes(&fs::read(&path).unwrap()).unwrap(), changes());
    assert_eq!(sample().0, fs::read(&path).unwrap(), "what is written changed: raise FORMAT");
}
