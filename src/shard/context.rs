//! A connection as its requests see it, and what goes with it from one shard to another.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::affinity::Affinity;
use super::replication::{Ground, Session};
use crate::model::listener::Listener;
use crate::model::{BrokerEpoch, BrokerId};
use crate::peer::{Hello, Lane};
use crate::rt::net::Socket;
use crate::security::Principal;

/// Longest part of a name or version that is kept of what a client says it is.
const LONGEST_NAME: usize = 64;

/// What a client says it is (KIP-511).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Software {
    name: Box<str>,
    version: Box<str>,
}

impl Software {
    pub fn new(name: &str, version: &str) -> Self {
        let kept = |text: &str| text.chars().take(LONGEST_NAME).collect::<String>().into();
        Self { name: kept(name), version: kept(version) }
    }
}

/// A connection that a shard gives to another, with everything that the requests before made of it. It moves between
/// two requests, when nothing is under way, nothing unread and no wait imposed on it: there is no more to carry.
pub struct Handoff {
    pub socket: Socket,
    pub listener: Arc<Listener>,
    pub principal: Principal,
    pub software: Option<Software>,
    /// The broker that it is of, if it came in by the cluster listener.
    pub broker: Option<Arc<Hello>>,
}

impl Handoff {
    /// A connection that has just come in.
    pub fn accepted(socket: Socket, listener: Arc<Listener>) -> Self {
        Self { socket, listener, principal: Principal::default(), software: None, broker: None }
    }

    /// A connection of another broker.
    pub fn of_broker(socket: Socket, listener: Arc<Listener>, hello: Arc<Hello>) -> Self {
        Self { broker: Some(hello), ..Self::accepted(socket, listener) }
    }
}

/// What the requests of one connection share.
pub struct ConnectionContext {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub listener: Arc<Listener>,
    pub affinity: Affinity,
    /// The broker at the other end; a client has none.
    pub broker: Option<Arc<Hello>>,
    /// What that broker's shard follows here, if it does.
    followed: OnceCell<Rc<Session>>,
    principal: Principal,
    software: RefCell<Option<Software>>,
}

impl ConnectionContext {
    pub fn split(handoff: Handoff) -> (Socket, Self) {
        let Handoff { socket, listener, principal, software, broker } = handoff;
        let (peer, local) = (socket.peer, socket.local);
        let (affinity, software) = (Affinity::default(), RefCell::new(software));
        if broker.is_some() {
            // It came to the shard that it wanted.
            affinity.stay();
        }
        (
            socket,
            Self { peer, local, listener, affinity, broker, followed: OnceCell::new(), principal, software },
        )
    }

    /// The connection of a client to another broker, which hands one of its requests on by this one.
    pub fn on_behalf(
        &self,
        address: IpAddr,
        listener: &str,
        principal: Principal,
        listeners: &[Arc<Listener>],
    ) -> Self {
        let known = listeners.iter().find(|known| *known.name == *listener).cloned();
        let unknown = || Arc::new(Listener { name: listener.into(), ..(*self.listener).clone() });
        Self {
            peer: SocketAddr::new(address, self.peer.port()),
            local: self.local,
            listener: known.unwrap_or_else(unknown),
            affinity: Affinity::default(),
            broker: None,
            followed: OnceCell::new(),
            principal,
            software: RefCell::default(),
        }
    }

    /// Whether it is of this broker.
    pub fn is_of(&self, broker: BrokerId) -> bool {
        self.broker.as_ref().is_some_and(|hello| hello.broker == broker)
    }

    /// The session of a broker that follows what this shard leads, on a connection for that.
    pub fn followed(&self, ground: impl FnOnce() -> Rc<dyn Ground>) -> Option<&Rc<Session>> {
        let hello = self.broker.as_ref().filter(|hello| matches!(hello.lane, Lane::Live | Lane::CatchUp))?;
        let from = (hello.broker, BrokerEpoch(hello.epoch));
        Some(self.followed.get_or_init(|| Session::new(from, hello.lane, ground())))
    }

    /// The way on: only affinity, which is to the shard that is left, stays behind.
    pub fn join(&self, socket: Socket) -> Handoff {
        Handoff {
            socket,
            listener: self.listener.clone(),
            principal: self.principal.clone(),
            software: self.software.take(),
            broker: self.broker.clone(),
        }
    }

    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    pub fn set_software(&self, software: Software) {
        self.software.replace(Some(software));
    }
}

/// As the log names a connection.
impl fmt::Display for ConnectionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} on {}", self.peer, self.principal, self.listener)?;
        match &*self.software.borrow() {
            Some(Software { name, version }) => write!(f, ", {name} {version})"),
            None => f.write_str(")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::model::BrokerSettings;

    #[test]
    fn everything_but_affinity_moves() {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        let socket = Socket::of(door.accept().unwrap().0).unwrap();
        let listener = BrokerSettings::default().listeners[0].clone();
        let mut accepted = Handoff::accepted(socket, listener.clone());
        assert_eq!(accepted.principal, Principal::Anonymous);
        accepted.principal = Principal::User("alice".into());
        let peer = accepted.socket.peer;

        let (socket, context) = ConnectionContext::split(accepted);
        context.set_software(Software::new("apache-kafka-java", &"4".repeat(1000)));
        context.affinity.stay();
        let (_, next) = ConnectionContext::split(context.join(socket));
        assert_eq!((next.peer, next.principal().name()), (peer, "alice"));
        assert!(Arc::ptr_eq(&next.listener, &listener));
        let named = next.to_string();
        assert!(
            named.contains("User:alice on PLAINTEXT, apache-kafka-java 4444") && named.len() < 200,
            "{named}"
        );
        (0..1000).for_each(|_| next.affinity.lead_to(1));
        assert_eq!(
            next.affinity.destination(0, [1, 0].into_iter()),
            Some(1),
            "it stayed for another shard's sake"
        );
    }
}
