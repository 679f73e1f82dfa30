//! What brokers and clients send each other, and what becomes of it on the way: one connection each way between two nodes,
//! which keeps the order until it breaks.

use std::collections::BTreeMap;

use weir::controller::{ControlReply, ControlRequest};
use weir::model::{BrokerEpoch, Offset, PartitionId};
use weir::partition::follower::{Answer, Asked};

use super::disk::Record;
use super::random::Random;

/// A process that asked the controller something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub node: usize,
    pub life: u64,
    /// 0: nobody waits for the answer.
    pub number: u64,
}

#[derive(Clone, Debug)]
pub enum Message {
    Ask(Asker, ControlRequest),
    Told(Asker, ControlReply),
    Fetch { id: PartitionId, asked: Asked, from: usize, broker: BrokerEpoch, waited: bool },
    Batches { id: PartitionId, asked: Asked, records: Vec<Record>, high_watermark: Offset, log_start: Offset },
    Other { id: PartitionId, asked: Asked, answer: Answer<'static> },
    Produce { client: usize, request: u64, id: PartitionId, value: u64, all: bool },
    Produced { client: usize, request: u64, outcome: Option<(Offset, Record)> },
}

#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub from: usize,
    pub to: usize,
    connection: u64,
}

#[derive(Default)]
pub struct Net {
    /// By sender and receiver: which connection it is, and when its last message arrives.
    connections: BTreeMap<(usize, usize), (u64, i64)>,
    made: u64,
    /// Nothing arrives that way.
    cut: BTreeMap<(usize, usize), ()>,
    slow: BTreeMap<(usize, usize), i64>,
}

impl Net {
    /// When a message arrives that is sent now.
    pub fn send(&mut self, from: usize, to: usize, now: i64, random: &mut Random) -> (Sent, i64) {
        let made = &mut self.made;
        let (connection, last) = self.connections.entry((from, to)).or_insert_with(|| {
            *made += 1;
            (*made, now)
        });
        let slow = self.slow.get(&(from, to)).copied().unwrap_or(0);
        let latency = if random.one_in(100) { random.within(20..=300) } else { random.within(0..=3) };
        let at = (now + latency + slow).max(*last);
        *last = at;
        (Sent { from, to, connection: *connection }, at)
    }

    /// Whether a message arrives: it is lost where the way is cut, and with a connection that broke, or half of the time arrives
    /// all the same.
    pub fn arrives(&self, sent: Sent, random: &mut Random) -> bool {
        let open = self.connections.get(&(sent.from, sent.to)).is_some_and(|(c, _)| *c == sent.connection);
        !self.cut.contains_key(&(sent.from, sent.to)) && (open || random.one_in(2))
    }

    pub fn reaches(&self, from: usize, to: usize) -> bool {
        from == to || !self.cut.contains_key(&(from, to))
    }

    pub fn reach_each_other(&self, one: usize, other: usize) -> bool {
        self.reaches(one, other) && self.reaches(other, one)
    }

    pub fn break_connection(&mut self, from: usize, to: usize) {
        self.connections.remove(&(from, to));
    }

    /// Everything that goes to or comes from a node.
    pub fn forget(&mut self, node: usize) {
        self.connections.retain(|(from, to), _| *from != node && *to != node);
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to), ());
    }

    pub fn slow_down(&mut self, from: usize, to: usize, ms: i64) {
        self.slow.insert((from, to), ms);
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }
}
