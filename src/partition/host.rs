//! What the replicas of one shard share.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::peer::PeerState;
use super::waits::Waits;
use crate::model::{BrokerEpoch, BrokerId, MonoMs};

pub struct Host {
    pub broker: BrokerId,
    pub waits: Rc<Waits>,
    /// `replica.lag.time.max.ms`.
    pub lag_max_ms: i64,
    /// The brokers that the metadata has.
    peers: RefCell<BTreeMap<BrokerId, PeerState>>,
    now: Cell<MonoMs>,
}

impl Host {
    pub fn new(broker: BrokerId, lag_max_ms: i64) -> Rc<Self> {
        Rc::new(Self {
            broker,
            waits: Rc::default(),
            lag_max_ms,
            peers: RefCell::default(),
            now: Cell::new(MonoMs::ZERO),
        })
    }

    /// The metadata has this of a broker; `None`: no such broker any more. [`super::Replica::on_peer`] has to follow.
    pub fn set_peer(&self, id: BrokerId, state: Option<PeerState>) {
        match state {
            Some(state) => drop(self.peers.borrow_mut().insert(id, state)),
            None => drop(self.peers.borrow_mut().remove(&id)),
        }
    }

    /// A broker that is not registered is not there.
    pub fn peer(&self, id: BrokerId) -> PeerState {
        let absent = PeerState { id, epoch: BrokerEpoch::ZERO, eligible: false };
        self.peers.borrow().get(&id).copied().unwrap_or(absent)
    }

    /// The time of the event that is being dealt with, or of one just before.
    pub fn now(&self) -> MonoMs {
        self.now.get()
    }

    pub fn set_now(&self, now: MonoMs) {
        self.now.set(now);
    }
}
