//! The closed loop: a fixed number of requests in flight on every connection, one batch of one partition in each.
//!
//! Batches are the same few again and again, built before the run, so that the generator costs next to nothing;
//! or each is built when it is sent, marks and all, when somebody is to check what arrives.

use std::collections::VecDeque;

use bytes::Bytes;
use mio::{Events, Poll};

use super::meter::{Meter, histogram};
use super::plan::{Plan, Produced};
use crate::Outcome;
use crate::load::batch::{Builder, Origin, Position, RECORD_OVERHEAD};
use crate::load::draw::{Draft, Drawer};
use crate::net::frames;
use crate::net::lane::{Frame, HEAD, Lane, Piece};
use crate::net::wait::wait;
use crate::process;

/// Different batches that are built beforehand, and the bytes that they may take.
const VARIANTS: usize = 8;
const VARIANT_BYTES: usize = 64 << 20;
/// Requests without acknowledgement that a connection may send before the others have their turn.
const TURN: usize = 64;
const PATIENCE: u64 = 30_000_000_000;

/// A request that is sent again and again: only its batch is shared between partitions.
struct Prepared {
    head: [u8; HEAD],
    middle: Bytes,
    batch: Bytes,
    records: u32,
}

/// Where a connection's requests come from.
enum Source {
    /// By partition, its variants.
    Prepared(Vec<Vec<Prepared>>),
    /// Drawn and built one by one; the positions by producer and partition.
    Fresh { builder: Box<Builder>, drawer: Box<Drawer>, positions: Vec<Vec<Position>>, drafts: Vec<Draft> },
}

struct InFlight {
    at: u64,
    records: u64,
    bytes: u64,
}

struct Connection {
    lane: Lane,
    producer: usize,
    /// The partitions that its broker leads, in the order in which it takes them.
    partitions: Vec<u32>,
    next: usize,
    in_flight: VecDeque<InFlight>,
    /// None while there is no end to it.
    left: Option<usize>,
}

struct Thread<'a> {
    plan: &'a Plan,
    source: Source,
    connections: Vec<Connection>,
    meter: Meter,
    acks: i16,
}

pub fn run(plan: &Plan, thread: usize, meter: Meter) -> Outcome<Produced> {
    drive(plan, thread, meter, None)
}

/// Produces one batch to every partition, so that no partition's first batch, which may create files, falls into
/// what is counted.
pub fn touch(plan: &Plan, meter: Meter) -> Outcome<()> {
    let produced = drive(plan, 0, meter, Some(1))?;
    match produced.errors.first_key_value() {
        None => Ok(()),
        Some((code, _)) => Err(format!("the broker answered {}", crate::report::error_name(*code))),
    }
}

/// `rounds` limits how often the first producer's connections go through their partitions, and leaves the others out.
fn drive(plan: &Plan, thread: usize, meter: Meter, rounds: Option<usize>) -> Outcome<Produced> {
    let mut poll = Poll::new().map_err(|e| format!("epoll: {e}"))?;
    let mut t = Thread::new(plan, thread, meter, &poll, rounds)?;
    let mut events = Events::with_capacity(t.connections.len().clamp(1, 4096));
    for index in 0..t.connections.len() {
        for _ in 0..plan.workload.producer.in_flight {
            t.send_next(index, plan.clock.now())?;
        }
        t.connections[index].lane.flush()?;
    }
    let mut heard = plan.clock.now();
    while !plan.shared.aborted() {
        let now = plan.clock.now();
        t.meter.tick(now);
        if t.connections.iter().all(|c| c.in_flight.is_empty() && c.lane.unsent() == 0) {
            break;
        }
        let busy = t.count_sent()?;
        wait(&mut poll, &mut events, if busy { 0 } else { 100_000_000 })?;
        if busy || !events.is_empty() {
            heard = now;
        } else if now > heard + PATIENCE {
            return Err(format!("the broker answered nothing for {} s", PATIENCE / 1_000_000_000));
        }
        for event in &events {
            t.serve(event.token().0, event.is_readable())?;
        }
    }
    Ok(Produced {
        total: t.meter.total,
        errors: t.meter.errors,
        planned: 0,
        lag: histogram(),
        acknowledged: t.meter.ever,
        overloaded: false,
        cpu: process::thread_cpu_seconds(),
    })
}

impl<'a> Thread<'a> {
    fn new(plan: &'a Plan, thread: usize, meter: Meter, poll: &Poll, rounds: Option<usize>) -> Outcome<Self> {
        let spec = &plan.workload.producer;
        let mut connections = Vec::new();
        for producer in Plan::share(spec.count, spec.threads, thread) {
            if rounds.is_some() && producer > 0 {
                break;
            }
            for leader in 0..plan.target.leaders.len() {
                let leads = |p: &u32| usize::from(plan.target.leader_of[*p as usize]) == leader;
                let partitions: Vec<u32> = (0..plan.target.leader_of.len() as u32).filter(leads).collect();
                let lane = Lane::new(plan.target.connect(leader)?, poll.registry(), connections.len())?;
                let left = rounds.map(|r| r * partitions.len());
                let in_flight = VecDeque::new();
                connections.push(Connection { lane, producer, partitions, next: producer, in_flight, left });
            }
        }
        let source = match spec.prebuilt {
            true => Source::Prepared(prepare(plan)?),
            false => Source::Fresh {
                builder: Box::new(plan.builder(3000 + thread as u64)),
                drawer: Box::new(plan.drawer(4000 + thread as u64)),
                positions: vec![vec![Position::default(); plan.target.leader_of.len()]; spec.count],
                drafts: Vec::new(),
            },
        };
        Ok(Thread { plan, source, connections, meter, acks: spec.acks.code() })
    }

