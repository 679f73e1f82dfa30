//! The control thread's connections to other brokers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::socket;
use crate::model::BrokerId;
use crate::peer::{Hello, Limits, Link, LinkError, Whom};

/// How long one address of a broker is tried.
const CONNECT: Duration = Duration::from_secs(1);

/// Connections of the control lane, one a broker, opened when they are wanted.
#[derive(Default)]
pub(crate) struct Links(RefCell<BTreeMap<BrokerId, Rc<Mutex<Option<Link>>>>>);

impl Links {
    /// The connection to a broker; whoever comes while it is opened waits for it. It is opened to its end even where nobody waits any
    /// more: on a starved host that takes longer than a message of the quorum may, and would begin anew with each.
    pub async fn link(&self, broker: BrokerId, whom: &Whom, hello: &Hello) -> Result<Link, LinkError> {
        let slot = self.0.borrow_mut().entry(broker).or_default().clone();
        let alive = |slot: &Option<Link>| slot.clone().filter(|link| link.ended().is_none());
        if let Some(link) = slot.try_lock().ok().and_then(|slot| alive(&slot)) {
            return Ok(link);
        }
        let (whom, hello) = (whom.clone(), hello.clone());
        let opened = tokio::task::spawn_local(async move {
            let mut slot = slot.lock().await;
            if let Some(link) = alive(&slot) {
                return Ok(link);
            }
            let (link, _) = socket::connect(&whom, &hello, Limits::default(), CONNECT).await?;
            *slot = Some(link.clone());
            Ok(link)
        });
        opened.await.unwrap_or_else(|e| Err(LinkError::Closed(e.to_string().into())))
    }
}
