//! The names of a log's files.

use std::path::{Path, PathBuf};

pub const LOG: &str = "log";
pub const EXTENTS: &str = "extents";
/// Ends the names of files and directories that wait to be unlinked.
pub const DELETED: &str = "deleted";

pub fn file_name(dir: &Path, base_offset: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base_offset:020}.{extension}"))
}

pub fn is_log_name(name: &str) -> bool {
    parse_log_name(name).is_some()
}

/// The base offset in a segment file's name.
pub fn parse_log_name(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(file_name(Path::new("/t"), 42, LOG), Path::new("/t/00000000000000000042.log"));
        assert_eq!(parse_log_name("00000000000000000042.log"), Some(42));
        for other in [
            "42.log",
            "00000000000000000042.log.deleted",
            "+0000000000000000042.log",
            "99999999999999999999.log",
        ] {
            assert_eq!(parse_log_name(other), None, "{other}");
        }
    }
}
