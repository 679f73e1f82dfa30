//! Whether what the data directory holds belongs together: looked at before anything in it is changed.

use std::io;
use std::path::Path;

use super::disk;
use super::preflight::StartError;
use crate::controller::{Registration, register};
use crate::log::{self as storage, LogError, Topics};
use crate::metadata::{MetadataError, Resolver, Store, new_id};
use crate::model::settings::BrokerSettings;
use crate::shard::topics::View;

/// Opens the metadata, or begins a new cluster in a directory that has nothing yet, and registers this broker.
pub(super) fn open_metadata(
    data_dir: &Path,
    settings: &BrokerSettings,
    shards: usize,
) -> Result<Store, StartError> {
    let meta = data_dir.join("meta");
    let image = Store::inspect(&meta).map_err(|e| metadata_error(&e))?;
    let held = storage::holdings(data_dir).map_err(|e| log_error(&e))?;
    let resolver = Resolver::new(settings);
    let view = image.as_ref().map(|image| View { image, resolver: &resolver });
    let objections = held.judge(view.as_ref().map(|view| view as &dyn Topics));
    if let Some(first) = objections.first() {
        let others = match objections.len() - 1 {
            0 => String::new(),
            n => format!("; and {n} more, which `weir log verify` lists"),
        };
        return Err(StartError::new(format!("{first}{others}"), first.remedy()));
    }
    disk::with_ballast(data_dir, || open_and_register(&meta, settings, shards))
        .map_err(|e| metadata_error(&e))
}

/// Each start is a life of its own, which the metadata knows before anything is served.
fn open_and_register(meta: &Path, settings: &BrokerSettings, shards: usize) -> Result<Store, MetadataError> {
    let mut store = Store::open(meta, settings.broker_id)?;
    let registration = Registration::of(settings, shards, store.me().directory, new_id().0);
    let records = register(store.image(), store.image().version + 1, registration);
    store.commit(vec![records])?;
    store.trim();
    Ok(store)
}

fn metadata_error(e: &MetadataError) -> StartError {
    let source = match e {
        MetadataError::Io { source, .. } => Some(source),
        _ => None,
    };
    cannot_recover(e, "metadata", source)
}

pub(super) fn log_error(e: &LogError) -> StartError {
    let source = match e {
        LogError::Io { source, .. } => Some(source),
        _ => None,
    };
    cannot_recover(e, "the log", source)
}

pub(super) fn cannot_recover(
    e: &dyn std::fmt::Display,
    what: &str,
    source: Option<&io::Error>,
) -> StartError {
    let advice = match source {
        Some(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            "Start as the user whose files these are, or give them to this one (`chown -R`)."
        }
        source => source
            .and_then(disk::remedy)
            .unwrap_or("Repair or restore the file named above, or start on another --data-dir."),
    };
    let remedy = format!("Nothing was changed or deleted. {advice}");
    StartError::new(format!("{what} cannot be recovered: {e}"), remedy)
}
