//! What a member of a quorum has on disk, its vote, its log and the snapshots that it is given: a power cut at every moment of what it
//! does for Raft, and of a recovery.
//!
//! - Q2: a vote that was answered stands, and with it the epoch.
//! - Q3: what was said to be appended is there, and what was cut does not come back.
//! - Q4: what is shown was committed; a snapshot is there whole with all that follows it, or the log before it is.

use std::path::{Path, PathBuf};

use weir::metadata::Store;
use weir::metadata::log::{Entry, MetadataLog, Snapshot, What};
use weir::metadata::quorum::{Member, Membership, QuorumState, Vote, Voter};
use weir::metadata::records::Record;
use weir::metadata::recover::{Survivor, follow, go_alone};
use weir::rt::record::Recording;

use crate::disk::Image;
use crate::images::scratch;
use crate::metadata::{cut_everywhere, seed};
use crate::random::Random;

const NODE: i32 = 2;

fn voter(node: i32) -> Voter {
    Voter { node, directory: [node as u8; 16] }
}

/// Three vote: none of them commits anything by itself.
fn three() -> Membership {
    let all: Vec<Voter> = (1..=3).map(voter).collect();
    let members = all.iter().map(|voter| Member { voter: *voter, endpoints: Vec::new() }).collect();
    Membership { voters: vec![all], members }
}

/// The state as of an offset says so.
fn as_of(offset: u64, epoch: i32) -> String {
    format!("{offset} in {epoch}")
}

fn entry(offset: u64, epoch: i32, random: &mut Random) -> Entry {
    let mut records = vec![Record::Cluster { id: as_of(offset, epoch) }];
    if random.chance(30) {
        records.push(Record::ProducerIds { next: random.below(1 << 30) as i64 });
    }
    Entry { offset, epoch, what: What::Records(records) }
}

fn snapshot(offset: u64, epoch: i32) -> Snapshot {
    let records = vec![Record::Cluster { id: as_of(offset, epoch) }];
    let (membership_at, membership_epoch) = (1, 1);
    Snapshot { offset, epoch, membership: three(), membership_at, membership_epoch, records }
}

/// What a member has done, once something was done for Raft.
#[derive(Clone)]
struct Done {
    begun: usize,
    done: usize,
    vote: Vote,
    /// The snapshot that the log begins with, and the epoch of each entry after it.
    first: (u64, i32),
    epochs: Vec<i32>,
    /// The highest offset that was ever committed.
    committed: u64,
}

impl Done {
    fn end(&self) -> u64 {
        self.first.0 + self.epochs.len() as u64
    }

    /// Of an entry, or of the snapshot.
    fn epoch(&self, offset: u64) -> Option<i32> {
        match offset.checked_sub(self.first.0)? {
            0 => Some(self.first.1),
            nth => self.epochs.get(nth as usize - 1).copied(),
        }
    }
}

struct Node {
    dir: PathBuf,
    state: QuorumState,
    log: MetadataLog,
    now: Done,
}

impl Node {
    fn entries(&self, offsets: std::ops::RangeInclusive<u64>, random: &mut Random) -> Vec<Entry> {
        let epoch = |offset| self.now.epoch(offset).unwrap_or(self.now.vote.epoch);
        offsets.map(|offset| entry(offset, epoch(offset), random)).collect()
    }

