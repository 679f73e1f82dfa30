//! A leader's side: what one follower's shard fetches here, over one connection.
//!
//! ```text
//! append, high watermark, log start ─ mark ─▶ dirty slots ─▶ answer, from the head of the list
//!                                        │                       │ what has no room comes first next time
//!                                        └─ wakes who is parked ─┘
//! ```
//! - The session knows what it was told of each partition: a request mentions what changed, an answer has what is new.
//! - What was answered with batches or an error is asleep until it is mentioned again: the follower has to say where it is.
//! - Another high watermark or log start does not wake who is parked. It goes with the next answer.
//! - A newer request has the parked one answered at once, with nothing.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::FetchRequest;

use super::codec::{self, Mention};
use super::ground::Ground;
use super::slots::{Answered, Instead, Slot, Slots};
use super::waiting;
use crate::model::{BrokerEpoch, BrokerId, Offset, PartitionId};
use crate::partition::{Follows, ReadError, Replica, Role, Served};
use crate::peer::Lane;
use crate::rt::{self, Charge, Notify};
use crate::wire::fetch::{FetchPartitionReply, FetchReply, FetchTopicReply};

/// Partitions of one answer.
const MOST_ANSWERED: usize = 10_000;
/// Bytes of one answer, whatever was asked for.
pub(super) const MOST_BYTES: usize = 16 << 20;
const LEAST_BYTES: usize = 64 << 10;
/// The longest that a request is parked.
const MOST_WAIT_MS: i32 = 30_000;

/// See the module's page.
pub struct Session {
    /// Who said Hello on the connection.
    from: (BrokerId, BrokerEpoch),
    lane: Lane,
    ground: Rc<dyn Ground>,
    slots: RefCell<Slots>,
    /// The epoch that the next request has.
    epoch: Cell<i32>,
    /// Counts requests.
    turn: Cell<u64>,
    /// Something is there that is worth an answer.
    urgent: Cell<bool>,
    wake: Notify,
}

impl Follows for Session {
    fn mark(&self, place: usize) {
        let mut slots = self.slots.borrow_mut();
        let Some(Some(slot)) = slots.all.get(place) else { return };
        if slot.asleep {
            return;
        }
        let (id, report) = (slot.id, slot.report);
        slots.queue(place);
        drop(slots);
        let is_urgent = self.ground.replica(id).is_none_or(|replica| {
            replica.offsets().end() > report.offset || replica.leader().1 != report.leader_epoch
        });
        if is_urgent && !self.urgent.replace(true) {
            self.wake.notify_all();
        }
    }
}

impl Session {
    pub fn new(from: (BrokerId, BrokerEpoch), lane: Lane, ground: Rc<dyn Ground>) -> Rc<Self> {
        Rc::new(Self {
            from,
            lane,
            ground,
            slots: RefCell::default(),
            epoch: Cell::new(0),
            turn: Cell::new(0),
            urgent: Cell::new(false),
            wake: Notify::new(),
        })
    }

    /// Answers one request. Requests of a session are taken in the order of the calls, up to their first await; a later one
    /// ends the wait of the one before. With the answer comes the memory that was taken for it.
    pub async fn serve(self: &Rc<Self>, request: &FetchRequest) -> (FetchReply, Option<Charge>) {
        let turn = self.turn.get() + 1;
        self.turn.set(turn);
        self.wake.notify_all();
        if codec::from(request) != self.from {
            return (refused(codec::NOT_ALLOWED), None);
        }
        if let Err(code) = self.begin(request.session_epoch) {
            return (refused(code), None);
        }
        codec::forgotten(request).for_each(|id| self.forget(id));
        codec::mentioned(request).for_each(|mention| self.hear(&mention));
        let most = usize::try_from(request.max_bytes).unwrap_or(0).clamp(1, MOST_BYTES);
        let wait = Duration::from_millis(request.max_wait_ms.clamp(0, MOST_WAIT_MS) as u64);
        let mut deadline = pin!(rt::sleep(wait));
        let mut timed_out = wait.is_zero();
        loop {
            let woken = self.wake.listen();
            // A newer request was taken meanwhile: what it mentioned is its own to be answered.
            if self.turn.get() != turn || self.ground.is_stopping() {
                return (FetchReply::default(), None);
            }
            if self.urgent.replace(false) || timed_out {
                let (reply, memory) = self.gather(turn, most).await;
                if timed_out || !reply.topics.is_empty() {
                    return (reply, memory);
                }
            }
            timed_out = waiting::first(woken, deadline.as_mut()).await;
        }
    }

    fn begin(self: &Rc<Self>, epoch: i32) -> Result<(), i16> {
        if epoch == 0 {
            self.clear();
        } else if epoch != self.epoch.get() {
            return Err(codec::BAD_SESSION);
        }
        self.epoch.set(epoch.checked_add(1).unwrap_or(1));
        Ok(())
    }

    fn clear(self: &Rc<Self>) {
        let known: Vec<PartitionId> = self.slots.borrow().by_id.keys().copied().collect();
        known.into_iter().for_each(|id| self.forget(id));
    }

