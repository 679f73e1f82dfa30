//! Accepting connections on one shard and giving each to the shard that has the fewest.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::peers::{Pace, Peers};
use crate::rt;
use crate::rt::net::{Listener, Socket};
use crate::shard::Shard;
use crate::shard::message::Request;

/// How long to leave the backlog alone when the process is out of descriptors.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Accepts until the broker stops.
pub async fn accept(shard: Rc<Shard>, listener: TcpListener) {
    let listener = match Listener::new(listener, shard.settings().send_buffer_bytes) {
        Ok(listener) => listener,
        Err(e) => return log::error!("the listening socket cannot be used: {e}"),
    };
    let mut peers = Peers::default();
    let mut pace = Pace::default();
    while !shard.is_stopping() {
        match listener.accept().await {
            Ok(socket) => {
                hand_out(&shard, &mut peers, socket);
                let now = rt::now();
                let next = pace.next(now, shard.live().max_connection_rate);
                if next > now {
                    rt::sleep(next - now).await;
                }
            }
            Err(e) => {
                log::warn!("a connection was not accepted: {e}");
                rt::sleep(BACK_OFF).await;
            }
        }
    }
}

fn hand_out(shard: &Rc<Shard>, peers: &mut Peers, mut socket: Socket) {
    let open: Vec<usize> = shard.connections.iter().map(|n| n.load(Ordering::Relaxed)).collect();
    let live = shard.live();
    let peer = socket.peer;
    if open.iter().sum::<usize>() >= live.max_connections {
        shard.metrics.connection_refused();
        return log::warn!("connection from {peer} refused: max.connections are open");
    }
    let Some(place) = peers.take(peer.ip(), live.connections_of(peer.ip())) else {
        shard.metrics.connection_refused();
        return log::warn!("connection from {peer} refused: max.connections.per.ip are open");
    };
    socket.place = Some(place);
    let target = (0..open.len()).min_by_key(|i| open[*i]).unwrap_or(shard.index);
    shard.connections[target].fetch_add(1, Ordering::Relaxed);
    if target == shard.index {
        super::serve(shard, socket);
    } else {
        drop(shard.port.call(target, Request::Connection(socket)));
    }
}
