//! Records compressed anew.

use std::io::{Read, Write};

use bytes::{Bytes, BytesMut};

use super::survey::Survey;
use super::{Refusal, Rules};
use crate::wire::batch::{self, BatchHeader, Compression, HEADER_SIZE};
use crate::wire::codec::{self, CodecError, Encoding, Writer};
use crate::wire::produced::ProducedBatch;
use crate::wire::{record, scan};

/// Records that are given new offset deltas are all in memory, twice.
const MAX_RENUMBERED: usize = 64 << 20;

/// The batch with its records compressed as the topic asks, at the offset deltas that they should have.
pub(super) fn rewrite(
    batch: &ProducedBatch,
    rules: &Rules,
    survey: &Survey,
    scratch: &mut Vec<u8>,
) -> Result<ProducedBatch, Refusal> {
    let (header, payload) = (&batch.header, batch.records());
    let codec = header.compression();
    let encoding = match rules.encoding {
        Some(encoding) => encoding,
        None => Encoding::default_of(codec)?,
    };
    let mut out = Vec::with_capacity(batch.bytes.len());
    out.extend_from_slice(&batch.bytes[..HEADER_SIZE]);
    if survey.renumber {
        let records = renumbered(header, payload, survey.decoded)?;
        let mut writer = Writer::bounded(encoding, &mut out, rules.max_bytes, records.len() as u64)?;
        writer.write_all(&records).map_err(CodecError::from)?;
        writer.finish()?;
    } else {
        let mut writer = Writer::bounded(encoding, &mut out, rules.max_bytes, survey.decoded as u64)?;
        copy(codec, payload, survey.decoded, scratch, &mut writer)?;
        writer.finish()?;
    }
    let (mut attributes, mut max_timestamp) = (header.attributes, header.max_timestamp);
    if !rules.broker_time {
        attributes &= !batch::LOG_APPEND_TIME;
        max_timestamp = survey.max_timestamp;
    }
    let fields = batch::Rewrite {
        attributes: attributes & !batch::CODEC_MASK | encoding.codec().id(),
        base_timestamp: header.base_timestamp,
        max_timestamp,
        record_count: header.record_count,
    };
    batch::finish_rewritten(&mut out, &fields);
    out.shrink_to_fit();
    Ok(ProducedBatch::parse(BytesMut::from(Bytes::from(out)))?)
}

/// Decompresses into the writer, a window at a time.
fn copy(
    codec: Compression,
    payload: &[u8],
    decoded: usize,
    scratch: &mut Vec<u8>,
    writer: &mut Writer<'_>,
) -> Result<(), CodecError> {
    if codec == Compression::None {
        return Ok(writer.write_all(payload)?);
    }
    let mut source = codec::reader(codec, payload, decoded, codec::LARGEST_WINDOW)?;
    scratch.resize(scan::WINDOW, 0);
    loop {
        match source.read(scratch)? {
            0 => return Ok(()),
            n => writer.write_all(&scratch[..n])?,
        }
    }
}

/// The records at consecutive offset deltas.
fn renumbered(header: &BatchHeader, payload: &[u8], decoded: usize) -> Result<Vec<u8>, Refusal> {
    if decoded > MAX_RENUMBERED {
        return Err(Refusal::Offsets(decoded));
    }
    let mut records = Vec::with_capacity(decoded);
    codec::decompress(header.compression(), payload, decoded, &mut records)?;
    let mut out = Vec::with_capacity(decoded + header.record_count as usize * 4);
    for (delta, record) in record::records(&records).flatten().enumerate() {
        record.write_with_offset(delta as i32, &mut out);
    }
    Ok(out)
}
