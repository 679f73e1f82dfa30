//! Three brokers in one process, whose shards' sides of replication talk over connections that are cut: everything but the
//! sockets is real, the encoding of what is said included.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::{FetchRequest, FetchResponse};
use kafka_wire_core::{ApiVersion, Decoder, Encoder, KafkaDecode, KafkaEncode};

use super::*;
use crate::controller::PartitionState;
use crate::log::{LogSettings, RecoveredPartition, ShardLog, Topics};
use crate::model::topic_config::TopicConfig;
use crate::model::{BrokerEpoch, LeaderEpoch, MonoMs, Offset, PartitionEpoch, TopicId};
use crate::partition::leader::Proposal;
use crate::partition::peer::PeerState;
use crate::partition::producer::Producers;
use crate::partition::{Acks, Assignment, Due, Failure, Host, ReadError, Replica};
use crate::rt::{Budget, Charge};
use crate::wire::ProducedBatch;
use crate::wire::batch::BatchIter;
use crate::wire::frame::decode_limits;
use crate::wire::records::{BatchBuilder, BatchMark};
use crate::wire::validate::{Effort, Sound};

const BROKERS: BrokerId = 3;
const PARTITIONS: i32 = 5;
const TOPIC: TopicId = TopicId([7; 16]);

fn id(index: i32) -> PartitionId {
    PartitionId { topic: TOPIC, index }
}

struct OneTopic;

impl Topics for OneTopic {
    fn partition(&self, id: PartitionId) -> Option<(Arc<str>, Arc<TopicConfig>)> {
        (id.topic == TOPIC).then(|| ("orders".into(), Arc::default()))
    }

    fn was_deleted(&self, _: TopicId) -> bool {
        false
    }

    fn has_name(&self, topic: &str, partition: i32) -> bool {
        topic == "orders" && partition < PARTITIONS
    }
}

/// What stands for a shard.
struct Broker {
    me: Cell<PeerState>,
    store: Rc<ShardLog>,
    host: Rc<Host>,
    replicas: BTreeMap<PartitionId, Rc<Replica>>,
    proposals: Rc<Proposals>,
    answers: Budget,
    began: Instant,
    dead: Cell<bool>,
    /// Requests that it was asked.
    asked: Cell<usize>,
    followed: RefCell<Option<Rc<Followed>>>,
    paces: Paces,
    /// Bytes that it was given over each lane.
    given: RefCell<BTreeMap<Lane, usize>>,
}

impl Ground for Broker {
    fn me(&self) -> PeerState {
        self.me.get()
    }

    fn replica(&self, id: PartitionId) -> Option<Rc<Replica>> {
        self.replicas.get(&id).cloned()
    }

    fn absent(&self, _: PartitionId) -> ReadError {
        ReadError::UnknownPartition
    }

    fn store(&self) -> Rc<ShardLog> {
        self.store.clone()
    }

    fn now(&self) -> MonoMs {
        MonoMs(self.began.elapsed().as_millis() as i64)
    }

    fn is_stopping(&self) -> bool {
        self.dead.get()
    }

    fn answer(&self, least: usize, most: usize) -> Later<Charge> {
        let answers = self.answers.clone();
        Box::pin(async move { answers.take(least, most).await })
    }

    fn propose(&self, id: PartitionId, proposal: Proposal) {
        self.proposals.push(id, proposal);
    }

    fn appended(&self, _: &[Rc<Replica>]) {}

    fn paces(&self) -> &Paces {
        &self.paces
    }

    fn begins(&self, _: PartitionId) {}
}

/// Follows the journal, as a shard does.
async fn follow_commits(broker: Rc<Broker>) {
    while !broker.dead.get() {
        let journal = broker.store.journal();
        let advanced = journal.advanced().listen();
        broker.host.set_now(broker.now());
        broker.replicas.values().for_each(|replica| replica.on_durable(|lsn| journal.is_durable(lsn)));
        rt::race(advanced, rt::sleep(Duration::from_millis(20))).await;
    }
}

#[derive(Default)]
struct Net {
    brokers: RefCell<BTreeMap<BrokerId, Rc<Broker>>>,
    /// Connections of these generations are cut.
    cut: Cell<u64>,
}

