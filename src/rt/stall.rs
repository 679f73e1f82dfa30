//! Stalls: times in which one piece of work kept a shard from everything else for too long, and which it was.
//!
//! Whoever begins something that may take long says so; the time until the next such call is charged to it. The pump
//! says when it has its turn and when it sleeps, so that sleeping is charged to nobody. A call costs one read of the
//! processor's counter.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::Ticks;

/// From here on a turn counts as a stall.
pub const STALL: Duration = Duration::from_millis(10);
/// Kinds of work that are told apart; the rest share the last place.
const KINDS: usize = 64;

/// One kind of work and how often it stalled its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalls {
    pub what: &'static str,
    pub count: u64,
    pub total: Duration,
    pub longest: Duration,
}

struct Watch {
    what: Cell<&'static str>,
    since: Cell<Option<Ticks>>,
    seen: RefCell<Vec<Stalls>>,
}

thread_local! {
    static WATCH: Watch =
        const { Watch { what: Cell::new("start"), since: Cell::new(None), seen: RefCell::new(Vec::new()) } };
}

/// From now on this thread does this. Says nothing while the pump sleeps: what runs then is the park's own business.
#[inline]
pub fn running(what: &'static str) {
    WATCH.with(|watch| {
        if let Some(since) = watch.since.get() {
            watch.turn(since, what);
        }
    });
}

/// The pump has its turn, after a sleep or after others.
#[inline]
pub(super) fn awake() {
    WATCH.with(|watch| match watch.since.get() {
        Some(since) => watch.turn(since, "pump"),
        None => watch.begin("pump"),
    });
}

/// From now on this thread sleeps, until the next call of [`awake`].
#[inline]
pub(super) fn asleep() {
    running("pump");
    WATCH.with(|watch| watch.since.set(None));
}

/// What stalled this thread so far.
pub fn stalls() -> Vec<Stalls> {
    WATCH.with(|watch| watch.seen.borrow().clone())
}

impl Watch {
    fn begin(&self, what: &'static str) {
        self.since.set(Some(Ticks::now()));
        self.what.set(what);
    }

    fn turn(&self, since: Ticks, what: &'static str) {
        let now = Ticks::now();
        let nanos = now.since(since);
        if nanos >= STALL.as_nanos() as u64 {
            self.count(Duration::from_nanos(nanos));
        }
        self.since.set(Some(now));
        self.what.set(what);
    }

    #[cold]
    fn count(&self, took: Duration) {
        let what = self.what.get();
        let mut seen = self.seen.borrow_mut();
        let full = seen.len() >= KINDS;
        let at = seen.iter().position(|s| s.what == what).or(full.then_some(KINDS - 1));
        match at {
            Some(at) => {
                let s = &mut seen[at];
                (s.count, s.total, s.longest) = (s.count + 1, s.total + took, s.longest.max(took));
            }
            None => seen.push(Stalls { what, count: 1, total: took, longest: took }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_turns_count_and_sleep_never_does() {
        let counted = std::thread::spawn(|| {
            running("before the first turn");
            awake();
            running("quick");
            running("slow");
            std::thread::sleep(STALL * 2);
            running("other");
            asleep();
            running("unwatched");
            std::thread::sleep(STALL * 2);
            awake();
            running("slow");
            std::thread::sleep(STALL * 3);
            asleep();
            stalls()
        });
        let counted = counted.join().unwrap();
        assert_eq!(counted.len(), 1);
        let s = &counted[0];
        assert_eq!((s.what, s.count), ("slow", 2));
        assert!(s.longest >= STALL * 3 && s.total >= STALL * 5);
    }
}
