//! How fast what is far behind may be copied: bytes a second, of one shard. Pure: `(event, now) → how long to wait`.

use std::cell::Cell;
use std::time::Duration;

use crate::model::MonoMs;

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;
/// What is asked for at once, unless that is more than half a second's worth.
const MOST: usize = 4 << 20;
const LEAST: usize = 64 << 10;
/// How often an allowance that does not suffice is raised, and how long nothing is copied before it is as it was.
const RAISE_MS: i64 = 10_000;
const REST_MS: i64 = 60_000;

/// An allowance that comes evenly. What was not used is kept for half a second.
#[derive(Debug)]
pub struct Pace {
    /// As it is set.
    set: Cell<u64>,
    /// As it is by now.
    rate: Cell<u64>,
    left: Cell<i64>,
    at: Cell<MonoMs>,
    spent: Cell<MonoMs>,
    raised: Cell<MonoMs>,
    /// Whether it is raised where it does not suffice.
    yields: Cell<bool>,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(UNLIMITED)
    }
}

impl Pace {
    pub fn new(rate: u64) -> Self {
        let zero = || Cell::new(MonoMs::ZERO);
        Self {
            set: Cell::new(rate),
            rate: Cell::new(rate),
            left: Cell::new(0),
            at: zero(),
            spent: zero(),
            raised: zero(),
            yields: Cell::new(false),
        }
    }

    /// It is raised from here where it does not suffice.
    pub fn begin_at(&self, rate: u64) {
        self.set(rate);
        self.yields.set(true);
    }

    pub fn set(&self, rate: u64) {
        if self.set.replace(rate) != rate {
            self.rate.set(rate);
        }
    }

    pub fn rate(&self) -> u64 {
        self.rate.get()
    }

    fn burst(&self) -> i64 {
        i64::try_from(self.rate.get() / 2).unwrap_or(i64::MAX)
    }

    fn refill(&self, now: MonoMs) {
        let ms = now.since(self.at.replace(now)) as u128;
        let came = u128::from(self.rate.get()) * ms / 1000;
        let came = i64::try_from(came).unwrap_or(i64::MAX);
        self.left.set(self.left.get().saturating_add(came).min(self.burst()));
    }

    /// How long to wait before more is asked for; `None`: no longer.
    pub fn wait(&self, now: MonoMs) -> Option<Duration> {
        let rate = self.rate.get();
        if rate == UNLIMITED {
            return None;
        }
        self.refill(now);
        let owed = self.left.get().min(0).unsigned_abs();
        (owed > 0)
            .then(|| Duration::from_millis((u128::from(owed) * 1000 / u128::from(rate.max(1))) as u64 + 1))
    }

    /// So much came.
    pub fn spend(&self, bytes: usize, now: MonoMs) {
        if self.set.get() == UNLIMITED || bytes == 0 {
            return;
        }
        if now.since(self.spent.replace(now)) > REST_MS {
            self.rate.set(self.set.get());
        }
        self.refill(now);
        self.left.set(self.left.get().saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }

    /// What may be asked for at once.
    pub fn portion(&self) -> usize {
        usize::try_from(self.rate.get() / 2).unwrap_or(MOST).clamp(LEAST, MOST)
    }

    /// Somebody comes no nearer at this pace: the leader is written faster than that.
    pub fn does_not_suffice(&self, now: MonoMs) {
        if self.yields.get() && now.since(self.raised.get()) >= RAISE_MS {
            self.raised.set(now);
            self.rate.set(self.rate.get().saturating_mul(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    /// Bytes taken in so many ms by one that takes a portion whenever it may.
    fn taken(pace: &Pace, from: i64, ms: i64) -> u64 {
        let mut taken = 0;
        for now in from..from + ms {
            if pace.wait(MonoMs(now)).is_none() {
                pace.spend(pace.portion(), MonoMs(now));
                taken += pace.portion() as u64;
            }
        }
        taken
    }

    #[test]
    fn no_more_comes_than_was_set() {
        for rate in [100 << 10, 3 * MB, 64 * MB] {
            let pace = Pace::new(rate);
            let of = taken(&pace, 1_000_000, 10_000);
            assert!(
                of >= 9 * rate && of <= 10 * rate + rate / 2 + pace.portion() as u64 + (64 << 10),
                "{rate}: {of}"
            );
            // What was not used for an hour is not made up for.
            assert!(taken(&pace, 9_000_000, 1_000) <= rate * 3 / 2 + 2 * pace.portion() as u64);
        }
        assert_eq!(Pace::default().wait(MonoMs(5)), None);
        let pace = Pace::new(MB);
        pace.spend(3 * MB as usize, MonoMs(0));
        assert_eq!(pace.wait(MonoMs(0)), Some(Duration::from_millis(3001)));
        pace.set(UNLIMITED);
        assert_eq!(pace.wait(MonoMs(0)), None);
    }

    #[test]
    fn what_does_not_suffice_is_raised_until_it_does() {
        let pace = Pace::default();
        pace.begin_at(MB);
        pace.spend(1, MonoMs(100_000));
        (0..5_000).for_each(|now| pace.does_not_suffice(MonoMs(100_000 + now)));
        assert_eq!(pace.rate(), 2 * MB, "once in a while");
        pace.does_not_suffice(MonoMs(120_000));
        assert_eq!(pace.rate(), 4 * MB);
        pace.spend(1, MonoMs(130_000));
        assert_eq!(pace.rate(), 4 * MB);
        pace.spend(1, MonoMs(200_000));
        assert_eq!(pace.rate(), MB, "another time, from where it was");
        let fixed = Pace::new(MB);
        fixed.does_not_suffice(MonoMs(100_000));
        assert_eq!(fixed.rate(), MB);
    }
}
