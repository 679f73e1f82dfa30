//! Removing partitions, for good: a power cut must not bring a directory back under a name that another topic has by then.
//!
//! A directory that is renamed away is gone as far as anybody can tell; its space comes back afterwards.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use super::{ShardLog, topics_dir};
use crate::log::discard;
use crate::log::segment::is_removed_directory;
use crate::model::PartitionId;
use crate::rt;

/// Directories that are to go; one task works on them while there are any.
#[derive(Default)]
pub(super) struct Refuse {
    directories: RefCell<Vec<PathBuf>>,
    busy: Cell<bool>,
}

impl Refuse {
    fn add(self: &Rc<Self>, topics: PathBuf, directories: impl IntoIterator<Item = PathBuf>) {
        self.directories.borrow_mut().extend(directories);
        if !self.busy.replace(true) {
            let refuse = self.clone();
            rt::spawn(async move {
                if let Err(e) = refuse.clear(topics.clone()).await {
                    log::warn!("{}: {e}; what was deleted goes at the next start", topics.display());
                }
                refuse.busy.set(false);
            });
        }
    }

    async fn clear(&self, topics: PathBuf) -> io::Result<()> {
        loop {
            let directories = self.directories.take();
            if directories.is_empty() {
                return Ok(());
            }
            let root = topics.clone();
            rt::blocking(move || rt::fs::sync_dir(root)).await?;
            for dir in directories {
                discard::remove_directory(dir).await?;
            }
        }
    }
}

impl ShardLog {
    /// As [`Self::removals_durable`], blocking.
    pub(super) fn sync_removals(&self) {
        let topics = topics_dir(&self.data_dir);
        if self.removals_unsynced.replace(false)
            && let Err(e) = rt::fs::sync_dir(&topics)
        {
            self.journal.poison(&topics, &e);
        }
    }

    /// The removals so far are durable when this returns: what was removed cannot come back after a power cut and be
    /// taken for a new partition of its name, on this shard or another.
    pub async fn removals_durable(&self) {
        if !self.removals_unsynced.replace(false) {
            return;
        }
        let topics = topics_dir(&self.data_dir);
        let path = topics.clone();
        if let Err(e) = rt::blocking(move || rt::fs::sync_dir(path)).await {
            self.journal.poison(&topics, &e);
        }
    }

    /// Takes up what removals before this start have left.
    pub(super) fn clear_refuse(&self) {
        let (refuse, topics) = (self.refuse.clone(), topics_dir(&self.data_dir));
        rt::spawn(async move {
            let root = topics.clone();
            let names = rt::blocking(move || rt::fs::read_dir_names(root)).await.unwrap_or_default();
            let dead = names.iter().filter(|name| is_removed_directory(name)).map(|name| topics.join(name));
            refuse.add(topics.clone(), dead);
        });
    }

    /// Deletes a partition's log; see [`Self::removals_durable`]. Its space comes back later.
    pub async fn remove(&self, id: PartitionId) {
        let held = self.logs.borrow_mut().remove(&id);
        self.changed.set(true);
        self.removals_unsynced.set(true);
        let Some(held) = held else { return };
        match held.log.remove().await {
            Ok(dead) => self.refuse.add(topics_dir(&self.data_dir), dead),
            Err(e) => log::warn!("removing {}-{}: {e}", held.topic, id.index),
        }
    }
}
