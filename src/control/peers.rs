//! What this broker asks of the controller, wherever that is.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Control;
use super::answer::Answer;
use crate::api::brokers;
use crate::controller::{ControlErrorKind, ControlReply, ControlRequest};
use crate::model::BrokerId;
use crate::peer::{Hello, Lane, LinkError, Refusal, Whom, keys};

/// How long a controller is looked for, and asked, on behalf of a shard.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before the next try.
const REST: Duration = Duration::from_millis(50);

impl Control {
    /// How this broker introduces itself.
    pub(super) fn hello(&self, to: BrokerId, lane: Lane) -> Hello {
        let image = self.image();
        let known = image.broker(self.me.id).filter(|broker| broker.incarnation == self.me.incarnation);
        let epoch = known.map_or(-1, |broker| broker.epoch.0);
        Hello { to, epoch, lane, ..self.me.hello() }
    }

    /// Where a broker's cluster listener is.
    pub(super) fn whom(&self, broker: BrokerId) -> Option<Whom> {
        let image = self.image();
        match image.broker(broker) {
            Some(broker) => {
                let endpoint = broker.endpoint(keys::LISTENER)?;
                Some(Whom { host: endpoint.host.clone(), port: endpoint.port })
            }
            None => self.told.iter().find(|(id, _)| *id == broker).map(|(_, whom)| whom.clone()),
        }
    }

    /// Asks the controller, be it this broker or another, for as long as `limit`. An answer is given once its change is
    /// applied by every shard of this broker.
    pub(crate) async fn ask_controller(&self, request: ControlRequest, limit: Duration) -> ControlReply {
        let until = Instant::now() + limit;
        let asked = timeout_at(until, self.ask_until_answered(&request, until)).await;
        asked.unwrap_or_else(|_| ControlReply::Failed(self.not_controller()))
    }

    async fn ask_until_answered(&self, request: &ControlRequest, until: Instant) -> ControlReply {
        loop {
            let leadership = self.leadership();
            if leadership.mine {
                match self.ask_here(request.clone()).await {
                    ControlReply::Failed(error) if error.kind == ControlErrorKind::NotController => {}
                    reply => return reply,
                }
            }
            for broker in self.perhaps_controller(leadership.controller) {
                match self.ask_there(broker, request, until).await {
                    Ok(Some(reply)) => return reply,
                    Ok(None) => {}
                    Err(LinkError::Refused(Refusal::OtherRecovery, why)) => {
                        self.standing.shut_out.replace(Some(why));
                    }
                    Err(why) => log::debug!("broker {broker} was not asked: {why}"),
                }
            }
            sleep(REST).await;
        }
    }

    /// Who is asked. A broker that has come back at other addresses is not reached by the controller, and hears of none: it asks
    /// everybody.
    fn perhaps_controller(&self, known: Option<BrokerId>) -> Vec<BrokerId> {
        match known {
            Some(id) if id == self.me.id => Vec::new(),
            Some(id) => vec![id],
            None => {
                let told = self.told.iter().map(|(id, _)| *id);
                let mut all: BTreeSet<BrokerId> =
                    self.image().brokers().map(|broker| broker.id).chain(told).collect();
                all.remove(&self.me.id);
                all.into_iter().collect()
            }
        }
    }

    /// Asks another broker as the controller; `None` where it is not.
    async fn ask_there(
        &self,
        controller: BrokerId,
        request: &ControlRequest,
        until: Instant,
    ) -> Result<Option<ControlReply>, LinkError> {
        let unknown =
            || LinkError::Unreachable(std::io::ErrorKind::NotFound, "its address is not known".into());
        let whom = self.whom(controller).ok_or_else(unknown)?;
        let link = self.links.link(controller, &whom, &self.hello(controller, Lane::Control)).await?;
        let left = until.saturating_duration_since(Instant::now());
        let Some(told) = brokers::ask(&link, request, left).await else {
            return Ok(Some(ControlReply::Failed(self.not_controller())));
        };
        let told = told?;
        if told.is_elsewhere() {
            return Ok(None);
        }
        self.applied_here(told.applied).await;
        Ok(Some(told.reply(&self.image())))
    }

    /// What a shard asked of the controller while that is another broker.
    pub(super) fn hand_on(self: &Rc<Self>, answer: Answer, request: ControlRequest) {
        let control = self.clone();
        tokio::task::spawn_local(async move {
            let reply = control.ask_controller(request, PATIENCE).await;
            answer.give(&control.port, reply);
        });
    }
}
