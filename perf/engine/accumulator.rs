//! A producer's records on their way: a queue for each partition, batches taken from them, requests in flight.

use std::collections::VecDeque;

use super::plan::Plan;
use crate::Outcome;
use crate::load::batch::{Builder, Position, RECORD_OVERHEAD};
use crate::load::draw::{Draft, Drawer};
use crate::net::frames;
use crate::net::lane::{Frame, Lane};

#[derive(Default)]
pub struct Queue {
    pub drafts: VecDeque<Draft>,
    pub bytes: usize,
    pub position: Position,
}

/// A request that waits for its answer.
#[derive(Default)]
pub struct Sent {
    /// Partitions and their records.
    pub parts: Vec<(u32, u32)>,
    /// When each record was meant to be sent.
    pub times: Vec<u64>,
    pub bytes: u64,
}

pub struct Producer {
    pub lane: Lane,
    pub index: u32,
    /// By partition.
    pub queues: Vec<Queue>,
    /// Partitions with something to send, longest waiting first.
    pub active: VecDeque<u32>,
    /// Queues that hold a full batch.
    pub full: usize,
    pub in_flight: VecDeque<Sent>,
    pub spare: Vec<Sent>,
    /// It stands in the heap of those that linger.
    pub timed: bool,
}

/// What a batch may hold.
pub struct Limits {
    pub linger: u64,
    pub batch_size: usize,
    pub batch_records: usize,
    pub max_request: usize,
    pub in_flight: usize,
    pub acks: i16,
}

pub fn cost(draft: Draft, key: usize) -> usize {
    draft.size as usize + key + RECORD_OVERHEAD
}

impl Queue {
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.bytes >= limits.batch_size || self.drafts.len() >= limits.batch_records
    }
}

impl Producer {
    pub fn new(lane: Lane, index: u32, partitions: usize) -> Producer {
        Producer {
            lane,
            index,
            queues: std::iter::repeat_with(Queue::default).take(partitions).collect(),
            active: VecDeque::new(),
            full: 0,
            in_flight: VecDeque::new(),
            spare: Vec::new(),
            timed: false,
        }
    }

    pub fn is_done(&self) -> bool {
        self.in_flight.is_empty() && self.lane.unsent() == 0
    }

    pub fn is_ready(&self, now: u64, limits: &Limits) -> bool {
        let lingered = |partition: &u32| {
            let first = self.queues[*partition as usize].drafts.front();
            first.is_some_and(|d| d.intended + limits.linger <= now)
        };
        self.full > 0 || self.active.front().is_some_and(lingered)
    }

    /// Takes a batch of each queue, as many as fit a request, and queues the request.
    pub fn build(
        &mut self,
        plan: &Plan,
        limits: &Limits,
        builder: &mut Builder,
        drawer: &Drawer,
    ) -> Outcome<Sent> {
        let mut sent = self.spare.pop().unwrap_or_default();
        sent.parts.clear();
        sent.times.clear();
        let key = drawer.keys().map_or(0, |k| k.width());
        let mut out = self.lane.buffer();
        frames::produce_start(&mut out, &plan.target.topic, limits.acks);
        let before = out.len();
        for _ in 0..self.active.len() {
            if out.len() >= limits.max_request && !sent.parts.is_empty() {
                break;
            }
            let Some(partition) = self.active.pop_front() else { break };
            let queue = &mut self.queues[partition as usize];
            let was_full = queue.is_full(limits);
            let (mut count, mut bytes) = (0, 0);
            for draft in &queue.drafts {
                let more = bytes + cost(*draft, key);
                if count > 0 && (more > limits.batch_size || count == limits.batch_records) {
                    break;
                }
                (count, bytes) = (count + 1, more);
            }
            out.extend_from_slice(&partition.to_be_bytes());
            let size_at = out.len();
            out.extend_from_slice(&[0; 4]);
            let origin = plan.origin(self.index, queue.position);
            queue.position =
                builder.append(&mut out, drawer.keys(), origin, queue.drafts.range(..count).copied())?;
            let size = (out.len() - size_at - 4) as i32;
            out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
            queue.bytes -= bytes;
            sent.parts.push((partition, count as u32));
            sent.times.extend(queue.drafts.drain(..count).map(|d| d.intended));
            self.full -= usize::from(was_full && !queue.is_full(limits));
            if !queue.drafts.is_empty() {
                self.active.push_back(partition);
            }
        }
        let at = frames::produce_count_at(&plan.target.topic);
        out[at..at + 4].copy_from_slice(&(sent.parts.len() as i32).to_be_bytes());
        frames::finish(&mut out);
        sent.bytes = (out.len() - before) as u64;
        self.lane.push(Frame::whole(out), limits.acks != 0);
        Ok(sent)
    }
}
