//! `weir cluster recover`: for when the majority of voters is lost for good. One survivor, stopped, goes on alone; the others follow
//! it with `--follow`. The only command that may undo what was committed, and so it asks for the cluster's id.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::clock::unix_ms;
use crate::cli::failure::Failure;
use crate::cli::offline::take_lock;
use crate::cli::output::{print, print_json};
use crate::config::HostPort;
use crate::control::join::{self, Found};
use crate::metadata::quorum::{NEVER, Voter};
use crate::metadata::recover::{Survivor, follow, go_alone, keep};
use crate::metadata::{MetadataError, new_id};
use crate::peer::Whom;

/// How long the broker that went on may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub struct RecoverArgs {
    /// The data directory of a broker that survived, and is stopped
    #[arg(long, env = "WEIR_DATA_DIR", default_value = "./weir-data")]
    data_dir: PathBuf,
    /// Follow the broker that went on, at the address that Kafka clients use: for every other one that survived
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    follow: Option<HostPort>,
    /// The cluster's id, as the word that this is meant; asked for otherwise
    #[arg(long, value_name = "ID")]
    cluster_id: Option<String>,
    /// Print JSON, for programs; without --cluster-id, what there is
    #[arg(long)]
    json: bool,
}

fn host_port(text: &str) -> Result<HostPort, String> {
    text.parse().map_err(|()| format!("{text} is no HOST:PORT"))
}

fn storage(error: &MetadataError) -> Failure {
    Failure::Storage(error.to_string())
}

pub fn run(args: &RecoverArgs) -> Result<(), Failure> {
    let _lock = take_lock(&args.data_dir)?;
    let meta = args.data_dir.join("meta");
    let survivor = Survivor::of(&meta, None).map_err(|e| storage(&e))?;
    let survivor = survivor.filter(|survivor| !survivor.cluster.is_empty());
    let Some(survivor) = survivor else {
        return Err(Failure::Storage(format!("{} has no metadata of a cluster", meta.display())));
    };
    match &args.follow {
        None => alone(args, &meta, &survivor),
        Some(address) => behind(args, &meta, &survivor, address),
    }
}