impl Net {
    fn live(&self, id: BrokerId) -> Option<Rc<Broker>> {
        self.brokers.borrow().get(&id).filter(|broker| !broker.dead.get()).cloned()
    }
}

struct Caller {
    net: Rc<Net>,
    from: BrokerId,
}

struct Connection {
    net: Rc<Net>,
    to: Rc<Broker>,
    from: Rc<Broker>,
    session: Rc<Session>,
    lane: Lane,
    generation: u64,
    /// Whether the answer before has been given.
    last: RefCell<Rc<Given>>,
}

#[derive(Default)]
struct Given {
    is: Cell<bool>,
    news: rt::Notify,
}

impl Dial for Caller {
    fn dial(&self, source: Source, lane: Lane) -> Later<Result<Rc<dyn Fetches>, String>> {
        let (net, from) = (self.net.clone(), self.from);
        Box::pin(async move {
            let (Some(to), Some(from)) = (net.live(source.broker), net.live(from)) else {
                return Err("nobody is there".into());
            };
            let session = Session::new((from.me().id, from.me().epoch), lane, to.clone());
            let generation = net.cut.get();
            let first = Rc::new(Given { is: Cell::new(true), ..Given::default() });
            let last = RefCell::new(first);
            let connection = Connection { net, to, from, session, lane, generation, last };
            Ok(Rc::new(connection) as Rc<dyn Fetches>)
        })
    }
}

/// As it crosses the wire.
fn reencoded(request: &FetchRequest) -> FetchRequest {
    let mut bytes = BytesMut::new();
    request.encode(&mut Encoder::new(&mut bytes), ApiVersion::new(VERSION)).unwrap();
    let mut decoder = Decoder::new(bytes.freeze(), decode_limits(1 << 26)).unwrap();
    FetchRequest::decode(&mut decoder, ApiVersion::new(VERSION)).unwrap()
}

impl Fetches for Connection {
    fn fetch(&self, request: FetchRequest) -> Later<Result<FetchResponse, String>> {
        let request = reencoded(&request);
        self.to.asked.set(self.to.asked.get() + 1);
        let (session, to, from) = (self.session.clone(), self.to.clone(), self.from.clone());
        let (net, generation, lane) = (self.net.clone(), self.generation, self.lane);
        let given = Rc::new(Given::default());
        let before = self.last.replace(given.clone());
        let answer = rt::spawn(async move {
            let (reply, _memory) = session.serve(&request).await;
            let partitions = reply.topics.iter().flat_map(|topic| &topic.partitions);
            let bytes: usize = partitions.flat_map(|partition| &partition.records).map(Bytes::len).sum();
            *from.given.borrow_mut().entry(lane).or_default() += bytes;
            while !before.is.get() {
                before.news.notified().await;
            }
            given.is.set(true);
            given.news.notify_all();
            let mut frame = BytesMut::new();
            for slice in crate::wire::fetch::encode(reply, VERSION, 1) {
                frame.extend_from_slice(&slice);
            }
            // Length, correlation id and the header's tags.
            let body: Bytes = frame.freeze().slice(9..);
            if to.dead.get() || from.dead.get() || net.cut.get() != generation {
                return Err("the connection is cut".to_owned());
            }
            let mut decoder = Decoder::new(body, decode_limits(1 << 26)).map_err(|e| e.to_string())?;
            FetchResponse::decode(&mut decoder, ApiVersion::new(VERSION)).map_err(|e| e.to_string())
        });
        Box::pin(answer)
    }
}

/// The controller and what it knows.
struct World {
    net: Rc<Net>,
    dirs: BTreeMap<BrokerId, tempfile::TempDir>,
    /// Of those that died.
    graves: Vec<tempfile::TempDir>,
    partitions: RefCell<BTreeMap<PartitionId, Assignment>>,
    lives: RefCell<BTreeMap<BrokerId, PeerState>>,
    life: Cell<i64>,
}

