//! A shard's connections to other brokers for calls on behalf of clients and coordinators, and who the controller is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::leadership::Leadership;
use crate::model::BrokerId;
use crate::peer::Link;
use crate::rt::Notify;

/// What a connection is kept for. Answers come in the order of the requests: what may wait long is in nobody else's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Clients' requests that another broker carries out.
    Clients,
    /// Questions to transactions' coordinators.
    Transactions,
    /// Ends of transactions.
    Markers,
}

pub(super) struct Links {
    pub leadership: Cell<Leadership>,
    pub changed: Notify,
    calls: RefCell<BTreeMap<(BrokerId, Purpose), Rc<Slot>>>,
}

impl Default for Links {
    fn default() -> Self {
        let (leadership, changed) = (Cell::new(Leadership::ALONE), Notify::new());
        Self { leadership, changed, calls: RefCell::default() }
    }
}

impl Links {
    pub fn calls_to(&self, broker: BrokerId, purpose: Purpose) -> Rc<Slot> {
        self.calls.borrow_mut().entry((broker, purpose)).or_default().clone()
    }
}

/// A connection to one broker.
#[derive(Default)]
pub(super) struct Slot {
    pub link: RefCell<Option<Link>>,
    opening: Cell<bool>,
    opened: Notify,
}

impl Slot {
    pub fn usable(&self) -> Option<Link> {
        self.link.borrow().clone().filter(|link| link.ended().is_none())
    }

    /// The connection, or one's turn to open it.
    pub async fn turn(&self) -> Result<Link, Opening<'_>> {
        loop {
            if let Some(link) = self.usable() {
                return Ok(link);
            }
            let opened = self.opened.listen();
            if !self.opening.get() {
                self.opening.set(true);
                return Err(Opening(self));
            }
            opened.await;
        }
    }
}

/// One opens a connection, the others wait for it, or for their turn to try.
pub(super) struct Opening<'a>(&'a Slot);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.opened.notify_all();
    }
}
