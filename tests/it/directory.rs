//! Mistakes that are made with data directories: parts missing, foreign, old, in the wrong place, unreadable. Each is told
//! by the start and by `weir log verify`, nothing is changed by either, and with the right thing put back every record is
//! served.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::batch::encoded;
use crate::support::broker::{free_port, metric_total, needs_own_broker, run, serve, weir};
use crate::support::calls::{
    Fetch, Topic, create, list_offset, metadata_of, produce_at, producer_id, read_from,
};
use crate::support::files::{content, last_file, weir_log};
use crate::support::{Broker, Options, Wire, eventually};

const PARTITIONS: i32 = 4;
/// Nobody: who may read and write only what is given to it.
const USER: u32 = 65_534;

fn options(data: &Path) -> Options {
    let args = vec!["--journal-file-size", "1MiB", "--auto-create-topics", "false"];
    Options { args, data: Some(data.to_owned()), ..Options::default() }
}

/// `from`, with its holes, under another name.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status().expect("cp");
    assert!(copied.success(), "{} to {}", from.display(), to.display());
}

/// The part of a directory, which may be missing on either side, as it is in another.
fn put_back(from: &Path, data: &Path, part: &str) {
    let (from, to) = (from.join(part), data.join(part));
    remove(&to);
    if from.exists() {
        copy(&from, &to);
    }
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

fn value(topic: &str, partition: i32, i: i64) -> String {
    format!("{topic} {partition} {i} {}", "x".repeat(1500))
}

fn fill(wire: &mut Wire, topic: &Topic, partitions: i32, from: i64, to: i64) {
    for partition in 0..partitions {
        for i in from..to {
            let records = encoded([value(&topic.name, partition, i)]);
            assert_eq!(produce_at(wire, 9, topic, partition, -1, records).error_code, 0);
        }
    }
}

/// A data directory at several times, and others. Made once; tests work on copies.
struct Directories {
    root: PathBuf,
    kept: Topic,
    later: Topic,
}

static MADE: OnceLock<Directories> = OnceLock::new();

extern "C" fn remove_made() {
    if let Some(made) = MADE.get() {
        let _ = fs::remove_dir_all(&made.root);
    }
}

fn directories() -> &'static Directories {
    MADE.get_or_init(|| {
        // SAFETY: registers a plain function that touches only its own static.
        unsafe { libc::atexit(remove_made) };
        Directories::make()
    })
}

fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("weir-it-dir-").tempdir().expect("a directory")
}

impl Directories {
    fn make() -> Self {
        let root = scratch().keep();
        let at = |name: &str| root.join(name);
        let data = at("data");
        let mut broker = Broker::start_with(options(&data));
        let mut wire = Wire::connect(broker.kafka);
        let kept = create(&mut wire, "kept", PARTITIONS, &[("internal.segment.bytes", "20000")]);
        fill(&mut wire, &kept, PARTITIONS, 0, 40);
        assert_eq!(broker.stop().code(), Some(0));
        broker.restart();
        assert_eq!(broker.stop().code(), Some(0));
        copy(&data, &at("early"));
        broker.restart();
        let mut wire = Wire::connect(broker.kafka);
        let later = create(&mut wire, "later", 2, &[]);
        fill(&mut wire, &kept, PARTITIONS, 40, 50);
        assert_eq!(broker.stop().code(), Some(0));
        broker.restart();
        let mut wire = Wire::connect(broker.kafka);
        fill(&mut wire, &kept, PARTITIONS, 50, 60);
        fill(&mut wire, &later, 2, 0, 5);
        assert_eq!(broker.stop().code(), Some(0));
        broker.restart();
        let mut wire = Wire::connect(broker.kafka);
        fill(&mut wire, &kept, PARTITIONS, 60, 65);
        fill(&mut wire, &later, 2, 5, 10);
        broker.kill();
        copy(&data, &at("killed"));
        broker.restart();
        assert_eq!(broker.stop().code(), Some(0));
        copy(&data, &at("clean"));
        // A copy of the early one that went its own way, and a directory that has nothing to do with any.
        copy(&at("early"), &at("fork"));
        for name in ["fork", "other"] {
            let mut broker = Broker::start_with(options(&at(name)));
            let mut wire = Wire::connect(broker.kafka);
            let topics: Vec<Topic> = (0..12).map(|_| create(&mut wire, "forked", 2, &[])).collect();
            fill(&mut wire, &topics[0], 2, 0, 5);
            assert_eq!(broker.stop().code(), Some(0));
        }
        Self { root, kept, later }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Everything that was acknowledged is served, and nothing else.
    fn check(&self, wire: &mut Wire) {
        for (topic, partitions, count) in [(&self.kept, PARTITIONS, 65), (&self.later, 2, 10)] {
            for partition in 0..partitions {
                let rows = read_from(wire, topic, partition, 0);
                let found: Vec<_> =
                    rows.iter().map(|(at, v)| (*at, String::from_utf8_lossy(v).into_owned())).collect();
                let expected: Vec<_> = (0..count).map(|i| (i, value(&topic.name, partition, i))).collect();
                assert!(found == expected, "{}-{partition}: {} of {count}", topic.name, found.len());
            }
        }
    }

    fn partition(&self, index: i32) -> String {
        format!("topics/{}-{index}", self.kept.name)
    }

    /// One of a partition's segments: the first, or the last.
    fn segment(&self, data: &Path, index: i32, last: bool) -> String {
        let dir = self.partition(index);
        let names = fs::read_dir(data.join(&dir)).expect("a directory").flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".log")).collect();
        names.sort();
        let name = if last { names.pop() } else { names.into_iter().next() };
        format!("{dir}/{}", name.expect("a segment"))
    }
}