fn ids(voters: &[Vec<Voter>]) -> Vec<i32> {
    let mut ids: Vec<i32> = voters.iter().flatten().map(|voter| voter.node).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn facts(survivor: &Survivor) -> Value {
    json!({
        "broker": survivor.me.node,
        "cluster": survivor.cluster,
        "epoch": survivor.epoch,
        "offset": survivor.offset,
        "committed": survivor.committed,
        "voters": ids(&survivor.membership.voters),
    })
}

fn has(survivor: &Survivor) -> String {
    let Survivor { me, cluster, epoch, offset, committed, .. } = survivor;
    let node = me.node;
    format!(
        "broker {node} of cluster {cluster} has the metadata up to offset {offset}, in epoch {epoch}; up to offset {committed} \
         it knows it to be committed\n"
    )
}

/// This node decides alone from now on.
fn alone(args: &RecoverArgs, meta: &Path, survivor: &Survivor) -> Result<(), Failure> {
    let node = survivor.me.node;
    if survivor.is_blank() {
        let why = format!("broker {node} has none of the cluster's metadata: recover on one that has");
        return Err(Failure::Usage(why));
    }
    if survivor.is_only_voter() {
        let why = format!("broker {node} is the only one that votes: it needs nobody, start it");
        return Err(Failure::Usage(why));
    }
    if !args.json {
        let voters = ids(&survivor.membership.voters);
        let text = format!(
            "{}the voters were {voters:?}: from now on broker {node} alone decides, and goes on from offset {}\n\
             What others committed after that is lost: topics, configurations, group memberships, and who was in sync. Where\n\
             broker {node} does not know that it fell out of sync, records that were acknowledged are lost with that. Of several\n\
             survivors take the one with the highest epoch, of these the one with the highest offset: this command says them\n\
             before it asks.\n",
            has(survivor),
            survivor.offset
        );
        print(&text).map_err(Failure::stdout)?;
    }
    if !is_meant(args, survivor)? {
        return print_json(&facts(survivor)).map_err(Failure::stdout);
    }
    let kept = put_by(args, meta)?;
    let recovered = go_alone(meta, survivor, new_id().0).map_err(|e| storage(&e))?;
    if args.json {
        let mut said = facts(survivor);
        said["recovered"] = json!({ "epoch": recovered.epoch, "offset": recovered.offset, "kept": kept });
        return print_json(&said).map_err(Failure::stdout);
    }
    let text = format!(
        "done: broker {node} decides alone, from epoch {} and offset {} on, which none of the others had reached\n\
         What it had is in {}. Start it as before. Then, on every other broker that survived, stopped:\n  \
         weir cluster recover --follow HOST:PORT --data-dir DIR\n\
         with the address of this one. Who is lost for good leaves with `weir cluster remove ID`.\n",
        recovered.epoch,
        recovered.offset,
        kept.display()
    );
    print(&text).map_err(Failure::stdout)
}

/// This node is given the metadata of one that went on.
fn behind(args: &RecoverArgs, meta: &Path, survivor: &Survivor, address: &HostPort) -> Result<(), Failure> {
    let (node, found) = (survivor.me.node, find(address)?);
    let refuse = |why: String| Err(Failure::Usage(why));
    if found.cluster != survivor.cluster {
        let (ours, theirs) = (&survivor.cluster, &found.cluster);
        return refuse(format!("at {address} is cluster {theirs}, and broker {node} is of cluster {ours}"));
    }
    if found.recovery == NEVER {
        return refuse(format!("the cluster at {address} was never recovered: start broker {node} as it is"));
    }
    if found.recovery == survivor.recovery {
        return refuse(format!("broker {node} follows that recovery already: start it"));
    }
    if !args.json {
        let text = format!(
            "{}all of it is set aside: broker {node} is given the metadata of the cluster at {address} when it starts. Topics that\n\
             nobody has there are set aside, too; of the others, records that their leaders do not have are cut off.\n",
            has(survivor)
        );
        print(&text).map_err(Failure::stdout)?;
    }
    if !is_meant(args, survivor)? {
        return print_json(&facts(survivor)).map_err(Failure::stdout);
    }
    let kept = put_by(args, meta)?;
    follow(meta, survivor, found.recovery).map_err(|e| storage(&e))?;
    if args.json {
        let mut said = facts(survivor);
        said["follows"] = json!({ "address": address.to_string(), "kept": kept });
        return print_json(&said).map_err(Failure::stdout);
    }
    let kept = kept.display();
    let text = format!("done: what it had is in {kept}. Start it as before, with --join {address}.\n");
    print(&text).map_err(Failure::stdout)
}

fn find(address: &HostPort) -> Result<Found, Failure> {
    let whom = Whom { host: address.host.clone(), port: address.port };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Io { what: "cannot open sockets", error })?;
    let asked = async { tokio::time::timeout(ANSWER, join::find(&whom)).await };
    match tokio::task::LocalSet::new().block_on(&runtime, asked) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(why)) => Err(Failure::Storage(format!("no broker to follow: {why}"))),
        Err(_) => Err(Failure::Storage(format!("no broker to follow: {address} does not answer"))),
    }
}

/// Whether the cluster's id was said, here or there. A program that has not said it is only told what there is.
fn is_meant(args: &RecoverArgs, survivor: &Survivor) -> Result<bool, Failure> {
    let cluster = &survivor.cluster;
    let said = match &args.cluster_id {
        Some(said) => said.clone(),
        None if args.json => return Ok(false),
        None if io::stdin().is_terminal() => ask()?,
        None => {
            let why = format!("nothing was done: to go on, say the cluster's id, --cluster-id {cluster}");
            return Err(Failure::Usage(why));
        }
    };
    match said.trim() == cluster {
        true => Ok(true),
        false => Err(Failure::Usage(format!("nothing was done: the cluster's id is {cluster}"))),
    }
}

fn ask() -> Result<String, Failure> {
    let mut said = String::new();
    let mut out = io::stdout().lock();
    let asked = out.write_all(b"Type the cluster's id to go on: ").and_then(|()| out.flush());
    asked.map_err(Failure::stdout)?;
    let read = io::stdin().read_line(&mut said);
    read.map_err(|error| Failure::Io { what: "cannot read standard input", error })?;
    Ok(said)
}

/// Keeps what there is.
fn put_by(args: &RecoverArgs, meta: &Path) -> Result<PathBuf, Failure> {
    keep(meta, &args.data_dir.join("set-aside"), unix_ms()).map_err(|e| storage(&e))
}
