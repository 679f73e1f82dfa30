//! Where the answer to a request of the controller goes.

use tokio::sync::oneshot;

use crate::controller::ControlReply;
use crate::rt::mesh::To;
use crate::shard::message::{Control, Port};

pub(super) enum Answer {
    /// To a shard of this broker.
    Shard(To<Control>),
    /// To who waits on the control thread: for this broker itself, or for another one.
    Here(oneshot::Sender<ControlReply>),
}

impl Answer {
    pub fn give(self, port: &Port, reply: ControlReply) {
        match self {
            Self::Shard(to) => port.reply(to, reply),
            Self::Here(to) => drop(to.send(reply)),
        }
    }
}
