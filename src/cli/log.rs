//! `weir log`: looks at and mends a data directory that no broker uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::{print, print_json};
use crate::boot::preflight::DataLock;
use crate::cluster::{Controller, Image};
use crate::log::checkpoint::Checkpoint;
use crate::log::journal::{Known, inspect};
use crate::log::survey::{Finding, Survey, shards, survey};
use crate::log::{LogSettings, RecoveredPartition, mend};
use crate::model::BrokerSettings;
use crate::rt;
use crate::shard::serve::recovered_producers;
use crate::wire::batch::{self, BatchHeader};

#[derive(Subcommand, Debug)]
pub enum LogCommand {
    /// Read everything in a data directory and report what is damaged; changes nothing
    Verify(Where),
    /// Print what a file of a data directory holds: a segment, a journal, a checkpoint
    Dump(DumpArgs),
    /// Say what would make the data directory whole again, and do it with --apply
    Repair(RepairArgs),
}

#[derive(Args, Debug)]
pub struct Where {
    /// The data directory; no broker may be using it
    #[arg(env = "WEIR_DATA_DIR", default_value = "./weir-data")]
    data_dir: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub struct DumpArgs {
    /// A .log, .journal or checkpoint file
    file: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub struct RepairArgs {
    #[command(flatten)]
    at: Where,
    /// Do it. What is taken away is kept in set-aside/
    #[arg(long)]
    apply: bool,
}

pub fn run(command: LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Verify(at) => verify(&at),
        LogCommand::Dump(args) => dump(&args),
        LogCommand::Repair(args) => repair(&args),
    }
}

/// Takes the directory for this process and reads its metadata.
fn take(at: &Where) -> Result<(DataLock, Image), Failure> {
    if !at.data_dir.join("format").exists() {
        return Err(Failure::Storage(format!("{} is not a data directory of Weir's", at.data_dir.display())));
    }
    let lock = DataLock::acquire(&at.data_dir)
        .map_err(|e| Failure::Storage(format!("{}\n  {}", e.problem, e.remedy)))?;
    let image = Controller::inspect(&at.data_dir.join("meta"), &BrokerSettings::default())
        .map_err(|e| Failure::Storage(e.to_string()))?;
    Ok((lock, image))
}

fn verify(at: &Where) -> Result<(), Failure> {
    let (_lock, image) = take(at)?;
    let survey = survey(&at.data_dir, &image).map_err(|e| Failure::Storage(e.to_string()))?;
    show(&survey, at.json, "")?;
    match survey.findings.is_empty() {
        true => Ok(()),
        false => Err(Failure::Storage(format!(
            "{} findings; `weir log repair` says what can be done",
            survey.findings.len()
        ))),
    }
}

fn show(survey: &Survey, as_json: bool, prefix: &str) -> Result<(), Failure> {
    if as_json {
        return print_json(&json!({
            "partitions": survey.partitions,
            "segments": survey.segments,
            "segment_bytes": survey.segment_bytes,
            "journal_files": survey.journal_files,
            "journal_entries": survey.journal_entries,
            "findings": survey.findings.iter().map(finding_json).collect::<Vec<Value>>(),
        }))
        .map_err(Failure::stdout);
    }
    let mut text = format!(
        "{} partitions, {} segments of {} bytes, {} journal files with {} entries that are needed\n",
        survey.partitions,
        survey.segments,
        survey.segment_bytes,
        survey.journal_files,
        survey.journal_entries
    );
    for finding in &survey.findings {
        text += &format!("{}\n  {prefix}{}\n", finding_text(finding), finding.remedy);
    }
    if survey.findings.is_empty() {
        text += "everything reads back as it was written\n";
    }
    print(&text).map_err(Failure::stdout)
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "file": finding.path.display().to_string(),
        "offset": finding.offset,
        "length": finding.length,
        "partition": finding.partition,
        "first_offset": finding.offsets.map(|(from, _)| from),
        "next_offset": finding.offsets.map(|(_, until)| until),
        "what": finding.what,
        "remedy": finding.remedy,
        "loses_records": finding.loses,
    })
}

fn finding_text(finding: &Finding) -> String {
    let mut text = format!("{} at {}", finding.path.display(), finding.offset);
    if finding.length > 0 {
        text += &format!(", {} bytes", finding.length);
    }
    if let Some(partition) = &finding.partition {
        text += &format!(", partition {partition}");
    }
    if let Some((from, until)) = finding.offsets {
        text += &format!(", offsets {from}..{until}");
    }
    format!("{text}: {}", finding.what)
}

