//! The open loop: every record has an intended time, and waits in its producer's queue when the broker is slow.
//!
//! Shaped like Kafka's producer: a queue for each partition, a batch leaves when it is full or has lingered, one
//! request takes a batch of every queue that has something, and a connection has a few requests in flight.
//! Latency counts from the intended time, so waiting for a place in flight is in it. What the generator itself
//! is late by is kept apart, to tell whether the run means anything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use mio::{Events, Poll};

use super::accumulator::{Limits, Producer, Sent, cost};
use super::meter::{Meter, histogram};
use super::plan::{Plan, Produced};
use crate::Outcome;
use crate::load::batch::Builder;
use crate::load::draw::{Draft, Drawer};
use crate::load::schedule::Schedule;
use crate::net::frames;
use crate::net::lane::Lane;
use crate::net::wait::{sharpen, wait};
use crate::process;
use crate::workload::Arrivals;

/// Records that may wait in a thread's queues; beyond it the broker is far behind and the run ends early.
const MAX_WAITING: usize = 4 << 20;
/// Records drawn before sockets are looked at again, and before the clock is.
const BURST: usize = 8192;
const CLOCK_EVERY: usize = 64;
/// What still waits this long after the window's end is not sent any more.
const GRACE: u64 = 5_000_000_000;
/// How long answers may take after the last record was sent.
const PATIENCE: u64 = 60_000_000_000;

struct Thread<'a> {
    plan: &'a Plan,
    limits: Limits,
    producers: Vec<Producer>,
    leaders: usize,
    drawer: Drawer,
    builder: Builder,
    meter: Meter,
    lingering: BinaryHeap<Reverse<(u64, usize)>>,
    waiting: usize,
    drawn: u64,
    produced: Produced,
}

/// Runs one thread's producers to the end of the window and until everything was answered.
pub fn run(plan: &Plan, thread: usize, meter: Meter) -> Outcome<Produced> {
    sharpen();
    let mut poll = Poll::new().map_err(|e| format!("epoll: {e}"))?;
    let mut t = Thread::new(plan, thread, meter, &poll)?;
    let mut events = Events::with_capacity(t.producers.len().clamp(1, 4096));
    let rate = plan.workload.rate / plan.workload.producer.threads as f64;
    let mut schedule = Schedule::new(plan.workload.schedule, rate, plan.begin(), 77 + thread as u64);
    let slack = (t.limits.linger / 20).min(100_000);
    let mut last_progress = plan.window.1;
    while !plan.shared.aborted() {
        let mut now = plan.clock.now();
        let more = schedule.peek() < plan.window.1 && !t.produced.overloaded;
        if more {
            now = t.draw(&mut schedule, thread, slack)?;
        }
        if t.produced.overloaded || now > plan.window.1 + GRACE {
            t.abandon_waiting();
        }
        t.send_lingered(now)?;
        t.meter.tick(now);
        if !more && t.waiting == 0 && t.producers.iter().all(Producer::is_done) {
            break;
        }
        let next = t.lingering.peek().map_or(u64::MAX, |Reverse((due, _))| *due);
        let next = if more { next.min(schedule.peek() + slack) } else { next };
        wait(&mut poll, &mut events, next.saturating_sub(plan.clock.now()).min(100_000_000))?;
        if !events.is_empty() {
            last_progress = plan.clock.now();
        } else if now > last_progress.saturating_add(PATIENCE) {
            return Err(format!("the broker answered nothing for {} s", PATIENCE / 1_000_000_000));
        }
        for event in &events {
            t.serve(event.token().0, event.is_readable())?;
        }
    }
    t.produced.cpu = process::thread_cpu_seconds();
    t.produced.total = t.meter.total;
    t.produced.errors = t.meter.errors;
    t.produced.acknowledged = t.meter.ever;
    Ok(t.produced)
}

