//! The world: what happens, in the order of a clock that nobody in it can see.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use weir::metadata::Image;
use weir::metadata::records::Record as Change;
use weir::model::{PartitionId, TopicId};

use super::check::History;
use super::clients::Client;
use super::faults::Swarm;
use super::net::{Message, Net, Sent};
use super::node::Node;
use super::quorum::Quorum;
use super::random::Random;

/// `replica.lag.time.max.ms` in here.
pub const LAG_MAX_MS: i64 = 3_000;
/// How often the quorum's leader tells the others how far they may apply.
const QUORUM_BEAT_MS: i64 = 100;

#[derive(Clone, Debug)]
pub enum Event {
    Arrive(Sent, Message),
    /// The quorum's leader is heard by those that it reaches.
    QuorumBeat,
    QuorumCommit(i32),
    /// A node hears of commits up to a place in the list.
    Learn {
        node: usize,
        life: u64,
        upto: usize,
    },
    /// A node's shards apply what it heard.
    Follow {
        node: usize,
        life: u64,
    },
    /// Twice a second: heartbeats, the controller's clock, leaders' clocks, requests without an answer.
    Tick {
        node: usize,
        life: u64,
    },
    Sync {
        node: usize,
        life: u64,
        entries: BTreeMap<PartitionId, usize>,
    },
    Fetch {
        node: usize,
        life: u64,
        id: PartitionId,
    },
    Client(usize),
    Operator,
    Fault,
    Resume {
        node: usize,
        life: u64,
    },
    Start(usize),
}

struct Due {
    at: i64,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub struct World {
    pub seed: u64,
    pub random: Random,
    pub now: i64,
    queue: BinaryHeap<Reverse<Due>>,
    numbers: u64,
    pub events: u64,
    pub quorum: Quorum,
    /// As of the last commit, whoever knows of it.
    pub image: Arc<Image>,
    pub nodes: Vec<Node>,
    pub net: Net,
    pub clients: Vec<Client>,
    pub history: History,
    pub swarm: Swarm,
    /// Nothing breaks any more, and nobody wants anything.
    pub calm: bool,
    pub trace: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let swarm = Swarm::draw(&mut random);
        let cluster = [Change::Cluster { id: "sim".into() }];
        let (image, _) = Image::empty().with(&cluster).expect("nothing contradicts it");
        let image = Arc::new(image);
        let nodes = (0..swarm.brokers).map(|at| Node::new(at, &image, &swarm)).collect();
        let clients = (0..swarm.clients).map(|_| Client::default()).collect();
        let mut world = Self {
            seed,
            now: 0,
            queue: BinaryHeap::new(),
            numbers: 0,
            events: 0,
            quorum: Quorum::new(image.version, swarm.voters),
            image,
            nodes,
            net: Net::default(),
            clients,
            history: History::default(),
            calm: false,
            trace: std::env::var_os("WEIR_TRACE").is_some(),
            random,
            swarm,
        };
        world.after(0, Event::QuorumBeat);
        for node in 0..world.nodes.len() {
            let wait = world.random.within(0..=500);
            world.after(wait, Event::Start(node));
        }
        (0..world.clients.len()).for_each(|client| world.after(200, Event::Client(client)));
        world.after(300, Event::Operator);
        world.after(2_000, Event::Fault);
        world
    }

    pub fn after(&mut self, ms: i64, event: Event) {
        self.numbers += 1;
        let due = Due { at: self.now + ms.max(0), number: self.numbers, event };
        self.queue.push(Reverse(due));
    }

    pub fn send(&mut self, from: usize, to: usize, message: Message) {
        let (sent, at) = self.net.send(from, to, self.now, &mut self.random);
        self.after(at - self.now, Event::Arrive(sent, message));
    }

