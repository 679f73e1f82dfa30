//! The batch that a topic is filled with before it is read: the workload's records, nobody's marks.

use bytes::Bytes;

use crate::Outcome;
use crate::load::batch::{Builder, Origin, Position};
use crate::load::draw::{self, Draft, NO_KEY};
use crate::load::payload::Filler;
use crate::workload::Workload;

/// Bytes of a batch.
const BATCH: usize = 900 << 10;

pub fn batch(workload: &Workload) -> Outcome<Bytes> {
    let sizes = draw::sizes(&workload.record.size, 0xf111);
    let longest = sizes.iter().max().copied().unwrap_or(0) as usize;
    let filler = Filler::new(workload.record.compressibility, longest, 0xf112);
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut builder = Builder::new(filler, wall.as_millis() as i64, workload.producer.codec);
    let (mut drafts, mut bytes) = (Vec::new(), 0);
    for size in sizes.iter().cycle() {
        bytes += *size as usize + 10;
        if bytes > BATCH && !drafts.is_empty() {
            break;
        }
        drafts.push(Draft { intended: 0, key: NO_KEY, size: *size });
    }
    let origin = Origin { run: 0, producer: 0, position: Position::default(), producer_id: -1, epoch: -1 };
    let mut out = Vec::new();
    builder.append(&mut out, None, origin, drafts.into_iter())?;
    Ok(Bytes::from(out))
}