impl World {
    async fn new() -> Rc<RefCell<Self>> {
        let ids: Vec<BrokerId> = (1..=BROKERS).collect();
        let of = |index: i32| Assignment {
            leader: Some(1 + index % BROKERS),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            replicas: ids.clone(),
            isr: ids.clone(),
        };
        let life = |id: &BrokerId| (*id, PeerState { id: *id, epoch: BrokerEpoch(0), eligible: true });
        let world = Self {
            net: Rc::default(),
            dirs: ids.iter().map(|id| (*id, tempfile::tempdir().unwrap())).collect(),
            graves: Vec::new(),
            partitions: RefCell::new((0..PARTITIONS).map(|index| (id(index), of(index))).collect()),
            lives: RefCell::new(ids.iter().map(life).collect()),
            life: Cell::new(0),
        };
        let world = Rc::new(RefCell::new(world));
        for id in ids {
            start(&world, id).await;
        }
        world
    }

    /// Everybody that lives hears of everything.
    fn publish(&self) {
        let brokers: Vec<_> = self.net.brokers.borrow().values().filter(|b| !b.dead.get()).cloned().collect();
        for broker in brokers {
            for (id, state) in &*self.lives.borrow() {
                broker.host.set_peer(*id, Some(*state));
                broker.replicas.values().for_each(|replica| drop(replica.on_peer(*state, broker.now())));
            }
            for (id, assignment) in &*self.partitions.borrow() {
                let replica = &broker.replicas[id];
                replica.assign(&broker.store, assignment.clone(), broker.now());
                let followed = broker.followed.borrow().clone();
                followed.iter().for_each(|followed| followed.follow(*id, |_| Some(1)));
            }
        }
    }

    fn alter(
        &self,
        change: &crate::controller::IsrChange,
    ) -> Result<PartitionState, crate::controller::IsrRefusal> {
        use crate::controller::IsrRefusal;
        let mut partitions = self.partitions.borrow_mut();
        let now = partitions.get_mut(&change.id).ok_or(IsrRefusal::UnknownPartition)?;
        if now.leader_epoch != change.leader_epoch {
            return Err(IsrRefusal::FencedLeaderEpoch);
        }
        if now.partition_epoch != change.partition_epoch {
            return Err(IsrRefusal::InvalidUpdateVersion);
        }
        let lives = self.lives.borrow();
        let able = |(id, epoch): &(BrokerId, BrokerEpoch)| {
            lives.get(id).is_some_and(|state| state.eligible && state.epoch == *epoch)
        };
        if !change.isr.iter().all(able) {
            return Err(IsrRefusal::IneligibleReplica);
        }
        now.isr = change.isr.iter().map(|(id, _)| *id).collect();
        now.partition_epoch.0 += 1;
        Ok(PartitionState {
            leader: now.leader,
            leader_epoch: now.leader_epoch,
            partition_epoch: now.partition_epoch,
            isr: now.isr.clone(),
            recovering: false,
        })
    }

    /// It leaves every ISR that has another member; others lead what it led.
    fn fence(&self, broker: BrokerId, eligible: bool) {
        if let Some(state) = self.lives.borrow_mut().get_mut(&broker) {
            state.eligible = eligible;
        }
        for assignment in self.partitions.borrow_mut().values_mut() {
            if assignment.isr.len() > 1 {
                assignment.isr.retain(|member| *member != broker);
            }
            if assignment.leader == Some(broker) {
                assignment.leader = assignment.isr.first().copied();
                assignment.leader_epoch.0 += 1;
            }
            assignment.partition_epoch.0 += 1;
        }
    }

    fn leader(&self, partition: PartitionId) -> Option<Rc<Broker>> {
        self.net.live(self.partitions.borrow()[&partition].leader?)
    }
}

async fn open(dir: &Path) -> (Rc<ShardLog>, Vec<RecoveredPartition>) {
    let settings = LogSettings {
        journal_file_bytes: 256 << 10,
        journal_max_files: 8,
        max_commit_bytes: 64 << 10,
        zero_ahead_bytes: 64 << 10,
        ..LogSettings::default()
    };
    ShardLog::open(dir, 0, 1, &OneTopic, settings).await.unwrap()
}