    pub fn random_id(&mut self) -> TopicId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.random.next().to_le_bytes());
        bytes[15] = 1;
        TopicId(bytes)
    }

    /// Clients come after the nodes.
    pub fn client_at(&self, client: usize) -> usize {
        self.nodes.len() + client
    }

    /// Goes on until a time, or the end of a seed's events.
    pub fn run_until(&mut self, time: i64, most: u64) {
        while self.events < most
            && let Some(Reverse(due)) = self.queue.pop_if_before(time)
        {
            self.now = due.at;
            self.events += 1;
            self.step(due.event);
            self.check();
        }
        if self.events < most {
            self.now = time;
        }
    }

    fn step(&mut self, event: Event) {
        if self.trace {
            println!("{} {} {event:?}", self.seed, self.now);
        }
        // A process that was stopped goes on with everything that waited for it.
        if let Some((node, life)) = event.of()
            && self.nodes[node].life == life
            && let Some(until) = self.nodes[node].paused_until
            && !matches!(event, Event::Resume { .. })
        {
            return self.after(until - self.now + 1, event);
        }
        match event {
            Event::Arrive(sent, message) => self.arrive(sent, message),
            Event::QuorumBeat => {
                self.quorum_beat();
                self.after(QUORUM_BEAT_MS, Event::QuorumBeat);
            }
            Event::QuorumCommit(epoch) => self.quorum_commit(epoch),
            Event::Learn { node, life, upto } if self.lives(node, life) => self.learn(node, upto),
            Event::Follow { node, life } if self.lives(node, life) => self.follow(node),
            Event::Tick { node, life } if self.lives(node, life) => self.tick(node),
            Event::Sync { node, life, entries } if self.lives(node, life) => self.synced(node, &entries),
            Event::Fetch { node, life, id } if self.lives(node, life) => self.fetch(node, id),
            Event::Client(client) => self.client(client),
            Event::Operator => self.operate(),
            Event::Fault => self.fault(),
            Event::Resume { node, life } if self.lives(node, life) => self.nodes[node].paused_until = None,
            Event::Start(node) => self.start(node),
            // Of a process that has ended.
            _ => {}
        }
    }

    pub fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].up && self.nodes[node].life == life
    }

    fn arrive(&mut self, sent: Sent, message: Message) {
        let nodes = self.nodes.len();
        if sent.to < nodes {
            if !self.nodes[sent.to].up {
                // Refused at once: whoever sent it connects again.
                return self.net.break_connection(sent.from, sent.to);
            }
            if let Some(until) = self.nodes[sent.to].paused_until {
                let wait = until - self.now + 1;
                return self.after(wait, Event::Arrive(sent, message));
            }
        }
        if !self.net.arrives(sent, &mut self.random) {
            return;
        }
        let at = sent.to;
        match message {
            Message::Ask(asker, request) => self.asked(at, asker, request),
            Message::Told(asker, reply) => self.told(at, asker, reply),
            Message::Fetch { id, asked, from, broker, waited } => {
                self.serve(at, id, asked, (from, broker), waited);
            }
            Message::Batches { id, asked, records, high_watermark, log_start } => {
                self.take_batches(at, id, &asked, &records, (high_watermark, log_start));
            }
            Message::Other { id, asked, answer } => self.take(at, id, &asked, &answer, &[]),
            Message::Produce { client, request, id, value, all } => {
                self.produce(at, (client, request), id, value, all);
            }
            Message::Produced { client, request, outcome } => self.produced(client, request, outcome),
        }
    }
}

impl Event {
    fn of(&self) -> Option<(usize, u64)> {
        match *self {
            Self::Learn { node, life, .. }
            | Self::Follow { node, life }
            | Self::Tick { node, life }
            | Self::Sync { node, life, .. }
            | Self::Fetch { node, life, .. }
            | Self::Resume { node, life } => Some((node, life)),
            _ => None,
        }
    }
}

trait PopIfBefore {
    fn pop_if_before(&mut self, time: i64) -> Option<Reverse<Due>>;
}

impl PopIfBefore for BinaryHeap<Reverse<Due>> {
    fn pop_if_before(&mut self, time: i64) -> Option<Reverse<Due>> {
        if self.peek()?.0.at <= time { self.pop() } else { None }
    }
}
