//! The doors of a broker: where it listens, and where the clients of each are told to connect.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The name of the listener that a broker has where none is named.
pub const DEFAULT_LISTENER: &str = "PLAINTEXT";
/// The name of the one that is for other brokers.
pub const CLUSTER_LISTENER: &str = "CLUSTER";

/// What is spoken on a listener, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    Plaintext,
}

impl SecurityProtocol {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
        }
    }
}

/// One listener. What names a broker in an answer names it by the listener that the question came in on: an address
/// that is right inside of a network means nothing outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: Arc<str>,
    pub protocol: SecurityProtocol,
    /// The address that is bound.
    pub bind: SocketAddr,
    /// Where clients are told to connect; never a wildcard address.
    pub host: String,
    pub port: u16,
}

impl Listener {
    /// `NAME://host:port`, with the address that is bound.
    pub fn bound(&self) -> String {
        format!("{}://{}", self.name, self.bind)
    }

    /// `NAME://host:port`, with the address that clients are told.
    pub fn advertised(&self) -> String {
        let Self { name, host, port, .. } = self;
        if host.contains(':') {
            format!("{name}://[{host}]:{port}")
        } else {
            format!("{name}://{host}:{port}")
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// `listeners`, `advertised.listeners` and `listener.security.protocol.map` are lists.
pub fn join(listeners: &[Arc<Listener>], one: impl Fn(&Listener) -> String) -> String {
    listeners.iter().map(|listener| one(listener)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_written_as_kafka_writes_them() {
        let listener = |name: &str, bind: &str, host: &str| {
            let (name, bind) = (name.into(), bind.parse().unwrap());
            Arc::new(Listener {
                name,
                protocol: SecurityProtocol::Plaintext,
                bind,
                host: host.into(),
                port: 9094,
            })
        };
        let listeners =
            [listener("INSIDE", "10.0.0.5:9092", "k1"), listener("OUTSIDE", "[::]:9094", "fe80::1")];
        assert_eq!(join(&listeners, Listener::bound), "INSIDE://10.0.0.5:9092,OUTSIDE://[::]:9094");
        assert_eq!(join(&listeners, Listener::advertised), "INSIDE://k1:9094,OUTSIDE://[fe80::1]:9094");
    }
}