async fn start(world: &Rc<RefCell<World>>, broker: BrokerId) {
    let dir = world.borrow().dirs[&broker].path().to_owned();
    let (store, recovered) = open(&dir).await;
    let host = Host::new(broker, 30_000);
    let mut recovered: BTreeMap<_, _> = recovered.into_iter().map(|found| (found.id, found)).collect();
    let replica = |index: i32| {
        let names = (id(index), Arc::from("orders"));
        let replica = match recovered.remove(&id(index)) {
            None => {
                let log = store.create(id(index), "orders", Arc::default());
                Replica::new(names, &host, log, Arc::default(), Offset(0))
            }
            Some(found) => {
                assert_eq!(found.repair, None);
                let snapshot = found.producer_state.as_ref().map(|(_, state)| state.as_slice());
                let producers = Producers::rebuild(snapshot, &found.replayed, rt::wall());
                let at = found.high_watermark;
                let replica = Replica::new(names, &host, found.log, Arc::default(), at);
                replica.set_producers(producers);
                replica
            }
        };
        (id(index), Rc::new(replica))
    };
    let replicas = (0..PARTITIONS).map(replica).collect();
    let state = world.borrow().lives.borrow()[&broker];
    let it = Rc::new(Broker {
        me: Cell::new(state),
        store,
        host,
        replicas,
        proposals: Rc::default(),
        answers: Budget::new(64 << 20),
        began: Instant::now(),
        dead: Cell::new(false),
        asked: Cell::new(0),
        followed: RefCell::default(),
        paces: Paces::default(),
        given: RefCell::default(),
    });
    let net = world.borrow().net.clone();
    let caller = Rc::new(Caller { net: net.clone(), from: broker });
    *it.followed.borrow_mut() = Some(Rc::new(Followed::new(it.clone(), caller)));
    net.brokers.borrow_mut().insert(broker, it.clone());
    rt::spawn(follow_commits(it.clone()));
    let controller = world.clone();
    let propose: Propose = Rc::new(move |alter| {
        let controller = controller.clone();
        Box::pin(async move {
            let world = controller.borrow();
            let answers = alter.changes.iter().map(|change| world.alter(change)).collect();
            world.publish();
            Some(answers)
        })
    });
    rt::spawn(it.proposals.clone().run(it.clone(), || 0, propose));
    world.borrow().publish();
}

fn kill(world: &Rc<RefCell<World>>, broker: BrokerId) {
    let it = world.borrow().net.live(broker).expect("it lives");
    it.dead.set(true);
    it.proposals.end();
    it.followed.borrow().iter().for_each(|followed| followed.end());
    // What its log still does is in a directory that nobody reads any more.
    let left = image(&world.borrow().dirs[&broker]);
    let old = world.borrow_mut().dirs.insert(broker, left);
    world.borrow_mut().graves.extend(old);
    world.borrow().fence(broker, false);
    world.borrow().publish();
}

async fn restart(world: &Rc<RefCell<World>>, broker: BrokerId) {
    {
        let world = world.borrow();
        world.life.set(world.life.get() + 1);
        let state = PeerState { id: broker, epoch: BrokerEpoch(world.life.get()), eligible: true };
        world.lives.borrow_mut().insert(broker, state);
    }
    start(world, broker).await;
}

/// A copy of a directory, as a kill leaves it.
fn image(dir: &tempfile::TempDir) -> tempfile::TempDir {
    for _ in 0..100 {
        let copy = tempfile::tempdir().unwrap();
        let mut copying = std::process::Command::new("cp");
        let copied = copying.arg("-a").arg(dir.path().join(".")).arg(copy.path()).output().unwrap();
        if copied.status.success() {
            return copy;
        }
    }
    panic!("{} does not come to rest", dir.path().display());
}

fn batch(value: &str) -> BytesMut {
    let mut builder = BatchBuilder::new(rt::unix_ms(), BatchMark::default());
    builder.push(None, Some(value.as_bytes()));
    builder.finish()
}

