//! Keeps memory while there is work, and gives it back after.
//!
//! A fresh page costs more to fault in and zero than a batch costs to append (four times, on a virtual machine), so what
//! freed batches leave is kept for the next ones, of whatever size. Once work has stopped for a minute it is
//! given back: that holds each arena's lock for a while, which nobody should wait for.

use std::thread;
use std::time::Duration;

use crate::admin::process::Process;

const INTERVAL: Duration = Duration::from_secs(10);
/// Less CPU than this share of an interval counts as quiet.
const QUIET: f64 = 0.02;
/// Quiet intervals in a row before memory is given back.
const PATIENCE: u32 = 6;
/// Allocations up to this size come from the kept memory: the most that the C library allows.
const LARGEST_KEPT: libc::c_int = 32 << 20;

/// Whether to give back now, told how much CPU each interval used.
#[derive(Default)]
struct Decision {
    worked: bool,
    quiet: u32,
}

impl Decision {
    fn after(&mut self, cpu_seconds: f64) -> bool {
        let quiet = cpu_seconds < QUIET * INTERVAL.as_secs_f64();
        self.quiet = if quiet { self.quiet + 1 } else { 0 };
        self.worked |= !quiet;
        self.quiet >= PATIENCE && std::mem::take(&mut self.worked)
    }
}

/// Watches from a thread of its own for as long as the process lives. Without one, memory is only kept.
pub fn start() {
    keep();
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
fn keep() {
    // SAFETY: plain settings of the allocator; where they are refused its defaults stay.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

#[cfg(not(target_env = "gnu"))]
fn keep() {}

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
        let mut after = |cpu, intervals| (0..intervals).map(|_| decision.after(cpu)).collect::<Vec<_>>();
        assert!(!after(0.0, 20).contains(&true), "nothing was ever used");
        assert!(!after(5.0, 3).contains(&true));
        assert!(!after(0.1, PATIENCE - 1).contains(&true));
        assert!(!after(5.0, 1).contains(&true), "a pause is not the end");
        assert!(!after(0.0, PATIENCE - 1).contains(&true));
        assert_eq!(after(0.0, 10).iter().filter(|now| **now).count(), 1);
    }
}
