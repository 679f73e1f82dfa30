//! A batch on its way into the log, with its header, which is read once.

use bytes::BytesMut;

use super::batch::{self, BatchError, BatchHeader, HEADER_SIZE};

/// One whole batch, as long as its header says.
#[derive(Debug)]
pub struct ProducedBatch {
    pub bytes: BytesMut,
    pub header: BatchHeader,
}

impl ProducedBatch {
    /// Takes what a producer sent for one partition. Nothing is known of it yet but where it ends.
    pub fn parse(bytes: BytesMut) -> Result<Self, BatchError> {
        let header = batch::parse_produced(&bytes)?;
        Ok(Self { bytes, header })
    }

    /// The records, compressed or not.
    pub fn records(&self) -> &[u8] {
        &self.bytes[HEADER_SIZE..]
    }

    /// Size, checksum, and whether the header's fields go together.
    pub fn check(&self, max_bytes: usize) -> Result<(), BatchError> {
        batch::check_parsed(&self.bytes, &self.header, max_bytes)
    }

    /// The records' own times are what counts, and this is the latest of them.
    pub fn set_create_time(&mut self, max_timestamp: i64) {
        self.header.crc = batch::stamp_create_time(&mut self.bytes, max_timestamp);
        self.header.max_timestamp = max_timestamp;
        self.header.attributes &= !batch::LOG_APPEND_TIME;
    }

    /// The broker's clock is every record's time.
    pub fn set_log_append_time(&mut self, ms: i64) {
        self.header.crc = batch::stamp_log_append_time(&mut self.bytes, ms);
        self.header.max_timestamp = ms;
        self.header.attributes |= batch::LOG_APPEND_TIME;
    }

    /// Where the batch lies.
    pub fn place(&mut self, base_offset: i64, leader_epoch: i32) {
        batch::stamp(&mut self.bytes, base_offset, leader_epoch);
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
    }
}
