//! The metadata's directory by itself: a power cut at every moment of changes, groups of them, truncations, rewrites, votes, of
//! a cluster's beginning, and of the conversion of format 1.

use std::path::{Path, PathBuf};

use weir::metadata::Store;
use weir::metadata::log::{Content, Entry, MetadataLog, Snapshot, What};
use weir::metadata::quorum::{Membership, QuorumState, Vote, Voter};
use weir::metadata::records::Record;
use weir::rt::record::{Event, Recording};

use crate::disk::{Choice, Choices, Disk, Image, draw, write_image};
use crate::images::scratch;
use crate::random::Random;

/// What may be there after an operation, which began and ended at these moments.
struct State {
    begun: usize,
    done: usize,
    /// Where the log's snapshot is, and every entry there ever was up to the log's end, from offset 2 on.
    first: u64,
    entries: Vec<Entry>,
    vote: Vote,
}

const ME: Voter = Voter { node: 1, directory: [7; 16] };

fn snapshot(offset: u64, epoch: i32) -> Snapshot {
    let records = vec![Record::Cluster { id: format!("as of {offset}") }];
    Snapshot {
        offset,
        epoch,
        membership: Membership::of_one(ME),
        membership_at: 1,
        membership_epoch: epoch,
        records,
    }
}

fn entry(offset: u64, epoch: i32, random: &mut Random) -> Entry {
    let what = match random.below(5) {
        0 => What::Blank,
        1 => What::Membership(Membership::of_one(ME)),
        _ => What::Records(vec![Record::Cluster { id: "x".repeat(random.below(1500)) }]),
    };
    Entry { offset, epoch, what }
}

/// Works on a log and a vote; what may be there when.
fn work(dir: &Path, recording: &Recording, random: &mut Random) -> Vec<State> {
    let mut vote = Vote { epoch: 1, voted: Some(ME) };
    let begun = recording.len();
    std::fs::create_dir_all(dir).expect("a directory");
    let mut state = QuorumState::create(dir, ME.directory, vote).expect("a vote");
    let mut log = MetadataLog::create(dir, &snapshot(1, 1)).expect("a log");
    let (mut first, mut entries, mut epoch) = (1, Vec::new(), 1);
    let mut states = vec![State { begun, done: recording.len(), first, entries: entries.clone(), vote }];
    for _ in 0..30 {
        let begun = recording.len();
        let next = log.next_offset();
        match random.below(10) {
            0 => {
                vote = Vote {
                    epoch: vote.epoch + random.below(2) as i32,
                    voted: random.chance(50).then_some(ME),
                };
                state.set(vote).expect("it is written");
            }
            1 | 2 if next > first + 1 => {
                let from = first + 1 + random.below((next - first - 1) as usize) as u64;
                log.truncate(from).expect("it is cut");
                entries.truncate(from as usize - 2);
                epoch += 1;
            }
            3 => {
                first = next - 1;
                log.rewrite(&snapshot(first, epoch)).expect("it is rewritten");
            }
            _ => {
                epoch += random.below(2) as i32;
                let group: Vec<Entry> =
                    (next..next + 1 + random.below(5) as u64).map(|at| entry(at, epoch, random)).collect();
                log.append(&group).expect("it is appended");
                entries.extend(group);
            }
        }
        states.push(State { begun, done: recording.len(), first, entries: entries.clone(), vote });
    }
    states
}

/// Whether what opens is what an operation left, or what one that was under way may have left.
fn judge(dir: &Path, states: &[State], t: usize) -> Result<(), String> {
    let last = states.iter().rposition(|state| state.done <= t);
    let opened = MetadataLog::open(dir).map_err(|e| e.to_string())?;
    let vote = QuorumState::open(dir).map_err(|e| e.to_string())?.map(|state| state.vote());
    let (Some(last), Some((log, Content::Now { snapshot: found, entries }))) = (last, opened) else {
        return if last.is_none() { Ok(()) } else { Err("the log is gone".into()) };
    };
    let under_way = states.get(last + 1).filter(|next| next.begun <= t);
    let may_be = [Some(&states[last]), under_way];
    let allowed = || may_be.into_iter().flatten();
    if !allowed().any(|state| Some(state.vote) == vote) {
        return Err(format!("the vote is {vote:?}, not {:?}", states[last].vote));
    }
    if !allowed().any(|state| state.first == found.offset) {
        return Err(format!("the snapshot is of {}, not of {}", found.offset, states[last].first));
    }
    let entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
    let skip = found.offset as usize - 1;
    let is_of = |state: &State| state.entries.get(skip..) == Some(&entries[..]);
    // A group that was being written may be there up to any of its entries.
    let is_part = under_way.is_some_and(|next| {
        let before = states[last].entries.len();
        next.entries.len() > before
            && skip + entries.len() >= before
            && next.entries[skip..].starts_with(&entries)
    });
    if !allowed().any(is_of) && !is_part {
        let (least, most) = (states[last].entries.len(), under_way.map(|next| next.entries.len()));
        return Err(format!(
            "{} entries after {}, not {least} or {most:?} in all",
            entries.len(),
            found.offset
        ));
    }
    match log.next_offset() == found.offset + 1 + entries.len() as u64 {
        true => Ok(()),
        false => Err("it does not go on where it ends".into()),
    }
}

