//! Accepting connections on one shard and giving each to the shard that has the fewest.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peers::{Pace, Peers};
use crate::model::Listener as Door;
use crate::rt;
use crate::rt::net::{Listener, Socket};
use crate::shard::Shard;
use crate::shard::context::Handoff;
use crate::shard::message;

/// How long to leave the backlog alone when a connection could not be accepted.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often what goes on is said again.
const REPEAT: Duration = Duration::from_secs(10);

/// When something was last said that need not be said each time.
#[derive(Default)]
struct Said(Option<Instant>);

impl Said {
    fn is_due(&mut self) -> bool {
        let now = rt::now();
        let due = self.0.is_none_or(|said| now - said >= REPEAT);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// Accepts what comes in at a door until the broker stops.
pub async fn accept(shard: Rc<Shard>, listener: Listener, door: Arc<Door>) {
    let (mut failed, mut refused) = (Said::default(), Said::default());
    let mut peers = Peers::default();
    let mut pace = Pace::default();
    while !shard.is_stopping() {
        match listener.accept().await {
            Ok(socket) => {
                hand_out(&shard, &mut peers, socket, &door, &mut refused);
                let now = rt::now();
                let next = pace.next(now, shard.live().max_connection_rate);
                if next > now {
                    rt::sleep(next - now).await;
                }
            }
            Err(e) => {
                if failed.is_due() {
                    log::warn!("a connection was not accepted, and is tried again every {BACK_OFF:?}: {e}");
                }
                rt::sleep(BACK_OFF).await;
            }
        }
    }
}

fn hand_out(shard: &Rc<Shard>, peers: &mut Peers, mut socket: Socket, door: &Arc<Door>, refused: &mut Said) {
    let open: Vec<usize> = shard.connections.open().collect();
    let live = shard.live();
    let peer = socket.peer;
    let mut refuse = |limit: usize, of: &str| {
        shard.metrics.connection_refused();
        if refused.is_due() {
            log::warn!(
                "connection from {peer} refused: {limit} are open ({of}); so are others while it lasts"
            );
        }
    };
    let most = live.max_connections.min(shard.settings().connections_possible);
    if open.iter().sum::<usize>() >= most {
        return refuse(most, "max.connections");
    }
    let of_peer = live.connections_of(peer.ip());
    let Some(place) = peers.take(peer.ip(), of_peer) else {
        return refuse(of_peer, "max.connections.per.ip");
    };
    socket.place = Some(place);
    let target = (0..open.len()).min_by_key(|i| open[*i]).unwrap_or(shard.index());
    shard.connections.begin_on(target);
    let handoff = Handoff::accepted(socket, door.clone());
    if target == shard.index() {
        super::serve(shard, handoff);
    } else {
        drop(shard.port.call(target, message::Connection(handoff)));
    }
}
