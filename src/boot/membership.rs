//! As which broker this process comes, and to which cluster: settled before anything is served.
//!
//! | data directory | `--join` | what happens |
//! |---|---|---|
//! | has metadata | any | it comes back as who it was; a cluster that answers there has to be its own |
//! | is new | none | it begins a cluster of one |
//! | is new | an address | any broker there leads to the controller, which gives a node id; it is kept in `meta/node` |

use std::path::Path;
use std::time::Duration;

use super::directory::{belongs, metadata_error};
use super::disk;
use super::errors::StartError;
use crate::config::Config;
use crate::control::join::{self, JoinError};
use crate::controller::{Registration, for_all, register};
use crate::metadata::quorum::{NEVER, QuorumState, Recovery, Vote};
use crate::metadata::{MetadataError, Node, Store, new_id};
use crate::model::settings::BrokerSettings;
use crate::model::{BrokerEpoch, BrokerId};
use crate::peer::Whom;

/// The node id of the first broker of a cluster, where nobody has given it another.
const FIRST: BrokerId = 1;
/// How long a controller is looked for by a broker that would join.
const JOINING: Duration = Duration::from_secs(30);
/// How long a broker that is a member already looks at the address that it was given besides.
const GLANCE: Duration = Duration::from_millis(500);

pub(super) struct Member {
    pub store: Store,
    pub registration: Registration,
    /// Of this life, where it has registered already.
    pub epoch: Option<BrokerEpoch>,
    /// Where brokers are, of whom the metadata here does not tell yet.
    pub told: Vec<(BrokerId, Whom)>,
}

pub(super) async fn settle(config: &Config, settings: &mut BrokerSettings) -> Result<Member, StartError> {
    let meta = config.data_dir.join("meta");
    let node = Node::read(&meta).map_err(|e| metadata_error(&e))?;
    let image = Store::inspect(&meta).map_err(|e| metadata_error(&e))?;
    let id = node_id(config, node.as_ref())?;
    let mut told = Vec::new();
    match (&image, &node, &config.join) {
        (None, None, Some(address)) => {
            belongs(&config.data_dir, settings, None)?;
            return join_cluster(config, settings, &meta, &whom(address)).await;
        }
        (Some(image), _, Some(address)) if !image.cluster_id.is_empty() => {
            same_cluster(&whom(address), &image.cluster_id).await?;
        }
        // It has joined, or followed a recovery, and was given nothing yet.
        (_, Some(node), Some(address)) => told = same_cluster(&whom(address), &node.cluster).await?,
        _ => {}
    }
    settings.broker_id = id.unwrap_or(FIRST);
    let mut registration = Registration::of(settings, config.shards, [0; 16], new_id().0);
    if let Some(node) = node {
        let store = disk::with_ballast(&config.data_dir, || Store::join(&meta, node.id));
        let store = store.map_err(|e| metadata_error(&e))?;
        (registration.directory, registration.cluster) = (store.me().directory, node.cluster);
        return Ok(Member { store, registration, epoch: None, told });
    }
    begin_or_return(config, settings, &meta, registration)
}

/// A broker that began its cluster; others may have joined it since.
fn begin_or_return(
    config: &Config,
    settings: &BrokerSettings,
    meta: &Path,
    mut registration: Registration,
) -> Result<Member, StartError> {
    let image = Store::inspect(meta).map_err(|e| metadata_error(&e))?;
    let open = || Store::open(meta, settings.broker_id);
    if image.is_none() {
        belongs(&config.data_dir, settings, None)?;
    }
    let mut store = disk::with_ballast(&config.data_dir, open).map_err(|e| metadata_error(&e))?;
    registration.directory = store.me().directory;
    registration.cluster = store.image().cluster_id.to_string();
    if !store.is_alone() {
        return Ok(Member { store, registration, epoch: None, told: Vec::new() });
    }
    if image.is_some() {
        belongs(&config.data_dir, settings, Some(store.image()))?;
    }
    let registered =
        disk::with_ballast(&config.data_dir, || register_alone(&mut store, settings, &registration));
    let epoch = registered.map_err(|e| metadata_error(&e))?;
    Ok(Member { store, registration, epoch: Some(epoch), told: Vec::new() })
}

/// Each start is a life of its own, which the metadata knows before anything is served.
fn register_alone(
    store: &mut Store,
    settings: &BrokerSettings,
    registration: &Registration,
) -> Result<BrokerEpoch, MetadataError> {
    let offset = store.image().version + 1;
    let mut records = register(store.image(), offset, registration);
    records.extend(for_all(store.image(), settings));
    store.commit(vec![records])?;
    store.trim();
    Ok(BrokerEpoch(offset as i64))
}

