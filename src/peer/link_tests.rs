use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use kafka_wire::ApiVersionsRequest;

use super::super::dial::{Whom, connect};
use super::super::hello::{Lane, Refusal, encode_answer};
use super::*;
use crate::rt::block_on;

const LONG: Duration = Duration::from_secs(20);

fn hello(to: i32) -> Hello {
    Hello {
        cluster: "c".into(),
        to,
        broker: 1,
        epoch: 1,
        incarnation: [0; 16],
        directory: [0; 16],
        recovery: [0; 16],
        lane: Lane::Live,
        shard: 0,
    }
}

fn welcome() -> Welcome {
    Welcome { cluster: "c".into(), broker: 2, epoch: 9, incarnation: [0; 16], directory: [0; 16], shards: 1 }
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn write_frame(stream: &mut TcpStream, id: &[u8], body: &[u8]) {
    let frame = [&((4 + body.len()) as i32).to_be_bytes(), id, body].concat();
    stream.write_all(&frame).unwrap();
}

/// A broker that answers Hello, and then does as it is told.
fn broker(then: impl FnOnce(TcpStream) + Send + 'static) -> (Whom, JoinHandle<()>) {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let whom = Whom { host: "127.0.0.1".into(), port: door.local_addr().unwrap().port() };
    let thread = std::thread::spawn(move || {
        let mut stream = door.accept().unwrap().0;
        let frame = read_frame(&mut stream).unwrap();
        assert_eq!(frame[..4], [&keys::HELLO.to_be_bytes()[..], &[0, 0]].concat());
        let heard = Hello::decode(BytesMut::from(&frame[8..])).unwrap();
        let mut answer = BytesMut::new();
        let refused = Err((Refusal::ForeignCluster, "not yours".to_owned()));
        let said = if heard.cluster == "c" { Ok(welcome()) } else { refused };
        encode_answer(&said, &mut answer);
        write_frame(&mut stream, &frame[4..8], &answer);
        then(stream);
    });
    (whom, thread)
}

async fn link(whom: &Whom) -> Link {
    connect(whom, &hello(2), Limits::default(), LONG).await.unwrap().0
}

#[test]
fn answers_find_who_asked_in_whatever_order_they_come() {
    let (whom, thread) = broker(|mut stream| {
        let asked: Vec<_> = (0..3).map(|_| read_frame(&mut stream).unwrap()).collect();
        for frame in asked.iter().rev() {
            let body = [b"re: ", &frame[8..]].concat();
            write_frame(&mut stream, &frame[4..8], &body);
        }
        assert_eq!(read_frame(&mut stream), None, "a link that nobody has closes");
    });
    block_on(async move {
        let link = link(&whom).await;
        let [a, b, c] = ["a", "b", "c"].map(|body| link.ask(keys::QUORUM, body.into(), LONG).unwrap());
        assert_eq!(b.await.unwrap(), "re: b");
        // Nobody waits for it any more.
        drop(a);
        assert_eq!(c.await.unwrap(), "re: c");
    });
    thread.join().unwrap();
}

#[test]
fn kafkas_messages_are_understood() {
    let (whom, thread) = broker(|mut stream| {
        let frame = read_frame(&mut stream).unwrap();
        assert_eq!(frame[..4], [0, 18, 0, 0]);
        write_frame(&mut stream, &frame[4..8], &[0, 35, 0, 0, 0, 0]);
        let frame = read_frame(&mut stream).unwrap();
        write_frame(&mut stream, &frame[4..8], &[1]);
    });
    block_on(async move {
        let link = link(&whom).await;
        let request = ApiVersionsRequest::default();
        assert_eq!(link.call(&request, 0, LONG).await.unwrap().error_code, 35);
        assert!(matches!(link.call(&request, 99, LONG).await, Err(LinkError::Malformed(_))));
        assert!(matches!(link.call(&request, 0, LONG).await, Err(LinkError::Malformed(_))));
    });
    thread.join().unwrap();
}

#[test]
fn an_end_fails_all_that_wait_and_all_that_come() {
    let (whom, thread) = broker(|mut stream| drop(read_frame(&mut stream)));
    block_on(async move {
        let link = link(&whom).await;
        let replies = [(); 2].map(|()| link.ask(keys::QUORUM, Bytes::new(), LONG).unwrap());
        for reply in replies {
            assert!(matches!(reply.await, Err(LinkError::Closed(_))));
        }
        assert!(matches!(link.closed().await, LinkError::Closed(_)));
        assert!(link.ask(keys::QUORUM, Bytes::new(), LONG).is_err() && link.ended().is_some());
    });
    thread.join().unwrap();
}

#[test]
fn silence_ends_it_and_so_do_odd_answers() {
    let silent = |mut stream: TcpStream| while read_frame(&mut stream).is_some() {};
    let unknown = |mut stream: TcpStream| {
        read_frame(&mut stream).unwrap();
        write_frame(&mut stream, &[0, 0, 0, 77], b"");
        while read_frame(&mut stream).is_some() {}
    };
    let long = |mut stream: TcpStream| {
        read_frame(&mut stream).unwrap();
        stream.write_all(&i32::MAX.to_be_bytes()).unwrap();
        while read_frame(&mut stream).is_some() {}
    };
    let short = |mut stream: TcpStream| {
        read_frame(&mut stream).unwrap();
        stream.write_all(&[0, 0, 0, 2, 1, 1]).unwrap();
        while read_frame(&mut stream).is_some() {}
    };
    type Case = (Box<dyn FnOnce(TcpStream) + Send>, Duration);
    let cases: [Case; 4] = [
        (Box::new(silent), Duration::from_millis(50)),
        (Box::new(unknown), LONG),
        (Box::new(long), LONG),
        (Box::new(short), LONG),
    ];
    for (what, limit) in cases {
        let (whom, thread) = broker(what);
        block_on(async move {
            let link = link(&whom).await;
            let (late, other) = (link.ask(keys::QUORUM, Bytes::new(), limit), link.closed());
            assert!(late.unwrap().await.is_err());
            other.await;
        });
        thread.join().unwrap();
    }
}

#[test]
fn what_is_under_way_is_bounded() {
    let (whom, thread) = broker(|mut stream| while read_frame(&mut stream).is_some() {});
    block_on(async move {
        let limits = Limits { in_flight: 2, ..Limits::default() };
        let (link, _) = connect(&whom, &hello(2), limits, LONG).await.unwrap();
        let ask = || link.ask(keys::QUORUM, Bytes::new(), LONG);
        let (_one, two) = (ask().unwrap(), ask().unwrap());
        assert_eq!(ask().err(), Some(LinkError::Busy));
        // Its answer still has to come.
        drop(two);
        assert_eq!(ask().err(), Some(LinkError::Busy));
    });
    thread.join().unwrap();
}

#[test]
fn who_answers_has_to_be_who_was_called() {
    let (whom, thread) = broker(drop);
    block_on(async move {
        let odd = connect(&whom, &hello(3), Limits::default(), LONG).await.err().unwrap();
        assert!(odd.to_string().contains("broker 2 answers in the place of broker 3"), "{odd}");
    });
    thread.join().unwrap();
    let (whom, thread) = broker(drop);
    block_on(async move {
        let foreign = Hello { cluster: "d".into(), ..hello(2) };
        let refused = connect(&whom, &foreign, Limits::default(), LONG).await.err().unwrap();
        assert_eq!(refused, LinkError::Refused(Refusal::ForeignCluster, "not yours".into()));
    });
    thread.join().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    block_on(async move {
        let whom = Whom { host: "127.0.0.1".into(), port: closed.port() };
        let refused = connect(&whom, &hello(2), Limits::default(), LONG).await.err().unwrap();
        assert!(matches!(refused, LinkError::Unreachable(io::ErrorKind::ConnectionRefused, _)), "{refused}");
    });
}
