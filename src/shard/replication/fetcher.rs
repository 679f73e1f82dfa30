//! A follower's side: two tasks for each shard of another broker that leads partitions of this shard, one a lane.
//!
//! ```text
//! metadata ─ touch ─▶ to be mentioned ─▶ Fetch ─▶ answer ─▶ append ─▶ on disk ─┐
//!                          ▲                           └──▶ cut ──────────────┤
//!                          └── where each partition is now ◀──────────────────┘
//! ```
//! - A request mentions the partitions of which there is something new to say; the leader's session knows the others. What
//!   it costs to have nothing to do is a small request now and then, however many partitions there are.
//! - One request is parked at the leader. Something new to say is said in another one, which has the parked one answered.
//! - What was answered is mentioned again when it is on disk: its durable end is what the leader counts.
//! - What is in sync, or has all that is committed, is of the live lane; what is farther behind is of the catch-up lane, which
//!   goes at a pace of its own and never stands in the way of an ack. A partition changes lanes only where no request that
//!   mentions it is under way: its leader would take an older one for a loss.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use kafka_wire::{FetchRequest, FetchResponse};

use super::Fetchers;
use super::codec::{self, Ask};
use super::ground::{Dial, Fetches, Ground, Later, Source};
use super::members::Members;
use super::waiting;
use crate::model::{MonoMs, PartitionId};
use crate::partition::{Cut, Next, Replica, Role, Said};
use crate::peer::Lane;
use crate::rt::{self, Notify};

/// Of one answer, and of one partition in it.
const ANSWER_BYTES: usize = 10 << 20;
const PARTITION_BYTES: usize = 1 << 20;
/// Partitions that one request mentions.
const MOST_MENTIONED: usize = 10_000;
/// How long a request is parked: at first, and when nothing has happened for long.
const WAIT_MS: std::ops::RangeInclusive<i32> = 500..=5000;
/// Between attempts to reach the leader.
const REST: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// See the module's page.
pub struct Fetcher {
    source: Source,
    lane: Lane,
    all: Weak<Fetchers>,
    ground: Rc<dyn Ground>,
    members: RefCell<Members>,
    /// Of the next request.
    session_epoch: Cell<i32>,
    /// Counts requests.
    number: Cell<u64>,
    wait_ms: Cell<i32>,
    wake: Notify,
    over: Cell<bool>,
}

type Reply = Later<Result<FetchResponse, String>>;

impl Fetcher {
    pub fn new(source: Source, lane: Lane, all: &Rc<Fetchers>) -> Rc<Self> {
        Rc::new(Self {
            source,
            lane,
            all: Rc::downgrade(all),
            ground: all.ground.clone(),
            members: RefCell::default(),
            session_epoch: Cell::new(0),
            number: Cell::new(0),
            wait_ms: Cell::new(*WAIT_MS.start()),
            wake: Notify::new(),
            over: Cell::new(false),
        })
    }

    /// The partition is fetched from here from now on, or there is something new about it.
    pub fn touch(&self, id: PartitionId) {
        self.members.borrow_mut().touch(id);
        self.wake.notify_all();
    }

    /// As [`Self::touch`], of one that may have gone.
    fn touch_again(&self, id: PartitionId) {
        if self.has(id) {
            self.touch(id);
        }
    }

    pub fn has(&self, id: PartitionId) -> bool {
        self.members.borrow().has(id)
    }

    pub fn forget(&self, id: PartitionId) {
        self.members.borrow_mut().forget(id);
        self.wake.notify_all();
    }

    pub fn is_empty(&self) -> bool {
        self.members.borrow().is_empty()
    }

    /// It ends soon.
    pub fn end(&self) {
        self.over.set(true);
        self.wake.notify_all();
    }

    fn is_over(&self) -> bool {
        self.over.get() || self.ground.is_stopping()
    }

    pub async fn run(self: Rc<Self>, dial: Rc<dyn Dial>) {
        let mut rest = *REST.start();
        while !self.is_over() {
            let why = match dial.dial(self.source, self.lane).await {
                Ok(link) => self.converse(&*link, &mut rest).await,
                Err(why) => why,
            };
            if self.is_over() {
                return;
            }
            let Source { broker, shard } = self.source;
            let lane = self.lane.name();
            log::debug!("replication from shard {shard} of broker {broker}, {lane}: {why}");
            let woken = self.wake.listen();
            // Whoever ends it does not have to wait.
            waiting::first(woken, pin!(rt::sleep(rest))).await;
            if !self.is_over() {
                rt::sleep(rest / 4).await;
            }
            rest = (rest * 2).min(*REST.end());
        }
    }

