//! Who connects: how many connections an address has open, and how fast more are taken. Pure but for the counts, which
//! connections hold on whichever shard they are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Addresses without connections are forgotten when there are this many more than at the last time.
const FORGET_AFTER: usize = 1024;

/// A connection's place among those of its address; given up when dropped.
pub type Place = Arc<()>;

/// Open connections by address. A place is a share of the address's own, so that there are as many as it has owners
/// besides this one.
#[derive(Default)]
pub struct Peers {
    places: HashMap<IpAddr, Place>,
    looked_at: usize,
}

impl Peers {
    /// A place among at most so many of the address; `None` if all are taken.
    pub fn take(&mut self, address: IpAddr, most: usize) -> Option<Place> {
        if self.places.len() >= self.looked_at + FORGET_AFTER {
            self.places.retain(|_, place| Arc::strong_count(place) > 1);
            self.looked_at = self.places.len();
        }
        let own = self.places.entry(address.to_canonical()).or_default();
        (Arc::strong_count(own) - 1 < most).then(|| own.clone())
    }
}

/// When the next connection may be taken: as many at once as a second allows, then one after another.
#[derive(Default)]
pub struct Pace {
    /// When all that were taken would have been, at the rate.
    caught_up: Option<Instant>,
}

impl Pace {
    /// One was taken now: the moment from which the next may be, at so many a second.
    pub fn next(&mut self, now: Instant, rate: usize) -> Instant {
        let each = Duration::from_secs(1) / rate.clamp(1, u32::MAX as usize) as u32;
        let caught_up = self.caught_up.unwrap_or(now).max(now) + each;
        self.caught_up = Some(caught_up);
        // A second's worth may be ahead of the rate, and has to leave room for the next one.
        now.max(caught_up.checked_sub(Duration::from_secs(1).saturating_sub(each)).unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_as_many_places_as_it_may_have() {
        let mut peers = Peers::default();
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = peers.take(a, 2);
        let second = peers.take("::ffff:10.0.0.1".parse().unwrap(), 2);
        assert!(first.is_some() && second.is_some() && peers.take(a, 2).is_none());
        assert!(peers.take(b, 2).is_some() && peers.take(b, 0).is_none());
        drop(first);
        assert!(peers.take(a, 2).is_some());
        assert!(peers.take(a, 3).is_some());
    }

    #[test]
    fn addresses_that_left_are_forgotten() {
        let mut peers = Peers::default();
        let stays = peers.take(IpAddr::from([1, 1, 1, 1]), 1).unwrap();
        for n in 0..10 * FORGET_AFTER as u32 {
            assert!(peers.take(IpAddr::from((n + (10 << 24)).to_be_bytes()), 1).is_some());
        }
        assert!(peers.places.len() <= 2 * FORGET_AFTER, "{}", peers.places.len());
        assert!(peers.take(IpAddr::from([1, 1, 1, 1]), 1).is_none(), "still held");
        drop(stays);
    }

    #[test]
    fn a_seconds_worth_is_taken_at_once_and_then_one_after_another() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let moments: Vec<_> = (0..6).map(|_| pace.next(start, 4) - start).collect();
        let ms = |n| Duration::from_millis(n);
        assert_eq!(moments, [ms(0), ms(0), ms(0), ms(250), ms(500), ms(750)]);
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.next(later, 4), later, "what was not used is not kept for longer");
        assert_eq!(Pace::default().next(start, usize::MAX), start);
    }
}
