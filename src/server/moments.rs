//! When what a connection received came, and when its requests start: the clock is read once for all that one step does,
//! because reading it for each would be felt.

use std::time::Duration;

use crate::rt::Ticks;

pub(super) struct Moments {
    /// The first byte of the input came, and the last.
    begun: Ticks,
    received: Ticks,
    /// The last request started.
    active: Ticks,
    /// The time, while nothing that takes long was done since the clock was read.
    just_now: Option<Ticks>,
}

impl Moments {
    pub fn new() -> Self {
        let now = Ticks::now();
        Self { begun: now, received: now, active: now, just_now: None }
    }

    /// Bytes came, behind others or not.
    pub fn receive(&mut self, behind_others: bool) {
        self.received = Ticks::now();
        self.just_now = Some(self.received);
        if !behind_others {
            self.begun = self.received;
        }
    }

    /// A request starts: its first byte, its last byte, its start.
    pub fn start(&mut self) -> [Ticks; 3] {
        let begun = self.begun;
        self.active = self.just_now.take().unwrap_or_else(Ticks::now);
        // What is left of the input came with the last receive.
        self.begun = self.received;
        [begun, self.received, self.active]
    }

    /// A request was handed over.
    pub fn hand_over(&mut self, at: Ticks) {
        self.just_now = Some(at);
    }

    /// Something else took its time.
    pub fn pass(&mut self) {
        self.just_now = None;
    }

    /// Since the last request.
    pub fn quiet(&self) -> Duration {
        Duration::from_nanos(Ticks::now().since(self.active))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_receive_start_one_after_the_other() {
        let mut moments = Moments::new();
        moments.receive(false);
        let [begun, whole, started] = moments.start();
        assert!(begun == whole && whole == started);
        let handed_over = Ticks::now();
        moments.hand_over(handed_over);
        assert_eq!(moments.start(), [begun, whole, handed_over]);
    }

    #[test]
    fn what_came_in_pieces_began_with_the_first_and_waits_are_seen() {
        let mut moments = Moments::new();
        moments.receive(false);
        std::thread::sleep(Duration::from_millis(1));
        moments.receive(true);
        std::thread::sleep(Duration::from_millis(1));
        moments.pass();
        let [begun, whole, started] = moments.start();
        assert!(whole.since(begun) >= 1_000_000 && started.since(whole) >= 1_000_000);
        assert_eq!(moments.start()[0], whole);
    }
}
