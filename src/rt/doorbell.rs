//! Waking a thread that may be asleep, and only then.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering, fence};

/// How the owner sleeps, and so which descriptor wakes it.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Sleep {
    Awake = 0,
    /// On its ring, which watches `ring`.
    OnRing = 1,
    /// In glommio's park, which reads `bell`.
    Parked = 2,
}

/// One thread's bell. Its owner arms it before it sleeps and then looks once more for messages; others put the
/// message first and then ring. Whoever comes second sees the other, so no message waits behind a sleeper.
///
/// A parked owner is woken through `bell` itself and not through a ring that signals `bell`: a completion that a write
/// to an eventfd causes signals the ring's eventfd later or, on Linux 6.18, not at all.
pub struct Doorbell {
    ring: OwnedFd,
    bell: OwnedFd,
    sleep: AtomicU8,
}

impl Doorbell {
    pub fn new() -> io::Result<Self> {
        // The bell blocks: a read through io_uring then waits instead of failing.
        Ok(Self {
            ring: eventfd(libc::EFD_NONBLOCK)?,
            bell: eventfd(0)?,
            sleep: AtomicU8::new(Sleep::Awake as u8),
        })
    }

    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleep.load(Ordering::Relaxed) == Sleep::Awake as u8 {
            return;
        }
        let sleep = self.sleep.swap(Sleep::Awake as u8, Ordering::AcqRel);
        let fd = match sleep {
            _ if sleep == Sleep::OnRing as u8 => &self.ring,
            _ if sleep == Sleep::Parked as u8 => &self.bell,
            _ => return,
        };
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight readable bytes and an owned descriptor. A full counter means that it rings already.
        unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(super) fn arm(&self, sleep: Sleep) {
        self.sleep.store(sleep as u8, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(super) fn disarm(&self) {
        self.sleep.store(Sleep::Awake as u8, Ordering::Relaxed);
    }

    /// For the owner's ring to watch; the counter is never read, each write reports an edge.
    pub(super) fn ring_descriptor(&self) -> io::Result<OwnedFd> {
        self.ring.try_clone()
    }

    /// For glommio to read, and for the ring's completions to signal.
    pub(super) fn bell_descriptor(&self) -> io::Result<OwnedFd> {
        self.bell.try_clone()
    }
}

fn eventfd(flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the fresh descriptor is owned from here on.
    unsafe {
        match libc::eventfd(0, libc::EFD_CLOEXEC | flags) {
            fd if fd < 0 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}
