//! Gives memory back after work.
//!
//! The C library's allocator keeps the pages that freed batches leave, gigabytes after a burst. They serve
//! the next burst well, so they are kept while there is work, and given back once it has stopped: giving
//! back holds each arena's lock for a while, which nobody should wait for.

use std::thread;
use std::time::Duration;

use crate::admin::process::Process;

const INTERVAL: Duration = Duration::from_secs(10);
/// Less CPU than this share of an interval counts as quiet.
const QUIET: f64 = 0.02;

/// Whether to give back now, told how much CPU each interval used.
#[derive(Default)]
struct Decision {
    worked: bool,
}

impl Decision {
    fn after(&mut self, cpu_seconds: f64) -> bool {
        let quiet = cpu_seconds < QUIET * INTERVAL.as_secs_f64();
        let now = quiet && self.worked;
        self.worked = !quiet;
        now
    }
}

/// Watches from a thread of its own for as long as the process lives. Without one, memory is only kept.
pub fn start() {
    let watch = || {
        let mut decision = Decision::default();
        let mut before = Process::here().cpu_seconds;
        loop {
            thread::sleep(INTERVAL);
            let now = Process::here().cpu_seconds;
            if decision.after(now - before) {
                give_back();
            }
            before = now;
        }
    };
    let spawned = thread::Builder::new().name("trim".to_owned()).stack_size(128 << 10).spawn(watch);
    if let Err(error) = spawned {
        log::warn!("memory will not be given back when idle: {error}");
    }
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: takes the allocator's own locks and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_after_each_burst() {
        let mut decision = Decision::default();
        let answers = [0.0, 5.0, 9.0, 0.1, 0.0, 0.0, 1.0, 0.0].map(|cpu| decision.after(cpu));
        assert_eq!(answers, [false, false, false, true, false, false, false, true]);
    }
}
