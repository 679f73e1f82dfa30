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
        self.state.borrow_mut().failed = Some(what.into());
        LogError::io(path, e)
    }

    pub(in crate::log) fn check_usable(&self) -> Result<(), LogError> {
        match &self.state.borrow().failed {
            Some(what) => Err(LogError::io(&*self.dir, io::Error::other(what.to_string()))),
            None => Ok(()),
        }
    }
}
