//! As which broker a data directory belongs to its cluster: `<data>/meta/node`, written once, when it joins.
//!
//! ```text
//! weir node 1\n  id <node id>\n  cluster <cluster id>\n  check <crc32 of the lines before, in hex>\n
//! ```

use std::path::{Path, PathBuf};

use super::errors::MetadataError;
use crate::model::BrokerId;
use crate::rt::fs;

const FIRST: &str = "weir node 1";

/// What a broker was told when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: BrokerId,
    pub cluster: String,
}

impl Node {
    fn path_in(dir: &Path) -> PathBuf {
        dir.join("node")
    }

    /// `None` in a directory that has joined nothing.
    pub fn read(dir: &Path) -> Result<Option<Self>, MetadataError> {
        let path = Self::path_in(dir);
        if !fs::exists(&path) {
            return Ok(None);
        }
        let bytes = fs::read_all(&path).map_err(|source| io_error("read", &path, source))?;
        let text = String::from_utf8_lossy(&bytes);
        if let Some(version) = text.strip_prefix("weir node ").and_then(|rest| rest.lines().next())
            && let Ok(found) = version.parse::<u32>()
            && found > 1
        {
            return Err(MetadataError::NewerFormat { path, found, known: 1 });
        }
        let corrupt =
            || MetadataError::Corrupt { path: path.clone(), offset: 0, what: "it makes no sense".into() };
        parse(&text).ok_or_else(corrupt).map(Some)
    }

    /// Durable when it returns.
    pub fn write(&self, dir: &Path) -> Result<(), MetadataError> {
        let body = format!("{FIRST}\nid {}\ncluster {}\n", self.id, self.cluster);
        let text = format!("{body}check {:08x}\n", crc32fast::hash(body.as_bytes()));
        let path = Self::path_in(dir);
        fs::write_atomic(&path, text.as_bytes()).map_err(|source| io_error("write", &path, source))
    }
}

fn parse(text: &str) -> Option<Node> {
    let at = text.find("check ")?;
    let (body, check) = text.split_at(at);
    let check = check.strip_prefix("check ")?.trim_end();
    if u32::from_str_radix(check, 16).ok()? != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != FIRST {
        return None;
    }
    let id = lines.next()?.strip_prefix("id ")?.parse().ok()?;
    let cluster = lines.next()?.strip_prefix("cluster ")?.to_owned();
    Some(Node { id, cluster })
}

fn io_error(doing: &'static str, path: &Path, source: std::io::Error) -> MetadataError {
    MetadataError::Io { doing, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_remembers_who_it_is_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Node::read(dir.path()).unwrap(), None);
        let node = Node { id: 7, cluster: "_Abc-".into() };
        node.write(dir.path()).unwrap();
        assert_eq!(Node::read(dir.path()).unwrap(), Some(node));
        let path = Node::path_in(dir.path());
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() - 1 {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(Node::read(dir.path()).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(Node::read(dir.path()).is_err(), "cut to {at}");
        }
        std::fs::write(&path, "weir node 2\nwhatever\n").unwrap();
        assert!(matches!(Node::read(dir.path()), Err(MetadataError::NewerFormat { found: 2, .. })));
    }

    #[test]
    fn the_file_of_this_format_opens() {
        let fixture = "weir node 1\nid 3\ncluster gd1RZ8bkSLyL1Y8CGxqqdQ\n";
        let text = format!("{fixture}check {:08x}\n", crc32fast::hash(fixture.as_bytes()));
        assert_eq!(parse(&text), Some(Node { id: 3, cluster: "gd1RZ8bkSLyL1Y8CGxqqdQ".into() }));
    }
}