/// Appends at the leader and waits for it to be committed. Returns its offset, if it is.
async fn produce(world: &Rc<RefCell<World>>, partition: PartitionId, value: &str) -> Option<i64> {
    let leader = world.borrow().leader(partition)?;
    let replica = leader.replicas[&partition].clone();
    let parsed = ProducedBatch::parse(batch(value)).unwrap();
    let rules = replica.rules(rt::wall());
    let sound = Sound::check(parsed, &rules, Effort::Light, &mut Vec::new()).unwrap();
    let appended = replica.append(&leader.store, sound, rt::wall(), None).ok()?;
    let wait = replica.waits().begin(Due::NEVER);
    replica.acknowledge(&appended, Acks::All, wait.ticket(0));
    let mut late = std::pin::pin!(rt::sleep(Duration::from_secs(20)));
    let mut settled = std::pin::pin!(&wait);
    let in_time = std::future::poll_fn(|cx| {
        if settled.as_mut().poll(cx).is_ready() || leader.dead.get() {
            return std::task::Poll::Ready(true);
        }
        late.as_mut().poll(cx).map(|()| false)
    });
    assert!(in_time.await, "{partition}: nobody commits {value}");
    let mut failed: Vec<Failure> = Vec::new();
    wait.failures(|_, why| failed.push(why));
    (failed.is_empty() && !leader.dead.get()).then_some(appended.base_offset.0)
}

/// Values by offset.
async fn contents(replica: &Replica) -> BTreeMap<i64, Bytes> {
    let (mut at, mut found) = (replica.offsets().log_start(), BTreeMap::new());
    while at < replica.offsets().end() {
        for slice in replica.read_ordered(at, 1 << 20, true).await.unwrap() {
            for batch in BatchIter::new(&slice) {
                let (header, range) = batch.unwrap();
                found.insert(header.base_offset, slice.slice(range));
                at = Offset(header.next_offset());
            }
        }
    }
    found
}

async fn converged(world: &Rc<RefCell<World>>) {
    for _ in 0..2000 {
        let brokers: Vec<_> = world.borrow().net.brokers.borrow().values().cloned().collect();
        let same = (0..PARTITIONS).all(|index| {
            let offsets: BTreeSet<_> = brokers
                .iter()
                .map(|broker| broker.replicas[&id(index)].offsets())
                .map(|offsets| (offsets.high_watermark(), offsets.end()))
                .collect();
            let all = world.borrow().partitions.borrow()[&id(index)].isr.len() == BROKERS as usize;
            all && offsets.len() == 1 && offsets.iter().all(|(committed, end)| committed == end)
        });
        if same {
            return;
        }
        rt::sleep(Duration::from_millis(10)).await;
    }
    let of = |broker: &Rc<Broker>| {
        broker.replicas.values().map(|replica| (replica.role(), replica.offsets())).collect::<Vec<_>>()
    };
    let states: Vec<_> = world.borrow().net.brokers.borrow().values().map(of).collect();
    panic!("{states:#?} {:#?}", world.borrow().partitions.borrow());
}

async fn end(world: &Rc<RefCell<World>>) {
    let brokers: Vec<_> = world.borrow().net.brokers.borrow().values().cloned().collect();
    for broker in brokers {
        broker.dead.set(true);
        broker.proposals.end();
        broker.followed.borrow_mut().take().iter().for_each(|followed| followed.end());
    }
    // Whoever is parked sees that it is over.
    world.borrow().net.cut.set(u64::MAX);
}

#[test]
fn what_was_acknowledged_by_all_is_everywhere_whoever_dies() {
    rt::block_on(async move {
        let world = World::new().await;
        let mut acked: BTreeMap<(PartitionId, i64), String> = BTreeMap::new();
        let mut number = 0;
        for round in 0..8 {
            let dies = (round % 4 == 1 || round % 4 == 2).then_some(1 + round % BROKERS);
            for nth in 0..30 {
                if nth == 15
                    && let Some(broker) = dies
                {
                    kill(&world, broker);
                }
                if nth == 22 && round == 5 {
                    let net = world.borrow().net.clone();
                    net.cut.set(net.cut.get() + 1);
                }
                let (index, value) = (nth % PARTITIONS, format!("value {number}"));
                number += 1;
                if nth % 7 == 6
                    && let Some(leader) = world.borrow().leader(id(index))
                {
                    // Nobody waits for this one: it may be lost, and whoever dies takes what only it has.
                    let replica = &leader.replicas[&id(index)];
                    let parsed = ProducedBatch::parse(batch("forlorn")).unwrap();
                    let rules = replica.rules(rt::wall());
                    let sound = Sound::check(parsed, &rules, Effort::Light, &mut Vec::new()).unwrap();
                    let _ = replica.append(&leader.store, sound, rt::wall(), None);
                    continue;
                }
                if let Some(at) = produce(&world, id(index), &value).await {
                    acked.insert((id(index), at), value);
                }
            }
            if let Some(broker) = dies {
                restart(&world, broker).await;
            }
            converged(&world).await;
        }
        assert!(acked.len() > 150, "{}", acked.len());
        let brokers: Vec<_> = world.borrow().net.brokers.borrow().values().cloned().collect();
        for index in 0..PARTITIONS {
            let first = contents(&brokers[0].replicas[&id(index)]).await;
            for broker in &brokers {
                let found = contents(&broker.replicas[&id(index)]).await;
                assert_eq!(found, first, "partition {index}");
                for ((_, at), value) in acked.iter().filter(|((partition, _), _)| *partition == id(index)) {
                    let bytes = &found[at];
                    let there = bytes.windows(value.len()).any(|window| window == value.as_bytes());
                    assert!(there, "partition {index} offset {at}: {value}");
                }
            }
        }
        end(&world).await;
    });
}

