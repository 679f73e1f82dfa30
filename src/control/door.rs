//! The cluster listener: takes connections of other brokers, learns who they are, keeps those of the control lane and hands
//! the others to their shard.
//!
//! Whoever does not say Hello in time, and in few bytes, is closed: counted, and named in the log once a minute an address.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::socket::{read_frame, write_frame};
use crate::model::BrokerId;
use crate::peer::hello::{Answer, encode_answer};
use crate::peer::{Hello, Lane, Refusal, keys};
use crate::rt;
use crate::shard::strangers::{self, Door};
use crate::wire::frame::{self, RequestHeader};
use crate::wire::stranger::Speaks;

/// Requests of one connection that are carried out at the same time.
const AT_ONCE: usize = 64;
/// How long to leave the backlog alone when a connection could not be accepted.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What the control thread makes of those who come.
pub(super) trait House: 'static {
    /// Who answers, or why a caller is not taken. Nothing is kept of it yet.
    fn judge(&self, hello: &Hello) -> Answer;

    /// A connection for a shard.
    fn hand_over(&self, shard: usize, socket: TcpStream, hello: Arc<Hello>);

    /// A request on the control lane: the answer's bytes behind its correlation id, or nothing where the connection has to
    /// end.
    fn serve(
        self: Rc<Self>,
        caller: Rc<Hello>,
        header: RequestHeader,
        body: Bytes,
    ) -> impl Future<Output = Option<Bytes>>;

    /// A connection of the control lane has ended.
    fn left(self: Rc<Self>, caller: Rc<Hello>) -> impl Future<Output = ()>;
}

/// Connections, by whose they are.
#[derive(Default)]
struct Counts {
    strangers: Cell<usize>,
    by_address: RefCell<BTreeMap<IpAddr, usize>>,
    by_broker: RefCell<BTreeMap<BrokerId, usize>>,
}

/// One of a kind, counted while it is there.
struct Place<'a, K: Ord>(&'a RefCell<BTreeMap<K, usize>>, K);

impl<'a, K: Ord + Copy> Place<'a, K> {
    fn take(counts: &'a RefCell<BTreeMap<K, usize>>, key: K, most: usize) -> Option<Self> {
        let mut all = counts.borrow_mut();
        let count = all.entry(key).or_default();
        (*count < most).then(|| {
            *count += 1;
            Self(counts, key)
        })
    }
}

impl<K: Ord> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut all = self.0.borrow_mut();
        let count = all.get_mut(&self.1).expect("it was counted");
        *count -= 1;
        if *count == 0 {
            all.remove(&self.1);
        }
    }
}

