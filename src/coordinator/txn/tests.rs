//! The machine step by step, and in a small world of clients, zombies, partitions and crashes.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;
use crate::coordinator::{Effects, Machine, Replayed, TimerHeap};
use crate::model::settings::TransactionSettings;
use crate::model::{MonoMs, Offset, Producer, ProducerEpoch, ProducerId, WallMs};

const ROOM: usize = 1 << 20;

fn step(machine: &mut Transactions, now: i64, request: Request) -> (Reply, Effects<Transactions>) {
    let mut fx = Effects::new(MonoMs(now), WallMs(1_000_000 + now), Offset(0), ROOM);
    machine.handle(1, request, &mut fx);
    (fx.replies.remove(0).reply, fx)
}

fn name(text: &str) -> Name {
    text.into()
}

fn init(expected: Option<Producer>, fresh: Option<i64>) -> Request {
    Request::Init { id: name("tx"), timeout_ms: 1000, expected, fresh: fresh.map(ProducerId) }
}

fn add(producer: Producer, index: i32, version: Version) -> Request {
    let partitions = vec![(name("t"), index)];
    Request::Add { id: name("tx"), producer, partitions, version, verify: false }
}

fn end(producer: Producer, commit: bool, version: Version) -> Request {
    Request::End { id: name("tx"), producer, commit, version, fresh: None }
}

fn begin(machine: &mut Transactions) -> Producer {
    assert_eq!(step(machine, 0, init(None, None)).0, Reply::NeedsProducerId);
    match step(machine, 0, init(None, Some(7))).0 {
        Reply::Producer(Ok(producer)) => producer,
        other => panic!("{other:?}"),
    }
}

fn refused(e: TxnError) -> Reply {
    Reply::Producer(Err(e))
}

#[test]
fn a_transaction_of_version_two_gets_its_own_epoch() {
    let mut machine = Transactions::new(TransactionSettings::default());
    let first = begin(&mut machine);
    assert_eq!(first, Producer::new(7, 0));
    step(&mut machine, 1, add(first, 0, Version::V2));
    let (reply, fx) = step(&mut machine, 2, end(first, true, Version::V2));
    let second = Producer::new(7, 1);
    assert_eq!(reply, Reply::Producer(Ok(second)));
    let command = &fx.commands[0];
    assert_eq!((command.producer, command.commit, command.partitions.len()), (second, true, 1));
    // Until the markers are written everybody waits: also who aborts, in its new epoch, before it has sent anything.
    for (from, commit) in [(first, true), (first, false), (second, false), (Producer::new(8, 0), true)] {
        assert_eq!(step(&mut machine, 3, end(from, commit, Version::V2)).0, refused(TxnError::Concurrent));
        assert_eq!(step(&mut machine, 3, init(Some(from), None)).0, refused(TxnError::Concurrent));
    }
    assert_eq!(step(&mut machine, 3, add(second, 1, Version::V2)).0, Reply::Added(Err(TxnError::Concurrent)));
    step(&mut machine, 4, Request::Marked { id: name("tx"), producer: second });
    let retry = step(&mut machine, 5, end(first, true, Version::V2)).0;
    assert_eq!(retry, Reply::Producer(Ok(second)), "the answer was lost: told again");
    assert_eq!(step(&mut machine, 5, end(first, false, Version::V2)).0, refused(TxnError::InvalidState));
    assert_eq!(step(&mut machine, 6, add(first, 0, Version::V2)).0, Reply::Added(Err(TxnError::Fenced)));
    assert_eq!(step(&mut machine, 7, add(second, 0, Version::V2)).0, Reply::Added(Ok(vec![Ok(())])));
    // An abort of nothing moves the epoch, too.
    step(&mut machine, 8, end(second, false, Version::V2));
    step(&mut machine, 9, Request::Marked { id: name("tx"), producer: Producer::new(7, 2) });
    let (reply, fx) = step(&mut machine, 10, end(Producer::new(7, 2), false, Version::V2));
    assert_eq!(reply, Reply::Producer(Ok(Producer::new(7, 3))));
    assert!(fx.commands[0].partitions.is_empty());
}

