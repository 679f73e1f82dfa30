//! Who may come in by the cluster listener, and what is done for whom.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use super::door::House;
use super::{Control, courier};
use crate::api::brokers;
use crate::controller::{ControlReply, ControlRequest};
use crate::metadata::Broker;
use crate::metadata::quorum::{NEVER, Recovery, Voter};
use crate::model::BrokerId;
use crate::peer::hello::{Answer, NOBODY};
use crate::peer::{Hello, Lane, Refusal, Welcome, keys};
use crate::rt::net::Socket;
use crate::shard::context::Handoff;
use crate::shard::message;
use crate::wire::frame::RequestHeader;

impl House for Control {
    fn judge(&self, hello: &Hello) -> Answer {
        let image = self.image();
        let refuse = |refusal, why: String| Err((refusal, why));
        if hello.cluster != self.me.cluster {
            let why = format!(
                "it is of cluster {}, and this is cluster {}: each data directory belongs to one cluster",
                hello.cluster, self.me.cluster
            );
            return refuse(Refusal::ForeignCluster, why);
        }
        if hello.recovery != self.me.recovery {
            return refuse(Refusal::OtherRecovery, not_followed(hello, self.me.id, self.me.recovery));
        }
        if hello.to != NOBODY && hello.to != self.me.id {
            let why = format!("it calls broker {}, and this is broker {}", hello.to, self.me.id);
            return refuse(Refusal::AnotherBroker, why);
        }
        let known = image.broker(hello.broker);
        if known.is_some_and(|known| known.epoch.0 > hello.epoch && hello.epoch >= 0) {
            let why = format!("broker {} has come in another life since", hello.broker);
            return refuse(Refusal::StaleBroker, why);
        }
        if hello.lane != Lane::Control {
            if !self.serving.get() {
                return refuse(Refusal::NotServing, "this broker has not started its shards yet".into());
            }
            if known
                .is_none_or(|known| known.epoch.0 != hello.epoch || known.incarnation != hello.incarnation)
            {
                let why = format!("broker {} is not known here in this life of its yet", hello.broker);
                return refuse(Refusal::UnknownBroker, why);
            }
            if hello.shard as usize >= self.shards {
                let why = format!("shard {} is called, and there are {}", hello.shard, self.shards);
                return refuse(Refusal::NoSuchShard, why);
            }
        }
        Ok(Welcome {
            cluster: self.me.cluster.clone(),
            broker: self.me.id,
            epoch: image.broker(self.me.id).map_or(-1, |me| me.epoch.0),
            incarnation: self.me.incarnation,
            directory: self.me.directory,
            shards: self.shards as u32,
        })
    }

    fn hand_over(&self, shard: usize, stream: TcpStream, hello: Arc<Hello>) {
        let socket = stream.into_std().and_then(Socket::of);
        match socket {
            Ok(socket) => {
                self.connections.begin_on(shard);
                let handoff = Handoff::of_broker(socket, self.me.listener.clone(), hello);
                drop(self.port.call(shard, message::Connection(handoff)));
            }
            Err(e) => log::debug!(
                "a connection of broker {} was lost on its way to shard {shard}: {e}",
                hello.broker
            ),
        }
    }

    async fn serve(
        self: Rc<Self>,
        caller: Rc<Hello>,
        header: RequestHeader,
        mut body: Bytes,
    ) -> Option<Bytes> {
        if header.api_key == keys::QUORUM {
            let from = Voter { node: caller.broker, directory: caller.directory };
            let what = body.try_get_u8().ok()?;
            return Some(courier::encode(self.quorum.receive(from, what, body).await));
        }
        let request = brokers::decode(&header, body)?;
        if !speaks_for_itself(&caller, &request) {
            log::warn!("broker {} speaks for another one: {request:?}", caller.broker);
            return None;
        }
        let reply = match self.leadership().mine {
            true => self.ask_here(request.clone()).await,
            false => ControlReply::Failed(self.not_controller()),
        };
        Some(brokers::encode(&request, reply, self.image().version))
    }

    async fn left(self: Rc<Self>, hello: Rc<Hello>) {
        let image = self.image();
        let same = |broker: &Broker| broker.incarnation == hello.incarnation;
        let leadership = self.leadership();
        let concerns = leadership.mine || leadership.controller == Some(hello.broker);
        if concerns && image.broker(hello.broker).is_some_and(same) {
            self.look_for(hello.broker).await;
        }
    }
}

/// Two brokers of one cluster of which one has followed a recovery, or each another: who has to.
fn not_followed(caller: &Hello, me: BrokerId, recovery: Recovery) -> String {
    let who = if recovery == NEVER { me } else { caller.broker };
    format!(
        "the cluster was recovered without broker {who}: stop that one, and run `weir cluster recover --follow HOST:PORT` on \
         its data directory, with the address of a broker that goes on"
    )
}

/// A broker asks for itself only; one that joins has no id yet.
fn speaks_for_itself(caller: &Hello, request: &ControlRequest) -> bool {
    let is_caller = |id: BrokerId| id == caller.broker;
    match request {
        ControlRequest::Register(registration) => {
            registration.incarnation == caller.incarnation
                && registration.directory == caller.directory
                && registration.id.is_none_or(|id| caller.broker == NOBODY || is_caller(id))
        }
        ControlRequest::Heartbeat(heartbeat) => is_caller(heartbeat.id),
        ControlRequest::AlterPartitions(alter) => is_caller(alter.broker),
        ControlRequest::ProducerIds { broker, .. } => is_caller(*broker),
        ControlRequest::CreateTopics { .. } => caller.broker != NOBODY,
        _ => false,
    }
}
