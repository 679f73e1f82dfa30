//! `weir txn list|describe|abort`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Remote;
use super::clock::unix_ms;
use super::failure::Failure;
use super::output::{Table, print, print_json};
use crate::client::TxnInfo;
use crate::config::parse_duration;
use crate::model::printable::printable;

#[derive(Subcommand, Debug)]
pub enum TxnCommand {
    /// List transactional ids and what their transactions are doing
    List(ListArgs),
    /// Show a transactional id: its producer, how long its transaction is open, and on which partitions
    Describe(DescribeArgs),
    /// Abort an open transaction and fence its producer
    Abort(AbortArgs),
}

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only transactions in this state, such as Ongoing; may be repeated
    #[arg(short, long = "state", value_name = "STATE")]
    states: Vec<String>,
    /// Only transactions that began longer ago than this, such as 5m
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    longer_than: Option<i64>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
pub struct DescribeArgs {
    id: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub struct AbortArgs {
    /// The transactional id
    #[arg(group = "what")]
    id: Option<String>,
    /// A partition that waits for a transaction which no coordinator knows of any more
    #[arg(long, value_name = "TOPIC:PARTITION", group = "what", value_parser = partition, requires = "producer_id")]
    partition: Option<(String, i32)>,
    /// With --partition: whose transaction to end there
    #[arg(long, requires = "partition")]
    producer_id: Option<i64>,
    #[command(flatten)]
    remote: Remote,
}

fn duration_ms(text: &str) -> Result<i64, String> {
    let duration =
        parse_duration(text).ok_or_else(|| "must be a duration such as 500ms, 30s or 5m".to_owned())?;
    Ok(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn partition(text: &str) -> Result<(String, i32), String> {
    let parts =
        text.rsplit_once(':').and_then(|(topic, index)| Some((topic.to_owned(), index.parse().ok()?)));
    parts.filter(|(topic, _)| !topic.is_empty()).ok_or_else(|| "must be TOPIC:PARTITION".to_owned())
}

pub fn run(command: TxnCommand) -> Result<(), Failure> {
    match command {
        TxnCommand::List(args) => list(args),
        TxnCommand::Describe(args) => describe(args),
        TxnCommand::Abort(args) => abort(args),
    }
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let listed = client.list_transactions(&args.states, args.longer_than.unwrap_or(-1))?;
    let mut table = Table::new(&["TRANSACTIONAL ID", "PRODUCER", "STATE"]);
    for txn in &listed {
        table.row([txn.id.clone(), txn.producer_id.to_string(), txn.state.clone()]);
    }
    let one = |t: &crate::client::TxnListing| json!({"transactional_id": t.id, "producer_id": t.producer_id, "state": t.state});
    let value: Vec<_> = listed.iter().map(one).collect();
    let text = if listed.is_empty() { "No transactional ids.\n".to_owned() } else { table.render() };
    say(&args.remote, &text, &json!(value))
}

fn describe(args: DescribeArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let found = client.describe_transaction(&args.id)?;
    let info = found.ok_or_else(|| unknown(&args.id))?;
    let open = open_for(&info);
    let mut text = format!("{}  {}\n", printable(&info.id), printable(&info.state));
    text.push_str(&format!("producer {} epoch {}\n", info.producer_id, info.producer_epoch));
    text.push_str(&format!("timeout {} s\n", f64::from(info.timeout_ms) / 1000.0));
    if let Some(ms) = open {
        text.push_str(&format!("open for {} s\n", ms as f64 / 1000.0));
    }
    for (topic, index) in &info.partitions {
        text.push_str(&format!("  {} {index}\n", printable(topic)));
    }
    let partitions: Vec<_> =
        info.partitions.iter().map(|(topic, index)| json!({"topic": topic, "partition": index})).collect();
    let value = json!({
        "transactional_id": info.id,
        "state": info.state,
        "producer_id": info.producer_id,
        "producer_epoch": info.producer_epoch,
        "timeout_ms": info.timeout_ms,
        "started_ms": info.started_ms,
        "open_ms": open,
        "partitions": partitions,
    });
    say(&args.remote, &text, &value)
}

fn abort(args: AbortArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    if let (Some((topic, index)), Some(producer_id)) = (&args.partition, args.producer_id) {
        let open = client.open_transactions(topic, *index)?;
        let found = open.into_iter().find(|txn| txn.producer_id == producer_id);
        let found = found.ok_or_else(|| {
            Failure::Usage(format!("producer {producer_id} has no transaction open on {topic}-{index}"))
        })?;
        client.abort_on(topic, *index, found)?;
        let text = format!("Ended the transaction of producer {producer_id} on {topic}-{index}.\n");
        return say(&args.remote, &text, &json!({"topic": topic, "partition": index, "aborted": true}));
    }
    let id = args.id.unwrap_or_default();
    let info = client.describe_transaction(&id)?.ok_or_else(|| unknown(&id))?;
    if open_for(&info).is_none() {
        let text = format!("{} has no transaction open.\n", printable(&id));
        return say(&args.remote, &text, &json!({"transactional_id": id, "aborted": false}));
    }
    client.abort_transaction(&info)?;
    let text = format!("Aborted the transaction of {}; its producer is fenced.\n", printable(&id));
    say(&args.remote, &text, &json!({"transactional_id": id, "aborted": true}))
}

/// How long the transaction has been open, if one is.
fn open_for(info: &TxnInfo) -> Option<i64> {
    if !matches!(info.state.as_str(), "Ongoing" | "PrepareCommit" | "PrepareAbort") {
        return None;
    }
    Some((unix_ms() - info.started_ms).max(0))
}

fn unknown(id: &str) -> Failure {
    let id = printable(id);
    Failure::Usage(format!("there is no transactional id {id}; `weir txn list` shows what there is"))
}

fn say(remote: &Remote, text: &str, value: &serde_json::Value) -> Result<(), Failure> {
    let written = if remote.json { print_json(value) } else { print(text) };
    written.map_err(Failure::stdout)
}
