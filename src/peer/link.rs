//! One connection to another broker, on whichever thread: requests are sent at once, in the order of the calls, and answers
//! matched by correlation id.

use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::{KafkaRequest, OutboundFrameLimits, RequestResponsePair, encode_request};
use kafka_wire_core::{ApiVersion, Decoder, KafkaDecode};

use super::hello::{Hello, Welcome, decode_answer};
use super::keys;
use super::limits::{Limits, LinkError};
use super::pipe::{Pipe, Reply, drive};
use super::wire::Wire;
use crate::wire::frame::{decode_limits, response_header_version};

/// Closed when the last copy is dropped, which fails what is under way.
#[derive(Clone)]
pub struct Link {
    pipe: Rc<Owned>,
    limits: Limits,
}

struct Owned(Rc<Pipe>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.end(LinkError::Closed("it was closed here".into()));
    }
}

impl Link {
    /// A link over a connected socket. `spawn` runs what drives it, to its end.
    pub fn over<W: Wire>(
        wire: W,
        limits: Limits,
        spawn: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()>>>),
    ) -> Self {
        let pipe = Rc::new(Pipe::new(limits));
        spawn(Box::pin(drive(pipe.clone(), wire)));
        Self { pipe: Rc::new(Owned(pipe)), limits }
    }

    /// Asks in one of Kafka's messages. It is sent before this returns; without an answer within `limit` the connection
    /// ends, because answers come in order.
    pub fn call<R: RequestResponsePair>(
        &self,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> impl Future<Output = Result<R::Response, LinkError>> + use<R> {
        let reply = self.send(request, version, limit);
        let limits = decode_limits(self.limits.frame);
        async move {
            let body = reply?.await?;
            Decoder::new(body, limits)
                .and_then(|mut decoder| R::Response::decode(&mut decoder, ApiVersion::new(version)))
                .map_err(|e| LinkError::Malformed(format!("the answer to {}: {e}", R::NAME)))
        }
    }

    /// As [`Self::call`], answered by the bytes behind the response's header.
    pub fn send<R: KafkaRequest>(
        &self,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> Result<Reply, LinkError> {
        let id = self.pipe.0.claim()?;
        let mut frame = BytesMut::new();
        let most = OutboundFrameLimits::new(i32::MAX as usize);
        encode_request(&mut frame, id, None, request, ApiVersion::new(version), most)
            .map_err(|e| LinkError::Malformed(format!("{} version {version}: {e}", R::NAME)))?;
        let tagged = response_header_version(R::API_KEY.value(), version) == 1;
        self.pipe.0.submit(id, [frame.freeze(), Bytes::new()], tagged, limit)
    }

    /// Asks in a request of our own.
    pub fn ask(&self, key: i16, body: Bytes, limit: Duration) -> Result<Reply, LinkError> {
        let id = self.pipe.0.claim()?;
        let length = i32::try_from(8 + body.len()).map_err(|_| LinkError::Busy)?;
        let mut header = BytesMut::with_capacity(12);
        header.put_i32(length);
        header.put_i16(key);
        header.put_i16(0);
        header.put_i32(id);
        self.pipe.0.submit(id, [header.freeze(), body], false, limit)
    }

    /// The first request of a connection.
    pub async fn say_hello(&self, hello: &Hello) -> Result<Welcome, LinkError> {
        let mut body = BytesMut::new();
        hello.encode(&mut body);
        let answer = self.ask(keys::HELLO, body.freeze(), keys::HELLO_TIME)?.await?;
        let answer = decode_answer(answer).map_err(|e| LinkError::Malformed(e.to_string()))?;
        answer.map_err(|(refusal, why)| LinkError::Refused(refusal, why))
    }

    /// Why it ended, if it has.
    pub fn ended(&self) -> Option<LinkError> {
        self.pipe.0.ended()
    }

    /// Returns when it has ended.
    pub async fn closed(&self) -> LinkError {
        let pipe = self.pipe.0.clone();
        pipe.closed().await
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
