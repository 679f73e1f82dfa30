//! `weir group list|describe|reset-offsets|delete`.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Remote;
use super::failure::Failure;
use super::output::{Table, print, print_json};
use super::when::Start;
use crate::client::{
    Client, ClientError, Committer, GroupInfo, GroupOffset, Isolation, OffsetAt, TopicInfo, TopicPartition,
};
use crate::config::closest;
use crate::model::printable::printable;

#[derive(Subcommand, Debug)]
pub enum GroupCommand {
    /// List consumer groups
    List(ListArgs),
    /// Show a group's members, offsets and lag
    Describe(DescribeArgs),
    /// Move a group's offsets; shows what would change, and changes it with --execute
    ResetOffsets(ResetArgs),
    /// Delete groups and their offsets
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only groups in this state, such as stable or empty; may be repeated
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
pub struct DescribeArgs {
    group: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("target").required(true)))]
pub struct ResetArgs {
    group: String,
    /// Topic to reset, as in orders or orders:0,3; may be repeated; all that the group has if not given
    #[arg(short, long = "topic", value_name = "TOPIC[:PARTITION,…]")]
    topics: Vec<String>,
    /// Where to: beginning, end, an offset, -N for N before the end, @MILLISECONDS, or a UTC time
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true, group = "target")]
    to: Option<Start>,
    /// By how much from where the group is, forward or, with a minus sign, back
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true, group = "target")]
    by: Option<i64>,
    /// Do it
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
pub struct DeleteArgs {
    #[arg(required = true)]
    groups: Vec<String>,
    /// Do not fail on a group that is not there
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    remote: Remote,
}

pub fn run(command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::List(args) => list(args),
        GroupCommand::Describe(args) => describe(args),
        GroupCommand::ResetOffsets(args) => reset(args),
        GroupCommand::Delete(args) => delete(args),
    }
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let mut groups = client.list_groups()?;
    let wanted =
        |state: &str| args.states.is_empty() || args.states.iter().any(|s| s.eq_ignore_ascii_case(state));
    groups.retain(|g| wanted(&g.state));
    let mut table = Table::new(&["GROUP", "STATE", "PROTOCOL TYPE"]);
    for group in &groups {
        table.row([group.group.clone(), group.state.clone(), or_dash(&group.protocol_type)]);
    }
    let value: Vec<Value> = groups
        .iter()
        .map(|g| json!({"group": g.group, "state": g.state, "protocol_type": g.protocol_type}))
        .collect();
    let text = if groups.is_empty() { "No groups.\n".to_owned() } else { table.render() };
    say(&args.remote, &text, &json!(value))
}

/// A partition that a group has to do with.
struct Row {
    at: TopicPartition,
    committed: Option<i64>,
    end: Option<i64>,
    /// Index of the member that reads it.
    member: Option<usize>,
}