    /// Fetches over one connection, to its end. Returns why that came.
    async fn converse(self: &Rc<Self>, link: &dyn Fetches, rest: &mut Duration) -> String {
        self.session_epoch.set(0);
        self.members.borrow_mut().begin();
        let mut parked: Option<(u64, Reply)> = None;
        loop {
            if self.is_over() {
                return "it is over".into();
            }
            self.members.borrow_mut().wake_rested(self.ground.now());
            let woken = self.wake.listen();
            let pause = self.pause();
            if pause.is_none() && (parked.is_none() || self.members.borrow().has_news()) {
                let (number, request) = self.next_request();
                let newer = link.fetch(request);
                if let Some((older, answer)) = parked.replace((number, newer)) {
                    match answer.await {
                        Ok(answer) => match self.take(older, answer).await {
                            Ok(()) => {}
                            Err(why) => return why,
                        },
                        Err(why) => return why,
                    }
                    continue;
                }
            }
            let Some((number, reply)) = &mut parked else {
                waiting::first(woken, pin!(rt::sleep(pause.unwrap_or_default()))).await;
                continue;
            };
            let nap = self.next_rested().into_iter().chain(pause).min();
            match wait(reply, woken, nap).await {
                None => {}
                Some(Err(why)) => return why,
                Some(Ok(answer)) => {
                    let number = *number;
                    parked = None;
                    if let Err(why) = self.take(number, answer).await {
                        return why;
                    }
                    *rest = *REST.start();
                }
            }
        }
    }

    fn next_rested(&self) -> Option<Duration> {
        let until = self.members.borrow().next_rested()?;
        Some(Duration::from_millis(until.since(self.ground.now()).max(1) as u64))
    }

    /// How long nothing may be asked for.
    fn pause(&self) -> Option<Duration> {
        let is_slow = self.lane == Lane::CatchUp;
        is_slow.then(|| self.ground.paces().catch_up.wait(self.ground.now()))?
    }

    fn next_request(&self) -> (u64, FetchRequest) {
        let (number, now, me) = (self.number.get() + 1, self.ground.now(), self.ground.me());
        self.number.set(number);
        let mut mentioned = Vec::new();
        let mut members = self.members.borrow_mut();
        while mentioned.len() < MOST_MENTIONED
            && let Some(id) = members.next_news()
        {
            let Some(replica) = self.ground.replica(id) else { continue };
            if let Some(until) =
                self.is_throttled(&replica).then(|| self.ground.paces().follower.wait(now)).flatten()
            {
                members.rest(id, MonoMs(now.0 + until.as_millis() as i64));
                continue;
            }
            match replica.next_fetch(now) {
                Ok(Some(asked)) if asked.leader == self.source.broker => {
                    members.note_asked(id, number, asked);
                    mentioned.push((id, asked));
                }
                // It is touched when there is more to say.
                Ok(_) => {}
                Err(until) => members.rest(id, until),
            }
        }
        let forgotten = members.take_gone();
        let session_epoch = self.session_epoch.get();
        self.session_epoch.set(session_epoch.checked_add(1).unwrap_or(1));
        let ask = Ask {
            from: (me.id, me.epoch),
            session_epoch,
            max_wait_ms: self.wait_ms.get(),
            max_bytes: match self.lane {
                Lane::CatchUp => self.ground.paces().catch_up.portion(),
                _ => ANSWER_BYTES,
            },
            partition_bytes: PARTITION_BYTES,
            mentioned,
            forgotten,
        };
        (number, ask.encode())
    }

