//! `weir topic create|list|describe|alter|delete`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Remote;
use super::failure::Failure;
use super::output::{Table, print, print_json};
use crate::client::{Client, ClientError, ConfigOp, Isolation, NewTopic, OffsetAt, TopicInfo};
use crate::config::{closest, did_you_mean};
use crate::model::printable::printable;
use crate::model::topic_config::TOPIC_CONFIGS;

#[derive(Subcommand, Debug)]
pub enum TopicCommand {
    /// Create a topic
    Create(CreateArgs),
    /// List topics
    List(ListArgs),
    /// Show a topic's partitions, offsets and configuration
    Describe(DescribeArgs),
    /// Change a topic's configuration or add partitions
    Alter(AlterArgs),
    /// Delete topics and their records
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub struct CreateArgs {
    topic: String,
    /// Partitions; the broker's default if not given
    #[arg(short, long)]
    partitions: Option<i32>,
    /// Replicas of each partition; the broker's default if not given
    #[arg(short, long)]
    replication_factor: Option<i16>,
    /// Configuration, as in --config retention.ms=86400000; may be repeated
    #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = name_value)]
    configs: Vec<(String, String)>,
    /// Do nothing if the topic is already there
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Show topics that brokers keep for themselves too
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
pub struct DescribeArgs {
    topic: String,
    /// Show every configuration, not only what the topic sets itself
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
pub struct AlterArgs {
    topic: String,
    /// Grow to this many partitions in all
    #[arg(short, long, group = "change")]
    partitions: Option<i32>,
    /// Set a configuration, as in --set retention.ms=86400000; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = name_value, group = "change")]
    set: Vec<(String, String)>,
    /// Return a configuration to its default; may be repeated
    #[arg(short, long, value_name = "NAME", group = "change")]
    unset: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
pub struct DeleteArgs {
    #[arg(required = true)]
    topics: Vec<String>,
    /// Do not fail on a topic that is not there
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    remote: Remote,
}

fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

pub fn run(command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Create(args) => create(args),
        TopicCommand::List(args) => list(args),
        TopicCommand::Describe(args) => describe(args),
        TopicCommand::Alter(args) => alter(args),
        TopicCommand::Delete(args) => delete(args),
    }
}

fn create(args: CreateArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    if args.if_not_exists && client.topic(&args.topic, false).is_ok() {
        return Ok(());
    }
    let topic = NewTopic {
        name: args.topic,
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        configs: args.configs,
    };
    let created = client.create_topic(&topic).map_err(|error| explain_config(&topic.configs, error))?;
    let text = match created.partitions {
        -1 => format!("Created topic {}.\n", created.name),
        1 => format!("Created topic {} with 1 partition.\n", created.name),
        n => format!("Created topic {} with {n} partitions.\n", created.name),
    };
    let value = json!({"topic": created.name, "partitions": created.partitions});
    say(&args.remote, &text, &value)
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let mut topics = client.topics()?;
    topics.retain(|t| args.internal || !t.internal);
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS"]);
    let replicas = |t: &TopicInfo| t.partitions.first().map_or(0, |p| p.replicas.len());
    for topic in &topics {
        let cells = [topic.name.clone(), topic.partitions.len().to_string(), replicas(topic).to_string()];
        table.row(cells);
    }
    let value: Vec<_> = topics
        .iter()
        .map(|t| json!({"topic": t.name, "partitions": t.partitions.len(), "replicas": replicas(t), "internal": t.internal}))
        .collect();
    let text = match topics.is_empty() {
        true => "No topics.\n".to_owned(),
        false => table.render(),
    };
    say(&args.remote, &text, &json!(value))
}

fn describe(args: DescribeArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let topic = existing(&mut client, &args.topic)?;
    let mut table =
        Table::new(&["PARTITION", "LEADER", "EPOCH", "REPLICAS", "IN SYNC", "FIRST OFFSET", "NEXT OFFSET"]);
    let mut partitions = Vec::new();
    for p in &topic.partitions {
        let first = offset_or_unknown(&mut client, &topic, p.index, OffsetAt::Beginning);
        let next = offset_or_unknown(&mut client, &topic, p.index, OffsetAt::End);
        let shown = |offset: Option<i64>| offset.map_or("-".to_owned(), |o| o.to_string());
        table.row([
            p.index.to_string(),
            p.leader.to_string(),
            p.leader_epoch.to_string(),
            ids(&p.replicas),
            ids(&p.in_sync),
            shown(first),
            shown(next),
        ]);
        partitions.push(json!({
            "partition": p.index, "leader": p.leader, "leader_epoch": p.leader_epoch,
            "replicas": p.replicas, "in_sync": p.in_sync, "first_offset": first, "next_offset": next,
        }));
    }
    let configs = client.topic_configs(&topic.name)?;
    let shown: Vec<_> = configs.iter().filter(|c| args.all || c.overridden).collect();
    let mut config_table = Table::new(&["CONFIG", "VALUE"]);
    for c in &shown {
        let value = if c.sensitive { Some("(hidden)".to_owned()) } else { c.value.clone() };
        config_table.row([c.name.clone(), value.unwrap_or_default()]);
    }
    let mut text = format!("{}\n\n{}", printable(&topic.name), table.render());
    if !shown.is_empty() {
        text.push('\n');
        text.push_str(&config_table.render());
    }
    let configs: serde_json::Map<String, serde_json::Value> =
        shown.iter().map(|c| (c.name.clone(), json!(c.value))).collect();
    let value = json!({"topic": topic.name, "partitions": partitions, "configs": configs});
    say(&args.remote, &text, &value)
}

fn alter(args: AlterArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    existing(&mut client, &args.topic)?;
    let set = args.set.into_iter().map(|(name, value)| (name, ConfigOp::Set(value)));
    let unset = args.unset.into_iter().map(|name| (name, ConfigOp::Delete));
    let changes: Vec<(String, ConfigOp)> = set.chain(unset).collect();
    if !changes.is_empty() {
        refuse_unknown_configs(&mut client, &args.topic, &changes)?;
        client.alter_topic_configs(&args.topic, &changes)?;
    }
    if let Some(total) = args.partitions {
        client.create_partitions(&args.topic, total)?;
    }
    let text = format!("Altered topic {}.\n", args.topic);
    say(&args.remote, &text, &json!({"topic": args.topic}))
}

fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let mut deleted = Vec::new();
    for name in &args.topics {
        match existing(&mut client, name) {
            Ok(_) => {
                client.delete_topic(name)?;
                deleted.push(name.clone());
            }
            Err(Failure::Advised { error: ClientError::UnknownTopic(_), .. }) if args.if_exists => {}
            Err(failure) => return Err(failure),
        }
    }
    let text: String = deleted.iter().map(|name| format!("Deleted topic {name}.\n")).collect();
    say(&args.remote, &text, &json!({"deleted": deleted}))
}

fn existing(client: &mut Client, name: &str) -> Result<TopicInfo, Failure> {
    client.topic(name, false).map_err(|error| Failure::about_topic(client, error))
}

/// Adds the names that come near, when a topic was refused for a configuration that does not exist.
fn explain_config(configs: &[(String, String)], error: ClientError) -> Failure {
    let known = TOPIC_CONFIGS.iter().map(|c| c.name);
    let unknown = configs.iter().find(|(name, _)| !known.clone().any(|k| k == name));
    match unknown {
        Some((name, _)) if error.is_invalid_config() => {
            let advice = match closest(name, known) {
                Some(near) => format!("{name} is not a topic configuration: did you mean {near}?"),
                None => {
                    format!("{name} is not a topic configuration; `weir topic describe --all` lists them.")
                }
            };
            Failure::Advised { error, advice }
        }
        _ => error.into(),
    }
}

/// The broker refuses an unknown name too, but does not say which one was meant.
fn refuse_unknown_configs(
    client: &mut Client,
    topic: &str,
    changes: &[(String, ConfigOp)],
) -> Result<(), Failure> {
    let known = client.topic_configs(topic)?;
    for (name, _) in changes {
        if !known.is_empty() && !known.iter().any(|c| c.name == *name) {
            let hint = did_you_mean(name, known.iter().map(|c| c.name.as_str()));
            return Err(Failure::Usage(format!("{name} is not a topic configuration{hint}")));
        }
    }
    Ok(())
}

fn offset_or_unknown(client: &mut Client, topic: &TopicInfo, partition: i32, at: OffsetAt) -> Option<i64> {
    client.offset(topic, partition, at, Isolation::ReadUncommitted).ok()
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

fn say(remote: &Remote, text: &str, value: &serde_json::Value) -> Result<(), Failure> {
    let written = if remote.json { print_json(value) } else { print(text) };
    written.map_err(Failure::stdout)
}