/// A mistake, and what is to be said about it.
struct Mistake<'a> {
    name: &'a str,
    /// Of which directory it is made.
    of: &'a str,
    /// What has to be put back.
    part: String,
    /// Where a copy of the part comes from that takes its place; "" for nowhere.
    from: &'a str,
    refused: &'a str,
    verify: &'a str,
}

fn mistakes(dirs: &Directories) -> Vec<Mistake<'static>> {
    let row = |name, of, part: &str, from, refused, verify| {
        let part = part.to_owned();
        Mistake { name, of, part, from, refused, verify }
    };
    let partition = dirs.partition(1);
    vec![
        row("meta/ is missing", "killed", "meta", "", "there is no metadata in", "there is no metadata"),
        row(
            "meta/ is missing, clean",
            "clean",
            "meta",
            "",
            "there is no metadata in",
            "there is no metadata",
        ),
        row(
            "meta/ is older",
            "killed",
            "meta",
            "early",
            "the metadata is old: it has",
            "the metadata is old",
        ),
        row(
            "meta/ of a copy",
            "killed",
            "meta",
            "fork",
            "neither has nor deleted",
            "neither has nor deleted",
        ),
        row("meta/ of another", "killed", "meta", "other", "the metadata is of directory", "is of directory"),
        row(
            "journal/ is missing",
            "killed",
            "journal",
            "",
            "journal/0 is missing or empty",
            "journal/1 is missing",
        ),
        row(
            "journal/ is missing, clean",
            "clean",
            "journal",
            "",
            "journal/0 is missing",
            "journal/0 is missing",
        ),
        row("journal/ is older", "killed", "journal", "early", "journal/0 is old", "journal/1 is old"),
        row(
            "a shard's journal is missing",
            "killed",
            "journal/1",
            "",
            "journal/1 is missing",
            "journal/1 is missing",
        ),
        row(
            "a shard's journal is older",
            "killed",
            "journal/1",
            "early",
            "journal/1 is old",
            "journal/1 is old",
        ),
        row(
            "a shard's journal is another's",
            "killed",
            "journal/1",
            "other",
            "of another directory",
            "of another directory",
        ),
        row(
            "checkpoint and copy are missing",
            "killed",
            "journal/1/checkpoint",
            "",
            "no checkpoint",
            "checkpoint",
        ),
        row(
            "topics/ is missing",
            "killed",
            "topics",
            "",
            "topics/ is old, or was emptied",
            "topics/ lacks 6 of 6",
        ),
        row(
            "topics/ is missing, clean",
            "clean",
            "topics",
            "",
            "topics/ is old, or was emptied",
            "topics/ lacks 6 of 6",
        ),
        row(
            "topics/ is older",
            "killed",
            "topics",
            "early",
            "topics/ is old, or was emptied",
            "topics/ is old",
        ),
        Mistake {
            name: "a partition's directory is missing",
            of: "killed",
            part: partition.clone(),
            from: "",
            refused: "topics/ lacks 1 of 6 directories",
            verify: "topics/ lacks 1 of 6",
        },
    ]
}

