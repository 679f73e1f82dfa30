//! The names of a log's files.

use std::path::{Path, PathBuf};

pub(in crate::log) const LOG: &str = "log";
pub(in crate::log) const EXTENTS: &str = "extents";
/// Ends the names of files and directories that wait to be unlinked.
pub const DELETED: &str = "deleted";

pub(in crate::log) fn file_name(dir: &Path, base_offset: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base_offset:020}.{extension}"))
}

pub(in crate::log) fn is_log_name(name: &str) -> bool {
    parse_log_name(name).is_some()
}

/// The base offset in a segment file's name.
pub(in crate::log) fn parse_log_name(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}
