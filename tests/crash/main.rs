//! Power cuts: what they may leave of a recorded run, recovered and held against what was acknowledged.
//!
//! ```text
//! cargo test --test crash                                   a sample
//! WEIR_IMAGES=1000000 cargo test --release --test crash images -- --nocapture
//! WEIR_SEED=17 cargo test --test crash images               one chain again
//! ```

mod check;
mod disk;
mod drive;
mod images;
mod random;
mod world;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use drive::Scale;
use images::{Plan, chain, progress};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Every eighth chain has segments that are large enough for index files.
fn plan(seed: u64, images_a_run: usize) -> Plan {
    let large = seed % 8 == 7;
    let steps = if large { 60 } else { 160 };
    Plan { seed, runs: 6, images_a_run, scale: Scale { steps, large } }
}

#[test]
fn images_of_power_cuts_have_all_that_was_acknowledged() {
    if let Some(seed) = number("WEIR_SEED") {
        println!("{} images held", chain(plan(seed, 200)));
        return;
    }
    let wanted = number("WEIR_IMAGES").unwrap_or(240) as usize;
    let (a_run, threads) = if wanted > 1000 { (200, 2) } else { (20, 1) };
    let first = number("WEIR_FIRST_SEED").unwrap_or(1);
    let (next, checked, began) = (AtomicU64::new(first), AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while checked.load(Ordering::Relaxed) < wanted {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let held = chain(plan(seed, a_run));
                    let all = checked.fetch_add(held, Ordering::Relaxed) + held;
                    if wanted > 1000 {
                        progress(began, all, seed);
                    }
                }
            });
        }
    });
}
