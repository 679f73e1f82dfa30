//! What is in `set-aside/`, and what of it could come back. Reads only; [`super::mend`] brings it back.
//!
//! ```text
//! <topic id>-<partition>/<base offset>.log     journal entries that had no log to go to, or did not follow on
//! <topic>-<partition>.<ms>/                    a partition's directory, put away by an earlier version of Weir
//! <ms>/<topic>-<partition>/                    a directory that was in a partition's way
//! <topic id>-<partition>.<base offset>.log.<ms>, journal-…, meta-…      what a repair has replaced
//! ```

use std::path::{Path, PathBuf};

use crate::log::LogError;
use crate::log::directory::belongs::split_name;
use crate::log::files::layout::SET_ASIDE;
use crate::log::files::names::is_log_name;
use crate::model::{PartitionId, TopicId};
use crate::rt;
use crate::wire::batch::BatchIter;

/// Journal entries that were set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    pub dir: PathBuf,
    pub id: PartitionId,
    /// One past the last offset of them.
    pub end_offset: i64,
}

/// A partition's directory that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub dir: PathBuf,
    pub topic: String,
    pub index: i32,
    pub log_bytes: u64,
}

/// All of `set-aside/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAside {
    /// Files and directories at its top.
    pub count: usize,
    pub entries: Vec<Entries>,
    pub directories: Vec<Directory>,
}

pub fn set_aside(data_dir: &Path) -> Result<SetAside, LogError> {
    let root = data_dir.join(SET_ASIDE);
    let names = list(&root)?;
    let mut found = SetAside { count: names.len(), ..SetAside::default() };
    for name in names {
        let dir = root.join(&name);
        if !dir.is_dir() {
            continue;
        }
        if let Some(id) = parse_id(&name) {
            let end_offset = end_of(&dir)?;
            found.entries.push(Entries { dir, id, end_offset });
        } else if let Some((topic, index)) = parse_put_away(&name) {
            let mut log_bytes = 0;
            for log in list(&dir)?.iter().filter(|name| is_log_name(name)) {
                log_bytes += rt::fs::len(dir.join(log)).map_err(|e| LogError::io(&dir, e))?;
            }
            found.directories.push(Directory { dir, topic: topic.to_owned(), index, log_bytes });
        }
    }
    Ok(found)
}

impl SetAside {
    /// The directory to take back for a partition that has nothing: the one that has most.
    pub fn directory_of(&self, topic: &str, index: i32) -> Option<&Directory> {
        let of = self.directories.iter().filter(|dir| dir.topic == topic && dir.index == index);
        of.filter(|dir| dir.log_bytes > 0).max_by_key(|dir| dir.log_bytes)
    }
}

fn list(dir: &Path) -> Result<Vec<String>, LogError> {
    rt::fs::read_dir_names(dir).map_err(|e| LogError::io(dir, e))
}

/// One past the last offset of the batches that were set aside here.
pub(super) fn end_of(dir: &Path) -> Result<i64, LogError> {
    let mut end = 0;
    for name in list(dir)?.iter().filter(|name| name.ends_with(".log")) {
        let path = dir.join(name);
        let bytes = rt::fs::read_all(&path).map_err(|e| LogError::io(&path, e))?;
        let last = BatchIter::new(&bytes).map_while(Result::ok).map(|(header, _)| header.next_offset()).max();
        end = end.max(last.unwrap_or(0));
    }
    Ok(end)
}

/// The partition that a name says by its topic's id.
pub fn parse_id(name: &str) -> Option<PartitionId> {
    let (topic, index) = split_name(name)?;
    let topic: TopicId = topic.parse().ok()?;
    Some(PartitionId { topic, index })
}

fn parse_put_away(name: &str) -> Option<(&str, i32)> {
    let (name, ms) = name.rsplit_once('.')?;
    let is_time = ms.len() >= 13 && ms.bytes().all(|b| b.is_ascii_digit());
    is_time.then(|| split_name(name))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_was_set_aside() {
        let id = PartitionId { topic: TopicId(*b"0123456789abcdef"), index: 3 };
        assert_eq!(parse_id(&id.to_string()), Some(id));
        assert_eq!(parse_id("orders-3"), None);
        assert_eq!(parse_put_away("a.b-c-12.1764458000000"), Some(("a.b-c", 12)));
        for other in
            ["orders-3", "orders-3.17", "journal-1764458000000", "1764458000000", "x-1.abcdefghijklm"]
        {
            assert_eq!(parse_put_away(other), None, "{other}");
        }
    }

    #[test]
    fn the_directory_with_most_records_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        for (ms, bytes) in [(1_764_458_000_000u64, 500), (1_764_458_000_001, 900), (1_764_458_000_002, 0)] {
            let at = dir.path().join(format!("set-aside/orders-0.{ms}"));
            std::fs::create_dir_all(&at).unwrap();
            std::fs::write(at.join(format!("{:020}.log", 0)), vec![0; bytes]).unwrap();
        }
        let found = set_aside(dir.path()).unwrap();
        assert_eq!((found.count, found.directories.len()), (3, 3));
        assert_eq!(found.directory_of("orders", 0).unwrap().log_bytes, 900);
        assert_eq!(found.directory_of("orders", 1), None);
    }
}