fn whom(address: &crate::config::HostPort) -> Whom {
    Whom { host: address.host.clone(), port: address.port }
}

/// The id that was given or kept; `None` leaves it to whoever gives ids.
fn node_id(config: &Config, node: Option<&Node>) -> Result<Option<BrokerId>, StartError> {
    match (config.broker_id, node) {
        (Some(given), Some(node)) if given != node.id => Err(StartError::new(
            format!("--broker-id is {given}, and this data directory is broker {}'s", node.id),
            "Leave --broker-id out, or start on the data directory of that broker.",
        )),
        (given, node) => Ok(node.map(|node| node.id).or(given)),
    }
}

/// A member of a cluster is started with the address of a broker, which may be dead, but not of another cluster's. The brokers that
/// this one tells of.
async fn same_cluster(address: &Whom, own: &str) -> Result<Vec<(BrokerId, Whom)>, StartError> {
    match tokio::time::timeout(GLANCE, join::find(address)).await {
        Ok(Ok(found)) if found.cluster != own => Err(StartError::new(
            format!("--join leads to cluster {}, and this data directory is of cluster {own}", found.cluster),
            "Start without --join to go on in its own cluster, or on an empty --data-dir to join the other. What two \
             clusters hold is never put together.",
        )),
        Ok(Err(JoinError::NoBroker(why))) => Err(wrong_address(&why)),
        Ok(Ok(found)) => Ok(found.brokers),
        _ => Ok(Vec::new()),
    }
}

async fn join_cluster(
    config: &Config,
    settings: &mut BrokerSettings,
    meta: &Path,
    address: &Whom,
) -> Result<Member, StartError> {
    let found = join::find(address).await.map_err(|e| refused(&e, address))?;
    let made = disk::with_ballast(&config.data_dir, || directory_id(meta, found.recovery));
    let directory = made.map_err(|e| metadata_error(&e))?;
    let mut registration = Registration::of(settings, config.shards, directory, new_id().0);
    registration.cluster.clone_from(&found.cluster);
    registration.id = config.broker_id;
    let cluster = found.cluster.clone();
    log::info!("joining cluster {cluster} by {address}");
    let joined = join::register(address, found, registration.clone(), JOINING).await;
    let (id, epoch) = joined.map_err(|e| refused(&e, address))?;
    let node = Node { id, cluster };
    let store = disk::with_ballast(&config.data_dir, || {
        node.write(meta)?;
        Store::join(meta, id)
    });
    let store = store.map_err(|e| metadata_error(&e))?;
    (settings.broker_id, registration.id) = (id, Some(id));
    log::info!("broker {id} of cluster {}", node.cluster);
    Ok(Member { store, registration, epoch: Some(epoch), told: Vec::new() })
}

/// The id of the metadata's directory, drawn if it has none. It is of the cluster as a recovery has left it.
fn directory_id(meta: &Path, recovery: Recovery) -> Result<[u8; 16], MetadataError> {
    if let Some(mut state) = QuorumState::open(meta)? {
        if state.recovery() != recovery {
            state.follow(recovery, Vote::default())?;
        }
        return Ok(state.directory());
    }
    crate::rt::fs::create_dir_all_durable(meta).map_err(|source| MetadataError::Io {
        doing: "create",
        path: meta.to_path_buf(),
        source,
    })?;
    let mut state = QuorumState::create(meta, new_id().0, Vote::default())?;
    if recovery != NEVER {
        state.follow(recovery, Vote::default())?;
    }
    Ok(state.directory())
}

fn wrong_address(why: &str) -> StartError {
    StartError::new(
        format!("--join: {why}"),
        "--join takes the address that Kafka clients use, of any broker of the cluster (its --listen).",
    )
}

fn refused(error: &JoinError, address: &Whom) -> StartError {
    match error {
        JoinError::NoBroker(why) => wrong_address(why),
        JoinError::Unreachable(why) => StartError::new(
            format!("--join: no broker answers at {address}: {why}"),
            "Name the address of a broker that runs: the one that Kafka clients use (its --listen).",
        ),
        JoinError::Refused(why) => StartError::new(
            format!("the cluster does not take this broker: {why}"),
            "Nothing was changed in the cluster.",
        ),
        JoinError::NoController(_) => StartError::new(
            format!("--join: {error}"),
            "A cluster changes only while most of its voters run: start those first.",
        ),
    }
}
