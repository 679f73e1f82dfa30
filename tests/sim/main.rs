//! A cluster of up to seven brokers in one thread, by seed: the controller, leaders and followers that the broker runs, over a
//! quorum, a network and disks that are models. Everything breaks, then everything is mended, and all has to come together.
//!
//! ```text
//! WEIR_SEEDS=100000 cargo test --release --test sim                     a night's run; it says how many a second
//! WEIR_SEED=17 WEIR_TRACE=1 cargo test --test sim -- --nocapture        one seed again, every event
//! ```

mod check;
mod clients;
mod disk;
mod faults;
mod net;
mod node;
mod quorum;
mod random;
mod replica;
mod voting;
mod world;

use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Simulated time with faults, and the most events that it may take.
const FAULTY_MS: i64 = 60_000;
const MOST_EVENTS: u64 = 60_000;
const MEND_MS: i64 = 120_000;

struct Ran {
    events: u64,
    acked: usize,
    elections: u64,
    stops: u64,
    disks_lost: u64,
    epochs: i64,
}

fn run(seed: u64) -> Ran {
    let mut world = World::new(seed);
    world.run_until(FAULTY_MS, MOST_EVENTS);
    world.heal();
    world.converge(MEND_MS);
    let acked = world.check_acked();
    let epochs = world.partitions().into_iter();
    let epochs = epochs.filter_map(|id| Some(i64::from(world.image.partition(id)?.leader_epoch.0))).sum();
    let (history, events) = (&world.history, world.events);
    let (elections, stops, disks_lost) = (history.elections, history.stops, history.disks_lost);
    Ran { events, acked, elections, stops, disks_lost, epochs }
}

#[test]
fn nothing_acknowledged_is_lost_and_all_comes_together() {
    let (first, seeds) = (number("WEIR_SEED"), number("WEIR_SEEDS"));
    let seeds = seeds.unwrap_or(if first.is_some() { 1 } else { 60 });
    let first = first.unwrap_or(1);
    let began = std::time::Instant::now();
    let mut all = Ran { events: 0, acked: 0, elections: 0, stops: 0, disks_lost: 0, epochs: 0 };
    for seed in first..first + seeds {
        let ran = run(seed);
        all.events += ran.events;
        all.acked += ran.acked;
        all.elections += ran.elections;
        all.stops += ran.stops;
        all.disks_lost += ran.disks_lost;
        all.epochs += ran.epochs;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds: {} events ({:.0} a second), {} records acknowledged, {} elections in the quorum, {} of partitions, \
         {} stops, {} disks lost",
        all.events,
        all.events as f64 / seconds,
        all.acked,
        all.elections,
        all.epochs,
        all.stops,
        all.disks_lost
    );
    if seeds >= 60 {
        assert!(
            all.acked as u64 > seeds && all.elections > seeds && all.epochs as u64 > seeds,
            "there was nothing to see"
        );
    }
}
