//! `weir log recover-metadata`: makes the metadata of a data directory anew, of what is in it.

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::controller::rebuild::{Plan, plan};
use crate::log::{Holdings, LogError, LogSettings, Mended, Mending, evidence, holdings};
use crate::metadata::{Image, MetadataError, Resolver, Store, new_id};
use crate::model::{BrokerId, BrokerSettings, PartitionId};
use crate::partition::producer::Producers;
use crate::partition::recovered_snapshot;
use crate::rt;
use crate::shard::topics::View;

use super::failure::Failure;
use super::offline::{Where, done_text, take_lock};
use super::output::{print, print_json};

/// Producer ids that may have been given out and left no trace.
const PRODUCER_ID_MARGIN: i64 = 1_000_000;

#[derive(Args, Debug)]
pub struct RecoverArgs {
    #[command(flatten)]
    at: Where,
    /// The id of the broker that is to have the topics
    #[arg(long, env = "WEIR_BROKER_ID", default_value_t = 1)]
    broker_id: BrokerId,
    /// Do it. What is taken away is kept in set-aside/
    #[arg(long)]
    apply: bool,
}

fn storage(e: impl std::fmt::Display) -> Failure {
    Failure::Storage(e.to_string())
}

/// What there is, and what is to come of it.
struct Recovery {
    held: Holdings,
    plan: Plan,
    image: Image,
    remarks: Vec<String>,
    broker: BrokerId,
}

pub fn run(args: &RecoverArgs) -> Result<(), Failure> {
    let data_dir = &args.at.data_dir;
    let _lock = take_lock(data_dir)?;
    let recovery = prepare(data_dir, args.broker_id)?;
    if recovery.plan.is_empty() && recovery.remarks.is_empty() {
        return print("the metadata is there and knows all topics; nothing to recover\n")
            .map_err(Failure::stdout);
    }
    if !args.apply {
        return recovery.show(args.at.json, "would: ");
    }
    if !args.at.json {
        recovery.show(false, "to do: ")?;
    }
    let image = recovery.image.clone();
    let done = apply(data_dir, recovery)?;
    match args.at.json {
        true => print_json(&json!({ "recovered": image.topics().len(), "done": done_json(&done) })),
        false => print(&format!("{}done\n", done_text(&done, &image))),
    }
    .map_err(Failure::stdout)
}

fn done_json(done: &[Mended]) -> Vec<serde_json::Value> {
    done.iter().map(|mended| json!(mended.what)).collect()
}

fn prepare(data_dir: &Path, broker: BrokerId) -> Result<Recovery, Failure> {
    let held = holdings(data_dir).map_err(storage)?;
    let mut remarks = Vec::new();
    let there = match Store::inspect(&data_dir.join("meta")) {
        Ok(image) => image,
        Err(e @ MetadataError::Corrupt { .. }) => {
            remarks.push(format!("use nothing of the metadata there is: {e}"));
            None
        }
        Err(e) => return Err(storage(e)),
    };
    let origins = held.origins();
    if origins.len() > 1 {
        let all = origins.keys().copied().collect::<Vec<_>>().join(", ");
        return Err(Failure::Storage(format!(
            "the journals are of several directories ({all}): move away those that do not belong here first"
        )));
    }
    let of = origins.first_key_value().map(|(directory, version)| ((*directory).to_owned(), *version));
    let is_ours = |image: &Image| of.as_ref().is_none_or(|(directory, _)| **directory == *image.cluster_id);
    if let Some(image) = there.as_ref().filter(|image| !is_ours(image)) {
        remarks
            .push(format!("use nothing of the metadata there is: it is of directory {}", image.cluster_id));
    } else if there.is_none() && remarks.is_empty() && !held.is_empty() {
        remarks.push("make metadata, of which there is none".into());
    }
    let base = there.filter(is_ours);
    let found = evidence(&held).map_err(storage)?;
    let missing: usize = found.iter().map(|found| found.missing).sum();
    if missing > 0 && held.directories.is_empty() {
        let why = "topics/ has no directories, and checkpoints list records in them: put them back first";
        return Err(Failure::Storage(why.into()));
    }
    let plan = plan(base.as_ref(), found, &mut new_id);
    let (directory, needs) = match (&of, &base) {
        (Some((directory, version)), _) => (directory.clone(), *version),
        (None, Some(base)) => (base.cluster_id.to_string(), 0),
        (None, None) => (new_id().to_string(), 0),
    };
    let has = base.as_ref().map_or(0, |base| base.version);
    if needs > has && base.is_some() {
        remarks.push(format!("bring the metadata from change {has} to after change {needs}"));
    }
    let image = plan.image(base.as_ref(), &directory, needs.max(has) + 1, broker).map_err(storage)?;
    Ok(Recovery { held, plan, image, remarks, broker })
}

