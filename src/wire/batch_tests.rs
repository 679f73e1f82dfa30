use bytes::Bytes;
use kafka_wire_records::{
    Compression as Codec, RecordBatch, RecordBatchDecode, RecordDecodeLimits, RecordEncodeLimits,
    TimestampType,
};

use super::*;
use crate::wire::testing;

fn batch(codec: Codec, records: i32) -> Vec<u8> {
    let record = |i| testing::record(i, i64::from(i), None, Some(Bytes::from_static(b"value")));
    let batch = RecordBatch {
        compression: codec,
        producer_id: 9,
        producer_epoch: 2,
        base_sequence: 40,
        ..testing::batch_of(1_000, (0..records).map(record).collect())
    };
    batch.encode_to_bytes(RecordEncodeLimits::default()).unwrap().to_vec()
}

fn check_produced(batch: &[u8], max_bytes: usize) -> Result<BatchHeader, BatchError> {
    let header = parse_produced(batch)?;
    check_parsed(batch, &header, max_bytes).map(|()| header)
}

fn reseal(batch: &mut [u8]) {
    let crc = checksum(batch);
    batch[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn headers_read_what_the_reference_encoder_wrote() {
    let codecs = [
        (Codec::None, Compression::None),
        (Codec::Gzip, Compression::Gzip),
        (Codec::Snappy, Compression::Snappy),
        (Codec::Lz4, Compression::Lz4),
        (Codec::Zstd, Compression::Zstd),
    ];
    for (codec, compression) in codecs {
        let bytes = batch(codec, 25);
        let header = check_produced(&bytes, 1 << 20).unwrap();
        assert_eq!(header, check_stored(&bytes).unwrap());
        assert_eq!(header.compression(), compression);
        assert_eq!(header.size(), bytes.len());
        assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (0, 24, 25));
        assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_024));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 2, 40));
        assert_eq!((header.record_count, header.last_sequence()), (25, 64));
        assert!(!header.is_transactional() && !header.is_control() && !header.is_log_append_time());
    }
}

#[test]
fn stamps_leave_a_batch_that_the_reference_decoder_takes() {
    let mut bytes = batch(Codec::Lz4, 3);
    stamp(&mut bytes, 77_000, 5);
    assert_eq!(check_stored(&bytes).unwrap().leader_epoch, 5);
    stamp_log_append_time(&mut bytes, 123_456);
    let header = check_stored(&bytes).unwrap();
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp, 123_456);
    let mut input = Bytes::from(bytes);
    let RecordBatchDecode::Complete { batch, .. } =
        RecordBatch::decode_next(&mut input, RecordDecodeLimits::default(), 1 << 20).unwrap()
    else {
        panic!("incomplete")
    };
    assert_eq!((batch.base_offset, batch.partition_leader_epoch, batch.records.len()), (77_000, 5, 3));
    assert_eq!((batch.timestamp_type, batch.max_timestamp), (TimestampType::LogAppendTime, 123_456));
}

#[test]
fn sequences_wrap() {
    let bytes = batch(Codec::None, 3);
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.base_sequence = i32::MAX - 1;
    assert_eq!(header.last_sequence(), 0);
    header.base_sequence = -1;
    assert_eq!(header.last_sequence(), -1);
}

#[test]
fn every_cut_is_refused() {
    let bytes = batch(Codec::None, 3);
    for len in 0..bytes.len() {
        assert!(check_produced(&bytes[..len], 1 << 20).is_err(), "{len}");
        assert!(check_stored(&bytes[..len]).is_err(), "{len}");
    }
    let two = [bytes.clone(), bytes.clone()].concat();
    assert_eq!(check_produced(&two, 1 << 20), Err(BatchError::NotOne));
    assert!(matches!(check_produced(&bytes, 70), Err(BatchError::TooLarge { max: 70, .. })));
}

#[test]
fn every_flipped_bit_under_the_checksum_is_refused() {
    let bytes = batch(Codec::None, 2);
    for at in CRC..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            assert!(check_produced(&bad, 1 << 20).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn fields_that_do_not_go_together_are_refused() {
    type Change = fn(&mut [u8]);
    type Wanted = fn(&BatchError) -> bool;
    let cases: &[(Change, Wanted)] = &[
        (|b| b[MAGIC] = 1, |e| matches!(e, BatchError::Magic(1))),
        (|b| b[8..12].copy_from_slice(&(-1i32).to_be_bytes()), |e| matches!(e, BatchError::Length(-1))),
        (|b| b[8..12].copy_from_slice(&48i32.to_be_bytes()), |e| matches!(e, BatchError::Length(48))),
        (
            |b| b[8..12].copy_from_slice(&i32::MAX.to_be_bytes()),
            |e| matches!(e, BatchError::Truncated { .. }),
        ),
        (|b| b[7] = 1, |e| matches!(e, BatchError::BaseOffset(1))),
        (|b| b[ATTRIBUTES + 1] |= 0x20, |e| matches!(e, BatchError::Control)),
        (|b| b[ATTRIBUTES + 1] |= 0x07, |e| matches!(e, BatchError::Codec(7))),
        (|b| b[RECORD_COUNT + 3] = 9, |e| matches!(e, BatchError::Count { count: 9, .. })),
        (|b| b[RECORD_COUNT..][..4].fill(0), |e| matches!(e, BatchError::Count { count: 0, .. })),
        (|b| b[RECORD_COUNT..][..4].fill(0xff), |e| matches!(e, BatchError::Count { count: -1, .. })),
        (
            |b| {
                b[RECORD_COUNT..][..4].copy_from_slice(&i32::MAX.to_be_bytes());
                b[LAST_OFFSET_DELTA..][..4].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
            },
            |e| matches!(e, BatchError::Count { .. }),
        ),
        (|b| b[BASE_SEQUENCE..][..4].fill(0xff), |e| matches!(e, BatchError::Producer { .. })),
        (|b| b[PRODUCER_EPOCH..][..2].fill(0xff), |e| matches!(e, BatchError::Producer { .. })),
        (
            |b| {
                b[PRODUCER_ID..][..8].fill(0xff);
                b[ATTRIBUTES + 1] |= 0x10;
            },
            |e| matches!(e, BatchError::Producer { .. }),
        ),
    ];
    for (i, (change, wanted)) in cases.iter().enumerate() {
        let mut bytes = batch(Codec::None, 3);
        change(&mut bytes);
        reseal(&mut bytes);
        let error = check_produced(&bytes, 1 << 20).unwrap_err();
        assert!(wanted(&error), "case {i}: {error:?}");
    }
}

#[test]
fn batches_back_to_back_are_walked() {
    let one = batch(Codec::None, 2);
    let mut bytes = Vec::new();
    for i in 0..3 {
        let mut next = one.clone();
        stamp(&mut next, i * 2, 0);
        bytes.extend_from_slice(&next);
    }
    let offsets: Vec<_> = BatchIter::new(&bytes).map(|b| b.unwrap().0.base_offset).collect();
    assert_eq!(offsets, [0, 2, 4]);
    for cut in 0..bytes.len() {
        let mut iter = BatchIter::new(&bytes[..cut]);
        let good = iter.by_ref().filter(Result::is_ok).count();
        assert_eq!((good, iter.position()), (cut / one.len(), cut / one.len() * one.len()));
        assert!(iter.next().is_none());
    }
}
