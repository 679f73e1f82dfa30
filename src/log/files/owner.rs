//! Whose a partition's directory is: an empty file in it carries the topic's id in its name, `<topic id>.topic`. It is made
//! with the directory, before the first segment; directories of earlier versions have none.
//!
//! The name of a directory only says which topic's it was when it was made. Metadata that is restored, and directories
//! that are copied, bring others under the same name.

use std::io;
use std::path::Path;

use crate::model::{PartitionId, TopicId};
use crate::rt;
use crate::rt::fs::BlockingFile;

use super::names::is_log_name;

const SUFFIX: &str = ".topic";

/// What a partition finds at the place of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nothing is there, or nothing that holds records.
    Nobody,
    Topic(TopicId),
    /// There are segments, and no topic is named.
    Unnamed,
}

/// Makes the directory of a partition, if need be, and says whose it is: durably, for segments without a name would be
/// nobody's after a power cut.
pub fn make_directory(dir: &Path, id: PartitionId) -> io::Result<()> {
    rt::fs::create_dir_all(dir)?;
    BlockingFile::create(&dir.join(format!("{}{SUFFIX}", id.topic)))?;
    rt::fs::sync_dir(dir)
}

pub fn owner(dir: &Path) -> io::Result<Owner> {
    let names = rt::fs::read_dir_names(dir)?;
    let named = names.iter().find_map(|name| name.strip_suffix(SUFFIX)?.parse().ok());
    Ok(match named {
        Some(topic) => Owner::Topic(topic),
        None if names.iter().any(|name| is_log_name(name)) => Owner::Unnamed,
        None => Owner::Nobody,
    })
}

/// The topic that a directory is of, if it is not this one.
pub fn foreign(dir: &Path, id: TopicId) -> io::Result<Option<TopicId>> {
    if rt::fs::exists(dir.join(format!("{id}{SUFFIX}"))) {
        return Ok(None);
    }
    Ok(match owner(dir)? {
        Owner::Topic(other) => Some(other),
        Owner::Nobody | Owner::Unnamed => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_says_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("orders-0");
        let topic = TopicId(*b"0123456789abcdef");
        assert_eq!(owner(&at).unwrap(), Owner::Nobody);
        std::fs::create_dir(&at).unwrap();
        assert_eq!(owner(&at).unwrap(), Owner::Nobody);
        std::fs::write(at.join("00000000000000000000.log.deleted"), "").unwrap();
        assert_eq!(owner(&at).unwrap(), Owner::Nobody);
        std::fs::write(at.join("00000000000000000000.log"), "x").unwrap();
        assert_eq!((owner(&at).unwrap(), foreign(&at, topic).unwrap()), (Owner::Unnamed, None));
        make_directory(&at, PartitionId { topic, index: 0 }).unwrap();
        make_directory(&at, PartitionId { topic, index: 0 }).unwrap();
        assert_eq!((owner(&at).unwrap(), foreign(&at, topic).unwrap()), (Owner::Topic(topic), None));
        assert_eq!(foreign(&at, TopicId([1; 16])).unwrap(), Some(topic));
    }
}
