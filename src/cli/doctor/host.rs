//! The machine as its /proc and /sys describe it.

use std::fs;
use std::path::PathBuf;

use crate::config::Machine;

/// Reads files below a root, which is `/` but for tests.
pub struct Host {
    root: PathBuf,
}

impl Host {
    pub fn here() -> Host {
        Host { root: PathBuf::from("/") }
    }

    #[cfg(test)]
    pub fn at(root: &std::path::Path) -> Host {
        Host { root: root.to_owned() }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.join(file.trim_start_matches('/'))
    }

    /// A file's text without the space around it.
    pub fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path(file)).ok().map(|text| text.trim().to_owned())
    }

    pub fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.parse().ok()
    }

    pub fn exists(&self, file: &str) -> bool {
        self.path(file).exists()
    }

    /// Names in a directory that begin so, sorted.
    pub fn names(&self, directory: &str, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        names
    }
}

/// Shards that the broker would have if nobody said how many.
pub fn shards() -> usize {
    Machine::here().shards()
}

/// Memory that this process may use.
pub fn memory() -> u64 {
    Machine::here().memory
}
