//! Whether brokers that are taken to live do (C3): asked at their sockets, because a refused connection says at once what silence says
//! after a session. A controller that has just come to lead has heard nobody's connection end.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use super::Control;
use super::answer::Answer;
use super::socket;
use crate::controller::{ControlErrorKind, ControlReply, ControlRequest, Step};
use crate::model::BrokerId;
use crate::peer::{Lane, Limits, LinkError};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

impl Control {
    /// Looks for a broker in the life that the metadata knows, and has the controller here fence it where that has ended.
    pub(super) async fn look_for(self: Rc<Self>, id: BrokerId) {
        let image = self.image();
        let Some(known) = image.broker(id) else { return };
        let Some(whom) = self.whom(id) else { return };
        let hello = self.hello(id, Lane::Control);
        let asked = socket::connect(&whom, &hello, Limits::default(), PATIENCE);
        let why = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Err(LinkError::Unreachable(ErrorKind::ConnectionRefused, _))) => {
                format!("nothing listens at {whom} any more")
            }
            Ok(Ok((_, welcome))) if welcome.incarnation != known.incarnation => {
                format!("another process answers at {whom}")
            }
            _ => return,
        };
        if self.leadership().mine {
            log::info!("broker {id} is gone: {why}");
            self.ask_here(ControlRequest::Gone { id, epoch: known.epoch }).await;
        }
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
        for id in ids.into_iter().filter(|id| *id != self.me.id) {
            tokio::task::spawn_local(self.clone().look_for(id));
        }
    }
}