/// Every moment, each with nothing, everything and some of what was not durable; how many images were judged.
pub fn cut_everywhere(
    base: &Image,
    events: &[Event],
    random: &mut Random,
    judge: impl Fn(&Path, usize) -> Result<(), String>,
) -> usize {
    let (dir, mut disk, mut judged) = (scratch(), Disk::holding(base), 0);
    for t in 0..=events.len() {
        let pending = disk.pending();
        let whole: Choices = pending.iter().map(|(event, _, _)| (*event, Choice::WHOLE)).collect();
        let mut cuts = vec![Choices::new(), whole];
        cuts.extend((0..3).map(|_| draw(&pending, random)));
        for choices in cuts {
            let image = dir.path().join("image");
            std::fs::create_dir(&image)
                .and_then(|()| write_image(&disk.image(&choices), &image))
                .expect("the image is written");
            // Twice: a start changes what it finds.
            for start in ["first", "second"] {
                if let Err(e) = judge(&image.join("meta"), t) {
                    let around = &events[t.saturating_sub(6)..t];
                    let around: Vec<String> = around.iter().map(brief).collect();
                    panic!(
                        "{start} start after event {t} of {}: {e}\n{choices:?}\n{around:#?}",
                        events.len()
                    );
                }
            }
            std::fs::remove_dir_all(&image).expect("the image goes");
            judged += 1;
        }
        if let Some(event) = events.get(t) {
            disk.apply(event);
        }
    }
    judged
}

fn brief(event: &Event) -> String {
    match event {
        Event::Write { op, handle, at, bytes } => {
            format!("write {op} of {handle} at {at}, {} bytes", bytes.len())
        }
        other => format!("{other:?}"),
    }
}

pub fn seed() -> u64 {
    crate::number("WEIR_SEED").unwrap_or(1)
}

#[test]
fn a_power_cut_at_any_write_of_the_metadata_log_takes_nothing_that_was_acknowledged() {
    let mut judged = 0;
    for seed in seed()..seed() + 6 {
        let mut random = Random::new(seed);
        let dir = scratch();
        let recording = Recording::start(dir.path()).expect("a recording");
        let mut base = Image::new();
        base.insert(PathBuf::from("meta"), None);
        let states = work(&dir.path().join("meta"), &recording, &mut random);
        let events = recording.finish();
        judged += cut_everywhere(&base, &events, &mut random, |dir, t| {
            judge(dir, &states, t).map_err(|e| format!("seed {seed}: {e}"))
        });
    }
    println!("{judged} images held");
}

#[test]
fn a_power_cut_in_a_conversion_loses_nothing() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metadata/fixtures/metadata-1.log");
    let old = std::fs::read(fixture).expect("the fixture");
    let mut base = Image::new();
    base.insert(PathBuf::from("meta"), None);
    base.insert(PathBuf::from("meta/metadata-00000000000000000001.log"), Some(old));
    let dir = scratch();
    write_image(&base, dir.path()).expect("the directory is written");
    let recording = Recording::start(dir.path()).expect("a recording");
    drop(Store::open(&dir.path().join("meta"), 1).expect("it opens"));
    let events = recording.finish();
    let judged = cut_everywhere(&base, &events, &mut Random::new(seed()), |dir, _| {
        let store = Store::open(dir, 1).map_err(|e| e.to_string())?;
        let image = store.image();
        let is_all = &*image.cluster_id == "cluster" && image.next_producer_id == 1000 && image.version == 9;
        if is_all { Ok(()) } else { Err(format!("{image:?}")) }
    });
    println!("{} events, {judged} images held", events.len());
}

#[test]
fn a_power_cut_in_the_beginning_of_a_cluster_leaves_one_that_begins() {
    let dir = scratch();
    let recording = Recording::start(dir.path()).expect("a recording");
    let mut store = Store::open(&dir.path().join("meta"), 1).expect("it opens");
    let done = recording.len();
    store.commit(vec![vec![Record::ProducerIds { next: 5 }]]).expect("it is committed");
    let committed = recording.len();
    let cluster = store.image().cluster_id.clone();
    let events = recording.finish();
    cut_everywhere(&Image::new(), &events, &mut Random::new(seed()), |dir, t| {
        let store = Store::open(dir, 1).map_err(|e| e.to_string())?;
        let image = store.image();
        if (t >= done && image.cluster_id != cluster) || (t >= committed && image.next_producer_id != 5) {
            return Err(format!(
                "cluster {}, not {cluster}; {} ids",
                image.cluster_id, image.next_producer_id
            ));
        }
        Ok(())
    });
}
