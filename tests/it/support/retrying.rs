//! A producer of raw frames that outlives its broker: requests are in flight, and each new connection begins with
//! those that nobody has answered.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ProduceRequest;

use super::calls::code;
use super::{Rng, Wire, wire};

/// Requests in flight: as many batches as a broker remembers of a producer.
const WINDOW: usize = 5;
/// Answers after which a client tries again.
pub const RETRIABLE: &[i16] = &[code::UNKNOWN_TOPIC_OR_PARTITION, code::LEADER_NOT_AVAILABLE, 6, 7, 19, 20];

/// A Produce request (version 9) of one batch, and what its maker wants to know of it when it is acknowledged.
pub struct Sent<T> {
    pub partition: i32,
    pub what: T,
    pub frame: Bytes,
}

/// What a producer sends, and who is told what was acknowledged.
pub trait Load {
    type What;
    /// The longest pause after a batch.
    const PAUSE: Duration;

    fn make(&mut self, rng: &mut Rng) -> Sent<Self::What>;

    fn acknowledged(&mut self, partition: i32, base_offset: i64, what: Self::What);

    /// Whether a batch may be sent twice; otherwise what was under way when the broker died stays unknown.
    fn repeats(&self) -> bool {
        true
    }
}

/// Until told to stop and all is acknowledged.
pub fn run<L: Load>(mut load: L, addr: SocketAddr, seed: u64, stop: &AtomicBool) {
    let (mut rng, mut in_flight) = (Rng(seed), VecDeque::new());
    while !stop.load(Ordering::Relaxed) || !in_flight.is_empty() {
        if let Ok(mut wire) = Wire::try_connect(addr) {
            converse(&mut load, &mut wire, &mut in_flight, &mut rng, stop);
            if !load.repeats() {
                in_flight.clear();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends and takes answers until the connection breaks or the work is done.
fn converse<L: Load>(
    load: &mut L,
    wire: &mut Wire,
    in_flight: &mut VecDeque<Sent<L::What>>,
    rng: &mut Rng,
    stop: &AtomicBool,
) {
    if !in_flight.iter().all(|sent| wire.send_rude(&sent.frame)) {
        return;
    }
    loop {
        while in_flight.len() < WINDOW && !stop.load(Ordering::Relaxed) {
            let sent = load.make(rng);
            let ok = wire.send_rude(&sent.frame);
            in_flight.push_back(sent);
            if !ok {
                return;
            }
            std::thread::sleep(Duration::from_micros(rng.below(L::PAUSE.as_micros() as u64)));
        }
        if in_flight.is_empty() {
            return;
        }
        let Some(reply) = wire.receive_frame() else { return };
        let reply = wire::decode_reply::<ProduceRequest>(9, 1, reply);
        let answer = &reply.responses[0].partition_responses[0];
        match answer.error_code {
            code::NONE => {
                let sent = in_flight.pop_front().expect("one is in flight");
                load.acknowledged(sent.partition, answer.base_offset, sent.what);
            }
            error if RETRIABLE.contains(&error) => return,
            error => panic!("error {error} to a batch for partition {}", answer.index),
        }
    }
}