    fn send_next(&mut self, index: usize, now: u64) -> Outcome<()> {
        let connection = &mut self.connections[index];
        if now >= self.plan.window.1 || connection.left == Some(0) {
            return Ok(());
        }
        connection.left = connection.left.map(|left| left - 1);
        let round = connection.next;
        connection.next += 1;
        let partition = connection.partitions[round % connection.partitions.len()];
        let (frame, records, bytes) = match &mut self.source {
            Source::Prepared(all) => {
                let variants = &all[partition as usize];
                let p = &variants[round / connection.partitions.len() % variants.len()];
                let frame =
                    Frame { head: p.head, middle: Piece::Shared(p.middle.clone()), body: p.batch.clone() };
                (frame, u64::from(p.records), p.batch.len() as u64)
            }
            Source::Fresh { builder, drawer, positions, drafts } => {
                draw(self.plan, drawer, drafts, now);
                let position = &mut positions[connection.producer][partition as usize];
                let origin = self.plan.origin(connection.producer as u32, *position);
                let mut batch = connection.lane.buffer();
                *position = builder.append(&mut batch, drawer.keys(), origin, drafts.iter().copied())?;
                let bytes = batch.len();
                let (head, middle) =
                    frames::produce_one(&self.plan.target.topic, self.acks, partition as i32, bytes);
                let frame = Frame { head, middle: Piece::Owned(middle), body: Bytes::from(batch) };
                (frame, drafts.len() as u64, bytes as u64)
            }
        };
        connection.lane.push(frame, self.acks != 0);
        connection.in_flight.push_back(InFlight { at: now, records, bytes });
        Ok(())
    }

    fn serve(&mut self, index: usize, readable: bool) -> Outcome<()> {
        self.connections[index].lane.flush()?;
        let mut more = readable;
        while more {
            more = self.connections[index].lane.receive()?;
            while let Some(range) = self.connections[index].lane.answer()? {
                let now = self.plan.clock.now();
                let connection = &mut self.connections[index];
                let done = connection.in_flight.pop_front().ok_or("an answer that nothing asked for")?;
                let mut error = 0;
                frames::produce_answer(connection.lane.bytes(range), |_, code, _| error = code)?;
                match error {
                    0 => self.done(&done, now),
                    code => self.meter.error(code),
                }
                self.send_next(index, now)?;
            }
            // An answer that frees a place should be followed by the next request before more is read.
            self.connections[index].lane.flush()?;
        }
        Ok(())
    }

    /// Without acknowledgements a request is done when the kernel has it. Returns whether a connection could go on
    /// at once: no event comes while its socket has room.
    fn count_sent(&mut self) -> Outcome<bool> {
        let mut busy = false;
        for index in 0..if self.acks == 0 { self.connections.len() } else { 0 } {
            for _ in 0..TURN {
                let now = self.plan.clock.now();
                let connection = &mut self.connections[index];
                if connection.in_flight.len() <= connection.lane.unsent() {
                    break;
                }
                if let Some(done) = connection.in_flight.pop_front() {
                    self.done(&done, now);
                }
                self.send_next(index, now)?;
                self.connections[index].lane.flush()?;
            }
            let connection = &self.connections[index];
            busy |= connection.in_flight.len() > connection.lane.unsent();
        }
        Ok(busy)
    }

    fn done(&mut self, done: &InFlight, now: u64) {
        self.meter.count(now, 1, done.records, done.bytes);
        self.meter.latency_ended(now, done.at);
    }
}

/// The records of one batch.
fn draw(plan: &Plan, drawer: &mut Drawer, drafts: &mut Vec<Draft>, now: u64) {
    let spec = &plan.workload.producer;
    let most = if spec.batch_records == 0 { usize::MAX } else { spec.batch_records };
    let key = drawer.keys().map_or(0, |k| k.width());
    drafts.clear();
    let mut bytes = 0;
    while drafts.len() < most {
        let draft = drawer.any(now);
        bytes += draft.size as usize + key + RECORD_OVERHEAD;
        if bytes > spec.batch_size.usize() && !drafts.is_empty() && spec.batch_records == 0 {
            break;
        }
        drafts.push(draft);
    }
}

fn prepare(plan: &Plan) -> Outcome<Vec<Vec<Prepared>>> {
    let spec = &plan.workload.producer;
    let (mut builder, mut drawer) = (plan.builder(11), plan.drawer(12));
    let mut batches: Vec<(Bytes, u32)> = Vec::new();
    let mut drafts = Vec::new();
    while batches.len() < VARIANTS && batches.iter().map(|(b, _)| b.len()).sum::<usize>() < VARIANT_BYTES {
        draw(plan, &mut drawer, &mut drafts, 0);
        let mut out = Vec::new();
        // Run 0 is nobody's: these records repeat.
        let origin = Origin { run: 0, ..plan.origin(0, Position::default()) };
        builder.append(&mut out, drawer.keys(), origin, drafts.iter().copied())?;
        batches.push((Bytes::from(out), drafts.len() as u32));
    }
    let (topic, acks) = (&plan.target.topic, spec.acks.code());
    let variants = if plan.target.leader_of.len() > 10_000 { 1 } else { batches.len() };
    let one = |partition: usize| {
        let variants = batches[..variants].iter();
        let prepared = variants.map(|(batch, records)| {
            let (head, middle) = frames::produce_one(topic, acks, partition as i32, batch.len());
            Prepared { head, middle: Bytes::from(middle), batch: batch.clone(), records: *records }
        });
        prepared.collect()
    };
    Ok((0..plan.target.leader_of.len()).map(one).collect())
}
