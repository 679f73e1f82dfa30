//! Whether a log may still be written to: not after a sync that failed.

use std::io;

use crate::log::LogError;
use crate::log::error::is_full;

use super::PartitionLog;

impl PartitionLog {
    /// What lacks room has not begun (btrfs wants some for every sync): nothing that was written went past the page cache
    /// and got lost there, so that the next sync can be trusted. Any other failure is for good.
    pub(super) fn fail_to_sync(&self, path: std::path::PathBuf, e: io::Error) -> LogError {
        if is_full(&e) { LogError::io(path, e) } else { self.fail(path, e) }
    }

    pub(in crate::log) fn fail(&self, path: std::path::PathBuf, e: io::Error) -> LogError {
        let what = format!("{}: sync failed: {e}", path.display());
        log::error!("{what}; partition {} takes no more writes", self.id());
        self.condition.fail(what);
        LogError::io(path, e)
    }

    /// Whether a sync failed, so that nothing more is written.
    pub(in crate::log) fn has_failed(&self) -> bool {
        self.condition.has_failed()
    }

    pub(in crate::log) fn check_usable(&self) -> Result<(), LogError> {
        self.condition.check_usable().map_err(|e| LogError::io(&*self.dir, e))
    }
}
