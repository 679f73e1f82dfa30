//! Sockets of the control thread: frames in and out, and links to other brokers.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::{TcpStream, lookup_host};

use crate::peer::{Hello, Limits, Link, LinkError, Welcome, Whom, Wire, introduce};

/// A frame's buffer grows by this much at most beyond what has arrived of it.
const GROWTH: usize = 256 * 1024;
const MAX_SLICES: usize = 64;

pub(super) struct Socket(TcpStream);

impl Wire for Socket {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            if self.0.poll_read_ready(cx)?.is_pending() {
                return Poll::Pending;
            }
            match receive(&self.0, into, GROWTH) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, from: &VecDeque<Bytes>) -> Poll<io::Result<usize>> {
        loop {
            if self.0.poll_write_ready(cx)?.is_pending() {
                return Poll::Pending;
            }
            let slices: Vec<IoSlice<'_>> =
                from.iter().take(MAX_SLICES).map(|slice| IoSlice::new(slice)).collect();
            match self.0.try_write_vectored(&slices) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn sleep(delay: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(delay)
    }
}

/// Receives what is there, at most `most`.
fn receive(stream: &TcpStream, into: &mut BytesMut, most: usize) -> io::Result<usize> {
    let have = into.len();
    let room = (into.capacity() - have).clamp(1, most);
    into.resize(have + room, 0);
    let received = stream.try_read(&mut into[have..]);
    into.truncate(have + *received.as_ref().unwrap_or(&0));
    received
}

/// The next frame, without its length; `None` at the end of the stream. No byte behind the frame is taken from the socket.
pub(super) async fn read_frame(
    stream: &TcpStream,
    most: usize,
    odd: impl FnOnce(&[u8]),
) -> io::Result<Option<BytesMut>> {
    let mut buffer = BytesMut::with_capacity(64);
    if !fill(stream, &mut buffer, 4).await? {
        return Ok(None);
    }
    let claimed = i32::from_be_bytes(*buffer.first_chunk().expect("four bytes came"));
    let length = match usize::try_from(claimed) {
        Ok(length) if length <= most => length,
        _ => {
            // Some more says better what it is.
            drop(tokio::time::timeout(Duration::from_millis(20), fill(stream, &mut buffer, 16)).await);
            odd(&buffer);
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {claimed} bytes")));
        }
    };
    match fill(stream, &mut buffer, 4 + length).await? {
        false => Err(io::ErrorKind::UnexpectedEof.into()),
        true => {
            buffer.advance(4);
            Ok(Some(buffer))
        }
    }
}

/// Receives up to `want` bytes in all; whether they came.
async fn fill(stream: &TcpStream, buffer: &mut BytesMut, want: usize) -> io::Result<bool> {
    while buffer.len() < want {
        let missing = (want - buffer.len()).min(GROWTH);
        buffer.reserve(missing);
        stream.readable().await?;
        match receive(stream, buffer, missing) {
            Ok(0) if buffer.is_empty() => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

/// Sends it all.
pub(super) async fn write_frame(stream: &TcpStream, mut frame: Bytes) -> io::Result<()> {
    while !frame.is_empty() {
        stream.writable().await?;
        match stream.try_write(&frame) {
            Ok(n) => frame.advance(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Calls a broker from the control thread, and says Hello. Each address of its host is tried in turn, for `limit` each.
pub(super) async fn connect(
    whom: &Whom,
    hello: &Hello,
    limits: Limits,
    limit: Duration,
) -> Result<(Link, Welcome), LinkError> {
    introduce(open(whom, limits, limit).await?, hello).await
}

/// A link on which nothing was said yet. Within a `LocalSet`.
pub(super) async fn open(whom: &Whom, limits: Limits, limit: Duration) -> Result<Link, LinkError> {
    let unreachable = |e: io::Error| LinkError::Unreachable(e.kind(), format!("{whom}: {e}"));
    let looked = tokio::time::timeout(limit, lookup_host((whom.host.as_str(), whom.port))).await;
    let found = looked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in found {
        let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(unreachable)?;
                let spawn = |drive| drop(tokio::task::spawn_local(drive));
                return Ok(Link::over(Socket(stream), limits, spawn));
            }
            Err(e) => error = e,
        }
    }
    Err(unreachable(error))
}
