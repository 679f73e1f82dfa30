//! Directories of removed logs, renamed away: their space comes back in the background.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::log::error::may_pass;
use crate::log::files::discard;
use crate::rt;

/// How long to wait before trying again while there is no descriptor or no room left.
const RETRY: Duration = Duration::from_secs(1);

/// Directories that are to go; one task works on them while there are any.
#[derive(Default)]
pub struct Garbage {
    directories: RefCell<Vec<PathBuf>>,
    busy: Cell<bool>,
}

impl Garbage {
    pub fn add(self: &Rc<Self>, topics: PathBuf, directories: impl IntoIterator<Item = PathBuf>) {
        self.directories.borrow_mut().extend(directories);
        if !self.busy.replace(true) {
            let garbage = self.clone();
            rt::spawn(async move {
                if let Err(e) = garbage.collect(topics.clone()).await {
                    log::warn!("{}: {e}; what was deleted goes at the next start", topics.display());
                }
                garbage.busy.set(false);
            });
        }
    }

    async fn collect(&self, topics: PathBuf) -> io::Result<()> {
        loop {
            let directories = self.directories.take();
            if directories.is_empty() {
                return Ok(());
            }
            let root = topics.clone();
            rt::blocking(move || rt::fs::sync_dir(root)).await?;
            for dir in directories {
                while let Err(e) = discard::remove_directory(dir.clone()).await {
                    if !may_pass(&e) {
                        return Err(e);
                    }
                    rt::sleep(RETRY).await;
                }
            }
        }
    }
}
