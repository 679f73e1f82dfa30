//! The run's clock, and waiting for sockets or for a time with better than a millisecond's precision.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::Outcome;

/// Nanoseconds since the run began: what intended times and latencies are counted in.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Instant,
    pub wall_ms: i64,
}

impl Clock {
    pub fn start() -> Clock {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Clock { base: Instant::now(), wall_ms: wall.as_millis() as i64 }
    }

    pub fn now(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }

    pub fn sleep_until(&self, nanos: u64) {
        std::thread::sleep(Duration::from_nanos(nanos.saturating_sub(self.now())));
    }
}

/// Lets this thread's timed waits end when they should; the kernel may add 50 µs otherwise.
pub fn sharpen() {
    // SAFETY: sets one number of the calling thread and takes no pointer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000usize) };
}

/// Waits for events for at most this long, zero for not at all.
pub fn wait(poll: &mut Poll, events: &mut Events, nanos: u64) -> Outcome<()> {
    // epoll counts milliseconds; ppoll on its descriptor counts nanoseconds.
    let mut rest = Some(Duration::ZERO);
    if nanos >= 1_000_000_000 {
        rest = Some(Duration::from_nanos(nanos));
    } else if nanos > 0 {
        let timeout = libc::timespec { tv_sec: 0, tv_nsec: nanos as libc::c_long };
        let mut fd = libc::pollfd { fd: poll.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor and one timespec, both alive for the call; no signal mask.
        unsafe { libc::ppoll(&mut fd, 1, &timeout, std::ptr::null()) };
    }
    match poll.poll(events, rest) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other.map_err(|e| format!("epoll: {e}")),
    }
}
