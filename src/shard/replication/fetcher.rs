//! A follower's side: one task for each shard of another broker that leads partitions of this shard.
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

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use kafka_wire::{FetchRequest, FetchResponse};

use super::codec::{self, Ask};
use super::ground::{Dial, Fetches, Ground, Later, Source};
use crate::model::{MonoMs, PartitionId};
use crate::partition::follower::Asked;
use crate::partition::{Cut, Next, Replica, Said};
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

#[derive(Default)]
struct Members {
    /// With what was asked last, and in which request.
    all: BTreeMap<PartitionId, Option<(u64, Asked)>>,
    /// Those of which the leader has to hear.
    news: BTreeSet<PartitionId>,
    gone: BTreeSet<PartitionId>,
    /// Those that rest.
    resting: BinaryHeap<Reverse<(MonoMs, PartitionId)>>,
}

/// See the module's page.
pub struct Fetcher {
    source: Source,
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
    pub fn new(source: Source, ground: Rc<dyn Ground>) -> Rc<Self> {
        Rc::new(Self {
            source,
            ground,
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
        let mut members = self.members.borrow_mut();
        members.all.entry(id).or_default();
        members.gone.remove(&id);
        members.news.insert(id);
        drop(members);
        self.wake.notify_all();
    }

    /// As [`Self::touch`], of one that may have gone.
    fn touch_again(&self, id: PartitionId) {
        if self.members.borrow().all.contains_key(&id) {
            self.touch(id);
        }
    }

    pub fn forget(&self, id: PartitionId) {
        let mut members = self.members.borrow_mut();
        if members.all.remove(&id).is_some() {
            members.news.remove(&id);
            members.gone.insert(id);
        }
        drop(members);
        self.wake.notify_all();
    }

    pub fn is_empty(&self) -> bool {
        self.members.borrow().all.is_empty()
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
            let why = match dial.dial(self.source).await {
                Ok(link) => self.converse(&*link, &mut rest).await,
                Err(why) => why,
            };
            if self.is_over() {
                return;
            }
            let Source { broker, shard } = self.source;
            log::debug!("replication from shard {shard} of broker {broker}: {why}");
            let woken = self.wake.listen();
            // Whoever ends it does not have to wait.
            first(woken, pin!(rt::sleep(rest))).await;
            if !self.is_over() {
                rt::sleep(rest / 4).await;
            }
            rest = (rest * 2).min(*REST.end());
        }
    }

    /// Fetches over one connection, to its end. Returns why that came.
    async fn converse(self: &Rc<Self>, link: &dyn Fetches, rest: &mut Duration) -> String {
        self.session_epoch.set(0);
        {
            let mut members = self.members.borrow_mut();
            members.gone.clear();
            members.news = members.all.keys().copied().collect();
        }
        let mut parked: Option<(u64, Reply)> = None;
        loop {
            if self.is_over() {
                return "it is over".into();
            }
            self.wake_rested();
            let woken = self.wake.listen();
            if parked.is_none() || self.has_news() {
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
            let Some((number, reply)) = &mut parked else { continue };
            let nap = self.next_rested();
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

    fn has_news(&self) -> bool {
        let members = self.members.borrow();
        !members.news.is_empty() || !members.gone.is_empty()
    }

    fn wake_rested(&self) {
        let now = self.ground.now();
        let mut members = self.members.borrow_mut();
        while members.resting.peek().is_some_and(|Reverse((until, _))| *until <= now) {
            let Some(Reverse((_, id))) = members.resting.pop() else { break };
            if members.all.contains_key(&id) {
                members.news.insert(id);
            }
        }
    }

    fn next_rested(&self) -> Option<Duration> {
        let members = self.members.borrow();
        let Reverse((until, _)) = members.resting.peek()?;
        Some(Duration::from_millis(until.since(self.ground.now()).max(1) as u64))
    }

    fn next_request(&self) -> (u64, FetchRequest) {
        let (number, now, me) = (self.number.get() + 1, self.ground.now(), self.ground.me());
        self.number.set(number);
        let mut mentioned = Vec::new();
        let mut members = self.members.borrow_mut();
        while mentioned.len() < MOST_MENTIONED
            && let Some(id) = members.news.pop_first()
        {
            let Some(replica) = self.ground.replica(id) else { continue };
            match replica.next_fetch(now) {
                Ok(Some(asked)) if asked.leader == self.source.broker => {
                    members.all.insert(id, Some((number, asked)));
                    mentioned.push((id, asked));
                }
                // It is touched when there is more to say.
                Ok(_) => {}
                Err(until) => members.resting.push(Reverse((until, id))),
            }
        }
        let forgotten: Vec<PartitionId> = std::mem::take(&mut members.gone).into_iter().collect();
        let session_epoch = self.session_epoch.get();
        self.session_epoch.set(session_epoch.checked_add(1).unwrap_or(1));
        let ask = Ask {
            from: (me.id, me.epoch),
            session_epoch,
            max_wait_ms: self.wait_ms.get(),
            max_bytes: ANSWER_BYTES,
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
        let mut appended: Vec<Rc<Replica>> = Vec::new();
        for (id, said) in answers {
            let asked = self.members.borrow().all.get(&id).copied().flatten();
            // What was asked since is answered for itself.
            let Some((_, asked)) = asked.filter(|(at, _)| *at <= number) else { continue };
            let Some(replica) = self.ground.replica(id) else { continue };
            match replica.on_answer(&store, &asked, &said, self.ground.now()) {
                Ok(Next::Appended) => appended.push(replica),
                Ok(Next::Cut(cut)) => self.cut(replica, cut),
                // The leader waits to be told where this one is, but for an answer that only said what is committed.
                Ok(Next::Nothing) if matches!(&said, Said::Batches(given) if given.records.is_empty()) => {}
                Ok(Next::Nothing) => self.touch_again(id),
                Err(e) => log::error!("{id}: what its leader gave is not taken: {e}"),
            }
        }
        if appended.is_empty() {
            return Ok(());
        }
        self.ground.appended(&appended);
        let (journal, last) = (store.journal(), store.journal().last());
        journal.wait_durable(last).await.map_err(|e| e.to_string())?;
        for replica in appended {
            replica.on_durable(|lsn| journal.is_durable(lsn));
            self.touch_again(replica.id);
        }
        Ok(())
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

async fn first(woken: rt::Listen, mut sleep: std::pin::Pin<&mut rt::Sleep>) {
    let mut woken = pin!(woken);
    std::future::poll_fn(|cx| {
        if woken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        sleep.as_mut().poll(cx)
    })
    .await
}
