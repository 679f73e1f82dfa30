//! The little of a record that the broker looks at: whether it has a key; what the first of a control batch says.
//!
//! ```text
//! length varint │ attributes i8 │ timestamp delta varlong │ offset delta varint │ key length varint (-1: null) │ key
//! value length varint (-1: null) │ value │ header count varint │ headers
//! ```

use super::batch::HEADER_SIZE;

/// Whether a record of an uncompressed batch has no key. What cannot be parsed counts as having none.
pub fn any_null_key(batch: &[u8]) -> bool {
    let mut rest = batch.get(HEADER_SIZE..).unwrap_or_default();
    while !rest.is_empty() {
        let Some(length) = varint(&mut rest).and_then(|n| usize::try_from(n).ok()) else { return true };
        let Some((mut record, after)) = rest.split_at_checked(length) else { return true };
        rest = after;
        if !has_key(&mut record) {
            return true;
        }
    }
    false
}

fn has_key(record: &mut &[u8]) -> bool {
    let key_length = record.split_off_first().and_then(|_| {
        varint(record)?;
        varint(record)?;
        varint(record)
    });
    key_length.is_some_and(|length| length >= 0)
}

/// A record's key and value.
pub type Fields<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// The first record of an uncompressed batch.
pub fn first(batch: &[u8]) -> Option<Fields<'_>> {
    let mut rest = batch.get(HEADER_SIZE..)?;
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    let mut record = rest.get(..length)?;
    record.split_off_first()?;
    varint(&mut record)?;
    varint(&mut record)?;
    let key = field(&mut record)?;
    let value = field(&mut record)?;
    Some((key, value))
}

/// A nullable field that its length precedes.
fn field<'a>(record: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint(record)?;
    if length < 0 {
        return Some(None);
    }
    let (field, rest) = record.split_at_checked(usize::try_from(length).ok()?)?;
    *record = rest;
    Some(Some(field))
}

/// A zigzag varint of up to ten bytes.
fn varint(input: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = *input.split_off_first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use kafka_wire_records::{Compression, Record, RecordBatch, RecordEncodeLimits, TimestampType};

    use super::*;

    fn batch(keys: &[Option<&'static str>]) -> Vec<u8> {
        let records = keys.iter().enumerate().map(|(i, key)| Record {
            attributes: 0,
            offset_delta: i as i32,
            timestamp_delta: i as i64 * 1_000_000,
            key: key.map(|k| bytes::Bytes::from_static(k.as_bytes())),
            value: Some(vec![b'v'; 300].into()),
            headers: Vec::new(),
        });
        let batch = RecordBatch {
            base_offset: 0,
            last_offset_delta: keys.len() as i32 - 1,
            partition_leader_epoch: -1,
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
            is_transactional: false,
            is_control: false,
            has_delete_horizon: false,
            base_timestamp: 0,
            max_timestamp: keys.len() as i64 * 1_000_000,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records: records.collect(),
        };
        batch.encode_to_bytes(RecordEncodeLimits::default()).unwrap().to_vec()
    }

    #[test]
    fn finds_the_record_without_a_key() {
        assert!(!any_null_key(&batch(&[Some("a"), Some(""), Some("c")])));
        assert!(any_null_key(&batch(&[Some("a"), None, Some("c")])));
        let whole = batch(&[Some("a")]);
        for cut in HEADER_SIZE + 1..whole.len() {
            assert!(any_null_key(&whole[..cut]), "cut at {cut}");
        }
    }
}
