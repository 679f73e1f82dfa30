//! Waking a thread that may be asleep, and only then.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// One thread's bell. Its owner arms it before it sleeps and then looks once more for messages; others put the
/// message first and then ring. Whoever comes second sees the other, so no message waits behind a sleeper.
pub struct Doorbell {
    eventfd: OwnedFd,
    armed: AtomicBool,
}

impl Doorbell {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call; the fresh descriptor is owned from here on.
        let eventfd = unsafe {
            match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
                fd if fd < 0 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        Ok(Self { eventfd, armed: AtomicBool::new(false) })
    }

    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::AcqRel) {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: eight readable bytes and an owned descriptor. A full counter means that it rings already.
            unsafe { libc::write(self.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(super) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    /// A duplicate for the sleeper to watch; the counter is never read, each write reports an edge.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }
}