#[test]
fn who_has_nothing_to_do_asks_seldom_and_is_told_at_once() {
    rt::block_on(async move {
        let world = World::new().await;
        for index in 0..PARTITIONS {
            assert_eq!(produce(&world, id(index), "first").await, Some(0));
        }
        converged(&world).await;
        let brokers: Vec<_> = world.borrow().net.brokers.borrow().values().cloned().collect();
        let asked = || brokers.iter().map(|broker| broker.asked.get()).sum::<usize>();
        let before = asked();
        rt::sleep(Duration::from_secs(3)).await;
        // Six sessions, parked for half a second at first, then for longer.
        let idle = asked() - before;
        assert!(idle <= 6 * 4, "{idle} requests while nothing happened");
        let asked_before = asked();
        assert_eq!(produce(&world, id(0), "second").await, Some(1));
        assert!(asked() > asked_before, "its followers were parked");
        end(&world).await;
    });
}

/// One broker is away while much is written; then it comes back, and what is in sync goes on meanwhile.
#[test]
fn who_is_far_behind_catches_up_by_a_way_of_its_own_at_its_own_pace() {
    rt::block_on(async move {
        let world = World::new().await;
        for index in 0..PARTITIONS {
            produce(&world, id(index), "first").await;
        }
        converged(&world).await;
        kill(&world, 3);
        let value = "v".repeat(8_000);
        for nth in 0..100 {
            produce(&world, id(nth % PARTITIONS), &value).await;
        }
        restart(&world, 3).await;
        let late = world.borrow().net.live(3).expect("it lives");
        late.paces.catch_up.set(256 << 10);
        let began = late.began.elapsed();
        // Nobody waits for it meanwhile.
        for nth in 0..10 {
            produce(&world, id(nth % PARTITIONS), "meanwhile").await;
        }
        let caught_up = |late: &Broker| late.given.borrow().get(&Lane::CatchUp).copied().unwrap_or(0);
        assert!(caught_up(&late) < 500_000, "{:?}", late.given.borrow());
        converged(&world).await;
        assert!(late.began.elapsed() - began > Duration::from_secs(1), "800 KB at 256 KiB a second");
        let given = late.given.borrow().clone();
        assert!(given[&Lane::CatchUp] > 600_000, "{given:?}");
        let all = |lane: Lane| {
            let followed = late.followed.borrow().clone().expect("it follows");
            let all = followed.fetchers.all.borrow();
            all.keys().filter(|(_, of)| *of == lane).count()
        };
        for _ in 0..500 {
            if all(Lane::CatchUp) == 0 {
                break;
            }
            rt::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            (all(Lane::CatchUp), all(Lane::Live)),
            (0, 2),
            "what is in sync has one connection a leader"
        );
        let before = late.given.borrow()[&Lane::CatchUp];
        produce(&world, id(0), "afterwards").await;
        produce(&world, id(1), "afterwards").await;
        converged(&world).await;
        assert_eq!(late.given.borrow()[&Lane::CatchUp], before);
        end(&world).await;
    });
}
