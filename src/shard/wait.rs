//! Long polls: who waits for data, on this shard or another.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use super::message::{Port, Watch};
use crate::partition::Waiting;
use crate::rt::mesh;

/// A fetch of this shard that waits.
#[derive(Default)]
pub(super) struct LocalWait {
    fired: Cell<bool>,
    over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl LocalWait {
    pub(super) async fn fired(&self) {
        std::future::poll_fn(|cx| {
            if self.fired.get() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn end(&self) {
        self.over.set(true);
    }
}

impl Waiting for LocalWait {
    fn fire(&self) {
        self.fired.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn is_over(&self) -> bool {
        self.over.get() || self.fired.get()
    }
}

/// A fetch of another shard that waits: told once, at the latest when the last partition forgets it, so that
/// its call slot is always given back.
pub(super) struct RemoteWait {
    pub(super) port: Rc<Port>,
    pub(super) to: Cell<Option<mesh::To<Watch>>>,
    pub(super) over: Arc<AtomicBool>,
}

impl Waiting for RemoteWait {
    fn fire(&self) {
        if let Some(to) = self.to.take() {
            self.port.reply(to, ());
        }
    }

    fn is_over(&self) -> bool {
        let to = self.to.take();
        let told = to.is_none();
        self.to.set(to);
        told || self.over.load(Ordering::Relaxed)
    }
}

impl Drop for RemoteWait {
    fn drop(&mut self) {
        self.fire();
    }
}
