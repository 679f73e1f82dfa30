//! What carries a link's bytes, on a shard or elsewhere.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::rt;
use crate::rt::net::Stream;

/// A connected socket and a clock, of one thread.
pub trait Wire: 'static {
    /// Receives into the buffer's spare capacity, of which there is some; 0 is the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>>;

    /// Sends from the front what goes at once; never nothing.
    fn poll_send(&mut self, cx: &mut Context<'_>, from: &VecDeque<Bytes>) -> Poll<io::Result<usize>>;

    fn sleep(delay: Duration) -> impl Future<Output = ()> + 'static;
}

/// On a shard.
impl Wire for Stream {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            if self.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
            match self.receive(into, usize::MAX) {
                Err(e) if waits(&e) => {}
                received => return Poll::Ready(received),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, from: &VecDeque<Bytes>) -> Poll<io::Result<usize>> {
        loop {
            if self.poll_writable(cx).is_pending() {
                return Poll::Pending;
            }
            match self.send(from.iter()) {
                Err(e) if waits(&e) => {}
                sent => return Poll::Ready(sent.map(|sent| sent.bytes)),
            }
        }
    }

    fn sleep(delay: Duration) -> impl Future<Output = ()> {
        rt::sleep(delay)
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
