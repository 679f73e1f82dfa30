//! What was read from segments and is kept for the next reader: windows and indexes.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::batches::BATCH_OVERHEAD;
use super::lru::Lru;
use super::window::Window;

/// Something that can read its index again.
pub trait Indexed {
    fn drop_index(&self);
}

/// One window of one segment; `end` tells the grown last window of an active segment from its shorter self.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowKey {
    pub segment: u64,
    pub start: u32,
    pub end: u32,
}

/// The windows and the indexes of sealed segments, each by how recently they were used. Segments go by their uid.
#[derive(Default)]
pub struct Kept {
    windows: RefCell<Lru<WindowKey, Rc<Window>>>,
    indexes: RefCell<Lru<u64, Weak<dyn Indexed>>>,
}

impl Kept {
    pub fn bytes(&self) -> usize {
        self.windows.borrow().weight() + self.indexes.borrow().weight()
    }

    pub fn window(&self, key: WindowKey) -> Option<Rc<Window>> {
        self.windows.borrow_mut().get(&key).cloned()
    }

    pub fn keep_window(&self, key: WindowKey, window: Rc<Window>) {
        self.windows.borrow_mut().insert(key, window, (key.end - key.start) as usize + BATCH_OVERHEAD);
    }

    pub fn drop_window(&self, key: WindowKey) {
        self.windows.borrow_mut().remove(&key);
    }

    pub fn keep_index(&self, segment: u64, of: Weak<dyn Indexed>, bytes: usize) {
        self.indexes.borrow_mut().insert(segment, of, bytes);
    }

    pub fn forget_index(&self, segment: u64) {
        self.indexes.borrow_mut().remove(&segment);
    }

    /// Lets go of windows until all that is kept takes no more than this, then of indexes down to half of it.
    pub fn shrink(&self, most: usize) {
        while self.bytes() > most {
            let Some((_, window)) = self.windows.borrow_mut().pop_oldest() else { break };
            drop(window);
        }
        self.shrink_indexes(most / 2);
    }

    pub fn shrink_indexes(&self, most: usize) {
        while self.indexes.borrow().weight() > most {
            let Some((_, segment)) = self.indexes.borrow_mut().pop_oldest() else { break };
            if let Some(segment) = segment.upgrade() {
                segment.drop_index();
            }
        }
    }
}
