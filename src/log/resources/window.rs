//! A stretch of a segment that is read at once.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use crate::rt::Notify;

/// A stretch of a segment in memory, or on its way there.
pub struct Window {
    pub state: RefCell<State>,
    ready: Notify,
}

pub enum State {
    Loading,
    Ready { bytes: Bytes, start: u32, bad: Vec<u32> },
    Failed(Failure),
}

#[derive(Clone)]
pub enum Failure {
    Io(std::io::ErrorKind, String),
    Removed,
    Missing,
}

impl Window {
    pub fn loading() -> Rc<Self> {
        Rc::new(Self { state: RefCell::new(State::Loading), ready: Notify::new() })
    }

    pub async fn loaded(&self) {
        while matches!(*self.state.borrow(), State::Loading) {
            self.ready.notified().await;
        }
    }

    pub fn set(&self, state: State) {
        *self.state.borrow_mut() = state;
        self.ready.notify_all();
    }

    /// What lies between two positions in the file.
    pub fn slice(&self, from: u32, to: u32) -> Option<Bytes> {
        match &*self.state.borrow() {
            State::Ready { bytes, start, .. } => {
                Some(bytes.slice((from - start) as usize..(to - start) as usize))
            }
            _ => None,
        }
    }
}
