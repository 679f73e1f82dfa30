//! TCP sockets by readiness: the kernel reports an edge to the shard's ring, the task then receives and sends
//! without waiting. No buffer is lent to the kernel, so an idle connection holds none.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};

use super::driver::Driver;
use super::sendmsg::{SEND_FLAGS, message};
use super::watch::Watch;
use super::zerocopy;

/// The kernel's limit of slices in one send.
const MAX_SLICES: usize = 1024;

/// A listening socket, bound before the shards start so that a taken port is reported at once.
pub struct Listener {
    watch: Rc<Watch>,
    driver: Rc<Driver>,
}

/// An accepted connection that no shard watches yet: it can be sent to another.
pub struct Socket {
    fd: OwnedFd,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// What whoever accepted it counts it by, for as long as it is open.
    pub place: Option<Arc<()>>,
}

/// A connection watched by this shard.
pub struct Stream {
    watch: Rc<Watch>,
    driver: Rc<Driver>,
    moved: Cell<bool>,
    place: Option<Arc<()>>,
    /// Whether large sends go without a copy, until the kernel says that it has to make one.
    zerocopy: Rc<Cell<bool>>,
}

/// What a send has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    pub bytes: usize,
    /// They were not copied: the kernel sends them from where they are.
    pub zerocopy: bool,
}

impl Listener {
    /// `send_buffer` bounds what the kernel holds of each connection's output, unless it is 0. Small enough, the bytes
    /// are still in the processor's cache when they are sent or, on the same machine, received. `receive_buffer` does
    /// the same for what has arrived and was not read.
    pub fn new(listener: TcpListener, send_buffer: usize, receive_buffer: usize) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let fd = listener.as_raw_fd();
        limit_buffer(fd, send_buffer, [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF]);
        limit_buffer(fd, receive_buffer, [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF]);
        let driver = Driver::current();
        Ok(Self { watch: driver.watch(listener.into()), driver })
    }

    pub async fn accept(&self) -> io::Result<Socket> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        loop {
            if self.watch.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
            match self.accept_now() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.watch.clear_readable(),
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::ECONNABORTED)) => {}
                Err(e) => return Poll::Ready(Err(e)),
                Ok(stream) => match Socket::of(stream) {
                    // It has gone again: the next, without a rest.
                    Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTCONN | libc::EINVAL)) => {}
                    other => return Poll::Ready(other),
                },
            }
        }
    }

    fn accept_now(&self) -> io::Result<TcpStream> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let (fd, null) = (self.watch.fd.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: no address is asked for; the fresh descriptor is owned from here on.
        let fd = unsafe {
            match libc::accept4(fd, null, std::ptr::null_mut(), flags) {
                fd if fd < 0 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        Ok(fd.into())
    }
}

impl Socket {
    /// Of a connection that was accepted; fails where it has gone again.
    pub fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Self { fd: stream.into(), peer, local, place: None })
    }
}

/// Sets what accepted connections inherit, by the first option that is allowed; 0 leaves it to the kernel. Without the
/// privilege, `net.core.wmem_max` and `rmem_max` are the limit.
fn limit_buffer(fd: RawFd, bytes: usize, options: [libc::c_int; 2]) {
    if bytes == 0 {
        return;
    }
    // The kernel doubles what it is asked for, to make room for its bookkeeping.
    let half = libc::c_int::try_from(bytes / 2).unwrap_or(libc::c_int::MAX / 2);
    let set = |option| {
        // SAFETY: a plain system call with a readable integer.
        unsafe {
            let value = std::ptr::from_ref(&half).cast();
            libc::setsockopt(fd, libc::SOL_SOCKET, option, value, size_of_val(&half) as libc::socklen_t)
        }
    };
    if options.into_iter().all(|option| set(option) != 0) {
        log::debug!("a socket's buffer stays at the kernel's choice: {}", io::Error::last_os_error());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.driver.unwatch(&self.watch);
    }
}

