//! What a journal did, for the metrics page.

use std::time::Duration;

use hdrhistogram::Histogram;

const LONGEST_US: u64 = 60_000_000;
const LARGEST_BYTES: u64 = 1 << 30;

#[derive(Clone)]
pub struct JournalStats {
    pub commits: u64,
    pub bytes: u64,
    pub commit_us: Histogram<u64>,
    pub commit_bytes: Histogram<u64>,
    pub files_used: usize,
    pub files_free: usize,
}

impl JournalStats {
    pub fn new() -> Self {
        let histogram = |high| Histogram::new_with_bounds(1, high, 2).expect("valid bounds");
        Self {
            commits: 0,
            bytes: 0,
            commit_us: histogram(LONGEST_US),
            commit_bytes: histogram(LARGEST_BYTES),
            files_used: 0,
            files_free: 0,
        }
    }

    pub fn record(&mut self, took: Duration, bytes: usize) {
        self.commits += 1;
        self.bytes += bytes as u64;
        self.commit_us.saturating_record(took.as_micros() as u64);
        self.commit_bytes.saturating_record(bytes as u64);
    }
}

impl Default for JournalStats {
    fn default() -> Self {
        Self::new()
    }
}