    /// Takes an answer to the request of this number. Returns once what it brought is on disk.
    async fn take(self: &Rc<Self>, number: u64, answer: FetchResponse) -> Result<(), String> {
        if answer.error_code != 0 {
            return Err(format!("the leader answers with error {}", answer.error_code));
        }
        let answers: Vec<(PartitionId, Said)> = codec::said(answer).collect();
        let wait_ms = match answers.is_empty() {
            true => (self.wait_ms.get() * 2).min(*WAIT_MS.end()),
            false => *WAIT_MS.start(),
        };
        self.wait_ms.set(wait_ms);
        let bytes: usize = answers.iter().map(|(_, said)| bytes_of(said)).sum();
        let store = self.ground.store();
        if bytes > 0 {
            store.room(bytes).await;
        }
        if self.is_over() {
            return Err("it is over".into());
        }
        if self.lane == Lane::CatchUp {
            self.ground.paces().catch_up.spend(bytes, self.ground.now());
        }
        let mut appended: Vec<(Rc<Replica>, Lane)> = Vec::new();
        for (id, said) in answers {
            let Some(asked) = self.members.borrow().answered(id, number) else { continue };
            let Some(replica) = self.ground.replica(id) else { continue };
            self.note_taken(&replica, bytes_of(&said));
            let next = replica.on_answer(&store, &asked, &said, self.ground.now());
            let lane = self.best_lane(&replica, &said);
            match next {
                Ok(Next::Appended) => appended.push((replica, lane)),
                Ok(Next::Cut(cut)) => self.cut(replica, cut),
                Ok(Next::Nothing) if lane != self.lane => self.give(id, lane),
                // The leader waits to be told where this one is, but for an answer that only said what is committed.
                Ok(Next::Nothing) if matches!(&said, Said::Batches(given) if given.records.is_empty()) => {}
                Ok(Next::Nothing) => self.touch_again(id),
                Err(e) => log::error!("{id}: what its leader gave is not taken: {e}"),
            }
        }
        if appended.is_empty() {
            return Ok(());
        }
        let replicas: Vec<Rc<Replica>> = appended.iter().map(|(replica, _)| replica.clone()).collect();
        self.ground.appended(&replicas);
        let (journal, last) = (store.journal(), store.journal().last());
        journal.wait_durable(last).await.map_err(|e| e.to_string())?;
        for (replica, lane) in appended {
            replica.on_durable(|lsn| journal.is_durable(lsn));
            match lane == self.lane {
                true => self.touch_again(replica.id),
                false => self.give(replica.id, lane),
            }
        }
        Ok(())
    }

    /// Whether what is copied of it is held to what administrators allow (KIP-73).
    fn is_throttled(&self, replica: &Replica) -> bool {
        self.lane == Lane::CatchUp && replica.is_throttled(Role::Follower, self.ground.me().id)
    }

    fn note_taken(&self, replica: &Replica, bytes: usize) {
        if bytes > 0 && self.is_throttled(replica) {
            self.ground.paces().follower.spend(bytes, self.ground.now());
        }
    }

    /// Where a partition is to be fetched after an answer, of which everything was taken that could be.
    fn best_lane(&self, replica: &Replica, said: &Said) -> Lane {
        let Said::Batches(given) = said else { return self.lane };
        let lag = given.high_watermark.0 - replica.offsets().end().0;
        if replica.is_in_sync() || lag <= 0 {
            return Lane::Live;
        }
        let now = self.ground.now();
        if self.lane == Lane::CatchUp && self.members.borrow_mut().falls_behind(replica.id, lag, now) {
            self.ground.paces().catch_up.does_not_suffice(now);
        }
        Lane::CatchUp
    }

    /// The partition is fetched by the other lane from now on. What was asked here was answered.
    fn give(&self, id: PartitionId, to: Lane) {
        let was_here = self.members.borrow_mut().forget(id);
        if let Some(all) = self.all.upgrade().filter(|_| was_here) {
            self.wake.notify_all();
            all.take(self.source, id, (self.lane, to));
        }
    }

    /// In a task of its own: others go on.
    fn cut(self: &Rc<Self>, replica: Rc<Replica>, cut: Cut) {
        let fetcher = self.clone();
        rt::spawn(async move {
            let (ground, id) = (&fetcher.ground, replica.id);
            log::info!("{id}: cut as its leader's log is: {cut:?}");
            match replica.cut(&ground.store(), cut, || ground.now()).await {
                Ok(true) => ground.begins(id),
                Ok(false) => {}
                // The next life cuts it.
                Err(e) if ground.store().is_closing() => log::info!("{id}: not cut: {e}"),
                Err(e) => log::error!("{id}: the log could not be cut: {e}"),
            }
            fetcher.touch_again(id);
        });
    }
}

fn bytes_of(said: &Said) -> usize {
    match said {
        Said::Batches(given) => given.records.len(),
        _ => 0,
    }
}

/// The answer, if that comes before somebody wakes or the nap is over.
async fn wait(
    reply: &mut Reply,
    woken: rt::Listen,
    nap: Option<Duration>,
) -> Option<Result<FetchResponse, String>> {
    let mut woken = pin!(woken);
    let mut nap = pin!(nap.map(rt::sleep));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answer) = reply.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        let rested = nap.as_mut().as_pin_mut().is_some_and(|nap| nap.poll(cx).is_ready());
        if woken.as_mut().poll(cx).is_ready() || rested { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}
