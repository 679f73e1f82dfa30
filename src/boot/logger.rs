//! The log on stderr: one line an event, time in UTC, level, module, message. What comes from outside is escaped.
//!
//! What cannot be written is dropped, and nobody waits for a reader who has stopped reading; once lines can be written
//! again, the log says how many are missing.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};

use crate::model::printable::printable;
use crate::model::utc::UtcMillis;

/// What a pipe takes at once when it takes anything: a longer line is cut.
const LONGEST: usize = 4096;

struct Stderr;

/// Lines that nobody could be told.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Sets the process's logger. Called again, it only changes the level.
pub fn init(level: LevelFilter) {
    static LOGGER: Stderr = Stderr;
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}

/// Writes to standard output, or does not.
pub fn say(text: &str) {
    let mut out = io::stdout().lock();
    if takes(out.as_raw_fd()) {
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Writes to standard error, or does not.
pub fn complain(text: &str) {
    line(text);
}

/// Whether a write would not wait. What cannot be asked is written to.
fn takes(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one descriptor in a struct that outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) != 0 }
}

/// One write, so that lines of several threads do not mix. Returns whether it was made.
fn line(text: &str) -> bool {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut out = io::stderr().lock();
    if !takes(out.as_raw_fd()) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        return false;
    }
    let missing = DROPPED.swap(0, Ordering::Relaxed);
    let missing = if missing > 0 {
        format!("({missing} lines of the log could not be written)\n")
    } else {
        String::new()
    };
    match out.write_all(format!("{missing}{text}").as_bytes()) {
        Ok(()) => true,
        Err(_) => {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // Libraries may warn; only our own modules may chat.
        metadata.level() <= log::Level::Warn || metadata.target().starts_with("weir")
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = UtcMillis(since.as_millis() as u64);
        let message = record.args().to_string();
        let mut text = format!("{time} {:<5} {}: {}", record.level(), record.target(), printable(&message));
        if text.len() >= LONGEST {
            text.truncate(text.floor_char_boundary(LONGEST - 4));
            text.push('…');
        }
        line(&format!("{text}\n"));
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_in_utc() {
        for (seconds, printed) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_200, "2024-03-01T00:00:00.007Z"),
            (4_102_444_799, "2099-12-31T23:59:59.007Z"),
        ] {
            assert_eq!(UtcMillis(seconds * 1000 + 7).to_string(), printed);
        }
    }
}
