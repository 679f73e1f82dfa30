//! Carries the quorum's messages between brokers, on the control lane.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::links::Links;
use super::raft::{Carrier, CarryError};
use crate::metadata::quorum::Member;
use crate::peer::{Hello, Lane, Whom, keys};

/// The least that a connection may take to answer before it is given up: longer than an election, which asks again sooner.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Courier {
    pub links: Rc<Links>,
    /// As this broker introduces itself.
    pub hello: Hello,
}

impl Carrier for Courier {
    async fn carry(&self, to: &Member, what: u8, body: Bytes, limit: Duration) -> Result<Bytes, CarryError> {
        let id = to.voter.node;
        let carried = tokio::time::timeout(limit, self.ask(to, what, body, limit)).await;
        carried.unwrap_or(Err(CarryError::Unreachable(id)))
    }
}

impl Courier {
    async fn ask(&self, to: &Member, what: u8, body: Bytes, limit: Duration) -> Result<Bytes, CarryError> {
        let id = to.voter.node;
        let unreachable = |_| CarryError::Unreachable(id);
        let endpoint = to.endpoints.iter().find(|endpoint| endpoint.listener == keys::LISTENER);
        let endpoint = endpoint.ok_or(CarryError::Unreachable(id))?;
        let whom = Whom { host: endpoint.host.clone(), port: endpoint.port };
        let hello = Hello { to: id, lane: Lane::Control, ..self.hello.clone() };
        let link = self.links.link(id, &whom, &hello).await.map_err(unreachable)?;
        let mut message = BytesMut::with_capacity(1 + body.len());
        message.put_u8(what);
        message.put_slice(&body);
        let reply = link.ask(keys::QUORUM, message.freeze(), limit.max(PATIENCE)).map_err(unreachable)?;
        decode(reply.await.map_err(unreachable)?)
    }
}

/// An answer: `0 · body`, or `1 · why not`.
pub(super) fn encode(answer: Result<Bytes, CarryError>) -> Bytes {
    let (code, body) = match answer {
        Ok(body) => (0, body),
        Err(error) => (1, Bytes::from(error.to_string())),
    };
    let mut out = BytesMut::with_capacity(1 + body.len());
    out.put_u8(code);
    out.put_slice(&body);
    out.freeze()
}

fn decode(mut answer: Bytes) -> Result<Bytes, CarryError> {
    match answer.try_get_u8() {
        Ok(0) => Ok(answer),
        Ok(_) => Err(CarryError::Refused(String::from_utf8_lossy(&answer).into_owned())),
        Err(_) => Err(CarryError::Malformed),
    }
}
