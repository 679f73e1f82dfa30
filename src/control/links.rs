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
    /// The connection to a broker; whoever comes while it is opened waits for it.
    pub async fn link(&self, broker: BrokerId, whom: &Whom, hello: &Hello) -> Result<Link, LinkError> {
        let slot = self.0.borrow_mut().entry(broker).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.ended().is_none()) {
            return Ok(link.clone());
        }
        let (link, _) = socket::connect(whom, hello, Limits::default(), CONNECT).await?;
        *slot = Some(link.clone());
        Ok(link)
    }
}
