//! Responses on their way into the socket: their slices in order, and which request each end belongs to.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::rt::{Charge, Ticks};
use crate::shard::timing::{Timed, Timing};

#[derive(Default)]
pub struct Outbox {
    slices: VecDeque<Bytes>,
    unsent: usize,
    /// Bytes ever queued and ever sent.
    queued: u64,
    sent: u64,
    /// Requests whose answer ends where `queued` stood, each with its answer's memory.
    ends: VecDeque<(u64, Timed, Charge)>,
}

impl Outbox {
    /// Queues an answer, of which `memory` becomes the charge, and returns its length.
    pub fn push(&mut self, slices: Vec<Bytes>, mut memory: Charge, request: Timed) -> usize {
        let length = slices.iter().map(Bytes::len).sum();
        self.unsent += length;
        self.queued += length as u64;
        self.slices.extend(slices);
        memory.resize(length);
        self.ends.push_back((self.queued, request, memory));
        length
    }

    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// What is to be sent, in order.
    pub fn slices(&self) -> impl Iterator<Item = &Bytes> + Clone {
        self.slices.iter()
    }

    /// So many bytes are in the socket.
    pub fn sent(&mut self, mut bytes: usize, timing: &Timing) {
        self.unsent -= bytes;
        self.sent += bytes as u64;
        while bytes > 0 {
            let front = self.slices.front_mut().expect("what was sent was queued");
            if bytes < front.len() {
                front.advance(bytes);
                break;
            }
            bytes -= front.len();
            self.slices.pop_front();
        }
        if self.ends.front().is_some_and(|(end, ..)| *end <= self.sent) {
            let now = Ticks::now();
            while let Some((_, request, _memory)) = self.ends.pop_front_if(|(end, ..)| *end <= self.sent) {
                timing.finished(&request, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::Budget;

    #[test]
    fn a_request_is_finished_when_its_last_byte_is_sent() {
        let now = Ticks::now();
        let peer = ([127, 0, 0, 1], 1).into();
        let request = |api_key| Timed::new(api_key, peer, 1, [now; 3]);
        let (mut outbox, timing, budget) = (Outbox::default(), Timing::new(), Budget::new(1000));
        outbox.push(
            vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")],
            budget.charge(900),
            request(3),
        );
        outbox.push(vec![Bytes::from_static(b"fg")], budget.charge(0), request(18));
        assert_eq!(budget.used(), 7);
        assert_eq!((outbox.unsent(), outbox.slices().count()), (7, 3));
        let finished =
            |timing: &Timing| timing.snapshot().apis.iter().map(|(key, _)| *key).collect::<Vec<_>>();
        outbox.sent(4, &timing);
        assert_eq!((outbox.unsent(), finished(&timing)), (3, vec![]));
        assert_eq!(outbox.slices().next().unwrap(), "e");
        outbox.sent(2, &timing);
        assert_eq!((finished(&timing), budget.used()), (vec![3], 2));
        outbox.sent(1, &timing);
        assert!(outbox.is_empty() && finished(&timing) == [3, 18] && budget.used() == 0);
    }
}
