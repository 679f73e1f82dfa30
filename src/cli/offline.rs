//! What commands have in common that work on a data directory which no broker uses.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use crate::boot::preflight::DataLock;
use crate::log::Mended;
use crate::metadata::Image;

#[derive(Args, Debug)]
pub struct Where {
    /// The data directory; no broker may be using it
    #[arg(env = "WEIR_DATA_DIR", default_value = "./weir-data")]
    pub(super) data_dir: PathBuf,
    /// Print JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

/// Takes the directory for this process.
pub(super) fn take_lock(data_dir: &Path) -> Result<DataLock, Failure> {
    if !data_dir.join("format").exists() {
        return Err(Failure::Storage(format!("{} is not a data directory of Weir's", data_dir.display())));
    }
    DataLock::acquire(data_dir).map_err(|e| Failure::Storage(format!("{}\n  {}", e.problem, e.remedy)))
}

/// The topic and partition of what was done.
pub(super) fn name(mended: &Mended, image: &Image) -> Option<String> {
    let id = mended.id?;
    Some(format!("{}-{}", image.topic_by_id(id.topic)?.name, id.index))
}

/// A line for each thing that was done.
pub(super) fn done_text(done: &[Mended], image: &Image) -> String {
    let line = |mended: &Mended| match name(mended, image) {
        Some(partition) => format!("done: {partition}: {}\n", mended.what),
        None => format!("done: {}\n", mended.what),
    };
    done.iter().map(line).collect()
}
