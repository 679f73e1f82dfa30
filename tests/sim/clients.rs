//! Producers: each has one record under way, looks up who leads, and believes nothing that it was not told.

use weir::model::{Offset, PartitionId};

use super::disk::{Entry, Record};
use super::net::Message;
use super::replica::Machine;
use super::world::{Event, World};

const WAIT_MS: i64 = 3_000;

#[derive(Default)]
pub struct Client {
    /// The request under way, and until when it waits.
    waits: Option<(u64, i64)>,
    requests: u64,
}

impl World {
    pub fn client(&mut self, client: usize) {
        let next = self.random.within(1..=self.swarm.think_ms);
        self.after(next, Event::Client(client));
        if self.calm || self.clients[client].waits.is_some_and(|(_, until)| self.now < until) {
            return;
        }
        // Whoever it asks for metadata tells what he knows.
        let up: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].up).collect();
        let Some(asked) = self.random.pick(&up) else { return };
        let image = self.nodes[asked].image.clone();
        let ids: Vec<PartitionId> = image.topics().flat_map(|topic| topic.partition_ids()).collect();
        let Some(id) = self.random.pick(&ids) else { return };
        let Some(leader) = image.partition(id).and_then(|partition| partition.leader) else { return };
        self.clients[client].requests += 1;
        let request = self.clients[client].requests;
        self.clients[client].waits = Some((request, self.now + WAIT_MS));
        let (value, all) = (self.history.value(), !self.random.one_in(4));
        let from = self.client_at(client);
        self.send(from, (leader - 1) as usize, Message::Produce { client, request, id, value, all });
    }

    pub fn produce(&mut self, at: usize, who: (usize, u64), id: PartitionId, value: u64, all: bool) {
        let node = &mut self.nodes[at];
        let (Some(part), Some(disk)) = (node.parts.get_mut(&id), node.disks.get_mut(&id)) else {
            return self.answer_producer(at, who, None);
        };
        let Machine::Leader(leader) = &part.machine else { return self.answer_producer(at, who, None) };
        if all && !leader.has_enough() {
            return self.answer_producer(at, who, None);
        }
        let record = Record { epoch: leader.epoch(), value };
        let offset = disk.log.end();
        disk.write(Entry::Append(record));
        part.offsets.append(disk.log.end());
        if all {
            part.waiting.push((offset.0, record, who));
        } else {
            self.answer_producer(at, who, Some((offset, record)));
        }
        self.local(at, id);
        self.begin_sync(at);
    }

    pub fn answer_producer(
        &mut self,
        at: usize,
        (client, request): (usize, u64),
        outcome: Option<(Offset, Record)>,
    ) {
        let to = self.client_at(client);
        self.send(at, to, Message::Produced { client, request, outcome });
    }

    pub fn produced(&mut self, client: usize, request: u64, outcome: Option<(Offset, Record)>) {
        if self.clients[client].waits.is_some_and(|(waits, _)| waits == request) {
            self.clients[client].waits = None;
            self.history.answered += u64::from(outcome.is_some());
        }
    }
}
