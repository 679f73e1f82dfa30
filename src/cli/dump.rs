//! `weir log dump`: what a file of a data directory holds, a line a batch. Files are read as they are: the directory may be
//! in use, or be another machine's.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::output::{Table, print, print_json};
use crate::log::checkpoint::{Checkpoint, PartitionState};
use crate::log::journal::{Known, inspect};
use crate::model::utc::UtcMillis;
use crate::rt;
use crate::wire::batch::{self, BatchIter};

#[derive(Args, Debug)]
pub struct DumpArgs {
    /// A .log, .journal or checkpoint file
    file: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Rows of one kind.
struct Section {
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Section {
    fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = Value>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn table(&self) -> String {
        let heading: Vec<String> = self.columns.iter().map(|c| c.replace('_', " ").to_uppercase()).collect();
        let mut table = Table::new(&heading.iter().map(String::as_str).collect::<Vec<_>>());
        for row in &self.rows {
            table.row(row.iter().zip(self.columns).map(|(cell, column)| match cell {
                Value::String(text) => text.clone(),
                Value::Null => "-".to_owned(),
                Value::Number(ms) if column.ends_with("timestamp") => match ms.as_u64() {
                    Some(ms) => UtcMillis(ms).to_string(),
                    None => "-".to_owned(),
                },
                other => other.to_string(),
            }));
        }
        table.render()
    }

    fn objects(&self) -> impl Iterator<Item = Value> + '_ {
        self.rows.iter().map(|row| {
            let fields = self.columns.iter().map(|c| (*c).to_owned()).zip(row.iter().cloned());
            Value::Object(fields.collect::<Map<_, _>>())
        })
    }
}

pub fn run(args: &DumpArgs) -> Result<(), Failure> {
    let name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sections = match name.split_once('.') {
        // Also `.log.aside` and what a repair kept.
        Some((_, rest)) if rest.split('.').any(|part| part == "log") => segment(&args.file),
        Some((_, "journal")) => journal(&args.file),
        _ if name.starts_with("checkpoint") => checkpoint(&args.file),
        _ => return Err(Failure::Usage(format!("{name} is not a .log, .journal or checkpoint file"))),
    };
    let sections = sections.map_err(Failure::Storage)?;
    if args.json {
        let all = sections.iter().flat_map(Section::objects).collect();
        return print_json(&Value::Array(all)).map_err(Failure::stdout);
    }
    let filled = sections.iter().filter(|section| !section.rows.is_empty());
    let text = filled.map(Section::table).collect::<Vec<_>>().join("\n");
    print(&text).map_err(Failure::stdout)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    rt::fs::read_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn segment(path: &Path) -> Result<Vec<Section>, String> {
    let bytes = read(path)?;
    let mut batches = Section::new(&[
        "position",
        "base_offset",
        "last_offset",
        "records",
        "bytes",
        "leader_epoch",
        "max_timestamp",
        "producer_id",
        "producer_epoch",
        "base_sequence",
        "kind",
        "codec",
        "checksum",
    ]);
    let mut walk = BatchIter::new(&bytes);
    for (header, range) in walk.by_ref().map_while(Result::ok) {
        let kind = match (header.is_control(), header.is_transactional()) {
            (true, _) => "control",
            (false, true) => "transactional",
            (false, false) => "plain",
        };
        batches.row([
            json!(range.start),
            json!(header.base_offset),
            json!(header.last_offset()),
            json!(header.record_count),
            json!(header.size()),
            json!(header.leader_epoch),
            json!(header.max_timestamp),
            json!(header.producer_id),
            json!(header.producer_epoch),
            json!(header.base_sequence),
            json!(kind),
            json!(format!("{:?}", header.compression()).to_lowercase()),
            json!(if batch::checksum(&bytes[range]) == header.crc { "ok" } else { "wrong" }),
        ]);
    }
    let at = walk.position();
    let mut rest = Section::new(&["position", "bytes_that_are_no_batch"]);
    if at < bytes.len() {
        rest.row([json!(at), json!(bytes.len() - at)]);
    }
    Ok(vec![batches, rest])
}

fn journal(path: &Path) -> Result<Vec<Section>, String> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let loaded = Checkpoint::load(dir).ok().flatten();
    let known = loaded.map_or_else(Known::default, |loaded| loaded.checkpoint.known());
    let files = inspect(dir, known).map_err(|e| e.to_string())?;
    let file = files.into_iter().find(|file| file.path.file_name() == path.file_name());
    let file = file.ok_or_else(|| format!("{} is not there", path.display()))?;
    let mut head = Section::new(&["generation", "needed_by_a_start", "torn_at"]);
    head.row([json!(file.generation), json!(file.needed), json!(file.torn_at)]);
    let mut entries = Section::new(&["lsn", "kind", "partition", "base_offset", "leader_epoch", "bytes"]);
    for (entry, bytes) in &file.entries {
        entries.row([
            json!(entry.lsn.0),
            json!(format!("{:?}", entry.kind).to_lowercase()),
            json!(entry.partition.to_string()),
            json!(entry.base_offset),
            json!(entry.leader_epoch),
            json!(bytes),
        ]);
    }
    let mut damage = Section::new(&["damaged_at", "from_lsn", "to_lsn"]);
    for range in &file.damage {
        damage.row([json!(range.offset), json!(range.from.0), json!(range.to.0)]);
    }
    Ok(vec![head, entries, damage])
}

fn checkpoint(path: &Path) -> Result<Vec<Section>, String> {
    let checkpoint = Checkpoint::decode(path, &read(path)?).map_err(|e| e.to_string())?;
    let mut head = Section::new(&["shard", "shards", "generation", "floor", "durable", "closed"]);
    head.row([
        json!(checkpoint.shard),
        json!(checkpoint.shards),
        json!(checkpoint.generation),
        json!(checkpoint.floor.0),
        json!(checkpoint.durable.0),
        json!(checkpoint.closed),
    ]);
    let mut partitions =
        Section::new(&["partition", "id", "start_offset", "in_segments_until", "end_offset", "repair"]);
    let mut segments = Section::new(&["partition", "segment", "next_offset", "bytes", "max_timestamp"]);
    let mut damaged =
        Section::new(&["partition", "segment", "damaged_at", "bytes", "from_offset", "until_offset"]);
    for state in &checkpoint.partitions {
        let name = name(state);
        partitions.row([
            json!(name),
            json!(state.id.to_string()),
            json!(state.log.start_offset),
            json!(state.log.segment_durable_offset),
            json!(state.end_offset),
            json!(state.repair),
        ]);
        for s in &state.log.segments {
            segments.row([
                json!(name),
                json!(s.base_offset),
                json!(s.next_offset),
                json!(s.size),
                json!(s.max_timestamp),
            ]);
        }
        for d in &state.damaged {
            damaged.row([
                json!(name),
                json!(d.segment),
                json!(d.position),
                json!(d.length),
                json!(d.from),
                json!(d.until),
            ]);
        }
    }
    Ok(vec![head, partitions, segments, damaged])
}

fn name(state: &PartitionState) -> String {
    format!("{}-{}", state.topic, state.id.index)
}