/// Takes connections for as long as it is polled. Within a `LocalSet`.
pub(super) async fn accept<H: House>(house: Rc<H>, listener: TcpListener) {
    let counts = Rc::new(Counts::default());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (house, counts) = (house.clone(), counts.clone());
                tokio::task::spawn_local(async move {
                    let local = stream.local_addr().unwrap_or(peer);
                    if let Err(why) = receive(&house, &counts, stream, peer).await {
                        log::debug!("connection from {peer} to the cluster listener {local} closed: {why}");
                    }
                });
            }
            Err(e) => {
                log::debug!("a connection to the cluster listener was not accepted: {e}");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Serves one connection to its end, or until a shard has it.
async fn receive<H: House>(
    house: &Rc<H>,
    counts: &Rc<Counts>,
    stream: TcpStream,
    peer: SocketAddr,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let hello = {
        let _place = Stranger::enter(counts, peer.ip())?;
        let greeting = greet(&stream, peer);
        tokio::time::timeout(keys::HELLO_TIME, greeting).await.map_err(|_| io::ErrorKind::TimedOut)??
    };
    let Some((id, hello)) = hello else { return Ok(()) };
    let Some(_place) = Place::take(&counts.by_broker, hello.broker, keys::CONNECTIONS) else {
        let why = format!("broker {} has {} connections here", hello.broker, keys::CONNECTIONS);
        return write_frame(&stream, answer_frame(id, &Err((Refusal::TooManyConnections, why)))).await;
    };
    let answer = house.judge(&hello);
    write_frame(&stream, answer_frame(id, &answer)).await?;
    if let Err((refusal, why)) = answer {
        note_refused(peer, &hello, refusal, &why);
        return Ok(());
    }
    match hello.lane {
        Lane::Control => {
            let hello = Rc::new(hello);
            let served = serve(house, stream, hello.clone()).await;
            tokio::task::spawn_local(house.clone().left(hello));
            served
        }
        _ => {
            house.hand_over(hello.shard as usize, stream, Arc::new(hello));
            Ok(())
        }
    }
}

/// A connection that has not said who it is.
struct Stranger<'a>(&'a Counts, #[expect(dead_code, reason = "held")] Place<'a, IpAddr>);

impl<'a> Stranger<'a> {
    fn enter(counts: &'a Counts, address: IpAddr) -> io::Result<Self> {
        let most = || io::Error::other("too many connections that have not said who they are");
        if counts.strangers.get() >= keys::STRANGERS {
            return Err(most());
        }
        let address = address.to_canonical();
        let place = Place::take(&counts.by_address, address, keys::STRANGERS_OF_ADDRESS).ok_or_else(most)?;
        counts.strangers.set(counts.strangers.get() + 1);
        Ok(Self(counts, place))
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        self.0.strangers.set(self.0.strangers.get() - 1);
    }
}

/// Reads the Hello; `None` where something else came, or nothing.
async fn greet(stream: &TcpStream, peer: SocketAddr) -> io::Result<Option<(i32, Hello)>> {
    let local = stream.local_addr()?;
    let note = |speaks| strangers::note(Door::Cluster, peer, local, speaks, rt::unix_ms());
    let Some(mut body) = read_frame(stream, keys::HELLO_FRAME, |first| note(Speaks::by(first))).await? else {
        return Ok(None);
    };
    let whole = body.clone();
    match frame::parse_header(&mut body) {
        Ok(header) if header.api_key == keys::HELLO => match Hello::decode(body) {
            Ok(hello) => return Ok(Some((header.correlation_id, hello))),
            Err(_) => note(Speaks::Other),
        },
        Ok(header) if kafka_wire::API_DESCRIPTORS.iter().any(|api| api.api_key.value() == header.api_key) => {
            note(Speaks::Kafka);
        }
        _ => note(Speaks::by_frame(&whole)),
    }
    Ok(None)
}

fn note_refused(peer: SocketAddr, hello: &Hello, refusal: Refusal, why: &str) {
    // Who starts asks again and again until it is known.
    match refusal {
        Refusal::UnknownBroker | Refusal::NotServing => {
            log::debug!("broker {} at {peer} is refused for now: {why}", hello.broker);
        }
        _ => strangers::refused(peer, hello.broker, why, rt::unix_ms()),
    }
}

fn answer_frame(id: i32, answer: &Answer) -> Bytes {
    let mut body = BytesMut::new();
    encode_answer(answer, &mut body);
    frame_of(id, &body)
}

fn frame_of(id: i32, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_i32((4 + body.len()) as i32);
    frame.put_i32(id);
    frame.put_slice(body);
    frame.freeze()
}

/// Serves the control lane: requests are carried out side by side, and answered as they are done.
async fn serve<H: House>(house: &Rc<H>, stream: TcpStream, caller: Rc<Hello>) -> io::Result<()> {
    let (stream, places) = (Rc::new(stream), Arc::new(Semaphore::new(AT_ONCE)));
    let writing = Rc::new(tokio::sync::Mutex::new(()));
    let over = Rc::new(tokio::sync::Notify::new());
    loop {
        let place = places.clone().acquire_owned().await.expect("it is never closed");
        let next = tokio::select! {
            next = read_frame(&stream, keys::CONTROL_FRAME, |_| {}) => next?,
            () = over.notified() => return Err(io::Error::other("a request makes no sense")),
        };
        let Some(mut body) = next else { return Ok(()) };
        let header = frame::parse_header(&mut body).map_err(|e| io::Error::other(e.to_string()))?;
        let (house, caller) = (house.clone(), caller.clone());
        let (stream, writing, over) = (stream.clone(), writing.clone(), over.clone());
        tokio::task::spawn_local(async move {
            let id = header.correlation_id;
            let answered = match house.serve(caller, header, body.freeze()).await {
                Some(answer) => {
                    let _turn = writing.lock().await;
                    write_frame(&stream, frame_of(id, &answer)).await.is_ok()
                }
                None => false,
            };
            if !answered {
                over.notify_one();
            }
            drop(place);
        });
    }
}