    fn forget(self: &Rc<Self>, id: PartitionId) {
        if let Some(replica) = self.ground.replica(id) {
            let follows: Rc<dyn Follows> = self.clone();
            replica.unfollow(&follows);
        }
        self.slots.borrow_mut().remove(id);
    }

    /// The follower says where it is in one partition (R2): that counts, and it is answered.
    fn hear(self: &Rc<Self>, mention: &Mention) {
        let Mention { id, report, max_bytes } = *mention;
        let replica = self.ground.replica(id);
        let served = match &replica {
            Some(replica) => replica.on_fetch(&report, self.ground.now()),
            None => Err(self.ground.absent(id)),
        };
        let mut slot = Slot {
            id,
            report,
            max_bytes,
            mention: self.turn.get(),
            starts: Vec::new(),
            instead: None,
            told: None,
            queued: false,
            asleep: false,
        };
        match served {
            Ok(Served { diverging, starts, propose, lost, .. }) => {
                slot.starts = starts;
                slot.instead = diverging.map(|(epoch, end)| Instead::Diverging(epoch, end));
                if let Some(broker) = lost {
                    log::error!("{id}: broker {broker} has lost records that were on its disk");
                }
                propose.into_iter().for_each(|proposal| self.ground.propose(id, proposal));
            }
            Err(e) => slot.instead = Some(Instead::Failed(e)),
        }
        let Some(at) = self.slots.borrow_mut().put(slot) else { return };
        if let Some(replica) = &replica {
            let follows: Rc<dyn Follows> = self.clone();
            replica.follow_with(&follows, at);
        }
        let mut slots = self.slots.borrow_mut();
        slots.queue(at);
        let is_urgent = slots.all[at].as_ref().is_some_and(|slot| slot.instead.is_some())
            || replica.is_none_or(|replica| replica.offsets().end() > report.offset);
        if is_urgent {
            self.urgent.set(true);
        }
    }

    /// What is new, from the head of the list, as far as it fits.
    async fn gather(self: &Rc<Self>, turn: u64, most: usize) -> (FetchReply, Option<Charge>) {
        let memory = self.ground.answer(LEAST_BYTES.min(most), most).await;
        let mut left = memory.bytes().min(most);
        let (mut replies, mut any_bytes) = (Vec::new(), false);
        let dirty = self.slots.borrow().dirty.len().min(MOST_ANSWERED);
        for _ in 0..dirty {
            if left == 0 || self.turn.get() != turn {
                self.urgent.set(true);
                break;
            }
            let Some(at) = self.slots.borrow_mut().dirty.pop_front() else { break };
            match self.answer_one(at, left, !any_bytes).await {
                Answered::Nothing => {}
                Answered::Later => {
                    self.urgent.set(true);
                    break;
                }
                Answered::Reply(id, reply) => {
                    let bytes: usize = reply.records.iter().map(Bytes::len).sum();
                    any_bytes |= bytes > 0;
                    left = left.saturating_sub(bytes);
                    replies.push((id, reply));
                }
            }
        }
        if !self.slots.borrow().dirty.is_empty() && dirty == MOST_ANSWERED {
            self.urgent.set(true);
        }
        let mut reply = FetchReply::default();
        replies.sort_by_key(|(id, _)| *id);
        for (id, partition) in replies {
            match reply.topics.last_mut() {
                Some(topic) if topic.id == id.topic => topic.partitions.push(partition),
                _ => reply.topics.push(FetchTopicReply {
                    id: id.topic,
                    partitions: vec![partition],
                    ..FetchTopicReply::default()
                }),
            }
        }
        (reply, Some(memory))
    }

