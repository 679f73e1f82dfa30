//! Power cuts and bad sectors: what they may leave of a data directory, recovered and held against what was written.
//!
//! ```text
//! cargo test --test crash                                   a sample
//! WEIR_IMAGES=1000000 cargo test --release --test crash images -- --nocapture
//! WEIR_SEED=17 cargo test --test crash images               one chain again
//! WEIR_SECTORS=all cargo test --release --test crash sector -- --nocapture
//! ```

mod check;
mod compacted;
mod damage;
mod disk;
mod drive;
mod images;
mod metadata;
mod quorum;
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
    let steps = if large { 60 } else { 240 };
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
    let [read, kept, replaced] = drive::COMPACTED.each_ref().map(|sum| sum.load(Ordering::Relaxed));
    println!("compaction kept {kept} of {read} records and replaced {replaced} segments");
    assert!(kept < read && replaced > 0, "compaction was going on");
    let truncated = drive::TRUNCATED.load(Ordering::Relaxed);
    println!("logs were cut {truncated} times");
    assert!(truncated > 0, "logs were cut");
}

/// A sample of the sectors of every kind of file, or all of them.
#[test]
fn a_bad_sector_is_rebuilt_or_reported_and_never_served() {
    let subject = damage::subject();
    let kinds = subject.kinds();
    for kind in ["checkpoint", "checkpoint-copy", "extents", "journal", "log"] {
        assert!(kinds.iter().any(|k| k == kind), "no {kind} among {kinds:?}");
    }
    let mut sectors = subject.sectors();
    let all = std::env::var("WEIR_SECTORS").is_ok_and(|text| text == "all");
    if !all {
        // Small files whole, of large ones a few sectors spread out.
        let mut random = random::Random::new(number("WEIR_SEED").unwrap_or(1));
        let mut seen = std::collections::HashMap::new();
        for (path, _) in &sectors {
            *seen.entry(path.clone()).or_insert(0usize) += 1;
        }
        sectors.retain(|(path, sector)| *sector == 0 || random.below(seen[path]) < 3);
    }
    let (count, tried) = (sectors.len(), damage::sweep(subject, sectors, number("WEIR_SEED").unwrap_or(1)));
    println!("{count} sectors, {tried} harms: nothing lost in silence, nothing wrong served");
}

#[test]
fn without_checkpoints_all_is_made_again_of_segments_and_journal() {
    damage::without_checkpoints(damage::subject());
}
