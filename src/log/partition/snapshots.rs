//! Producers' state as it was at earlier offsets, for a log that is cut: the state cannot be taken back, but made again from
//! a snapshot below the cut and the headers of the batches behind it.
//!
//! `<offset, 20 digits>.producers` beside the segments: magic "WEIRPROD" | version u32 | crc u32 of the body | body: 1 and the
//! state's bytes, or 0 for no producers. Little-endian.
//!
//! - Only one that the log lists, by offset and checksum, counts; the checkpoint has the list. What a truncation voids goes
//!   off the list at once, its file later.
//! - Disposable: without any, the log is read from its start.

use std::cell::RefCell;
use std::io;
use std::path::Path;

use crate::log::formats::Framed;
use crate::log::formats::checkpoint::Snapshot;
use crate::rt;

const FRAMED: Framed = Framed { magic: b"WEIRPROD", version: 1 };
const SUFFIX: &str = ".producers";
/// As many are kept.
const KEPT: usize = 4;

/// Oldest first.
#[derive(Default)]
pub struct Snapshots(RefCell<Vec<Snapshot>>);

pub fn snapshot_name(offset: i64) -> String {
    format!("{offset:020}{SUFFIX}")
}

pub fn encode(state: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![u8::from(state.is_some())];
    body.extend_from_slice(state.unwrap_or_default());
    FRAMED.encode(&body)
}

/// The state in a file, if it is the one with this checksum.
pub fn decode(bytes: &[u8], crc: u32) -> Option<Option<Vec<u8>>> {
    let (body, its) = FRAMED.decode(bytes).ok()?;
    let (is_some, state) = body.split_first().filter(|_| its == crc)?;
    Some((*is_some == 1).then(|| state.to_vec()))
}

impl Snapshots {
    pub fn all(&self) -> Vec<Snapshot> {
        self.0.borrow().clone()
    }

    /// The offset of the newest one.
    pub fn newest(&self) -> Option<i64> {
        self.0.borrow().last().map(|snapshot| snapshot.offset)
    }

    pub fn set(&self, listed: Vec<Snapshot>) {
        *self.0.borrow_mut() = listed;
    }

    /// Those that are kept when one at `offset` is made, in the place of any from there on.
    pub fn with(&self, snapshot: Snapshot) -> Vec<Snapshot> {
        let mut listed = self.all();
        listed.retain(|known| known.offset < snapshot.offset);
        listed.push(snapshot);
        listed.drain(..listed.len().saturating_sub(KEPT));
        listed
    }

    /// Takes those past `to` off the list; their offsets.
    pub fn forget_past(&self, to: i64) -> Vec<i64> {
        let mut listed = self.0.borrow_mut();
        let kept = listed.partition_point(|snapshot| snapshot.offset <= to);
        listed.drain(kept..).map(|snapshot| snapshot.offset).collect()
    }
}

/// Removes the snapshots that are not listed.
pub fn unlink_others(dir: &Path, listed: &[Snapshot]) -> io::Result<()> {
    for name in rt::fs::read_dir_names(dir)? {
        let Some(offset) = name.strip_suffix(SUFFIX) else { continue };
        if !listed.iter().any(|snapshot| offset.parse() == Ok(snapshot.offset)) {
            rt::fs::unlink(dir.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_returns_and_every_changed_byte_is_noticed() {
        for state in [None, Some(vec![]), Some(b"state".to_vec())] {
            let bytes = encode(state.as_deref());
            let crc = Framed::crc(&bytes);
            assert_eq!(decode(&bytes, crc), Some(state));
            assert_eq!(decode(&bytes, crc ^ 1), None, "another's");
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 0x10;
                assert_eq!(decode(&bad, crc), None, "byte {at}");
                assert_eq!(decode(&bytes[..at], crc), None, "cut at {at}");
            }
        }
    }
}