    /// One thing that Raft has a member do.
    fn step(&mut self, random: &mut Random) {
        let (end, now) = (self.now.end(), &mut self.now);
        match random.below(12) {
            0 | 1 => {
                now.vote = Vote { epoch: now.vote.epoch + 1, voted: random.chance(50).then(|| voter(3)) };
                self.state.set(now.vote).expect("it votes");
            }
            // A leader of a later epoch has something else there.
            2 | 3 if end > now.committed.max(now.first.0) => {
                let kept = now.committed.max(now.first.0);
                let from = kept + 1 + random.below((end - kept) as usize) as u64;
                now.epochs.truncate((from - now.first.0 - 1) as usize);
                self.log.truncate(from).expect("it is cut");
            }
            // It was given a snapshot that its log does not reach, or contradicts; or one is made of what is committed.
            4 => {
                let at = (end.max(now.committed) + 1 + random.below(20) as u64, now.vote.epoch);
                let prepared =
                    MetadataLog::prepare(&self.dir, &snapshot(at.0, at.1)).expect("it is prepared");
                (now.first, now.committed) = (at, at.0);
                now.epochs.clear();
                self.log.replace(prepared, &[]).expect("it is replaced");
            }
            5 if now.committed > now.first.0 => {
                let at = now.committed;
                let epoch = now.epoch(at).expect("it is in the log");
                let behind = now.epochs.split_off((at - now.first.0) as usize);
                (now.first, now.epochs) = ((at, epoch), behind);
                let follows = self.entries(at + 1..=end, random);
                let prepared = MetadataLog::prepare(&self.dir, &snapshot(at, epoch)).expect("it is prepared");
                self.log.replace(prepared, &follows).expect("it is replaced");
            }
            6 | 7 if end > now.committed => {
                now.committed += 1 + random.below((end - now.committed) as usize) as u64;
                self.log.note_committed(now.committed);
            }
            _ => {
                let count = 1 + random.below(4) as u64;
                now.epochs.extend((0..count).map(|_| now.vote.epoch));
                let new = self.entries(end + 1..=end + count, random);
                self.log.append(&new).expect("it is appended");
            }
        }
    }
}

fn live(dir: &Path, recording: &Recording, random: &mut Random) -> Vec<Done> {
    let vote = Vote { epoch: 1, voted: Some(voter(1)) };
    let begun = recording.len();
    std::fs::create_dir_all(dir).expect("a directory");
    let state = QuorumState::create(dir, voter(NODE).directory, vote).expect("a vote");
    let log = MetadataLog::create(dir, &snapshot(1, 1)).expect("a log");
    let (first, epochs, committed) = ((1, 1), Vec::new(), 1);
    let now = Done { begun, done: recording.len(), vote, first, epochs, committed };
    let mut member = Node { dir: dir.to_owned(), state, log, now: now.clone() };
    let mut all = vec![now];
    for _ in 0..40 {
        let begun = recording.len();
        member.step(random);
        (member.now.begun, member.now.done) = (begun, recording.len());
        all.push(member.now.clone());
    }
    all
}

/// What opens is what was done last, or what was under way may have left.
fn judge(dir: &Path, all: &[Done], t: usize) -> Result<(), String> {
    let Some(last) = all.iter().rposition(|done| done.done <= t) else { return Ok(()) };
    let (was, next) = (&all[last], all.get(last + 1).filter(|next| next.begun <= t));
    let vote = QuorumState::open(dir).map_err(|e| e.to_string())?.map(|state| state.vote());
    let voted = |done: &Done| vote == Some(done.vote);
    if !voted(was) && !next.is_some_and(voted) {
        return Err(format!("Q2: the vote is {vote:?}, and {:?} was answered", was.vote));
    }
    let store = Store::open(dir, NODE).map_err(|e| e.to_string())?;
    let image = store.image().clone();
    let parts = store.into_parts();
    let (end, epochs): (u64, Vec<i32>) = match parts.entries.last() {
        Some(last) => (last.offset, parts.entries.iter().map(|entry| entry.epoch).collect()),
        None => (parts.before.0, Vec::new()),
    };
    let first = parts.log.first();
    let is = |done: &Done| first == done.first && epochs == done.epochs;
    // A group that is being written may be there up to any of its entries.
    let grows = |next: &Done| {
        let (least, most) = (was.epochs.len(), next.epochs.len());
        first == next.first
            && was.first == next.first
            && (least..=most).contains(&epochs.len())
            && next.epochs.starts_with(&epochs)
    };
    if !is(was) && !next.is_some_and(|next| is(next) || grows(next)) {
        return Err(format!("Q3: a log of {first:?} to {end}, not of {:?} to {}", was.first, was.end()));
    }
    let committed = was.committed.max(next.map_or(0, |next| next.committed));
    let version = image.version;
    if version < first.0 || version > committed {
        return Err(format!(
            "Q4: shown as of {version}, of a snapshot of {} and {committed} committed",
            first.0
        ));
    }
    let epoch = match version - first.0 {
        0 => first.1,
        nth => epochs[nth as usize - 1],
    };
    match *image.cluster_id == *as_of(version, epoch) {
        true => Ok(()),
        false => Err(format!("Q4: what is shown as of {version} is the state {}", image.cluster_id)),
    }
}

