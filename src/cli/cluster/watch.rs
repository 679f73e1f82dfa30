//! `weir cluster watch`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::status;
use crate::cli::Remote;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::{self, complain};
use crate::client::{Client, Options};
use crate::model::report::{Change, Changes, What};
use crate::model::utc::UtcMillis;

/// How long a broker is asked to wait for a change.
const WAIT_MS: u32 = 500;
/// How long to wait before another broker is asked.
const REST: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub struct WatchArgs {
    #[command(flatten)]
    remote: Remote,
    /// End after so many changes
    #[arg(short = 'n', long)]
    count: Option<u64>,
}

pub fn run(args: &WatchArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::watch()?;
    let mut client = args.remote.connect()?;
    let (mut known, first) = begin(&mut client, args)?;
    let (mut source, mut last) = (None, first);
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 && !interrupt.is_asked() {
        let changes = match client.changes(last, WAIT_MS) {
            Ok(Some(changes)) => changes,
            Ok(None) => {
                let why = "the broker does not tell what changes: it is none of Weir, or this user may not describe the cluster";
                return Err(Failure::Usage(why.into()));
            }
            Err(why) => {
                complain(&format!("weir: {why}: looking for another broker"));
                match elsewhere(&args.remote, &known, &interrupt) {
                    Some(other) => (client, source, last) = (other, None, None),
                    None => return Ok(()),
                }
                if let Ok((others, first)) = begin(&mut client, args) {
                    (known, last) = (others, first);
                }
                continue;
            }
        };
        if changes.missed || source.as_ref().is_some_and(|source| *source != changes.source) {
            complain("weir: some changes were missed");
        }
        let Changes { source: from, last: to, changes, .. } = changes;
        (source, last) = (Some(from), Some(to));
        for change in changes.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            show(&change, args.remote.json)?;
            left -= 1;
        }
    }
    Ok(())
}

/// Says how things are to begin with; the addresses of all brokers, and the last change before.
fn begin(client: &mut Client, args: &WatchArgs) -> Result<(Vec<String>, Option<u64>), Failure> {
    // From here on nothing is missed.
    let first = client.changes(None, 0)?.map(|changes| changes.last);
    let cluster = client.cluster()?;
    if !args.remote.json {
        let quorum = client.quorum();
        let mut text = String::new();
        for node in &cluster.nodes {
            text += &format!("broker {} at {} is {}\n", node.id, node.address, status::state(node));
        }
        text += &match quorum {
            Ok(quorum) => {
                let voters: Vec<i32> = quorum.members.iter().filter(|m| m.votes).map(|m| m.id).collect();
                format!(
                    "broker {} is the controller in epoch {}; voters {voters:?}\n",
                    quorum.leader, quorum.epoch
                )
            }
            Err(error) => format!("no controller is known ({error})\n"),
        };
        output::print(&text).map_err(Failure::stdout)?;
    }
    Ok((cluster.nodes.into_iter().map(|node| node.address).collect(), first))
}

/// Whichever broker answers next; `None` where the user has enough of it.
fn elsewhere(remote: &Remote, known: &[String], interrupt: &Interrupt) -> Option<Client> {
    while !interrupt.is_asked() {
        for address in known {
            if let Ok(client) = Client::connect(address, Options::default()) {
                return Some(client);
            }
        }
        if let Ok(client) = remote.connect() {
            return Some(client);
        }
        std::thread::sleep(REST);
    }
    None
}

fn show(change: &Change, as_json: bool) -> Result<(), Failure> {
    let text = match as_json {
        true => output::quiet_json(&format!("{}\n", json!(change))),
        false => {
            let at = UtcMillis(u64::try_from(change.at_ms).unwrap_or(0));
            output::lines(&format!("{at}  {}\n", sentence(&change.what)))
        }
    };
    output::print_raw(text.as_bytes()).map_err(Failure::stdout)
}

fn name(broker: Option<i32>) -> String {
    broker.map_or_else(|| "nobody".into(), |id| format!("broker {id}"))
}

fn sentence(what: &What) -> String {
    match what {
        What::Controller { broker: Some(id), epoch } => {
            format!("broker {id} is the controller in epoch {epoch}")
        }
        What::Controller { broker: None, epoch } => format!("no controller is known in epoch {epoch}"),
        What::Quorum { voters, observers } => {
            format!("on the metadata agree {voters:?}, and {observers:?} follow it")
        }
        What::Registered { broker, epoch, address } => {
            format!("broker {broker} registered at {address}, epoch {epoch}")
        }
        What::Unregistered { broker } => format!("broker {broker} is no broker of the cluster any more"),
        What::Fenced { broker } => format!("broker {broker} is fenced"),
        What::Unfenced { broker } => format!("broker {broker} serves"),
        What::Stopping { broker } => format!("broker {broker} is about to stop"),
        What::Draining { broker, is: true } => format!("broker {broker} is drained: it gets no replicas"),
        What::Draining { broker, is: false } => format!("broker {broker} is drained no more"),
        What::TopicCreated { topic, partitions } => {
            format!("topic {topic} is made, with {partitions} partitions")
        }
        What::TopicDeleted { topic } => format!("topic {topic} is deleted"),
        What::Leader { topic, partition, was, leader, epoch } => {
            let (was, leader) = (name(*was), name(*leader));
            format!("{topic}-{partition}: {leader} leads in epoch {epoch}, before it was {was}")
        }
        What::InSync { topic, partition, was, isr } => {
            format!("{topic}-{partition}: in sync are {isr:?}, before it were {was:?}")
        }
        What::Replicas { topic, partition, replicas, adding, removing } => {
            let moves = match (adding.is_empty(), removing.is_empty()) {
                (true, true) => String::new(),
                _ => format!(": {adding:?} are to come, {removing:?} to go"),
            };
            format!("{topic}-{partition}: {replicas:?} hold it{moves}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_a_sentence_and_its_json_is_read_back() {
        let leader = What::Leader { topic: "t".into(), partition: 3, was: Some(1), leader: None, epoch: 7 };
        assert_eq!(sentence(&leader), "t-3: nobody leads in epoch 7, before it was broker 1");
        let change = Change { number: 2, at_ms: 5, offset: 9, what: leader };
        let text = json!(change);
        assert_eq!((text["change"].as_str(), text["epoch"].as_i64()), (Some("leader"), Some(7)));
        assert_eq!(serde_json::from_value::<Change>(text).unwrap(), change);
        let moved = What::Replicas {
            topic: "t".into(),
            partition: 0,
            replicas: vec![1, 2],
            adding: vec![2],
            removing: vec![],
        };
        assert_eq!(sentence(&moved), "t-0: [1, 2] hold it: [2] are to come, [] to go");
    }
}