impl Recovery {
    fn show(&self, as_json: bool, prefix: &str) -> Result<(), Failure> {
        let Plan { topics, grown, left_out } = &self.plan;
        if as_json {
            let topic = |t: &crate::controller::rebuild::NewTopic| json!({"topic": t.name, "id": t.id.to_string(), "partitions": t.partitions, "note": t.note});
            return print_json(&json!({
                "remarks": self.remarks,
                "topics": topics.iter().map(topic).collect::<Vec<_>>(),
                "grown": grown.iter().map(|(_, name, n)| json!({"topic": name, "partitions": n})).collect::<Vec<_>>(),
                "left_out": left_out
                    .iter()
                    .map(|(id, name, why)| json!({"topic": name, "id": id.to_string(), "why": why}))
                    .collect::<Vec<_>>(),
            }))
            .map_err(Failure::stdout);
        }
        let mut lines: Vec<String> = self.remarks.clone();
        for topic in topics {
            let note = topic.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
            let (name, id, partitions) = (&topic.name, topic.id, topic.partitions);
            lines.push(format!("make topic {name}, id {id}, with {partitions} partitions{note}"));
        }
        for (_, name, partitions) in grown {
            lines.push(format!("give topic {name} {partitions} partitions"));
        }
        for (id, name, why) in left_out {
            lines.push(format!("take topic {name}, id {id}, for deleted: {why}"));
        }
        if !topics.is_empty() {
            lines.push("keep everything in the topics made: their configurations are lost, so retention and compaction are off until somebody sets them; so are configurations of brokers and groups, and quotas".into());
        }
        let text: String = lines.iter().map(|line| format!("{prefix}{line}\n")).collect();
        print(&text).map_err(Failure::stdout)
    }
}

fn apply(data_dir: &Path, recovery: Recovery) -> Result<Vec<Mended>, Failure> {
    let resolver = Resolver::new(&BrokerSettings::default());
    let objections = recovery.held.judge(Some(&View {
        image: &recovery.image,
        resolver: &resolver,
        of: None,
        follows: false,
    }));
    let (dir, image) = (data_dir.to_owned(), recovery.image.clone());
    let done = rt::try_block_on(async move {
        let partitions: Vec<PartitionId> = image.topics().flat_map(|topic| topic.partition_ids()).collect();
        let settings = LogSettings::default();
        let resolver = Resolver::new(&BrokerSettings::default());
        let view = View { image: &image, resolver: &resolver, of: None, follows: false };
        let mending = Mending { data_dir: &dir, topics: &view, partitions: &partitions, settings: &settings };
        mending.all(&objections, recovered_snapshot).await
    });
    let done = done.map_err(|e| Failure::Storage(e.to_string()))?.map_err(storage)?;
    let held = holdings(data_dir).map_err(storage)?;
    let (epoch, producer_id) = highest(&held);
    let image = recovery.image.raised(epoch, producer_id + PRODUCER_ID_MARGIN).map_err(storage)?;
    put_away_metadata(data_dir).map_err(storage)?;
    Store::write_anew(&data_dir.join("meta"), recovery.broker, &image).map_err(storage)?;
    Ok(done)
}

/// The highest leader epoch and producer id of all partitions.
fn highest(held: &Holdings) -> (i32, i64) {
    let states = held.checkpoints().flat_map(|(_, checkpoint)| &checkpoint.partitions);
    let (mut epoch, mut producer_id) = (0, 0);
    for state in states {
        epoch = epoch.max(state.log.epochs.latest().map_or(0, |latest| latest.0));
        let producers = state.producers.as_ref().and_then(|(_, bytes)| Producers::restore(bytes));
        let last = producers.iter().flat_map(Producers::views).map(|view| view.producer.id.0).max();
        producer_id = producer_id.max(last.unwrap_or(0));
    }
    (epoch, producer_id)
}

fn put_away_metadata(data_dir: &Path) -> Result<(), LogError> {
    let meta = data_dir.join("meta");
    if !rt::fs::exists(&meta) {
        return Ok(());
    }
    let aside = data_dir.join("set-aside");
    let to = aside.join(format!("meta-{}", rt::unix_ms()));
    let moved = rt::fs::create_dir_all_durable(&aside)
        .and_then(|()| rt::fs::rename(&meta, &to))
        .and_then(|()| rt::fs::sync_dir(&aside))
        .and_then(|()| rt::fs::sync_dir(data_dir));
    moved.map_err(|e| LogError::io(&meta, e))
}
