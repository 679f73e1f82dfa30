//! Whether what the data directory holds belongs together: looked at before anything in it is changed.

use std::io;
use std::path::Path;

use super::disk;
use super::errors::StartError;
use crate::log::{self as storage, LogError, Topics};
use crate::metadata::{Image, MetadataError, Resolver};
use crate::model::settings::BrokerSettings;
use crate::shard::topics::View;

/// Refuses a directory whose metadata, if it has any, does not belong to what else it holds.
pub(super) fn belongs(
    data_dir: &Path,
    settings: &BrokerSettings,
    image: Option<&Image>,
) -> Result<(), StartError> {
    let held = storage::holdings(data_dir).map_err(|e| log_error(&e))?;
    let resolver = Resolver::new(settings);
    let view = image.map(|image| View {
        image,
        resolver: &resolver,
        of: Some(settings.broker_id),
        follows: settings.follows,
    });
    let objections = held.judge(view.as_ref().map(|view| view as &dyn Topics));
    let Some(first) = objections.first() else { return Ok(()) };
    let others = match objections.len() - 1 {
        0 => String::new(),
        n => format!("; and {n} more, which `weir log verify` lists"),
    };
    Err(StartError::new(format!("{first}{others}"), first.remedy()))
}

pub(super) fn metadata_error(e: &MetadataError) -> StartError {
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