#[test]
fn a_power_cut_in_the_life_of_a_voter_takes_back_nothing_that_it_said() {
    let mut judged = 0;
    for seed in seed()..seed() + 8 {
        let mut random = Random::new(seed);
        let dir = scratch();
        let recording = Recording::start(dir.path()).expect("a recording");
        let mut base = Image::new();
        base.insert(PathBuf::from("meta"), None);
        let all = live(&dir.path().join("meta"), &recording, &mut random);
        let events = recording.finish();
        judged += cut_everywhere(&base, &events, &mut random, |dir, t| {
            judge(dir, &all, t).map_err(|e| format!("seed {seed}: {e}"))
        });
    }
    println!("{judged} images held");
}

/// A member's directory as it is before a recovery.
fn survivor() -> (Image, tempfile::TempDir) {
    let dir = scratch();
    let recording = Recording::start(dir.path()).expect("a recording");
    live(&dir.path().join("meta"), &recording, &mut Random::new(seed()));
    drop(recording.finish());
    let mut image = Image::new();
    image.insert(PathBuf::from("meta"), None);
    for entry in std::fs::read_dir(dir.path().join("meta")).expect("it is there").flatten() {
        let name = Path::new("meta").join(entry.file_name());
        image.insert(name, Some(std::fs::read(entry.path()).expect("it is read")));
    }
    (image, dir)
}

#[test]
fn a_power_cut_in_a_recovery_leaves_one_that_is_repeated_or_done() {
    let (base, dir) = survivor();
    let meta = dir.path().join("meta");
    let before = Survivor::of(&meta, None).expect("it is read").expect("it is there");
    let recording = Recording::start(dir.path()).expect("a recording");
    go_alone(&meta, &before, [7; 16]).expect("it goes on");
    let events = recording.finish();
    let judged = cut_everywhere(&base, &events, &mut Random::new(seed()), |dir, t| {
        let found = Survivor::of(dir, None).map_err(|e| e.to_string())?.ok_or("nothing is there")?;
        if t == events.len() && !found.is_only_voter() {
            return Err("it was done, and is not".into());
        }
        if !found.is_only_voter() {
            if (found.epoch, found.offset) != (before.epoch, before.offset) {
                return Err(format!("it has {found:?}"));
            }
            go_alone(dir, &found, [8; 16]).map_err(|e| e.to_string())?;
        }
        let store = Store::open(dir, NODE).map_err(|e| e.to_string())?;
        let image = store.image();
        let is_all = *image.cluster_id == *before.cluster && image.version > before.offset;
        match store.is_alone() && is_all && store.recovery() != [0; 16] {
            true => Ok(()),
            false => Err(format!("{image:?}")),
        }
    });
    println!("{judged} images held");
}

#[test]
fn a_power_cut_in_following_leaves_one_that_follows_or_is_of_the_old_quorum() {
    let (base, dir) = survivor();
    let meta = dir.path().join("meta");
    let before = Survivor::of(&meta, None).expect("it is read").expect("it is there");
    let recording = Recording::start(dir.path()).expect("a recording");
    follow(&meta, &before, [7; 16]).expect("it follows");
    let events = recording.finish();
    let judged = cut_everywhere(&base, &events, &mut Random::new(seed()), |dir, t| {
        let found = Survivor::of(dir, None).map_err(|e| e.to_string())?.ok_or("nothing is there")?;
        let follows = found.recovery != [0; 16];
        if t == events.len() && !follows {
            return Err("it was done, and is not".into());
        }
        if follows && !found.is_blank() {
            return Err("it speaks for entries of the old quorum in the new one".into());
        }
        match found.me == voter(NODE) && found.cluster == before.cluster {
            true => follow(dir, &found, [9; 16]).map_err(|e| e.to_string()),
            false => Err(format!("it is {:?} of {}", found.me, found.cluster)),
        }
    });
    println!("{judged} images held");
}