/// Makes the mistake in a copy of the directory.
fn make(dirs: &Directories, mistake: &Mistake<'_>, data: &Path) {
    remove(data);
    copy(&dirs.at(mistake.of), data);
    if mistake.part.ends_with("checkpoint") {
        remove(&data.join(format!("{}-copy", mistake.part)));
    }
    match mistake.from {
        "" => remove(&data.join(&mistake.part)),
        from => put_back(&dirs.at(from), data, &mistake.part),
    }
}

fn refused(data: &Path) -> String {
    let output = run(&mut serve(data, free_port(), free_port(), 2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

#[test]
fn what_does_not_belong_together_is_refused_and_nothing_is_lost() {
    if needs_own_broker() {
        return;
    }
    let (dirs, scratch) = (directories(), scratch());
    let data = scratch.path().join("data");
    for mistake in mistakes(dirs) {
        make(dirs, &mistake, &data);
        let before = content(&data);
        let (code, text) = weir_log(&["verify"], &data);
        assert_eq!(code, Some(1), "{}: {text}", mistake.name);
        assert!(
            text.contains(mistake.verify),
            "{}: verify should say {:?}: {text}",
            mistake.name,
            mistake.verify
        );
        for _ in 0..2 {
            let said = refused(&data);
            assert!(said.contains(mistake.refused), "{}: {:?}: {said}", mistake.name, mistake.refused);
            println!("{} | {}", mistake.name, said.trim().lines().next().unwrap_or_default());
        }
        let (_, plan) = weir_log(&["repair"], &data);
        assert!(plan.contains("would: "), "{}: {plan}", mistake.name);
        assert!(content(&data) == before, "{}: something was changed", mistake.name);
        put_back(&dirs.at(mistake.of), &data, &mistake.part);
        if mistake.part.ends_with("checkpoint") {
            put_back(&dirs.at(mistake.of), &data, &format!("{}-copy", mistake.part));
        }
        let mut broker = Broker::start_with(options(&data));
        dirs.check(&mut Wire::connect(broker.kafka));
        assert_eq!(broker.stop().code(), Some(0));
        let (code, text) = weir_log(&["verify"], &data);
        assert_eq!(code, Some(0), "{}: {text}", mistake.name);
    }
    misplaced(dirs, &data);
}

/// Journals in each other's places, and one without its files.
fn misplaced(dirs: &Directories, data: &Path) {
    for (what, said) in
        [("misplaced", "journal/1 has the journal of shard 0 of 2"), ("emptied", "none of the files")]
    {
        remove(data);
        copy(&dirs.at("killed"), data);
        match what {
            "misplaced" => {
                remove(&data.join("journal/1"));
                copy(&data.join("journal/0"), &data.join("journal/1"));
            }
            _ => {
                let files = fs::read_dir(data.join("journal/1")).expect("a journal").flatten();
                let files = files.map(|entry| entry.path());
                files
                    .filter(|path| path.extension().is_some_and(|e| e == "journal"))
                    .for_each(|path| remove(&path));
            }
        }
        assert!(weir_log(&["verify"], data).1.contains(said), "{what}");
        let text = refused(data);
        assert!(text.contains(said), "{text}");
        println!("{what} | {}", text.trim().lines().next().unwrap_or_default());
        put_back(&dirs.at("killed"), data, "journal/1");
        let broker = Broker::start_with(options(data));
        dirs.check(&mut Wire::connect(broker.kafka));
    }
}

#[test]
fn a_segment_that_is_missing_is_told_to_its_readers_and_may_come_back() {
    if needs_own_broker() {
        return;
    }
    let (dirs, scratch) = (directories(), scratch());
    let data = scratch.path().join("data");
    for (of, last) in [("clean", false), ("clean", true), ("killed", false), ("killed", true)] {
        remove(&data);
        copy(&dirs.at(of), &data);
        let part = dirs.segment(&data, 0, last);
        remove(&data.join(&part));
        let (code, text) = weir_log(&["verify"], &data);
        assert_eq!((code, text.contains(&part)), (Some(1), true), "{text}");
        let mut broker = Broker::start_with(options(&data));
        let mut wire = Wire::connect(broker.kafka);
        let offset: i64 = part[part.len() - 24..part.len() - 4].parse().expect("a base offset");
        let reply = Fetch { offset, max_bytes: 1, ..Fetch::default() }.run(&mut wire, &dirs.kept);
        assert_ne!(reply.error_code, 0, "{of}, the last {last}");
        assert_eq!(read_from(&mut wire, &dirs.kept, 1, 0).len(), 65, "its neighbour");
        // The log goes on behind what is missing.
        let more = encoded([value(&dirs.kept.name, 0, 65)]);
        let end = list_offset(&mut wire, 7, &dirs.kept.name, 0, -1).offset;
        let produced = produce_at(&mut wire, 9, &dirs.kept, 0, -1, more);
        assert_eq!((produced.error_code, produced.base_offset, end), (0, 65, 65), "{of}, the last {last}");
        let said = broker.log();
        assert!(said.contains(&part), "{of}, the last {last}: {said}");
        println!("{of}, {part} | {}", said.lines().find(|l| l.contains(&part)).unwrap_or_default());
        assert_eq!(broker.stop().code(), Some(0));
        put_back(&dirs.at(of), &data, &part);
        let (code, text) = weir_log(&["repair", "--apply"], &data);
        assert_eq!(code, Some(0), "{text}");
        broker.restart();
        let rows = read_from(&mut Wire::connect(broker.kafka), &dirs.kept, 0, 0);
        let expected: Vec<i64> = (0..66).collect();
        assert_eq!(rows.iter().map(|(at, _)| *at).collect::<Vec<_>>(), expected, "{of}, the last {last}");
    }
}

#[test]
fn directories_that_no_topic_has_stay_and_are_in_nobodys_way() {
    if needs_own_broker() {
        return;
    }
    let (dirs, scratch) = (directories(), scratch());
    let data = scratch.path().join("data");
    copy(&dirs.at("clean"), &data);
    // One that says whose it is, and one as earlier versions made them.
    let foreign = fs::read_dir(dirs.at("other/topics")).expect("topics").flatten().map(|entry| entry.path());
    let foreign = foreign.filter(|path| path.join(format!("{:020}.log", 0)).exists()).min().expect("records");
    let name = foreign.file_name().expect("a name").to_string_lossy().into_owned();
    copy(&foreign, &data.join("topics").join(&name));
    copy(&data.join(dirs.partition(0)), &data.join("topics/unnamed-0"));
    let marks = fs::read_dir(data.join("topics/unnamed-0")).expect("a directory").flatten();
    marks.filter(|e| e.file_name().to_string_lossy().ends_with(".topic")).for_each(|e| remove(&e.path()));
    let before = (content(&data.join("topics").join(&name)), content(&data.join("topics/unnamed-0")));
    let (code, text) = weir_log(&["verify"], &data);
    assert_eq!((code, text.matches("no topic has this directory").count()), (Some(1), 2), "{text}");
    let mut broker = Broker::start_with(options(&data));
    let said = broker.log();
    assert_eq!(said.matches("no topic has this directory").count(), 2, "{said}");
    assert_eq!(metric_total(broker.admin, "weir_unknown_directories").expect("metrics"), 2.0);
    let mut wire = Wire::connect(broker.kafka);
    dirs.check(&mut wire);
    let topic = name.rsplit_once('-').expect("an index").0.to_owned();
    for topic in [topic.as_str(), "unnamed"] {
        let output = run(weir().args(["topic", "create", topic, "--broker", &broker.kafka.to_string()]));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("has files that belong to no topic"), "{text}");
    }
    assert_eq!(broker.stop().code(), Some(0));
    let after = (content(&data.join("topics").join(&name)), content(&data.join("topics/unnamed-0")));
    assert!(before == after, "they are as they were");

    // Topics of them, by an operator's word.
    let (code, plan) = weir_log(&["recover-metadata"], &data);
    assert_eq!(code, Some(0), "{plan}");
    assert!(plan.contains(&format!("make topic {topic}")) && plan.contains("make topic unnamed"), "{plan}");
    let (code, done) = weir_log(&["recover-metadata", "--apply"], &data);
    assert_eq!(code, Some(0), "{done}");
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    dirs.check(&mut wire);
    let unnamed = Topic { name: "unnamed".into(), id: metadata_of(&mut wire, "unnamed", false).topic_id };
    assert_eq!(read_from(&mut wire, &unnamed, 0, 0).len(), 65);
    let found = Topic { id: metadata_of(&mut wire, &topic, false).topic_id, name: topic };
    let partition: i32 = name.rsplit_once('-').expect("an index").1.parse().expect("a number");
    assert_eq!(read_from(&mut wire, &found, partition, 0).len(), 5);
    broker.assert_healthy();
}

/// What a group has committed, as the command line shows it.
fn committed(broker: &Broker, group: &str, topic: &str) -> Vec<String> {
    let mut rows = Vec::new();
    eventually("the group is described", Duration::from_secs(30), || {
        let output = run(weir().args(["group", "describe", group, "--broker", &broker.kafka.to_string()]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        rows = text.lines().filter(|line| line.starts_with(topic)).map(str::to_owned).collect();
        output.status.code() == Some(0)
    });
    rows
}

/// Reads all of the topic as a group, and waits until checkpoints know the topic that has the group's offsets.
fn consume(broker: &Broker, group: &str, topic: &str) {
    let address = broker.kafka.to_string();
    let output =
        run(weir().args(["consume", topic, "-g", group, "-e", "-o", "beginning", "--broker", &address]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    eventually("checkpoints list the internal topic", Duration::from_secs(30), || {
        (0..2).all(|shard| {
            let checkpoint = broker.data_dir().join(format!("journal/{shard}/checkpoint"));
            weir_log(&["dump"], &checkpoint).1.contains("__consumer_offsets-")
        })
    });
}

#[test]
fn a_directory_of_another_topic_is_in_the_way_and_stays_whole() {
    if needs_own_broker() {
        return;
    }
    let (dirs, scratch) = (directories(), scratch());
    let data = scratch.path().join("data");
    copy(&dirs.at("clean"), &data);
    let mut broker = Broker::start_with(options(&data));
    let mut wire = Wire::connect(broker.kafka);
    let late = create(&mut wire, "late", 1, &[]);
    broker.kill();
    let place = data.join(format!("topics/{}-0", late.name));
    copy(&data.join(dirs.partition(0)), &place);
    let before = content(&place);
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    dirs.check(&mut wire);
    assert_ne!(produce_at(&mut wire, 9, &late, 0, -1, encoded(["no"])).error_code, 0);
    assert!(broker.log().contains("is in the way: it holds files of"), "{}", broker.log());
    broker.kill();
    assert!(content(&place) == before, "the files that are in the way");
    let (code, text) = weir_log(&["verify"], &data);
    assert_eq!((code, text.contains(&late.name)), (Some(1), true), "{text}");
    let (code, done) = weir_log(&["repair", "--apply"], &data);
    assert_eq!((code, done.contains("are not its own; they are in")), (Some(0), true), "{done}");
    assert_eq!(weir_log(&["verify"], &data).0, Some(0));
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    dirs.check(&mut wire);
    assert_eq!(produce_at(&mut wire, 9, &late, 0, -1, encoded(["yes"])).base_offset, 0);
}

#[test]
fn metadata_is_made_again_of_what_is_there() {
    if needs_own_broker() {
        return;
    }
    let (dirs, scratch) = (directories(), scratch());
    let data = scratch.path().join("data");
    // Missing, older, another's: the topics keep their names, ids and records.
    for (of, from) in [("killed", ""), ("clean", ""), ("killed", "early"), ("killed", "other")] {
        println!("{of}, metadata of {from:?}");
        remove(&data);
        copy(&dirs.at(of), &data);
        let mut broker = Broker::start_with(options(&data));
        let last = producer_id(&mut Wire::connect(broker.kafka)).0;
        fill(&mut Wire::connect(broker.kafka), &dirs.kept, 1, 65, 66);
        consume(&broker, "readers", &dirs.later.name);
        let read = committed(&broker, "readers", &dirs.later.name);
        assert_eq!(read.len(), 2, "{read:?}");
        broker.kill();
        remove(&data.join("meta"));
        if !from.is_empty() {
            copy(&dirs.at(from).join("meta"), &data.join("meta"));
        }
        let before = content(&data);
        let (code, plan) = weir_log(&["recover-metadata"], &data);
        assert_eq!(code, Some(0), "{plan}");
        assert!(plan.contains(&format!("make topic {}", dirs.later.name)), "{plan}");
        assert!(plan.contains("retention and compaction are off"), "{plan}");
        assert!(content(&data) == before, "the plan changed something");
        let (code, done) = weir_log(&["recover-metadata", "--apply"], &data);
        assert_eq!(code, Some(0), "{done}");
        let (code, text) = weir_log(&["verify"], &data);
        assert_eq!(code, Some(0), "{text}");
        broker.restart();
        let mut wire = Wire::connect(broker.kafka);
        for topic in [&dirs.kept, &dirs.later] {
            assert_eq!(metadata_of(&mut wire, &topic.name, false).topic_id, topic.id);
        }
        assert_eq!(read_from(&mut wire, &dirs.kept, 0, 65).len(), 1);
        assert_eq!(read_from(&mut wire, &dirs.kept, 1, 0).len(), 65);
        assert_eq!(read_from(&mut wire, &dirs.later, 1, 0).len(), 10);
        assert_eq!(committed(&broker, "readers", &dirs.later.name), read, "the group's offsets");
        assert!(producer_id(&mut wire).0 > last, "producer ids are not given out again");
        let args = ["topic", "describe", &dirs.later.name, "--json", "--broker", &broker.kafka.to_string()];
        let output = run(weir().args(args));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for config in ["retention.ms", "retention.bytes"] {
            assert!(text.contains(config) && text.contains("-1"), "{text}");
        }
        let (code, text) = {
            assert_eq!(broker.stop().code(), Some(0));
            weir_log(&["recover-metadata"], &data)
        };
        assert_eq!((code, text.contains("nothing to recover")), (Some(0), true), "{text}");
    }
}

/// Writes what the shard's checkpoint says anew.
fn rewrite(journal: &Path, change: impl Fn(&mut weir::log::checkpoint::Checkpoint)) {
    use weir::log::checkpoint::{Checkpoint, file_paths};
    let mut checkpoint = Checkpoint::load(journal).expect("a checkpoint").expect("one is there").checkpoint;
    change(&mut checkpoint);
    weir::rt::fs::write_atomic_each(&file_paths(journal), &checkpoint.encode()).expect("the checkpoint");
}

#[test]
fn what_earlier_versions_set_aside_comes_back() {
    if needs_own_broker() {
        return;
    }
    let (dirs, scratch) = (directories(), scratch());
    for by_hand in [false, true] {
        let data = scratch.path().join(if by_hand { "by-hand" } else { "by-repair" });
        copy(&dirs.at("clean"), &data);
        // As after a start without metadata of a version that took it for an empty cluster.
        let aside = data.join("set-aside");
        fs::create_dir_all(&aside).expect("set-aside");
        for index in 0..PARTITIONS {
            let from = data.join(dirs.partition(index));
            let marks = fs::read_dir(&from).expect("a directory").flatten();
            marks
                .filter(|e| e.file_name().to_string_lossy().ends_with(".topic"))
                .for_each(|e| remove(&e.path()));
            let name = from.file_name().expect("a name").to_string_lossy().into_owned();
            fs::rename(&from, aside.join(format!("{name}.1764458000000"))).expect("moved");
        }
        for shard in 0..2 {
            rewrite(&data.join(format!("journal/{shard}")), |checkpoint| {
                for state in checkpoint.partitions.iter_mut().filter(|state| state.topic == dirs.kept.name) {
                    let empty = weir::log::checkpoint::PartitionState::empty(state.id, state.topic.clone());
                    *state = empty;
                    state.log.clean = true;
                }
            });
        }
        let (code, text) = weir_log(&["verify"], &data);
        assert_eq!((code, text.matches("were set aside").count()), (Some(1), 4), "{text}");
        if by_hand {
            for index in 0..PARTITIONS {
                let to = data.join(dirs.partition(index));
                let name = to.file_name().expect("a name").to_string_lossy().into_owned();
                fs::rename(aside.join(format!("{name}.1764458000000")), to).expect("moved back");
            }
            assert!(refused(&data).contains("by its checkpoint the partition has none"));
        }
        let (code, done) = weir_log(&["repair", "--apply"], &data);
        assert_eq!(code, Some(0), "{done}");
        let (code, text) = weir_log(&["verify"], &data);
        assert_eq!(code, Some(0), "{text}");
        let broker = Broker::start_with(options(&data));
        dirs.check(&mut Wire::connect(broker.kafka));
    }
}

#[test]
fn journals_that_do_not_belong_are_moved_away_by_a_repair() {
    if needs_own_broker() {
        return;
    }
    let (dirs, scratch) = (directories(), scratch());
    let data = scratch.path().join("data");
    // What segments have is served; what only the lost journal had is not. Afterwards the log goes on.
    for (part, from) in [("journal/1", "other"), ("journal/1", "early"), ("journal/1", ""), ("journal", "")] {
        println!("{part} of {from:?}");
        remove(&data);
        copy(&dirs.at("clean"), &data);
        remove(&data.join(part));
        if !from.is_empty() {
            copy(&dirs.at(from).join(part), &data.join(part));
        }
        let (code, done) = weir_log(&["repair", "--apply"], &data);
        assert_eq!(code, Some(0), "{done}");
        let (code, text) = weir_log(&["verify"], &data);
        assert_eq!(code, Some(0), "{text}");
        let kept = fs::read_dir(data.join("set-aside")).map_or(0, Iterator::count);
        assert_eq!(kept, usize::from(!from.is_empty()), "the journal that was there is kept");
        let broker = Broker::start_with(options(&data));
        let mut wire = Wire::connect(broker.kafka);
        dirs.check(&mut wire);
        fill(&mut wire, &dirs.kept, PARTITIONS, 65, 66);
    }
}

/// As [`refused`], by a user who is not root.
fn refused_as_user(data: &Path) -> String {
    let mut command = serve(data, free_port(), free_port(), 2);
    command.uid(USER).gid(USER);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn files_of_another_user_are_named() {
    // SAFETY: asks for a number.
    if needs_own_broker() || unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root can run a broker as another user");
        return;
    }
    let (dirs, scratch) = (directories(), scratch());
    let data = scratch.path().join("data");
    let own = |path: &Path, owner: &str| {
        let done = Command::new("chown").arg("-R").arg(owner).arg(path).status().expect("chown");
        assert!(done.success());
    };
    let mode = |path: &Path, mode: &str| {
        assert!(Command::new("chmod").arg(mode).arg(path).status().expect("chmod").success());
    };
    mode(scratch.path(), "755");
    let nobody = USER.to_string();
    for of in ["killed", "clean"] {
        remove(&data);
        copy(&dirs.at(of), &data);
        own(&data, &nobody);
        let meta = last_file(&data.join("meta"), ".log");
        let journal = fs::read_dir(data.join("journal/1")).expect("a journal").flatten().map(|e| e.path());
        let journal = journal.filter(|path| path.extension().is_some_and(|e| e == "journal")).min();
        let paths = [
            meta,
            data.join("meta"),
            data.join("journal"),
            data.join("journal/1"),
            journal.expect("a file"),
            data.join("topics"),
            data.join(dirs.segment(&data, 0, true)),
            data.join(dirs.partition(1)),
            data.join("lock"),
            data.join("format"),
        ];
        for path in paths {
            own(&path, "0");
            let old = if path.is_dir() { "755" } else { "644" };
            mode(&path, if path.is_dir() { "700" } else { "600" });
            let said = refused_as_user(&data);
            let name = path.strip_prefix(&data).expect("inside").display().to_string();
            println!("{of}, {name} | {}", said.trim().lines().next().unwrap_or_default());
            assert!(said.contains("ermission denied") && said.contains(&name), "{name}: {said}");
            assert!(!said.contains("panicked"), "{said}");
            own(&path, &nobody);
            mode(&path, old);
        }
        own(&data, "0");
        let broker = Broker::start_with(options(&data));
        dirs.check(&mut Wire::connect(broker.kafka));
    }
}

#[test]
fn findings_are_json_for_programs() {
    if needs_own_broker() {
        return;
    }
    let (dirs, scratch) = (directories(), scratch());
    let data = scratch.path().join("data");
    copy(&dirs.at("killed"), &data);
    remove(&data.join("meta"));
    let output = run(weir().args(["log", "verify", "--json"]).arg(&data));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["findings"][0]["file"], data.join("meta").display().to_string());
    assert_eq!(report["findings"][0]["loses_records"], true);
    let output = run(weir().args(["log", "recover-metadata", "--json"]).arg(&data));
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let topics: Vec<&str> =
        plan["topics"].as_array().expect("topics").iter().filter_map(|t| t["topic"].as_str()).collect();
    assert_eq!(topics.len(), 2, "{plan}");
    assert!(topics.contains(&dirs.kept.name.as_str()), "{plan}");
}
