//! Whether brokers that are taken to live do (C3): asked at their sockets, because a refused connection says at once what silence says
//! after a session. A controller that has just come to lead has heard nobody's connection end.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use super::Control;
use super::answer::Answer;
use super::socket;
use crate::controller::{ControlErrorKind, ControlReply, ControlRequest, Step};
use crate::metadata::Broker;
use crate::model::BrokerId;
use crate::peer::{Lane, Limits, LinkError};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often one is asked whose connections end without a word: it may be in the middle of ending.
const TRIES: usize = 5;
const REST: Duration = Duration::from_millis(20);

impl Control {
    /// Looks for a broker in the life that the metadata knows. Where that has ended, has the controller here fence it, and has
    /// another node lead the quorum that it led.
    pub(super) async fn look_for(self: Rc<Self>, id: BrokerId) {
        let image = self.image();
        let Some(known) = image.broker(id) else { return };
        let Some(why) = self.end_of(known).await else { return };
        if self.leadership().mine {
            log::info!("broker {id} is gone: {why}");
            self.ask_here(ControlRequest::Gone { id, epoch: known.epoch }).await;
        } else {
            self.quorum.leader_gone(id);
        }
    }

    /// Why a life of a broker is known to have ended, if it is.
    async fn end_of(&self, known: &Broker) -> Option<String> {
        if known.id == self.me.id {
            // A data directory is one process's at a time.
            return (known.incarnation != self.me.incarnation)
                .then(|| "this process came after it".to_owned());
        }
        let whom = self.whom(known.id)?;
        let hello = self.hello(known.id, Lane::Control);
        for _ in 0..TRIES {
            let asked = socket::connect(&whom, &hello, Limits::default(), PATIENCE);
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Err(LinkError::Unreachable(ErrorKind::ConnectionRefused, _))) => {
                    return Some(format!("nothing listens at {whom} any more"));
                }
                Ok(Err(LinkError::Closed(_))) => tokio::time::sleep(REST).await,
                Ok(Ok((_, welcome))) if welcome.incarnation != known.incarnation => {
                    return Some(format!("another process answers at {whom}"));
                }
                _ => return None,
            }
        }
        None
    }

    /// Where a new life of a broker is refused because its last one is taken to last: whether it does.
    pub(super) fn look_for_the_last_life(self: &Rc<Self>, request: &ControlRequest, step: &Step<Answer>) {
        let refused = |reply: &ControlReply| matches!(reply, ControlReply::Failed(error) if error.kind == ControlErrorKind::DuplicateRegistration);
        if let ControlRequest::Register(registration) = request
            && step.answers.iter().any(|(_, reply)| refused(reply))
        {
            self.look_for_all(registration.id);
        }
    }

    pub(super) fn look_for_all(self: &Rc<Self>, ids: impl IntoIterator<Item = BrokerId>) {
        for id in ids {
            tokio::task::spawn_local(self.clone().look_for(id));
        }
    }
}
