//! Records that the broker has stored, opened: where each starts and ends, its time and offset, its key, and whether it
//! has a value. [`super::scan`] is what they went through before.
//!
//! ```text
//! length varint │ attributes i8 │ timestamp delta varlong │ offset delta varint │ key length varint (-1: null) │ key
//!               │ value length varint (-1: null) │ value │ headers
//! ```

use super::batch::HEADER_SIZE;

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

/// One record, where it lies in its batch's decompressed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// All of it, with its length.
    pub bytes: &'a [u8],
    pub attributes: u8,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// What follows the timestamp delta.
    pub rest: &'a [u8],
}

impl<'a> RecordView<'a> {
    fn take(input: &mut &'a [u8]) -> Option<Self> {
        let whole = *input;
        let length = usize::try_from(varint(input)?).ok()?;
        let (mut record, behind) = input.split_at_checked(length)?;
        *input = behind;
        let bytes = &whole[..whole.len() - behind.len()];
        let attributes = *record.split_off_first()?;
        let timestamp_delta = varint(&mut record)?;
        let rest = record;
        let offset_delta = i32::try_from(varint(&mut record)?).ok()?;
        let key = field(&mut record)?;
        let value = field(&mut record)?;
        Some(Self { bytes, attributes, timestamp_delta, offset_delta, key, value, rest })
    }

    /// Appends the record with another timestamp delta.
    pub fn write_with_timestamp(&self, timestamp_delta: i64, out: &mut Vec<u8>) {
        let length = 1 + varint_size(timestamp_delta) + self.rest.len();
        put_varint(length as i64, out);
        out.push(self.attributes);
        put_varint(timestamp_delta, out);
        out.extend_from_slice(self.rest);
    }

    /// Appends the record with another offset delta.
    pub fn write_with_offset(&self, offset_delta: i32, out: &mut Vec<u8>) {
        let mut fields = self.rest;
        let _ = varint(&mut fields);
        let offset_delta = i64::from(offset_delta);
        let length = 1 + varint_size(self.timestamp_delta) + varint_size(offset_delta) + fields.len();
        put_varint(length as i64, out);
        out.push(self.attributes);
        put_varint(self.timestamp_delta, out);
        put_varint(offset_delta, out);
        out.extend_from_slice(fields);
    }
}

/// The records of a batch, decompressed. `None` for one that cannot be parsed, after which it ends.
pub fn records(mut payload: &[u8]) -> impl Iterator<Item = Option<RecordView<'_>>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let record = RecordView::take(&mut payload);
        if record.is_none() {
            payload = &[];
        }
        Some(record)
    })
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn varint_size(value: i64) -> usize {
    (70 - (zigzag(value) | 1).leading_zeros() as usize) / 7
}

fn put_varint(value: i64, out: &mut Vec<u8>) {
    let mut left = zigzag(value);
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use kafka_wire_records::RecordEncodeLimits;

    use super::*;
    use crate::wire::testing;

    fn batch(keys: &[Option<&'static str>]) -> Vec<u8> {
        let record = |(i, key): (usize, &Option<&'static str>)| {
            let key = key.map(|key| bytes::Bytes::from_static(key.as_bytes()));
            testing::record(i as i32, i as i64 * 1_000_000, key, Some(vec![b'v'; 300].into()))
        };
        let batch = testing::batch_of(0, keys.iter().enumerate().map(record).collect());
        batch.encode_to_bytes(RecordEncodeLimits::default()).unwrap().to_vec()
    }

    #[test]
    fn varints_return_in_the_size_they_claim() {
        for shift in 0..63 {
            for value in [1_i64 << shift, (1 << shift) - 1, -(1 << shift), !(1 << shift), i64::MAX, i64::MIN]
            {
                let mut out = Vec::new();
                put_varint(value, &mut out);
                assert_eq!(out.len(), varint_size(value), "{value}");
                assert_eq!(varint(&mut &out[..]), Some(value));
            }
        }
    }

    #[test]
    fn views_say_what_was_written_and_move_in_time() {
        let batch = batch(&[Some("a"), None, Some("")]);
        let views: Vec<_> = records(&batch[HEADER_SIZE..]).map(|r| r.expect("a record")).collect();
        let keys: Vec<_> = views.iter().map(|v| v.key).collect();
        assert_eq!(keys, [Some(&b"a"[..]), None, Some(&b""[..])]);
        assert_eq!(views.iter().map(|v| v.bytes.len()).sum::<usize>(), batch.len() - HEADER_SIZE);
        for (i, view) in views.iter().enumerate() {
            assert_eq!((view.offset_delta, view.timestamp_delta), (i as i32, i as i64 * 1_000_000));
            assert_eq!(view.value, Some(&[b'v'; 300][..]));
            for delta in [0, -5, 1 << 40] {
                let mut moved = Vec::new();
                view.write_with_timestamp(delta, &mut moved);
                let read = records(&moved).next().flatten().expect("a record");
                assert_eq!((read.timestamp_delta, read.rest), (delta, view.rest));
            }
            for delta in [0, 63, 64, i32::MAX] {
                let mut moved = Vec::new();
                view.write_with_offset(delta, &mut moved);
                let read = records(&moved).next().flatten().expect("a record");
                assert_eq!((read.offset_delta, read.timestamp_delta), (delta, view.timestamp_delta));
                assert_eq!((read.key, read.value), (view.key, view.value));
            }
        }
        for cut in HEADER_SIZE + 1..batch.len() {
            let count = records(&batch[HEADER_SIZE..cut]).filter(Option::is_some).count();
            assert!(count < 3, "cut at {cut}");
        }
    }
}
