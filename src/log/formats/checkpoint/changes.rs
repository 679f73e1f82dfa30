//! What differs from the checkpoint before: the states of the partitions that changed, and the ones that are gone.
//!
//! ```text
//! crc u32 of all behind it | length u64 of the body | body: bincode of `Change`
//! ```

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::log::formats::read_body;
use crate::model::PartitionId;

use super::{Checkpoint, PartitionState};

const FRAME: usize = 12;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The checkpoint as it is now; of the partitions, those that differ.
    pub now: Checkpoint,
    /// Partitions that are gone; one that is in `now`, too, has come again.
    pub removed: Vec<PartitionId>,
}

impl Change {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; FRAME];
        bincode::serde::encode_into_std_write(self, &mut out, bincode::config::standard())
            .expect("memory is writable");
        let length = (out.len() - FRAME) as u64;
        out[4..FRAME].copy_from_slice(&length.to_le_bytes());
        let crc = crc32fast::hash(&out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The first of these bytes, and how many it has.
    fn decode(bytes: &[u8]) -> Result<(Self, usize), String> {
        let cut = "a change of the checkpoint is cut short";
        let (frame, rest) = bytes.split_first_chunk::<FRAME>().ok_or(cut)?;
        let (crc, length) = frame.split_first_chunk::<4>().ok_or(cut)?;
        let length = length.first_chunk::<8>().map(|length| u64::from_le_bytes(*length)).ok_or(cut)?;
        let body = usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or(cut)?;
        let used = FRAME + body.len();
        if crc32fast::hash(&bytes[4..used]) != u32::from_le_bytes(*crc) {
            return Err("the checksum of a change of the checkpoint does not hold".into());
        }
        let change = read_body(body).map_err(|what| format!("a change of the checkpoint {what}"))?;
        Ok((change, used))
    }
}

/// What the checkpoint is after all the changes in these bytes; where they end before the bytes do, and why.
pub fn apply_all(base: Checkpoint, mut bytes: &[u8]) -> (Checkpoint, Result<(), (usize, String)>) {
    if bytes.is_empty() {
        return (base, Ok(()));
    }
    let (mut merged, whole) = (Merged::of(base), bytes.len());
    let read = loop {
        if bytes.is_empty() {
            break Ok(());
        }
        let at = whole - bytes.len();
        match Change::decode(bytes) {
            Ok((change, used)) if change.now.number > merged.head.number => {
                merged.apply(change);
                bytes = &bytes[used..];
            }
            Ok(_) => break Err((at, "a change of the checkpoint is older than the one before it".into())),
            Err(what) => break Err((at, what)),
        }
    };
    (merged.finish(), read)
}

/// A checkpoint whose partitions can be found by their ids.
pub struct Merged {
    head: Checkpoint,
    /// In the order of the base, then as they came; none where one is gone.
    states: Vec<Option<PartitionState>>,
    places: HashMap<PartitionId, usize>,
}

impl Merged {
    pub fn of(mut base: Checkpoint) -> Self {
        let partitions = std::mem::take(&mut base.partitions);
        let mut merged = Self { head: base, states: Vec::new(), places: HashMap::new() };
        partitions.into_iter().for_each(|state| merged.put(state));
        merged
    }

    fn put(&mut self, state: PartitionState) {
        let at = *self.places.entry(state.id).or_insert(self.states.len());
        if at == self.states.len() {
            self.states.push(None);
        }
        self.states[at] = Some(state);
    }

    pub fn apply(&mut self, change: Change) {
        let Change { mut now, removed } = change;
        for id in removed {
            if let Some(at) = self.places.remove(&id) {
                self.states[at] = None;
            }
        }
        std::mem::take(&mut now.partitions).into_iter().for_each(|state| self.put(state));
        self.head = now;
    }

    pub fn finish(self) -> Checkpoint {
        let Self { mut head, states, .. } = self;
        head.partitions = states.into_iter().flatten().collect();
        // Files may have changed since a clean close, whatever was said of them then.
        head.partitions.iter_mut().for_each(|state| state.log.clean &= head.closed);
        head
    }
}
