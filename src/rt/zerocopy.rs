//! Sends from where the bytes are (`IORING_OP_SENDMSG_ZC`): the kernel holds the pages until the peer has acknowledged
//! them, and says so in a second completion. Until then the driver's slot keeps the bytes alive and unchanged.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::rc::Rc;

use bytes::Bytes;
use io_uring::opcode;
use io_uring::types::Fd;

use super::driver::{Driver, Slot};
use super::sending::Sending;
use super::sendmsg::{SEND_FLAGS, message};

/// From here on to hold pages is cheaper than to copy them.
pub(super) const LEAST: usize = 64 << 10;
/// What one send offers: about what a socket takes at once, as all of it is kept until the kernel has sent its part.
const MOST: usize = 1 << 20;
/// `IORING_SEND_ZC_REPORT_USAGE` (Linux 6.2): say whether the bytes were copied after all.
const REPORT_USAGE: u16 = 1 << 3;

/// Whether the route to a peer can carry bytes that were not copied: to this machine itself, the kernel copies them.
pub(super) fn is_remote(peer: IpAddr, local: IpAddr) -> bool {
    !peer.to_canonical().is_loopback() && peer != local
}

/// Errors that say how the bytes cannot be sent, not that they cannot.
pub(super) fn has_to_copy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOBUFS | libc::ENOMEM))
}

impl Driver {
    /// Sends what the socket takes of the slices at once, without waiting. `pays` turns false when the kernel reports
    /// that it had to copy.
    pub(super) fn send_zerocopy<'a>(
        &self,
        socket: RawFd,
        slices: impl Iterator<Item = &'a Bytes>,
        pays: &Rc<Cell<bool>>,
    ) -> io::Result<usize> {
        let mut room = MOST;
        let some = slices.map_while(|slice| {
            let part = slice.len().min(room);
            room -= part;
            (part > 0).then(|| slice.slice(..part))
        });
        let sending = Rc::new(Sending::new(some.collect(), pays));
        let parts: Vec<io::IoSlice<'_>> =
            sending.slices().iter().map(|slice| io::IoSlice::new(slice)).collect();
        let message = message(&parts);
        let entry = opcode::SendMsgZc::new(Fd(socket), &raw const message).ioprio(REPORT_USAGE);
        let key = self.insert(Slot::Send(sending.clone()));
        self.push(entry.flags(SEND_FLAGS as u32).build().user_data(u64::from(key)));
        // Told not to wait, the kernel answers as it takes the entry. Only the bytes are needed after that.
        loop {
            self.enter(0, None);
            self.reap();
            match sending.result() {
                Some(sent) if sent < 0 => return Err(io::Error::from_raw_os_error(-sent)),
                Some(sent) => return Ok(sent as usize),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::rt;

    /// Memory that says when it is let go.
    struct Watched(Vec<u8>, Arc<AtomicBool>);

    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            self.1.store(true, Ordering::Relaxed);
        }
    }

    async fn until_freed(freed: &AtomicBool) {
        while !freed.load(Ordering::Relaxed) {
            rt::sleep(Duration::from_millis(1)).await;
        }
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (sender, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_are_kept_until_the_kernel_has_sent_them_and_a_copy_is_reported() {
        let (sender, mut receiver) = connected();
        sender.set_nonblocking(true).unwrap();
        let content: Vec<u8> = (0..MOST + 4096).map(|i| (i * 31 % 251) as u8).collect();
        let expected = content.clone();
        rt::block_on(async move {
            let (freed, pays) = (Arc::new(AtomicBool::new(false)), Rc::new(Cell::new(true)));
            let mut left = Bytes::from_owner(Watched(content, freed.clone()));
            let reading = rt::spawn(rt::blocking(move || {
                let mut got = vec![0; expected.len()];
                receiver.read_exact(&mut got).unwrap();
                assert!(got == expected, "the bytes differ");
            }));
            let driver = Driver::current();
            while !left.is_empty() {
                match driver.send_zerocopy(sender.as_raw_fd(), std::iter::once(&left), &pays) {
                    Ok(sent) => drop(left.split_to(sent)),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        rt::sleep(Duration::from_millis(1)).await
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            drop(left);
            reading.await;
            until_freed(&freed).await;
            assert!(!pays.get(), "the loopback device copies, and the kernel says so");
        });
    }

    #[test]
    fn a_peer_that_does_not_read_or_has_gone_is_an_error_and_holds_no_bytes_for_ever() {
        let (sender, receiver) = connected();
        sender.set_nonblocking(true).unwrap();
        rt::block_on(async move {
            let (freed, pays) = (Arc::new(AtomicBool::new(false)), Rc::new(Cell::new(true)));
            let bytes = Bytes::from_owner(Watched(vec![7; MOST], freed.clone()));
            let driver = Driver::current();
            let send = || driver.send_zerocopy(sender.as_raw_fd(), std::iter::once(&bytes), &pays);
            let full = loop {
                if let Err(e) = send() {
                    break e;
                }
            };
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
            drop(receiver);
            let gone = loop {
                match send() {
                    Err(e) if e.kind() != io::ErrorKind::WouldBlock => break e,
                    _ => rt::sleep(Duration::from_millis(1)).await,
                }
            };
            assert!(
                matches!(gone.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
                "{gone}"
            );
            drop(bytes);
            until_freed(&freed).await;
        });
    }

    #[test]
    fn a_route_is_remote_that_leaves_the_machine() {
        let remote = |peer: &str, local: &str| is_remote(peer.parse().unwrap(), local.parse().unwrap());
        assert!(remote("10.0.0.2", "10.0.0.1") && remote("fd00::2", "fd00::1"));
        assert!(!remote("127.0.0.1", "127.0.0.1") && !remote("::ffff:127.0.0.1", "::ffff:127.0.0.1"));
        assert!(!remote("10.0.0.1", "10.0.0.1"), "its own address");
    }
}
