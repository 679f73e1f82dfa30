//! The names of the metadata log's files.

use std::io;
use std::path::{Path, PathBuf};

use super::errors::MetadataError;
use crate::rt::fs;

pub(super) fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> MetadataError + 'a {
    move |source| MetadataError::Io { doing, path: path.to_path_buf(), source }
}

pub(super) fn file_path(dir: &Path, offset: u64) -> PathBuf {
    dir.join(format!("metadata-{offset:020}.log"))
}

pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("metadata-")?.strip_suffix(".log")?.parse().ok()
}

/// The numbers of the logs in `dir`, rising. Unfinished files are removed.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, MetadataError> {
    let mut numbers = Vec::new();
    for name in fs::read_dir_names(dir).map_err(io_error("list", dir))? {
        if let Some(number) = number_of(&name) {
            numbers.push(number);
        } else if name.starts_with("metadata-") && name.ends_with(".tmp") {
            let path = dir.join(&name);
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
