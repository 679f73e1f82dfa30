//! Waking a shard that may be asleep, and only then.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// One thread's bell. Its owner arms it before it sleeps and then looks once more for messages; others put the
/// message first and then ring. Whoever comes second sees the other, so no message waits behind a sleeper.
pub struct Doorbell {
    event: OwnedFd,
    asleep: AtomicBool,
    /// Rung since the owner last looked.
    rung: AtomicBool,
}

impl Doorbell {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call; the fresh descriptor is owned from here on.
        let event = unsafe {
            match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
                fd if fd < 0 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        Ok(Self { event, asleep: AtomicBool::new(false), rung: AtomicBool::new(false) })
    }

    pub fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if !self.asleep.load(Ordering::Relaxed) || !self.asleep.swap(false, Ordering::AcqRel) {
            return;
        }
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight readable bytes and an owned descriptor. A full counter means that it rings already.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Whether there may be messages; who asks has to take them.
    pub(super) fn answer(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::AcqRel)
    }

    pub(super) fn arm(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(super) fn disarm(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// For the owner's ring to watch; the counter is never read, each write reports an edge.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.event.try_clone()
    }
}
