//! Records runs, cuts the power at their moments, and recovers what is left.
//!
//! A *chain* begins with an empty disk. Each of its runs starts from an image that an earlier run's power cut left (so
//! that recovery is itself recorded and cut), works, and gives images; each is opened and checked, some twice. The seed
//! decides the plan, the moments and what the cuts leave; how tasks interleave is the kernel's.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use weir::rt;
use weir::rt::record::{Event, Recording};

use crate::check;
use crate::disk::{self, Choice, Choices, Disk, How, Image, SECTOR};
use crate::drive::{self, Scale};
use crate::random::Random;
use crate::world::World;

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub runs: usize,
    pub images_a_run: usize,
    pub scale: Scale,
}

/// One power cut.
struct Cut {
    moment: usize,
    choices: Choices,
    shards: usize,
    /// Opens it a second time, without a close between.
    twice: bool,
}

/// Where images are written: memory, where there is some.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::Builder::new().prefix("weir-crash-").tempdir_in(memory),
        false => tempfile::Builder::new().prefix("weir-crash-").tempdir(),
    };
    made.expect("a directory for images")
}

/// Runs one chain; how many images held. Panics at the first that does not.
pub fn chain(plan: Plan) -> usize {
    let mut random = Random::new(plan.seed);
    let (mut base, mut world) = (Image::new(), World::default());
    let mut checked = 0;
    for run in 0..plan.runs {
        let context = format!("seed {} run {run}", plan.seed);
        let shards = 1 + random.below(3);
        let (events, outcome);
        (events, outcome, world) = record(&base, world, &mut random, shards, plan.scale);
        if let Err(e) = outcome {
            let kept = keep(&base, &context);
            for (i, event) in events.iter().enumerate().skip(events.len().saturating_sub(80)) {
                println!("  {i:6} {}", describe_event(&events, event));
            }
            panic!("{context}: {e}\n  the image it started from is in {}", kept.display());
        }
        let cuts = plan_cuts(&base, &events, &mut random, plan.images_a_run, shards);
        checked += cuts.len();
        let next = random.below(cuts.len());
        let events = Rc::new(events);
        let (images, failure) = check_all(&base, &events, &world, cuts, next, plan.scale);
        if let Some((cut, image, e)) = failure {
            report(&context, &base, &events, &world, cut, image, &e, plan.scale);
        }
        let (moment, image) = images.expect("the chosen image was passed");
        world = world.at(moment);
        base = image;
    }
    checked
}

fn record(
    base: &Image,
    world: World,
    random: &mut Random,
    shards: usize,
    scale: Scale,
) -> (Vec<Event>, Result<(), String>, World) {
    let dir = scratch();
    disk::write_image(base, dir.path()).expect("the image is written");
    let recording = Recording::start(dir.path()).expect("the recording starts");
    let path = dir.path().canonicalize().expect("it exists");
    let state = Rc::new(RefCell::new((random.clone(), world)));
    let inner = state.clone();
    let (recording, outcome, end) = rt::block_on(async move {
        let (mut random, mut world) = inner.borrow().clone();
        let outcome = drive::run(&path, &recording, &mut random, &mut world, shards, scale).await;
        *inner.borrow_mut() = (random, world);
        // What happens after that, nobody observes.
        let end = recording.len();
        let outcome = match outcome {
            Ok(running) => {
                running.end().await;
                Ok(())
            }
            Err(violation) => Err(violation),
        };
        (recording, outcome, end)
    });
    let mut events = recording.finish();
    events.truncate(end);
    let (after, world) = state.borrow().clone();
    *random = after;
    (events, outcome, world)
}

/// Draws the moments and what each cut leaves; in the order of the moments.
fn plan_cuts(base: &Image, events: &[Event], random: &mut Random, count: usize, shards: usize) -> Vec<Cut> {
    let mut moments: Vec<usize> = (0..count)
        .map(|_| match random.below(6) {
            // Half of what can go wrong goes wrong around a sync.
            0..=1 => near_a_sync(events, random),
            2 => near_a_replacement(events, random),
            _ => random.below(events.len() + 1),
        })
        .collect();
    moments.sort_unstable();
    let mut disk = Disk::holding(base);
    let mut at = 0;
    let mut cuts = Vec::with_capacity(count);
    for moment in moments {
        events[at..moment].iter().for_each(|event| disk.apply(event));
        at = moment;
        let choices = disk::draw(&disk.pending(), random);
        let shards = if random.chance(30) { 1 + random.below(3) } else { shards };
        cuts.push(Cut { moment, choices, shards, twice: random.chance(10) });
    }
    cuts
}

fn near_a_sync(events: &[Event], random: &mut Random) -> usize {
    let from = random.below(events.len().max(1));
    let is_sync = |e: &Event| matches!(e, Event::Sync { .. } | Event::SyncDir { .. } | Event::Rename { .. });
    let at = events[from..].iter().position(is_sync).map_or(events.len(), |i| from + i);
    (at + random.below(4)).min(events.len())
}

/// About where compaction puts a segment in the place of others, if it does.
fn near_a_replacement(events: &[Event], random: &mut Random) -> usize {
    let is_swap = |e: &Event| match e {
        Event::Rename { to: path, .. } | Event::Remove { path } => {
            path.extension().is_some_and(|e| e == "swap")
        }
        _ => false,
    };
    let places: Vec<usize> = (0..events.len()).filter(|i| is_swap(&events[*i])).collect();
    match places.is_empty() {
        true => random.below(events.len() + 1),
        false => (places[random.below(places.len())] + random.below(12)).saturating_sub(4).min(events.len()),
    }
}

