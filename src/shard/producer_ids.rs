//! Fresh producer ids. A shard takes them from the controller a block at a time; what is left of a block when the broker
//! stops is never used.

use std::cell::Cell;

use crate::controller::ProducerIdBlock;
use crate::model::ProducerId;

/// What is left of a shard's block.
pub struct ProducerIds(Cell<ProducerIdBlock>);

impl Default for ProducerIds {
    fn default() -> Self {
        Self(Cell::new(ProducerIdBlock { first: 0, len: 0 }))
    }
}

impl ProducerIds {
    pub fn take(&self) -> Option<ProducerId> {
        let ProducerIdBlock { first, len } = self.0.get();
        if len == 0 {
            return None;
        }
        self.0.set(ProducerIdBlock { first: first + 1, len: len - 1 });
        Some(ProducerId(first))
    }

    /// A block came. Another request may have brought one meanwhile: the longer one is kept.
    pub fn put(&self, block: ProducerIdBlock) {
        if block.len > self.0.get().len {
            self.0.set(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_up_once() {
        let ids = ProducerIds::default();
        assert_eq!(ids.take(), None);
        ids.put(ProducerIdBlock { first: 5, len: 2 });
        ids.put(ProducerIdBlock { first: 9, len: 1 });
        assert_eq!((ids.take(), ids.take(), ids.take()), (Some(ProducerId(5)), Some(ProducerId(6)), None));
    }
}
