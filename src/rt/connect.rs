//! Connections that a shard opens: names are looked up on a thread of their own, and the ring connects.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use io_uring::opcode;

use super::address::Address;
use super::driver::{Driver, Held};
use super::net::Socket;
use super::notify::Notify;
use super::timer::sleep;

/// Names looked up at the same time, of one shard.
const LOOKUPS: usize = 4;

thread_local! {
    static LOOKING: Cell<usize> = const { Cell::new(0) };
    static LOOKED: Notify = Notify::new();
}

/// Opens a connection; `TimedOut` where it takes longer than `limit`. It is given up when the future is dropped.
pub async fn connect(to: SocketAddr, limit: Duration) -> io::Result<Socket> {
    let fd = Rc::new(socket(to)?);
    let address = Box::new(Address::of(to));
    let (at, length) = address.parts();
    let driver = Driver::current();
    let connecting = driver
        .submit_file(fd.clone(), Held::Address(address), |fd| opcode::Connect::new(fd, at, length).build());
    // Dropped before it has connected, the socket would go on trying for minutes.
    let mut connecting = std::pin::pin!(connecting.cancelled_when_dropped());
    let mut late = std::pin::pin!(sleep(limit));
    let connected = std::future::poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Ready((result, _)) => Poll::Ready(result),
        Poll::Pending => late.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
    });
    connected.await?;
    let fd = Rc::into_inner(fd).ok_or_else(|| io::Error::other("a connected socket is still in use"))?;
    Socket::of(TcpStream::from(fd))
}

fn socket(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a plain system call; the fresh descriptor is owned from here on.
    unsafe {
        match libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) {
            fd if fd < 0 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The addresses of a host, at least one: its own if it is one, or else what the system's resolver says, which is asked on
/// a thread of its own and may take long.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let _turn = Lookup::turn().await;
    let (tell, told) = flume::bounded(1);
    let host = host.to_owned();
    let look = move || drop(tell.send((host.as_str(), port).to_socket_addrs().map(Vec::from_iter)));
    std::thread::Builder::new().name("names".into()).spawn(look)?;
    let found: Vec<_> = loop {
        match told.try_recv() {
            Ok(found) => break found?,
            Err(flume::TryRecvError::Disconnected) => return Err(io::Error::other("the resolver panicked")),
            // The thread has no bell to ring: names are looked up when a broker comes, not while it serves.
            Err(flume::TryRecvError::Empty) => sleep(Duration::from_millis(2)).await,
        }
    };
    match found.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        false => Ok(found),
    }
}

/// A place among those that look up names.
struct Lookup;

impl Lookup {
    async fn turn() -> Self {
        while LOOKING.get() >= LOOKUPS {
            let looked = LOOKED.with(Notify::listen);
            looked.await;
        }
        LOOKING.set(LOOKING.get() + 1);
        Self
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        LOOKING.set(LOOKING.get() - 1);
        LOOKED.with(Notify::notify_all);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use bytes::{Bytes, BytesMut};

    use super::super::net::Stream;
    use super::super::{block_on, now};
    use super::*;

    #[test]
    fn a_connection_is_opened_and_carries_bytes_both_ways() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(door) = TcpListener::bind(address) else { continue };
            let to = door.local_addr().unwrap();
            let echo = std::thread::spawn(move || {
                let (mut peer, from) = door.accept().unwrap();
                let mut four = [0; 4];
                peer.read_exact(&mut four).unwrap();
                peer.write_all(&four).unwrap();
                from
            });
            let local = block_on(async move {
                let socket = connect(to, Duration::from_secs(20)).await.unwrap();
                let local = socket.local;
                assert_eq!(socket.peer, to);
                let stream = Stream::new(socket, false);
                stream.send([Bytes::from_static(b"ping")].iter()).unwrap();
                let mut back = BytesMut::with_capacity(64);
                while back.len() < 4 {
                    std::future::poll_fn(|cx| stream.poll_readable(cx)).await;
                    match stream.receive(&mut back, 64) {
                        Ok(n) => assert!(n > 0),
                        Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
                    }
                }
                assert_eq!(&back[..], b"ping");
                local
            });
            assert_eq!(echo.join().unwrap(), local);
        }
    }

    #[test]
    fn nobody_there_is_an_error_at_once_and_silence_one_in_time() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // A full backlog answers nobody: one that is waited for, and others behind it.
        let full = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = full.local_addr().unwrap();
        // SAFETY: a plain system call on an owned descriptor.
        unsafe { libc::listen(full.as_raw_fd(), 0) };
        block_on(async move {
            let refused = connect(closed, Duration::from_secs(20)).await.err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let mut kept = Vec::new();
            let late = loop {
                match connect(silent, Duration::from_millis(50)).await {
                    Ok(socket) => kept.push(socket),
                    Err(e) => break e,
                }
                assert!(kept.len() < 100, "its backlog takes everybody");
            };
            assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        });
        drop(full);
    }

    #[test]
    fn names_are_looked_up_beside_the_shard() {
        block_on(async {
            assert_eq!(resolve("10.1.2.3", 7).await.unwrap(), [([10, 1, 2, 3], 7).into()]);
            assert!(resolve("localhost", 7).await.unwrap().iter().all(|at| at.ip().is_loopback()));
            let began = now();
            assert!(resolve("no such host", 7).await.is_err(), "{:?}", began.elapsed());
            assert_eq!(LOOKING.get(), 0);
        });
    }
}