impl<'a> Thread<'a> {
    fn new(plan: &'a Plan, thread: usize, meter: Meter, poll: &Poll) -> Outcome<Thread<'a>> {
        let spec = &plan.workload.producer;
        let leaders = plan.target.leaders.len();
        let mut producers = Vec::new();
        for index in Plan::share(spec.count, spec.threads, thread) {
            for leader in 0..leaders {
                let lane = Lane::new(plan.target.connect(leader)?, poll.registry(), producers.len())?;
                producers.push(Producer::new(lane, index as u32, plan.workload.topic.partitions as usize));
            }
        }
        let limits = Limits {
            linger: spec.linger.nanos(),
            batch_size: spec.batch_size.usize(),
            batch_records: if spec.batch_records == 0 { usize::MAX } else { spec.batch_records },
            max_request: spec.max_request_size.usize(),
            in_flight: spec.in_flight,
            acks: spec.acks.code(),
        };
        let total = super::meter::Tally::new();
        let produced = Produced {
            total,
            errors: Default::default(),
            planned: 0,
            lag: histogram(),
            acknowledged: 0,
            overloaded: false,
            cpu: 0.0,
        };
        Ok(Thread {
            plan,
            limits,
            producers,
            leaders,
            drawer: plan.drawer(1000 + thread as u64),
            builder: plan.builder(2000 + thread as u64),
            meter,
            lingering: BinaryHeap::new(),
            waiting: 0,
            drawn: 0,
            produced,
        })
    }

    /// Draws the records whose time has come. Returns the time.
    fn draw(&mut self, schedule: &mut Schedule, thread: usize, slack: u64) -> Outcome<u64> {
        let spec = &self.plan.workload.producer;
        let local = Plan::share(spec.count, spec.threads, thread).count().max(1) as u64;
        let mut now = self.plan.clock.now();
        for nth in 0..BURST {
            if nth % CLOCK_EVERY == CLOCK_EVERY - 1 {
                now = self.plan.clock.now();
            }
            let intended = schedule.peek();
            if intended > now || intended >= self.plan.window.1 {
                break;
            }
            if self.waiting >= MAX_WAITING {
                self.produced.overloaded = true;
                break;
            }
            schedule.take();
            if self.meter.in_window(intended) {
                self.produced.planned += 1;
                self.produced.lag.saturating_record(now.saturating_sub(intended + slack));
            }
            // Taking turns keeps a fixed schedule fixed for each producer, a random choice a Poisson one Poisson.
            let slot = match self.plan.workload.schedule {
                Arrivals::Fixed => self.drawn % local,
                Arrivals::Poisson => self.drawer.random().below(local),
            };
            self.drawn += 1;
            let producer = slot as usize * spec.threads + thread;
            let (partition, draft) = self.drawer.next(producer, intended);
            let lane = slot as usize * self.leaders + self.plan.target.leader_of[partition as usize] as usize;
            self.enqueue(lane, partition, draft, now)?;
        }
        Ok(now)
    }

    fn enqueue(&mut self, lane: usize, partition: u32, draft: Draft, now: u64) -> Outcome<()> {
        let key = self.drawer.keys().map_or(0, |k| k.width());
        let producer = &mut self.producers[lane];
        let queue = &mut producer.queues[partition as usize];
        let was_full = queue.is_full(&self.limits);
        if queue.drafts.is_empty() {
            producer.active.push_back(partition);
        }
        queue.bytes += cost(draft, key);
        queue.drafts.push_back(draft);
        self.waiting += 1;
        if !was_full && queue.is_full(&self.limits) {
            producer.full += 1;
            self.send(lane, now)?;
        } else if !producer.timed {
            producer.timed = true;
            self.lingering.push(Reverse((draft.intended + self.limits.linger, lane)));
        }
        Ok(())
    }

    fn send_lingered(&mut self, now: u64) -> Outcome<()> {
        while let Some(Reverse((due, lane))) = self.lingering.peek().copied() {
            if due > now {
                break;
            }
            self.lingering.pop();
            self.producers[lane].timed = false;
            self.send(lane, now)?;
        }
        Ok(())
    }

    /// Sends what is ready, as far as requests may be in flight.
    fn send(&mut self, lane: usize, now: u64) -> Outcome<()> {
        let acks = self.limits.acks;
        loop {
            let producer = &mut self.producers[lane];
            let under_way = if acks == 0 { producer.lane.unsent() } else { producer.in_flight.len() };
            if under_way >= self.limits.in_flight || !producer.is_ready(now, &self.limits) {
                break;
            }
            let sent = producer.build(self.plan, &self.limits, &mut self.builder, &self.drawer)?;
            self.waiting -= sent.times.len();
            if acks == 0 {
                let handed = self.plan.clock.now();
                settle(&mut self.meter, &sent, handed);
                producer.spare.push(sent);
            } else {
                producer.in_flight.push_back(sent);
            }
            producer.lane.flush()?;
        }
        let producer = &mut self.producers[lane];
        // What frees a place in flight is an event, and sends what waits.
        let under_way = if acks == 0 { producer.lane.unsent() } else { producer.in_flight.len() };
        let blocked = under_way >= self.limits.in_flight;
        if !producer.timed
            && !blocked
            && let Some(partition) = producer.active.front()
        {
            let first = producer.queues[*partition as usize].drafts.front().map_or(now, |d| d.intended);
            producer.timed = true;
            self.lingering.push(Reverse((first + self.limits.linger, lane)));
        }
        Ok(())
    }

    /// Reads a connection's answers and sends what they made room for.
    fn serve(&mut self, lane: usize, readable: bool) -> Outcome<()> {
        self.producers[lane].lane.flush()?;
        let mut more = readable;
        while more {
            let producer = &mut self.producers[lane];
            more = producer.lane.receive()?;
            while let Some(range) = producer.lane.answer()? {
                let now = self.plan.clock.now();
                let sent = producer.in_flight.pop_front().ok_or("an answer that nothing asked for")?;
                let mut failed = false;
                frames::produce_answer(producer.lane.bytes(range), |_, error, _| {
                    if error != 0 {
                        self.meter.error(error);
                        failed = true;
                    }
                })?;
                if !failed {
                    settle(&mut self.meter, &sent, now);
                }
                producer.spare.push(sent);
            }
        }
        let now = self.plan.clock.now();
        self.send(lane, now)
    }

    /// Gives up what the broker had no time for.
    fn abandon_waiting(&mut self) {
        if self.waiting == 0 {
            return;
        }
        self.produced.overloaded = true;
        for producer in &mut self.producers {
            producer.queues.iter_mut().for_each(|q| {
                q.drafts.clear();
                q.bytes = 0;
            });
            producer.active.clear();
            producer.full = 0;
        }
        self.waiting = 0;
    }
}

/// Counts a request that is done.
fn settle(meter: &mut Meter, sent: &Sent, now: u64) {
    meter.count(now, 1, sent.times.len() as u64, sent.bytes);
    sent.times.iter().for_each(|intended| meter.latency(now, *intended));
}
