//! Keeps memory while there is work, and gives it back after.
//!
//! A fresh page costs more to fault in and zero than a batch costs to append (four times, on a virtual machine), so what
//! freed batches leave is kept for the next ones, of whatever size. Once work has stopped for a minute it is
//! given back: that holds each arena's lock for a while, which nobody should wait for.
//!
//! A small machine has nothing to keep: large pieces go back at once, and the rest whenever much is in use.

use std::thread;
use std::time::Duration;

use crate::admin::process::Process;

const INTERVAL: Duration = Duration::from_secs(10);
/// Less CPU than this share of an interval counts as quiet.
const QUIET: f64 = 0.02;
/// Quiet intervals in a row before memory is given back.
const PATIENCE: u32 = 6;
/// Growth that is worth giving back after a time that was quiet all along: many answers take little work.
const WORTHWHILE: u64 = 16 << 20;
/// With less memory than this, a machine is small.
const SMALL: u64 = 2 << 30;
/// How often a small machine's memory is looked at.
const SMALL_INTERVAL: Duration = Duration::from_secs(1);
/// Allocations from this size on go back at once on a small machine.
const LEAST_RETURNED: libc::c_int = 128 << 10;
/// Allocations up to this size come from the kept memory: the most that the C library allows.
const LARGEST_KEPT: libc::c_int = 32 << 20;

/// Whether to give back now, told how much CPU each interval used and what is resident at its end.
#[derive(Default)]
struct Decision {
    worked: bool,
    quiet: u32,
    /// The least that was resident since memory was given back.
    floor: Option<u64>,
}

impl Decision {
    fn after(&mut self, cpu_seconds: f64, resident: u64) -> bool {
        let quiet = cpu_seconds < QUIET * INTERVAL.as_secs_f64();
        self.quiet = if quiet { self.quiet + 1 } else { 0 };
        let floor = *self.floor.get_or_insert(resident);
        self.floor = Some(floor.min(resident));
        self.worked |= !quiet || resident > floor + WORTHWHILE;
        let now = self.quiet >= PATIENCE && std::mem::take(&mut self.worked);
        if now {
            self.floor = None;
        }
        now
    }
}

/// Watches from a thread of its own for as long as the process lives. Without one, memory is only kept.
pub fn start(memory: u64) {
    let small = memory < SMALL;
    settle(small);
    if small {
        watch_small(memory);
    }
    let watch = || {
        let mut decision = Decision::default();
        let mut before = Process::here().cpu_seconds;
        loop {
            thread::sleep(INTERVAL);
            let now = Process::here();
            if decision.after(now.cpu_seconds - before, now.resident_bytes) {
                give_back();
            }
            before = now.cpu_seconds;
        }
    };
    let spawned = thread::Builder::new().name("trim".to_owned()).stack_size(128 << 10).spawn(watch);
    if let Err(error) = spawned {
        log::warn!("memory will not be given back when idle: {error}");
    }
}

/// Gives back whenever more than half of the memory is resident: what was freed in small pieces lies among what is in use.
fn watch_small(memory: u64) {
    let watch = move || loop {
        thread::sleep(SMALL_INTERVAL);
        if resident() > memory / 2 {
            give_back();
        }
    };
    if let Err(error) = thread::Builder::new().name("trim-small".to_owned()).stack_size(64 << 10).spawn(watch)
    {
        log::warn!("memory will not be given back when it is short: {error}");
    }
}

/// Resident bytes; 0 where they cannot be read.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

#[cfg(target_env = "gnu")]
fn settle(small: bool) {
    let (mapped, kept) =
        if small { (LEAST_RETURNED, LEAST_RETURNED) } else { (LARGEST_KEPT, libc::c_int::MAX) };
    // SAFETY: plain settings of the allocator; where they are refused its defaults stay.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, mapped);
        libc::mallopt(libc::M_TRIM_THRESHOLD, kept);
    }
}

#[cfg(not(target_env = "gnu"))]
fn settle(_small: bool) {}

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
        let mut after = |cpu, intervals| (0..intervals).map(|_| decision.after(cpu, 0)).collect::<Vec<_>>();
        assert!(!after(0.0, 20).contains(&true), "nothing was ever used");
        assert!(!after(5.0, 3).contains(&true));
        assert!(!after(0.1, PATIENCE - 1).contains(&true));
        assert!(!after(5.0, 1).contains(&true), "a pause is not the end");
        assert!(!after(0.0, PATIENCE - 1).contains(&true));
        assert_eq!(after(0.0, 10).iter().filter(|now| **now).count(), 1);
    }

    #[test]
    fn after_a_burst_that_took_no_time_but_memory() {
        let mut decision = Decision::default();
        let mut after =
            |resident, intervals| (0..intervals).map(|_| decision.after(0.0, resident)).collect::<Vec<_>>();
        assert!(!after(10, 2 * PATIENCE).contains(&true), "a quiet process that does not grow");
        assert!(after(WORTHWHILE + 11, 1).contains(&true), "quiet for long already");
        assert!(!after(WORTHWHILE + 11, 2 * PATIENCE).contains(&true), "what is in use cannot be given back");
    }
}
