//! Where a data directory has what, also in the middle of a change of layout (`relayout`).

use std::path::{Path, PathBuf};

use crate::log::LogError;
use crate::rt;

/// Set aside by what cannot use it, below a data directory.
pub const SET_ASIDE: &str = "set-aside";

pub fn journal_dir(data_dir: &Path, shard: usize) -> PathBuf {
    data_dir.join("journal").join(shard.to_string())
}

pub fn partition_dir(data_dir: &Path, topic: &str, partition: i32) -> PathBuf {
    topics_dir(data_dir).join(format!("{topic}-{partition}"))
}

pub fn topics_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("topics")
}

/// Where the journals are, also after a change of layout that did not get to its end.
pub fn journals_dir(data_dir: &Path) -> PathBuf {
    let paths = Paths::of(data_dir);
    match rt::fs::exists(&paths.current) || !rt::fs::exists(&paths.old) {
        true => paths.current,
        false if rt::fs::exists(&paths.new) => paths.new,
        false => paths.old,
    }
}

/// Finishes a change of layout that did not get to its end.
pub fn finish_interrupted(data_dir: &Path) -> Result<(), LogError> {
    Paths::of(data_dir).finish_interrupted()
}

pub struct Paths {
    pub data: PathBuf,
    pub current: PathBuf,
    pub new: PathBuf,
    pub old: PathBuf,
}

impl Paths {
    pub fn of(data_dir: &Path) -> Self {
        let at = |name| data_dir.join(name);
        Self {
            data: data_dir.to_owned(),
            current: at("journal"),
            new: at("journal.new"),
            old: at("journal.old"),
        }
    }

    pub fn finish_interrupted(&self) -> Result<(), LogError> {
        if !rt::fs::exists(&self.current) && rt::fs::exists(&self.old) {
            // Without new journals the old ones are all there is.
            let whole = if rt::fs::exists(&self.new) { &self.new } else { &self.old };
            self.rename(whole, &self.current)?;
        }
        if rt::fs::exists(&self.current) && rt::fs::exists(&self.old) {
            rt::fs::remove_dir_all(&self.old).map_err(|e| LogError::io(&self.old, e))?;
        }
        Ok(())
    }

    pub fn switch(&self, keep_old: bool) -> Result<(), LogError> {
        self.rename(&self.current, &self.old)?;
        self.rename(&self.new, &self.current)?;
        if keep_old {
            // Journals with damage are kept for whoever repairs.
            let aside = self.data.join(SET_ASIDE);
            rt::fs::create_dir_all(&aside).map_err(|e| LogError::io(&aside, e))?;
            return self.rename(&self.old, &aside.join(format!("journal-{}", rt::unix_ms())));
        }
        rt::fs::remove_dir_all(&self.old).map_err(|e| LogError::io(&self.old, e))
    }

    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), LogError> {
        rt::fs::rename(from, to).map_err(|e| LogError::io(from, e))?;
        sync(&self.data)
    }
}

pub fn sync(dir: &Path) -> Result<(), LogError> {
    rt::fs::sync_dir(dir).map_err(|e| LogError::io(dir, e))
}
