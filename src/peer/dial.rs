//! Opening a connection to another broker from a shard.

use std::io;
use std::time::Duration;

use super::hello::{Hello, NOBODY, Welcome};
use super::limits::{Limits, LinkError};
use super::link::Link;
use crate::rt::{self, net::Stream};

/// A broker to be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whom {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Whom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Calls a broker from a shard, and says Hello. Each address of its host is tried in turn, for `limit` each.
pub async fn connect(
    whom: &Whom,
    hello: &Hello,
    limits: Limits,
    limit: Duration,
) -> Result<(Link, Welcome), LinkError> {
    let unreachable = |e: io::Error| LinkError::Unreachable(e.kind(), format!("{whom}: {e}"));
    let mut error = None;
    for address in rt::resolve(&whom.host, whom.port).await.map_err(unreachable)? {
        match rt::connect(address, limit).await {
            Ok(socket) => {
                let link = Link::over(Stream::new(socket, false), limits, |drive| drop(rt::spawn(drive)));
                return introduce(link, hello).await;
            }
            Err(e) => error = Some(e),
        }
    }
    Err(unreachable(error.unwrap_or_else(|| io::ErrorKind::NotFound.into())))
}

/// Says Hello over a link that nobody has used.
pub async fn introduce(link: Link, hello: &Hello) -> Result<(Link, Welcome), LinkError> {
    let welcome = link.say_hello(hello).await?;
    if hello.to != NOBODY && welcome.broker != hello.to {
        let why = format!("broker {} answers in the place of broker {}", welcome.broker, hello.to);
        return Err(LinkError::Closed(why.into()));
    }
    Ok((link, welcome))
}
