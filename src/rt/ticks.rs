//! A clock that costs a few nanoseconds to read: the processor's counter, where the kernel trusts it, and the
//! monotonic clock elsewhere. For measuring, never for deciding when something is due.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the counter is compared with the clock before the first use.
const CALIBRATION: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(u64);

struct Scale {
    epoch: Instant,
    /// Nanoseconds of a tick in 2⁻³² steps; `None` counts nanoseconds of the monotonic clock.
    nanos: Option<u64>,
}

static SCALE: OnceLock<Scale> = OnceLock::new();

/// Compares the counter with the clock, once in a process; later calls cost nothing.
pub(super) fn calibrate() {
    scale();
}

fn scale() -> &'static Scale {
    SCALE.get_or_init(|| {
        let epoch = Instant::now();
        let Some(first) = counter() else { return Scale { epoch, nanos: None } };
        while epoch.elapsed() < CALIBRATION {
            std::hint::spin_loop();
        }
        let (nanos, ticks) = (epoch.elapsed().as_nanos(), counter().map_or(0, |now| now.wrapping_sub(first)));
        let nanos =
            if ticks > 0 && trusted() { u64::try_from((nanos << 32) / u128::from(ticks)).ok() } else { None };
        Scale { epoch, nanos }
    })
}

#[cfg(target_arch = "x86_64")]
fn counter() -> Option<u64> {
    // SAFETY: reads a register that every x86-64 processor has.
    Some(unsafe { std::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> Option<u64> {
    None
}

/// The kernel uses the counter itself only where it runs at one speed and alike on all cores.
fn trusted() -> bool {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    source.is_ok_and(|s| matches!(s.trim(), "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page"))
}

impl Ticks {
    #[inline]
    pub fn now() -> Ticks {
        let scale = scale();
        match (scale.nanos, counter()) {
            (Some(_), Some(ticks)) => Ticks(ticks),
            _ => Ticks(scale.epoch.elapsed().as_nanos() as u64),
        }
    }

    /// Nanoseconds since an earlier moment; 0 if it was not earlier.
    #[inline]
    pub fn since(self, earlier: Ticks) -> u64 {
        let ticks = self.0.saturating_sub(earlier.0);
        match scale().nanos {
            Some(nanos) => ((u128::from(ticks) * u128::from(nanos)) >> 32) as u64,
            None => ticks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_agree_with_the_clock() {
        calibrate();
        let (start, began) = (Instant::now(), Ticks::now());
        std::thread::sleep(Duration::from_millis(50));
        let (ticks, clock) = (Ticks::now().since(began) as f64, start.elapsed().as_nanos() as f64);
        assert!((ticks / clock - 1.0).abs() < 0.01, "{ticks} {clock}");
        assert_eq!(began.since(Ticks::now()), 0);
    }
}