#[test]
fn a_transaction_of_version_one_keeps_its_epoch() {
    let mut machine = Transactions::new(TransactionSettings::default());
    let producer = begin(&mut machine);
    assert_eq!(step(&mut machine, 1, end(producer, true, Version::V0)).0, refused(TxnError::InvalidState));
    for round in 0..3 {
        step(&mut machine, 2, add(producer, round, Version::V0));
        let verify = |index| Request::Add {
            id: name("tx"),
            producer,
            partitions: vec![(name("t"), index)],
            version: Version::V0,
            verify: true,
        };
        assert_eq!(step(&mut machine, 2, verify(round)).0, Reply::Added(Ok(vec![Ok(())])));
        let stranger = Reply::Added(Ok(vec![Err(TxnError::NotOfTransaction)]));
        assert_eq!(step(&mut machine, 2, verify(9)).0, stranger);
        let (reply, _) = step(&mut machine, 3, end(producer, false, Version::V0));
        assert_eq!(reply, Reply::Producer(Ok(producer)));
        step(&mut machine, 4, Request::Marked { id: name("tx"), producer });
        assert_eq!(step(&mut machine, 5, end(producer, false, Version::V0)).0, Reply::Producer(Ok(producer)));
        assert_eq!(step(&mut machine, 5, verify(round)).0, stranger);
    }
}

#[test]
fn who_comes_later_fences_who_came_before() {
    let mut machine = Transactions::new(TransactionSettings::default());
    let old = begin(&mut machine);
    step(&mut machine, 1, add(old, 0, Version::V2));
    let (reply, fx) = step(&mut machine, 2, init(None, None));
    assert_eq!(reply, refused(TxnError::Concurrent));
    let fence = Producer::new(7, 1);
    assert_eq!((fx.commands[0].producer, fx.commands[0].commit), (fence, false));
    assert_eq!(step(&mut machine, 3, init(None, None)).0, refused(TxnError::Concurrent));
    step(&mut machine, 4, Request::Marked { id: name("tx"), producer: fence });
    let new = Producer::new(7, 2);
    assert_eq!(step(&mut machine, 5, init(None, None)).0, Reply::Producer(Ok(new)));
    assert_eq!(step(&mut machine, 6, add(old, 0, Version::V2)).0, Reply::Added(Err(TxnError::Fenced)));
    assert_eq!(step(&mut machine, 6, end(old, true, Version::V0)).0, refused(TxnError::Fenced));
    assert_eq!(step(&mut machine, 6, init(Some(old), None)).0, refused(TxnError::Fenced));
    let stranger = Producer::new(8, 0);
    assert_eq!(
        step(&mut machine, 6, add(stranger, 0, Version::V2)).0,
        Reply::Added(Err(TxnError::WrongProducer))
    );
    // Who is current may ask for a new epoch, twice if the answer was lost.
    let bumped = Reply::Producer(Ok(Producer::new(7, 3)));
    assert_eq!(step(&mut machine, 7, init(Some(new), None)).0, bumped);
    assert_eq!(step(&mut machine, 7, init(Some(new), None)).0, bumped);
    for timeout_ms in [0, -1, i32::MAX] {
        let request = Request::Init { id: name("tx"), timeout_ms, expected: None, fresh: None };
        assert_eq!(step(&mut machine, 8, request).0, refused(TxnError::InvalidTimeout));
    }
}

#[test]
fn epochs_run_out_and_a_new_id_follows() {
    let mut machine = Transactions::new(TransactionSettings::default());
    let mut producer = begin(&mut machine);
    while producer.epoch.0 < i16::MAX - 1 {
        match step(&mut machine, 0, init(Some(producer), None)).0 {
            Reply::Producer(Ok(next)) => producer = next,
            other => panic!("{other:?}"),
        }
    }
    step(&mut machine, 1, add(producer, 0, Version::V2));
    assert_eq!(step(&mut machine, 2, end(producer, true, Version::V2)).0, Reply::NeedsProducerId);
    let with = |fresh| Request::End { id: name("tx"), producer, commit: true, version: Version::V2, fresh };
    let (reply, fx) = step(&mut machine, 2, with(Some(ProducerId(99))));
    let next = Producer::new(99, 0);
    assert_eq!(reply, Reply::Producer(Ok(next)));
    let marker = Producer::new(7, i16::MAX);
    assert_eq!(fx.commands[0].producer, marker, "the markers are the old id's");
    step(&mut machine, 3, Request::Marked { id: name("tx"), producer: marker });
    assert_eq!(step(&mut machine, 4, with(None)).0, Reply::Producer(Ok(next)), "a retry");
    assert_eq!(step(&mut machine, 5, add(next, 0, Version::V2)).0, Reply::Added(Ok(vec![Ok(())])));
}

