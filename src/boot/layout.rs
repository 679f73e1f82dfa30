//! What is put in order in a data directory once its metadata is known, and before its log is opened. On threads that may wait for the
//! disk.

use std::sync::Arc;

use super::directory::{cannot_recover, log_error, metadata_error};
use super::disk;
use super::errors::StartError;
use super::ground::Ground;
use crate::log::{self as storage, LogSettings};
use crate::metadata::{Image, Resolver, recover};
use crate::model::BrokerSettings;
use crate::partition::recovered_snapshot;
use crate::rt;
use crate::shard::topics::View;

/// Moves partitions to their new owners if the number of shards has changed since the last start; clears away what
/// deleted topics have left. How many directories belong to no topic. On a thread that may wait for the disk.
pub(super) async fn relayout(
    ground: &Ground<'_>,
    settings: &Arc<BrokerSettings>,
    image: Arc<Image>,
) -> Result<usize, StartError> {
    let (data_dir, shards) = (ground.config.data_dir.clone(), ground.config.shards);
    let settings = settings.clone();
    let work = move || {
        let (log_settings, resolver) = (LogSettings::of(&settings, 1), Resolver::new(&settings));
        rt::try_block_on(async move {
            let topics = View {
                image: &image,
                resolver: &resolver,
                of: Some(settings.broker_id),
                follows: settings.follows,
            };
            let relayout =
                || storage::relayout(&data_dir, shards, &topics, &log_settings, recovered_snapshot);
            match relayout().await {
                Err(e) if disk::wants_room(&e) && disk::drop_ballasts(&data_dir) => relayout().await?,
                moved => moved?,
            };
            storage::sweep(&data_dir, &topics).map(|strays| strays.len())
        })
    };
    let moved = tokio::task::spawn_blocking(work).await;
    let moved = moved.map_err(|e| cannot_recover(&e, "the log", None))?;
    moved.map_err(|refused| ground.refused(refused))?.map_err(|e| log_error(&e))
}

/// A broker that was told to follow a recovery has now been given the metadata of those who went on: what that does not know is put
/// aside.
pub(super) async fn follow_recovery(
    ground: &Ground<'_>,
    settings: &Arc<BrokerSettings>,
    image: Arc<Image>,
) -> Result<(), StartError> {
    if !settings.follows {
        return Ok(());
    }
    let (data_dir, settings) = (ground.config.data_dir.clone(), settings.clone());
    let meta = data_dir.join("meta");
    let work = move || {
        let resolver = Resolver::new(&settings);
        rt::try_block_on(async move {
            let found = storage::evidence(&storage::holdings(&data_dir)?)?;
            let mut ids = found.iter().filter_map(|found| found.id);
            if !ids.any(|id| image.topic_by_id(id).is_none() && !image.was_deleted(id)) {
                return Ok(None);
            }
            let of = Some(settings.broker_id);
            let topics = View { image: &image, resolver: &resolver, of, follows: settings.follows };
            storage::put_unknown_aside(&data_dir, &topics).await.map(Some)
        })
    };
    let put = tokio::task::spawn_blocking(work).await;
    let put = put.map_err(|e| cannot_recover(&e, "the log", None))?;
    match put.map_err(|refused| ground.refused(refused))?.map_err(|e| log_error(&e))? {
        Some(put) => {
            put.iter().for_each(|dir| log::warn!("no topic of the recovered cluster has {}", dir.display()));
            Ok(())
        }
        // Nor do journals have anything of them any more.
        None => recover::settled(&meta).map_err(|e| metadata_error(&e)),
    }
}
