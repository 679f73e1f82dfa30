//! `weir log`: looks at and mends a data directory that no broker uses.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::boot::preflight::DataLock;
use crate::log::{Finding, LogSettings, Mending, Survey, Topics, survey};
use crate::metadata::{Image, Resolver, Store};
use crate::model::{BrokerSettings, PartitionId};
use crate::partition::recovered_snapshot;
use crate::rt;
use crate::shard::topics::View;

use super::dump;
use super::failure::Failure;
use super::offline::{self, Where, done_text, take_lock};
use super::output::{print, print_json};
use super::recover::{self, RecoverArgs};

#[derive(Subcommand, Debug)]
pub enum LogCommand {
    /// Read everything in a data directory and report what is damaged; changes nothing
    Verify(Where),
    /// Print what a file of a data directory holds: a segment, a journal, a checkpoint
    Dump(dump::DumpArgs),
    /// Say what would make the data directory whole again, and do it with --apply
    Repair(RepairArgs),
    /// Say what metadata could be made of a directory that lost its own, and make it with --apply
    RecoverMetadata(RecoverArgs),
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
        LogCommand::RecoverMetadata(args) => recover::run(&args),
    }
}

/// A data directory of this process's, what its metadata says, and what is wrong with it.
struct Taken {
    _lock: DataLock,
    image: Option<Image>,
    survey: Survey,
}

fn take(at: &Where) -> Result<Taken, Failure> {
    let lock = take_lock(&at.data_dir)?;
    let image = Store::inspect(&at.data_dir.join("meta")).map_err(|e| Failure::Storage(e.to_string()))?;
    let resolver = Resolver::new(&BrokerSettings::default());
    let view = image.as_ref().map(|image| View { image, resolver: &resolver, of: None, follows: false });
    let topics = view.as_ref().map(|view| view as &dyn Topics);
    let survey = survey(&at.data_dir, topics, &partitions(image.as_ref()))
        .map_err(|e| Failure::Storage(e.to_string()))?;
    Ok(Taken { _lock: lock, image, survey })
}

fn partitions(image: Option<&Image>) -> Vec<PartitionId> {
    image.into_iter().flat_map(|image| image.topics().flat_map(|topic| topic.partition_ids())).collect()
}

fn verify(at: &Where) -> Result<(), Failure> {
    let Taken { survey, .. } = take(at)?;
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
            "set_aside": survey.set_aside,
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
    if survey.set_aside > 0 {
        text += &format!("set aside: {} files and directories\n", survey.set_aside);
    }
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
    let Taken { _lock, image, survey: found } = take(&args.at)?;
    if !args.apply || found.findings.is_empty() {
        return show(&found, args.at.json, "would: ");
    }
    let of_metadata = found.objections.iter().find(|objection| !objection.is_for_repair());
    let (Some(image), None) = (image, of_metadata) else {
        let (why, what) = of_metadata.map_or(("", ""), |o| (o.repair(), "the metadata comes first: "));
        show(&found, args.at.json, "would: ")?;
        return Err(Failure::Storage(format!("nothing was done; {what}{why}")));
    };
    if !args.at.json {
        show(&found, false, "to do: ")?;
    }
    let (data_dir, image, objections) = (args.at.data_dir.clone(), Arc::new(image), found.objections);
    let topics = image.clone();
    let done = rt::try_block_on(async move {
        let resolver = Resolver::new(&BrokerSettings::default());
        let view = View { image: &topics, resolver: &resolver, of: None, follows: false };
        crate::log::sweep(&data_dir, &view)?;
        let (partitions, settings) = (partitions(Some(&topics)), LogSettings::default());
        let mending =
            Mending { data_dir: &data_dir, topics: &view, partitions: &partitions, settings: &settings };
        mending.all(&objections, recovered_snapshot).await
    });
    let done =
        done.map_err(|e| Failure::Storage(e.to_string()))?.map_err(|e| Failure::Storage(e.to_string()))?;
    if args.at.json {
        let done: Vec<Value> = done
            .iter()
            .map(|mended| json!({"partition": offline::name(mended, &image), "done": mended.what}))
            .collect();
        let findings: Vec<Value> = found.findings.iter().map(finding_json).collect();
        return print_json(&json!({ "findings": findings, "repaired": done })).map_err(Failure::stdout);
    }
    print(&format!("{}done\n", done_text(&done, &image))).map_err(Failure::stdout)
}