impl Row {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

fn describe(args: DescribeArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let info = existing(&mut client, &args.group)?;
    let offsets = client.group_offsets(&args.group)?;
    let rows = rows(&mut client, &info, &offsets);
    let lag: i64 = rows.iter().filter_map(Row::lag).sum();
    let mut text = heading(&info, lag);
    if !rows.is_empty() {
        let mut table = Table::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"]);
        for row in &rows {
            let member = row.member.map_or("-".to_owned(), |i| name_of(&info, i));
            let (topic, partition) = &row.at;
            let numbers = [row.committed, row.end, row.lag()].map(number);
            let [committed, end, lag] = numbers;
            table.row([topic.clone(), partition.to_string(), committed, end, lag, member]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    if !info.members.is_empty() {
        let mut table = Table::new(&["MEMBER", "HOST", "PARTITIONS", "ID"]);
        for (i, member) in info.members.iter().enumerate() {
            let count = member.assigned.as_ref().map_or("-".to_owned(), |list| list.len().to_string());
            table.row([name_of(&info, i), member.host.clone(), count, member.id.clone()]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    say(&args.remote, &text, &described(&info, &rows, lag))
}

fn heading(info: &GroupInfo, lag: i64) -> String {
    let members = match info.members.len() {
        1 => "1 member".to_owned(),
        n => format!("{n} members"),
    };
    let protocol = if info.protocol.is_empty() { String::new() } else { format!(", {}", info.protocol) };
    let line = format!("{}: {}, {members}{protocol}, lag {lag}", info.group, info.state);
    printable(&line).into_owned() + "\n"
}

/// What a person would call a member: its instance, or what its client calls itself.
fn name_of(info: &GroupInfo, member: usize) -> String {
    let member = &info.members[member];
    member.instance.clone().unwrap_or_else(|| member.client_id.clone())
}

fn described(info: &GroupInfo, rows: &[Row], lag: i64) -> Value {
    let members: Vec<Value> = info
        .members
        .iter()
        .map(|m| {
            let assigned = m.assigned.as_ref().map(|list| list.iter().map(|at| json!({"topic": at.0, "partition": at.1})).collect::<Vec<_>>());
            json!({
                "id": m.id, "instance": m.instance, "client_id": m.client_id, "host": m.host, "assigned": assigned,
            })
        })
        .collect();
    let partitions: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "topic": row.at.0, "partition": row.at.1, "committed": row.committed, "end": row.end,
                "lag": row.lag(), "member": row.member.map(|i| info.members[i].id.clone()),
            })
        })
        .collect();
    json!({
        "group": info.group, "state": info.state, "protocol_type": info.protocol_type, "protocol": info.protocol,
        "lag": lag, "members": members, "partitions": partitions,
    })
}

/// Every partition that was committed or is assigned.
fn rows(client: &mut Client, info: &GroupInfo, offsets: &[GroupOffset]) -> Vec<Row> {
    let mut readers: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    for (i, member) in info.members.iter().enumerate() {
        for at in member.assigned.iter().flatten() {
            readers.insert(at.clone(), i);
        }
    }
    let committed: BTreeMap<&TopicPartition, i64> = offsets.iter().map(|o| (&o.at, o.offset)).collect();
    let all: BTreeSet<TopicPartition> =
        committed.keys().map(|at| (*at).clone()).chain(readers.keys().cloned()).collect();
    let mut topics: BTreeMap<String, Option<TopicInfo>> = BTreeMap::new();
    let mut rows = Vec::with_capacity(all.len());
    for at in all {
        let topic = topics.entry(at.0.clone()).or_insert_with(|| client.topic(&at.0, false).ok()).clone();
        let end = topic
            .and_then(|topic| client.offset(&topic, at.1, OffsetAt::End, Isolation::ReadUncommitted).ok());
        rows.push(Row { committed: committed.get(&at).copied(), end, member: readers.get(&at).copied(), at });
    }
    rows
}

/// An offset that is to change.
struct Move {
    at: TopicPartition,
    from: Option<i64>,
    to: i64,
}

fn reset(args: ResetArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let info = client.describe_group(&args.group)?;
    if let Some(info) = info.filter(|info| !info.members.is_empty()) {
        return Err(Failure::Usage(format!(
            "group {} has members ({}): stop them first, or they would go on from where they are",
            printable(&info.group),
            printable(&info.state)
        )));
    }
    let committed: BTreeMap<TopicPartition, i64> =
        client.group_offsets(&args.group)?.into_iter().map(|o| (o.at, o.offset)).collect();
    let mut moves = Vec::new();
    for at in wanted(&mut client, &args, &committed)? {
        let from = committed.get(&at).copied();
        let to = target(&mut client, &args, &at, from)?;
        moves.push(Move { at, from, to });
    }
    if args.execute {
        let offsets: Vec<(TopicPartition, i64)> = moves.iter().map(|m| (m.at.clone(), m.to)).collect();
        client.commit_offsets(&args.group, Committer::NOBODY, &offsets)?;
    }
    let mut table = Table::new(&["TOPIC", "PARTITION", "FROM", "TO"]);
    for m in &moves {
        table.row([m.at.0.clone(), m.at.1.to_string(), number(m.from), m.to.to_string()]);
    }
    let mut text = table.render();
    if !args.execute {
        text.push_str("\nNothing was changed: add --execute to do it.\n");
    }
    let value: Vec<Value> = moves
        .iter()
        .map(|m| json!({"topic": m.at.0, "partition": m.at.1, "from": m.from, "to": m.to}))
        .collect();
    say(&args.remote, &text, &json!({"group": args.group, "executed": args.execute, "offsets": value}))
}

/// The partitions that are to be reset.
fn wanted(
    client: &mut Client,
    args: &ResetArgs,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<TopicPartition>, Failure> {
    if args.topics.is_empty() {
        if committed.is_empty() {
            let why = format!("group {} has committed nothing: name a topic with --topic", args.group);
            return Err(Failure::Usage(why));
        }
        return Ok(committed.keys().cloned().collect());
    }
    let mut wanted = BTreeSet::new();
    for named in &args.topics {
        let (name, partitions) = named.split_once(':').map_or((named.as_str(), None), |(t, p)| (t, Some(p)));
        let topic = client.topic(name, false).map_err(|e| Failure::about_topic(client, e))?;
        match partitions {
            None => wanted.extend(topic.partitions.iter().map(|p| (topic.name.clone(), p.index))),
            Some(list) => {
                for text in list.split(',') {
                    let index =
                        text.trim().parse().ok().filter(|i| topic.partitions.iter().any(|p| p.index == *i));
                    let last = topic.partitions.len() as i32 - 1;
                    let index = index.ok_or_else(|| {
                        Failure::Usage(format!(
                            "{text:?} is not a partition of {name}, which has 0 to {last}"
                        ))
                    })?;
                    wanted.insert((topic.name.clone(), index));
                }
            }
        }
    }
    Ok(wanted.into_iter().collect())
}

/// Where an offset is to go: never outside of what the partition holds.
fn target(
    client: &mut Client,
    args: &ResetArgs,
    at: &TopicPartition,
    from: Option<i64>,
) -> Result<i64, Failure> {
    let topic = client.known_topic(&at.0, false).map_err(|e| Failure::about_topic(client, e))?;
    let mut find = |place| client.offset(&topic, at.1, place, Isolation::ReadUncommitted);
    let (first, end) = (find(OffsetAt::Beginning)?, find(OffsetAt::End)?);
    let to = match (args.to, args.by) {
        (Some(Start::At(place)), _) => find(place)?,
        (Some(Start::Offset(offset)), _) => offset,
        (Some(Start::Last(n)), _) => end.saturating_sub(n),
        (None, Some(by)) => {
            let from = from.ok_or_else(|| {
                Failure::Usage(format!("the group has committed nothing for {}:{}: use --to", at.0, at.1))
            })?;
            from.saturating_add(by)
        }
        (None, None) => return Err(Failure::Usage("say where with --to or --by".to_owned())),
    };
    Ok(to.clamp(first, end))
}

fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    let mut deleted = Vec::new();
    for group in &args.groups {
        match client.delete_group(group) {
            Ok(()) => deleted.push(group.clone()),
            Err(error) if error.is_missing_group() && args.if_exists => {}
            Err(error) if error.is_missing_group() => return Err(near(&mut client, group, error)),
            Err(error) => return Err(error.into()),
        }
    }
    let text: String = deleted.iter().map(|name| format!("Deleted group {}.\n", printable(name))).collect();
    say(&args.remote, &text, &json!({"deleted": deleted}))
}

fn existing(client: &mut Client, group: &str) -> Result<GroupInfo, Failure> {
    match client.describe_group(group)? {
        Some(info) => Ok(info),
        None => Err(near(client, group, ClientError::UnknownGroup(group.to_owned()))),
    }
}

/// Adds the group whose name comes near.
fn near(client: &mut Client, group: &str, error: ClientError) -> Failure {
    let groups = client.list_groups().unwrap_or_default();
    let advice = match closest(group, groups.iter().map(|g| g.group.as_str())) {
        Some(near) => format!("Did you mean {near}?"),
        None => "`weir group list` shows what there is.".to_owned(),
    };
    Failure::Advised { error, advice }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn number(value: Option<i64>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn say(remote: &Remote, text: &str, value: &Value) -> Result<(), Failure> {
    let written = if remote.json { print_json(value) } else { print(text) };
    written.map_err(Failure::stdout)
}
