//! The log on stderr: one line an event, time in UTC, level, module, message.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};

use crate::model::utc::UtcMillis;

struct Stderr;

/// Sets the process's logger. Called again, it only changes the level.
pub fn init(level: LevelFilter) {
    static LOGGER: Stderr = Stderr;
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
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
        let line = format!("{time} {:<5} {}: {}\n", record.level(), record.target(), record.args());
        // One write, so that lines of several threads do not mix; nobody to tell if stderr is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
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
