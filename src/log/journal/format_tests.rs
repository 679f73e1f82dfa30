//! The bytes of headers, and what is made of bytes that are none.

use super::*;

fn file() -> FileHeader {
    FileHeader { generation: 7, first: 8192, previous_end: 8000, capacity: 65536 }
}

fn commit() -> CommitHeader {
    CommitHeader { file: file(), start: 12288, length: 4096, entries: 1, gap: 9, acknowledged: 12200 }
}

fn entry() -> EntryHeader {
    EntryHeader {
        kind: EntryKind::Batch,
        generation: 7,
        lsn: Lsn(8192 + 64 + 72),
        partition: PartitionId { topic: TopicId(*b"0123456789abcdef"), index: 3 },
        leader_epoch: 5,
        base_offset: 42,
        length: 5,
        batch_crc: batch_crc(b"hello"),
    }
}

#[test]
fn headers_round_trip_and_any_flipped_bit_is_noticed() {
    let mut block = vec![0xff; BLOCK];
    encode_file_header(&file(), 99, &mut block);
    assert_eq!(decode_file_header(&block), Ok((file(), 99)));
    let commit = commit();
    let mut encoded = [0xff; COMMIT_HEADER];
    encode_commit(&commit, 99, &mut encoded);
    assert_eq!(decode_commit(&encoded, 99), Some(commit));
    assert_eq!(decode_commit(&encoded, 98), None, "another journal's salt");
    let bytes = encode_entry(&entry(), 99);
    assert_eq!(decode_entry(&bytes, 99), Some(entry()));
    assert_eq!(decode_commit(&bytes, 99), None, "another kind");
    for bit in 0..COMMIT_HEADER * 8 {
        let (mut c, mut e) = (encoded, bytes);
        c[bit / 8] ^= 1 << (bit % 8);
        e[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode_commit(&c, 99), None, "bit {bit}");
        assert_eq!(decode_entry(&e, 99), None, "bit {bit}");
    }
    for bit in 0..52 * 8 {
        let mut b = block.clone();
        b[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_file_header(&b).is_err(), "bit {bit}");
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut block = vec![0; BLOCK];
    assert_eq!(decode_file_header(&block), Err(BadHeader::Empty));
    encode_file_header(&file(), 1, &mut block);
    block[8] = VERSION + 1;
    assert_eq!(decode_file_header(&block), Err(BadHeader::Newer(4)));
    block[0] = 0;
    assert_eq!(decode_file_header(&block), Err(BadHeader::Damaged));
}

/// The bytes on disk, as each version writes them. If this test fails, old journals became unreadable.
#[test]
fn the_format_is_what_it_was() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut block = vec![0; BLOCK];
    encode_file_header(&file(), SALT, &mut block);
    assert_eq!(hex(&block[..52]), FIXTURE_FILE);
    let mut encoded = [0; COMMIT_HEADER];
    encode_commit(&commit(), SALT, &mut encoded);
    assert_eq!(hex(&encoded), FIXTURE_COMMIT);
    assert_eq!(hex(&encode_entry(&entry(), SALT)), FIXTURE_ENTRY);
    for (kind, number) in [
        (EntryKind::Placement, 3),
        (EntryKind::Truncate, 4),
        (EntryKind::EpochStart, 5),
        (EntryKind::Reset, 6),
    ] {
        let entry = EntryHeader { kind, ..entry() };
        let bytes = encode_entry(&entry, SALT);
        assert_eq!(decode_entry(&bytes, SALT), Some(entry));
        assert_eq!(bytes[..4], [0x57, 0x4a, 1, number]);
    }
}

#[test]
fn headers_of_earlier_versions_are_read() {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let mut block = vec![0; BLOCK];
    block[..52].copy_from_slice(&bytes(VERSION_2_FILE));
    assert_eq!(decode_file_header(&block), Ok((file(), SALT)), "version 2");
    block[8] = 1;
    block[48..52].copy_from_slice(&[0xba, 0x96, 0x34, 0xbb]);
    assert_eq!(decode_file_header(&block), Ok((file(), SALT)), "version 1");
    let commit = CommitHeader { acknowledged: 12288 - 9, ..commit() };
    assert_eq!(decode_commit(&bytes(VERSION_2_COMMIT), SALT), Some(commit), "all before it was on disk");
}

const SALT: u32 = 0x01020304;
const FIXTURE_FILE: &str = "574549524a524e4c030000000403020107000000000000000020000000000000401f0000000000000000010000000000\
    75b4cc3e";
const FIXTURE_COMMIT: &str = "574a020258000000003000000000000000100000010000000020000000000000401f0000000000000700000000000000\
    000001000000000009000000950830d0";
const VERSION_2_FILE: &str = "574549524a524e4c020000000403020107000000000000000020000000000000401f0000000000000000010000000000\
    32268891";
const VERSION_2_COMMIT: &str = "574a010207000000003000000000000000100000010000000020000000000000401f0000000000000700000000000000\
    000001000000000009000000482a9ab9";
const FIXTURE_ENTRY: &str = "574a01010700000088200000000000003031323334353637383961626364656603000000050000002a00000000000000\
    0500000086a6103600000000409606f5";