type Failure = Option<(Cut, Image, String)>;

/// Checks every cut; returns the image of the one numbered `keep` with its moment, and the first that failed.
fn check_all(
    base: &Image,
    events: &Rc<Vec<Event>>,
    world: &World,
    cuts: Vec<Cut>,
    keep: usize,
    scale: Scale,
) -> (Option<(usize, Image)>, Failure) {
    let (mut disk, events, world) = (Disk::holding(base), events.clone(), world.clone());
    rt::block_on(async move {
        let dir = scratch();
        let (mut at, mut kept) = (0, None);
        for (i, cut) in cuts.into_iter().enumerate() {
            events[at..cut.moment].iter().for_each(|event| disk.apply(event));
            at = cut.moment;
            let image = disk.image(&cut.choices);
            if let Err(e) = check_one(dir.path(), &image, &world, &cut, scale).await {
                return (kept, Some((cut, image, e)));
            }
            if i == keep {
                kept = Some((cut.moment, image));
            }
        }
        (kept, None)
    })
}

async fn check_one(dir: &Path, image: &Image, world: &World, cut: &Cut, scale: Scale) -> Result<(), String> {
    let dir = dir.join("image");
    std::fs::create_dir(&dir).and_then(|()| disk::write_image(image, &dir)).expect("the image is written");
    let settings = scale.settings();
    let outcome = async {
        let opened = check::open(&dir, cut.shards, &settings).await?;
        let ends = check::check(&opened, world, cut.moment).await;
        opened.end().await;
        let ends = ends?;
        if !cut.twice {
            return Ok(());
        }
        let again = check::open(&dir, cut.shards, &settings).await.map_err(|e| format!("again: {e}"))?;
        let found = check::check(&again, world, cut.moment).await.map_err(|e| format!("again: {e}"));
        again.end().await;
        match found? == ends {
            true => Ok(()),
            false => Err(format!("the second start found other ends than {ends:?}")),
        }
    };
    let outcome = outcome.await;
    std::fs::remove_dir_all(&dir).or_else(|_| std::fs::remove_dir_all(&dir)).expect("the image goes");
    outcome
}

/// Makes a failure as small as it gets, says what it is, keeps the image, and panics.
#[expect(clippy::too_many_arguments, reason = "all that is known of a failure")]
fn report(
    context: &str,
    base: &Image,
    events: &Rc<Vec<Event>>,
    world: &World,
    mut cut: Cut,
    mut image: Image,
    e: &str,
    scale: Scale,
) -> ! {
    let mut what = e.to_owned();
    for event in cut.choices.keys().copied().collect::<Vec<_>>() {
        for simple in [Choice::WHOLE, Choice::SKIP] {
            let old = cut.choices.insert(event, simple.clone()).expect("a choice");
            if old == simple {
                break;
            }
            let tried = Cut { choices: cut.choices.clone(), ..cut };
            match check_all(base, events, world, vec![tried], usize::MAX, scale).1 {
                Some((_, smaller, e)) => {
                    (image, what) = (smaller, e);
                    break;
                }
                None => {
                    cut.choices.insert(event, old);
                }
            }
        }
    }
    let kept = keep(&image, context);
    let mut text = format!("{context}: a power cut after {} of {} events", cut.moment, events.len());
    text += &format!(", opened with {} shards: {what}\n", cut.shards);
    let from = cut.choices.keys().next().copied().unwrap_or(cut.moment).max(cut.moment.saturating_sub(60));
    for (i, event) in events[..cut.moment].iter().enumerate().skip(from) {
        let choice = cut.choices.get(&i).map_or(String::new(), |c| format!("   <- {}", describe(c)));
        text += &format!("  {i:6} {}{choice}\n", describe_event(events, event));
    }
    panic!("{text}  the image is in {}", kept.display());
}

fn describe(choice: &Choice) -> String {
    let how = match &choice.how {
        How::Sectors(mask) => {
            let there: Vec<usize> = mask.iter().enumerate().filter(|(_, t)| **t).map(|(i, _)| i).collect();
            format!("sectors {there:?} of {}", mask.len())
        }
        other => format!("{other:?}"),
    };
    if choice.late { format!("{how}, after all others") } else { how }
}

fn describe_event(events: &[Event], event: &Event) -> String {
    let file = |handle: &u64| {
        events.iter().find_map(|e| match e {
            Event::Open { handle: h, path, .. } if h == handle => Some(path.display().to_string()),
            _ => None,
        })
    };
    match event {
        Event::Write { op, handle, at, bytes } => {
            let sectors = (*at as usize / SECTOR, bytes.len().div_ceil(SECTOR));
            format!("write {op} {:?} at {at}, {} bytes, sectors {sectors:?}", file(handle), bytes.len())
        }
        Event::Sync { op, handle, .. } => format!("sync {op} {:?} begins", file(handle)),
        other => format!("{other:?}"),
    }
}

fn keep(image: &Image, context: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("weir-crash-{}", context.replace(' ', "-")));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).and_then(|()| disk::write_image(image, &dir)).expect("the image is kept");
    dir
}

/// Says how far a long run is.
pub fn progress(began: Instant, checked: usize, seed: u64) {
    let rate = checked as f64 / began.elapsed().as_secs_f64();
    println!("{checked} images held, up to seed {seed}, {rate:.0} a second");
}