impl Stream {
    /// `zerocopy` lets large sends go without a copy where the peer is on another machine.
    pub fn new(socket: Socket, zerocopy: bool) -> Self {
        let driver = Driver::current();
        let zerocopy = zerocopy && zerocopy::is_remote(socket.peer.ip(), socket.local.ip());
        let (moved, zerocopy) = (Cell::new(false), Rc::new(Cell::new(zerocopy)));
        Self { watch: driver.watch(socket.fd), driver, moved, place: socket.place, zerocopy }
    }

    /// Whether a receive may find bytes.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.poll_readable(cx)
    }

    /// Receives at most `limit` bytes into the buffer's spare capacity, of which there must be some: `Ok(0)` is the end
    /// of the stream, `WouldBlock` means to wait.
    pub fn receive(&self, buf: &mut BytesMut, limit: usize) -> io::Result<usize> {
        let spare: &mut [MaybeUninit<u8>] = buf.spare_capacity_mut();
        let most = spare.len().min(limit);
        let spare = &mut spare[..most];
        assert!(!spare.is_empty(), "nowhere to receive into");
        // SAFETY: the spare capacity is writable memory of that length.
        let n = unsafe {
            libc::recv(self.watch.fd.as_raw_fd(), spare.as_mut_ptr().cast(), spare.len(), libc::MSG_DONTWAIT)
        };
        let spare_len = spare.len();
        if n < 0 {
            let e = io::Error::last_os_error();
            if e.kind() == io::ErrorKind::WouldBlock {
                self.watch.clear_readable();
            }
            return Err(e);
        }
        let n = n as usize;
        // SAFETY: the kernel filled `n` bytes.
        unsafe { buf.advance_mut(n) };
        if n > 0 && n < spare_len {
            self.watch.clear_readable();
        }
        Ok(n)
    }

    /// Whether a send may take bytes.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.driver.poll_writable(&self.watch, cx)
    }

    /// Sends what the kernel takes of the slices at once.
    pub fn send<'a>(&self, slices: impl Iterator<Item = &'a Bytes> + Clone) -> io::Result<Sent> {
        let slices = slices.take(MAX_SLICES);
        let sent = if self.zerocopy.get() && slices.clone().map(Bytes::len).sum::<usize>() >= zerocopy::LEAST
        {
            self.send_zerocopy(slices)
        } else {
            self.send_copy(slices)
        };
        if sent.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
            self.watch.clear_writable();
        }
        sent
    }

    fn send_copy<'a>(&self, slices: impl Iterator<Item = &'a Bytes>) -> io::Result<Sent> {
        let slices: Vec<IoSlice<'_>> = slices.map(|slice| IoSlice::new(slice)).collect();
        // SAFETY: the message points to the slices, which outlive the call.
        let n = unsafe { libc::sendmsg(self.watch.fd.as_raw_fd(), &message(&slices), SEND_FLAGS) };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Sent { bytes: n as usize, zerocopy: false })
    }

    fn send_zerocopy<'a>(&self, slices: impl Iterator<Item = &'a Bytes> + Clone) -> io::Result<Sent> {
        match self.driver.send_zerocopy(self.watch.fd.as_raw_fd(), slices.clone(), &self.zerocopy) {
            Ok(bytes) => Ok(Sent { bytes, zerocopy: true }),
            Err(e) if zerocopy::has_to_copy(&e) => {
                log::debug!("a connection's responses are copied from now on: {e}");
                self.zerocopy.set(false);
                self.send_copy(slices)
            }
            Err(e) => Err(e),
        }
    }
}

impl Stream {
    /// Ends the watch, so that another shard can take the connection. What has arrived meanwhile is reported there.
    pub fn into_socket(mut self, peer: SocketAddr, local: SocketAddr) -> io::Result<Socket> {
        let fd = self.watch.fd.try_clone()?;
        self.moved.set(true);
        Ok(Socket { fd, peer, local, place: self.place.take() })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.moved.get() {
            return self.driver.unwatch(&self.watch);
        }
        // The polls under way still hold the socket: end the connection itself.
        // SAFETY: a plain system call on an owned descriptor.
        unsafe { libc::shutdown(self.watch.fd.as_raw_fd(), libc::SHUT_RDWR) };
        self.driver.unwatch(&self.watch);
    }
}
