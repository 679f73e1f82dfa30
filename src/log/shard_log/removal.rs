//! Removing partitions, for good: a power cut must not bring a directory back under a name that another topic has by then.
//!
//! A directory that is renamed away is gone as far as anybody can tell; its space comes back afterwards.

use std::time::Duration;

use crate::log::error::is_full;
use crate::log::files::dead::is_removed_directory;
use crate::log::files::layout::topics_dir;
use crate::model::PartitionId;
use crate::rt;

use super::ShardLog;

/// How long to wait before trying again while there is no descriptor or no room left.
const RETRY: Duration = Duration::from_secs(1);
/// How often a sync that finds no room is tried again.
const MOST_TRIES: u32 = 20;

impl ShardLog {
    /// The removals so far are durable when this returns: what was removed cannot come back after a power cut and be
    /// taken for a new partition of its name, on this shard or another.
    pub async fn removals_durable(&self) {
        if !self.removals_unsynced.replace(false) {
            return;
        }
        let topics = topics_dir(&self.data_dir);
        let mut tries = 0;
        loop {
            let path = topics.clone();
            match rt::blocking(move || rt::fs::sync_dir(path)).await {
                Err(e) if is_full(&e) && tries < MOST_TRIES => {
                    tries += 1;
                    self.space.drop_ballast().await;
                    rt::sleep(RETRY).await;
                }
                Err(e) => return self.journal.poison(&topics, &e),
                Ok(()) => return,
            }
        }
    }

    /// Takes up what removals before this start have left.
    pub(super) fn collect_garbage(&self) {
        let (garbage, topics) = (self.garbage.clone(), topics_dir(&self.data_dir));
        rt::spawn(async move {
            let root = topics.clone();
            let names = rt::blocking(move || rt::fs::read_dir_names(root)).await.unwrap_or_default();
            let dead = names.iter().filter(|name| is_removed_directory(name)).map(|name| topics.join(name));
            garbage.add(topics.clone(), dead);
        });
    }

    /// Deletes a partition's log; see [`Self::removals_durable`]. Its space comes back later.
    pub async fn remove(&self, id: PartitionId) {
        let held = self.partitions.remove(id);
        self.progress.touch();
        self.removals_unsynced.set(true);
        let Some(held) = held else { return };
        match held.log().remove().await {
            Ok(dead) => self.garbage.add(topics_dir(&self.data_dir), dead),
            Err(e) => log::warn!("removing {}-{}: {e}", held.topic(), id.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::log::shard_log::tests::{Cluster, append, id, open};
    use crate::model::topic_config::TopicConfig;
    use crate::model::{Offset, WallMs};
    use crate::rt::record::{Event, Recording};

    const LARGE: u64 = 40 << 20;

    fn grow(file: &Path) {
        std::fs::File::options().write(true).open(file).unwrap().set_len(LARGE).unwrap();
    }

    /// How many files were cut, each after a sync that made its last name durable.
    fn cuts(events: &[Event]) -> usize {
        let mut cuts = 0;
        for (i, event) in events.iter().enumerate() {
            let Event::Resize { handle: cut, .. } = event else { continue };
            let opened = |e: &Event| match e {
                Event::Open { handle, path, .. } if handle == cut => Some(path.clone()),
                _ => None,
            };
            let path = events[..i].iter().rev().find_map(opened).expect("it was opened");
            let renamed = |e: &Event| matches!(e, Event::Rename { to, .. } if path.starts_with(to));
            let Some(at) = events[..i].iter().rposition(renamed) else { continue };
            let Event::Rename { to, .. } = &events[at] else { unreachable!("found as one") };
            let is_done =
                |op: &u64| events[at..i].iter().any(|e| matches!(e, Event::Done { op: its } if its == op));
            let synced = |e: &Event| matches!(e, Event::SyncDir { op, path } if to.parent() == Some(path) && is_done(op));
            assert!(events[at..i].iter().any(synced), "{path:?} was cut, its name may be {:?}", events[at]);
            cuts += 1;
        }
        cuts
    }

    #[test]
    fn a_file_is_cut_once_its_new_name_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::with(&[(1, "orders")]);
        rt::block_on(async move {
            let (store, _) = open(dir.path(), &cluster).await;
            let config = TopicConfig {
                segment_bytes: 4000,
                retention_bytes: 5000,
                file_delete_delay_ms: 100,
                ..TopicConfig::default()
            };
            let log = store.create(id(1, 0), "orders", Arc::new(config));
            for _ in 0..6 {
                append(&store, &log, 3000);
            }
            log.flush(None).await.unwrap();
            let recording = Recording::start(dir.path()).unwrap();
            assert!(log.retention(WallMs(0), || Offset(i64::MAX)).await.unwrap().segments > 1);
            let home = topics_dir(&store.data_dir).join("orders-0");
            let names = rt::fs::read_dir_names(&home).unwrap();
            names.iter().filter(|name| name.contains(".log")).for_each(|name| grow(&home.join(name)));
            let kept = home.join(names.iter().find(|name| name.ends_with(".log")).unwrap());
            assert_eq!(rt::fs::len(&kept).unwrap(), LARGE);
            rt::sleep(Duration::from_millis(300)).await;
            store.remove(id(1, 0)).await;
            let (topics, began) = (topics_dir(&store.data_dir), Instant::now());
            while rt::fs::read_dir_names(&topics).unwrap().iter().any(|name| name.ends_with(".deleted")) {
                assert!(began.elapsed() < Duration::from_secs(20), "it stays");
                rt::sleep(Duration::from_millis(5)).await;
            }
            assert!(cuts(&recording.finish()) >= 6, "each of three files in two steps or more");
        });
    }
}