fn repair(args: &RepairArgs) -> Result<(), Failure> {
    let (_lock, image) = take(&args.at)?;
    let found = survey(&args.at.data_dir, &image).map_err(|e| Failure::Storage(e.to_string()))?;
    if !args.apply {
        return show(&found, args.at.json, "would: ");
    }
    let (data_dir, image) = (args.at.data_dir.clone(), Arc::new(image));
    let done = rt::block_on(async move {
        let producers = |p: &RecoveredPartition| {
            let producers = recovered_producers(p);
            (!producers.is_empty()).then(|| producers.snapshot())
        };
        crate::log::sweep(&data_dir, &*image)?;
        let mut done = Vec::new();
        for shard in shards(&data_dir)? {
            for mended in mend(&data_dir, shard, &*image, &LogSettings::default(), producers).await? {
                let name =
                    image.topic_by_id(mended.id.topic).map_or_else(String::new, |t| t.name.to_string());
                done.push((format!("{name}-{}", mended.id.index), mended.what));
            }
        }
        Ok::<_, crate::log::LogError>(done)
    });
    let done = done.map_err(|e| Failure::Storage(e.to_string()))?;
    if args.at.json {
        let done: Vec<Value> = done.iter().map(|(p, what)| json!({"partition": p, "done": what})).collect();
        return print_json(&json!({ "repaired": done })).map_err(Failure::stdout);
    }
    let lines: String = done.iter().map(|(partition, what)| format!("{partition}: {what}\n")).collect();
    print(if lines.is_empty() { "nothing had to be repaired\n" } else { &lines }).map_err(Failure::stdout)
}

fn dump(args: &DumpArgs) -> Result<(), Failure> {
    let name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let rows = match name.rsplit_once('.') {
        Some((_, "log")) => segment_rows(&args.file),
        Some((_, "journal")) => journal_rows(&args.file),
        _ if name.starts_with("checkpoint") => checkpoint_rows(&args.file),
        _ => return Err(Failure::Usage(format!("{name} is not a .log, .journal or checkpoint file"))),
    };
    let rows = rows.map_err(Failure::Storage)?;
    if args.json {
        return print_json(&Value::Array(rows)).map_err(Failure::stdout);
    }
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    print(&lines).map_err(Failure::stdout)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    rt::fs::read_all(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn segment_rows(path: &Path) -> Result<Vec<Value>, String> {
    let bytes = read(path)?;
    let mut rows = Vec::new();
    let mut at = 0;
    while let Ok(header) = BatchHeader::parse(&bytes[at..]) {
        let Some(batch) = bytes.get(at..at + header.size()) else { break };
        rows.push(json!({
            "position": at,
            "base_offset": header.base_offset,
            "last_offset": header.last_offset(),
            "records": header.record_count,
            "bytes": header.size(),
            "leader_epoch": header.leader_epoch,
            "max_timestamp": header.max_timestamp,
            "producer_id": header.producer_id,
            "producer_epoch": header.producer_epoch,
            "base_sequence": header.base_sequence,
            "checksum": if batch::checksum(batch) == header.crc { "ok" } else { "wrong" },
        }));
        at += header.size();
    }
    if at < bytes.len() {
        rows.push(json!({ "position": at, "rest": bytes.len() - at }));
    }
    Ok(rows)
}

fn journal_rows(path: &Path) -> Result<Vec<Value>, String> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let known =
        Checkpoint::load(dir).ok().flatten().map_or_else(Known::default, |loaded| loaded.checkpoint.known());
    let files = inspect(dir, known).map_err(|e| e.to_string())?;
    let file = files.into_iter().find(|file| file.path.file_name() == path.file_name());
    let file = file.ok_or_else(|| format!("{} is not there", path.display()))?;
    let mut rows =
        vec![json!({ "generation": file.generation, "needed": file.needed, "torn_at": file.torn_at })];
    rows.extend(file.entries.iter().map(|(entry, bytes)| {
        json!({
            "lsn": entry.lsn.0,
            "partition": entry.partition.to_string(),
            "base_offset": entry.base_offset,
            "leader_epoch": entry.leader_epoch,
            "bytes": bytes,
        })
    }));
    rows.extend(file.damage.iter().map(
        |damage| json!({ "damaged_at": damage.offset, "from_lsn": damage.from.0, "to_lsn": damage.to.0 }),
    ));
    Ok(rows)
}

fn checkpoint_rows(path: &Path) -> Result<Vec<Value>, String> {
    let checkpoint = Checkpoint::decode(path, &read(path)?).map_err(|e| e.to_string())?;
    let mut rows = vec![json!({
        "shard": checkpoint.shard,
        "shards": checkpoint.shards,
        "generation": checkpoint.generation,
        "floor": checkpoint.floor.0,
        "durable": checkpoint.durable.0,
        "closed": checkpoint.closed,
    })];
    rows.extend(checkpoint.partitions.iter().map(|state| {
        json!({
            "id": state.id.to_string(),
            "partition": format!("{}-{}", state.topic, state.id.index),
            "start_offset": state.log.start_offset,
            "segment_durable_offset": state.log.segment_durable_offset,
            "end_offset": state.end_offset,
            "segments": state.log.segments.iter().map(|s| json!({
                "base_offset": s.base_offset, "next_offset": s.next_offset, "bytes": s.size,
            })).collect::<Vec<_>>(),
            "repair": state.repair,
            "damaged": state.damaged.iter().map(|r| json!({
                "segment": r.segment, "position": r.position, "length": r.length,
                "first_offset": r.from, "next_offset": r.until,
            })).collect::<Vec<_>>(),
        })
    }));
    Ok(rows)
}
