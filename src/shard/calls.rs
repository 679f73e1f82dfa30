//! What a shard asks of other brokers, and of whom.

use std::time::Duration;

use super::Shard;
use super::leadership::Leadership;
use super::links::Purpose;
use super::message::Applied;
use crate::model::BrokerId;
use crate::peer::hello::NOBODY;
use crate::peer::{self, Hello, Lane, Limits, Link, LinkError, Whom, keys};

/// How long one address of a broker is tried.
const CONNECT: Duration = Duration::from_secs(2);

impl Shard {
    pub(super) fn follow_leadership(&self, leadership: Leadership) {
        if self.links.leadership.replace(leadership) != leadership {
            self.links.changed.notify_all();
        }
    }

    /// Whether changes of the metadata are decided in this broker.
    pub fn leads_metadata(&self) -> bool {
        self.links.leadership.get().mine
    }

    /// Another broker that is the controller.
    pub fn controller(&self) -> Option<BrokerId> {
        let Leadership { controller, mine, .. } = self.links.leadership.get();
        controller.filter(|id| !mine && *id != self.settings().broker_id)
    }

    /// Returns when the controller is another, or this broker.
    pub async fn controller_changed(&self) {
        self.links.changed.notified().await;
    }

    /// Returns once every shard of this broker has applied the metadata up to an offset.
    pub async fn applied_everywhere(&self, offset: u64) {
        if offset > 0 {
            self.port.call(self.count(), Applied(offset)).await;
        }
    }

    /// The connection to a broker for calls of a kind, opened if there is none.
    pub async fn calls_to(&self, broker: BrokerId, purpose: Purpose) -> Result<Link, LinkError> {
        let slot = self.links.calls_to(broker, purpose);
        let opening = match slot.turn().await {
            Ok(link) => return Ok(link),
            Err(opening) => opening,
        };
        let (whom, hello) = self.introduction(broker, Lane::Calls)?;
        let (link, _) = peer::connect(&whom, &hello, Limits::default(), CONNECT).await?;
        slot.link.replace(Some(link.clone()));
        drop(opening);
        Ok(link)
    }

    /// Where a broker's cluster listener is, and how this shard introduces itself there.
    pub fn introduction(&self, broker: BrokerId, lane: Lane) -> Result<(Whom, Hello), LinkError> {
        let image = self.image();
        let unknown = || {
            let why = format!("broker {broker} is not known to have a cluster listener");
            LinkError::Unreachable(std::io::ErrorKind::NotFound, why)
        };
        let other = image.broker(broker).ok_or_else(unknown)?;
        let endpoint = other.endpoint(keys::LISTENER).ok_or_else(unknown)?;
        let me = image.broker(self.settings().broker_id);
        let hello = Hello {
            cluster: image.cluster_id.to_string(),
            to: broker,
            broker: me.map_or(NOBODY, |me| me.id),
            epoch: me.map_or(-1, |me| me.epoch.0),
            incarnation: me.map_or([0; 16], |me| me.incarnation),
            directory: me.map_or([0; 16], |me| me.directory),
            recovery: self.settings().recovery,
            lane,
            shard: self.index() as u32 % other.shards.max(1),
        };
        Ok((Whom { host: endpoint.host.clone(), port: endpoint.port }, hello))
    }
}