#[test]
fn what_is_not_used_is_forgotten_and_what_is_open_is_not() {
    let mut machine =
        Transactions::new(TransactionSettings { id_expiration_ms: 500, ..TransactionSettings::default() });
    let producer = begin(&mut machine);
    let mut fx = Effects::new(MonoMs(400), WallMs(1_000_400), Offset(0), ROOM);
    machine.fire(Timer::Expire(None), &mut fx);
    assert_eq!((machine.len(), fx.records.len(), fx.timers.len()), (1, 0, 1));
    step(&mut machine, 450, add(producer, 0, Version::V2));
    for (now, left) in [(2000, 1), (2001, 1)] {
        let mut fx = Effects::new(MonoMs(now), WallMs(1_000_000 + now), Offset(0), ROOM);
        machine.fire(Timer::Expire(None), &mut fx);
        assert_eq!(machine.len(), left);
    }
    step(&mut machine, 2100, end(producer, true, Version::V2));
    step(&mut machine, 2100, Request::Marked { id: name("tx"), producer: Producer::new(7, 1) });
    let mut fx = Effects::new(MonoMs(2600), WallMs(1_002_600), Offset(0), ROOM);
    machine.fire(Timer::Expire(None), &mut fx);
    assert!(machine.is_empty() && fx.records[0].value.is_none());
}

