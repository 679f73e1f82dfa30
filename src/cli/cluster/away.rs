//! `weir cluster drain|remove`: takes a broker out of service, and out of the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::Remote;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{print, print_json};
use crate::client::Client;
use crate::model::report::{Drain, Drained, Place};

/// How often it is looked what is left.
const EVERY: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub struct DrainArgs {
    /// The broker's id
    id: i32,
    /// Give it replicas again
    #[arg(long, conflicts_with_all = ["fewer", "dry_run"])]
    end: bool,
    /// Leave partitions with fewer replicas where there is no other broker for them
    #[arg(long)]
    fewer: bool,
    /// Say what would be moved, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Return at once instead of when all is moved
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
pub struct RemoveArgs {
    /// The broker's id; it has to be stopped
    id: i32,
    /// Do it though it still holds partitions, whose copies there are then given up
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    remote: Remote,
}

/// How many partitions a broker holds.
fn held(client: &mut Client, broker: i32) -> Result<usize, Failure> {
    let topics = client.topics()?;
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    Ok(partitions.filter(|partition| partition.replicas.contains(&broker)).count())
}

fn say(remote: &Remote, text: &str, value: &serde_json::Value) -> Result<(), Failure> {
    let written = if remote.json { print_json(value) } else { print(text) };
    written.map_err(Failure::stdout)
}

pub fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let DrainArgs { id: broker, end, fewer, dry_run, .. } = *args;
    let mut client = args.remote.connect()?;
    let drained = client.drain(Drain { broker, end, fewer, dry_run })?;
    if end {
        let text = format!("Broker {broker} is given replicas again.\n");
        return say(&args.remote, &text, &json!({"broker": broker, "drained": false}));
    }
    if !dry_run && !drained.done {
        return Err(Failure::Usage(refusal(broker, &drained)));
    }
    if !args.remote.json || dry_run {
        say(&args.remote, &plan(broker, &drained), &json!(drained))?;
    }
    if !dry_run && !args.no_wait {
        wait(&mut client, args)?;
    }
    match dry_run || !args.remote.json {
        true => Ok(()),
        false => {
            let left = held(&mut client, broker)?;
            print_json(&json!({"broker": broker, "plan": drained, "left": left})).map_err(Failure::stdout)
        }
    }
}

fn wait(client: &mut Client, args: &DrainArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::watch()?;
    let mut said = None;
    loop {
        let left = held(client, args.id)?;
        if !args.remote.json && said.replace(left) != Some(left) {
            print(&format!("{left} partitions left on broker {}\n", args.id)).map_err(Failure::stdout)?;
        }
        if left == 0 || interrupt.is_asked() {
            return Ok(());
        }
        std::thread::sleep(EVERY);
    }
}

/// How many partitions of each topic.
fn by_topic(places: &[Place]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    places.iter().for_each(|place| *counts.entry(&place.topic).or_default() += 1);
    counts.iter().map(|(topic, count)| format!("{topic} ({count})")).collect::<Vec<_>>().join(", ")
}

fn plan(broker: i32, drained: &Drained) -> String {
    let Drained { moved, fewer, kept, .. } = drained;
    let mut text = format!("{} partitions of broker {broker} go to other brokers\n", moved.len());
    if !fewer.is_empty() {
        text += &format!("{} have fewer replicas after it: {}\n", fewer.len(), by_topic(fewer));
    }
    if !kept.is_empty() {
        text += &format!("{} can go nowhere: {}\n", kept.len(), by_topic(kept));
    }
    text
}

fn refusal(broker: i32, drained: &Drained) -> String {
    let Drained { fewer, kept, .. } = drained;
    let mut text = format!("broker {broker} is not drained, nothing was done.");
    if !kept.is_empty() {
        text += &format!(
            "\n  No other broker serves that could hold {} partitions: {}. Add a broker, or delete them.",
            kept.len(),
            by_topic(kept)
        );
    }
    if !fewer.is_empty() {
        text += &format!(
            "\n  There are too few other brokers for as many replicas of {} partitions: {}. With --fewer they have fewer \
             from then on; or add a broker.",
            fewer.len(),
            by_topic(fewer)
        );
    }
    text
}

pub fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let cluster = client.cluster()?;
    let Some(node) = cluster.nodes.iter().find(|node| node.id == args.id) else {
        return Err(Failure::Usage(format!("there is no broker {}", args.id)));
    };
    if !node.fenced {
        let why = format!(
            "broker {} runs: drain it, and stop it; `weir cluster status` says when it is fenced",
            args.id
        );
        return Err(Failure::Usage(why));
    }
    let left = held(&mut client, args.id)?;
    if left > 0 && !args.force {
        let why = format!(
            "broker {} still holds {left} partitions: `weir cluster drain {}` has others hold them. With --force its copies \
             are given up; where there are no others, so are the records.",
            args.id, args.id
        );
        return Err(Failure::Usage(why));
    }
    client.unregister(args.id)?;
    let text = format!("Broker {} is no broker of the cluster any more.\n", args.id);
    say(&args.remote, &text, &json!({"removed": args.id}))
}
