//! What a broker holds and takes, in a heartbeat's private tag.
//!
//! ```text
//! whole u8 · disk: total u64, free u64 · for each partition: topic 16 bytes, index i32, bytes u64, bytes a second u64
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::controller::loads::{BrokerLoad, Disk, PartitionLoad};
use crate::model::{PartitionId, TopicId};

/// Of one partition.
const LEN: usize = 36;

pub fn put(load: &BrokerLoad) -> Bytes {
    let mut out = BytesMut::with_capacity(17 + load.partitions.len() * LEN);
    out.put_u8(u8::from(load.whole));
    out.put_u64(load.disk.total);
    out.put_u64(load.disk.free);
    for of in &load.partitions {
        out.put_slice(&of.id.topic.0);
        out.put_i32(of.id.index);
        out.put_u64(of.bytes);
        out.put_u64(of.rate);
    }
    out.freeze()
}

/// `None` for what makes no sense.
pub fn take(mut from: Bytes) -> Option<BrokerLoad> {
    let whole = from.try_get_u8().ok()? != 0;
    let disk = Disk { total: from.try_get_u64().ok()?, free: from.try_get_u64().ok()? };
    if !from.len().is_multiple_of(LEN) {
        return None;
    }
    let mut partitions = Vec::with_capacity(from.len() / LEN);
    while !from.is_empty() {
        let mut topic = [0; 16];
        from.try_copy_to_slice(&mut topic).ok()?;
        let id = PartitionId { topic: TopicId(topic), index: from.try_get_i32().ok()? };
        partitions.push(PartitionLoad {
            id,
            bytes: from.try_get_u64().ok()?,
            rate: from.try_get_u64().ok()?,
        });
    }
    Some(BrokerLoad { disk, partitions, whole })
}
