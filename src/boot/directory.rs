//! Whether what the data directory holds belongs together: looked at before anything in it is changed.

use std::io;
use std::path::Path;

use super::disk;
use super::preflight::StartError;
use crate::controller::Controller;
use crate::log::{self as storage, LogError, Topics};
use crate::metadata::MetadataError;
use crate::model::settings::BrokerSettings;

/// Opens the metadata, or begins a new cluster in a directory that has nothing yet.
pub(super) fn open_metadata(data_dir: &Path, settings: &BrokerSettings) -> Result<Controller, StartError> {
    let meta = data_dir.join("meta");
    let image = Controller::inspect(&meta, settings).map_err(|e| metadata_error(&e))?;
    let held = storage::holdings(data_dir).map_err(|e| log_error(&e))?;
    let objections = held.judge(image.as_ref().map(|image| image as &dyn Topics));
    if let Some(first) = objections.first() {
        let others = match objections.len() - 1 {
            0 => String::new(),
            n => format!("; and {n} more, which `weir log verify` lists"),
        };
        return Err(StartError::new(format!("{first}{others}"), first.remedy()));
    }
    disk::with_ballast(data_dir, || Controller::open(&meta, settings)).map_err(|e| metadata_error(&e))
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