#[test]
fn a_state_that_no_batch_holds_is_refused_and_changes_nothing() {
    let mut machine = Transactions::new(TransactionSettings::default());
    let producer = begin(&mut machine);
    let partitions = (0..1000).map(|i| (name("a-topic"), i)).collect();
    let mut fx = Effects::new(MonoMs(0), WallMs(0), Offset(0), 2000);
    let request = Request::Add { id: name("tx"), producer, partitions, version: Version::V2, verify: false };
    machine.handle(1, request, &mut fx);
    assert_eq!(fx.replies[0].reply, Reply::Added(Err(TxnError::TooLarge)));
    assert!(fx.records.is_empty());
    assert_eq!(
        machine.list(&ListFilter { longer_than_ms: -1, ..ListFilter::default() }, 0)[0].state,
        "Empty"
    );
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

/// What a client waits for.
enum Asked {
    Init,
    /// Then it writes to the partition, if no marker came since.
    Add {
        partition: usize,
        markers: usize,
    },
    End {
        commit: bool,
    },
}

/// A client, of which several may believe that the transactional id is theirs.
#[derive(Default)]
struct Client {
    id: usize,
    v2: bool,
    producer: Option<Producer>,
    asked: Option<(Token, Asked)>,
    /// Its open transaction's number and the partitions it wrote to.
    txn: Option<(u64, HashSet<usize>)>,
}

type Token = u64;

#[derive(Default)]
struct OpenOrEnded {
    epoch: ProducerEpoch,
    /// Numbers of the transactions written to since the last marker.
    open: Vec<u64>,
    markers: usize,
}

/// Replies and commands of one event.
type Settling = (Vec<(Token, Reply)>, Vec<Command>);

/// Everything around the machine. What is durable survives a crash.
struct World {
    random: Random,
    machine: Transactions,
    timers: TimerHeap<Timer>,
    log: Vec<(bytes::Bytes, Option<bytes::Bytes>)>,
    durable: usize,
    settling: Vec<Settling>,
    /// Markers on their way: the command and the partitions that are still to get them.
    marking: Vec<(Command, Vec<usize>)>,
    partitions: Vec<HashMap<ProducerId, OpenOrEnded>>,
    clients: Vec<Client>,
    now: i64,
    next_id: i64,
    next_token: Token,
    next_txn: u64,
    given: HashSet<(ProducerId, ProducerEpoch)>,
    /// Number → how it ended on each partition.
    ended: BTreeMap<u64, HashMap<usize, bool>>,
    /// Number → what its client was told, and where it wrote.
    told: BTreeMap<u64, (bool, HashSet<usize>)>,
}

fn settings() -> TransactionSettings {
    TransactionSettings {
        max_timeout_ms: 1000,
        id_expiration_ms: 3_000_000,
        id_check_ms: 100_000,
        ..TransactionSettings::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let clients = (0..6).map(|i| Client { id: i % 2, v2: i % 3 != 0, ..Client::default() }).collect();
        Self {
            random: Random(seed),
            machine: Transactions::new(settings()),
            timers: TimerHeap::default(),
            log: Vec::new(),
            durable: 0,
            settling: Vec::new(),
            marking: Vec::new(),
            partitions: (0..3).map(|_| HashMap::new()).collect(),
            clients,
            now: 0,
            next_id: 100,
            next_token: 0,
            next_txn: 0,
            given: HashSet::new(),
            ended: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn event(&mut self, what: impl FnOnce(&mut Transactions, &mut Effects<Transactions>)) {
        let mut fx =
            Effects::new(MonoMs(self.now), WallMs(1_000_000 + self.now), Offset(self.log.len() as i64), ROOM);
        what(&mut self.machine, &mut fx);
        for (at, timer) in fx.timers {
            self.timers.push(at, timer);
        }
        self.log.extend(fx.records.into_iter().map(|r| (r.key, r.value)));
        let replies = fx.replies.into_iter().map(|a| (a.token, a.reply)).collect();
        self.settling.push((replies, fx.commands));
    }

    /// The process dies: memory, the undurable end of the log, and what was on its way is gone.
    fn crash(&mut self) {
        self.log.truncate(self.durable);
        (self.settling, self.marking) = (Vec::new(), Vec::new());
        self.machine = Transactions::new(settings());
        self.timers = TimerHeap::default();
        for (offset, (key, value)) in self.log.iter().enumerate() {
            let (key, value) = (Some(key.clone()), value.clone());
            self.machine.replay(&Replayed {
                offset: offset as i64,
                producer: None,
                is_control: false,
                key,
                value,
            });
        }
        self.event(|machine, fx| machine.loaded(fx));
        // A client learns nothing of what it asked; a careful one starts over.
        for client in &mut self.clients {
            if client.asked.take().is_some() {
                (client.producer, client.txn) = (None, None);
            }
        }
    }

    fn commit_log(&mut self) {
        self.durable = self.log.len();
        for (replies, commands) in std::mem::take(&mut self.settling) {
            for (token, reply) in replies {
                self.answer(token, reply);
            }
            for command in commands {
                let partitions = command.partitions.iter().map(|(_, index)| *index as usize).collect();
                self.marking.push((command, partitions));
            }
        }
    }

    fn ask(&mut self, at: usize, asked: Asked, fresh: Option<ProducerId>) {
        let client = &mut self.clients[at];
        let id = name(["left", "right"][client.id]);
        let version = if client.v2 { Version::V2 } else { Version::V0 };
        let producer = client.producer.unwrap_or(Producer::new(-1, -1));
        let request = match &asked {
            Asked::Init => Request::Init { id, timeout_ms: 500, expected: client.producer, fresh },
            Asked::Add { partition, .. } => {
                let partitions = vec![(name("t"), *partition as i32)];
                Request::Add { id, producer, partitions, version, verify: false }
            }
            Asked::End { commit } => Request::End { id, producer, commit: *commit, version, fresh },
        };
        self.next_token += 1;
        let token = self.next_token;
        client.asked = Some((token, asked));
        self.event(|machine, fx| machine.handle(token, request, fx));
    }

    fn answer(&mut self, token: Token, reply: Reply) {
        let Some(at) = self.clients.iter().position(|c| c.asked.as_ref().is_some_and(|(t, _)| *t == token))
        else {
            return;
        };
        let Some((_, asked)) = self.clients[at].asked.take() else { return };
        match (reply, asked) {
            (Reply::NeedsProducerId, asked) => {
                self.next_id += 1;
                let fresh = Some(ProducerId(self.next_id));
                self.ask(at, asked, fresh);
            }
            (Reply::Producer(Ok(producer)), Asked::Init) => {
                let retried = self.clients[at].producer.is_some();
                assert!(
                    self.given.insert((producer.id, producer.epoch)) || retried,
                    "{producer:?} given twice"
                );
                (self.clients[at].producer, self.clients[at].txn) = (Some(producer), None);
            }
            (Reply::Producer(Ok(producer)), Asked::End { commit }) => {
                if let Some((number, wrote)) = self.clients[at].txn.take() {
                    self.told.insert(number, (commit, wrote));
                }
                self.given.insert((producer.id, producer.epoch));
                self.clients[at].producer = Some(producer);
            }
            (Reply::Added(Ok(_)), Asked::Add { partition, markers }) => self.write(at, partition, markers),
            (Reply::Producer(Err(TxnError::Concurrent)) | Reply::Added(Err(TxnError::Concurrent)), _) => {}
            // Fenced: the producer is of no use.
            _ => (self.clients[at].producer, self.clients[at].txn) = (None, None),
        }
    }

    fn write(&mut self, at: usize, partition: usize, markers: usize) {
        let producer = self.clients[at].producer.expect("who adds has a producer");
        let state = self.partitions[partition].entry(producer.id).or_default();
        if producer.epoch < state.epoch || (state.open.is_empty() && state.markers != markers) {
            (self.clients[at].producer, self.clients[at].txn) = (None, None);
            return;
        }
        if self.clients[at].txn.is_none() {
            self.next_txn += 1;
            self.clients[at].txn = Some((self.next_txn, HashSet::new()));
        }
        let (number, wrote) = self.clients[at].txn.as_mut().expect("begun above");
        wrote.insert(partition);
        state.epoch = producer.epoch;
        if !state.open.contains(number) {
            state.open.push(*number);
        }
    }

    /// One marker arrives; the last one tells the machine.
    fn mark(&mut self) {
        if self.marking.is_empty() {
            return;
        }
        let at = self.random.below(self.marking.len());
        let (command, rest) = &mut self.marking[at];
        if let Some(partition) = rest.pop() {
            let Producer { id, epoch } = command.producer;
            let state = self.partitions[partition].entry(id).or_default();
            assert!(epoch >= state.epoch, "{command:?} is fenced by its own producer: {}", state.epoch);
            state.epoch = epoch;
            state.markers += 1;
            for number in state.open.drain(..) {
                let before = self.ended.entry(number).or_default().insert(partition, command.commit);
                assert_eq!(before, None, "transaction {number} ended twice on partition {partition}");
            }
        }
        if rest.is_empty() {
            let (command, _) = self.marking.swap_remove(at);
            let marked = Request::Marked { id: command.id, producer: command.producer };
            self.event(|machine, fx| machine.handle(0, marked, fx));
        }
    }

    fn act(&mut self) {
        let at = self.random.below(self.clients.len());
        let client = &self.clients[at];
        if client.asked.is_some() {
            return;
        }
        let producer = client.producer.map(|p| p.id);
        match (producer, client.txn.is_some(), self.random.below(10)) {
            (None, ..) | (_, false, 0) => self.ask(at, Asked::Init, None),
            (_, true, 0..4) => {
                let commit = self.random.below(3) > 0;
                self.ask(at, Asked::End { commit }, None);
            }
            (Some(id), ..) => {
                let partition = self.random.below(self.partitions.len());
                let markers = self.partitions[partition].get(&id).map_or(0, |s| s.markers);
                self.ask(at, Asked::Add { partition, markers }, None);
            }
        }
    }

    fn pass_time(&mut self, ms: i64) {
        self.now += ms;
        while let Some(timer) = self.timers.pop_due(self.now) {
            self.event(|machine, fx| machine.fire(timer, fx));
        }
    }

    fn check(&self, seed: u64) {
        for (number, verdicts) in &self.ended {
            let verdicts: HashSet<bool> = verdicts.values().copied().collect();
            assert_eq!(verdicts.len(), 1, "seed {seed}: transaction {number} is both committed and aborted");
        }
        for (number, (commit, wrote)) in &self.told {
            for (partition, verdict) in self.ended.get(number).into_iter().flatten() {
                assert_eq!(
                    verdict, commit,
                    "seed {seed}: transaction {number} on {partition} is not what was said"
                );
            }
            let marked = self.ended.get(number).map_or(0, HashMap::len);
            assert_eq!(marked, wrote.len(), "seed {seed}: transaction {number} has markers missing");
        }
        let open = self.partitions.iter().flat_map(HashMap::values).any(|state| !state.open.is_empty());
        assert!(!open, "seed {seed}: a transaction stays open");
    }
}

#[test]
fn whatever_happens_a_transaction_ends_once_and_everywhere_alike() {
    let mut ends = 0;
    for seed in 1..=150 {
        let mut world = World::new(seed);
        world.crash();
        for _ in 0..1500 {
            match world.random.below(100) {
                0 => world.crash(),
                1..4 => world.pass_time(300),
                4..40 => world.commit_log(),
                40..60 => world.mark(),
                _ => world.act(),
            }
        }
        // It heals: clients are gone, everything open runs into its timeout.
        for _ in 0..200 {
            world.pass_time(100);
            world.commit_log();
            (0..20).for_each(|_| world.mark());
        }
        world.check(seed);
        ends += world.ended.len();
    }
    assert!(ends > 3000, "{ends} transactions ended");
}
