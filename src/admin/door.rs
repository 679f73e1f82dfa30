//! The HTTP server's connections: so many and no more, so that they never take what others need, and never so that
//! nobody new comes in. Who speaks something else is noted.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::rt;
use crate::shard::strangers;
use crate::wire::stranger::Speaks;

/// Connections at once; for one more, the oldest has to go.
const PLACES: usize = 32;
/// How long to wait where one could not be accepted.
const BACK_OFF: Duration = Duration::from_millis(100);
/// First bytes that a protocol is told by.
const HEAD: usize = 16;

pub struct Door {
    listener: TcpListener,
    local: SocketAddr,
    inside: VecDeque<oneshot::Sender<()>>,
}

impl Door {
    /// Within a tokio runtime.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let local = listener.local_addr()?;
        Ok(Self { listener, local, inside: VecDeque::new() })
    }

    /// A place for one more.
    fn enter(&mut self) -> oneshot::Receiver<()> {
        self.inside.retain(|guest| !guest.is_closed());
        if self.inside.len() >= PLACES
            && let Some(oldest) = self.inside.pop_front()
        {
            let _ = oldest.send(());
        }
        let (leave, told) = oneshot::channel();
        self.inside.push_back(leave);
        told
    }
}

impl axum::serve::Listener for Door {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        loop {
            if let Ok((stream, peer)) = self.listener.accept().await {
                let guest =
                    Guest { stream, peer, local: self.local, told: self.enter(), head: Some(Vec::new()) };
                return (guest, peer);
            }
            tokio::time::sleep(BACK_OFF).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// One connection.
pub struct Guest {
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    told: oneshot::Receiver<()>,
    /// What came first, until it is known what it is.
    head: Option<Vec<u8>>,
}

impl Guest {
    fn must_go(&mut self, cx: &mut Context<'_>) -> bool {
        !self.told.is_terminated() && Pin::new(&mut self.told).poll(cx) == Poll::Ready(Ok(()))
    }

    fn look_at(&mut self, came: &[u8]) {
        let Some(mut head) = self.head.take() else { return };
        head.extend_from_slice(&came[..came.len().min(HEAD - head.len())]);
        match Speaks::by(&head) {
            Speaks::Http => {}
            Speaks::Other if head.len() < HEAD && !came.is_empty() => self.head = Some(head),
            // Whoever only looks whether somebody is there has done no wrong.
            _ if head.is_empty() => {}
            speaks => strangers::note(strangers::Door::Http, self.peer, self.local, speaks, rt::unix_ms()),
        }
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.must_go(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) && self.head.is_some() {
            self.look_at(&buf.filled()[before..]);
        }
        read
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.must_go(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.must_go(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
