//! `weir cluster status`.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Remote;
use crate::cli::clock::unix_ms;
use crate::cli::failure::Failure;
use crate::cli::output::{Table, print, print_json};
use crate::client::{Client, ClientError, ClusterInfo, Moving, Node, Quorum, QuorumMember, TopicInfo};

#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    remote: Remote,
}

/// All that is asked of a cluster at one time.
struct Seen {
    cluster: ClusterInfo,
    /// Why there is none to be told of.
    quorum: Result<Quorum, ClientError>,
    topics: Vec<TopicInfo>,
    moving: Vec<Moving>,
}

pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    let seen = Seen::of(&mut args.remote.connect()?)?;
    let written = match args.remote.json {
        true => print_json(&seen.to_json()),
        false => print(&seen.to_text()),
    };
    written.map_err(Failure::stdout)
}

/// What one broker has of the partitions.
#[derive(Default)]
struct Share {
    leads: usize,
    holds: usize,
    behind: usize,
}

/// How the partitions are, all together.
#[derive(Default)]
struct Health {
    partitions: usize,
    behind: usize,
    leaderless: usize,
}

pub(super) fn state(node: &Node) -> &'static str {
    match &node.details {
        _ if node.fenced => "fenced",
        Some(details) if details.stopping => "stopping",
        Some(details) if details.draining => "draining",
        _ => "serving",
    }
}

impl Seen {
    fn of(client: &mut Client) -> Result<Self, Failure> {
        let cluster = client.cluster()?;
        let topics = client.topics()?;
        let quorum = client.quorum();
        // Only a controller knows.
        let moving = if quorum.is_ok() { client.moving()? } else { Vec::new() };
        Ok(Self { cluster, quorum, topics, moving })
    }

    fn share(&self, id: i32) -> Share {
        let mut share = Share::default();
        for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
            share.leads += usize::from(partition.leader == id);
            let holds = partition.replicas.contains(&id);
            share.holds += usize::from(holds);
            share.behind += usize::from(holds && !partition.in_sync.contains(&id));
        }
        share
    }

    fn health(&self) -> Health {
        let mut health = Health::default();
        for partition in self.topics.iter().flat_map(|topic| &topic.partitions) {
            health.partitions += 1;
            health.behind += usize::from(partition.in_sync.len() < partition.replicas.len());
            health.leaderless += usize::from(partition.leader < 0);
        }
        health
    }

    fn member(&self, id: i32) -> Option<&QuorumMember> {
        self.quorum.as_ref().ok()?.members.iter().find(|member| member.id == id)
    }

    fn role(&self, id: i32) -> &'static str {
        match (&self.quorum, self.member(id)) {
            (Ok(quorum), _) if quorum.leader == id => "controller",
            (_, Some(member)) if member.votes => "voter",
            (_, Some(_)) => "observer",
            (Ok(_), None) => "none",
            (Err(_), _) => "?",
        }
    }

    fn to_text(&self) -> String {
        let Self { cluster, quorum, topics, moving } = self;
        let mut text = format!("cluster {}, {} brokers: ", cluster.id, cluster.nodes.len());
        text += &match quorum {
            Ok(Quorum { leader, epoch, high_watermark, by_hand, .. }) => {
                let chosen = if *by_hand { "; voters were chosen by hand" } else { "" };
                format!(
                    "broker {leader} is the controller in epoch {epoch}, the metadata is at {high_watermark}{chosen}\n\n"
                )
            }
            Err(error) => format!("no controller is known, and nothing can be changed ({error})\n\n"),
        };
        let mut table =
            Table::new(&["BROKER", "ADDRESS", "STATE", "QUORUM", "LAG", "LEADS", "HOLDS", "BEHIND", "RACK"]);
        for node in &cluster.nodes {
            let Share { leads, holds, behind } = self.share(node.id);
            let rack = node.rack.clone().unwrap_or_else(|| "-".into());
            let (id, lag) = (node.id.to_string(), self.lag_text(node.id));
            let (state, role) = (state(node).to_owned(), self.role(node.id).to_owned());
            let counts = [leads, holds, behind].map(|count| count.to_string());
            let [leads, holds, behind] = counts;
            table.row([id, node.address.clone(), state, role, lag, leads, holds, behind, rack]);
        }
        text += &table.render();
        let Health { partitions, behind, leaderless } = self.health();
        text += &format!("\n{} topics with {partitions} partitions: ", topics.len());
        text += &match behind {
            0 => "all replicas are in sync".to_owned(),
            n => format!("{n} with replicas that are not in sync, {leaderless} that nobody leads"),
        };
        if !moving.is_empty() {
            text += &format!(", {} being moved", moving.len());
        }
        text + "\n"
    }

    /// Changes that a member has not, and for how long it has not had all.
    fn lag_text(&self, id: i32) -> String {
        let (Ok(quorum), Some(member)) = (&self.quorum, self.member(id)) else { return "-".into() };
        if member.end < 0 {
            return "?".into();
        }
        match quorum.high_watermark - member.end {
            ..=0 => "0".into(),
            lag if member.caught_up_ms > 0 => {
                format!("{lag} ({} s)", (unix_ms() - member.caught_up_ms).max(0) / 1000)
            }
            lag => lag.to_string(),
        }
    }

    fn to_json(&self) -> Value {
        let Self { cluster, quorum, topics, moving } = self;
        let broker = |node: &Node| {
            let Share { leads, holds, behind } = self.share(node.id);
            let member = self.member(node.id);
            json!({
                "id": node.id,
                "address": node.address,
                "rack": node.rack,
                "state": state(node),
                "details": node.details,
                "quorum": self.role(node.id),
                "metadata_end": member.map(|member| member.end),
                "heard_ms": member.map(|member| member.heard_ms),
                "caught_up_ms": member.map(|member| member.caught_up_ms),
                "leads": leads,
                "holds": holds,
                "behind": behind,
            })
        };
        let Health { partitions, behind, leaderless } = self.health();
        let moving: Vec<Value> = moving
            .iter()
            .map(|m| json!({"topic": m.topic, "partition": m.partition, "adding": m.adding, "removing": m.removing}))
            .collect();
        json!({
            "cluster": cluster.id,
            "controller": quorum.as_ref().map(|quorum| quorum.leader).ok(),
            "epoch": quorum.as_ref().map(|quorum| quorum.epoch).ok(),
            "metadata": quorum.as_ref().map(|quorum| quorum.high_watermark).ok(),
            "voters_by_hand": quorum.as_ref().map(|quorum| quorum.by_hand).ok(),
            "error": quorum.as_ref().err().map(ToString::to_string),
            "brokers": cluster.nodes.iter().map(broker).collect::<Vec<_>>(),
            "topics": topics.len(),
            "partitions": partitions,
            "not_in_sync": behind,
            "leaderless": leaderless,
            "moving": moving,
        })
    }
}
