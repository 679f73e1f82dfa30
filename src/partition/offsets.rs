//! The offsets of one replica.
//!
//! ```text
//! log start ≤ high watermark ≤ durable end ≤ end
//!     │  consumers read  │    on disk    │  in memory, on its way to the disk
//! ```
//!
//! - The *end* is what the next record gets; it is ordered, and in memory.
//! - The *durable end* is up to where a crash takes nothing back. Of a topic with `write.caching` it is the end: what was
//!   appended counts as durable at once, because the topic says so. When that is switched off, it stays where it is
//!   until the first sync past it.
//! - The *high watermark* is up to where all replicas that count have it durably, as far as this replica knows.
//!   It falls only with records that a leader which was elected without them does not have ([`Offsets::lose`]).
//! - The *log start* is moved by retention and by DeleteRecords, never past the high watermark. A follower whose leader's
//!   log starts past its own end begins anew there ([`Offsets::restart`]).

use crate::model::Offset;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    log_start: Offset,
    high_watermark: Offset,
    durable_end: Offset,
    end: Offset,
}

impl Offsets {
    /// Of a log in `log_start..end` that is durable, as a start finds it. Of the high watermark that was stored counts
    /// what the log has. One that lost its end may start past it: it needs repair, and serves nothing.
    pub fn recovered(log_start: Offset, high_watermark: Offset, end: Offset) -> Self {
        let log_start = log_start.min(end);
        let high_watermark = high_watermark.max(log_start).min(end);
        let mut offsets = Self { log_start, high_watermark, durable_end: end, end };
        offsets.set(|_| {});
        offsets
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    pub fn end(&self) -> Offset {
        self.end
    }

    /// The one place where they change.
    fn set(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        let Self { log_start, high_watermark, durable_end, end } = *self;
        let in_order = log_start <= high_watermark && high_watermark <= durable_end && durable_end <= end;
        assert!(in_order, "offsets out of order: {self:?}");
    }

    /// Records were appended, up to `end`.
    pub fn append(&mut self, end: Offset) {
        assert!(end >= self.end, "an append does not shorten the log: {self:?}, {end}");
        self.set(|offsets| offsets.end = end);
    }

    /// What was appended is durable, or counts as such, up to `to`. Returns whether that is news.
    pub fn make_durable(&mut self, to: Offset) -> bool {
        let news = to > self.durable_end;
        if news {
            self.set(|offsets| offsets.durable_end = to);
        }
        news
    }

    /// Raises the high watermark, as far as this replica's durable end (R15). Returns whether it rose.
    pub fn commit(&mut self, to: Offset) -> bool {
        let to = to.min(self.durable_end);
        let rises = to > self.high_watermark;
        if rises {
            self.set(|offsets| offsets.high_watermark = to);
        }
        rises
    }

    /// The log starts at `to` now, unless it did later already.
    pub fn start_at(&mut self, to: Offset) {
        if to > self.log_start {
            self.set(|offsets| offsets.log_start = to);
        }
    }

    /// The log was cut at `to`, durably. What is committed is never cut.
    pub fn truncate(&mut self, to: Offset) {
        self.set(|offsets| {
            offsets.end = offsets.end.min(to);
            offsets.durable_end = offsets.durable_end.min(to);
        });
    }

    /// As [`truncate`](Self::truncate), where a leader was elected that does not have all that was committed: an operator
    /// preferred that to no leader.
    pub fn lose(&mut self, to: Offset) {
        self.set(|offsets| {
            let Self { log_start, high_watermark, durable_end, end } = *offsets;
            let [log_start, high_watermark, durable_end, end] =
                [log_start, high_watermark, durable_end, end].map(|offset| offset.min(to));
            *offsets = Self { log_start, high_watermark, durable_end, end };
        });
    }

    /// The log is empty and begins at `at`: the leader has nothing from before (R13).
    pub fn restart(&mut self, at: Offset) {
        self.set(|offsets| *offsets = Self { log_start: at, high_watermark: at, durable_end: at, end: at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(log_start: i64, high_watermark: i64, durable_end: i64, end: i64) -> Offsets {
        let [log_start, high_watermark, durable_end, end] =
            [log_start, high_watermark, durable_end, end].map(Offset);
        Offsets { log_start, high_watermark, durable_end, end }
    }

    #[test]
    fn what_was_stored_of_the_high_watermark_counts_as_far_as_the_log_goes() {
        for (stored, high_watermark) in [(0, 5), (5, 5), (7, 7), (9, 9), (12, 9)] {
            let found = Offsets::recovered(Offset(5), Offset(stored), Offset(9));
            assert_eq!(found, of(5, high_watermark, 9, 9), "stored {stored}");
        }
        assert_eq!(Offsets::recovered(Offset(8), Offset(8), Offset(7)), of(7, 7, 7, 7));
    }

    #[test]
    fn each_moves_within_its_neighbours() {
        let mut offsets = of(0, 3, 5, 5);
        offsets.append(Offset(9));
        assert!(offsets.make_durable(Offset(8)) && !offsets.make_durable(Offset(7)));
        assert!(offsets.commit(Offset(20)), "as far as it is durable here");
        assert!(!offsets.commit(Offset(20)) && !offsets.commit(Offset(4)));
        assert_eq!(offsets, of(0, 8, 8, 9));
        offsets.start_at(Offset(6));
        offsets.start_at(Offset(2));
        offsets.truncate(Offset(8));
        assert_eq!(offsets, of(6, 8, 8, 8));
        offsets.lose(Offset(7));
        assert_eq!(offsets, of(6, 7, 7, 7));
        offsets.lose(Offset(3));
        assert_eq!(offsets, of(3, 3, 3, 3));
        offsets.restart(Offset(40));
        assert_eq!(offsets, of(40, 40, 40, 40));
    }

    #[test]
    fn nothing_leaves_the_order() {
        let breaks: [fn(&mut Offsets); 4] = [
            |offsets| offsets.start_at(Offset(4)),
            |offsets| offsets.truncate(Offset(2)),
            |offsets| offsets.append(Offset(6)),
            |offsets| assert!(offsets.make_durable(Offset(8))),
        ];
        for (nth, change) in breaks.into_iter().enumerate() {
            let broken = std::panic::catch_unwind(move || change(&mut of(0, 3, 5, 7)));
            assert!(broken.is_err(), "change {nth}");
        }
    }
}
