//! `weir log`: looks at and mends a data directory that no broker uses.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::dump;
use super::failure::Failure;
use super::output::{print, print_json};
use crate::boot::preflight::DataLock;
use crate::cluster::{Controller, Image};
use crate::log::survey::{Finding, Survey, shards, survey};
use crate::log::{LogSettings, Mending};
use crate::model::{BrokerSettings, PartitionId};
use crate::rt;
use crate::shard::serve::recovered_snapshot;

#[derive(Subcommand, Debug)]
pub enum LogCommand {
    /// Read everything in a data directory and report what is damaged; changes nothing
    Verify(Where),
    /// Print what a file of a data directory holds: a segment, a journal, a checkpoint
    Dump(dump::DumpArgs),
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
        LogCommand::Dump(args) => dump::run(&args),
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
        "at rest: {} partitions, {} segments, {} bytes; in journals: {} files, {} entries that a start needs\n",
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
    if !args.apply || found.findings.is_empty() {
        return show(&found, args.at.json, "would: ");
    }
    if !args.at.json {
        show(&found, false, "to do: ")?;
    }
    let (data_dir, image) = (args.at.data_dir.clone(), Arc::new(image));
    let done = rt::block_on(async move {
        crate::log::sweep(&data_dir, &*image)?;
        let partitions: Vec<PartitionId> = image.topics().flat_map(|topic| topic.partition_ids()).collect();
        let settings = LogSettings::default();
        let mending =
            Mending { data_dir: &data_dir, topics: &*image, partitions: &partitions, settings: &settings };
        let mut done = Vec::new();
        let shards = shards(&data_dir)?;
        for shard in &shards {
            for mended in mending.shard(*shard, shards.len(), recovered_snapshot).await? {
                let of = mended.id.and_then(|id| Some((id, image.topic_by_id(id.topic)?)));
                done.push((of.map(|(id, topic)| format!("{}-{}", topic.name, id.index)), mended.what));
            }
        }
        Ok::<_, crate::log::LogError>(done)
    });
    let done = done.map_err(|e| Failure::Storage(e.to_string()))?;
    if args.at.json {
        let done: Vec<Value> = done.iter().map(|(p, what)| json!({"partition": p, "done": what})).collect();
        let findings: Vec<Value> = found.findings.iter().map(finding_json).collect();
        return print_json(&json!({ "findings": findings, "repaired": done })).map_err(Failure::stdout);
    }
    let line = |(partition, what): &(Option<String>, String)| match partition {
        Some(partition) => format!("done: {partition}: {what}\n"),
        None => format!("done: {what}\n"),
    };
    let lines: String = done.iter().map(line).collect();
    print(&format!("{lines}done\n")).map_err(Failure::stdout)
}
