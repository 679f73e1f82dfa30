//! `weir cluster voters`: who votes on the metadata, and who is to.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::Remote;
use crate::cli::failure::Failure;
use crate::cli::output::{Table, print, print_json};
use crate::client::{Client, Quorum, QuorumMember};
use crate::model::TopicId;

#[derive(Args, Debug)]
pub struct VotersArgs {
    /// What is to become of it; nothing shows who votes
    #[arg(value_enum)]
    wish: Option<Wish>,
    /// The broker's id
    #[arg(required_if_eq_any([("wish", "add"), ("wish", "remove")]))]
    id: Option<i32>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Wish {
    /// Have a broker vote, and the controller choose nobody by itself
    Add,
    /// Have a broker vote no more, and the controller choose nobody by itself; it goes on serving
    Remove,
    /// Leave it to the controller again
    Auto,
}

pub fn run(args: &VotersArgs) -> Result<(), Failure> {
    let mut client = args.remote.connect()?;
    if let Some(wish) = args.wish {
        carry_out(&mut client, wish, args.id.unwrap_or(-1))?;
    }
    let quorum = client.quorum()?;
    match args.remote.json {
        true => print_json(&to_json(&quorum)),
        false => print(&to_text(&quorum)),
    }
    .map_err(Failure::stdout)
}

fn carry_out(client: &mut Client, wish: Wish, id: i32) -> Result<(), Failure> {
    let (quorum, cluster) = (client.quorum()?, client.cluster()?.id);
    // Of a broker that came back with another disk there are two for a while: one votes, one does not.
    let member = |votes: bool| {
        let of_id = quorum.members.iter().filter(|member| member.id == id);
        let found = of_id.max_by_key(|member| member.votes == votes);
        let why =
            || format!("broker {id} does not follow the metadata; `weir cluster status` shows who does");
        found.cloned().ok_or_else(|| Failure::Usage(why()))
    };
    match wish {
        Wish::Add => client.add_voter(&cluster, &member(false)?)?,
        Wish::Remove => client.remove_voter(&cluster, &member(true)?)?,
        Wish::Auto => client.choose_voters()?,
    }
    Ok(())
}

/// As Kafka's tools write it.
fn text(directory: &[u8; 16]) -> String {
    TopicId(*directory).to_string()
}

fn to_text(quorum: &Quorum) -> String {
    let mut table = Table::new(&["BROKER", "VOTES", "LEADS", "END", "DIRECTORY"]);
    for QuorumMember { id, directory, votes, end, .. } in &quorum.members {
        let yes = |is: bool| if is { "yes" } else { "-" }.to_owned();
        let end = if *end < 0 { "?".to_owned() } else { end.to_string() };
        table.row([id.to_string(), yes(*votes), yes(*id == quorum.leader && *votes), end, text(directory)]);
    }
    let who = match quorum.by_hand {
        true => "They were chosen by hand: `weir cluster voters auto` leaves it to the controller again.",
        false => "The controller chooses them.",
    };
    format!("{}{who}\n", table.render())
}

fn to_json(quorum: &Quorum) -> Value {
    let member = |member: &QuorumMember| {
        json!({
            "id": member.id,
            "directory": text(&member.directory),
            "votes": member.votes,
            "end": member.end,
        })
    };
    json!({
        "leader": quorum.leader,
        "epoch": quorum.epoch,
        "by_hand": quorum.by_hand,
        "members": quorum.members.iter().map(member).collect::<Vec<_>>(),
    })
}
