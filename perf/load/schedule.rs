//! When each record is meant to be sent. The schedule never looks at the broker: a record that waits is late, and
//! its latency counts from the time given here.

use super::random::Random;
use crate::workload::Arrivals;

pub struct Schedule {
    arrivals: Arrivals,
    random: Random,
    start: f64,
    /// Nanoseconds between records, on average.
    gap: f64,
    /// Records taken.
    taken: u64,
    /// The next record's time, in nanoseconds.
    next: f64,
}

impl Schedule {
    /// `rate` records a second from `start` nanoseconds on.
    pub fn new(arrivals: Arrivals, rate: f64, start: u64, seed: u64) -> Schedule {
        let gap = 1e9 / rate;
        // Threads that share a rate should not send in step.
        let mut random = Random::new(seed);
        let start = start as f64 + gap * (random.unit() - 1.0).abs();
        Schedule { arrivals, random, start, gap, taken: 0, next: start }
    }

    pub fn peek(&self) -> u64 {
        self.next as u64
    }

    pub fn take(&mut self) -> u64 {
        let at = self.next;
        self.taken += 1;
        self.next = match self.arrivals {
            // From the count, so that rounding does not add up.
            Arrivals::Fixed => self.start + self.taken as f64 * self.gap,
            Arrivals::Poisson => at - self.random.unit().ln() * self.gap,
        };
        at as u64
    }
}
