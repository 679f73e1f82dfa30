//! Directories that a new topic could find in its way: most names have none, and need not be looked for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::controller::{Place, occupied};
use crate::rt;

pub(super) struct Left {
    /// The directory of partitions.
    home: PathBuf,
    /// Names of topics that had a directory when the first topic was made, or were deleted since; `None` until they are
    /// known. What is put there by hand later is found by the partition's own shard.
    names: RefCell<Option<BTreeSet<String>>>,
}

impl Left {
    pub fn new(home: PathBuf) -> Self {
        Self { home, names: RefCell::default() }
    }

    /// Topics may have gone without being told of here.
    pub fn forget(&self) {
        self.names.replace(None);
    }

    pub fn add(&self, names: impl Iterator<Item = String>) {
        if let Some(left) = &mut *self.names.borrow_mut() {
            left.extend(names);
        }
    }

    /// Those of the places that have files. Looks on a thread that may wait for the disk.
    pub async fn occupied(&self, mut places: Vec<Place>) -> BTreeSet<Place> {
        if !places.is_empty() && self.names.borrow().is_none() {
            let home = self.home.clone();
            let listed = tokio::task::spawn_blocking(move || rt::fs::read_dir_names(home)).await;
            let topic = |name: String| Some(name.rsplit_once('-')?.0.to_owned());
            let names = listed.ok().and_then(Result::ok);
            self.names.replace(names.map(|names| names.into_iter().filter_map(topic).collect()));
        }
        if let Some(left) = &*self.names.borrow() {
            places.retain(|(topic, _)| left.contains(topic));
        }
        if places.is_empty() {
            return BTreeSet::new();
        }
        let home = self.home.clone();
        tokio::task::spawn_blocking(move || occupied(&home, places)).await.unwrap_or_default()
    }
}