    async fn answer_one(self: &Rc<Self>, at: usize, left: usize, first: bool) -> Answered {
        let (id, report, max_bytes, mention) = {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = &mut slots.all[at] else { return Answered::Nothing };
            slot.queued = false;
            (slot.id, slot.report, slot.max_bytes, slot.mention)
        };
        let Some(replica) = self.ground.replica(id) else {
            return self.fall_asleep(at, id, &self.ground.absent(id), Offset::ZERO);
        };
        let offsets = replica.offsets();
        let instead = self.slots.borrow_mut().all[at].as_mut().and_then(|slot| slot.instead.take());
        match instead {
            Some(Instead::Failed(e)) => return self.fall_asleep_at(at, id, &e, &replica),
            Some(Instead::Diverging(epoch, end)) => {
                let mut reply = self.reply(at, id, &replica);
                reply.diverging_epoch = Some((epoch, end));
                self.sleep(at);
                return Answered::Reply(id, reply);
            }
            None => {}
        }
        if let Err(e) = replica.check_leader(Some(report.leader_epoch)) {
            return self.fall_asleep_at(at, id, &e, &replica);
        }
        if report.offset < offsets.log_start() {
            return self.fall_asleep_at(at, id, &ReadError::OffsetOutOfRange, &replica);
        }
        if report.offset >= offsets.end() {
            let told = Some((offsets.high_watermark(), offsets.log_start()));
            let news = self.slots.borrow().all[at].as_ref().is_some_and(|slot| slot.told != told);
            return if news { Answered::Reply(id, self.reply(at, id, &replica)) } else { Answered::Nothing };
        }
        if let Some(pause) = self.pause(&replica) {
            return self.put_off(at, pause);
        }
        let most = max_bytes.min(left).max(1);
        let batches = match replica.read_ordered_cached(report.offset, most, first) {
            Some(batches) => Ok(batches),
            None => replica.read_ordered(report.offset, most, first).await,
        };
        // While the disk was read it may have been mentioned again, or forgotten.
        let is_current = |slot: &Slot| slot.id == id && slot.mention == mention;
        if !self.slots.borrow().all[at].as_ref().is_some_and(is_current) {
            return Answered::Nothing;
        }
        match batches {
            Err(e) => self.fall_asleep_at(at, id, &e.into(), &replica),
            // It does not fit any more: it is the first of the next answer.
            Ok(batches) if batches.is_empty() => {
                let mut slots = self.slots.borrow_mut();
                if let Some(slot) = &mut slots.all[at] {
                    slot.queued = true;
                    slots.dirty.push_front(at);
                }
                Answered::Later
            }
            // Deposed while the disk was read, perhaps, and cut: what was read is nobody's.
            Ok(_) if replica.check_leader(Some(report.leader_epoch)).is_err() => {
                self.fall_asleep_at(at, id, &ReadError::NotLeader, &replica)
            }
            Ok(batches) => {
                self.note_given(&replica, &batches);
                let mut reply = self.reply(at, id, &replica);
                reply.records = batches;
                self.sleep(at);
                Answered::Reply(id, reply)
            }
        }
    }

    /// Whether what is copied of it is held to what administrators allow (KIP-73): never what is in sync.
    fn is_throttled(&self, replica: &Replica) -> bool {
        self.lane == Lane::CatchUp && replica.is_throttled(Role::Leader, self.ground.me().id)
    }

    /// How long nothing of it may be given.
    fn pause(&self, replica: &Replica) -> Option<Duration> {
        self.is_throttled(replica).then(|| self.ground.paces().leader.wait(self.ground.now()))?
    }

    fn note_given(&self, replica: &Replica, batches: &[Bytes]) {
        if self.is_throttled(replica) {
            self.ground.paces().leader.spend(batches.iter().map(Bytes::len).sum(), self.ground.now());
        }
    }

    /// The partition is answered for later.
    fn put_off(self: &Rc<Self>, at: usize, pause: Duration) -> Answered {
        self.sleep(at);
        let mention = self.slots.borrow().all[at].as_ref().map(|slot| slot.mention);
        let session = Rc::downgrade(self);
        rt::spawn(async move {
            rt::sleep(pause).await;
            let Some(session) = session.upgrade() else { return };
            let mut slots = session.slots.borrow_mut();
            // Forgotten or mentioned meanwhile, it goes its own way.
            let Some(Some(slot)) = slots.all.get_mut(at) else { return };
            if Some(slot.mention) == mention {
                slot.asleep = false;
                slots.queue(at);
                drop(slots);
                session.urgent.set(true);
                session.wake.notify_all();
            }
        });
        Answered::Nothing
    }

    /// Of what the follower knows by now.
    fn reply(&self, at: usize, id: PartitionId, replica: &Replica) -> FetchPartitionReply {
        let offsets = replica.offsets();
        let mut slots = self.slots.borrow_mut();
        let mut own = Default::default();
        if let Some(slot) = &mut slots.all[at] {
            slot.told = Some((offsets.high_watermark(), offsets.log_start()));
            own = codec::starts(&slot.starts);
        }
        FetchPartitionReply {
            index: id.index,
            high_watermark: offsets.high_watermark().0,
            last_stable_offset: -1,
            log_start_offset: offsets.log_start().0,
            own,
            ..FetchPartitionReply::default()
        }
    }

    fn fall_asleep_at(&self, at: usize, id: PartitionId, e: &ReadError, replica: &Replica) -> Answered {
        let offsets = replica.offsets();
        match self.fall_asleep(at, id, e, offsets.end()) {
            Answered::Reply(id, reply) => {
                Answered::Reply(id, FetchPartitionReply { log_start_offset: offsets.log_start().0, ..reply })
            }
            other => other,
        }
    }

    fn fall_asleep(&self, at: usize, id: PartitionId, e: &ReadError, end: Offset) -> Answered {
        self.sleep(at);
        Answered::Reply(id, codec::failed(id.index, e, end))
    }

    fn sleep(&self, at: usize) {
        if let Some(slot) = &mut self.slots.borrow_mut().all[at] {
            slot.asleep = true;
        }
    }

    /// Partitions that it knows.
    pub fn len(&self) -> usize {
        self.slots.borrow().by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn refused(error_code: i16) -> FetchReply {
    FetchReply { error_code, ..FetchReply::default() }
}
